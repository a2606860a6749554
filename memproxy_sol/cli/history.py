"""`memproxy-sol history`: the changes of a host."""

from __future__ import annotations

from typing import Any

from plumbum import cli

from memproxy_sol import changes, lock, report
from memproxy_sol import history as histories
from memproxy_sol.cli.target import TargetCommand
from memproxy_sol.errors import EXIT_OK, HostError

AS_ROOT = "only root may read the journals"


class History(TargetCommand):
    """Shows the changes of a host: when, who, what, and whether they are complete."""

    DESCRIPTION = "Shows the changes of a host: when, who from where, what, and whether they are complete"
    DESCRIPTION_MORE = """
The oldest comes first. memproxy-sol rollback NUMBER returns to the state before one that is `complete`; `undone` ones
have been taken back; one that was `cut short` is taken back by the next command that changes something; of a `damaged`
one nothing is known but that it was there.
"""

    json: Any = cli.Flag(["--json"], help="Print the changes as JSON, with their steps")

    def main(self) -> int:
        root = self.opened()
        try:
            entries, holder = changes.history(root), lock.holder(root)
        except HostError as error:
            denied = isinstance(error.__cause__, PermissionError)
            raise HostError(error.what, where=error.where, hint=AS_ROOT if denied else error.hint) from error
        if self.json:
            report.print_json(histories.to_json(entries, holder))
        elif not entries:
            report.say(f"{root.path}: nothing has been changed")
        else:
            report.table(f"Changes of {root.path}", histories.COLUMNS, histories.rows(entries, holder))
        return EXIT_OK

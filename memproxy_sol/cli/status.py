"""`memproxy-sol status`: one screen about a host."""

from __future__ import annotations

from typing import Any

from plumbum import cli

from memproxy_sol import report
from memproxy_sol import status as statuses
from memproxy_sol.cli.target import TargetCommand
from memproxy_sol.commands import Shell
from memproxy_sol.errors import EXIT_OK


class Status(TargetCommand):
    """Tells what is installed, since when, and what uses it."""

    DESCRIPTION = "Tells in one screen what is installed, since when, and which processes use it"
    DESCRIPTION_MORE = """
Shows the ABIs with their generation and allocator, the last change and one that was cut short, a trial that waits to
be confirmed, the state of the SMF service, how many lines the exclusion list has, and, of the running system, how many
processes took which route. It changes nothing. What is wrong is counted here and told by memproxy-sol verify.
Exit status: 0, whatever the state is; 1 it could not be determined.
"""

    json: Any = cli.Flag(["--json"], help="Print the status as JSON")

    def main(self) -> int:
        root = self.opened()
        shell = Shell() if root.is_live else None
        status = statuses.read(root, shell, host=self.host, release=self.release, machine=self.machine)
        if self.json:
            report.print_json(status.to_json())
        else:
            report.status(status)
        return EXIT_OK

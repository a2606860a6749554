"""`memproxy-sol rollback`: return to the state before a change."""

from __future__ import annotations

import re
from typing import Any

from plumbum import cli

from memproxy_sol import change, changes, journal, lock, report, signals
from memproxy_sol.cli.target import TargetCommand
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_OK, HostError, UsageError
from memproxy_sol.plan import Plan
from memproxy_sol.root import Root
from memproxy_sol.trial import TrialError


class Rollback(TargetCommand):
    """Returns a host to the state before a change."""

    DESCRIPTION = "Returns a host to the state before a change of memproxy-sol history (default: the last)"
    DESCRIPTION_MORE = """
Each file that memproxy-sol wrote gets the content that it had before that change. What others changed since is kept: of
a configuration file just our part is made what it was, and their exclusion list stays. It is a change of its own, so
that a second rollback takes back the first. It does not refuse because something is damaged: what cannot be understood
is kept beside. The libraries stay; a generation that is gone is not named again.

    memproxy-sol rollback --dry-run 3
"""
    USAGE = "    memproxy-sol rollback [SWITCHES] [NUMBER]\n"

    dry_run = cli.Flag(["--dry-run"], help="Print the plan and change nothing")
    json: Any = cli.Flag(["--json"], help="Print the plan as JSON")

    def main(self, *number: str) -> int:
        wanted = _number(number)
        if self.dry_run:
            plan = self._planned(self.looked_at(), wanted)
            return EXIT_DIFFERENCES if plan.steps else EXIT_OK
        root = self.opened()
        target = self.target(root)
        target.refuse_foreign()
        with signals.caught(), lock.locked(root):
            half_done = _half_done(root)
            mended = change.mend_unfinished(target, tolerant=True, even_on_trial=True)
            if mended is not None:
                report.say(mended)
            if half_done and wanted is None:
                report.say("that was the last change, and all that rollback takes back without a number")
                return EXIT_OK
            try:
                outcome = change.carry_out(target, self._planned(root, wanted), progress=report.progress)
            except TrialError as error:
                report.findings(error.findings, stderr=True)
                raise
            report.findings(outcome.findings, stderr=bool(self.json))
        return EXIT_OK

    def _planned(self, root: Root, number: int | None) -> Plan:
        """The plan, which is printed."""
        plan = change.plan_rollback(self.target(root), number)
        report.print_json(plan.to_json()) if self.json else report.plan(plan)
        return plan


def _half_done(root: Root) -> bool:
    """Whether the last change is one that mending takes back: cut short, on trial, or not confirmed in time."""
    try:
        last = journal.unfinished(root)
    except HostError:
        return False
    return last is not None and last.state != changes.COMPLETE


def _number(words: tuple[str, ...]) -> int | None:
    if len(words) > 1 or not all(re.fullmatch("[0-9]{1,6}", word) for word in words):
        raise UsageError("rollback takes the number of one change", hint="memproxy-sol history shows them")
    return int(words[0]) if words else None

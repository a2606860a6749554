"""`memproxy-sol uninstall`: take everything out of a host again."""

from __future__ import annotations

from typing import Any

from plumbum import cli

from memproxy_sol import change, report, signals
from memproxy_sol.cli.target import TargetCommand
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_OK
from memproxy_sol.lock import locked


class Uninstall(TargetCommand):
    """Takes memproxy-sol out of a host again."""

    DESCRIPTION = "Takes memproxy-sol out of a host again"
    DESCRIPTION_MORE = """
A configuration file that nobody else changed since install gets its former bytes back; from any other just our part
is taken. The libraries stay until --purge removes them, which it does only once nothing names or maps them; --purge
also removes the exclusion list, if install made it and nobody changed it, and every directory that install made.
A change that is on trial is taken back at once.
"""

    bits: Any = cli.SwitchAttr(["--bits"], str, argname="32,64", help="The ABIs to restore (default: all)")
    purge = cli.Flag(["--purge"], help="Remove the libraries, the exclusion list and the record, too")
    dry_run = cli.Flag(["--dry-run"], help="Print the plan and change nothing")
    json: Any = cli.Flag(["--json"], help="Print the plan as JSON")

    def main(self) -> int:
        root = self.looked_at() if self.dry_run else self.opened()
        bits = self.parsed_bits(self.bits)
        target = self.target(root)
        if self.dry_run:
            plan = change.plan_uninstall(target, bits, self.purge)
            report.print_json(plan.to_json()) if self.json else report.plan(plan)
            return EXIT_DIFFERENCES if plan.steps else EXIT_OK
        target.refuse_foreign()
        with signals.caught(), locked(root):
            mended = change.mend_unfinished(target, tolerant=True, even_on_trial=True)
            if mended is not None:
                report.say(mended)
            plan = change.plan_uninstall(target, bits, self.purge)
            report.print_json(plan.to_json()) if self.json else report.plan(plan)
            outcome = change.carry_out(target, plan, progress=report.progress)
            report.findings(outcome.findings, stderr=self.json)
        return EXIT_OK

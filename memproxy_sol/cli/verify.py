"""`memproxy-sol verify`: judge a host; `verify --smf`, the boot service's method, is smf_method.py."""

from __future__ import annotations

from typing import Any

from plumbum import cli

from memproxy_sol import report
from memproxy_sol import verify as verification
from memproxy_sol.cli.target import TargetCommand
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_FAILED, EXIT_OK


class Verify(TargetCommand):
    """Tells whether a host is as it was installed, and which command mends what is not."""

    DESCRIPTION = "Tells whether a host is as it was installed, and what mends it"
    DESCRIPTION_MORE = """
Judges the runtime linker's configuration files, every library that they name with each directory on its path, the
exclusion list and the SMF service. It mends nothing. Exit status: 0 all is well (warnings and notes may be shown),
3 there is an error, 1 it could not be determined.
"""

    json: Any = cli.Flag(["--json"], help="Print the findings as JSON")
    smf = cli.Flag(["--smf"], help="Answer as the SMF service's method does: 0, 95, 96, 99 or 100")

    def main(self) -> int:
        result = verification.verify(self.opened(), host=self.host, release=self.release, machine=self.machine)
        if self.json:
            report.print_json(result.to_json())
        else:
            report.verification(result)
        if result.errors and all(finding.unreadable for finding in result.errors):
            return EXIT_FAILED
        return EXIT_DIFFERENCES if result.errors else EXIT_OK

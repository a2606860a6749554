"""`memproxy-sol verify`: judge a host; what services start at boot is smf_method.py and boot_method.py."""

from __future__ import annotations

import time
from typing import Any

from plumbum import cli

from memproxy_sol import prometheus, report, verify_live
from memproxy_sol import verify as verification
from memproxy_sol.cli.target import TargetCommand
from memproxy_sol.commands import Shell
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_FAILED, EXIT_OK, UsageError


class Verify(TargetCommand):
    """Tells whether a host is as it was installed, and which command mends what is not."""

    DESCRIPTION = "Tells whether a host is as it was installed, and what mends it"
    DESCRIPTION_MORE = """
Judges the runtime linker's configuration files, every library that they name with each directory on its path, the
exclusion list and the service; on the running system also what its commands say, held against the files, and every
process: whether libmemproxy is in it, why not, and which route it took. It mends nothing. Exit
status: 0 all is well (warnings and notes may be shown), 3 there is an error, 1 it could not be determined.
"""

    json: Any = cli.Flag(["--json"], help="Print the findings as JSON")
    smf = cli.Flag(["--smf"], help="Answer as the SMF service's method does: 0, 95, 96, 99 or 100")
    boot = cli.Flag(["--boot"], help="Answer as the systemd unit does: few imports, the reason on the last line")
    processes = cli.Flag(["--processes"], help="Print every process, not just how many there are of a kind")
    zone: Any = cli.SwitchAttr(["--zone"], str, argname="NAME", help="Judge this zone of the running system instead")
    prometheus: Any = cli.SwitchAttr(
        ["--prometheus"], str, argname="FILE", help="Also write the counts to FILE, for node_exporter"
    )

    def main(self) -> int:
        root = self.opened()
        stated = {"host": self.host, "release": self.release, "machine": self.machine}
        if root.is_live:
            result: verification.Report = verify_live.verify(root, zone=self.zone, shell=Shell(), **stated)
        elif self.zone is not None:
            raise UsageError(
                "--zone is for the running system", hint="name the zone's root directory with --root, without --zone"
            )
        else:
            result = verification.verify(root, deep=True, **stated)
        if self.prometheus is not None:
            prometheus.write(self.prometheus, prometheus.text(result, time.time()))
        if self.json:
            report.print_json(result.to_json())
        else:
            report.verification(result, every_process=bool(self.processes))
        if result.errors and all(finding.unreadable for finding in result.errors):
            return EXIT_FAILED
        return EXIT_DIFFERENCES if result.errors else EXIT_OK

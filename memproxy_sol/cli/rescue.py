"""`memproxy-sol rescue`: what to type when no program starts any more."""

from __future__ import annotations

from memproxy_sol import report, rescue, rescue_linux
from memproxy_sol.cli.target import TargetCommand
from memproxy_sol.commands import Shell
from memproxy_sol.errors import EXIT_OK


class Rescue(TargetCommand):
    """Prints what to type when no program starts any more."""

    DESCRIPTION = "Prints what to type when no program starts any more, with this host's own paths filled in"
    DESCRIPTION_MORE = """
install keeps the same text in /var/ld/memproxy-rescue.txt, on Linux in /etc/memproxy-rescue.txt. Print it before a
change, and have it at hand on another machine. It works whatever is damaged.
"""

    def main(self) -> int:
        root = self.looked_at()
        if self.target(root).is_linux:
            report.page(rescue_linux.text(root.lstat(rescue_linux.FORMER_PATH) is not None))
            return EXIT_OK
        shell = Shell() if root.is_live else None
        report.page(rescue.text(rescue.gather(root, shell, self.release, self.machine)))
        return EXIT_OK

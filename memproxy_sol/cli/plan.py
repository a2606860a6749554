"""`memproxy-sol plan`: what install would do, with a decoded before and after of each configuration file."""

from __future__ import annotations

from memproxy_sol.cli.install import InstallSwitches


class Plan(InstallSwitches):
    """Prints what install would do and changes nothing."""

    DESCRIPTION = "Prints what install would do and changes nothing"
    DESCRIPTION_MORE = """
Takes the switches of install. Exit status: 0 there is nothing to do, 3 the plan has steps, 1 preflight forbids it.
"""

    def main(self) -> int:
        return self.shown(self.target(self.looked_at()))

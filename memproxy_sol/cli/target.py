"""The switches that say which host is meant; install, plan, verify and uninstall share them."""

from __future__ import annotations

import re
from typing import Any

from plumbum import cli

from memproxy_sol.abi import MACHINES
from memproxy_sol.change import Target
from memproxy_sol.cli.application import Command
from memproxy_sol.cli.notice import told
from memproxy_sol.errors import UsageError
from memproxy_sol.hosts.solaris import RELEASES
from memproxy_sol.root import Root


def bits(text: str) -> tuple[int, ...]:
    """The value of --bits: `32`, `64` or `32,64`."""
    if not re.fullmatch(r"(32|64)(,(32|64))?", text) or len(set(text.split(","))) != len(text.split(",")):
        raise UsageError(f"--bits takes 32, 64 or 32,64, not {text!r}")
    return tuple(sorted(int(part) for part in text.split(",")))


class TargetCommand(Command):
    """A command on one host."""

    root: Any = cli.SwitchAttr(
        ["--root"],
        str,
        argname="DIR",
        default="/",
        help="The directory on which an image or an inactive boot environment is mounted",
    )
    host: Any = cli.SwitchAttr(
        ["--host"],
        cli.Set("solaris", "linux", case_sensitive=True),
        help="The kind of system, where the image does not tell",
    )
    release: Any = cli.SwitchAttr(
        ["--release"],
        cli.Set(*RELEASES, case_sensitive=True),
        help="The release, where the image has no /etc/release",
    )
    machine: Any = cli.SwitchAttr(
        ["--machine"],
        cli.Set(*MACHINES, case_sensitive=True),
        help="The processor family, where the image has no /lib/libc.so.1",
    )

    def opened(self) -> Root:
        """The tree that --root names."""
        if not self.root:
            raise UsageError("--root names no directory", hint="is a variable unset?")
        return Root(self.root)

    def target(self, root: Root) -> Target:
        """The host of that tree, and what the switches say of it."""
        return Target(root, self.host, self.release, self.machine)

    def looked_at(self) -> Root:
        """The tree, for a command that changes nothing of the host: it says if a change is not finished."""
        return told(self.opened())

    def parsed_bits(self, value: str | None) -> tuple[int, ...] | None:
        """The ABIs of a --bits switch, None if it was not given."""
        return None if value is None else bits(value)

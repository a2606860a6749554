"""`memproxy-sol run`: one command with the proxy, without any change to the machine."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional, cast

from plumbum import cli

from memproxy_sol import errors, runner
from memproxy_sol.cli.application import Command


class Starter(Command):
    """What becomes the command that it is given; its own failures are 125 to 127, as those of env(1)."""

    VALUED: tuple[str, ...] = ()
    """Switches that take a value."""

    def _usage(self, error: Exception) -> errors.MemproxyError:
        usage = super()._usage(error)
        return errors.CommandLineError(usage.what, hint=usage.hint)

    def _parse_args(self, argv: list[str]) -> Any:
        return super()._parse_args(_separated(argv, self.VALUED))

    def begin(self, command: Sequence[str], environ: Mapping[str, str]) -> int:
        """Become `command`; returns only the status of a failure."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            runner.start(command, environ)
        except OSError as error:
            self._say(f"{command[0]}: {error.strerror}")
            return 127 if error.errno == errno.ENOENT else 126
        return 0

    def _say(self, text: str) -> None:
        print(f"memproxy-sol: {text}", file=sys.stderr)


class Run(Starter):
    VALUED = ("--route", "--allocator")
    DESCRIPTION = "Runs one command with the proxy; nothing on the machine changes"
    DESCRIPTION_MORE = """
The command, and every program that it starts, of both ABIs, gets libmemproxy and an allocator by LD_PRELOAD. What
LD_PRELOAD holds already stays in front. The exclusion list /etc/memproxy.conf decides which program gets which
allocator, unless --route says so for all. The first run builds libmemproxy, for which a compiler is needed; the result
is kept under $XDG_CACHE_HOME/memproxy-sol (or ~/.cache).

Out of reach: set-user-id and set-group-id programs (sudo, su, passwd: the loader drops such preloads), statically
linked programs, and those of another C library. Programs of a command that changes to another user cannot read this
user's cache: their loader says "cannot be preloaded" and goes on without.

The exit status is the command's; 125 if memproxy-sol fails, 126 if the command cannot be started, 127 if there is none.

    memproxy-sol run -- python3 server.py

    memproxy-sol run --route system -- make test

    memproxy-sol run --allocator /opt/lib/libmimalloc.so.2 -- sh -c 'program; other'
"""
    USAGE = "    {progname} [SWITCHES] [--] COMMAND [ARGUMENTS...]\n"

    route = cli.SwitchAttr(
        "--route",
        cli.Set("system", "custom", case_sensitive=True),
        argname="ROUTE",
        help="system or custom, for every program, whatever the exclusion list says",
    )
    allocators = cli.SwitchAttr(
        "--allocator",
        str,
        list=True,
        argname="FILE",
        help="the allocator to use: a shared library; its ABI is read from the file. "
        "Without it: jemalloc, else mimalloc, else tcmalloc, as the distribution installs them",
    )
    verbose = cli.Flag(["-v", "--verbose"], help="say on standard error what is used")

    def main(self, *command: str) -> int:
        if not command:
            raise errors.CommandLineError("no command given", hint="see memproxy-sol run --help")
        environ = runner.inherited_environment()
        try:
            launch = runner.prepare(cast(Optional[str], self.route), list(self.allocators), environ, self._progress)
        except errors.CommandLineError:
            raise
        except errors.MemproxyError as error:
            raise errors.CommandLineError(error.what, where=error.where, hint=error.hint) from None
        for warning in launch.warnings:
            self._say(f"warning: {warning}")
        if self.verbose:
            for note in launch.notes:
                self._say(note)
            for name, value in launch.environment.items():
                self._say(f"{name}={value}")
        return self.begin(command, {**environ, **launch.environment})

    def _progress(self, text: str) -> None:
        if self.verbose or sys.stderr.isatty():
            self._say(text)


def _separated(argv: list[str], valued: Sequence[str]) -> list[str]:
    """`argv` with `--` before the command, so that the command's switches are never taken for ours, as in env(1)."""
    index = 0
    while index < len(argv) and argv[index].startswith("-") and argv[index] not in ("-", "--"):
        index += 2 if argv[index] in valued else 1
    return argv if argv[index : index + 1] == ["--"] else [*argv[:index], "--", *argv[index:]]

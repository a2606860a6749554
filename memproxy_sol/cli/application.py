"""The plumbum application that holds the subcommands, and the one place where errors become exit statuses."""

from __future__ import annotations

import sys
from typing import Any

from plumbum import cli
from plumbum.cli.application import ShowHelp, ShowHelpAll, ShowVersion
from plumbum.cli.switches import SwitchError

from memproxy_sol import __version__, errors


class Command(cli.Application):
    """What all subcommands share: a usage error is one line on standard error, not a page on standard output."""

    VERSION = __version__
    COLOR_USAGE_TITLE = None

    def _parse_args(self, argv: list[str]) -> Any:
        try:
            return super()._parse_args(argv)
        except (ShowHelp, ShowHelpAll, ShowVersion):
            raise
        except SwitchError as error:
            raise self._usage(error) from None

    def _validate_args(self, swfuncs: Any, tailargs: Any) -> Any:
        try:
            return super()._validate_args(swfuncs, tailargs)
        except (ShowHelp, ShowHelpAll, ShowVersion):
            raise
        except SwitchError as error:
            raise self._usage(error) from None

    def _usage(self, error: Exception) -> errors.MemproxyError:
        # plumbum puts the Python error behind a wrong value on a line of its own.
        return errors.UsageError(str(error).partition(":\n")[0], hint=f"see {self.PROGNAME} --help")


class MemproxySol(Command):
    """Gives every process of a machine another memory allocator, with exceptions, and can take it back."""

    PROGNAME = "memproxy-sol"
    DESCRIPTION = "Gives every process of a machine another memory allocator, with exceptions, and can take it back."
    SUBCOMMAND_HELPMSG = False

    def main(self, *args: str) -> int:
        if self.nested_command:
            return 0
        if args:
            raise errors.UsageError(f"unknown command {args[0]!r}", hint="see memproxy-sol --help")
        self.help()
        return errors.EXIT_USAGE


for _name in (
    "install",
    "plan",
    "verify",
    "status",
    "uninstall",
    "rollback",
    "history",
    "confirm",
    "rescue",
    "exclude",
    "explain",
    "run",
    "bypass",
    "ldconfig",
    "build",
):
    MemproxySol.subcommand(_name, f"memproxy_sol.cli.{_name}.{_name.capitalize()}")


def run(arguments: list[str]) -> int:
    """Run the application with `arguments` (without the program's name); return the exit status."""
    try:
        _, status = MemproxySol.run(["memproxy-sol", *arguments], exit=False)
    except errors.MemproxyError as error:
        return errors.report(error)
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else None
        return errors.report(errors.MemproxyError(error.strerror or str(error), where=where))
    except KeyboardInterrupt:
        print("memproxy-sol: interrupted", file=sys.stderr)
        return errors.EXIT_INTERRUPTED
    return int(status)

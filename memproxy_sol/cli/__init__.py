"""The command line. Two calls are answered before anything heavy is imported: `--version`, which
scripts ask often, and `verify --smf`, which must work at boot with the standard library alone."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run `memproxy-sol` with `argv` (default: this process's arguments); return the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["--version"], ["-v"]):
        from memproxy_sol import __version__

        print(f"memproxy-sol {__version__}")
        return 0
    if arguments[:1] == ["verify"] and "--smf" in arguments:
        from memproxy_sol.smf_method import main as smf_main

        return smf_main(arguments[1:])
    from memproxy_sol.cli.application import run

    return run(arguments)

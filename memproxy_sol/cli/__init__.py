"""The command line. Three calls are answered before anything heavy is imported: `--version`, which
scripts ask often, and `verify --smf` or `--boot`, which must work at boot with the standard library alone."""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run `memproxy-sol` with `argv` (default: this process's arguments); return the exit status."""
    _settle_streams()
    status = _dispatch(sys.argv[1:] if argv is None else argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it has to outlive this function
        print(f"memproxy-sol: standard output: {error.strerror}", file=sys.stderr)
        return status or 1
    return status


def _dispatch(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-v"]):
        from memproxy_sol import __version__

        print(f"memproxy-sol {__version__}")
        return 0
    if arguments[:1] == ["verify"] and "--smf" in arguments:
        from memproxy_sol.smf_method import main as smf_main

        return smf_main(arguments[1:])
    if arguments[:1] == ["verify"] and "--boot" in arguments:
        from memproxy_sol.boot_method import main as boot_main

        return boot_main(arguments[1:])
    from memproxy_sol.cli.application import run

    return run(arguments)


def _settle_streams() -> None:
    """A closed stream must not become a traceback, nor its descriptor a file of ours; nor must an odd name."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it has to outlive this function
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

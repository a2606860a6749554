"""`memproxy-sol build`: the native library for this machine, or for Solaris x86, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plumbum import cli

from memproxy_sol import errors, report
from memproxy_sol.cli import target
from memproxy_sol.cli.application import Command
from memproxy_sol.errors import printable


class Build(Command):
    DESCRIPTION = "only builds the native library; nothing is installed"
    DESCRIPTION_MORE = """
Builds libmemproxy.so with configure and make, out of tree, for each ABI, and puts it where a generation has it:
OUTPUT/libmemproxy.so for 32 bit, OUTPUT/64/libmemproxy.so for 64 bit.

--target native is this machine (on Solaris, Solaris); it needs make and a C and C++ compiler, which CC and CXX may
name, for both ABIs on Debian g++-multilib. --target solaris makes objects for Solaris 10 and later and illumos on x86,
on any machine; it needs make, clang and lld. From a clone autoconf, automake and libtool are needed as well. The same
sources and tools give the same bytes, which are kept in the cache and not built again. CFLAGS, LDFLAGS and their like
are ignored.

    memproxy-sol build --target solaris --output out

    memproxy-sol build --bits 64 --output out
"""

    target: Any = cli.SwitchAttr(
        "--target",
        cli.Set("native", "solaris", case_sensitive=True),
        argname="TARGET",
        default="native",
        help="native: this machine; solaris: Solaris and illumos on x86",
    )
    bits: Any = cli.SwitchAttr(
        "--bits", str, argname="LIST", default="32,64", help="the ABIs, separated by commas: 32, 64 or both"
    )
    output: Any = cli.SwitchAttr(
        "--output", str, argname="DIR", default="memproxy-build", help="where the libraries go; made if need be"
    )
    jobs: Any = cli.SwitchAttr(
        "--jobs", cli.Range(1, 1024), argname="N", help="what make runs at a time; default: one for each processor"
    )

    def main(self) -> int:
        from memproxy_sol import build, elf

        built = build.cached(self.target, target.bits(self.bits), report.progress, jobs=self.jobs)
        made = {width: build.place(path, Path(self.output), width) for width, path in built.items()}
        libraries = [elf.read(path) for path in made.values()]
        rows = [
            (
                f"{library.bits} bit",
                library.path,
                f"{Path(library.path).stat().st_size} bytes",
                f"{len(library.exports)} exports",
                f"needs {', '.join(library.needed)}",
            )
            for library in libraries
        ]
        _print_table(rows)
        return errors.EXIT_OK


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """The rows in columns on a terminal, else one a line with tabs."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(printable(cell) for cell in row))
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    report.console().print(table)

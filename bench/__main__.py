"""`python -m bench`: measures, shows tables, writes bench/RESULTS.md; fails if a counted budget is broken."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bench import commands, counts, machine, memory, report, startup, walltime
from bench.configurations import install
from bench.programs import check_tools, real_programs
from bench.report import Section
from memproxy_sol import errors

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
NAMES = ("objects", "counts", "programs", "memory", "start", "time", "commands")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs; no instructions of whole programs")
    parser.add_argument("--only", choices=NAMES, action="append", help="only this part; may be repeated")
    parser.add_argument("--output", type=Path, help="where the results go (default: bench/RESULTS.md, for a full run)")
    options = parser.parse_args()
    output = options.output or (RESULTS if len(sys.argv) == 1 else None)
    output = output and output.resolve()
    started = time.monotonic()
    load = os.getloadavg()
    chosen = options.only or [name for name in NAMES if not (options.quick and name == "programs")]
    pairs = 5 if options.quick else 15
    console = Console(width=None if sys.stdout.isatty() else 170, highlight=False, emoji=False)
    sections: list[Section] = []

    def add(section: Section) -> None:
        report.show(section, console)
        sections.append(section)

    with tempfile.TemporaryDirectory(prefix="memproxy-bench-") as directory:
        scratch = Path(directory).resolve()
        os.chdir(scratch)  # compilers leave their results in it
        check_tools("time" in chosen)
        installation = install(scratch)
        real = real_programs(scratch) if {"time", "programs"}.intersection(chosen) else []
        if "objects" in chosen:
            add(memory.objects_section(installation))
        if "counts" in chosen:
            add(counts.pairs_section(installation))
            add(counts.anatomy_section(installation))
            add(counts.threads_section(installation))
        if "programs" in chosen:
            add(counts.programs_section(installation, real))
        if "memory" in chosen:
            add(memory.memory_section(installation))
        if "start" in chosen:
            add(startup.startup_section(installation, 20 * pairs))
        if "time" in chosen:
            add(walltime.loops_section(installation, pairs))
            add(walltime.programs_section(installation, real, pairs))
        if "commands" in chosen:
            add(commands.commands_section(installation, pairs))
        verdicts = report.verdicts_section(sections)
        report.show(verdicts, console)
        heading = machine.describe(installation, sys.argv[1:], load)
    if output is not None:
        report.write(output, heading, [verdicts, *sections])
    console.print(f"\n{time.monotonic() - started:.0f} s")
    return 1 if report.broken(sections) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except errors.MemproxyError as error:
        sys.exit(errors.report(error))

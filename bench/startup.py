"""The start of a process: time, system calls and instructions added by exclusion lists of different lengths."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import callgrind
from bench.configurations import LIBRARY, Configuration, Installation, Setting, run
from bench.paired import Spread, spread
from bench.programs import compile_program, tool
from bench.report import Section, Verdict

LINES = 100_000
CALLS_BUDGET = 6
"""System calls of our own with a list under 4 KiB."""
MILLISECONDS_BUDGET = 10
"""Added by a list of 100,000 lines."""


@dataclass(frozen=True)
class List:
    """An exclusion list, which matches nothing."""

    name: str
    title: str
    content: bytes
    ordinary: bool = True
    """False: made to be hard to read."""


def lists(program: Path) -> list[List]:
    """The lists for a program, which stands at the end of a long path."""
    path = bytes(program)
    deep = b"/*" * path.count(b"/")
    like = f"{LINES:,} lines with the path's first {len(path) - 1} bytes"
    return [
        List("none", "no list", b""),
        List("hundred", "100 lines", _lines(b"/opt/product-%d/bin/program" % i for i in range(100))),
        List("many", f"{LINES:,} names and paths", _lines(_ordinary(i) for i in range(LINES))),
        List("prefix", like, _lines(path[:-1] + b"-%d" % i for i in range(LINES)), False),
        List("stars", f"{LINES:,} lines {deep.decode()}-N", _lines(deep + b"-%d" % i for i in range(LINES)), False),
        List("letters", f"{LINES:,} lines *a*e*i*o*N", _lines(b"*a*e*i*o*%d" % i for i in range(LINES)), False),
    ]


def _lines(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _ordinary(number: int) -> bytes:
    return b"/opt/product-%d/bin/program" % number if number % 2 else b"program-%d" % number


def startup_section(installation: Installation, pairs: int) -> Section:
    """A program that does nothing, with each list."""
    rows, verdicts = [], []
    starts = compile_program("starts.c", max(installation.built), installation.scratch)
    for bits, families in installation.allocators.items():
        # The path is long, so that lists which begin like it are as bad as can be.
        place = installation.scratch / ("a-directory-with-a-name-of-some-length/" * 4) / str(bits)
        place.mkdir(parents=True)
        program = Path(shutil.copy(compile_program("nothing.c", bits, installation.scratch), place / "nothing"))
        family = next(iter(families))
        base = installation.setting(bits, family)
        bare = system_calls(program, base.alone, None)
        empty = installation.setting(bits, family, "none")
        bare_start = _instructions(program, base.alone)
        for each in lists(program):
            setting = empty if each.name == "none" else installation.setting(bits, family, each.name)
            if each.content:
                setting.exclusions.write_bytes(each.content)
            added = _milliseconds(starts, program, setting, pairs if each.ordinary else pairs // 5)
            calls = system_calls(program, setting.routed(""), setting.proxy)
            calls.subtract(bare)
            own = sum(calls.values())
            profile = _instructions(program, setting.routed(""))
            size = f"{len(each.content) / 1024:,.1f}"
            cells = [str(bits), each.title, size, f"{added.median:.2f} ({added.low:.2f} to {added.high:.2f})"]
            cells += [f"{own}", _words(calls), f"{profile.objects[LIBRARY] / 1e3:,.0f}"]
            rows.append([*cells, f"{(profile.total - bare_start.total) / 1e3:,.0f}"])
            if each.ordinary and len(each.content) < 4096:
                what = f"system calls of our own at a start, {bits} bit, {each.title}"
                verdicts.append(Verdict(what, f"at most {CALLS_BUDGET}", str(own), own <= CALLS_BUDGET))
            elif each.ordinary:
                what = f"milliseconds added to a start, {bits} bit, {each.title}"
                budget = f"at most {MILLISECONDS_BUDGET}"
                kept = added.median <= MILLISECONDS_BUDGET
                verdicts.append(Verdict(what, budget, f"{added.median:.2f}", kept, exact=False))
    text = f"""
A program that does nothing, started {pairs} times each way by turns (a fifth as often with the last three lists):
with libmemproxy and the allocator, on the route that the list decides, against the allocator alone. *System calls*
are those beyond the allocator alone and beyond the loader's own for the object libmemproxy.so (strace). *Ours* are
instructions in libmemproxy.so, *all* includes what the loader does for one more object and the C library for us, both
in thousands (callgrind). The last three lists are made to be hard to read: {LINES:,} lines that differ from the
program's path in the last bytes only, and patterns that nearly match.
"""
    columns = (
        "bits",
        "list",
        "KiB",
        "milliseconds added (quartiles)",
        "calls",
        "which",
        "ours, thousand",
        "all, thousand",
    )
    return Section("Start of a process", text, columns, rows, verdicts)


def _milliseconds(starts: Path, program: Path, setting: Setting, pairs: int) -> Spread:
    ways = [configuration.environment() for configuration in (setting.alone, setting.routed(""))]
    first, second = ([f"{name}={value}" for name, value in way.items()] for way in ways)
    lines = run([starts, pairs, program, *first, "--", *second]).splitlines()
    return spread([(int(after) - int(before)) / 1e6 for before, after in (line.split() for line in lines)])


def _instructions(program: Path, configuration: Configuration) -> callgrind.Profile:
    return callgrind.count([program], configuration.environment())


# -- system calls

_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += +(\S+)")


def system_calls(program: Path, configuration: Configuration, proxy: Path | None) -> Counter[str]:
    """The system calls of a start, by name, without those by which the loader maps the object `proxy`."""
    log = program.parent / "strace.log"
    preload = [
        f"-E{name}={value}"
        for name, value in configuration.environment().items()
        if name.startswith(("LD_", "MEMPROXY"))
    ]
    command = [tool("strace", "strace"), "-f", "-o", log, "-e", "signal=none", "-s", "4096", *preload, program]
    run(command)
    calls: Counter[str] = Counter()
    file = ""  # the descriptor by which the loader reads the object
    mapped: list[range] = []
    for line in log.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        name, arguments, result = match.groups()
        first = arguments.split(",")[0]
        if name in ("openat", "open") and proxy is not None and f'"{proxy}"' in arguments:
            file = result
            continue
        if file:  # until it is closed, all calls are the loader's, for this object
            if name in ("mmap", "mmap2") and result.startswith("0x"):
                start = int(result, 16)
                mapped.append(range(start, start + int(arguments.split(",")[1].strip(), 0)))
            if name == "close" and first == file:
                file = ""
            continue
        if name == "mprotect" and any(int(first, 16) in where for where in mapped):
            continue
        calls[name] += 1
    return calls


def _words(calls: Counter[str]) -> str:
    parts = []
    for name, number in sorted(calls.items()):
        if number:
            parts.append(name if number == 1 else f"{number:+d} {name}" if number < 0 else f"{number} {name}")
    return ", ".join(parts)

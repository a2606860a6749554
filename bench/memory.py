"""Memory that libmemproxy adds to each process, and what the object itself is."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from bench.configurations import Configuration, Installation
from bench.programs import compile_program
from bench.report import Section, Verdict
from bench.startup import lists
from memproxy_sol import elf

FIELDS = ("Rss", "Pss", "Private_Dirty")
COPIES = 20
LARGEST = 64 * 1024


def memory_section(installation: Installation) -> Section:
    """Sleeping processes, with and without."""
    rows, verdicts = [], []
    for bits, families in installation.allocators.items():
        program = compile_program("idle.c", bits, installation.scratch)
        for family in families:
            for first, second in installation.setting(bits, family).pairs:
                rows.append([str(bits), family, f"{second.name} against {first.name}", *_added(program, first, second)])
        family = next(iter(families))
        content = {each.name: each.content for each in lists(program)}
        peaks = []
        for name in ("none", "many", "prefix"):
            setting = installation.setting(bits, family, f"{name}-weighed")
            if content[name]:
                setting.exclusions.write_bytes(content[name])
            with idle(program, setting.routed(""), 1) as pids:
                peaks.append(_status(pids[0], "VmPeak"))
        what = f"address space at most in use, KiB, {bits} bit: no list, and 100,000 lines of either kind"
        verdicts.append(Verdict(what, "the same", ", ".join(map(str, peaks)), len(set(peaks)) == 1))
    text = f"""
KiB a process, added to a process that sleeps after one malloc; the mean of {COPIES} that run at once, from
/proc/PID/smaps_rollup. Pages of the object itself are shared by all of them (Rss counts them for each, Pss by its
share). On the system route the allocator is loaded too, and not used; that is most of what is added there.
"""
    return Section("Memory of a process", text, ("bits", "allocator", "compared", *FIELDS), rows, verdicts)


def _added(program: Path, first: Configuration, second: Configuration) -> list[str]:
    weights = []
    for configuration in (first, second):
        with idle(program, configuration, COPIES) as pids:
            weights.append([mean(_rollup(pid, name) for pid in pids) for name in FIELDS])
    return [f"{after - before:+.1f}" for before, after in zip(*weights)]


@contextlib.contextmanager
def idle(program: Path, configuration: Configuration, copies: int) -> Iterator[list[int]]:
    """Process numbers of so many processes that sleep."""
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(copies):
            process = subprocess.Popen([program], env=configuration.environment(), stdout=subprocess.PIPE)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            process.stdout.read(1)
        yield [process.pid for process in processes]


def _rollup(pid: int, name: str) -> int:
    return _field(Path(f"/proc/{pid}/smaps_rollup"), name)


def _status(pid: int, name: str) -> int:
    return _field(Path(f"/proc/{pid}/status"), name)


def _field(file: Path, name: str) -> int:
    (line,) = (line for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def objects_section(installation: Installation) -> Section:
    """The stripped library of each ABI."""
    rows, verdicts = [], []
    for bits, file in installation.built.items():
        size = file.stat().st_size
        needed = elf.read(str(file)).needed
        with file.open("rb") as stream:
            parsed = ELFFile(stream)
            segments = list(parsed.iter_segments())
            (dynamic,) = (segment for segment in segments if isinstance(segment, DynamicSegment))
            tags = list(dynamic.iter_tags())
            relocations = sum(s.num_relocations() for s in parsed.iter_sections() if isinstance(s, RelocationSection))
        text = [
            tag for tag in tags if tag["d_tag"] == "DT_TEXTREL" or (tag["d_tag"] == "DT_FLAGS" and tag["d_val"] & 4)
        ]
        tls = [segment for segment in segments if segment["p_type"] == "PT_TLS"]
        both = [segment for segment in segments if segment["p_flags"] & 1 and segment["p_flags"] & 2]
        cells = (size, " ".join(needed), len(tls), len(text), len(both), relocations)
        rows.append([str(bits), *map(str, cells)])
        none = f"{len(tls)}, {len(text)}, {len(both)}"
        verdicts += [
            Verdict(f"bytes of libmemproxy.so, {bits} bit, stripped", f"under {LARGEST}", str(size), size < LARGEST),
            Verdict(f"it needs, {bits} bit", "libc.so.6", " ".join(needed), list(needed) == ["libc.so.6"]),
            Verdict(f"TLS, text relocations, W+X segments, {bits} bit", "none", none, not (tls or text or both)),
        ]
    note = "The library as `make install-strip` leaves it; the path of its list is 200 bytes longer than a real one."
    columns = ("bits", "bytes", "needs", "TLS segments", "text relocations", "W+X segments", "relocations")
    return Section("The object", note, columns, rows, verdicts)

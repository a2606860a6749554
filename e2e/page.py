"""docs/results/e2e.md: what was really run, when, on which system, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from e2e.image import ALLOCATORS, System
from e2e.system import Host
from e2e.table import Table, image_of, table_cells
from e2e.workloads import workloads
from soak.matrix import ROUTES, Cell, Verdict
from soak.page import commit, machine

BEGIN = "<!-- what follows is written by `make e2e` -->"

Judged = dict[tuple[str, str, str], tuple[Cell, Verdict]]


def write(path: Path, table: Table, host: Host, system: System) -> None:
    """Write the results below BEGIN; what stands above it, in words, is left alone."""
    head = path.read_text().split(BEGIN)[0] if path.exists() else "# Whole systems\n\n"
    path.write_text(head + BEGIN + "\n\n" + "\n".join(_lines(table, host, system)) + "\n")


def _lines(table: Table, host: Host, system: System) -> Iterator[str]:
    judged: Judged = {}
    for length in ("quick", "full"):  # the longer one counts
        for cell in table_cells(image_of(system), list(ALLOCATORS), list(workloads(length).values())):
            verdict = table.verdict(cell)
            if verdict is not None:
                judged[cell.workload.name, cell.allocator, cell.route] = (cell, verdict)
    when = time.strftime("%Y-%m-%d %H:%M")
    yield f"Written {when} by commit {commit('e2e')} (memproxy_sol: {commit('memproxy_sol')}), on {machine()}."
    yield ""
    yield f"The system: Debian 12, amd64 with i386, of {', '.join(system.versions)}."
    yield f"Packages that the mirror did not give: {', '.join(system.absent) or 'none'}."
    yield f"libmemproxy.so of commit {commit('native')}, SHA-256 of both {table.digest(64)}..."
    yield ""
    yield "| workload | what |"
    yield "|---|---|"
    for name, workload in workloads("full").items():
        yield f"| {name} | {workload.what} |"
    yield ""
    columns = [(allocator, route) for allocator in ALLOCATORS for route in ROUTES]
    titles = {"custom": "included", "system": "excluded"}
    yield "| workload | " + " | ".join(f"{allocator}, {titles[route]}" for allocator, route in columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for name in workloads("full"):
        words = [_word(judged.get((name, *column))) for column in columns]
        yield f"| {name} | " + " | ".join(words) + " |"
    yield ""
    counts = Counter(verdict.word for _, verdict in judged.values())
    missing = len(columns) * len(workloads("full")) - len(judged)
    found = [f"{count} {word}" for word, count in sorted(counts.items())]
    yield f"Of these: {'; '.join([*found, f'{missing} not run'])}."
    yield ""
    dates = sorted(result.date for cell, _ in judged.values() if (result := table.result(cell)) is not None)
    yield f"They ran between {dates[0]} and {dates[-1]}." if dates else "Nothing was run."
    yield ""
    samples = sum(verdict.samples for _, verdict in judged.values())
    agreed: Counter[str] = Counter()
    for cell, _ in judged.values():
        result = table.result(cell)
        agreed.update({seen: n for seen, n in (result.table if result else {}).items() if "DISAGREES" not in seen})
    yield f"Living processes found, from outside, on the route and with the allocator claimed: {samples}."
    yield f"Rows of `memproxy-sol verify --processes --json` held to what the process says of itself: {agreed.total()}."
    yield from _undone(host)
    yield from _differences(judged)
    yield from _programs(judged, table)


def _word(found: tuple[Cell, Verdict] | None) -> str:
    if found is None:
        return "-"
    cell, verdict = found
    return verdict.word + ("" if cell.workload.length == "full" else ", quick")


def _undone(host: Host) -> Iterator[str]:
    yield ""
    yield "## Uninstalled"
    yield ""
    for allocator in ALLOCATORS:
        known = host.undone(allocator)
        if known is None:
            yield f"* {allocator}: not run"
        else:
            date, left = known
            yield f"* {allocator} ({date}): {'; '.join(left) or 'byte for byte what it was'}"


def _differences(judged: Judged) -> Iterator[str]:
    yield ""
    yield "## What differed"
    yield ""
    nothing = True
    for (name, allocator, route), (_, verdict) in judged.items():
        if verdict.word != "same":
            nothing = False
            yield f"* {name}, {allocator}, route {route}: {verdict.word}"
            for difference in verdict.differences[:20]:
                yield "  * `" + " ".join(difference.split())[:400].replace("`", "'") + "`"
    if nothing:
        yield "Nothing."


def _programs(judged: Judged, table: Table) -> Iterator[str]:
    yield ""
    yield "## What was loaded"
    yield ""
    yield "Programs and how often one was met alive, from outside; `none` is a program without libmemproxy."
    yield ""
    seen: dict[str, Counter[str]] = {}
    for cell, _ in judged.values():
        result = table.result(cell)
        for line, count in (result.routes if result else {}).items():
            program, rest = line.split(": ", 1)
            server = rest.rpartition(", ")[2]
            where = f"{rest.split(' ')[0]}, {server}" if ", " in rest else "none"
            seen.setdefault(where, Counter())[program] += count
    for where, programs in sorted(seen.items()):
        yield f"* {where}: {', '.join(f'{program} {count}' for program, count in programs.most_common())}"

"""docs/results/soak.md: what was really run, when, at which length, and what came of it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from soak.image import ALLOCATORS, Image
from soak.matrix import ROUTES, Cell, Matrix, Verdict
from soak.sources import SOURCES
from soak.workloads import LENGTHS, workloads

BEGIN = "<!-- what follows is written by `make soak` -->"
ABSENT = "-"


def write(path: Path, matrix: Matrix, images: list[Image], library_commit: str) -> None:
    """Write the results below BEGIN; what stands above it, findings in words, is left alone."""
    head = path.read_text().split(BEGIN)[0] if path.exists() else "# Soak\n\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + BEGIN + "\n\n" + "\n".join(_lines(matrix, images, library_commit)) + "\n")


def _lines(matrix: Matrix, images: list[Image], library_commit: str) -> Iterator[str]:
    judged = {
        (image.bits, allocator, route, name): found
        for image in images
        for allocator in ALLOCATORS
        for route in ROUTES
        for name in workloads("full")
        if image.allocator(allocator) and (found := _longest(matrix, image, allocator, route, name))
    }
    when = time.strftime("%Y-%m-%d %H:%M")
    yield f"Written {when} by commit {commit('soak')}, seed {SOURCES.seed}, on {machine()}."
    for image in images:
        yield ""
        library = f"libmemproxy.so of commit {library_commit}, SHA-256 {matrix.digest(image.bits)}..."
        yield f"* {image.bits} bit: {library}, Debian 12 with"
        yield f"  {', '.join(image.versions)}; libclang-rt-14-dev for Scudo"
    yield ""
    yield "| workload | length | what |"
    yield "|---|---|---|"
    for length in reversed(LENGTHS):
        for name, workload in workloads(length).items():
            yield f"| {name} | {length} | {workload.what} |"
    yield ""
    columns = [(image, route) for image in images for route in ROUTES]
    yield "| workload | allocator | " + " | ".join(f"{image.bits} {route}" for image, route in columns) + " |"
    yield "|---|---|" + "---|" * len(columns)
    for name in workloads("full"):
        for allocator in ALLOCATORS:
            row = [judged.get((image.bits, allocator, route, name)) for image, route in columns]
            words = [_word(image, allocator, found) for (image, _), found in zip(columns, row)]
            yield f"| {name} | {allocator} | " + " | ".join(words) + " |"
    yield ""
    counts = Counter(f"{verdict.word}, {cell.workload.length}" for verdict, cell in judged.values())
    possible = sum(image.allocator(name) is not None for name in ALLOCATORS for image in images)
    missing = possible * len(ROUTES) * len(workloads("full")) - len(judged)
    words = [f"{count} {word}" for word, count in sorted(counts.items())]
    yield f"Of these: {'; '.join([*words, f'{missing} not run'])}."
    yield ""
    samples = sum(verdict.samples for verdict, _ in judged.values())
    yield f"Living processes looked at and found on the route claimed, served by the object claimed: {samples}."
    yield from _differences(judged)
    yield from _plain_failures(matrix, judged)
    yield from _programs(matrix, judged)


def commit(directory: str) -> str:
    """The commit that is checked out, and whether `directory` is as it has it."""
    changed = _tool("git", "status", "--porcelain", "--", directory)
    return _tool("git", "rev-parse", "--short", "HEAD") + (f" with changes in {directory}/" if changed else "")


def _longest(matrix: Matrix, image: Image, allocator: str, route: str, name: str) -> tuple[Verdict, Cell] | None:
    for length in reversed(LENGTHS):
        cell = Cell(image, workloads(length)[name], route, allocator)
        verdict = matrix.verdict(cell)
        if verdict is not None:
            return verdict, cell
    return None


def _word(image: Image, allocator: str, found: tuple[Verdict, Cell] | None) -> str:
    if image.allocator(allocator) is None:
        return "does not exist"
    return ABSENT if found is None else f"{found[0].word}, {found[1].workload.length}"


Judged = dict[tuple[int, str, str, str], tuple[Verdict, Cell]]


def _differences(judged: Judged) -> Iterator[str]:
    yield ""
    yield "## What differed"
    yield ""
    nothing = True
    for (bits, allocator, route, name), (verdict, cell) in judged.items():
        if verdict.word == "same":
            continue
        nothing = False
        yield f"* {name} ({cell.workload.length}), {bits} bit, {allocator}, route {route}: {verdict.word}"
        for difference in verdict.differences[:20]:
            yield f"  * `{difference}`"
        if len(verdict.differences) > 20:
            yield f"  * and {len(verdict.differences) - 20} more"
    if nothing:
        yield "Nothing."


def _plain_failures(matrix: Matrix, judged: Judged) -> Iterator[str]:
    yield ""
    yield "## What fails without any preload too"
    yield ""
    plain = {Cell(cell.image, cell.workload, "plain") for _, cell in judged.values()}
    for cell in sorted(plain, key=lambda one: (one.workload.name, one.workload.length, -one.image.bits)):
        result = matrix.result(cell)
        failed = Counter(
            name
            for observed in (result.observations if result else [])
            for name, word in observed.items()
            if word in ("failure", "error", "failed", "crashed", "timed out", "said")
        )
        names = ", ".join(f"`{name}`" for name in failed) or "nothing"
        refused = sum(
            name.endswith(".status") and word.strip("0 ") != ""
            for name, word in (result.observations[0] if result else {}).items()
        )
        if refused:
            names += f", but {refused} files do not compile, link or run to exit status 0 as they are"
        yield f"* {cell.workload.name} ({cell.workload.length}), {cell.image.bits} bit: {names}"


def _programs(matrix: Matrix, judged: Judged) -> Iterator[str]:
    yield ""
    yield "## Which programs were met on which route"
    yield ""
    seen: dict[str, Counter[tuple[str, str]]] = {route: Counter() for route in ROUTES}
    for (_, _, route, _), (_, cell) in judged.items():
        result = matrix.result(cell)
        for line, count in (result.routes if result else {}).items():
            program, rest = line.split(": ", 1)
            kind = "programs just compiled" if program.endswith(".program") else program
            seen[route][(kind, rest.split(" ")[0])] += count
    for route, programs in seen.items():
        words = [f"{program} {count}" for (program, where), count in programs.most_common() if where == route]
        yield f"* {route}: {', '.join(words) or 'none'}"


def machine() -> str:
    """Processors, memory and kernel."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def _tool(*words: str) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()

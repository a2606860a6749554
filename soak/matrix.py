"""The matrix: which runs there are, which are done already, and what each is judged to be.

A run's result is kept in build/soak/results under a name that says everything it depends on: workload and its length,
ABI and image, route, allocator, the library's content. So a second `make soak` goes on where the first was ended.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from soak import room
from soak.image import ALLOCATORS, PLACE, Image
from soak.workloads import Observations, Workload

ROUTES = ("custom", "system")
ATTEMPTS = 3
"""A run that differs is run again, and so is what it is compared with: some tests of python's fail now and then."""


@dataclass(frozen=True)
class Cell:
    """One run: route `plain` (nothing preloaded), `alone` (the allocator without memproxy), `custom` or `system`."""

    image: Image
    workload: Workload
    route: str
    allocator: str = ""


@dataclass
class Result:
    """What was observed, each time that it was run."""

    date: str
    seconds: list[float]
    observations: list[Observations]
    routes: dict[str, int]
    complete: bool = False
    """No further attempt is wanted."""
    table: dict[str, int] = field(default_factory=dict)
    """How often processes were found in memproxy-sol's own table as they say of themselves (e2e alone looks)."""


@dataclass(frozen=True)
class Verdict:
    """What the comparison says."""

    word: str
    """`same`, `same at try N`, `as alone`, `DIFFERS`, `NO PROOF`."""
    differences: tuple[str, ...] = ()
    samples: int = 0
    """How many looks at living processes found them on the route claimed."""


class Matrix:
    """All cells, their results on disk, and the judgement."""

    def __init__(self, libraries: dict[int, Path], place: Path = PLACE) -> None:
        self._libraries = libraries
        self._digests = {bits: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for bits, path in libraries.items()}
        self._results = place / "results"
        self._runs = place / "runs"
        self._results.mkdir(parents=True, exist_ok=True)
        self._runs.mkdir(parents=True, exist_ok=True)

    def digest(self, bits: int) -> str:
        """The library's content, short."""
        return self._digests[bits]

    def path(self, cell: Cell) -> Path:
        """Where a cell's result is kept."""
        script = hashlib.sha256(self.definition(cell.workload).encode()).hexdigest()[:8]
        library = self._digests[cell.image.bits] if cell.route in ROUTES else "none"
        words = [cell.workload.name, cell.workload.length, script, cell.image.bits, cell.image.identity, cell.route]
        return self._results / ("-".join(map(str, [*words, cell.allocator or "none", library])) + ".json")

    def definition(self, workload: Workload) -> str:
        """What a result of a workload depends on, beside the image and the library."""
        return workload.script + inspect.getsource(workload.observe)

    def result(self, cell: Cell) -> Result | None:
        """What is known of a cell."""
        try:
            return Result(**json.loads(self.path(cell).read_text()))
        except FileNotFoundError:
            return None

    def run(self, cell: Cell) -> Result:
        """Run a cell once more, and keep what is observed."""
        file = cell.image.allocator(cell.allocator) if cell.allocator else None
        preload = {"plain": [], "alone": [file]}.get(cell.route, [room.LIBRARY, file])
        lines = f"{cell.workload.lines}*\n" if cell.route == "system" else "# nothing is excluded\n"
        library = self._libraries[cell.image.bits] if cell.route in ROUTES else None
        result = self.result(cell) or Result("", [], [], {})
        place = self._runs / f"{self.path(cell).stem}-{len(result.observations) + 1}"
        script = cell.workload.script
        ran = room.run(
            cell.image, place, script, [item for item in preload if item], lines, library, cell.workload.seconds
        )
        seen = cell.workload.observe(place)
        if ran.status != 0:
            seen["the run"] = "had to be ended" if ran.status is None else f"ended with {ran.status}"
        result.date = time.strftime("%Y-%m-%d %H:%M")
        result.seconds.append(round(ran.seconds, 1))
        result.observations.append(seen)
        result.routes = dict(Counter(result.routes) + ran.routes)
        self.keep(cell, result)
        return result

    def keep(self, cell: Cell, result: Result) -> None:
        """Write a result, whole or not at all."""
        path = self.path(cell)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(result)))
        os.replace(fresh, path)

    def finish(self, cell: Cell) -> Iterator[str]:
        """Run what is still needed to judge a cell; yields a sentence before each run.

        The same workload without any preload; if that differs, both again, and with the allocator alone.
        """
        plain = Cell(cell.image, cell.workload, "plain")
        if self.result(plain) is None:
            yield "without any preload"
            self.run(plain)
        result = self.result(cell)
        if result is not None and result.complete:
            return
        if result is None:
            yield "under memproxy"
            result = self.run(cell)
        while self._differences(result.observations[-1], plain) and len(result.observations) < ATTEMPTS:
            known = self.result(plain)
            if known is not None and len(known.observations) < ATTEMPTS:
                yield "different: again without any preload"
                self.run(plain)
                if not self._differences(result.observations[-1], plain):
                    break
            yield "different: again under memproxy"
            result = self.run(cell)
        alone = Cell(cell.image, cell.workload, "alone", cell.allocator)
        known = self.result(alone)
        tries = 0 if known is None else len(known.observations)
        while self._differences(result.observations[-1], plain, alone) and tries < ATTEMPTS:
            yield "different: with the allocator alone"
            self.run(alone)
            tries += 1
        result.complete = True
        self.keep(cell, result)
        if not self._differences(result.observations[0], plain):  # else its files are for whoever wants to know why
            shutil.rmtree(self._runs / f"{self.path(cell).stem}-1", ignore_errors=True)

    def verdict(self, cell: Cell) -> Verdict | None:
        """The judgement of a cell that is finished."""
        result = self.result(cell)
        plain = Cell(cell.image, cell.workload, "plain")
        if result is None or not result.complete or self.result(plain) is None:
            return None
        alone = Cell(cell.image, cell.workload, "alone", cell.allocator)
        samples, objections = self.proof(cell, result)
        first = self._differences(result.observations[0], plain)
        last = self._differences(result.observations[-1], plain)
        if self._differences(result.observations[-1], plain, alone):
            return Verdict("DIFFERS", self._differences(result.observations[-1], plain, alone), samples)
        if objections:
            return Verdict("NO PROOF", objections, samples)
        if last:
            return Verdict("as alone", last, samples)
        if first:
            return Verdict(f"same at try {len(result.observations)}", first, samples)
        return Verdict("same", (), samples)

    def proof(self, cell: Cell, result: Result) -> tuple[int, tuple[str, ...]]:
        """How many looks found a process where it ought to be, and what speaks against it."""
        return proof(cell, result.routes)

    def _differences(self, seen: Observations, *others: Cell) -> tuple[str, ...]:
        """What no run of the other cells has shown so."""
        known = [observed for cell in others for observed in (self.result(cell) or Result("", [], [], {})).observations]
        names = sorted({*seen, *(name for observed in known[:1] for name in observed)})
        return tuple(
            f"{name}: {seen.get(name, 'absent')}, not {known[0].get(name, 'absent')}"
            for name in names
            if known and all(observed.get(name) != seen.get(name) for observed in known)
        )


def proof(cell: Cell, routes: dict[str, int]) -> tuple[int, tuple[str, ...]]:
    """As Matrix.proof, from the census."""
    file = cell.image.allocator(cell.allocator)
    assert file is not None
    route, reason, server = ("custom", "default", os.path.basename(file))
    if cell.route == "system":
        route, reason, server = ("system", "list", "libc.so.6")
    good = 0
    objections = []
    missing = set(cell.workload.programs)
    for seen, count in routes.items():
        program, rest = seen.split(": ", 1)
        if rest.startswith(f"{route} ({reason}") and rest.endswith(f", {server}"):
            good += count
            missing.discard(program)
        elif not (program.endswith(".program") and "not-owner" in rest):
            objections.append(f"{seen} ({count} times)")
    objections += [f"{program} was not met" for program in sorted(missing)]
    return good, tuple(objections)


def cells(images: list[Image], allocators: list[str], routes: list[str], wanted: list[Workload]) -> list[Cell]:
    """The matrix in the order in which it is run: one allocator after the other, everything of it."""
    return [
        Cell(image, workload, route, allocator)
        for allocator in (name for name in ALLOCATORS if name in allocators)
        for workload in wanted
        for route in routes
        for image in images
        if image.allocator(allocator) is not None
    ]

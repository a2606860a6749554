"""The table: which workloads are run under which allocator on which route, and what each is judged to be.

A workload is excluded by lines of /etc/memproxy.conf that name its programs, while all others on the system stay on
the custom allocator; or included, with an empty list. Results are kept and judged as those of `make soak`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

from e2e.image import ALLOCATORS, PLACE, System
from e2e.system import Host
from e2e.workloads import excluded
from memproxy_sol.errors import MemproxyError
from soak.image import Image
from soak.matrix import ROUTES, Cell, Matrix, Result, cells
from soak.workloads import Workload

OWN = {"redis-*": ("libc.so.6", "libjemalloc.so.2")}
"""Programs that are linked with an allocator of their own: the system's route is what they have without libmemproxy."""


class SystemImage(Image):
    """The image, as the cells of a matrix want it: both ABIs are in it."""

    def allocator(self, name: str) -> str | None:
        return f"/usr/$LIB/{os.path.basename(ALLOCATORS[name])}"


class Table(Matrix):
    """All cells of the system."""

    def __init__(self, host: Host, libraries: dict[int, Path]) -> None:
        super().__init__(libraries, PLACE)
        self._host = host
        both = hashlib.sha256(b"".join(path.read_bytes() for _, path in sorted(libraries.items())))
        self._digests = dict.fromkeys(self._digests, both.hexdigest()[:12])

    def definition(self, workload: Workload) -> str:
        """The script, in which the rules stand, too (workloads.py)."""
        return workload.script

    def run(self, cell: Cell) -> Result:
        """Run a cell once more, and keep what is observed."""
        result = self.result(cell) or Result("", [], [], {})
        installed = self._host.installed(cell.allocator) if cell.route in ROUTES else None
        name = f"{self.path(cell).stem}-{len(result.observations) + 1}"
        session = self._host.run(
            name,
            cell.workload.script,
            cell.workload.seconds,
            installed=installed,
            preload=[str(cell.image.allocator(cell.allocator))] if cell.route == "alone" else [],
            serves=cell.allocator.partition("_")[0] if cell.route in ("alone", "custom") else "glibc",
            conf=cell.workload.lines if cell.route == "system" else "# nothing is excluded\n",
        )
        try:
            seen = cell.workload.observe(session.result)
        except OSError as error:
            said = (session.result / "output").read_text(errors="replace")
            raise MemproxyError(f"{cell.workload.name} did not begin ({error}): {said[-2000:]}") from error
        if session.ran.status != 0:
            ended = "had to be ended" if session.ran.status is None else f"ended with {session.ran.status}"
            seen["the run"] = ended
        result.date = time.strftime("%Y-%m-%d %H:%M")
        result.seconds.append(round(session.ran.seconds, 1))
        result.observations.append(seen)
        result.routes = dict(Counter(result.routes) + session.ran.routes)
        if installed is not None:
            try:
                table = json.loads((session.result / "table.json").read_text())
            except (OSError, ValueError):
                table = {"DISAGREES: there is no table": 1}
            result.table = dict(Counter(result.table) + Counter(table))
        else:
            shutil.rmtree(session.result, ignore_errors=True)
        self.keep(cell, result)
        return result

    def proof(self, cell: Cell, result: Result) -> tuple[int, tuple[str, ...]]:
        """As Matrix.proof: excluded programs are the system's, all others the allocator's; and the table agrees."""
        lines = excluded(cell.workload) if cell.route == "system" else ()
        server = os.path.basename(ALLOCATORS[cell.allocator])
        good, objections = 0, []
        missing = set(cell.workload.programs)
        for seen, count in result.routes.items():
            program, rest = seen.split(": ", 1)
            is_out = any(fnmatchcase(program, line) for line in lines)
            own = next((names for pattern, names in OWN.items() if fnmatchcase(program, pattern)), ("libc.so.6",))
            route, servers = ("system (list", own) if is_out else ("custom (default", (server,))
            if rest.startswith(route) and rest.rpartition(", ")[2] in servers:
                good += count
                missing -= {name for name in missing if fnmatchcase(program, name)}
            else:
                objections.append(f"{seen} ({count} times)")
        objections += [f"{program} was not met" for program in sorted(missing)]
        objections += [
            f"{seen} ({count} times)" for seen, count in result.table.items() if seen.startswith("DISAGREES")
        ]
        return good, tuple(objections)


def image_of(system: System) -> SystemImage:
    """The image as cells have it."""
    return SystemImage(64, system.root, system.identity, system.versions)


def table_cells(image: SystemImage, allocators: list[str], wanted: list[Workload]) -> list[Cell]:
    """All cells in their order."""
    return cells([image], allocators, list(ROUTES), wanted)

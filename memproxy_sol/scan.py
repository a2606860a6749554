"""Scan: which programs have an allocator of their own, how that is known, and which lines of the list would say so.

Files are put together here: a program chooses the allocator of a library that it is linked with, directly or not.
scan_files.py and scan_running.py read, `judge` judges, nothing here changes anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from memproxy_sol import exclusion_edit, exclusions, scan_files
from memproxy_sol.carried import PLAIN, PROGRAM, SHARED, STATIC, Carried
from memproxy_sol.root import Root
from memproxy_sol.scan_files import Listing, Problem
from memproxy_sol.scan_running import Running

PROPOSED, LISTED, CUSTOM, UNNEEDED, UNREACHABLE, LIBRARY = (
    "proposed",
    "listed",
    "custom",
    "unneeded",
    "unreachable",
    "library",
)
STATES = {
    PROPOSED: "a line is proposed",
    LISTED: "the list excludes it already",
    CUSTOM: "a line of the list gives it the custom allocator, which is left so",
    UNNEEDED: "no line is needed",
    UNREACHABLE: "it is linked statically: no preload reaches it, no line is needed",
    LIBRARY: "a library: lines name programs",
}


@dataclass(frozen=True)
class Row:
    """One program or library with an allocator of its own."""

    path: str
    """As the kernel reports it."""
    bits: int
    state: str
    """One of STATES."""
    carries: str
    """Which allocator, as far as that is known."""
    evidence: tuple[str, ...]
    pattern: str = ""
    """The proposed line, or the line that is there."""
    line: int = 0
    """The number of the line that is there."""
    processes: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `exclude scan --json` prints it."""
        return {
            "program": self.path,
            "abi": self.bits,
            "state": self.state,
            "carries": self.carries,
            "evidence": list(self.evidence),
            "pattern": self.pattern or None,
            "line": self.line or None,
            "processes": list(self.processes),
        }


@dataclass(frozen=True)
class Risk:
    """A file of which it is known that it can open objects past every preload."""

    path: str
    text: str


@dataclass(frozen=True)
class Scan:
    """What was found."""

    rows: tuple[Row, ...]
    risks: tuple[Risk, ...]
    opening: tuple[str, ...]
    """All programs and libraries that import dlopen: with which flags cannot be seen."""
    problems: tuple[Problem, ...]
    files: int
    elf_files: int
    special: int = 0
    unreadable_processes: int = 0

    @property
    def proposed(self) -> tuple[Row, ...]:
        """The rows whose lines could be added."""
        return tuple(row for row in self.rows if row.state == PROPOSED)

    @property
    def incomplete(self) -> bool:
        """Whether anything could not be looked at that may be a program which others can run."""
        kinds = {problem.kind for problem in self.problems}
        return bool(kinds & {scan_files.DENIED, scan_files.KILLED}) or self.unreadable_processes > 0

    def to_json(self) -> dict[str, Any]:
        """As `exclude scan --json` prints it, without the list."""
        return {
            "programs": [row.to_json() for row in self.rows],
            "risks": [{"path": risk.path, "text": risk.text} for risk in self.risks],
            "dlopen": list(self.opening),
            "problems": [{"path": one.path, "kind": one.kind, "text": one.text} for one in self.problems],
            "files": self.files,
            "elf_files": self.elf_files,
            "special": self.special,
            "unreadable_processes": self.unreadable_processes,
        }


def scan(
    root: Root,
    tops: Iterable[str],
    lines: Iterable[exclusions.Line],
    *,
    running: Running | None = None,
    told: Callable[[str, int, int], None] = lambda what, done, total: None,
    count: int | None = None,
) -> Scan:
    """Look at all files below `tops`, and at what `running` names, and judge them by the lines of the list.

    `told` hears what is done, how far, and out of how many (0: not known yet). HostError for a top that is no file.
    """
    listing = scan_files.walk(root, tops, lambda found: told("files", found, 0)) if tops else Listing()
    if running is not None:
        listing.files.update({path: at for path, at in running.files.items() if path not in listing.files})
    total = len(listing.files)
    carried, problems = scan_files.look(listing.files, lambda done: told("looked at", done, total), count)
    found = judge(carried, tuple(lines), running or Running())
    return replace(
        found,
        problems=tuple(sorted((*listing.problems, *problems), key=lambda problem: problem.path)),
        files=total,
        special=listing.special,
        unreadable_processes=running.unreadable if running is not None else 0,
    )


def judge(carried: Mapping[str, Carried], lines: tuple[exclusions.Line, ...], running: Running) -> Scan:
    """The rows for files of which it is known what they carry, by path; without what only reading tells."""
    libraries = _Libraries(carried)
    rows, risks, opening = [], [], []
    for path, one in sorted(carried.items()):
        if one.opens and not one.system:
            opening.append(path)
            if "dlmopen" in one.opens:
                risks.append(Risk(path, "imports dlmopen: what it opens in a new namespace has that namespace's libc"))
            elif one.deepbind:
                risks.append(Risk(path, "imports dlopen and knows RTLD_DEEPBIND by name; whether it uses it is unseen"))
        if one.system:
            continue
        row = _row(path, one, libraries, running)
        if row is not None:
            rows.append(_against(row, lines) if one.kind == PROGRAM else row)
    rows.sort(key=lambda row: list(STATES).index(row.state))
    return Scan(tuple(rows), tuple(risks), tuple(opening), (), 0, len(carried))


@dataclass
class _Libraries:
    """The shared objects by what programs call them."""

    carried: Mapping[str, Carried]
    by_name: dict[tuple[str, int, int], list[Carried]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, one in self.carried.items():
            if one.kind == SHARED:
                for name in {one.name, os.path.basename(path)}:
                    self.by_name.setdefault((name, one.bits, one.machine), []).append(one)

    def behind(self, start: Carried) -> Iterable[tuple[str, Carried]]:
        """Each library that `start` is linked with, and through which libraries.

        Where several files have one name all count: which of them is loaded is decided at the start.
        """
        seen = {start.name}
        pending = [(name, "") for name in start.needed]
        while pending:
            name, way = pending.pop(0)
            if name in seen:
                continue
            seen.add(name)
            for library in self.by_name.get((name, start.bits, start.machine), ()):
                if not library.system:
                    yield (f"{way} → {name}" if way else name), library
                    pending += [(other, f"{way} → {name}" if way else name) for other in library.needed]


def _row(path: str, one: Carried, libraries: _Libraries, running: Running) -> Row | None:
    carries, evidence = _own(one)
    pids = tuple(running.programs.get(path, ()))
    if one.kind == STATIC:
        carries = carries or ("the heap of Go" if one.go else "what it is linked with")
        return Row(
            path, one.bits, UNREACHABLE, carries, tuple(evidence) or ("it has no runtime linker",), processes=pids
        )
    if one.kind == SHARED:
        if not one.says or path in running.programs:
            return None
        state = UNNEEDED if one.sanitizer else LIBRARY
        return Row(path, one.bits, state, "a sanitizer" if one.sanitizer else carries, tuple(evidence))
    sanitized, linked = one.sanitizer, set[str]()
    for way, library in libraries.behind(one):
        linked.add(library.name)
        sanitized = sanitized or library.sanitizer
        if library.serves:
            evidence.append(f"needs {way}, which exports malloc and free")
            carries = carries or _family(library) or library.name
    for family, name in one.private:
        evidence.append(f"calls {name}")
        carries = carries or family
    for mapped in sorted(running.mapped.get(path, ())):
        library_mapped = libraries.carried.get(mapped)
        if library_mapped is None or library_mapped.system or library_mapped.name in linked:
            continue
        if library_mapped.serves:
            evidence.append(f"a process of it has mapped {mapped}, which exports malloc and free")
            carries = carries or _family(library_mapped) or library_mapped.name
            sanitized = sanitized or library_mapped.sanitizer
    if sanitized:
        return Row(path, one.bits, UNNEEDED, "a sanitizer", ("libmemproxy leaves it to the sanitizer",), processes=pids)
    if not evidence:
        return None
    pattern = exclusion_edit.quote(exclusions.to_text(os.fsencode(path)))
    return Row(path, one.bits, PROPOSED, carries, tuple(evidence), pattern, processes=pids)


def _own(one: Carried) -> tuple[str, list[str]]:
    """What a file has inside, and how that is known."""
    evidence = []
    if one.serves:
        evidence.append("exports malloc and free" + (", bound to its own (-Bsymbolic)" if one.symbolic else ""))
    if set(one.local) | set(one.exported) == set(PLAIN) and one.local:
        evidence.append("its symbol table defines malloc and free, which it keeps to itself")
    evidence += [how for _, how in one.families]
    if one.cut:
        evidence += [one.cut] if evidence else []
    return (_family(one) or "a malloc of its own") if evidence else "", evidence


def _family(one: Carried) -> str:
    return ", ".join(family for family, _ in one.families)


def _against(row: Row, lines: tuple[exclusions.Line, ...]) -> Row:
    """The row, if the list says anything of the program already."""
    if row.state != PROPOSED:
        return row
    line = exclusions.decide(lines, exclusions.to_text(os.fsencode(row.path))).line
    if line is None:
        return row
    state = LISTED if line.route == exclusions.LISTED_ROUTE else CUSTOM
    return replace(row, state=state, pattern=line.pattern, line=line.number)

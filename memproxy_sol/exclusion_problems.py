"""What is likely to be a mistake in an exclusion list: lines that are ignored, never match, or are never reached."""

from __future__ import annotations

import bisect
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Callable

from memproxy_sol.exclusions import (
    ROUTES,
    Line,
    bracket_end,
    is_glob,
    matches,
    to_bytes,
    tokens,
)
from memproxy_sol.findings import WARNING, Finding

CUT_LENGTHS = (15, 16)
"""Where tools cut the names of programs: 15 bytes of comm on Linux, 16 of pr_fname on Solaris."""

MAX_GLOBS = 20
"""Earlier patterns with which a later line is compared; a longer list would take a quadratic time."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one line."""

    line: Line
    identifier: str
    """Stable, as that of a finding."""
    text: str
    """A fragment without a full stop."""
    hint: str = ""

    def finding(self, path: str) -> Finding:
        """The problem as verify reports it, for the list at `path`."""
        where = f"{path}, line {self.line.number}"
        return Finding(self.identifier, WARNING, where, f"{self.line.text}: {self.text}", self.hint)


def problems(
    lines: Sequence[Line],
    names: Collection[str] = (),
    reported: Callable[[str], str] | None = None,
) -> tuple[Problem, ...]:
    """The problems of a list, in the order of its lines.

    `names`, if given, are the base names of installed programs; `reported(path)` tells what the kernel reports for a
    program at `path` (links resolved, a script's interpreter).
    """
    ordered = sorted(names)
    earlier = _Earlier()
    found: list[Problem] = []
    for line in lines:
        if not line.applies:
            found.append(Problem(line, "exclusions-line", f"the line is ignored: {line.problem}", "correct it"))
            continue
        found.extend(_of_pattern(line, reported))
        found.extend(_cut_name(line, ordered))
        decider = earlier.decider(line)
        if decider is not None:
            found.append(_unreached(line, decider))
        earlier.add(line)
    return tuple(found)


def _of_pattern(line: Line, reported: Callable[[str], str] | None) -> Iterator[Problem]:
    never = _why_never(line.pattern)
    if never is None and reported is not None and line.pattern.startswith("/") and not is_glob(line.pattern):
        never = _why_not_reported(line.pattern, reported)
    if never is not None:
        yield Problem(line, "exclusions-never-matches", f"the line can never match: {never[0]}", never[1])
        return
    for identifier, text, hint in _suspicions(line.pattern):
        yield Problem(line, identifier, text, hint)


def _why_never(pattern: str) -> tuple[str, str] | None:
    if "/" in pattern:
        if not pattern.startswith("/"):
            return "a path that does not begin with / is compared with none", "write the full path, or the name alone"
        if "//" in pattern or any(part in (".", "..") for part in pattern.split("/")):
            return "the system reports paths without //, /./ and /../", f"write {os.path.normpath(pattern)}"
    if any(token is not None and not token for part in to_bytes(pattern).split(b"/") for token in tokens(part)):
        return "a bracket expression with a reversed range matches nothing", "write the range as [low-high]"
    return None


def _why_not_reported(pattern: str, reported: Callable[[str], str]) -> tuple[str, str] | None:
    path = pattern.rstrip("/") or "/"
    real = reported(path)
    if real == path:
        return None
    end = "/" if pattern.endswith("/") and real != "/" else ""
    return f"what the system reports instead is {real}", f"write {real}{end}"


def _suspicions(pattern: str) -> Iterator[tuple[str, str, str]]:
    for part in to_bytes(pattern).split(b"/"):
        at = part.find(b"[")
        if at >= 0 and part != b"[" and bracket_end(part, at) < 0:
            yield "exclusions-unclosed-bracket", "the [ is never closed and stands for itself", "close it, or write [[]"
        if at >= 0 and part[at + 1 : at + 2] == b"^":
            yield "exclusions-caret", "a ^ in brackets stands for itself", "write [!...] for what is not in a set"
        if b"[[:" in part:
            yield "exclusions-character-class", "character classes are not known here", "write the range: [a-z], [0-9]"
    if "\\" in pattern:
        yield "exclusions-backslash", "a \\ stands for itself, there are no escapes", "write [*] for a star itself"
    if len(pattern) > 1 and pattern[0] == pattern[-1] and pattern[0] in "\"'":
        yield "exclusions-quotes", "the quotation marks are part of the name", "write the name without them"
    if " #" in pattern or "\t#" in pattern or " ;" in pattern:
        yield "exclusions-comment-behind", "what follows the name is part of it", "write comments on lines of their own"
    if "\r" in pattern:
        yield "exclusions-line-ends", "it holds a carriage return, which ends no line", "end lines with a line feed"
    if any(pattern.endswith("=" + route) or pattern.endswith("= " + route) for route in ROUTES):
        yield "exclusions-route-unread", "the = is part of the name", "put blanks on both sides of it"


def _cut_name(line: Line, ordered: Sequence[str]) -> Iterator[Problem]:
    name = line.pattern
    if not ordered or len(to_bytes(name)) not in CUT_LENGTHS or "/" in name or is_glob(name):
        return
    at = bisect.bisect_left(ordered, name)
    longer: list[str] = []
    while at < len(ordered) and ordered[at].startswith(name):
        longer.append(ordered[at])
        at += 1
    if longer and longer[0] != name:
        text = f"the name looks cut: {', '.join(longer[:3])}{'...' if len(longer) > 3 else ''} is installed"
        yield Problem(line, "exclusions-cut-name", text, f"write {longer[0]}, or {name}*")


def _unreached(line: Line, decider: Line) -> Problem:
    what = f"line {decider.number} ({decider.pattern}) decides first"
    if decider.route == line.route:
        return Problem(line, "exclusions-duplicate", f"{what}, with the same route", "remove one of them")
    text = f"{what}, and says {decider.route}"
    return Problem(line, "exclusions-never-reached", text, f"move it in front of line {decider.number}")


class _Earlier:
    """The lines so far, by how they are found again."""

    def __init__(self) -> None:
        self._exact: dict[str, Line] = {}
        self._globs: list[Line] = []

    def add(self, line: Line) -> None:
        self._exact.setdefault(line.pattern, line)
        if is_glob(line.pattern) and len(self._globs) < MAX_GLOBS:
            self._globs.append(line)

    def decider(self, line: Line) -> Line | None:
        """The first earlier line that matches all that `line` matches, as far as that is easily seen."""
        pattern = line.pattern
        found = [self._exact.get("*"), self._exact.get(pattern)]
        if "/" in pattern:
            parts = pattern.split("/")
            fronts = ("/".join(parts[:count]) + "/" for count in range(1, len(parts)))
            found.extend(self._exact.get(front) for front in fronts if not is_glob(front))
        if not is_glob(pattern) and not pattern.endswith("/"):
            found.append(self._exact.get(pattern.rpartition("/")[2]))
            found.extend(glob for glob in self._globs if matches(glob.pattern, pattern))
        return min((line for line in found if line is not None), key=lambda line: line.number, default=None)

"""Edits of an exclusion list: what the file should hold instead, as bytes. Nothing is read or written here.

Comments, order, line ends and a byte order mark stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from memproxy_sol.errors import ExclusionError
from memproxy_sol.exclusions import (
    ANY_BYTE,
    BLANKS,
    BYTE_ORDER_MARK,
    LISTED_ROUTE,
    Line,
    decide,
    is_glob,
    parse,
    parse_line,
    to_bytes,
    to_text,
    tokens,
)


@dataclass(frozen=True)
class Addition:
    """A list in which a pattern has a route."""

    data: bytes
    line: Line
    """The line that decides: a new one, or one that was there."""
    existing: bool = False
    """The list needed no change."""
    replaced: Line | None = None
    """The line with the same pattern and another route that it stands for now."""
    ahead_of: Line | None = None
    """The line that it was put in front of, since that one would have matched first."""


@dataclass(frozen=True)
class Removal:
    """A list without some lines."""

    data: bytes
    lines: tuple[Line, ...]
    """Those that went."""


def quote(name: str) -> str:
    """The pattern that matches just `name` (a base name or a path, or a directory that ends in `/`).

    The grammar has no escapes: what is special is put into brackets, and a line break, which cannot be, becomes `?`.
    """
    pattern = "/".join(part if part == "[" else _quote_part(part) for part in name.split("/"))
    if pattern[:1] and pattern[0] in "#;" + BLANKS:
        pattern = f"[{pattern[0]}]{pattern[1:]}"
    if pattern[-1:] and pattern[-1] in BLANKS:
        pattern = f"{pattern[:-1]}[{pattern[-1]}]"
    line = parse_line(1, pattern)
    if line is None or line.pattern != pattern or line.problem:  # it reads as `PROGRAM = ROUTE`
        at = pattern.rfind("=")
        pattern = f"{pattern[:at]}[=]{pattern[at + 1 :]}"
    return pattern


def example(pattern: str) -> str:
    """A name or path that the pattern matches, and narrower patterns rather do not."""
    parts = []
    for part in to_bytes(pattern).split(b"/"):
        places = [b"~~" if token is None else b"~" if token == ANY_BYTE else _byte(token) for token in tokens(part)]
        parts.append(b"".join(places))
    return to_text(b"/".join(parts)) + ("~" if pattern.endswith("/") else "")


def format_line(pattern: str, route: str) -> str:
    """The line that gives `route` to what `pattern` matches; ExclusionError if no line can say so."""
    text = pattern if route == LISTED_ROUTE else f"{pattern} = {route}"
    line = parse_line(1, text)
    if line is None or (line.pattern, line.route) != (pattern, route) or "\n" in text:
        raise ExclusionError(
            f"{pattern!r} cannot stand in an exclusion list", hint="put its special characters into brackets: [#]name"
        )
    return text


def added(data: bytes, pattern: str, route: str, sample: str | None = None) -> Addition:
    """The list with a line that gives `route` to `pattern`, placed so that it decides.

    `sample` is an executable that the line must decide for (default: `example(pattern)`). ExclusionError as in
    format_line.
    """
    text = format_line(pattern, route)
    lines = parse(data)
    sample = example(pattern) if sample is None else sample
    first = decide(lines, sample).line
    if first is not None and first.route == route and _covers(first, pattern):
        return Addition(data, first, existing=True)
    start, rows = _rows(data)
    end = b"\r\n" if rows and rows[0].endswith(b"\r\n") else b"\n"
    row = to_bytes(text) + end
    rival = decide([line for line in lines if line.route != route], sample).line
    replaced = rival if rival is not None and rival.pattern == pattern else None
    if rival is not None:
        at = rival.number - 1
        rows[at : at + 1 if replaced else at] = [row]
    else:
        at = len(rows)
        if rows and not rows[-1].endswith(b"\n"):
            rows[-1] += end
        rows.append(row)
    new = start + b"".join(rows)
    line = next(line for line in parse(new) if line.number == at + 1)
    return Addition(new, line, replaced=replaced, ahead_of=None if replaced else rival)


def removed(data: bytes, patterns: Collection[str]) -> Removal:
    """The list without the lines that have exactly one of these patterns, whatever their route."""
    gone = tuple(line for line in parse(data) if line.pattern in patterns)
    start, rows = _rows(data)
    numbers = {line.number for line in gone}
    kept = (row for number, row in enumerate(rows, start=1) if number not in numbers)
    return Removal(start + b"".join(kept), gone)


def _quote_part(part: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else "?" if c == "\n" else c for c in part)


def _covers(line: Line, pattern: str) -> bool:
    """Whether `line` certainly matches all that `pattern` matches, given that it matches an example of it."""
    if line.pattern in (pattern, "*") or not (is_glob(pattern) or pattern.endswith("/")):
        return True
    return line.pattern.endswith("/") and not is_glob(line.pattern) and pattern.startswith(line.pattern)


def _rows(data: bytes) -> tuple[bytes, list[bytes]]:
    start = BYTE_ORDER_MARK if data.startswith(BYTE_ORDER_MARK) else b""
    rows = data[len(start) :].split(b"\n")
    return start, [row + b"\n" for row in rows[:-1]] + ([rows[-1]] if rows[-1] else [])


def _byte(accepted: Collection[int]) -> bytes:
    printable: Sequence[int] = [byte for byte in sorted(accepted) if byte > 32 and byte != ord("/")]
    return bytes([(printable or sorted(accepted) or [0])[0]])

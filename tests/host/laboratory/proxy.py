"""proxy: what libmemproxy.so decides in a process that has loaded it, and the line that it writes about it.

A small matcher of its own, after docs/exclusions.md and docs/native.md; the native one is tested elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tests.host.laboratory.ldso import Loaded

LIST = "/etc/memproxy.conf"
SONAME = "libmemproxy.so"
FAMILY = frozenset(("malloc", "calloc", "realloc", "free"))
MARKERS = frozenset(("mallocx", "mi_malloc", "je_malloc", "tc_malloc", "ltmalloc", "scalable_malloc", "rpmalloc"))
"""By which an allocator is known wherever it lies."""
BLANKS = b" \t\r"


@dataclass(frozen=True)
class Decision:
    """Route, what serves, and why, as the line says it."""

    route: str
    served_by: str
    reason: str


def decide(
    loaded: Sequence[Loaded],
    environment: Mapping[str, str],
    exclusions: bytes | None,
    *,
    own_malloc: bool = False,
    secure: bool = False,
) -> Decision | None:
    """The decision of the libmemproxy among the objects of a process, None where there is none.

    The first object is the program, of which `own_malloc` says whether it defines malloc itself.
    """
    names = [one.object.soname if one.object is not None else None for one in loaded]
    if SONAME not in names:
        return None
    self_place = names.index(SONAME)
    needed = {name for one in loaded if one.object is not None for name in one.object.needed}
    for place, one in enumerate(loaded[:self_place]):
        if own_malloc if place == 0 else one.object is not None and "malloc" in one.object.exports:
            return Decision("system", one.path, "malloc of this process is defined ahead of libmemproxy.so")
    directory = loaded[self_place].path.rpartition("/")[0]
    after = [(one.path, one.object) for one in loaded[self_place + 1 :] if one.object is not None]
    behind = [(path, object_) for path, object_ in after if object_.soname != SONAME]
    libc = next((path for path, object_ in behind if object_.soname == "libc.so.1"), "/lib/libc.so.1")
    able = [one for one in behind if one[1].exports >= FAMILY and one[1].soname not in needed | {"libc.so.1"}]
    beside = [path for path, _ in able if path.rpartition("/")[0] == directory]
    next_one = [one[0] for one in able if one is behind[0]]
    known = [path for path, object_ in able if object_.exports & MARKERS]
    custom = next(iter((*beside, *next_one, *known)), None)
    route, number = lookup(exclusions, loaded[0].path)
    reason = f"line {number} of {LIST}" if number else f"no line of {LIST} matches"
    asked = "" if secure else environment.get("MEMPROXY_ROUTE", "")
    if asked in ("system", "custom"):
        route, reason = asked, "MEMPROXY_ROUTE says so"
    if route == "custom" and custom is None:
        return Decision("system", libc, "no custom allocator is loaded")
    return Decision(route, custom if route == "custom" and custom is not None else libc, reason)


def line(program: str, decision: Decision) -> str:
    """What MEMPROXY_DEBUG=1 prints."""
    return f"memproxy: {program}: route {decision.route}, served by {decision.served_by}: {decision.reason}"


def lookup(exclusions: bytes | None, executable: str) -> tuple[str, int]:
    """Route of an executable, and the number of the line that decides (0: none)."""
    if exclusions is None:
        return "custom", 0
    path = executable.encode("utf-8", "surrogateescape")
    for number, pattern, route in _rules(exclusions):
        if pattern.fullmatch(path):
            return route, number
    return "custom", 0


@lru_cache(maxsize=64)
def _rules(exclusions: bytes) -> tuple[tuple[int, re.Pattern[bytes], str], ...]:
    rules = []
    text = exclusions[3:] if exclusions.startswith(b"\xef\xbb\xbf") else exclusions
    for number, raw in enumerate(text.split(b"\n"), 1):
        words = raw.strip(BLANKS)
        if not words or words[:1] in b"#;" or b"\0" in words:
            continue
        pattern, route = words, b"system"
        pieces = re.split(rb"[ \t\r]+", words)
        if len(pieces) > 1 and pieces[-1] == b"=":
            continue  # no route behind it
        if len(pieces) > 1 and pieces[-2] == b"=":
            route = pieces[-1]
            pattern = words[: len(words) - len(route)].rstrip(BLANKS)[:-1].rstrip(BLANKS)
        if not pattern or route not in (b"system", b"custom"):
            continue
        regex = _regex(pattern)
        if regex is not None:
            rules.append((number, regex, route.decode()))
    return tuple(rules)


def _regex(pattern: bytes) -> re.Pattern[bytes] | None:
    """A pattern as an expression over the full path; None for one that matches nothing."""
    head, tail = b"", b""
    if b"/" not in pattern:
        head = rb"(?:.*/)?"
    elif not pattern.startswith(b"/"):
        return None
    if pattern.endswith(b"/"):
        tail = rb".*"
    out, at = b"", 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            out += rb"[^/]*"
        elif byte == b"?":
            out += rb"[^/]"
        elif byte == b"[":
            negated = pattern[at : at + 1] == b"!"
            start = at + negated
            end = pattern.find(b"]", start + 1)
            slash = pattern.find(b"/", at)
            if end < 0 or 0 <= slash < end:
                out += re.escape(byte)
                continue
            out += _bracket(pattern[start:end], negated)
            at = end + 1
        else:
            out += re.escape(byte)
    return re.compile(head + out + tail, re.DOTALL)


def _bracket(members: bytes, negated: bool) -> bytes:
    wanted: set[int] = set()
    at = 0
    while at < len(members):
        if at + 2 < len(members) and members[at + 1] == ord("-"):
            wanted.update(range(members[at], members[at + 2] + 1))
            at += 3
        else:
            wanted.add(members[at])
            at += 1
    chosen = sorted((set(range(256)) - wanted if negated else wanted) - {ord("/")})
    if not chosen:
        return b"(?!)"
    return b"[" + b"".join(b"\\x%02x" % value for value in chosen) + b"]"

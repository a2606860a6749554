"""The exclusion list (memproxy.conf): what its lines say, and which of them decides a program's route.

The reader inside every process is native/exclusions.cc; tests/data/exclusions.toml holds the two together, and
docs/exclusions.md is their grammar. Everything here is text decoded from UTF-8 with surrogateescape, and is compared
as bytes. What is likely to be a mistake is exclusion_problems.py; changing a list is exclusion_edit.py.

Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from memproxy_sol.errors import ExclusionError, HostError
from memproxy_sol.root import FileState, Root

LIST_PATH = "/etc/memproxy.conf"
"""Where libmemproxy reads the list; compiled into it (`--sysconfdir=/etc`)."""

ROUTES = ("system", "custom")
"""The words that a line may end in; native/route_name.h has the same."""

LISTED_ROUTE = "system"
"""The route of a matching line that names none."""

UNLISTED_ROUTE = "custom"
"""The route of a program that no line matches."""

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of a list that the commands read; libmemproxy has no limit, but every process reads the list at its start."""

BLANKS = " \t\r"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

TEMPLATE = b"""\
# Exclusion list of memproxy: programs that keep the system's memory allocator.
#
# One program a line; the first line that matches decides. A change is seen by processes that start after it.
# `memproxy-sol exclude add PROGRAM` writes a line that will match, `memproxy-sol explain PROGRAM` tells which does.
#
#   name              executables of this name, wherever they lie
#   /full/path/name   this executable only
#   /directory/       everything in and below a directory
#   *  ?  [a-z] [!x]  stand for text as in the shell; * and ? do not reach across a /
#   ... = custom      the opposite: this program gets the custom allocator whatever later lines say
#
# The name is the one that the kernel reports: symbolic links are resolved, a script is its interpreter.
# Lines that begin with # or ; are comments.
#
# Examples, switched off:
#nscd
#/opt/vendor/
#/usr/lib/ssh/*
#/opt/app/bin/worker[0-9] = custom
"""
"""What `install` and `exclude add` write where there is no list."""

ANY_BYTE = frozenset(range(256))
Token = Optional[frozenset[int]]
"""What one place of a pattern accepts; None is a `*`."""


@dataclass(frozen=True)
class Line:
    """One line of the list that is neither empty nor a comment."""

    number: int
    """Counted from 1."""
    text: str
    """As it stands in the file, without the blanks around it."""
    pattern: str
    route: str
    """`system` or `custom`; "" where the line is ignored."""
    problem: str = ""
    """Why the whole line is ignored, by every reader; empty if it applies."""

    @property
    def applies(self) -> bool:
        """Whether the line takes part in decisions."""
        return not self.problem


@dataclass(frozen=True)
class Decision:
    """The route of a program, and why."""

    route: str
    line: Line | None
    """The first line that matches, None if none does."""
    why: str
    """In words, a fragment without a full stop."""


def to_bytes(text: str) -> bytes:
    """The bytes that `text` was decoded from."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    """`data` as text from which every byte can be had back."""
    return data.decode("utf-8", "surrogateescape")


def load(root: Root, path: str = LIST_PATH) -> FileState | None:
    """The list at `path` of the tree, None where there is none.

    Never blocks. ExclusionError for what is not a regular file, cannot be read, or is larger than MAX_SIZE.
    """
    try:
        return root.read(path, MAX_SIZE)
    except HostError as error:
        raise ExclusionError(error.what, where=error.where, hint="an exclusion list is a regular text file") from error


def parse(data: bytes) -> tuple[Line, ...]:
    """The lines of the list that are neither empty nor comments, those with a problem included."""
    if data.startswith(BYTE_ORDER_MARK):
        data = data[len(BYTE_ORDER_MARK) :]
    lines = (parse_line(number, text) for number, text in enumerate(to_text(data).split("\n"), start=1))
    return tuple(line for line in lines if line is not None)


def parse_line(number: int, text: str) -> Line | None:
    """What one line says; None if it is empty or a comment."""
    text = text.strip(BLANKS)
    if not text or text[0] in "#;":
        return None
    if "\0" in text:
        return Line(number, text, text, "", "it holds a null byte; the list is plain text, not UTF-16")
    front, word = _split_last(text)
    if front and word == "=":
        return Line(number, text, front, "", f"no route behind the '='; it is one of {', '.join(ROUTES)}")
    pattern, equals = _split_last(front)
    if equals != "=":
        return Line(number, text, text, LISTED_ROUTE)
    if not pattern:
        return Line(number, text, "", "", "no program in front of the '='")
    if word not in ROUTES:
        return Line(number, text, pattern, "", f"{word!r} is no route; it is one of {', '.join(ROUTES)}")
    return Line(number, text, pattern, word)


def decide(lines: Sequence[Line], executable: str) -> Decision:
    """The route that the list gives to `executable`, the absolute path that the kernel reports.

    A bare name is a program whose directory is not known: lines with a `/` do not match it.
    MEMPROXY_ROUTE, which beats the list except in secure processes, is not looked at.
    """
    name = to_bytes(executable)
    for line in lines:
        if line.applies and _matches(to_bytes(line.pattern), name):
            return Decision(line.route, line, f"line {line.number} {_manner(line.pattern)}")
    return Decision(UNLISTED_ROUTE, None, "no line matches")


def matches(pattern: str, executable: str) -> bool:
    """Whether a line with this pattern matches the executable. Takes at most the product of their lengths in steps."""
    return _matches(to_bytes(pattern), to_bytes(executable))


def is_glob(pattern: str) -> bool:
    """Whether the pattern holds `*`, `?`, or a bracket expression that is closed."""
    if not any(special in pattern for special in "*?["):
        return False
    return any(tokens(part) != [frozenset((byte,)) for byte in part] for part in to_bytes(pattern).split(b"/"))


def tokens(component: bytes) -> list[Token]:
    """A pattern between two slashes, as the sets of bytes that its places accept; None for a `*`."""
    found: list[Token] = []
    at = 0
    while at < len(component):
        byte = component[at : at + 1]
        close = bracket_end(component, at) if byte == b"[" else -1
        if close >= 0:
            found.append(_members(component[at + 1 : close]))
            at = close
        elif byte == b"*":
            found.append(None)
        else:
            found.append(ANY_BYTE if byte == b"?" else frozenset(byte))
        at += 1
    return found


def bracket_end(component: bytes, at: int) -> int:
    """Where the `]` stands that closes the bracket expression opened at `at`; -1: the `[` stands for itself."""
    first = at + 2 if component[at + 1 : at + 2] == b"!" else at + 1
    return component.find(b"]", first + 1)  # a ] in the first place is a member


def _members(inside: bytes) -> frozenset[int]:
    negated = inside.startswith(b"!")
    members: set[int] = set()
    at, end = int(negated), len(inside)
    while at < end:
        if at + 2 < end and inside[at + 1] == ord("-"):
            members.update(range(inside[at], inside[at + 2] + 1))
            at += 3
        else:
            members.add(inside[at])
            at += 1
    return ANY_BYTE - members if negated else frozenset(members)


def _matches(pattern: bytes, executable: bytes) -> bool:
    if b"/" not in pattern:
        return _component_matches(pattern, executable[executable.rfind(b"/") + 1 :])
    if not (pattern.startswith(b"/") and executable.startswith(b"/")):
        return False
    wanted, given = pattern.split(b"/"), executable.split(b"/")
    if pattern.endswith(b"/"):
        wanted.pop()
        if not b"/".join(given[len(wanted) :]):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(map(_component_matches, wanted, given))


def _component_matches(pattern: bytes, name: bytes) -> bool:
    if not any(special in pattern for special in b"*?["):
        return pattern == name
    places = tokens(pattern)
    place = at = 0
    star, resume = -1, 0  # the last * passed, and how far it reaches so far
    while at < len(name):
        accepted = places[place] if place < len(places) else frozenset()
        if accepted is None:
            star, resume = place, at
            place += 1
        elif name[at] in accepted:
            place += 1
            at += 1
        elif star >= 0:
            resume += 1
            place, at = star + 1, resume
        else:
            return False
    return all(token is None for token in places[place:])


def _manner(pattern: str) -> str:
    what = "path" if "/" in pattern else "name"
    if pattern.endswith("/"):
        return f"names a directory that it lies in: {pattern}"
    return f"matches its {what}: {pattern}" if is_glob(pattern) else f"is its {what}: {pattern}"


def _split_last(text: str) -> tuple[str, str]:
    """The last word of `text`, and what is in front of it without the blanks between."""
    at = max(text.rfind(blank) for blank in BLANKS) + 1
    return text[:at].rstrip(BLANKS), text[at:]

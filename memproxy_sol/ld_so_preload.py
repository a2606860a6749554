"""/etc/ld.so.preload: its bytes as the GNU C library reads them, our items put in and taken out again.

What is told here was seen with the runtime linkers of glibc 2.36 and read in elf/rtld.c of glibc; the table is in
docs/linux.md, and tests/host/test_ld_so_preload_real.py holds this file to the loaders of the machine it runs on.
Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from memproxy_sol import generation
from memproxy_sol.errors import PreloadFileError

PATH = "/etc/ld.so.preload"
SEPARATORS = b" \t\n:"
"""What stands between items; carriage return, vertical tab and form feed belong to the item."""
_OWN_NEWLINE = b" "
"""How our line begins if the newline before it is ours, too: a file without one at its end gets it back without one."""
_TOKEN = re.compile(r"\$(?:(LIB|ORIGIN|PLATFORM)(?![A-Za-z0-9_])|\{(LIB|ORIGIN|PLATFORM)\})")
_OURS = re.compile(rf"\ufeff?{generation.PLACE.pattern}/\$(?:LIB|\{{LIB\}})/[^/]+")
_GENERATION = re.compile(rb"/lib/memproxy/[0-9a-f]{16}")
_PATH_MAX = 4096
_LONG = 255
_UNWRITABLE = re.compile(rb"[\s:#\0]")


@dataclass(frozen=True)
class Item:
    """One name that the runtime linker tries to load."""

    text: str
    """As it is written, tokens and all; bytes that are not UTF-8 as surrogates."""
    start: int
    end: int
    """Where it lies in the bytes of the file."""


def parse(data: bytes) -> tuple[Item, ...]:
    """The items in the order in which every program loads them, duplicates included."""
    text = _without_comments(data)
    items = []
    tail = _tail(text)
    if tail > 0:
        # The linker ends the list at the first NUL; only what stands behind the last separator is read on its own.
        listed = text[:tail].partition(b"\0")[0]
        items = [Item(_decode(found.group()), *found.span()) for found in re.finditer(rb"[^ \t\n:]+", listed)]
    last = text[tail:].partition(b"\0")[0]
    if last:
        items.append(Item(_decode(last), tail, tail + len(last)))
    return tuple(items)


def put(data: bytes, items: Sequence[str]) -> bytes:
    """`data` with those of `items` that it does not load yet, as one line behind everything else.

    Raises PreloadFileError for an item that cannot be written there, and for a file to which nothing can be added
    without a change to what others have in it.
    """
    for item in items:
        if not item or _UNWRITABLE.search(_encode(item)):
            raise PreloadFileError(
                f"{item!r} cannot be an item: blanks, colons, newlines and # separate items there", where=PATH
            )
    there = [item.text for item in parse(data)]
    missing = [item for item in dict.fromkeys(items) if item not in there]
    if not missing:
        return data
    line = b" ".join(_encode(item) for item in missing) + b"\n"
    result = data + line if not data or data.endswith(b"\n") else data + b"\n" + _OWN_NEWLINE + line
    if _texts(result) != [*there, *missing]:
        if b"\0" in _without_comments(data):
            raise PreloadFileError(
                "a NUL byte ends the list for the runtime linker, so that nothing behind it is loaded",
                where=PATH,
                hint="take the NUL byte out",
            )
        woken = shown(next((text for text in there if text not in _texts(result)), there[0] if there else ""))
        raise PreloadFileError(
            f"the runtime linker reads {woken!r} as an item now, and as part of a comment when the file gets longer",
            where=PATH,
            hint="take the comments out of the file, keep what is to be loaded, and repeat the command",
        )
    return result


def strip(data: bytes, ours: Callable[[str], bool]) -> bytes:
    """`data` without the items of which `ours` says so; a line goes if nothing else stood in it.

    In the midst of others' items just the item and one separator go. Where the shorter file would have the runtime
    linker read others' comments as items, blanks stand for our items instead.
    """
    items = parse(data)
    gone = [item for item in items if ours(item.text)]
    if not gone:
        return data
    kept = [item.text for item in items if not ours(item.text)]
    result = bytearray(data)
    for start, end in reversed(_cuts(data, gone)):
        del result[start:end]
    if _texts(bytes(result)) == kept:
        return bytes(result)
    blank = bytearray(data)
    for item in gone:
        blank[item.start : item.end] = b" " * (item.end - item.start)
    return bytes(blank)


def expand(item: str, lib: str, origin: str | None, platform: str) -> str | None:
    """The path that a runtime linker opens for `item`: tokens are expanded in names with a slash only.

    `lib` is what its `$LIB` stands for, `origin` the directory of the program, `platform` the AT_PLATFORM of the
    machine as the linker takes it. None where that cannot be told: a name without a slash is searched for, and
    `$ORIGIN` stands for nothing if `origin` is None (in set-id programs it leads nowhere). A relative path counts from
    the working directory of each program.
    """
    if "/" not in item:
        return None
    values = {"LIB": lib, "ORIGIN": origin, "PLATFORM": platform}
    parts, end = [], 0
    for found in _TOKEN.finditer(item):
        value = values[found.group(1) or found.group(2)]
        if value is None:
            return None
        parts += [item[end : found.start()], value]
        end = found.end()
    return "".join([*parts, item[end:]])


def is_ours(item: str) -> bool:
    """Whether `item` lies in a generation: `PREFIX/lib/memproxy/GENERATION/$LIB/FILE`.

    Also with the marks that an editor of another system leaves, a byte order mark in front or a carriage return behind:
    such an item is not loaded, but it is still our own.
    """
    return _OURS.fullmatch(item) is not None


def shown(item: str) -> str:
    """An item in a message: a name that is longer than any file's is cut."""
    return item if len(item) <= _LONG else f"{item[:_LONG]}... ({len(item)} characters)"


def generations_named(data: bytes) -> tuple[str, ...]:
    """The directories of generations that the file mentions, in order, once each.

    Comments count: which of them the runtime linker heeds depends on the length of the file, and what an administrator
    has commented out may come back.
    """
    found = []
    for end in (match.end() for match in _GENERATION.finditer(data)):
        # The pattern of a whole path is tried at one place only: at each, it would take hours for a hostile file.
        path = re.split(rb"[:\s\0]", data[max(0, end - _PATH_MAX) : end])[-1]
        named = generation.NAMED.search(path[path.rfind(b"//") + 1 :])
        found += [named.group()] if named else []
    return tuple(dict.fromkeys(_decode(name) for name in found))


def _without_comments(data: bytes) -> bytes:
    """`data` with those comments blanked that the linker finds, and as much of each as it takes for one.

    After each comment the linker looks for the next from the start of the file again, but only as many bytes far as
    lay behind the comment. So a second comment counts only if it begins in the first part of the file, and may end
    before its line does.
    """
    text = bytearray(data)
    rest = len(text)
    while rest > 0:
        comment = text.find(b"#", 0, rest)
        if comment < 0:
            break
        rest -= comment
        newline = text.find(b"\n", comment, comment + rest)
        length = rest if newline < 0 else newline - comment
        text[comment : comment + length] = b" " * length
        rest -= length
    return bytes(text)


def _tail(text: bytes) -> int:
    """Where the last item begins that no separator ends; the length of the text if there is none."""
    return len(text.rstrip(b"".join(bytes([c]) for c in range(256) if c not in SEPARATORS)))


def _cuts(data: bytes, gone: Sequence[Item]) -> list[tuple[int, int]]:
    """The stretches to cut so that the items go: whole lines, or each item with a separator, in order."""
    cuts = []
    by_line: dict[int, list[Item]] = {}
    for item in gone:
        by_line.setdefault(data.rfind(b"\n", 0, item.start) + 1, []).append(item)
    for start, items in by_line.items():
        newline = data.find(b"\n", start)
        end = len(data) if newline < 0 else newline
        rest = bytearray(data[start:end])
        for item in items:
            rest[item.start - start : item.end - start] = b" " * (item.end - item.start)
        if rest.strip(SEPARATORS):
            cuts += [_with_separator(data, item) for item in items]
        elif start > 0 and newline == len(data) - 1 and _begins_with_own_newline(data[start:end]):
            cuts.append((start - 1, len(data)))
        else:
            cuts.append((start, end if newline < 0 else newline + 1))
    return cuts


def _begins_with_own_newline(line: bytes) -> bool:
    return line.startswith(_OWN_NEWLINE) and line[len(_OWN_NEWLINE) :][:1] not in (b"", b" ", b"\t", b":")


def _with_separator(data: bytes, item: Item) -> tuple[int, int]:
    between = b" \t:"
    if data[item.end : item.end + 1] and data[item.end] in between:
        return item.start, item.end + 1
    if item.start > 0 and data[item.start - 1] in between:
        return item.start - 1, item.end
    return item.start, item.end


def _texts(data: bytes) -> list[str]:
    return [item.text for item in parse(data)]


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

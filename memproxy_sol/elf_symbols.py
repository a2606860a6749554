"""Which of some names the symbol tables of an ELF file define, local names included, where a table is left.

elf.py reads what a runtime linker reads. This is for what it never sees: `.symtab`, which strip(1) removes, and
Solaris' `.SUNW_ldynsym`, the local functions that strip leaves. Section headers may lie; each range is held against
the file.

Sources: System V ABI, "Sections" and "Symbol Table"; Linker and Libraries Guide, "Section Headers" (SHT_SUNW_LDYNSYM).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection
from typing import BinaryIO

from memproxy_sol.errors import ElfError

_SHT_SYMTAB, _SHT_SUNW_LDYNSYM = 2, 0x6FFFFFF3
_FUNCTIONS = (0, 2, 10)  # STT_NOTYPE (assembler), STT_FUNC, STT_GNU_IFUNC
_MOST_SECTIONS = 1 << 16
_MOST_BYTES = 1 << 29  # of one table


def defined(stream: BinaryIO, where: str, names: Collection[str], parts: Collection[str] = ()) -> frozenset[str]:
    """Those of `names`, and of `parts` of (mangled) names, that a function of a symbol table has; none without a table.

    `stream` is an ELF file that elf.py has found sound. Raises ElfError where a table leads out of the file, OSError.
    """
    return _Tables(stream, where).defined(names, parts)


class _Tables:
    def __init__(self, stream: BinaryIO, where: str) -> None:
        self._stream, self._where = stream, where
        self._size = os.fstat(stream.fileno()).st_size
        head = self._bytes(0, 20)
        self._wide, self._order = head[4] == 2, "<" if head[5] == 1 else ">"

    def defined(self, names: Collection[str], parts: Collection[str]) -> frozenset[str]:
        found: set[str] = set()
        sections = self._sections()
        for kind, link, offset, size in sections:
            if kind in (_SHT_SYMTAB, _SHT_SUNW_LDYNSYM) and link < len(sections):
                strings = self._bytes(*sections[link][2:])
                found |= self._among(self._bytes(offset, size), _places(strings, names, parts))
        return frozenset(found)

    def _bytes(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            raise ElfError(f"truncated: a table of sections at offset {offset} has {size} bytes", where=self._where)
        if size > _MOST_BYTES:
            raise ElfError(f"a symbol table of {size} bytes, more than {_MOST_BYTES}", where=self._where)
        self._stream.seek(offset)
        return self._stream.read(size)

    def _sections(self) -> list[tuple[int, int, int, int]]:
        """Type, link, offset and size of each section."""
        head = self._bytes(0, 64 if self._wide else 52)
        (start,) = struct.unpack_from(self._order + ("Q" if self._wide else "I"), head, 40 if self._wide else 32)
        width, count = struct.unpack_from(self._order + "HH", head, 58 if self._wide else 46)
        layout = struct.Struct(self._order + ("IIQQQQIIQQ" if self._wide else "10I"))
        if start == 0 or width != layout.size:
            return []
        if count == 0:  # then the first entry has it
            count = min(layout.unpack(self._bytes(start, width))[5], _MOST_SECTIONS)
        rows = layout.iter_unpack(self._bytes(start, count * width))
        return [(row[1], row[6], row[4], row[5]) for row in rows]

    def _among(self, table: bytes, places: dict[int, str]) -> set[str]:
        if not places:
            return set()
        layout = struct.Struct(self._order + ("IBBHQQ" if self._wide else "IIIBBH"))
        kind, section = (1, 3) if self._wide else (3, 5)
        whole = memoryview(table)[: len(table) // layout.size * layout.size]
        return {
            places[row[0]]
            for row in layout.iter_unpack(whole)
            if row[0] in places and row[section] != 0 and row[kind] & 15 in _FUNCTIONS
        }


def _places(strings: bytes, names: Collection[str], parts: Collection[str]) -> dict[int, str]:
    """Where in a string table a name stands: also as the end of a longer one, whose bytes linkers let it share."""
    found: dict[int, str] = {}
    for name in names:
        for match in re.finditer(re.escape(name.encode()) + b"\0", strings):
            found[match.start()] = name
    for part in parts:
        for match in re.finditer(re.escape(part.encode()), strings):
            found[strings.rfind(b"\0", 0, match.start()) + 1] = part
    return found

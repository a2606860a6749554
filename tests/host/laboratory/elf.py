"""ELF: what the runtime linker looks at in an object, and small objects to start with.

Written from the ELF specification (gABI chapters 4 and 5); no code is in the objects made here. Where a processor
starts a program of the laboratory (tests/host/chroot.py), all the code is in the runtime linker that the program names.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

CLASS = {1: 32, 2: 64}
EXECUTABLE, SHARED = 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
LINKERS = {32: "/usr/lib/ld.so.1", 64: "/lib/64/ld.so.1"}
"""What a program names as its runtime linker."""
_BASES = {32: 0x8050000, 64: 0x400000}
"""Where a program, which is not relocated, is mapped."""
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT = 1, 4, 5, 6, 10, 11
DT_SONAME, DT_RPATH, DT_RUNPATH = 14, 15, 29
SHT_DYNSYM = 11
MACHINE_NAMES = {2: "EM_SPARC", 3: "EM_386", 18: "EM_SPARC32PLUS", 43: "EM_SPARCV9", 62: "EM_AMD64", 183: "EM_AARCH64"}


class BadObject(Exception):
    """The words with which ld.so.1 rejects a file: `unknown file type`, `Bad address`."""


@dataclass(frozen=True)
class Header:
    """The first bytes of an object."""

    bits: int
    order: str
    type: int
    machine: int


@dataclass(frozen=True)
class Object:
    """What the runtime linker reads of a shared object."""

    header: Header
    soname: str | None
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    exports: frozenset[str]
    """Names of the functions and variables that it defines for others."""


def header(data: bytes) -> Header:
    """The identification; raises BadObject for what is no ELF object."""
    if len(data) < 52 or data[:4] != b"\x7fELF" or data[4] not in CLASS or data[5] not in (1, 2):
        raise BadObject("unknown file type")
    order = "<" if data[5] == 1 else ">"
    kind, machine = struct.unpack_from(f"{order}HH", data, 16)
    return Header(CLASS[data[4]], order, kind, machine)


def read(data: bytes) -> Object:
    """A shared object; raises BadObject where mapping it would fail."""
    head = header(data)
    order, wide = head.order, head.bits == 64
    try:
        if wide:
            phoff, shoff = struct.unpack_from(f"{order}QQ", data, 32)
            _, phentsize, phnum, shentsize, shnum = struct.unpack_from(f"{order}HHHHH", data, 52)
        else:
            phoff, shoff = struct.unpack_from(f"{order}II", data, 28)
            _, phentsize, phnum, shentsize, shnum = struct.unpack_from(f"{order}HHHHH", data, 40)
        loads, dynamic = [], None
        for at in range(phoff, phoff + phnum * phentsize, phentsize):
            if wide:
                kind, _, offset, address, _, size, _, _ = struct.unpack_from(f"{order}IIQQQQQQ", data, at)
            else:
                kind, offset, address, _, size, _, _, _ = struct.unpack_from(f"{order}IIIIIIII", data, at)
            if kind == PT_LOAD:
                loads.append((address, offset, size))
            elif kind == PT_DYNAMIC:
                dynamic = offset, size
        if not loads or any(offset + size > len(data) for _, offset, size in loads):
            raise BadObject("Bad address")
        return Object(head, *_dynamic(data, head, loads, dynamic, (shoff, shentsize, shnum)))
    except (struct.error, IndexError, ValueError):
        raise BadObject("Bad address") from None


def _dynamic(
    data: bytes,
    head: Header,
    loads: Sequence[tuple[int, int, int]],
    dynamic: tuple[int, int] | None,
    sections: tuple[int, int, int],
) -> tuple[str | None, tuple[str, ...], tuple[str, ...], frozenset[str]]:
    """Soname, needed, runpath and exports from the dynamic section."""
    if dynamic is None:
        return None, (), (), frozenset()
    order, wide = head.order, head.bits == 64
    entry = struct.Struct(f"{order}QQ" if wide else f"{order}II")
    entries: list[tuple[int, int]] = []
    for tag, value in entry.iter_unpack(data[dynamic[0] : dynamic[0] + dynamic[1] // entry.size * entry.size]):
        if tag == 0:
            break
        entries.append((tag, value))
    tags = dict(reversed(entries))

    def at(address: int) -> int:
        for start, offset, size in loads:
            if start <= address < start + size:
                return address - start + offset
        raise BadObject("Bad address")

    if DT_STRTAB not in tags:
        return None, (), (), frozenset()
    strings = at(tags[DT_STRTAB])

    def text(index: int) -> str:
        start = strings + index
        return data[start : data.index(b"\0", start)].decode("utf-8", "surrogateescape")

    soname = text(tags[DT_SONAME]) if DT_SONAME in tags else None
    runpath = text(tags.get(DT_RUNPATH, tags.get(DT_RPATH, 0))) if {DT_RUNPATH, DT_RPATH} & tags.keys() else ""
    count = 0
    if DT_HASH in tags:
        count = struct.unpack_from(f"{order}II", data, at(tags[DT_HASH]))[1]
    else:
        offset, size, number = sections
        for section in range(offset, offset + size * number, size or 1):
            if struct.unpack_from(f"{order}I", data, section + 4)[0] == SHT_DYNSYM:
                length = struct.unpack_from(f"{order}Q" if wide else f"{order}I", data, section + (32 if wide else 20))
                count = length[0] // (24 if wide else 16)
    exports = set()
    symbols = at(tags[DT_SYMTAB]) if DT_SYMTAB in tags else 0
    for index in range(1, count):
        if wide:
            name, info, _, section = struct.unpack_from(f"{order}IBBH", data, symbols + index * 24)
        else:
            name, _, _, info, _, section = struct.unpack_from(f"{order}IIIBBH", data, symbols + index * 16)
        if section != 0 and info >> 4 in (1, 2):  # defined, global or weak
            exports.add(text(name))
    needed = tuple(text(value) for tag, value in entries if tag == DT_NEEDED)
    return soname, needed, tuple(part for part in runpath.split(":") if part), frozenset(exports)


def write(
    bits: int,
    machine: int,
    *,
    order: str = "<",
    type: int = SHARED,
    soname: str = "",
    needed: Sequence[str] = (),
    runpath: str = "",
    exports: Sequence[str] = (),
) -> bytes:
    """An object with just these properties; one loadable segment over the whole file."""
    wide = bits == 64
    interpreter = LINKERS[bits].encode() + b"\0" if type == EXECUTABLE else b""
    base = _BASES[bits] if type == EXECUTABLE else 0
    strings = bytearray(b"\0")

    def put(text: str) -> int:
        strings.extend(text.encode("utf-8", "surrogateescape") + b"\0")
        return len(strings) - len(text.encode("utf-8", "surrogateescape")) - 1

    tags = [(DT_NEEDED, put(name)) for name in needed]
    if soname:
        tags.append((DT_SONAME, put(soname)))
    if runpath:
        tags.append((DT_RUNPATH, put(runpath)))
    names = [put(name) for name in exports]
    ehsize, phsize, symsize, dynsize = (64, 56, 24, 16) if wide else (52, 32, 16, 8)
    count = 3 if interpreter else 2
    linker = ehsize + count * phsize
    symtab = (linker + len(interpreter) + 7) // 8 * 8
    hashes = symtab + symsize * (len(names) + 1)
    dynamic = (hashes + 4 * (2 + 1 + len(names) + 1) + 7) // 8 * 8
    strtab = dynamic + dynsize * (len(tags) + 6)
    tags += [(DT_HASH, base + hashes), (DT_STRTAB, base + strtab), (DT_SYMTAB, base + symtab)]
    tags += [(DT_STRSZ, len(strings)), (DT_SYMENT, symsize), (0, 0)]
    total = strtab + len(strings)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    word = "Q" if wide else "I"
    out = bytearray(total)
    struct.pack_into(
        f"{order}16sHHI{word}{word}{word}IHHHHHH",
        out, 0, ident, type, machine, 1, 0, ehsize, 0, 0, ehsize, phsize, count, 0, 0, 0,
    )  # fmt: skip
    segments = [(PT_INTERP, linker, len(interpreter))] if interpreter else []
    segments += [(PT_LOAD, 0, total), (PT_DYNAMIC, dynamic, dynsize * len(tags))]
    for index, (kind, offset, size) in enumerate(segments):
        place = ehsize + index * phsize
        address = base + offset
        if wide:
            struct.pack_into(f"{order}IIQQQQQQ", out, place, kind, 5, offset, address, address, size, size, 8)
        else:
            struct.pack_into(f"{order}IIIIIIII", out, place, kind, offset, address, address, size, size, 5, 8)
    out[linker : linker + len(interpreter)] = interpreter
    for index, name in enumerate(names, 1):
        place = symtab + index * symsize
        if wide:
            struct.pack_into(f"{order}IBBHQQ", out, place, name, 0x12, 0, 1, 0, 0)
        else:
            struct.pack_into(f"{order}IIIBBH", out, place, name, 0, 0, 0x12, 0, 1)
    struct.pack_into(f"{order}II", out, hashes, 1, len(names) + 1)
    for index, (tag, value) in enumerate(tags):
        struct.pack_into(f"{order}{word}{word}", out, dynamic + index * dynsize, tag, value)
    out[strtab:] = strings
    return bytes(out)

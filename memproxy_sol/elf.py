"""What a library is: class, machine, dependencies, exports and what it asks of the runtime linker.

Everything is read through the program headers and the dynamic section, as a runtime linker reads it: section headers
may be absent or lie. pyelftools is imported only when a file is read. Tables are checked against the file's size
before they are walked, so that a damaged or hostile file costs no more than a sound one of its size.

Sources: System V ABI, "Object Files" and "Dynamic Linking"; the GNU and Sun symbol versioning sections, which have one
layout (Linker and Libraries Guide, "Version Definition Section"); note segments, System V ABI, "Note Section".
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from memproxy_sol.errors import ElfError, MemproxyError

KINDS = {1: "relocatable", 2: "executable", 3: "shared", 4: "core"}
"""e_type in words. A position-independent executable is "shared" with an interpreter."""

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_TLS = 1, 2, 3, 4, 7
PF_X, PF_W = 1, 2
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SONAME, DT_RPATH = 1, 4, 5, 6, 10, 14, 15
DT_TEXTREL, DT_RUNPATH, DT_FLAGS, DT_GNU_HASH = 22, 29, 30, 0x6FFFFEF5
DT_VERSYM, DT_FLAGS_1 = 0x6FFFFFF0, 0x6FFFFFFB
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
DF_TEXTREL = 4
DF_1_NOW, DF_1_NODELETE, DF_1_INTERPOSE = 1, 8, 0x400

_SHN_ABS = 0xFFF1
_STB_LOCAL, _STB_WEAK = 0, 2
_HIDDEN = (1, 2)  # STV_INTERNAL, STV_HIDDEN
_VER_FLG_BASE = 1

# Far above what linkers write, far below what would hurt; a table is also never longer than the file.
_MOST_ENTRIES = 1 << 16  # dynamic, version and note entries
_MOST_SYMBOLS = 1 << 20
_MOST_BYTES = 1 << 28  # one table
_NAME_SLACK = 1 << 20  # names may share bytes of the string table, but not without limit


@dataclass(frozen=True)
class Symbol:
    """One dynamic symbol; `version`, and the `library` that must define an import, are None where unversioned."""

    name: str
    version: str | None = None
    library: str | None = None
    weak: bool = False


@dataclass(frozen=True)
class Library:
    """One ELF file as its runtime linker sees it. Text is decoded with UTF-8 and surrogate escapes."""

    path: str
    bits: int
    machine: int
    """e_machine."""
    byte_order: str
    """`little` or `big`."""
    os_abi: int
    """EI_OSABI: 0 none (System V), 3 Linux, 6 Solaris."""
    kind: str
    """A value of KINDS, or `type N`."""
    interpreter: str | None
    soname: str | None
    needed: tuple[str, ...]
    rpath: str | None
    runpath: str | None
    defined: tuple[Symbol, ...]
    imports: tuple[Symbol, ...]
    exports: frozenset[str]
    """The names of `defined`."""
    versions_needed: tuple[tuple[str, str], ...]
    """(library, version) pairs in file order."""
    versions_defined: tuple[str, ...]
    text_relocations: bool
    tls: bool
    writable_and_executable: bool
    """A segment is both writable and executable (a PT_GNU_STACK header is not counted)."""
    hash_styles: frozenset[str]
    """`sysv`, `gnu`."""
    notes: tuple[tuple[str, int], ...]
    """(owner, type) of each note in a note segment."""
    segments: frozenset[int]
    """The p_type values present."""
    dynamic: tuple[tuple[int, int], ...]
    """(d_tag, d_val) in file order, without the DT_NULL at the end."""
    flags_1: int
    """DT_FLAGS_1: DF_1_NOW, DF_1_NODELETE, DF_1_INTERPOSE ..."""


def read(path: str | os.PathLike[str]) -> Library:
    """Read the ELF file `path`. Raises ElfError, and nothing else, if it is not a readable, well-formed ELF file."""
    where = os.fspath(path)
    try:
        stream = _open(where)
    except OSError as error:
        raise ElfError(f"cannot be read: {error.strerror}", where=where) from None
    except ValueError as error:
        raise ElfError(f"cannot be read: {error}", where=where) from None
    with stream:
        try:
            return _Reader(stream, where).library()
        except MemproxyError:
            raise  # ours, or a signal that has come meanwhile: no damage of the file
        except Exception as error:
            # pyelftools raises whatever a damaged byte leads it to (construct errors, KeyError, UnicodeError ...).
            raise ElfError(f"damaged ELF file: {error or type(error).__name__}", where=where) from error


def _open(where: str) -> BinaryIO:
    """Open a regular file; a FIFO must not block, a device must not be touched."""
    descriptor = os.open(where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = "directory" if stat.S_ISDIR(mode) else "FIFO" if stat.S_ISFIFO(mode) else "special file"
            raise ElfError(f"is a {kind}, not an ELF file", where=where)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


class _Reader:
    """The state of reading one file; every offset is checked against the file's size before it is followed."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self.stream = stream
        self.where = where
        self.size = os.fstat(stream.fileno()).st_size

    def fail(self, what: str) -> ElfError:
        return ElfError(what, where=self.where)

    def library(self) -> Library:
        ident = self.stream.read(20)
        if ident[:4] != b"\x7fELF":
            raise self.fail("is not an ELF file" if ident else "is empty, not an ELF file")
        if len(ident) < 20:
            raise self.fail("truncated in the ELF header")
        if ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise self.fail(f"unknown ELF class {ident[4]} or data encoding {ident[5]}")
        self.bits = 32 * ident[4]
        self.byte_order = ("little", "big")[ident[5] - 1]
        self.order = "<>"[ident[5] - 1]
        kind, machine = struct.unpack_from(self.order + "HH", ident, 16)

        self.headers = self._program_headers()
        self.loads = [header for header in self.headers if header["p_type"] == PT_LOAD]
        dynamic = self._dynamic()
        self.tags = dict(dynamic)  # of a tag that stands twice loaders take the last
        self._load_strings()
        self.version_entries = 0
        self.version_of: dict[int, tuple[str, str | None]] = {}
        versions_defined = self._versions_defined()
        versions_needed = self._versions_needed()
        defined, imports = self._symbols(versions_defined)
        return Library(
            path=self.where,
            bits=self.bits,
            machine=machine,
            byte_order=self.byte_order,
            os_abi=ident[7],
            kind=KINDS.get(kind, f"type {kind}"),
            interpreter=self._interpreter(),
            soname=self._optional_name(DT_SONAME),
            needed=tuple(self.name(value) for tag, value in dynamic if tag == DT_NEEDED),
            rpath=self._optional_name(DT_RPATH),
            runpath=self._optional_name(DT_RUNPATH),
            defined=defined,
            imports=imports,
            exports=frozenset(symbol.name for symbol in defined),
            versions_needed=versions_needed,
            versions_defined=versions_defined,
            text_relocations=DT_TEXTREL in self.tags or bool(self.tags.get(DT_FLAGS, 0) & DF_TEXTREL),
            tls=any(header["p_type"] == PT_TLS for header in self.headers),
            writable_and_executable=any(header["p_flags"] & (PF_W | PF_X) == PF_W | PF_X for header in self.loads),
            hash_styles=frozenset(
                style for style, tag in (("sysv", DT_HASH), ("gnu", DT_GNU_HASH)) if tag in self.tags
            ),
            notes=self._notes(),
            segments=frozenset(header["p_type"] for header in self.headers),
            dynamic=tuple(dynamic),
            flags_1=self.tags.get(DT_FLAGS_1, 0),
        )

    # -- the file as bytes

    def _inside(self, offset: int, length: int, what: str) -> None:
        if offset + length > self.size:
            raise self.fail(f"truncated: {what} at offset {offset} needs {length} bytes, the file has {self.size}")

    def _bytes(self, offset: int, length: int, what: str) -> bytes:
        self._inside(offset, length, what)
        if length > _MOST_BYTES:
            raise self.fail(f"{what} has {length} bytes, more than {_MOST_BYTES}")
        self.stream.seek(offset)
        data = self.stream.read(length)
        if len(data) != length:
            raise self.fail(f"changed while {what} was read")
        return data

    def _parse(self, structure: Any, offset: int, what: str) -> Any:
        from elftools.common.utils import struct_parse

        self._inside(offset, structure.sizeof(), what)
        return struct_parse(structure, self.stream, offset)

    def _word(self, offset: int, what: str) -> int:
        return int(struct.unpack(self.order + "I", self._bytes(offset, 4, what))[0])

    def _offset(self, address: int, what: str) -> int:
        """The file offset of what the dynamic section gives as an address."""
        for header in self.loads:
            if header["p_vaddr"] <= address < header["p_vaddr"] + header["p_filesz"]:
                return header["p_offset"] + address - header["p_vaddr"]
        raise self.fail(f"{what} at address {address:#x} lies in no loadable segment")

    # -- headers and segments

    def _program_headers(self) -> list[dict[str, int]]:
        from elftools.elf.structs import ELFStructs

        self.structs: Any = ELFStructs(little_endian=self.byte_order == "little", elfclass=self.bits)
        self.structs.create_basic_structs()
        self.structs.create_advanced_structs()
        header = self._parse(self.structs.Elf_Ehdr, 0, "the ELF header")
        count, size, start = header["e_phnum"], header["e_phentsize"], header["e_phoff"]
        if count == 0:
            return []
        if size != self.structs.Elf_Phdr.sizeof():
            raise self.fail(f"program headers have {size} bytes each, not {self.structs.Elf_Phdr.sizeof()}")
        self._inside(start, count * size, "the program headers")
        headers = []
        for offset in range(start, start + count * size, size):
            entry = self._parse(self.structs.Elf_Phdr, offset, "a program header")
            fields = {key: int(entry[key]) for key in ("p_offset", "p_vaddr", "p_filesz", "p_flags", "p_align")}
            # pyelftools gives the type as a name that depends on the machine; the number is the first word.
            headers.append({**fields, "p_type": self._word(offset, "a program header")})
        return headers

    def _segments(self, kind: int, what: str) -> list[tuple[dict[str, int], bytes]]:
        return [
            (header, self._bytes(header["p_offset"], header["p_filesz"], what))
            for header in self.headers
            if header["p_type"] == kind
        ]

    def _interpreter(self) -> str | None:
        segments = self._segments(PT_INTERP, "the interpreter's name")
        return _text(segments[0][1].split(b"\0", 1)[0]) if segments else None

    def _notes(self) -> tuple[tuple[str, int], ...]:
        notes: list[tuple[str, int]] = []
        for header, data in self._segments(PT_NOTE, "a note segment"):
            align = 8 if header["p_align"] == 8 else 4
            at = 0
            while at + 12 <= len(data):
                name_size, size, kind = struct.unpack_from(self.order + "III", data, at)
                at += 12
                content = -(-(at + name_size) // align) * align
                if content + size > len(data) or len(notes) >= _MOST_ENTRIES:
                    raise self.fail(f"a note in the note segment at offset {header['p_offset']} exceeds it")
                notes.append((_text(data[at : at + name_size].rstrip(b"\0")), kind))
                at = -(-(content + size) // align) * align
        return tuple(notes)

    # -- the dynamic section

    def _dynamic(self) -> list[tuple[int, int]]:
        entries: list[tuple[int, int]] = []
        for _, data in self._segments(PT_DYNAMIC, "the dynamic section")[:1]:
            entry = struct.Struct(self.order + ("II" if self.bits == 32 else "QQ"))
            usable = len(data) - len(data) % entry.size
            for tag, value in entry.iter_unpack(memoryview(data)[:usable]):
                if tag == 0:
                    break
                if len(entries) >= _MOST_ENTRIES:
                    raise self.fail(f"the dynamic section has more than {_MOST_ENTRIES} entries")
                entries.append((tag, value))
        return entries

    def _load_strings(self) -> None:
        self.strings = b""
        if DT_STRTAB in self.tags:
            what = "the dynamic string table"
            self.strings = self._bytes(self._offset(self.tags[DT_STRTAB], what), self.tags.get(DT_STRSZ, 0), what)
        self.names: dict[int, str] = {}
        self.names_left = 8 * len(self.strings) + _NAME_SLACK

    def name(self, offset: int) -> str:
        """The text at `offset` of the dynamic string table."""
        known = self.names.get(offset)
        if known is not None:
            return known
        end = self.strings.find(b"\0", offset) if offset < len(self.strings) else -1
        if end < 0:
            raise self.fail(f"a name at offset {offset} of the dynamic string table of {len(self.strings)} bytes")
        self.names_left -= end - offset
        if self.names_left < 0:
            raise self.fail("the names in the dynamic string table overlap beyond reason")
        text = self.names[offset] = _text(self.strings[offset:end])
        return text

    def _optional_name(self, tag: int) -> str | None:
        return self.name(self.tags[tag]) if tag in self.tags else None

    # -- versions

    def _chain(self, structure: Any, start: int, count: int, next_field: str, what: str) -> list[tuple[int, Any]]:
        """The (offset, entry) pairs of a list whose entries say how far away the next one is."""
        entries: list[tuple[int, Any]] = []
        for _ in range(count):
            self.version_entries += 1
            if self.version_entries > _MOST_ENTRIES:
                raise self.fail(f"more than {_MOST_ENTRIES} version entries")
            entry = self._parse(structure, start, what)
            entries.append((start, entry))
            if entry[next_field] == 0:
                break
            start += entry[next_field]
        return entries

    def _versions_defined(self) -> tuple[str, ...]:
        versions: list[str] = []
        if DT_VERDEF in self.tags:
            what = "a version definition"
            start = self._offset(self.tags[DT_VERDEF], what)
            count = self.tags.get(DT_VERDEFNUM, 0)
            for offset, entry in self._chain(self.structs.Elf_Verdef, start, count, "vd_next", what):
                own = self._parse(self.structs.Elf_Verdaux, offset + entry["vd_aux"], what)
                if not entry["vd_flags"] & _VER_FLG_BASE:
                    versions.append(self.name(own["vda_name"]))
                    self.version_of[entry["vd_ndx"]] = (versions[-1], None)
        return tuple(versions)

    def _versions_needed(self) -> tuple[tuple[str, str], ...]:
        versions: list[tuple[str, str]] = []
        if DT_VERNEED in self.tags:
            what = "a version requirement"
            start = self._offset(self.tags[DT_VERNEED], what)
            count = self.tags.get(DT_VERNEEDNUM, 0)
            for offset, entry in self._chain(self.structs.Elf_Verneed, start, count, "vn_next", what):
                library = self.name(entry["vn_file"])
                first = offset + entry["vn_aux"]
                for _, item in self._chain(self.structs.Elf_Vernaux, first, entry["vn_cnt"], "vna_next", what):
                    version = self.name(item["vna_name"])
                    versions.append((library, version))
                    self.version_of[item["vna_other"] & 0x7FFF] = (version, library)
        return tuple(versions)

    # -- symbols

    def _symbol_count(self) -> int:
        if DT_HASH in self.tags:
            what = "the hash table"
            return self._word(self._offset(self.tags[DT_HASH], what) + 4, what)
        if DT_GNU_HASH not in self.tags:
            return 0
        what = "the GNU hash table"
        start = self._offset(self.tags[DT_GNU_HASH], what)
        bucket_count, first, bloom_words, _ = struct.unpack(self.order + "4I", self._bytes(start, 16, what))
        buckets = start + 16 + bloom_words * (self.bits // 8)
        data = self._bytes(buckets, 4 * bucket_count, what)
        last = max(struct.unpack(f"{self.order}{bucket_count}I", data), default=0)
        if last < first:
            return int(first)
        chain = buckets + 4 * bucket_count
        while not self._word(chain + 4 * (last - first), what) & 1:  # the last of a chain has its lowest bit set
            last += 1
            if last > _MOST_SYMBOLS:
                break
        return int(last) + 1

    def _symbols(self, versions_defined: tuple[str, ...]) -> tuple[tuple[Symbol, ...], tuple[Symbol, ...]]:
        if DT_SYMTAB not in self.tags:
            return (), ()
        count = self._symbol_count()
        if count > _MOST_SYMBOLS:
            raise self.fail(f"more than {_MOST_SYMBOLS} dynamic symbols")
        entry = struct.Struct(self.order + ("IIIBBH" if self.bits == 32 else "IBBHQQ"))
        what = "the dynamic symbol table"
        table = self._bytes(self._offset(self.tags[DT_SYMTAB], what), count * entry.size, what)
        versions: tuple[int, ...] = (1,) * count
        if DT_VERSYM in self.tags:
            data = self._bytes(
                self._offset(self.tags[DT_VERSYM], "the symbol versions"), 2 * count, "the symbol versions"
            )
            versions = struct.unpack(f"{self.order}{count}H", data)
        defined: list[Symbol] = []
        imports: list[Symbol] = []
        for fields, version_index in zip(entry.iter_unpack(table), versions):
            name_at, info, other, section = (
                (fields[0], fields[3], fields[4], fields[5]) if self.bits == 32 else fields[:4]
            )
            name = self.name(name_at) if name_at else ""
            if not name or info >> 4 == _STB_LOCAL or other & 3 in _HIDDEN:
                continue
            version, library = self.version_of.get(version_index & 0x7FFF, (None, None))
            symbol = Symbol(name, version, library, info >> 4 == _STB_WEAK)
            if section == 0:
                imports.append(symbol)
            elif not (section == _SHN_ABS and name in versions_defined):  # some linkers add a symbol for each version
                defined.append(symbol)
        return tuple(defined), tuple(imports)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")

"""Carried: what one ELF file tells of an allocator of its own: exported, local, embedded, or chosen by its imports.

`look` reads and judges nothing beyond this one file; scan.py puts files together. Proof is a symbol that the file
defines. A text in the file is a hint: stripped programs have nothing else left.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from typing import BinaryIO

from memproxy_sol import allocator, elf, elf_symbols
from memproxy_sol.errors import ElfError
from memproxy_sol.route_record import LIBRARY

PROGRAM, STATIC, SHARED = "program", "static", "library"

PLAIN = ("malloc", "free")
"""Who defines both can serve a process; one of them alone is a wrapper, or something else of that name."""

_FAMILY_NAMES = {
    "jemalloc": ("mallocx", "je_malloc", "_rjem_malloc", "_rjem_mallocx", "je_arena_palloc", "je_arena_init"),
    "mimalloc": ("mi_malloc", "_mi_malloc_generic"),
    "tcmalloc": ("tc_malloc", "TCMallocInternalMalloc"),
    "TBB malloc": ("scalable_malloc",),
    "rpmalloc": ("rpmalloc",),
    "snmalloc": ("sn_malloc",),
    "hardened_malloc": ("h_malloc",),
    "ltalloc": ("ltmalloc",),
    "Hoard": ("xxmalloc",),
    "libumem": ("umem_alloc",),
}
"""Functions that only this allocator defines: private names, and functions of its inside that a symbol table keeps."""

_FAMILY_PARTS = {
    "_ZN15partition_alloc": "PartitionAlloc",
    "_ZN8snmalloc": "snmalloc",
    "_ZN8tcmalloc": "tcmalloc",
    "_ZN5scudo": "Scudo",
}
"""Namespaces in mangled names (Itanium C++ ABI, section 5.1)."""

_TEXTS = {
    b"<jemalloc>: ": "jemalloc",
    b"mimalloc: error: ": "mimalloc",
    b"tcmalloc: large alloc ": "tcmalloc",
    b"tcmalloc: allocation failed": "tcmalloc",
    b"PartitionAllocBackupRefPtr": "PartitionAlloc",
    b"Scudo ERROR: ": "Scudo",
    b"fatal allocator error: ": "hardened_malloc",
}
"""Beginnings of messages that these allocators print; of PartitionAlloc the name of a switch that its users have."""

_DEEPBIND = b"DEEPBIND"
_SANITIZERS = frozenset(f"__{name}_init" for name in ("asan", "tsan", "lsan", "msan", "hwasan", "memprof", "nsan"))
_SYSTEM = re.compile(r"libc\.so(\.\d+)?|libc\.musl-.*|libc_malloc_debug\.so\.\d+|ld(64|-.*)?\.so(\.\d+)*|ld-musl-.*")
_DF_1_PIE = 0x08000000
_DT_SYMBOLIC, _DF_SYMBOLIC = 16, 2
_CHUNK = 1 << 22
_MOST_SEARCHED = 1 << 30


@dataclass(frozen=True)
class Carried:
    """What one file says. Paths and names are text of this machine's encoding."""

    kind: str
    """PROGRAM, STATIC (no runtime linker reads it a preload list) or SHARED."""
    bits: int
    machine: int
    name: str
    """The soname, the file's own name without one."""
    needed: tuple[str, ...] = ()
    exported: tuple[str, ...] = ()
    """Of PLAIN, what it exports."""
    local: tuple[str, ...] = ()
    """Of PLAIN, what only its symbol table defines."""
    families: tuple[tuple[str, str], ...] = ()
    """Known allocators inside, each with how it is known."""
    private: tuple[tuple[str, str], ...] = ()
    """Known allocators whose private names it imports, each with the first such name."""
    opens: tuple[str, ...] = ()
    """Of `dlopen` and `dlmopen`, what it imports."""
    deepbind: bool = False
    """It imports dlopen and holds the text DEEPBIND."""
    symbolic: bool = False
    """Its references are bound to its own definitions first (-Bsymbolic)."""
    sanitizer: bool = False
    system: bool = False
    """It is the C library, its runtime linker, or libmemproxy."""
    go: bool = False
    cut: str = ""
    """What of it was not looked at, and why."""

    @property
    def serves(self) -> bool:
        """Whether it exports what a process can be served by."""
        return self.exported == PLAIN

    @property
    def says(self) -> bool:
        """Whether anything has to be told of it that has an allocator for its subject."""
        return self.serves or self.local == PLAIN or bool(self.families)


def look(path: str) -> Carried | None:
    """What the file `path` says; None if it is no program or shared object. Raises ElfError for one that is damaged.

    OSError where it cannot be opened or has gone. Never blocks and opens nothing but regular files.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None  # to open a device, which a process may have mapped, can do something
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        head = stream.read(20)
        if head[:4] != b"\x7fELF":
            return None
        kind = int.from_bytes(head[16:18], "big" if head[5:6] == b"\2" else "little")
        if len(head) == 20 and kind not in (2, 3):
            return None  # an object file, a kernel module, a core
        return _judged(elf.read(path), stream, path)


def _judged(library: elf.Library, stream: BinaryIO, path: str) -> Carried:
    imports = {symbol.name for symbol in library.imports}
    exported = tuple(name for name in PLAIN if name in library.exports)
    names = {name: family for family, known in _FAMILY_NAMES.items() for name in known}
    families: dict[str, str] = {}
    for name, family in names.items():
        if name in library.exports:
            families.setdefault(family, f"exports {name}")
    name, cut, local = library.soname or os.path.basename(path), "", frozenset[str]()
    system = bool(_SYSTEM.fullmatch(name)) or name == LIBRARY
    opens = tuple(name for name in ("dlopen", "dlmopen") if name in imports)
    try:
        local = elf_symbols.defined(stream, path, (*PLAIN, *names), _FAMILY_PARTS)
    except ElfError as error:
        cut = error.what
    for name_found in sorted(local):
        inside = names.get(name_found) or _FAMILY_PARTS.get(name_found)
        if inside is not None:
            families.setdefault(inside, f"its symbol table has {name_found}")
    wanted = dict.fromkeys(_TEXTS, "") if not system else {}
    texts, whole = _texts(stream, [*wanted, *([_DEEPBIND] if opens else [])])
    for text, family in _TEXTS.items():
        if text in texts:
            families.setdefault(family, f'text "{text.decode().strip()}"')
    if not whole:
        cut = f"only {_MOST_SEARCHED >> 20} MiB of it were searched for texts"
    return Carried(
        kind=_kind(library),
        bits=library.bits,
        machine=library.machine,
        name=name,
        needed=tuple(os.path.basename(one) for one in library.needed),
        exported=exported,
        local=tuple(one for one in PLAIN if one in local and one not in exported),
        families=tuple(sorted(families.items())),
        private=_private({symbol.name for symbol in library.imports if not symbol.weak}),
        opens=opens,
        deepbind=_DEEPBIND in texts,
        symbolic=_symbolic(library),
        sanitizer=bool(_SANITIZERS & library.exports),
        system=system,
        go=any(owner == "Go" for owner, _ in library.notes),
        cut=cut,
    )


def _kind(library: elf.Library) -> str:
    if library.soname is not None:
        return SHARED  # glibc's libc.so.6 has an interpreter, too
    if library.interpreter is not None:
        return PROGRAM
    return STATIC if library.kind == "executable" or library.flags_1 & _DF_1_PIE else SHARED


def _private(imports: set[str]) -> tuple[tuple[str, str], ...]:
    found = {}
    for family, names in _FAMILY_NAMES.items():
        for prefix in (one for one in allocator.PREFIXES if one and f"{one}malloc" in names):
            names = (*names, *(f"{prefix}{name}" for name in ("calloc", "realloc", "free")))
        used = [name for name in names if name in imports]
        if used:
            found[family] = used[0]
    return tuple(sorted(found.items()))


def _symbolic(library: elf.Library) -> bool:
    tags = dict(library.dynamic)
    return _DT_SYMBOLIC in tags or bool(tags.get(elf.DT_FLAGS, 0) & _DF_SYMBOLIC)


def _texts(stream: BinaryIO, wanted: list[bytes]) -> tuple[set[bytes], bool]:
    """Those of the texts that the file holds, and whether it was searched to its end."""
    found: set[bytes] = set()
    left, at, searched, tail = list(wanted), 0, 0, b""
    keep = max((len(text) for text in wanted), default=1) - 1
    while left and searched < _MOST_SEARCHED:
        start = _data_from(stream.fileno(), at)
        if start != at:
            at, tail = start, b""
        data = os.pread(stream.fileno(), _CHUNK, at)
        if not data:
            return found, True
        at += len(data)
        searched += len(data)
        block = tail + data
        found.update(text for text in left if text in block)
        left = [text for text in left if text not in found]
        tail = block[-keep:]
    return found, not left


def _data_from(descriptor: int, at: int) -> int:
    """Where data begins that is no hole; a file can be a terabyte of nothing."""
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError as error:
        return os.fstat(descriptor).st_size if error.errno == errno.ENXIO else at

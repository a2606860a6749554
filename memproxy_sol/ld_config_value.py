"""What a runtime linker configuration file (ld.config) says, as plain values; `ld_config.py` is their codec.

Text is carried as `str` with UTF-8 and surrogateescape, so that every byte survives (`to_text`, `to_bytes`).

Source: reference "crle", section 3; crle(1). Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass

from memproxy_sol import abi

VERSION = 4
"""The newest version that ld.so.1 of illumos accepts, and the one that is written."""
VERSION_VARIABLES = 3
VERSION_FILTERS = 4

IGNORE = 0x1
"""Header flag: the contents are to be ignored (set while a file is being built)."""
ALTERNATIVES = 0x2
"""Header flag: alternative objects exist."""
BITS_64 = 0x4
"""Header flag: 64-bit file."""
SPLIT_LIB = 0x8
"""Header flag: the paths know about /lib. Without it readers put /lib in front of /usr/lib."""

REPLACEABLE = 0x1
PERMANENT = 0x2

MACHINE_NAMES = {2: "SPARC", 3: "80386", 43: "SPARCV9", 62: "AMD64"}
"""The names which crle displays; other machines are known by their number."""
_MACHINE_ALIASES = {"I386": 3, "X86_64": 62, "AARCH64": 183, "SPARC32PLUS": 18}


def to_text(data: bytes) -> str:
    """Bytes of a file or a path as text; every byte survives."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The reverse of `to_text`; UnicodeEncodeError for a surrogate that no byte decodes to."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Layout:
    """What the bytes of a file depend on: class, byte order and machine, as its identification block says."""

    bits: int
    """32 or 64."""
    byte_order: str
    """`little` or `big`."""
    machine: int
    """ELF machine number, 1 to 255 (one byte in the file)."""

    @property
    def header_size(self) -> int:
        """Bytes of the header: i386 alone aligns 8-byte numbers to 4 (reference "crle", section 3)."""
        return 80 if self.machine == 3 else 88

    @property
    def tail_offset(self) -> int:
        """Where the 8-byte numbers of the header begin: two of them, then three words."""
        return 52 if self.machine == 3 else 56

    @property
    def page_size(self) -> int:
        """Bytes of the smallest memory page, up to which the end of a mapped file reads as zeros."""
        return 8192 if self.machine in (2, 18, 43) else 4096

    @property
    def class_name(self) -> str:
        """`32-bit` or `64-bit`."""
        return f"{self.bits}-bit"

    @property
    def order_name(self) -> str:
        """`LSB` or `MSB`, as crle displays it."""
        return "LSB" if self.byte_order == "little" else "MSB"

    @property
    def machine_name(self) -> str:
        """The name that crle displays, or the ELF machine number in decimal."""
        return MACHINE_NAMES.get(self.machine, str(self.machine))

    def __str__(self) -> str:
        return f"{self.class_name} {self.order_name} {self.machine_name}"


def layout_for(machine: abi.Machine, bits: int) -> Layout:
    """The layout of `machine`'s files of an ABI; KeyError if the machine has no such ABI."""
    return Layout(bits, machine.byte_order, machine.elf_machine[bits])


def machine_number(name: str) -> int:
    """The ELF machine number for a name as crle or `Layout.machine_name` gives it; ValueError if unknown."""
    known = {text: number for number, text in MACHINE_NAMES.items()}
    known.update(_MACHINE_ALIASES)
    if name.upper() in known:
        return known[name.upper()]
    number = int(name, 16 if name.lower().startswith("0x") else 10)
    if not 0 < number < 256:
        raise ValueError(name)
    return number


@dataclass(frozen=True)
class Variable:
    """One entry of the variable table."""

    text: str
    """`NAME=VALUE` as stored; there need not be a `=`."""
    flags: int = REPLACEABLE
    """0x2 permanent; the other bits are noise (0x1 replaceable, 0x1000 came from an older file)."""

    @classmethod
    def define(cls, name: str, value: str | None, permanent: bool = False) -> Variable:
        """`NAME=VALUE`, or the bare name if `value` is None, with the flags that crle gives a new entry."""
        return cls(name if value is None else f"{name}={value}", PERMANENT if permanent else REPLACEABLE)

    @property
    def name(self) -> str:
        return self.text.split("=", 1)[0]

    @property
    def value(self) -> str | None:
        """The text behind the first `=`; None if there is none."""
        return self.text.split("=", 1)[1] if "=" in self.text else None

    @property
    def permanent(self) -> bool:
        return bool(self.flags & PERMANENT)


@dataclass(frozen=True)
class CachedObject:
    """One entry of the object table (`crle -i`, `-a`, `-g`)."""

    name: str
    directory: int
    """Identifier of the directory that it belongs to."""
    flags: int
    """Object flags of reference "crle", section 3.6."""
    info: int
    """Modification time of a directory in seconds, or size of a file in bytes."""
    hash: int
    alternative: str | None = None


@dataclass(frozen=True)
class CachedDirectory:
    """One entry of the directory table."""

    object: int
    """Index of its entry in the object table, from 1."""
    files: tuple[int, ...] = ()
    """Indices of the objects in it."""


@dataclass(frozen=True)
class ObjectCache:
    """Hash, object, directory and file tables. Indices count from 1: entry 0 of the object table is unused."""

    buckets: tuple[int, ...]
    chains: tuple[int, ...]
    objects: tuple[CachedObject, ...]
    directories: tuple[CachedDirectory, ...]
    application: int | None = None
    """Index of the one application that the file is for."""
    spare: int = 0
    """NUL bytes at the end of the string table that crle reserved and did not use."""


@dataclass(frozen=True)
class Filter:
    """One entry of the filter table."""

    name: str
    filtees: str
    """The filtee string as recorded in the filter."""
    resolved: tuple[str, ...] = ()
    """The filtees that it stands for."""


Path = tuple[str, ...]


@dataclass(frozen=True)
class LdConfig:
    """The value of a file. A path list is the stored string split at `:`; () is an empty string, None is absent."""

    layout: Layout
    identified: bool = True
    """Whether the file has the identification block."""
    version: int = VERSION
    flags: int = SPLIT_LIB
    dlflags: int = 0
    library_path: Path | None = None
    trusted_directories: Path | None = None
    aout_library_path: Path | None = None
    aout_trusted_directories: Path | None = None
    environment: tuple[Variable, ...] | None = None
    """None: no table; (): an empty table."""
    objects: ObjectCache | None = None
    filters: tuple[Filter, ...] | None = None
    reservation: tuple[int, int] | None = None
    """First and last address of the memory reservation for alternative objects."""

    @property
    def has_object_cache(self) -> bool:
        """Whether it holds what only `crle -i -a -g` and relatives make, which a plain rewrite would lose."""
        return (
            self.objects is not None
            or self.filters is not None
            or self.reservation is not None
            or bool(self.flags & ALTERNATIVES)
        )

    @property
    def ignored(self) -> bool:
        """Whether the header asks readers to ignore the file."""
        return bool(self.flags & IGNORE)


def new(layout: Layout, identified: bool = True) -> LdConfig:
    """An empty configuration, as `crle -u` makes where there is no file."""
    return LdConfig(layout, identified, flags=SPLIT_LIB | (BITS_64 if layout.bits == 64 else 0))

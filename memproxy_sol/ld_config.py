"""The binary configuration file of the runtime linker (ld.config): bytes to value and back, in every layout.

`decode` is strict: what is truncated, out of range, contradictory or foreign is an LdConfigError that names
field and file offset, because ld.so.1 checks nothing of that and kills every process of the ABI instead.
`decode(mapped=True)` reads as ld.so.1 and crle do: the file as it lies in memory, the rest of its last page zero.

Text is carried as `str` with UTF-8 and surrogateescape, so that every byte survives (`to_text`, `to_bytes`).

Source of the format: reference "crle", section 3; crle(1). Standard library only: the boot-time verification
imports this module. It is longer than the other modules because the two directions and the checks between them
must be read side by side.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass, replace
from typing import Any

from memproxy_sol import abi
from memproxy_sol.errors import LdConfigError

MAGIC = b"?RLC"
IDENTIFICATION_SIZE = 16
VERSION = 4
"""The newest version that ld.so.1 of illumos accepts, and the one that is written."""
VERSION_VARIABLES = 3
VERSION_FILTERS = 4
MAX_SIZE = 4 * 1024 * 1024
"""Files above this many bytes are refused unread. The configuration of a host takes some hundred bytes; an object
cache takes about 64 bytes an object, so this is room for 65,000 of them, and it bounds time and memory."""

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

_HEADER_WORDS = (
    ("version", 0),
    ("flags", 4),
    ("dlflags", 8),
    ("application", 12),
    ("hash", 16),
    ("objects", 20),
    ("strings", 24),
    ("files", 28),
    ("directories", 32),
    ("library_path", 36),
    ("aout_library_path", 40),
    ("trusted_directories", 44),
    ("aout_trusted_directories", 48),
)
_OBJECT_SIZE = 24
_BUDGET = 8
"""All strings that the tables refer to, repetitions included, may together be this many times the file's size.
crle stores each once and refers to it at most a few times; without a bound, a small file whose entries all refer
to one long string would unfold to gigabytes."""


class OutsideError(LdConfigError):
    """An offset leads outside the file as it lies in memory: ld.so.1 and crle die there with SIGSEGV."""


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


# Reading


def identify(data: bytes) -> Layout | None:
    """The layout that the identification block names; None if there is no block.

    Raises LdConfigError for a block that is cut off or names no known class or byte order.
    """
    if data[:4] != MAGIC:
        return None
    if len(data) < IDENTIFICATION_SIZE:
        raise LdConfigError(
            f"the file ends after {len(data)} bytes, within its identification block",
            field="identification",
            offset=len(data),
        )
    bits = {1: 32, 2: 64}.get(data[4])
    if bits is None:
        raise LdConfigError(f"{data[4]} is no class (1 is 32-bit, 2 is 64-bit)", field="class", offset=4)
    order = {1: "little", 2: "big"}.get(data[5])
    if order is None:
        raise LdConfigError(f"{data[5]} is no byte order (1 is little, 2 is big endian)", field="data", offset=5)
    return Layout(bits, order, data[6])


def guess_layout(data: bytes) -> Layout:
    """The layout of a file without identification block, from its content.

    A version number is small, which tells the byte order; header flag 4 tells the class; of the machines of that
    order, x86 or SPARC is taken. Raises LdConfigError if the first word is no version in either order.
    """
    for machine in (abi.X86, abi.SPARC):
        first = data[:4]
        if len(first) == 4 and int.from_bytes(first, machine.byte_order) <= 0xFFFF:  # type: ignore[arg-type]
            flags = int.from_bytes(data[4:8], machine.byte_order)  # type: ignore[arg-type]
            return layout_for(machine, 64 if flags & BITS_64 else 32)
    raise LdConfigError(
        "neither an identification block nor a version number: this is no runtime linker configuration file",
        field="version",
        offset=0,
    )


class _Reader:
    """A file's bytes with the bounds and the error messages that all fields share."""

    def __init__(self, data: bytes, base: int, layout: Layout, mapped: bool) -> None:
        self.size = len(data)
        if mapped and len(data) % layout.page_size:
            data += bytes(layout.page_size - len(data) % layout.page_size)
        self.data = data
        self.base = base
        self.layout = layout
        self.mapped = mapped
        self.word_format = struct.Struct("<I" if layout.byte_order == "little" else ">I")
        self.budget = _BUDGET * max(self.size, 1)
        self.tables: list[tuple[int, int, str]] = [(0, layout.header_size, "header")]
        self.texts: list[tuple[int, int, str]] = []

    def outside(self, offset: int, name: str) -> OutsideError:
        return OutsideError(
            f"lies outside the file, which has {self.size} bytes", field=name, offset=self.base + offset
        )

    def word(self, offset: int, name: str) -> int:
        """The word at `offset` from the header."""
        place = self.base + offset
        if place + 4 > len(self.data):
            raise self.outside(offset, name)
        return int(self.word_format.unpack_from(self.data, place)[0])

    def words(self, offset: int, count: int, name: str) -> tuple[int, ...]:
        place = self.base + offset
        if place + 4 * count > len(self.data):
            raise self.outside(offset, name)
        return struct.unpack_from(f"{self.word_format.format[0]}{count}I", self.data, place)

    def number(self, offset: int, size: int, name: str) -> int:
        place = self.base + offset
        if place + size > len(self.data):
            raise self.outside(offset, name)
        return int.from_bytes(self.data[place : place + size], self.layout.byte_order)  # type: ignore[arg-type]

    def table(self, start: int, end: int, name: str) -> None:
        """Note that a table of fixed entries takes these bytes, and check its start."""
        if not self.mapped and start % 4:
            raise LdConfigError("is not a multiple of 4", field=name, offset=self.base + start)
        self.tables.append((start, end, name))

    def string(self, offset: int, name: str) -> str:
        """The NUL-terminated text at `offset` from the header."""
        place = self.base + offset
        if place >= len(self.data):
            raise self.outside(offset, name)
        end = self.data.find(b"\0", place)
        if end < 0:
            raise OutsideError("the text runs past the end of the file", field=name, offset=place)
        self.budget -= end - place + 1
        if self.budget < 0:
            raise LdConfigError("the same text is referred to without end", field=name, offset=place)
        self.texts.append((offset, end + 1 - self.base, name))
        return to_text(self.data[place:end])

    def check_overlaps(self) -> None:
        """No table may share a byte with another table or a text. Texts may share their tails with each other."""
        tables = sorted(self.tables)
        for (_, end, name), (start, _, other) in zip(tables, tables[1:]):
            if start < end:
                raise LdConfigError(f"overlaps {name}", field=other, offset=self.base + start)
        position = 0
        for start, end, name in sorted(self.texts):
            while position < len(tables) and tables[position][1] <= start:
                position += 1
            if position < len(tables) and tables[position][0] < end:
                raise LdConfigError(f"overlaps {tables[position][2]}", field=name, offset=self.base + start)


def decode(
    data: bytes, *, layout: Layout | None = None, mapped: bool = False, object_cache: bool = True
) -> LdConfig:
    """The value of a configuration file.

    `layout` is needed for a file without identification block; if given, a file that says otherwise is refused.
    With `mapped` the file is read as ld.so.1 and crle map it (zeros up to the end of the last page, no other check
    than that offsets stay inside, any version). Without `object_cache` those tables and the filters are skipped.
    Raises LdConfigError; its subclass OutsideError where a reader without checks would crash.
    """
    if len(data) > MAX_SIZE:
        raise LdConfigError(f"{len(data)} bytes is more than the {MAX_SIZE} that a configuration file may have")
    found = identify(data)
    if found is None and layout is None:
        raise LdConfigError(
            "there is no identification block, so the file does not say which ABI it is for",
            field="identification",
            offset=0,
        )
    if found is not None and layout is not None and found != layout:
        raise LdConfigError(f"the file is for {found}, not for {layout}", field="identification", offset=4)
    actual = found or layout
    assert actual is not None
    base = 0 if found is None else IDENTIFICATION_SIZE
    if len(data) < actual.header_size + (0 if mapped else base):
        raise LdConfigError(
            f"the file ends after {len(data)} bytes, within its header", field="header", offset=len(data)
        )
    reader = _Reader(data, base, actual, mapped)
    header = {name: reader.word(offset, name) for name, offset in _HEADER_WORDS}
    tail = actual.tail_offset
    begin, end = reader.number(tail, 8, "reservation"), reader.number(tail + 8, 8, "reservation")
    header["environment"], header["filters"], header["filtees"] = reader.words(tail + 16, 3, "header")
    if not mapped:
        _check_identity(data, actual, found is not None, header, base)

    def path(name: str) -> Path | None:
        if header[name] == 0:
            return None
        text = reader.string(header[name], name)
        return tuple(text.split(":")) if text else ()

    config = LdConfig(
        layout=actual,
        identified=found is not None,
        version=header["version"],
        flags=header["flags"],
        dlflags=header["dlflags"],
        library_path=path("library_path"),
        aout_library_path=path("aout_library_path"),
        trusted_directories=path("trusted_directories"),
        aout_trusted_directories=path("aout_trusted_directories"),
        environment=_read_environment(reader, header),
        reservation=(begin, end) if begin or end else None,
    )
    if object_cache:
        config = replace(config, objects=_read_objects(reader, header), filters=_read_filters(reader, header))
    if not mapped:
        reader.check_overlaps()
    if config.objects is not None:
        config = replace(config, objects=replace(config.objects, spare=_spare(config, data, base, header["strings"])))
    return config


def _check_identity(data: bytes, layout: Layout, identified: bool, header: dict[str, int], base: int) -> None:
    """Refuse what contradicts itself, and versions that nobody here can read."""
    if identified and any(data[7:IDENTIFICATION_SIZE]):
        raise LdConfigError("bytes that must be zero are not", field="identification", offset=7)
    for machine in abi.MACHINES.values():
        for bits, number in machine.elf_machine.items():
            if number == layout.machine and (bits, machine.byte_order) != (layout.bits, layout.byte_order):
                raise LdConfigError(f"there is no {layout}", field="machine", offset=6)
    if not 1 <= header["version"] <= VERSION:
        raise LdConfigError(f"{header['version']} is not one of 1 to {VERSION}", field="version", offset=base)
    if bool(header["flags"] & BITS_64) != (layout.bits == 64):
        raise LdConfigError(
            f"{header['flags']:#x} does not fit a {layout.class_name} file", field="flags", offset=base + 4
        )


def _read_environment(reader: _Reader, header: dict[str, int]) -> tuple[Variable, ...] | None:
    start = header["environment"]
    if start == 0 or header["version"] < VERSION_VARIABLES:
        return None
    variables: list[Variable] = []
    position = start
    while True:
        text = reader.word(position, "environment")
        if text == 0:
            break
        flags = reader.word(position + 4, "environment")
        variables.append(Variable(reader.string(text, f"environment[{len(variables)}]"), flags))
        position += 8
    # The reader stops at a word of zero; the writer stores two.
    reader.table(start, position + (4 if reader.mapped else 8), "environment")
    if not reader.mapped:
        reader.word(position + 4, "environment")
    return tuple(variables)


def _read_objects(reader: _Reader, header: dict[str, int]) -> ObjectCache | None:
    names = ("hash", "objects", "files", "directories")
    present = [name for name in names if header[name]]
    if not present:
        if header["application"]:
            raise LdConfigError(
                "names an object, but there is no object table", field="application", offset=reader.base + 12
            )
        return None
    for name in names:
        if not header[name]:
            raise LdConfigError(f"is absent, but {present[0]} is there", field=name, offset=reader.base)
    nbuckets, nchains = reader.words(header["hash"], 2, "hash")
    buckets = reader.words(header["hash"] + 8, nbuckets, "hash")
    chains = reader.words(header["hash"] + 8 + 4 * nbuckets, nchains, "hash")
    reader.table(header["hash"], header["hash"] + 8 + 4 * (nbuckets + nchains), "hash")
    _check_chains(reader, header["hash"], buckets, chains)

    first = header["objects"]
    reader.table(first, first + _OBJECT_SIZE * nchains, "objects")
    if reader.base + first + _OBJECT_SIZE * nchains > len(reader.data):
        raise reader.outside(first, "objects")
    entry = struct.Struct(f"{reader.word_format.format[0]}QIIHHI")
    objects: list[CachedObject] = []
    for index in range(1, nchains):
        name = f"objects[{index}]"
        info, text, value, directory, flags, other = entry.unpack_from(
            reader.data, reader.base + first + _OBJECT_SIZE * index
        )
        alternative = reader.string(header["strings"] + other, name) if other else None
        objects.append(
            CachedObject(reader.string(header["strings"] + text, name), directory, flags, info, value, alternative)
        )

    def index_of(offset: int, name: str) -> int:
        index, rest = divmod(offset - first, _OBJECT_SIZE)
        if rest or not 0 < index < nchains:
            raise LdConfigError("is no entry of the object table", field=name, offset=reader.base + offset)
        return index

    directories: list[CachedDirectory] = []
    position = header["directories"]
    while True:
        name = f"directories[{len(directories)}]"
        directory_object = reader.word(position, name)
        if directory_object == 0:
            break
        start = reader.word(position + 4, name)
        files: list[int] = []
        while True:
            offset = reader.word(start + 4 * len(files), f"{name}.files")
            if offset == 0:
                break
            files.append(index_of(offset, f"{name}.files"))
            reader.budget -= 4
            if reader.budget < 0:
                raise LdConfigError("its lists are referred to without end", field=name, offset=reader.base + start)
        reader.table(start, start + 4 * (len(files) + 1), f"{name}.files")
        directories.append(CachedDirectory(index_of(directory_object, name), tuple(files)))
        position += 8
    reader.table(header["directories"], position + 4, "directories")
    application = header["application"]
    return ObjectCache(
        buckets,
        chains,
        tuple(objects),
        tuple(directories),
        index_of(application, "application") if application else None,
    )


def _check_chains(reader: _Reader, start: int, buckets: tuple[int, ...], chains: tuple[int, ...]) -> None:
    """Each object may be reached once: a chain that comes back to itself would hang every process."""
    seen = bytearray(len(chains))
    for index in buckets:
        while index:
            if index >= len(chains):
                raise LdConfigError(f"object {index} does not exist", field="hash", offset=reader.base + start)
            if seen[index]:
                raise LdConfigError(f"the chain of object {index} has no end", field="hash", offset=reader.base + start)
            seen[index] = 1
            index = chains[index]


def _read_filters(reader: _Reader, header: dict[str, int]) -> tuple[Filter, ...] | None:
    if header["filters"] == 0 or header["version"] < VERSION_FILTERS:
        return None
    filters: list[Filter] = []
    position = header["filters"]
    while True:
        name = f"filters[{len(filters)}]"
        text = reader.word(position, name)
        if text == 0:
            break
        filtees, list_offset = reader.words(position + 4, 2, name)
        resolved: list[str] = []
        start = header["filtees"] + list_offset
        while True:
            filtee = reader.word(start + 4 * len(resolved), f"{name}.filtees")
            if filtee == 0:
                break
            resolved.append(reader.string(header["strings"] + filtee, f"{name}.filtees"))
        reader.table(start, start + 4 * (len(resolved) + 1), f"{name}.filtees")
        filters.append(
            Filter(
                reader.string(header["strings"] + text, name),
                reader.string(header["strings"] + filtees, name),
                tuple(resolved),
            )
        )
        position += 12
    reader.table(header["filters"], position + 4, "filters")
    return tuple(filters)


def _spare(config: LdConfig, data: bytes, base: int, strings: int) -> int:
    """How many NUL bytes lie behind the strings that our encoder would place."""
    rest = data[base + strings + _padded(len(_pack(config).data)) :]
    return len(rest) if not any(rest) else 0


# Writing


class _Strings:
    """The string table of a file that is being made, and where each text landed in it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.names: list[int] = []
        self.alternatives: list[int] = []
        self.paths: dict[str, int] = {}
        self.variables: list[int] = []
        self.filters: list[tuple[int, int, tuple[int, ...]]] = []

    def add(self, text: str, name: str) -> int:
        try:
            encoded = to_bytes(text)
        except UnicodeEncodeError as error:
            raise LdConfigError(f"{text!r} is no text: {error.reason}", field=name) from None
        if b"\0" in encoded:
            raise LdConfigError(f"{text!r} contains a NUL, which would end it", field=name)
        offset = len(self.data)
        self.data += encoded + b"\0"
        return offset


_PATHS = ("library_path", "aout_library_path", "trusted_directories", "aout_trusted_directories")
"""In the order in which crle stores them (reference "crle", section 3.4)."""


def _pack(config: LdConfig) -> _Strings:
    """Place all texts in the order of reference "crle", section 3.4, sharing names as crle shares them."""
    strings = _Strings()
    known: dict[str, int] = {}
    tails: dict[tuple[int, str], int] = {}
    for number, entry in enumerate(config.objects.objects if config.objects else (), 1):
        name = f"objects[{number}]"
        offset = tails.get((entry.directory, entry.name), known.get(entry.name, -1))
        if offset < 0:
            offset = known[entry.name] = strings.add(entry.name, name)
            head, slash, base = entry.name.rpartition("/")
            if slash and base:
                tails[entry.directory, base] = offset + len(to_bytes(head + slash))
        strings.names.append(offset)
        if entry.alternative is None:
            strings.alternatives.append(0)
        else:
            if entry.alternative not in known:
                known[entry.alternative] = strings.add(entry.alternative, name)
            strings.alternatives.append(known[entry.alternative])
            if known[entry.alternative] == 0:
                raise LdConfigError("its alternative cannot be the first text of the file", field=name)
    for name in _PATHS:
        value: Path | None = getattr(config, name)
        if value is not None:
            for element in value:
                if ":" in element:
                    raise LdConfigError(f"{element!r} contains a colon, which separates directories", field=name)
            strings.paths[name] = strings.add(":".join(value), name)
    for number, variable in enumerate(config.environment or ()):
        strings.variables.append(strings.add(variable.text, f"environment[{number}]"))
    for number, item in enumerate(config.filters or ()):
        field = f"filters[{number}]"
        places = []
        for text in (item.name, *item.resolved):
            if text not in known:
                known[text] = strings.add(text, field)
            places.append(known[text])
            if known[text] == 0:
                raise LdConfigError("a name of a filter cannot be the first text of the file", field=field)
        strings.filters.append((places[0], strings.add(item.filtees, field), tuple(places[1:])))
    return strings


def _padded(size: int, to: int = 4) -> int:
    return -(-size // to) * to


def encode(config: LdConfig) -> bytes:
    """The bytes of a file with this value, as crle lays them out (reference "crle", section 3.5).

    The same value always gives the same bytes. Raises LdConfigError for a value that no file can hold: a NUL or
    colon inside a text, a number that does not fit, a table that the version does not know.
    """
    _check_encodable(config)
    layout = config.layout
    order = "<" if layout.byte_order == "little" else ">"
    strings = _pack(config)
    header = dict.fromkeys((name for name, _ in _HEADER_WORDS), 0)
    header.update(version=config.version, flags=config.flags, dlflags=config.dlflags)
    header.update(environment=0, filters=0, filtees=0)
    body = bytearray()

    def place(name: str, data: bytes) -> int:
        header[name] = layout.header_size + len(body)
        body.extend(data)
        return header[name]

    cache = config.objects
    if cache is not None:
        table = struct.pack(f"{order}2I", len(cache.buckets), len(cache.chains))
        table += struct.pack(f"{order}{len(cache.buckets)}I", *cache.buckets)
        table += struct.pack(f"{order}{len(cache.chains)}I", *cache.chains)
        place("hash", table.ljust(_padded(len(table), 8), b"\0"))
        entries = bytearray(_OBJECT_SIZE)
        for entry, text, alternative in zip(cache.objects, strings.names, strings.alternatives):
            entries += struct.pack(
                f"{order}QIIHHI", entry.info, text, entry.hash, entry.directory, entry.flags, alternative
            )
        first = place("objects", bytes(entries))
        if cache.application is not None:
            header["application"] = first + _OBJECT_SIZE * cache.application
        files = bytearray()
        directories = bytearray()
        start = layout.header_size + len(body)
        for directory in cache.directories:
            directories += struct.pack(f"{order}2I", first + _OBJECT_SIZE * directory.object, start + len(files))
            listed = [first + _OBJECT_SIZE * index for index in directory.files]
            files += struct.pack(f"{order}{len(listed) + 1}I", *listed, 0)
        place("files", bytes(files))
        place("directories", bytes(directories) + bytes(8))

    texts = 8 * (len(config.environment) + 1) if config.environment is not None else 0
    filtees = bytearray()
    filters = bytearray()
    for text, string, resolved in strings.filters:
        filters += struct.pack(f"{order}3I", text, string, len(filtees))
        filtees += struct.pack(f"{order}{len(resolved) + 1}I", *resolved, 0)
    if config.filters is not None:
        filters += bytes(12)
    first_text = layout.header_size + len(body) + texts + len(filters) + len(filtees)

    if config.environment is not None:
        table = b""
        table = b"".join(
            struct.pack(f"{order}2I", first_text + offset, variable.flags)
            for offset, variable in zip(strings.variables, config.environment)
        )
        place("environment", table + bytes(8))
    if config.filters is not None:
        place("filters", bytes(filters))
        place("filtees", bytes(filtees))
    if strings.data:
        place("strings", bytes(strings.data).ljust(_padded(len(strings.data)), b"\0"))
        body += bytes(cache.spare if cache is not None else 0)
    for name, offset in strings.paths.items():
        header[name] = first_text + offset

    begin, end = config.reservation or (0, 0)
    out = bytearray()
    if config.identified:
        out += MAGIC + bytes((layout.bits // 32, 1 if layout.byte_order == "little" else 2, layout.machine)) + bytes(9)
    out += struct.pack(f"{order}{len(_HEADER_WORDS)}I", *(header[name] for name, _ in _HEADER_WORDS))
    out += bytes(layout.tail_offset - 4 * len(_HEADER_WORDS))
    out += struct.pack(f"{order}2Q3I", begin, end, header["environment"], header["filters"], header["filtees"])
    out += bytes(layout.header_size - layout.tail_offset - 28)
    out += body
    if len(out) > MAX_SIZE:
        raise LdConfigError(f"{len(out)} bytes is more than the {MAX_SIZE} that a configuration file may have")
    return bytes(out)


def _check_encodable(config: LdConfig) -> None:
    """Refuse what `struct` would, and what the reader would not read back."""
    layout = config.layout
    if layout.bits not in (32, 64) or layout.byte_order not in ("little", "big") or not 0 < layout.machine < 256:
        raise LdConfigError(f"{layout!r} is no layout", field="layout")
    if not 1 <= config.version <= VERSION:
        raise LdConfigError(f"{config.version} is not one of 1 to {VERSION}", field="version")
    if config.environment is not None and config.version < VERSION_VARIABLES:
        raise LdConfigError(f"version {config.version} has no variables", field="environment")
    if config.filters is not None and config.version < VERSION_FILTERS:
        raise LdConfigError(f"version {config.version} has no filters", field="filters")
    if bool(config.flags & BITS_64) != (layout.bits == 64):
        raise LdConfigError(f"{config.flags:#x} does not fit a {layout.class_name} file", field="flags")

    def check(name: str, number: int, bits: int) -> None:
        if not 0 <= number < 1 << bits:
            raise LdConfigError(f"{number} does not fit into {bits} bits", field=name)

    check("flags", config.flags, 32)
    check("dlflags", config.dlflags, 32)
    for number in config.reservation or ():
        check("reservation", number, 64)
    for position, variable in enumerate(config.environment or ()):
        check(f"environment[{position}]", variable.flags, 32)
    cache = config.objects
    if cache is None:
        return
    if len(cache.chains) != len(cache.objects) + 1:
        raise LdConfigError(
            f"{len(cache.chains)} chain words for {len(cache.objects)} objects (and the unused one)", field="hash"
        )
    check("spare", cache.spare, 22)
    for position, entry in enumerate(cache.objects, 1):
        for number, bits in ((entry.info, 64), (entry.hash, 32), (entry.directory, 16), (entry.flags, 16)):
            check(f"objects[{position}]", number, bits)
    indices = [*cache.buckets, *cache.chains]
    for directory in cache.directories:
        indices += [directory.object, *directory.files]
    for number in [*indices, cache.application or 0]:
        if not 0 <= number <= len(cache.objects):
            raise LdConfigError(f"object {number} does not exist", field="objects")


# JSON

_JSON_PATHS = ("library_path", "trusted_directories", "aout_library_path", "aout_trusted_directories")
_JSON_KEYS = (
    "abi",
    "byte_order",
    "machine",
    "version",
    "flags",
    *_JSON_PATHS,
    "environment",
    "identified",
    "dlflags",
    "reservation",
    "filters",
    "objects",
)


def to_json(config: LdConfig) -> dict[str, Any]:
    """The value as JSON types, as docs/ldconfig.md describes; bytes that are no UTF-8 are lone surrogates."""
    layout = config.layout
    environment = None
    if config.environment is not None:
        environment = []
        for variable in config.environment:
            item: dict[str, Any] = {
                "name": variable.name,
                "value": variable.value,
                "permanent": variable.permanent,
            }
            if variable != Variable.define(variable.name, variable.value, variable.permanent):
                item["flags"] = variable.flags
            environment.append(item)
    result: dict[str, Any] = {
        "abi": layout.bits,
        "byte_order": layout.byte_order,
        "machine": layout.machine_name,
        "version": config.version,
        "flags": config.flags,
    }
    for name in _JSON_PATHS:
        value = getattr(config, name)
        result[name] = None if value is None else list(value)
    result.update(environment=environment, identified=config.identified, dlflags=config.dlflags)
    result["reservation"] = (
        None if config.reservation is None else {"begin": config.reservation[0], "end": config.reservation[1]}
    )
    result["filters"] = None if config.filters is None else [asdict(item) for item in config.filters]
    result["objects"] = None if config.objects is None else asdict(config.objects)
    return result


def layout_from_json(obj: object) -> Layout | None:
    """The layout that the keys `abi`, `byte_order` and `machine` name; None unless all three are there."""
    reader = _Json(obj, "JSON")
    bits = reader.get("abi", int, None)
    order = reader.get("byte_order", str, None)
    machine = reader.get("machine", str, None)
    if bits is None or order is None or machine is None:
        return None
    if bits not in (32, 64):
        raise LdConfigError(f"{bits} is neither 32 nor 64", field="abi")
    if order not in ("little", "big"):
        raise LdConfigError(f"{order!r} is neither 'little' nor 'big'", field="byte_order")
    try:
        return Layout(bits, order, machine_number(machine))
    except ValueError:
        raise LdConfigError(
            f"{machine!r} is no machine: say 80386, AMD64, SPARC, SPARCV9 or an ELF number from 1 to 255",
            field="machine",
        ) from None


def from_json(obj: object, layout: Layout | None = None) -> LdConfig:
    """The value that `to_json` gave. Keys left out have the value of `new(layout)`.

    `layout` may be left out if the keys name it; if both are there they must agree. Raises LdConfigError that
    names the key for a wrong type, an unknown key or a contradiction. Whether the value fits a file is `encode`'s
    to say.
    """
    reader = _Json(obj, "JSON", _JSON_KEYS)
    named = layout_from_json(obj)
    if layout is None:
        layout = named
    if layout is None:
        raise LdConfigError("the keys abi, byte_order and machine are needed to know the layout", field="abi")
    for key, kind, wanted in (("abi", int, layout.bits), ("byte_order", str, layout.byte_order)):
        value = reader.get(key, kind, wanted)
        if value != wanted:
            raise LdConfigError(f"{value!r} contradicts {wanted!r}, which is asked for", field=key)
    if named is not None and named.machine != layout.machine:
        raise LdConfigError(
            f"{named.machine_name!r} contradicts {layout.machine_name!r}, which is asked for", field="machine"
        )
    plain = new(layout)
    environment = None
    for number, item in enumerate(reader.get("environment", list, None) or ()):
        environment = environment or []
        entry = _Json(item, f"environment[{number}]", ("name", "value", "permanent", "flags"))
        name, value = entry.get("name", str), entry.get("value", str, None)
        if "=" in name:
            raise LdConfigError(f"{name!r} contains '='", field=f"environment[{number}].name")
        permanent = entry.get("permanent", bool)
        variable = Variable.define(name, value, permanent)
        flags = entry.get("flags", int, variable.flags)
        if bool(flags & PERMANENT) != permanent:
            raise LdConfigError(f"{flags:#x} contradicts permanent", field=f"environment[{number}].flags")
        environment.append(replace(variable, flags=flags))
    if environment is None and reader.get("environment", list, None) is not None:
        environment = []
    reservation = None
    if reader.get("reservation", dict, None) is not None:
        entry = _Json(reader.get("reservation", dict), "reservation", ("begin", "end"))
        reservation = (entry.get("begin", int), entry.get("end", int))
    return LdConfig(
        layout=layout,
        identified=reader.get("identified", bool, True),
        version=reader.get("version", int, plain.version),
        flags=reader.get("flags", int, plain.flags),
        dlflags=reader.get("dlflags", int, 0),
        environment=None if environment is None else tuple(environment),
        reservation=reservation,
        filters=_filters_from_json(reader),
        objects=_objects_from_json(reader),
        **{name: reader.path(name) for name in _JSON_PATHS},
    )


def _filters_from_json(reader: _Json) -> tuple[Filter, ...] | None:
    items = reader.get("filters", list, None)
    if items is None:
        return None
    filters = []
    for number, item in enumerate(items):
        entry = _Json(item, f"filters[{number}]", ("name", "filtees", "resolved"))
        filters.append(Filter(entry.get("name", str), entry.get("filtees", str), entry.sequence("resolved", str)))
    return tuple(filters)


def _objects_from_json(reader: _Json) -> ObjectCache | None:
    value = reader.get("objects", dict, None)
    if value is None:
        return None
    keys = ("buckets", "chains", "objects", "directories", "application", "spare")
    cache = _Json(value, "objects", keys)
    objects = []
    for number, item in enumerate(cache.get("objects", list), 1):
        keys = ("name", "directory", "flags", "info", "hash", "alternative")
        entry = _Json(item, f"objects[{number}]", keys)
        numbers = {key: entry.get(key, int) for key in keys[1:5]}
        objects.append(
            CachedObject(name=entry.get("name", str), alternative=entry.get("alternative", str, None), **numbers)
        )
    directories = []
    for number, item in enumerate(cache.get("directories", list)):
        entry = _Json(item, f"directories[{number}]", ("object", "files"))
        directories.append(CachedDirectory(entry.get("object", int), entry.sequence("files", int)))
    return ObjectCache(
        cache.sequence("buckets", int),
        cache.sequence("chains", int),
        tuple(objects),
        tuple(directories),
        cache.get("application", int, None),
        cache.get("spare", int, 0),
    )


_REQUIRED = object()


class _Json:
    """A JSON object whose members are asked for with the type that they must have."""

    def __init__(self, obj: object, where: str, keys: tuple[str, ...] = ()) -> None:
        if not isinstance(obj, dict):
            raise LdConfigError("is no JSON object", field=where)
        for key in obj:
            if keys and key not in keys:
                raise LdConfigError(f"unknown key {key!r}; known are {', '.join(keys)}", field=where)
        self.obj = obj
        self.where = "" if where == "JSON" else f"{where}."

    def get(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        value = self.obj.get(key)
        if value is None:
            if default is _REQUIRED:
                raise LdConfigError("is missing", field=self.where + key)
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            names = {int: "number", str: "string", bool: "truth value", list: "list", dict: "object"}
            raise LdConfigError(f"{value!r} is no {names[kind]}", field=self.where + key)
        return value

    def sequence(self, key: str, kind: type) -> tuple[Any, ...]:
        values = self.get(key, list)
        return tuple(_Json({"": value}, f"{self.where}{key}").get("", kind) for value in values)

    def path(self, key: str) -> Path | None:
        if self.get(key, list, None) is None:
            return None
        elements: Path = self.sequence(key, str)
        return () if elements == ("",) else elements

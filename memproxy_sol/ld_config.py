"""The binary configuration file of the runtime linker (ld.config): bytes to value and back, in every layout.

`decode` is strict: what is truncated, out of range, contradictory or foreign is an LdConfigError that names
field and file offset, because ld.so.1 checks nothing of that and kills every process of the ABI instead.
`decode(mapped=True)` reads as ld.so.1 and crle do: the file as it lies in memory, the rest of its last page zero.

The values are in `ld_config_value.py`, their JSON in `ld_config_json.py`; all of it is offered here. Source of the
format: reference "crle", section 3. Standard library only: the boot-time verification imports this module. It is
longer than others because the two directions and the checks between them must be read side by side.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from memproxy_sol import abi
from memproxy_sol.errors import LdConfigError
from memproxy_sol.ld_config_json import from_json, layout_from_json, to_json
from memproxy_sol.ld_config_value import (
    ALTERNATIVES,
    BITS_64,
    IGNORE,
    MACHINE_NAMES,
    PERMANENT,
    REPLACEABLE,
    SPLIT_LIB,
    VERSION,
    VERSION_FILTERS,
    VERSION_VARIABLES,
    CachedDirectory,
    CachedObject,
    Filter,
    Layout,
    LdConfig,
    ObjectCache,
    Path,
    Variable,
    layout_for,
    machine_number,
    new,
    to_bytes,
    to_text,
)

__all__ = [
    "ALTERNATIVES",
    "BITS_64",
    "IDENTIFICATION_SIZE",
    "IGNORE",
    "MACHINE_NAMES",
    "MAGIC",
    "MAX_SIZE",
    "PERMANENT",
    "REPLACEABLE",
    "SPLIT_LIB",
    "VERSION",
    "VERSION_FILTERS",
    "VERSION_VARIABLES",
    "CachedDirectory",
    "CachedObject",
    "Filter",
    "Layout",
    "LdConfig",
    "ObjectCache",
    "OutsideError",
    "Path",
    "Variable",
    "decode",
    "encode",
    "from_json",
    "guess_layout",
    "identify",
    "layout_for",
    "layout_from_json",
    "machine_number",
    "new",
    "to_bytes",
    "to_json",
    "to_text",
]

MAGIC = b"?RLC"
IDENTIFICATION_SIZE = 16
MAX_SIZE = 4 * 1024 * 1024
"""Files above this many bytes are refused unread. The configuration of a host takes some hundred bytes; an object
cache takes about 64 bytes an object, so this is room for 65,000 of them, and it bounds time and memory."""

_WORDS = (
    "version",
    "flags",
    "dlflags",
    "application",
    "hash",
    "objects",
    "strings",
    "files",
    "directories",
    "library_path",
    "aout_library_path",
    "trusted_directories",
    "aout_trusted_directories",
)
"""The words at the start of the header, in order."""
_OBJECT_SIZE = 24
_BUDGET = 8
"""All strings and lists that the tables refer to, repetitions included, may be this many times the file's size.
crle stores each once and refers to it at most a few times; without a bound, a small file whose entries all refer
to one long string would unfold to gigabytes."""


class OutsideError(LdConfigError):
    """An offset leads outside the file as it lies in memory: ld.so.1 and crle die there with SIGSEGV."""


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

    def until_zero(self, offset: int, name: str) -> list[int]:
        """The words from `offset` up to, not including, the first zero."""
        found: list[int] = []
        start = self.base + offset
        if start + 4 <= len(self.data):
            whole = (len(self.data) - start) // 4 * 4
            for (word,) in self.word_format.iter_unpack(memoryview(self.data)[start : start + whole]):
                if word == 0:
                    return found
                self.budget -= 4
                if self.budget < 0:
                    raise LdConfigError("the same list is referred to without end", field=name, offset=start)
                found.append(word)
        raise self.outside(offset + 4 * len(found), name)

    def number(self, offset: int, size: int, name: str) -> int:
        place = self.base + offset
        if place + size > len(self.data):
            raise self.outside(offset, name)
        return int.from_bytes(self.data[place : place + size], self.layout.byte_order)  # type: ignore[arg-type]

    def table(self, start: int, end: int, name: str) -> None:
        """Note that a table of fixed entries takes these bytes."""
        self.tables.append((start, end, name))

    def aligned(self, offset: int, name: str) -> int:
        """`offset`, which is that of a table."""
        if not self.mapped and offset % 4:
            raise LdConfigError("is not a multiple of 4", field=name, offset=self.base + offset)
        return offset

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
        tables = sorted(set(self.tables))  # a list of files may be shared, if it is the same list
        for (_, end, name), (start, _, other) in zip(tables, tables[1:]):
            if start < end:
                raise LdConfigError(f"overlaps {name}", field=other, offset=self.base + start)
        position = 0
        for start, end, name in sorted(self.texts):
            while position < len(tables) and tables[position][1] <= start:
                position += 1
            if position < len(tables) and tables[position][0] < end:
                raise LdConfigError(f"overlaps {tables[position][2]}", field=name, offset=self.base + start)


def decode(data: bytes, *, layout: Layout | None = None, mapped: bool = False, object_cache: bool = True) -> LdConfig:
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
    header = dict(zip(_WORDS, reader.words(0, len(_WORDS), "header")))
    tail = actual.tail_offset
    begin, end = reader.number(tail, 8, "reservation"), reader.number(tail + 8, 8, "reservation")
    header["environment"], header["filters"], header["filtees"] = reader.words(tail + 16, 3, "header")
    if not mapped:
        _check_identity(data, actual, found is not None, header, base)
        if header["strings"] and not actual.header_size <= header["strings"] <= len(data) - base:
            raise reader.outside(header["strings"], "strings")

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
    if layout.machine == 0:
        raise LdConfigError("0 is no machine", field="machine", offset=6)
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
    start = reader.aligned(header["environment"], "environment")
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
        reader.aligned(header[name], name)
    nbuckets, nchains = reader.words(header["hash"], 2, "hash")
    if nchains == 0:
        raise LdConfigError("has no entries", field="hash", offset=reader.base + header["hash"])
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
        start = reader.aligned(reader.word(position + 4, name), f"{name}.files")
        files = [index_of(offset, f"{name}.files") for offset in reader.until_zero(start, f"{name}.files")]
        reader.table(start, start + 4 * (len(files) + 1), "files")
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
    for index in (*buckets, *chains):
        if index >= len(chains):
            raise LdConfigError(f"object {index} does not exist", field="hash", offset=reader.base + start)
        if index and seen[index]:
            raise LdConfigError(f"leads to object {index} twice", field="hash", offset=reader.base + start)
        seen[index] = 1


def _read_filters(reader: _Reader, header: dict[str, int]) -> tuple[Filter, ...] | None:
    if header["filters"] == 0 or header["version"] < VERSION_FILTERS:
        return None
    filters: list[Filter] = []
    position = reader.aligned(header["filters"], "filters")
    while True:
        name = f"filters[{len(filters)}]"
        text = reader.word(position, name)
        if text == 0:
            break
        filtees, list_offset = reader.words(position + 4, 2, name)
        start = reader.aligned(header["filtees"] + list_offset, f"{name}.filtees")
        offsets = reader.until_zero(start, f"{name}.filtees")
        resolved = [reader.string(header["strings"] + offset, f"{name}.filtees") for offset in offsets]
        reader.table(start, start + 4 * (len(resolved) + 1), "filtees")
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

    def refer(text: str, name: str) -> int:
        """A place of `text` other than the first, which as a reference means that there is none."""
        while not known.get(text):
            known[text] = strings.add(text, name)
        return known[text]

    for number, entry in enumerate(config.objects.objects if config.objects else (), 1):
        name = f"objects[{number}]"
        offset = tails.get((entry.directory, entry.name), known.get(entry.name, -1))
        if offset < 0:
            offset = known[entry.name] = strings.add(entry.name, name)
            head, slash, base = entry.name.rpartition("/")
            if slash and base:
                tails[entry.directory, base] = offset + len(to_bytes(head + slash))
        strings.names.append(offset)
        strings.alternatives.append(0 if entry.alternative is None else refer(entry.alternative, name))
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
        places = [refer(text, field) for text in (item.name, *item.resolved)]
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
    header = dict.fromkeys(_WORDS, 0)
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
    out += struct.pack(f"{order}{len(_WORDS)}I", *(header[name] for name in _WORDS))
    out += bytes(layout.tail_offset - 4 * len(_WORDS))
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

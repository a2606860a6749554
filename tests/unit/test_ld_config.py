"""ld_config.py: the format in every layout, and what is not a file of it."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recordings import FILES, LAYOUTS, OBJECT_CACHE

from memproxy_sol import ld_config, preloads
from memproxy_sol.abi import AARCH64, SPARC, X86
from memproxy_sol.errors import LdConfigError
from memproxy_sol.ld_config import (
    CachedDirectory,
    CachedObject,
    Filter,
    Layout,
    LdConfig,
    ObjectCache,
    OutsideError,
    Variable,
    decode,
    encode,
    from_json,
    identify,
    layout_for,
    new,
    to_json,
)

I386, AMD64 = LAYOUTS["32"], LAYOUTS["64"]
EVERY_LAYOUT = [layout_for(machine, bits) for machine in (X86, SPARC, AARCH64) for bits in machine.elf_machine]
EVERY_LAYOUT += [Layout(64, "big", 21), Layout(32, "little", 243), Layout(64, "little", 255)]


def layout_of(data: bytes) -> Layout | None:
    """What `decode` must be told of a recorded file."""
    return None if data[:4] == ld_config.MAGIC else FILES[data][1]


# The recorded files

REFUSED = {
    "truncated": ["trunc-"],
    "foreign": ["other-", "swapped-noid-", "corrupt-text-", "corrupt-zeros-", "hand-version-5-"],
    "out of range": ["corrupt-offset-"],
}
REFUSED_NAMES = tuple(prefix for prefixes in REFUSED.values() for prefix in prefixes)
HAND_MADE = ("hand-version-1-32", "hand-version-1-64")
"""They hold a variable table, which a file of version 1 does not have; it is not part of the value."""


@pytest.mark.parametrize("data", FILES, ids=lambda data: FILES[data][0])
def test_strict_decoder_takes_what_is_whole(data: bytes) -> None:
    name = FILES[data][0]
    if not name.startswith(REFUSED_NAMES):
        config = decode(data, layout=layout_of(data))
        assert config.identified == (data[:4] == ld_config.MAGIC)
        if name not in HAND_MADE:
            assert encode(config) == data
        return
    with pytest.raises(LdConfigError) as caught:
        decode(data, layout=layout_of(data))
    assert caught.value.field is not None
    assert caught.value.offset is not None
    assert str(caught.value).startswith(f"{caught.value.field} at offset {caught.value.offset}: ")


def test_refused_and_object_cache_files_are_among_the_recorded() -> None:
    names = [name for name, _ in FILES.values()]
    for prefix in (*REFUSED_NAMES, *OBJECT_CACHE):
        assert any(name.startswith(prefix) for name in names), prefix


@pytest.mark.parametrize(
    ("name", "field", "offset"),
    [
        ("trunc-007-32", "identification", 7),
        ("trunc-016-32", "header", 16),
        ("trunc-095-32", "header", 95),
        ("trunc-112-32", "library_path", 112),
        ("trunc-171-32", "environment[0]", 143),
        ("other-mach-64", "machine", 6),
        ("other-class-32", "machine", 6),
        ("hand-version-5-32", "version", 16),
        ("corrupt-text-32", "version", 0),
        ("corrupt-offset-32", "library_path", 0x10000010),
        ("corrupt-offset-page-32", "library_path", 0x710),
    ],
)
def test_error_names_field_and_offset(name: str, field: str, offset: int) -> None:
    data = next(data for data, (other, _) in FILES.items() if other == name)
    with pytest.raises(LdConfigError) as caught:
        decode(data, layout=layout_of(data))
    assert (caught.value.field, caught.value.offset) == (field, offset)


def test_mapped_reads_the_rest_of_the_page_as_zeros() -> None:
    whole = encode(replace(new(I386), library_path=("/lib", "/opt"), environment=(Variable("LD_A=1"),)))
    assert decode(whole, mapped=True) == decode(whole)
    cut = whole[: whole.index(b"/opt") + 2]
    with pytest.raises(LdConfigError, match="past the end"):
        decode(cut)
    assert decode(cut, mapped=True) == replace(decode(whole), library_path=("/lib", "/o"), environment=(Variable(""),))


@pytest.mark.parametrize(
    ("layout", "page"), [(AMD64, 4096), (Layout(64, "big", 43), 8192), (Layout(32, "big", 2), 8192)]
)
def test_mapped_ends_with_the_page(layout: Layout, page: int) -> None:
    order: Callable[[int], bytes] = lambda number: number.to_bytes(4, layout.byte_order)  # noqa: E731
    data = bytearray(encode(replace(new(layout), library_path=("/a",))))
    data[52:56] = order(page - 16 - 1)
    assert decode(bytes(data), mapped=True).library_path == ()
    data[52:56] = order(page - 16)
    with pytest.raises(OutsideError):
        decode(bytes(data), mapped=True)
    assert preloads.loader_verdict(bytes(data), layout) == "crash"


def test_mapped_reads_zeros_behind_a_header_that_is_cut() -> None:
    """crle compares the size of the whole file with that of the header alone (reference "crle", section 3.7)."""
    whole = encode(replace(new(AMD64), dlflags=3))
    with pytest.raises(LdConfigError, match="within its header"):
        decode(whole[:88])
    assert decode(whole[:88], mapped=True) == decode(whole)
    with pytest.raises(LdConfigError, match="within its header"):
        decode(whole[:87], mapped=True)


def test_a_text_that_fills_the_last_page_has_no_end() -> None:
    data = encode(replace(new(AMD64), library_path=("/" + "a" * 5000,)))
    assert data[4096:] != b""
    with pytest.raises(OutsideError):
        decode(data[:4096], mapped=True)


# Layouts


@pytest.mark.parametrize("layout", EVERY_LAYOUT, ids=str)
@pytest.mark.parametrize("identified", [True, False])
def test_layout(layout: Layout, identified: bool) -> None:
    """Offsets and sizes by the table of section 3.2 of the reference, read with struct alone."""
    config = replace(
        new(layout, identified),
        library_path=("/a", "/b"),
        trusted_directories=("/c",),
        aout_library_path=("/d",),
        aout_trusted_directories=("/e",),
        environment=(Variable("LD_X=1", 1), Variable("LD_Y", 0x1002)),
        reservation=(0x1122334455667788, 0x99AABBCCDDEEFF00),
        dlflags=0xFFF,
    )
    data = encode(config)
    base = 16 if identified else 0
    if identified:
        wanted = (layout.bits // 32, {"little": 1, "big": 2}[layout.byte_order], layout.machine)
        assert data[:16] == b"?RLC" + bytes(wanted) + bytes(9)
        assert identify(data) == layout
    order = "<" if layout.byte_order == "little" else ">"
    header = struct.unpack(f"{order}13I", data[base : base + 52])
    start = 52 if layout.machine == 3 else 56
    assert not any(data[base + 52 : base + start])
    begin, end, env, fltr, flte = struct.unpack(f"{order}QQIII", data[base + start : base + start + 28])
    size = 80 if layout.machine == 3 else 88
    assert header[:9] == (4, 0xC if layout.bits == 64 else 8, 0xFFF, 0, 0, 0, size + 24, 0, 0)
    assert (begin, end, fltr, flte) == (0x1122334455667788, 0x99AABBCCDDEEFF00, 0, 0)
    table = struct.unpack(f"{order}6I", data[base + env : base + env + 24])
    assert (table[1], table[3:]) == (1, (0x1002, 0, 0))
    places = [header[9], header[10], header[11], header[12], table[0], table[2]]
    assert [data[base + place :].split(b"\0")[0] for place in places] == [
        b"/a:/b",
        b"/d",
        b"/c",
        b"/e",
        b"LD_X=1",
        b"LD_Y",
    ]
    assert len(data) % 4 == 0
    assert decode(data, layout=layout) == config


@pytest.mark.parametrize("layout", EVERY_LAYOUT, ids=str)
def test_the_smallest_file(layout: Layout) -> None:
    assert len(encode(new(layout))) == (96 if layout.machine == 3 else 104)
    assert decode(encode(new(layout))) == new(layout)


def test_swapped_sparc_recording() -> None:
    for data, (name, _) in FILES.items():
        if name.startswith("swapped-sparc"):
            config = decode(data)
            assert config.layout == (Layout(32, "big", 2) if name.endswith("32") else Layout(64, "big", 43))
            assert (config.library_path, config.identified) == (("/lib", "/usr/lib"), True)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_versions(version: int) -> None:
    config = replace(new(AMD64), version=version, library_path=("/a",))
    assert decode(encode(config)) == config
    if version < 3:
        with pytest.raises(LdConfigError, match=r"environment: version \d has no variables"):
            encode(replace(config, environment=()))
    if version < 4:
        with pytest.raises(LdConfigError, match=r"filters: version \d has no filters"):
            encode(replace(config, filters=()))


def test_an_old_version_has_no_variables_even_if_it_has_a_table() -> None:
    data = bytearray(encode(replace(new(AMD64), environment=(Variable("A=1"),))))
    data[16] = 2
    assert decode(bytes(data)).environment is None


def test_layout_is_needed_only_without_identification_block() -> None:
    plain, identified = encode(new(AMD64, identified=False)), encode(new(AMD64))
    with pytest.raises(LdConfigError, match="does not say which ABI"):
        decode(plain)
    assert decode(plain, layout=AMD64) == new(AMD64, identified=False)
    assert decode(identified, layout=AMD64) == new(AMD64)
    with pytest.raises(LdConfigError, match="is for 64-bit LSB AMD64, not for 64-bit MSB SPARCV9"):
        decode(identified, layout=Layout(64, "big", 43))


@pytest.mark.parametrize("layout", EVERY_LAYOUT[:4], ids=str)
def test_guess(layout: Layout) -> None:
    assert ld_config.guess_layout(encode(new(layout, identified=False))) == layout


@pytest.mark.parametrize("data", [b"", b"\4\0\0", b"# te", b"\x7fELF"])
def test_no_guess(data: bytes) -> None:
    with pytest.raises(LdConfigError):
        ld_config.guess_layout(data)


@pytest.mark.parametrize("layout", EVERY_LAYOUT, ids=str)
def test_object_cache_and_filters(layout: Layout) -> None:
    cache = ObjectCache(
        buckets=(1, 0, 3),
        chains=(0, 2, 0, 0),
        objects=(
            CachedObject("/opt/lib", 1, 0x41, 1700000000, 0x0123),
            CachedObject("/opt/lib/liba.so", 1, 0x410, 1 << 40, 0xFFFFFFFF, "/alt/liba.so"),
            CachedObject("liba.so", 1, 0x10, 1 << 40, 7, "/alt/liba.so"),
        ),
        directories=(CachedDirectory(1, (3, 2)),),
        application=2,
        spare=12,
    )
    config = replace(
        new(layout),
        flags=new(layout).flags | 2,
        objects=cache,
        environment=(),
        trusted_directories=("/t",),
        filters=(Filter("/opt/lib/liba.so", "libx.so:liby.so", ("/opt/lib/libx.so", "/opt/lib/liby.so")),),
    )
    data = encode(config)
    assert config.has_object_cache
    assert decode(data) == config
    assert decode(data, mapped=True) == config
    assert from_json(json.loads(json.dumps(to_json(config)))) == config
    assert data.count(b"liba.so\0") == 2  # the file's full name, shared with its simple one, and the alternative
    assert decode(data, object_cache=False) == replace(config, objects=None, filters=None)


def test_a_reference_is_never_to_the_first_text() -> None:
    """Because zero means that there is none: a text that would be there is stored once more."""
    filters = (Filter("a", "b", ("a", "c")),)
    config = replace(new(AMD64), filters=filters, environment=())
    assert decode(encode(config)) == config
    first = CachedObject("/a", 1, 0x10, 0, 0, "/a")
    config = replace(config, objects=ObjectCache((), (0, 0), (first,), ()), filters=(Filter("/a", "b", ("/a",)),))
    assert decode(encode(config)) == config


# What is no file

WHOLE = encode(
    replace(new(AMD64), library_path=("/a",), trusted_directories=("/b",), environment=(Variable("LD_A=1"),))
)
CACHE = next(data for data, (name, _) in FILES.items() if name == "a-nonexistent-64")


def patched(data: bytes, *changes: tuple[int, int]) -> bytes:
    """`data` with words put at file offsets (x86)."""
    out = bytearray(data)
    for offset, word in changes:
        out[offset : offset + 4] = word.to_bytes(4, "little")
    return bytes(out)


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        (WHOLE + bytes(ld_config.MAX_SIZE), None, "more than"),
        (b"?RLC", "identification", "within its identification block"),
        (b"?RLC\3\1\x3e" + WHOLE[7:], "class", "3 is no class"),
        (b"?RLC\2\3\x3e" + WHOLE[7:], "data", "3 is no byte order"),
        (WHOLE[:9] + b"\1" + WHOLE[10:], "identification", "must be zero"),
        (b"?RLC\2\1\x03" + WHOLE[7:], "machine", "there is no 64-bit LSB 80386"),
        (b"?RLC\2\1\x2b" + WHOLE[7:], "machine", "there is no 64-bit LSB SPARCV9"),
        (patched(WHOLE, (16, 0)), "version", "0 is not one of 1 to 4"),
        (patched(WHOLE, (20, 8)), "flags", "does not fit a 64-bit file"),
        (patched(WHOLE, (52, 0xFFFFFFFF)), "library_path", "outside"),
        (patched(WHOLE, (52, 4)), "library_path", "overlaps header"),
        (patched(WHOLE, (60, 92)), "trusted_directories", "overlaps environment"),
        (patched(WHOLE, (16 + 72, 85)), "environment", "not a multiple of 4"),
        (patched(WHOLE, (16 + 72, 8)), "environment", "overlaps header"),
        (patched(WHOLE, (16 + 88, 92)), "environment[0]", "overlaps environment"),
        (patched(WHOLE, (16 + 72, len(WHOLE) - 20)), "environment", "outside"),
        (patched(WHOLE, (16 + 88, 0x7FFFFFFF)), "environment[0]", "outside"),
        (WHOLE[:-4], "environment[0]", "past the end"),
        (patched(CACHE, (16 + 16, 0)), "hash", "is absent, but objects is there"),
        (patched(WHOLE, (16 + 24, 8)), "strings", "outside"),
        (patched(WHOLE, (16 + 24, 1000)), "strings", "outside"),
        (patched(CACHE, (16 + 92, 0)), "hash", "has no entries"),
        (patched(CACHE, (16 + 88, 0x40000000)), "hash", "outside"),
        (patched(CACHE, (16 + 92, 0x40000000)), "hash", "outside"),
        (patched(CACHE, (16 + 96, 9)), "hash", "object 9 does not exist"),
        (patched(CACHE, (16 + 128, 2)), "hash", "leads to object 2 twice"),
        (patched(CACHE, (16 + 20, 0xFFFFFFF0)), "objects", "outside"),
        (patched(CACHE, (16 + 0xA8 + 8, 0x70000000)), "objects[1]", "outside"),
        (patched(CACHE, (16 + 0xFC, 0xA9)), "directories[0]", "no entry of the object table"),
        (patched(CACHE, (16 + 0xF0, 0x90)), "directories[0].files", "no entry of the object table"),
        (patched(CACHE, (16 + 12, 0xF0)), "application", "no entry of the object table"),
        (patched(WHOLE, (16 + 12, 88)), "application", "there is no object table"),
        (patched(WHOLE, (16 + 76, 88)), "filters[0]", "outside"),
    ],
)
def test_what_contradicts_itself_is_refused(data: bytes, field: str | None, words: str) -> None:
    with pytest.raises(LdConfigError, match=words) as caught:
        decode(data)
    assert caught.value.field == field
    assert (caught.value.offset is None) == (field is None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(new(AMD64), library_path=("/a:/b",)), "library_path: '/a:/b' contains a colon"),
        (replace(new(AMD64), trusted_directories=("/a\0",)), r"trusted_directories: '/a\\x00' contains a NUL"),
        (replace(new(AMD64), environment=(Variable("A=\ud800"),)), r"environment\[0\]: 'A=\\ud800' is no text"),
        (replace(new(AMD64), environment=(Variable("A", 1 << 32),)), r"environment\[0\]: .* 32 bits"),
        (replace(new(AMD64), version=5), "version: 5 is not one of 1 to 4"),
        (replace(new(AMD64), flags=8), "flags: 0x8 does not fit a 64-bit file"),
        (replace(new(AMD64), flags=-1), "flags: -1 does not fit into 32 bits"),
        (replace(new(AMD64), dlflags=-1), "dlflags: -1 does not fit into 32 bits"),
        (replace(new(AMD64), reservation=(0, 1 << 64)), "reservation: .* 64 bits"),
        (new(Layout(64, "middle", 62)), "layout: .* is no layout"),
        (new(Layout(64, "little", 258)), "layout: .* is no layout"),
        (replace(new(AMD64), library_path=("/" * ld_config.MAX_SIZE,)), "is more than"),
        (replace(new(AMD64), objects=ObjectCache((2,), (0, 0), (CachedObject("a", 1, 0, 0, 0),), ())), "object 2"),
        (replace(new(AMD64), objects=ObjectCache((), (0,), (CachedObject("a", 1, 0, 0, 0),), ())), "hash: 1 chain"),
        (
            replace(new(AMD64), objects=ObjectCache((), (0, 0), (CachedObject("a", 65536, 0, 0, 0),), ())),
            r"objects\[1\]: 65536 does not fit into 16 bits",
        ),
    ],
)
def test_values_that_no_file_can_hold(config: LdConfig, message: str) -> None:
    with pytest.raises(LdConfigError, match=message):
        encode(config)


# Robustness


def survives(data: bytes, layout: Layout) -> None:
    """Each reader gives a value or a typed error, and a value that is read strictly can be written and read again."""
    try:
        config = decode(data, layout=None if data[:4] == ld_config.MAGIC else layout)
    except LdConfigError:
        pass
    else:
        assert decode(encode(config), layout=config.layout) == config
    for mapped in (layout, identity(data)):
        if mapped is not None:
            with suppress(LdConfigError):
                decode(data, layout=mapped, mapped=True)
            with suppress(LdConfigError):
                preloads.effective(data, mapped)


def identity(data: bytes) -> Layout | None:
    try:
        return identify(data)
    except LdConfigError:
        return None


@pytest.mark.parametrize("data", FILES, ids=lambda data: FILES[data][0])
def test_mutations_of_every_recorded_file(data: bytes) -> None:
    layout = FILES[data][1]
    step = 1 if len(data) < 400 else 7
    for length in range(0, len(data), step):
        survives(data[:length], layout)
    for place in range(min(len(data), 104)):
        for value in (0, 1, 0x10, 0x7F, 0x80, 0xFF, data[place] ^ 4):
            survives(data[:place] + bytes((value,)) + data[place + 1 :], layout)
    source = random.Random(2)  # the same mutations in every run
    for _ in range(100 if data else 0):
        changed = bytearray(data)
        for _ in range(source.randint(2, 12)):
            place = source.randrange(len(changed))
            if source.random() < 0.5:
                changed[place] = source.randrange(256)
            else:
                word = source.randrange(0, len(changed) + 8)
                changed[place & ~3 : (place & ~3) + 4] = word.to_bytes(4, layout.byte_order)
        survives(bytes(changed), layout)


@given(st.binary(max_size=300), st.sampled_from(EVERY_LAYOUT))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_random_bytes(data: bytes, layout: Layout) -> None:
    survives(data, layout)
    header = encode(new(layout))
    survives(header + data, layout)
    survives(header[:40] + data, layout)


def hostile() -> Iterator[tuple[str, bytes]]:
    """Small files that unfold to much, were they believed."""
    count = 20000
    first = 88
    text = first + 8 * (count + 1)
    header = bytearray(encode(new(AMD64)))
    header[16 + 72 : 16 + 76] = first.to_bytes(4, "little")
    long = b"x" * 200000 + b"\0\0\0\0"
    table = struct.pack("<2I", text, 1) * count + bytes(8)
    yield "variables that share one long text", bytes(header) + table + long
    tails = b"".join(struct.pack("<2I", text + n, 1) for n in range(count)) + bytes(8)
    yield "variables that are tails of one long text", bytes(header) + tails + long
    yield "a path of colons", encode(replace(new(AMD64), library_path=("",) * 200000))
    many = tuple(Variable("", 1) for _ in range(30000))
    yield "many empty variables", encode(replace(new(AMD64), environment=many))
    objects = tuple(CachedObject("a", 1, 0, 0, 0) for _ in range(15000))
    full = replace(new(AMD64), objects=ObjectCache((0,) * 15000, (0,) * 15001, objects, ()))
    yield "many objects", encode(full)
    lists = ObjectCache((), (0, 0), objects[:1], tuple(CachedDirectory(1) for _ in range(count)))
    data = bytearray(
        encode(
            replace(
                new(AMD64), objects=replace(lists, directories=(*lists.directories, CachedDirectory(1, (1,) * count)))
            )
        )
    )
    files, directories = struct.unpack_from("<2I", data, 16 + 28)
    for n in range(count):
        struct.pack_into("<I", data, 16 + directories + 8 * n + 4, files + 4 * count)
    yield "directories that share one long list", bytes(data)


@pytest.mark.parametrize(("name", "data"), list(hostile()), ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("mapped", [False, True])
def test_memory_is_of_the_order_of_the_file(name: str, data: bytes, mapped: bool) -> None:
    """Python takes up to some 50 bytes for what is one byte here; without bounds it would be thousands."""
    tracemalloc.start()
    try:
        try:
            decode(data, mapped=mapped)
        except LdConfigError:
            assert "share" in name or "tails" in name
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * len(data)


# Any value, there and back

TEXT = st.binary(max_size=12).filter(lambda data: b"\0" not in data).map(ld_config.to_text)
ELEMENT = TEXT.filter(lambda text: ":" not in text)
PATH = st.none() | st.lists(ELEMENT, max_size=4).map(tuple).filter(lambda path: path != ("",))
VARIABLES = st.lists(st.builds(Variable, TEXT, st.integers(0, 0xFFFFFFFF)), max_size=4).map(tuple)


@st.composite
def configs(draw: st.DrawFn) -> LdConfig:
    layout = draw(st.sampled_from(EVERY_LAYOUT))
    number = st.integers(0, (1 << 64) - 1)
    return replace(
        new(layout, draw(st.booleans())),
        flags=draw(st.integers(0, 0xFFFFFFFF)) & ~4 | (4 if layout.bits == 64 else 0),
        dlflags=draw(st.integers(0, 0xFFFFFFFF)),
        library_path=draw(PATH),
        trusted_directories=draw(PATH),
        aout_library_path=draw(PATH),
        aout_trusted_directories=draw(PATH),
        environment=draw(st.none() | VARIABLES),
        reservation=draw(st.none() | st.tuples(number, number).filter(any)),
    )


@given(configs())
@settings(max_examples=400, deadline=None, derandomize=True)
@example(replace(new(AMD64), library_path=("", ""), environment=(Variable(""), Variable("=\udcff"))))
def test_any_value_there_and_back(config: LdConfig) -> None:
    data = encode(config)
    assert decode(data, layout=config.layout) == config
    assert decode(data, layout=config.layout, mapped=True) == config
    printed = json.dumps(to_json(config))
    assert printed.isascii()
    assert from_json(json.loads(printed)) == config
    assert from_json(json.loads(printed), config.layout) == config


# JSON


def test_json_keys() -> None:
    config = replace(
        new(I386),
        library_path=("/lib", "/opt/\udcff"),
        environment=(Variable.define("LD_PRELOAD_32", "/p.so", True), Variable("X", 0x1001)),
    )
    assert to_json(config) == {
        "abi": 32,
        "byte_order": "little",
        "machine": "80386",
        "version": 4,
        "flags": 8,
        "library_path": ["/lib", "/opt/\udcff"],
        "trusted_directories": None,
        "aout_library_path": None,
        "aout_trusted_directories": None,
        "environment": [
            {"name": "LD_PRELOAD_32", "value": "/p.so", "permanent": True},
            {"name": "X", "value": None, "permanent": False, "flags": 0x1001},
        ],
        "identified": True,
        "dlflags": 0,
        "reservation": None,
        "filters": None,
        "objects": None,
    }


@pytest.mark.parametrize(
    ("layout", "machine"),
    [(Layout(32, "big", 2), "SPARC"), (Layout(64, "big", 43), "SPARCV9"), (AMD64, "AMD64"), (EVERY_LAYOUT[4], "183")],
)
def test_json_machine(layout: Layout, machine: str) -> None:
    assert to_json(new(layout))["machine"] == machine
    assert from_json({}, layout) == new(layout)


def test_json_of_an_empty_path_in_either_spelling() -> None:
    empty = replace(new(AMD64), library_path=())
    assert decode(encode(empty)) == empty
    assert from_json({"library_path": []}, AMD64) == from_json({"library_path": [""]}, AMD64) == empty


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ([], "JSON: is no JSON object"),
        ({}, "abi: the keys abi, byte_order and machine are needed"),
        ({"abi": 16, "byte_order": "little", "machine": "3"}, "abi: 16 is neither 32 nor 64"),
        ({"abi": 32, "byte_order": "LSB", "machine": "3"}, "byte_order: 'LSB' is neither"),
        ({"abi": 32, "byte_order": "little", "machine": "Z80"}, "machine: 'Z80' is no machine: say 80386"),
        ({"abi": 32, "byte_order": "little", "machine": "300"}, "machine: '300' is no machine"),
    ],
)
def test_json_without_layout(obj: object, message: str) -> None:
    with pytest.raises(LdConfigError, match=message):
        from_json(obj)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"abi": 32}, "abi: 32 contradicts 64-bit LSB AMD64"),
        ({"abi": True}, "abi: True is no number"),
        ({"abi": 64, "byte_order": "little", "machine": "183"}, "machine: '183' contradicts 64-bit LSB AMD64"),
        ({"machine": "183"}, "machine: '183' contradicts 64-bit LSB AMD64"),
        ({"preloads": []}, "JSON: unknown key 'preloads'; known are abi, "),
        ({"library_path": "/lib"}, "library_path: '/lib' is no list"),
        ({"library_path": [1]}, r"library_path\.: 1 is no string|library_path\[0\]: 1 is no string"),
        ({"environment": [{"name": "A", "value": "1"}]}, r"environment\[0\].permanent: is missing"),
        (
            {"environment": [{"name": "A=B", "value": "1", "permanent": True}]},
            r"environment\[0\].name: .* contains '='",
        ),
        ({"environment": [{"name": "A", "permanent": True, "flags": 1}]}, r"environment\[0\].flags: 0x1 contradicts"),
        ({"environment": ["A=1"]}, r"environment\[0\]: is no JSON object"),
        ({"environment": [{"name": "A", "permanent": True, "x": 1}]}, r"environment\[0\]: unknown key 'x'"),
        ({"identified": 1}, "identified: 1 is no truth value"),
        ({"reservation": {"begin": 1}}, r"reservation\.end: is missing"),
        ({"objects": {"buckets": []}}, r"objects\.\w+: is missing"),
        ({"filters": [{"name": "a"}]}, r"filters\[0\]\.filtees: is missing"),
    ],
)
def test_json_that_is_wrong_names_its_key(obj: object, message: str) -> None:
    with pytest.raises(LdConfigError, match=message):
        from_json(obj, AMD64)

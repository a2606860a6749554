"""elf.py against readelf and llvm-readelf on the system's own libraries, and on files that are not what they seem."""

from __future__ import annotations

import glob
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memproxy_sol import elf
from memproxy_sol.errors import ElfError, Interrupted

DIRECTORIES = {
    64: ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"),
    32: ("/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu"),
}
ALLOCATORS = ("libjemalloc.so.2", "libmimalloc.so.2*", "libtcmalloc_minimal.so.4*")
NAMES = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", *ALLOCATORS)


def system_libraries() -> list[str]:
    """Libraries of both ABIs with symbol versions, both hash tables, TLS and notes."""
    found = {}
    for directories in DIRECTORIES.values():
        for directory in directories:
            for name in NAMES:
                for path in glob.glob(f"{directory}/{name}"):
                    found.setdefault(os.path.realpath(path), None)
    return list(found)


LIBRARIES = system_libraries()


def test_both_abis_are_there() -> None:
    assert {elf.read(path).bits for path in LIBRARIES} == {32, 64}


def oracle(tool: str, *arguments: str) -> str:
    program = shutil.which(tool) or shutil.which(f"{tool}-14")
    if program is None:
        pytest.fail(f"{tool} is missing: install {'binutils' if tool == 'readelf' else 'llvm'}", pytrace=False)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env={"LC_ALL": "C"}, check=True)
    return done.stdout


def listed_symbols(tool: str, path: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """(name, version) of the defined and the undefined global symbols; the version is empty where there is none."""
    defined, undefined = set(), set()
    for line in oracle(tool, "-W", "--dyn-syms", path).splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].rstrip(":").isdigit() or fields[4] == "LOCAL":
            continue
        if fields[5] in ("HIDDEN", "INTERNAL"):
            continue
        name, _, version = fields[7].replace("@@", "@").partition("@")
        if fields[6] == "ABS" and fields[2] == "0" and fields[3] == "OBJECT":  # a version's own symbol
            continue
        (undefined if fields[6] == "UND" else defined).add((name, version))
    return defined, undefined


@pytest.mark.parametrize("tool", ["readelf", "llvm-readelf"])
@pytest.mark.parametrize("path", LIBRARIES)
def test_symbols_are_those_of_readelf(path: str, tool: str) -> None:
    library = elf.read(path)
    defined, undefined = listed_symbols(tool, path)
    assert {(symbol.name, symbol.version or "") for symbol in library.defined} == defined
    assert {(symbol.name, symbol.version or "") for symbol in library.imports} == undefined
    assert library.exports == {name for name, _ in defined}


@pytest.mark.parametrize("path", [*LIBRARIES, "/bin/ls", sys.executable])
def test_headers_are_those_of_readelf(path: str) -> None:
    library = elf.read(path)
    header = oracle("readelf", "-h", path)
    assert f"ELF{library.bits}" in header
    assert (library.byte_order == "little") is ("little endian" in header)
    assert {3: "Intel 80386", 62: "X86-64"}[library.machine] in header
    assert {"shared": "DYN", "executable": "EXEC"}[library.kind] in header
    segments = oracle("readelf", "-lW", path)
    interpreter = re.search(r"Requesting program interpreter: (.*)\]", segments)
    assert library.interpreter == (interpreter.group(1) if interpreter else None)
    assert library.tls is bool(re.search(r"^ *TLS ", segments, re.M))
    assert library.writable_and_executable is bool(re.search(r"^ *LOAD .* RWE ", segments, re.M))
    assert (0x6474E551 in library.segments) is bool(re.search(r"^ *GNU_STACK ", segments, re.M))


@pytest.mark.parametrize("path", [*LIBRARIES, "/bin/ls"])
def test_dynamic_section_is_that_of_readelf(path: str) -> None:
    library = elf.read(path)
    dynamic = oracle("readelf", "-dW", path)
    assert library.needed == tuple(re.findall(r"\(NEEDED\) .*\[(.*)\]", dynamic))
    assert [library.soname] == (re.findall(r"\(SONAME\) .*\[(.*)\]", dynamic) or [None])
    assert [library.runpath] == (re.findall(r"\(RUNPATH\) .*\[(.*)\]", dynamic) or [None])
    assert library.text_relocations is ("TEXTREL" in dynamic)
    tables = {"sysv" if tag == "HASH" else "gnu" for tag in re.findall(r"\((GNU_HASH|HASH)\)", dynamic)}
    assert library.hash_styles == tables


@pytest.mark.parametrize("path", LIBRARIES)
def test_versions_and_notes_are_those_of_readelf(path: str) -> None:
    library = elf.read(path)
    versions = oracle("readelf", "-VW", path)
    needs = versions.partition("Version needs section")[2]
    expected, file = [], ""
    for line in needs.splitlines():
        if match := re.search(r"File: (\S+)", line):
            file = match.group(1)
        elif match := re.search(r"Name: (\S+) ", line):
            expected.append((file, match.group(1)))
    assert library.versions_needed == tuple(expected)
    definitions = versions.partition("Version definition section")[2].partition("Version needs section")[0]
    rows = re.findall(r"Flags: (\S+) .* Name: (\S+)", definitions)
    assert library.versions_defined == tuple(name for flags, name in rows if flags != "BASE")
    notes = re.findall(r"^  (\S+) +0x[0-9a-f]{8}\t", oracle("readelf", "-nW", path), re.M)
    loaded = [owner for owner in notes if owner != "stapsdt"]  # those lie in no segment
    assert sorted(owner for owner, _ in library.notes) == sorted(loaded)


def test_an_import_names_the_library_that_has_it() -> None:
    imports = {symbol.name: symbol for symbol in elf.read("/bin/ls").imports}
    assert imports["malloc"].library == "libc.so.6"
    assert imports["malloc"].version is not None
    assert not imports["malloc"].weak
    assert imports["__gmon_start__"].weak


def compiled(tmp_path: Path, source: str, *flags: str) -> elf.Library:
    (tmp_path / "a.c").write_text(source)
    command = ["gcc", "-shared", "-o", str(tmp_path / "a.so"), str(tmp_path / "a.c"), *flags]
    subprocess.run(command, check=True, capture_output=True)
    return elf.read(tmp_path / "a.so")


def test_text_relocations_are_seen(tmp_path: Path) -> None:
    source = "int x; int *f(void) { return &x; }"
    flags = ("-m32", "-fno-pic", "-Wl,-z,notext")
    assert compiled(tmp_path, source, *flags).text_relocations
    assert not compiled(tmp_path, source, "-m32", "-fPIC").text_relocations


def test_run_paths_are_told_apart(tmp_path: Path) -> None:
    new = compiled(tmp_path, "int x;", "-Wl,-rpath,/opt/x", "-Wl,--enable-new-dtags")
    assert (new.runpath, new.rpath) == ("/opt/x", None)
    old = compiled(tmp_path, "int x;", "-Wl,-rpath,/opt/x", "-Wl,--disable-new-dtags")
    assert (old.runpath, old.rpath) == (None, "/opt/x")


def test_hidden_names_are_no_exports(tmp_path: Path) -> None:
    source = 'int shown; __attribute__((visibility("hidden"))) int hidden; __attribute__((weak)) int feeble;'
    exports = compiled(tmp_path, source, "-fPIC").exports
    assert {"shown", "feeble"} <= exports
    assert "hidden" not in exports


def test_a_thread_local_and_an_executable_stack_are_seen(tmp_path: Path) -> None:
    assert compiled(tmp_path, "__thread int x;", "-fPIC").tls
    assert elf.DF_1_NODELETE & compiled(tmp_path, "int x;", "-Wl,-z,nodelete").flags_1


@pytest.mark.parametrize("style", ["sysv", "gnu"])
def test_either_hash_table_gives_all_symbols(tmp_path: Path, style: str) -> None:
    library = compiled(tmp_path, "int one, two, three;", f"-Wl,--hash-style={style}")
    assert library.hash_styles == {style}
    assert {"one", "two", "three"} <= library.exports


def test_a_relocatable_object_has_no_dynamic_part(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int x;")
    subprocess.run(["gcc", "-c", "-o", str(tmp_path / "a.o"), str(tmp_path / "a.c")], check=True)
    library = elf.read(tmp_path / "a.o")
    assert (library.kind, library.exports, library.needed) == ("relocatable", frozenset(), ())


def test_section_headers_are_not_needed(tmp_path: Path) -> None:
    data = bytearray(Path(LIBRARIES[0]).read_bytes())
    bits64 = data[4] == 2
    struct.pack_into("<Q" if bits64 else "<I", data, 0x28 if bits64 else 0x20, 0)  # e_shoff
    struct.pack_into("<HHH", data, 0x3A if bits64 else 0x2E, 0, 0, 0)  # e_shentsize, e_shnum, e_shstrndx
    (tmp_path / "a.so").write_bytes(data)
    assert elf.read(tmp_path / "a.so").exports == elf.read(LIBRARIES[0]).exports


# -- what is no ELF file


def error_of(path: Path) -> str:
    with pytest.raises(ElfError) as caught:
        elf.read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def read_or_error(path: Path) -> elf.Library | None:
    """None for an ElfError that names the file; any other exception fails the test."""
    try:
        return elf.read(path)
    except ElfError as error:
        return None if str(path) in str(error) else pytest.fail(f"the message does not name the file: {error}")


def test_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("#!/bin/sh\n")
    assert "not an ELF file" in error_of(tmp_path / "x")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    assert "empty" in error_of(tmp_path / "x")


def test_a_directory(tmp_path: Path) -> None:
    assert "directory" in error_of(tmp_path)


def test_nothing(tmp_path: Path) -> None:
    assert "No such file" in error_of(tmp_path / "x")


def test_a_null_byte_in_the_name() -> None:
    with pytest.raises(ElfError):
        elf.read("a\0b")


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    assert "FIFO" in error_of(tmp_path / "x")


def test_a_device_is_not_read() -> None:
    assert "special file" in error_of(Path("/dev/zero"))


def test_an_unreadable_file(tmp_path: Path) -> None:
    """As another user, since the superuser can read everything."""
    path = tmp_path / "x"
    shutil.copy(LIBRARIES[0], path)
    path.chmod(0)
    if os.geteuid() != 0:
        assert "Permission denied" in error_of(path)
        return
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setuid(65534)
            try:
                elf.read(path)
            except ElfError as error:
                status = 0 if "Permission denied" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- damage


@cache
def sample(bits: int) -> bytes:
    """A small library with everything: versions, both hash tables, notes, an interpreter's worth of symbols."""
    path = next(path for path in LIBRARIES if elf.read(path).bits == bits and "gcc_s" in path)
    return Path(path).read_bytes()


@pytest.mark.parametrize("bits", [32, 64])
def test_truncated_anywhere(tmp_path: Path, bits: int) -> None:
    data = sample(bits)
    whole = elf.read(next(path for path in LIBRARIES if elf.read(path).bits == bits and "gcc_s" in path))
    for length in [*range(0, 200), *range(200, len(data), 997)]:
        path = tmp_path / "x"
        path.write_bytes(data[:length])
        library = read_or_error(path)
        if library is not None:  # only what no loader needs is cut off
            assert (library.exports, library.imports) == (whole.exports, whole.imports)


POSITIONS = st.one_of(st.integers(0, 0x4000), st.integers(0, 1 << 20))
WORDS = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1])
EDITS = st.lists(st.tuples(POSITIONS, WORDS, st.sampled_from("BHIQ")), min_size=1, max_size=12)


@pytest.mark.parametrize("bits", [32, 64])
@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=EDITS)
def test_any_damage_is_an_elf_error_or_read(tmp_path: Path, bits: int, edits: list[tuple[int, int, str]]) -> None:
    data = bytearray(sample(bits))
    for position, word, kind in edits:
        size = struct.calcsize("<" + kind)
        struct.pack_into("<" + kind, data, position % (len(data) - size), word & ((1 << 8 * size) - 1))
    path = tmp_path / "x"
    path.write_bytes(data)
    started = time.monotonic()
    read_or_error(path)
    assert time.monotonic() - started < 20


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=400), bits=st.sampled_from([1, 2]), order=st.sampled_from([1, 2]))
def test_random_bytes(tmp_path: Path, data: bytes, bits: int, order: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\x7fELF" + bytes([bits, order, 1]) + data)
    read_or_error(path)


def hostile(dynamic: list[tuple[int, int]], rest: bytes, offset: int = 0x1000, size: int = 0) -> bytes:
    """A 64-bit object of one segment at address 0, its dynamic section at 0x200 and `rest` at `offset`."""
    size = size or offset + len(rest)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 0x1000)
    entries = b"".join(struct.pack("<QQ", tag, value) for tag, value in [*dynamic, (0, 0)])
    table = struct.pack("<IIQQQQQQ", 2, 6, 0x200, 0x200, 0, len(entries), len(entries), 8)
    data = bytearray(size)
    data[: len(header + load + table)] = header + load + table
    data[0x200 : 0x200 + len(entries)] = entries
    data[offset : offset + len(rest)] = rest
    return bytes(data)


STRINGS = [(elf.DT_STRTAB, 0x1000), (elf.DT_STRSZ, 0x1000)]
BLOCK = b"\0" + b"a" * 0xFFE + b"\0"


@pytest.mark.parametrize(
    ("dynamic", "rest", "size"),
    [
        pytest.param([*STRINGS, (elf.DT_SYMTAB, 0x2000), (elf.DT_HASH, 0x2000)], BLOCK + b"\xff" * 64, 0, id="symbols"),
        pytest.param([*STRINGS, (elf.DT_SYMTAB, 0x2000), (elf.DT_GNU_HASH, 0x2000)], BLOCK + b"\xff" * 64, 0, id="gnu"),
        pytest.param(
            [*STRINGS, (elf.DT_SYMTAB, 0x2000), (elf.DT_GNU_HASH, 0x2000)],
            BLOCK + struct.pack("<6I", 1, 0, 0, 0, 1, 0) + bytes(1 << 16),
            0,
            id="gnu chain without an end",
        ),
        pytest.param(
            [*STRINGS, (elf.DT_VERNEED, 0x2000), (elf.DT_VERNEEDNUM, 1 << 40)],
            BLOCK + struct.pack("<HHIII", 1, 0xFFFF, 1, 0, 1) * 4000,
            0,
            id="versions",
        ),
        pytest.param(
            [*STRINGS, (elf.DT_VERDEF, 0x2000), (elf.DT_VERDEFNUM, 1 << 60)],
            BLOCK + struct.pack("<HHHHIII", 1, 0, 2, 1, 0, 0, 20) * 4000,
            0,
            id="version definitions",
        ),
        pytest.param([(elf.DT_STRTAB, 0), (elf.DT_STRSZ, 1 << 62)], b"", 0x2000, id="strings"),
        pytest.param([(elf.DT_STRTAB, 0), (elf.DT_STRSZ, 1 << 40)], b"", 0x2000, id="strings beyond the file"),
        pytest.param([*STRINGS, (elf.DT_NEEDED, 0x5000)], BLOCK, 0, id="name beyond the table"),
        pytest.param([(elf.DT_NEEDED, 1)], BLOCK, 0, id="no table"),
        pytest.param([(elf.DT_STRTAB, 1 << 50), (elf.DT_STRSZ, 1)], BLOCK, 0, id="address of nothing"),
    ],
)
def test_counts_that_lie(tmp_path: Path, dynamic: list[tuple[int, int]], rest: bytes, size: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(hostile(dynamic, rest, size=size))
    tracemalloc.start()
    started = time.monotonic()
    error_of(path)
    assert time.monotonic() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_names_that_overlap(tmp_path: Path) -> None:
    """30 000 names, each a byte shorter than the one before, in a table of a few pages: a gigabyte in all."""
    count, size = 30_000, 60_000
    strings = b"\0" + b"a" * (size - 2) + b"\0"
    symbols = b"".join(struct.pack("<IBBHQQ", 1 + index, 0x12, 0, 1, 0, 0) for index in range(count))
    table = struct.pack("<II", 0, count)
    at = 0x1000 + size
    dynamic = [(5, 0x1000), (10, size), (6, at), (4, at + len(symbols))]
    path = tmp_path / "x"
    path.write_bytes(hostile(dynamic, strings + symbols + table))
    tracemalloc.start()
    assert "overlap" in error_of(path)
    assert tracemalloc.get_traced_memory()[1] < 60_000_000
    tracemalloc.stop()


def test_version_lists_that_lead_to_each_other(tmp_path: Path) -> None:
    """Each of 2000 files seems to need a list of 2000 versions, the same one."""
    count = 2000
    files = b"".join(struct.pack("<HHIII", 1, 0xFFFF, 1, 16 * (count - index), 16) for index in range(count))
    versions = struct.pack("<IHHII", 0, 0, 2, 1, 16) * count
    path = tmp_path / "x"
    dynamic = [*STRINGS, (elf.DT_VERNEED, 0x2000), (elf.DT_VERNEEDNUM, count)]
    path.write_bytes(hostile(dynamic, BLOCK + files + versions + bytes(32)))
    assert "65536 version entries" in error_of(path)


def test_more_symbols_than_anything_has(tmp_path: Path) -> None:
    count = 1_100_000
    path = tmp_path / "x"
    size = 0x3000 + 24 * count
    path.write_bytes(hostile([*STRINGS, (6, 0x3000), (4, 0x2000)], BLOCK + struct.pack("<II", 0, count), size=size))
    assert "1048576 dynamic symbols" in error_of(path)


@pytest.mark.parametrize(("other", "exported"), [(0, True), (1, False), (2, False), (3, True)])
def test_visibility_of_a_dynamic_symbol(tmp_path: Path, other: int, exported: bool) -> None:
    """Some linkers leave hidden symbols in the dynamic table; loaders do not bind to them."""
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, other, 1, 0, 0)
    path = tmp_path / "x"
    path.write_bytes(hostile([*STRINGS, (6, 0x2010), (4, 0x2000)], BLOCK + struct.pack("<4I", 0, 2, 0, 0) + symbols))
    assert bool(elf.read(path).exports) is exported


def test_a_sparse_giant(tmp_path: Path) -> None:
    """A file of 1 TiB that has nothing in it but a string table of half a gigabyte."""
    path = tmp_path / "x"
    path.write_bytes(hostile([(elf.DT_STRTAB, 0), (elf.DT_STRSZ, 1 << 29)], b"", size=0x2000))
    with path.open("r+b") as file:
        file.seek(64 + 32)
        file.write(struct.pack("<QQ", 1 << 40, 1 << 40))  # the segment covers the file
        file.truncate(1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error_of(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_importing_elf_does_not_import_pyelftools() -> None:
    command = [sys.executable, "-c", "import sys, memproxy_sol.elf; sys.exit('elftools' in sys.modules)"]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_signal_while_a_file_is_read_is_no_damage_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(reader: object) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(elf._Reader, "library", interrupted)
    with pytest.raises(Interrupted):
        elf.read(sys.executable)

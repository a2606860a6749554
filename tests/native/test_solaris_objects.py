"""The objects for Solaris x86 are what the ld.so.1 of Solaris 10 and later loads, say elf.py and llvm-readelf.

No Solaris is at hand: what is asserted here is what its manuals and public sources say (reference "solaris-native",
section 3, and cross.py).
"""

from __future__ import annotations

import csv
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from memproxy_sol import build, cross, elf, resources
from memproxy_sol.errors import BuildError

NATIVE = Path(__file__).resolve().parents[2] / "native"
BUMP = NATIVE / "examples" / "bump_allocator.c"
BOTH = pytest.mark.parametrize("bits", [32, 64])


@cache
def library(bits: int) -> Path:
    """The real library, built once for these sources by configure --host=..., and kept in the cache."""
    return build.cached("solaris", [32, 64])[bits]


@pytest.fixture(scope="session")
def bump(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The demonstration allocator."""
    directory = tmp_path_factory.mktemp("bump")
    return {
        bits: cross.compile_shared([BUMP], bits, directory / str(bits) / "libbump.so", "libbump.so")
        for bits in (32, 64)
    }


@cache
def readelf(path: Path, *options: str) -> str:
    for name in ("llvm-readelf", *(f"llvm-readelf-{version}" for version in range(25, 12, -1))):
        program = shutil.which(name)
        if program is not None:
            return subprocess.run([program, *options, str(path)], capture_output=True, text=True, check=True).stdout
    return pytest.fail("llvm-readelf is missing: install llvm", pytrace=False)


def solaris_10_libc(bits: int) -> dict[str, str]:
    """Name and version of what libc.so.1 of Solaris 10 exports, read here on its own from the table of facts."""
    words = {32: {"all", "x86", "elf32", "i386"}, 64: {"all", "x86", "elf64", "amd64"}}[bits]
    old = {"SYSVABI_1.3", "SISCD_2.3", *(f"SUNW_0.{n}" for n in (7, 8, 9)), "SUNW_1.1"}
    old |= {"SUNW_1.18", "SUNW_1.18.1", "SUNW_1.19", "SUNW_1.20", "SUNW_1.20.1", "SUNW_1.20.4", "SUNW_1.21"}
    old |= {"SUNW_1.21.1", "SUNW_1.21.2", "SUNW_1.21.3", "SUNW_1.22"}
    with (resources.solaris_sysroot() / "libc-symbols.tsv").open(newline="") as table:
        return {
            row["symbol"]: row["version"]
            for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
            if words & set(row["arch"].split(",")) and row["version"] in old
        }


def subjects(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test for the real library and the demonstration allocator, in both ABIs."""
    marks = [pytest.mark.parametrize("name", ["libmemproxy.so", "libbump.so"]), BOTH]
    for mark in marks:
        test = mark(test)
    return test


@pytest.fixture
def subject(name: str, bits: int, request: pytest.FixtureRequest) -> Path:
    if name == "libmemproxy.so":
        return library(bits)
    path: Path = request.getfixturevalue("bump")[bits]
    return path


# -- what both are


@subjects
def test_header(subject: Path, name: str, bits: int) -> None:
    read = elf.read(subject)
    assert (read.bits, read.machine, read.kind) == (bits, {32: 3, 64: 62}[bits], "shared")
    assert read.byte_order == "little"
    assert read.os_abi in (0, 6)
    header = readelf(subject, "-h")
    assert f"ELF{bits}" in header
    assert {32: "Intel 80386", 64: "X86-64"}[bits] in header
    assert re.search(r"OS/ABI: +UNIX - (System V|Solaris)", header)
    assert re.search(r"ABI Version: +0$", header, re.M)


@subjects
def test_needs_libc_alone(subject: Path, name: str, bits: int) -> None:
    read = elf.read(subject)
    assert (read.soname, read.needed) == (name, ("libc.so.1",))
    assert (read.rpath, read.runpath, read.interpreter) == (None, None, None)
    dynamic = readelf(subject, "-d")
    assert re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) == ["libc.so.1"]
    assert re.findall(r"\(SONAME\).*\[(.*)\]", dynamic) == [name]
    assert not re.search(r"RPATH|RUNPATH|AUXILIARY|FILTER|SYMBOLIC", dynamic)


@subjects
def test_every_import_is_in_solaris_10_in_that_version(subject: Path, name: str, bits: int) -> None:
    libc = solaris_10_libc(bits)
    imports = {symbol.name: (symbol.version, symbol.library) for symbol in elf.read(subject).imports}
    assert imports
    assert imports == {symbol: (libc.get(symbol), "libc.so.1") for symbol in imports}
    listed = re.findall(r" UND (\S+)@(\S+)(?: \(\d+\))?$", readelf(subject, "--dyn-syms"), re.M)
    assert dict(listed) == {symbol: libc[symbol] for symbol in imports}
    needs = readelf(subject, "-V").partition("Version needs section")[2]
    assert re.findall(r"File: (\S+)", needs) == ["libc.so.1"]
    assert set(re.findall(r"Name: (\S+)", needs)) <= set(libc.values())


@subjects
def test_exports_have_no_versions(subject: Path, name: str, bits: int) -> None:
    read = elf.read(subject)
    assert read.versions_defined == ()
    assert {symbol.version for symbol in read.defined} == {None}
    assert "VERDEF" not in readelf(subject, "-d")


@subjects
def test_no_hash_table_but_the_first(subject: Path, name: str, bits: int) -> None:
    assert elf.read(subject).hash_styles == {"sysv"}
    assert "GNU_HASH" not in readelf(subject, "-d")


@subjects
def test_no_text_relocations_and_none_that_solaris_does_not_know(subject: Path, name: str, bits: int) -> None:
    read = elf.read(subject)
    assert not read.text_relocations
    assert not re.search(r"TEXTREL|RELR|TLSDESC", readelf(subject, "-d"))
    allowed = {
        32: {"R_386_RELATIVE", "R_386_GLOB_DAT", "R_386_JUMP_SLOT", "R_386_32"},
        64: {"R_X86_64_RELATIVE", "R_X86_64_GLOB_DAT", "R_X86_64_JUMP_SLOT", "R_X86_64_64"},
    }[bits]
    relocations = set(re.findall(r"R_(?:386|X86_64)_\w+", readelf(subject, "-r")))
    assert relocations <= allowed


@subjects
def test_relocations_are_in_one_piece(subject: Path, name: str, bits: int) -> None:
    """ld.so.1 takes what lies between DT_REL(A) and the end of the table at DT_JMPREL for relocations."""
    tags = dict(elf.read(subject).dynamic)
    start, size = (tags.get(7), tags.get(8)) if bits == 64 else (tags.get(17), tags.get(18))
    if start is not None and size is not None and 23 in tags:
        assert start + size == tags[23]


@subjects
def test_segments_are_such_as_suns_linker_makes(subject: Path, name: str, bits: int) -> None:
    listing = readelf(subject, "-lW")
    kinds = set(re.findall(r"^  ([A-Z_]+) +0x", listing, re.M))
    assert kinds <= {"PHDR", "LOAD", "DYNAMIC", "GNU_EH_FRAME"}  # the last is PT_SUNW_EH_FRAME, the same number
    assert {1, 2} <= elf.read(subject).segments
    loads = re.findall(r"^  LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+) 0x(\w+) (...) 0x(\w+)", listing, re.M)
    assert [flags for *_, flags, _ in loads] == ["R E", "RW "]
    assert not elf.read(subject).writable_and_executable
    (offset, address, _, size, align), (offset2, address2, *_, align2) = (
        [int(field, 16) for field in (*load[:4], load[5])] for load in loads
    )
    assert (offset, address) == (0, 0)
    assert address2 // 4096 > (address + size - 1) // 4096, "mmapobj(2) wants no page in two segments"
    assert offset2 % 4096 == address2 % 4096
    assert address2 >= 0x10000
    assert align == align2 == 0x10000
    assert f"Start of program headers: {52 if bits == 32 else 64} " in re.sub(" +", " ", readelf(subject, "-h"))


@subjects
def test_no_notes_capabilities_or_thread_local_storage(subject: Path, name: str, bits: int) -> None:
    read = elf.read(subject)
    assert read.notes == ()
    assert not read.tls
    sections = re.findall(r"^ +\[ *\d+\] (\S+)", readelf(subject, "-SW"), re.M)
    assert ".text" in sections
    unwanted = re.compile(r"\.note|\.tdata|\.tbss|SUNW_cap|\.gnu\.hash|\.debug|\.ctors|\.dtors|\.symtab|\.fini|llvm")
    assert [section for section in sections if unwanted.search(section)] == []
    assert not re.search(r"\bTLS\b|GNU_IFUNC|\bIFUNC\b", readelf(subject, "--dyn-syms"))


@subjects
def test_code_for_any_cpu_without_thread_registers(subject: Path, name: str, bits: int) -> None:
    """Solaris keeps its own data behind %gs and %fs; a stack protector or TLS of another system would read it."""
    program = (
        shutil.which("llvm-objdump") or shutil.which("objdump") or pytest.fail("objdump is missing", pytrace=False)
    )
    code = subprocess.run([program, "-d", str(subject)], capture_output=True, text=True, check=True).stdout
    assert len(code.splitlines()) > 100
    assert not re.search(r"%[fg]s:|endbr|\t(rdtsc|syscall|int\t)", code)
    unwanted = r"\tcmov|%xmm|%st\b|%ymm" if bits == 32 else r"%ymm|%zmm|\tpopcnt|\ttzcnt|\tlzcnt|\tcrc32"
    assert not re.search(unwanted, code)


@subjects
def test_nothing_of_the_building_machine_is_in_it(subject: Path, name: str, bits: int) -> None:
    data = subject.read_bytes()
    for trace in (b"/tmp", b"memproxy-sol-", b"sysroot", str(Path.home()).encode(), str(NATIVE).encode()):
        assert trace not in data
    assert subject.stat().st_mode & 0o7777 == 0o755


# -- libmemproxy


@BOTH
def test_exports_are_the_table(bits: int) -> None:
    names = (NATIVE / "names.def").read_text().splitlines()
    table = {name.replace("@", "m" if bits == 64 else "j") for name in names if name and not name.startswith("#")}
    assert elf.read(library(bits)).exports == table


@BOTH
def test_flags_and_constructor(bits: int) -> None:
    flags = elf.read(library(bits)).flags_1
    for flag in (elf.DF_1_NOW, elf.DF_1_NODELETE, elf.DF_1_INTERPOSE):
        assert flags & flag
    dynamic = readelf(library(bits), "-d")
    assert "(INIT_ARRAY)" in dynamic
    assert "FINI" not in dynamic


@BOTH
def test_the_record_is_our_own_beside_another_copy(bits: int) -> None:
    assert "memproxy_record" not in readelf(library(bits), "-r")


@BOTH
def test_small_and_with_the_list_of_etc(bits: int) -> None:
    data = library(bits).read_bytes()
    assert len(data) < 64 * 1024
    assert b"\0/etc/memproxy.conf\0" in data


def straight_path(bits: int, function: str) -> list[str]:
    """The instructions of a function up to where it returns or jumps on, no branch being taken."""
    program = shutil.which("llvm-objdump") or pytest.fail("llvm-objdump is missing: install llvm", pytrace=False)
    command = [program, "-d", "--no-show-raw-insn", f"--disassemble-symbols={function}", str(library(bits))]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = re.findall(r"^ *[0-9a-f]+: +\t(\w+)", code, re.M)
    end = next(i for i, word in enumerate(words) if re.match(r"ret|jmp", word))
    return words[: end + 1]


@pytest.mark.parametrize(("bits", "budget"), [(64, 8), (32, 20)])
def test_malloc_and_free_are_short(bits: int, budget: int) -> None:
    """The instructions added to a pair of calls; bench/ counts those that the compiler of Linux makes."""
    paths = straight_path(bits, "malloc"), straight_path(bits, "free")
    assert re.match("ret", paths[0][-1])
    assert re.match("jmp", paths[1][-1]), "free jumps"
    assert sum(map(len, paths)) <= budget, paths


def test_32_bit_uses_large_files() -> None:
    imports = {symbol.name for symbol in elf.read(library(32)).imports}
    assert {"open64", "fstat64"} <= imports
    assert not {"open", "fstat", "mmap"} & imports


@BOTH
def test_an_exception_can_pass_through_operator_new(bits: int) -> None:
    assert ".eh_frame_hdr" in readelf(library(bits), "-SW")


def test_the_same_bytes_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "other directory" / "native"
    shutil.copytree(NATIVE, sources, ignore=shutil.ignore_patterns("autom4te.cache", ".libs", "*.o"))
    scratch = tmp_path / "scratch" / ("deeper" * 10)
    scratch.mkdir(parents=True)
    monkeypatch.setattr(resources, "native_sources", lambda: sources)
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    made = build.build("solaris", [32, 64], tmp_path / "out", jobs=1)
    assert {bits: path.read_bytes() for bits, path in made.items()} == {
        bits: library(bits).read_bytes() for bits in (32, 64)
    }
    assert list(scratch.iterdir()) == []


# -- the stand-in for libc


@BOTH
def test_the_stand_in_exports_what_solaris_10_does(bits: int, tmp_path: Path) -> None:
    runner = cross.tools.Runner(tmp_path / "log", cross.tools.environment(), cross.tools.silent, "test")
    cross.Toolchain(tmp_path / "t", bits, cross.find_compiler(), runner, resources.solaris_sysroot())
    stub = elf.read(tmp_path / "t" / "libc.so")
    assert stub.soname == "libc.so.1"
    assert {symbol.name: symbol.version for symbol in stub.defined} == solaris_10_libc(bits)
    listed = re.findall(r"(\S+)@@(\S+)$", readelf(tmp_path / "t" / "libc.so", "--dyn-syms"), re.M)
    assert dict(listed) == solaris_10_libc(bits)


# -- what is refused


def compile_text(tmp_path: Path, bits: int, text: str, suffix: str = ".c") -> Path:
    (tmp_path / f"source{suffix}").write_text(text)
    return cross.compile_shared([tmp_path / f"source{suffix}"], bits, tmp_path / "libx.so", "libx.so")


CALL = "int {0}(); int f(void) {{ return {0}(); }}"


@pytest.mark.parametrize(
    ("bits", "text", "missing"),
    [
        pytest.param(64, CALL.format("posix_memalign"), "posix_memalign", id="Solaris 11"),
        pytest.param(64, CALL.format("aligned_alloc"), "aligned_alloc", id="illumos"),
        pytest.param(64, CALL.format("no_such_name"), "no_such_name", id="nowhere"),
        pytest.param(32, "long long f(long long a, long long b) { return a / b; }", "__divdi3", id="libgcc"),
        pytest.param(
            64, "__thread int x; int *f(void) { return &x; }", "__tls_get_addr|thread-local", id="thread-local"
        ),
    ],
)
def test_what_solaris_10_lacks_cannot_be_linked(tmp_path: Path, bits: int, text: str, missing: str) -> None:
    with pytest.raises(BuildError, match=missing):
        compile_text(tmp_path, bits, text)
    assert not (tmp_path / "libx.so").exists()


def test_text_relocations_cannot_be_linked(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="relocation"):
        compile_text(tmp_path, 32, 'int x; __asm__(".text\\n.globl f\\nf: movl $x, %eax\\nret\\n");')


def test_headers_of_this_machine_are_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"features\.h"):
        compile_text(tmp_path, 64, "#include <features.h>\n")


@BOTH
@pytest.mark.parametrize("suffix", [".c", ".cc"])
@pytest.mark.parametrize("flags", [(), ("-D_FILE_OFFSET_BITS=64",)])
def test_every_header_compiles_alone_and_with_all(
    tmp_path: Path, bits: int, suffix: str, flags: tuple[str, ...]
) -> None:
    include = resources.solaris_sysroot() / "include"
    headers = sorted(str(path.relative_to(include)) for path in include.rglob("*.h"))
    assert len(headers) > 10
    sources = []
    for number, chosen in enumerate([*([header] for header in headers), headers, headers[::-1]]):
        source = tmp_path / f"{number}{suffix}"
        source.write_text("".join(f"#include <{header}>\n" for header in chosen) + f"int unique{number};\n")
        sources.append(source)
    strict = ("-Wall", "-Wextra", "-Werror", "-pedantic-errors", *flags)
    cross.compile_shared(sources, bits, tmp_path / "libx.so", "libx.so", flags=strict)


def edited(original: Path, tmp_path: Path, edit: Callable[[bytearray], None]) -> Path:
    data = bytearray(original.read_bytes())
    edit(data)
    copy = tmp_path / original.name
    copy.write_bytes(data)
    return copy


def set_bytes(at: int, value: bytes) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        data[at : at + len(value)] = value

    return edit


def replace(old: bytes, new: bytes) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        assert old in data
        data[:] = data.replace(old, new)

    return edit


def program_header(kind: int, word: int, value: int) -> Callable[[bytearray], None]:
    """Sets a word of the first program header of `kind` in a 64-bit object."""

    def edit(data: bytearray) -> None:
        at = next(at for at in range(64, 64 + 56 * data[56], 56) if struct.unpack_from("<I", data, at)[0] == kind)
        struct.pack_into("<I", data, at + 4 * word, value)

    return edit


def dynamic_tag(tag: int, new: int) -> Callable[[bytearray], None]:
    """Renames a tag of the dynamic section of a 64-bit object."""

    def edit(data: bytearray) -> None:
        at = data.find(struct.pack("<Q", tag), 0x1000)
        while struct.unpack_from("<Q", data, at)[0] != tag or at % 8:
            at = data.find(struct.pack("<Q", tag), at + 1)
        struct.pack_into("<Q", data, at, new)

    return edit


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        pytest.param(set_bytes(18, b"\xb7\0"), "machine 183", id="machine"),
        pytest.param(set_bytes(16, b"\x02\0"), "executable object", id="type"),
        pytest.param(set_bytes(7, b"\x03"), "OS ABI 3", id="Linux"),
        pytest.param(replace(b"libc.so.1\0", b"libc.so.6\0"), r"needs libc\.so\.6", id="libc of Linux"),
        pytest.param(replace(b"libmemproxy.so\0", b"libmemprOxy.so\0"), "soname", id="soname"),
        pytest.param(replace(b"SUNW_1.22\0", b"SUNW_1.23\0"), r"needs version SUNW_1\.23", id="version of Solaris 11"),
        pytest.param(replace(b"\0issetugid\0", b"\0isset_gid\0"), "uses isset_gid", id="unknown name"),
        pytest.param(program_header(1, 1, 7), "writable and executable", id="segment"),
        pytest.param(program_header(6, 0, 7), "thread-local storage", id="TLS"),
        pytest.param(program_header(6, 0, 0x6474E551), "PT_GNU_STACK", id="stack"),
        pytest.param(program_header(6, 0, 0x6474E552), "PT_GNU_RELRO", id="relro"),
        pytest.param(dynamic_tag(0x1E, 22), "text relocations", id="text relocations"),
        pytest.param(dynamic_tag(0x1E, 29), "run path", id="run path"),
        pytest.param(dynamic_tag(0x1E, 36), "DT_RELR", id="packed relocations"),
    ],
)
def test_check_refuses(tmp_path: Path, edit: Callable[[bytearray], None], complaint: str) -> None:
    cross.check(library(64), 64, "libmemproxy.so")
    with pytest.raises(BuildError, match=complaint):
        cross.check(edited(library(64), tmp_path, edit), 64, "libmemproxy.so")


def test_check_refuses_the_other_abi_and_objects_of_this_machine() -> None:
    with pytest.raises(BuildError, match="a 32-bit shared object"):
        cross.check(library(32), 64, "libmemproxy.so")
    with pytest.raises(
        BuildError, match=r"soname None.*needs version GLIBC.*hash tables gnu.*notes of GNU.*PT_GNU_STACK"
    ):
        cross.check(Path("/bin/ls"), 64, "libmemproxy.so")


# -- the demonstration allocator, on this machine, where it can run

DRIVER = r"""
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <malloc.h>
#define CHECK(condition) do { if (!(condition)) { write_line(__LINE__); _exit(1); } } while (0)
#include <unistd.h>
#include <stdio.h>
static void write_line(int line) {
  char text[40];
  int n = snprintf(text, sizeof text, "line %d\n", line);
  if (write(2, text, n)) {}
}
static void *work(void *seed) {
  for (unsigned i = 0; i < 20000; ++i) {
    size_t size = (i * 2654435761u + (unsigned)(uintptr_t)seed) % 3000;
    unsigned char *block = malloc(size);
    CHECK(block && (uintptr_t)block % 16 == 0 && malloc_usable_size(block) >= size);
    memset(block, (int)(uintptr_t)seed, size);
    block = realloc(block, size * 2 + 1);
    for (size_t j = 0; j < size; ++j) CHECK(block[j] == (unsigned char)(uintptr_t)seed);
    free(block);
  }
  return 0;
}
int main(void) {
  pthread_t threads[4];
  for (uintptr_t i = 0; i < 4; ++i) CHECK(pthread_create(&threads[i], 0, work, (void *)(i + 1)) == 0);
  for (int i = 0; i < 4; ++i) CHECK(pthread_join(threads[i], 0) == 0);
  for (size_t alignment = 1; alignment <= 1 << 22; alignment *= 2) {
    char *block = memalign(alignment, 100);
    CHECK(block && (uintptr_t)block % alignment == 0 && malloc_usable_size(block) == 100);
    block[99] = 1;
  }
  char *zero = calloc(1000, 1000);
  for (size_t i = 0; i < 1000000; ++i) CHECK(zero[i] == 0);
  volatile size_t huge = SIZE_MAX;
  errno = 0; CHECK(calloc(huge / 2, 3) == 0 && errno == ENOMEM);
  errno = 0; CHECK(malloc(huge) == 0 && errno == ENOMEM);
  errno = 0; CHECK(memalign(huge / 2 + 1, 8) == 0 && errno == ENOMEM);
  errno = 0; CHECK(memalign(3, 8) == 0 && errno == EINVAL);
  CHECK(malloc(0) != malloc(0));
  CHECK(realloc(0, 10) != 0);
  free(0);
  char *big = malloc(50 << 20);
  CHECK(big);
  big[(50 << 20) - 1] = 1;
  return 0;
}
"""


@BOTH
def test_the_demonstration_allocator_allocates(bits: int, tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text(DRIVER)
    for command in (
        ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-o", "libbump.so", str(BUMP)],
        ["-fno-builtin", "-pthread", "-o", "driver", "driver.c"],
    ):
        subprocess.run(["gcc", f"-m{bits}", "-O2", *command], cwd=tmp_path, check=True)
    environment = {"LD_PRELOAD": str(tmp_path / "libbump.so")}
    done = subprocess.run([str(tmp_path / "driver")], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# -- the command


def test_the_command_prints_a_line_for_each_library(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "memproxy_sol", "build", "--target", "solaris", "--bits", "64", "--output", "out"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**cross.tools.environment(), "PYTHONPATH": str(NATIVE.parent)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\t")[:2] == ["64 bit", "out/64/libmemproxy.so"]
    assert (tmp_path / "out/64/libmemproxy.so").read_bytes() == library(64).read_bytes()

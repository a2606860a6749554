"""The objects for Solaris x86, run on Linux: their very bytes, on a libc.so.1 that behaves as Solaris' does.

`solaris_libc/` holds that libc: its own heap, Solaris' numbers and layouts, the run-time linker's functions, in the
symbol versions of Solaris. Linux' loader maps the objects, with one byte of a copy changed: it refuses EI_OSABI
"Solaris". Nothing here has run on Solaris; what a real libc.so.1 and ld.so.1 do is taken from reference
"solaris-native".
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from proxied import Outcome, clean_environment, must, run_under

from memproxy_sol import build, cross, resources

SOURCES = Path(__file__).resolve().parent / "solaris_libc"
VARIANTS = ("solaris10", "illumos", "solaris11.4")
ARCHITECTURES = {32: {"all", "x86", "elf32", "i386"}, 64: {"all", "x86", "elf64", "amd64"}}

FAMILY = ("malloc", "free", "calloc", "realloc", "memalign", "valloc", "cfree")
LATER = ("posix_memalign", "aligned_alloc", "reallocarray", "reallocf", "recallocarray", "freezero")
ORACLE = ("aligned_alloc", "reallocarray", "reallocf", "freezero", "freezeroall", "malloc_usable_size")
REST = (
    *("environ", "___errno", "issetugid", "getexecname", "abort", "open", "close", "read", "write", "fstat", "getcwd"),
    *("sysconf", "mmap", "munmap", "open64", "fstat64", "mmap64", "dlopen", "dlsym", "dlerror", "dladdr1", "strdup"),
    *("memset", "memcpy", "memchr", "memcmp", "strlen", "strcmp", "strncmp", "strrchr"),
)
LABORATORY = ("lab_libc_owns", "lab_run_initialiser")


@cache
def facts(bits: int) -> dict[str, str]:
    """Name and version of what libc.so.1 of illumos exports, from the table of facts."""
    with (resources.solaris_sysroot() / "libc-symbols.tsv").open(newline="") as table:
        return {
            row["symbol"]: row["version"]
            for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
            if ARCHITECTURES[bits] & set(row["arch"].split(","))
        }


def exports(variant: str, bits: int) -> dict[str, str]:
    """Name and version of what the libc of a variant exports."""
    versions = {name: version for name, version in facts(bits).items() if name in {*FAMILY, *REST}}
    if variant != "solaris10":
        versions["posix_memalign"] = facts(bits)["posix_memalign"]
    if variant == "illumos":
        versions.update({name: facts(bits)[name] for name in LATER})
    elif variant == "solaris11.4":
        versions.update(dict.fromkeys(ORACLE, "SUNW_1.24"))  # the reference knows no number: what is later than 1.23
    return versions | dict.fromkeys(LABORATORY, "LABORATORY")


def version_script(versions: Mapping[str, str]) -> str:
    """The linker's list of what is exported, in which version."""
    nodes: dict[str, list[str]] = {}
    for name, version in sorted(versions.items()):
        nodes.setdefault(version, []).append(name)
    nodes.setdefault("LABORATORY", [])
    return "\n".join(
        f"{version} {{ global: {' '.join(f'{name};' for name in names)} {'local: *;' * (version == 'LABORATORY')} }};"
        for version, names in nodes.items()
    )


def make_libc(directory: Path, variant: str, bits: int) -> Path:
    """Compile libc.so.1, and beside it, to link programs with, the family alone; return the first."""
    (directory / "map").write_text(version_script(exports(variant, bits)))
    general = ["gcc", f"-m{bits}", "-shared", "-Wl,-soname,libc.so.1", f"-Wl,--version-script,{directory}/map"]
    # Called from code whose stack is aligned as on Solaris, by 4 bytes in 32 bit.
    flags = ["-O1", "-g0", "-w", "-fPIC", "-fno-builtin", "-fno-stack-protector", "-mstackrealign", "-Wl,-z,now"]
    flags += ["-fno-tree-loop-distribute-patterns"]
    target = directory / "libc.so.1"
    must([*general, *flags, *sorted(SOURCES.glob("*.c")), "-o", target], env=clean_environment())
    names = {name: version for name, version in exports(variant, bits).items() if name in {*FAMILY, *LABORATORY}}
    (directory / "map").write_text(version_script(names))
    (directory / "family.s").write_text(
        "".join(f".globl {name}\n.type {name}, @function\n{name}:\n" for name in names) + "ret\n"
    )
    must([*general, "-nostdlib", directory / "family.s", "-o", directory / "family.so"], env=clean_environment())
    return target


def for_linux(solaris: Path, target: Path) -> Path:
    """Copy an object for Solaris with the one byte changed that Linux' loader minds."""
    data = bytearray(solaris.read_bytes())
    assert data[7] in (0, 6)
    data[7] = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(0o755)
    return target


@cache
def solaris_library(bits: int) -> Path:
    """The real libmemproxy.so for Solaris, as `memproxy-sol build --target solaris` makes it."""
    return build.cached("solaris", [32, 64])[bits]


def make_allocator(directory: Path, bits: int, kind: str, soname: str, *defined: str) -> Path:
    """An allocator of `solaris_libc/allocators/`, compiled for Solaris as the library is."""
    source = SOURCES / "allocators" / "allocator.c"
    flags = ["-fsemantic-interposition", f"-D{kind.upper()}", *defined]  # its calls of malloc are the public malloc's
    made = cross.compile_shared([source], bits, directory / "solaris" / soname, soname, flags=flags)
    return for_linux(made, directory / soname)


def with_visibility(library: Path, target: Path, visibility: int) -> Path:
    """Copy an object with another visibility (st_other) of all that it defines."""
    data = bytearray(library.read_bytes())
    with library.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        at, size, other = table["sh_offset"], table["sh_entsize"], {1: 13, 2: 5}[data[4]]
        for number, symbol in enumerate(table.iter_symbols()):
            if symbol["st_shndx"] != "SHN_UNDEF":
                data[at + number * size + other] = visibility
    target.write_bytes(data)
    return target


@dataclass(frozen=True)
class Laboratory:
    """One ABI: a libc, and what runs on it."""

    bits: int
    libc: Path
    proxy: Path
    scratch: Path

    def run(
        self,
        command: Sequence[object],
        preload: Sequence[object] = (),
        environment: Mapping[str, str] | None = None,
        expect: int | None = 0,
        *,
        journal: bool = True,
        cwd: Path | None = None,
    ) -> tuple[Outcome, list[str]]:
        """Run a program on this libc; what it did, and the journal of calls into libc.so.1."""
        file = self.scratch / "journal"
        file.unlink(missing_ok=True)
        variables = {"LD_LIBRARY_PATH": str(self.libc.parent), **(environment or {})}
        if journal:
            variables["LAB_JOURNAL"] = str(file)
        outcome = run_under(command, preload, variables, expect, cwd=cwd)
        return outcome, file.read_text().splitlines() if file.exists() else []

"""Solaris x86 objects on another system: clang and lld against the sysroot of `native/sysroot/solaris`.

What the result must be like, so that the ld.so.1 of Solaris 10 and later and of illumos loads it, is in `check`.
Sources: reference "solaris-native", section 3; the public sources of ld.so.1 and of mmapobj(2), which map the PT_LOAD
headers, want them in ascending order without a page in common, and pass over program headers, dynamic tags and notes
that they do not know.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memproxy_sol import abi, elf, libc_stub, resources, tools
from memproxy_sol.errors import BuildError

RELEASE = "solaris2.11"
"""The system in the target's name. Compilers make nothing of the difference between 2.10 and 2.11."""

CPU = {32: "i386", 64: "x86_64"}
BASE_CPU = {32: "pentium", 64: "x86-64"}
"""-march: the least that Solaris 10 runs on. Without SSE it also does not matter to which boundary old 32-bit programs
align their stacks."""

SYSROOT = "sysroot/solaris"
"""Where the headers and the list of libc's symbols lie below the native sources."""

_COMPILE_SECONDS = 120.0

_CLANG_PACKAGES = "clang lld"
_VERSIONS = tuple(range(25, 12, -1))

# --no-rosegment: one text and one data segment, as Sun's linker writes them, for which mmapobj(2) has its fast path.
# eh-frame-hdr: with it the unwinder of a C++ program finds our operator new, through which its exceptions pass.
# norelro, nognustack: program headers that Solaris does not know. It passes over them; without them there is no doubt.
# max-page-size: as Sun's linker for x86. An ld.so.1 that finds a whole object in its first look at the file keeps that
# look as the mapping; a distance of 64 KiB between text and data rules this out.
# sysv: ld.so.1 of Solaris 10 and of illumos knows no other hash table.
_LINK_FLAGS = (
    "--hash-style=sysv",
    "--build-id=none",
    "--eh-frame-hdr",
    "--no-rosegment",
    "--strip-all",
    "-z",
    "norelro",
    "-z",
    "nognustack",
    "-z",
    "max-page-size=0x10000",
    "-z",
    "text",
    "-z",
    "defs",
)


@dataclass(frozen=True)
class Compiler:
    """The programs that make Solaris objects, found on this machine."""

    clang: str
    clangxx: str
    lld: str

    def versions(self) -> tuple[str, ...]:
        """What identifies the programs: the first line that each says of itself."""
        return tuple(tools.first_line([program, "--version"]) for program in (self.clang, self.clangxx, self.lld))


def find_compiler() -> Compiler:
    """Find clang, clang++ and ld.lld, with or without a version in their names; BuildError names what is missing."""

    def names(base: str) -> list[str]:
        return [base, *(f"{base}-{version}" for version in _VERSIONS)]

    return Compiler(
        tools.find(names("clang"), _CLANG_PACKAGES),
        tools.find(names("clang++"), _CLANG_PACKAGES),
        tools.find(names("ld.lld"), _CLANG_PACKAGES),
    )


class Toolchain:
    """Commands that compile and link for one ABI, made in a scratch directory that belongs to the caller."""

    def __init__(self, directory: Path, bits: int, compiler: Compiler, runner: tools.Runner, sysroot: Path) -> None:
        """Write the stand-in for libc.so.1 and the compilers' fronts into `directory`. Raises BuildError."""
        self.sysroot = sysroot
        self.bits = bits
        self.host = f"{CPU[bits]}-pc-{RELEASE}"
        self.directory = directory
        self.compiler = compiler
        self.runner = runner
        directory.mkdir(parents=True, exist_ok=True)
        self._make_libc()
        self.cc = self._script("clang", compiler.clang)
        self.cxx = self._script("clang++", compiler.clangxx)

    def _script(self, name: str, program: str) -> str:
        """A shell script that `configure` takes for a compiler of Solaris; see driver.sh."""
        flags = [
            f"--target={self.host}",
            f"-march={BASE_CPU[self.bits]}",
            "-nostdlibinc",
            "-isystem",
            str(self.sysroot / "include"),
            # configure takes a warning for a refusal.
            "-Wno-unused-command-line-argument",
            # What distributions switch on, and what needs libgcc or leaves a note for GNU's loader:
            "-fno-stack-protector",
            "-fcf-protection=none",
            # A scratch directory's name must not get into the library by way of __FILE__.
            f"-ffile-prefix-map={self.directory.parent}=.",
        ]
        # Ours come last and so win, against configure's -z noexecstack for one.
        text = f"""#!/bin/sh
compiler() {{ {shlex.join([program, *flags])} "$@"; }}
linker() {{ {shlex.quote(self.compiler.lld)} "$@" {shlex.join([*_LINK_FLAGS, str(self.directory / "libc.so")])}; }}
. {shlex.quote(str(self.sysroot / "driver.sh"))}
"""
        path = self.directory / name
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        path.chmod(0o755)
        return str(path)

    def _make_libc(self) -> None:
        symbols = libc_stub.read_symbols(self.sysroot / "libc-symbols.tsv", self.bits)
        source, script, stub = (self.directory / name for name in ("libc.s", "libc.versions", "libc.so"))
        source.write_text(libc_stub.assembly(symbols), encoding="ascii")
        script.write_text(libc_stub.version_script(symbols), encoding="ascii")
        what = f"stand-in for Solaris {libc_stub.SONAME}, {self.bits} bit"
        assemble = [self.compiler.clang, f"--target={self.host}", "-c", str(source), "-o", f"{source}.o"]
        link = [self.compiler.lld, "-shared", "--hash-style=sysv", f"-soname={libc_stub.SONAME}"]
        link += [f"--version-script={script}", "-o", str(stub), f"{source}.o"]
        self.runner.run(what, assemble, cwd=self.directory, seconds=_COMPILE_SECONDS)
        self.runner.run(f"{what}, linked", link, cwd=self.directory, seconds=_COMPILE_SECONDS)

    def shared(self, sources: Iterable[Path], output: Path, soname: str, flags: Sequence[str] = ()) -> None:
        """Compile C and C++ `sources` and link them as the shared object `output`. Raises BuildError."""
        objects = []
        for number, source in enumerate(sources):
            compiler = self.cc if source.suffix == ".c" else self.cxx
            made = self.directory / f"{number}-{source.stem}.o"
            command = [compiler, "-O2", "-fPIC", *flags, "-c", str(source), "-o", str(made)]
            self.runner.run(
                f"compile {source.name}, {self.bits} bit", command, cwd=self.directory, seconds=_COMPILE_SECONDS
            )
            objects.append(str(made))
        command = [self.cc, "-shared", "-Wl,-z,now", f"-Wl,-soname={soname}", *objects, "-o", str(output)]
        self.runner.run(f"link {output.name}, {self.bits} bit", command, cwd=self.directory, seconds=_COMPILE_SECONDS)


def compile_shared(
    sources: Iterable[Path],
    bits: int,
    output: Path,
    soname: str,
    *,
    flags: Sequence[str] = (),
    progress: tools.Progress = tools.silent,
) -> Path:
    """Make a Solaris x86 shared object of C and C++ `sources` that use nothing but libc; return `output`.

    Raises BuildError if a tool is missing, a source does not compile, or Solaris 10 would not load the result.
    """
    with tempfile.TemporaryDirectory(prefix="memproxy-sol-") as scratch:
        work = Path(scratch)
        runner = tools.Runner(work / "log", tools.environment(), progress, f"{Path(soname).stem}-solaris-{bits}")
        toolchain = Toolchain(work / "toolchain", bits, find_compiler(), runner, resources.solaris_sysroot())
        made = work / output.name
        toolchain.shared([source.resolve() for source in sources], made, soname, flags)
        check(made, bits, soname)
        tools.place(made, output)
    return output


_OS_ABIS = {0: "System V", 6: "Solaris"}
_UNKNOWN_TO_SOLARIS = {0x6474E551: "PT_GNU_STACK", 0x6474E552: "PT_GNU_RELRO", 0x6474E553: "PT_GNU_PROPERTY"}
_DT_RELA, _DT_RELASZ, _DT_REL, _DT_RELSZ, _DT_JMPREL, _DT_RELR = 7, 8, 17, 18, 23, 36


def check(path: Path, bits: int, soname: str) -> elf.Library:
    """Read a shared object for Solaris x86 and assert what the ld.so.1 of Solaris 10 and later wants of it.

    Raises BuildError with everything that is wrong, ElfError if it is no ELF file.
    """
    library = elf.read(path)
    wrong = []
    if (library.bits, library.machine, library.kind) != (bits, abi.X86.elf_machine[bits], "shared"):
        wrong.append(f"a {library.bits}-bit {library.kind} object for machine {library.machine}")
    if library.os_abi not in _OS_ABIS:
        wrong.append(f"OS ABI {library.os_abi}")
    if library.soname != soname:
        wrong.append(f"soname {library.soname}")
    if library.needed != (libc_stub.SONAME,):
        wrong.append(f"needs {', '.join(library.needed) or 'nothing'}, not {libc_stub.SONAME} alone")
    if library.rpath is not None or library.runpath is not None:
        wrong.append(f"a run path {library.runpath or library.rpath}")
    exported = {
        symbol.name: symbol.version
        for symbol in libc_stub.read_symbols(resources.solaris_sysroot() / "libc-symbols.tsv", bits)
    }
    for symbol in library.imports:
        if symbol.name not in exported:
            if not symbol.weak:
                wrong.append(f"uses {symbol.name}, which Solaris 10 does not have")
        elif symbol.version != exported[symbol.name]:
            wrong.append(f"uses {symbol.name} in version {symbol.version}, not {exported[symbol.name]}")
    for name, version in library.versions_needed:
        if name != libc_stub.SONAME or not libc_stub.in_solaris_10(version):
            wrong.append(f"needs version {version} of {name}")
    if library.versions_defined:
        wrong.append(f"gives its own names the versions {', '.join(library.versions_defined)}")
    if library.text_relocations:
        wrong.append("text relocations")
    if library.tls:
        wrong.append("thread-local storage")
    if library.writable_and_executable:
        wrong.append("a segment that is writable and executable")
    if library.hash_styles != {"sysv"}:
        wrong.append(f"hash tables {', '.join(sorted(library.hash_styles)) or 'missing'}, not sysv alone")
    if library.notes:
        wrong.append(f"notes of {', '.join(sorted({owner for owner, _ in library.notes}))}")
    wrong += [name for number, name in _UNKNOWN_TO_SOLARIS.items() if number in library.segments]
    tags = dict(library.dynamic)
    relocations = [(tags[at], tags[size]) for at, size in ((_DT_RELA, _DT_RELASZ), (_DT_REL, _DT_RELSZ)) if at in tags]
    if relocations and _DT_JMPREL in tags and tags[_DT_JMPREL] not in (relocations[0][0], sum(relocations[0])):
        # ld.so.1 takes all from the first of the two tables to the end of the second for relocations.
        wrong.append("relocations that are not in one piece")
    if _DT_RELR in tags:
        wrong.append("relative relocations in the packed form (DT_RELR)")
    if wrong:
        raise BuildError(f"Solaris 10 would not load this: {'; '.join(wrong)}", where=str(path))
    return library

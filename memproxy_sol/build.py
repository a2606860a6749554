"""Building libmemproxy.so: with autotools for this machine, or with clang and lld for Solaris x86; and remembering it.

Both ways run the same `configure` and `make`, in a copy of the sources in scratch space, with an environment that holds
nothing of the caller's but what finds programs (see `tools.environment`). On Solaris itself the way is "native".
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from memproxy_sol import abi, cache, cross, elf, resources, tools
from memproxy_sol.errors import BuildError, UsageError

TARGETS = ("native", "solaris")
SONAME = "libmemproxy.so"

AUTORECONF_SECONDS = 300.0
CONFIGURE_SECONDS = 300.0
MAKE_SECONDS = 600.0

# What configure and make leave in a source directory: neither copied nor part of what identifies the sources.
_BUILT = {
    "Makefile",
    "config.h",
    "config.log",
    "config.status",
    "libtool",
    "stamp-h1",
    "autom4te.cache",
    ".deps",
    ".libs",
}
_BUILT_ENDS = (".o", ".lo", ".la", ".so", ".a", ".map", ".trs", ".log", ".pyc", "~")
# What autoreconf leaves: copied, since a wheel has it and a machine without autoconf needs it, but no source.
_GENERATED = {"configure", "Makefile.in", "aclocal.m4", "config.h.in", "build-aux", "m4", "compile", "config.guess"}
_GENERATED |= {"config.sub", "depcomp", "install-sh", "ltmain.sh", "missing", "test-driver", "ar-lib"}

_SAME_FOR_ALL = ("--prefix=/usr/local", "--libdir=/usr/local/lib", "--sysconfdir=/etc", "--disable-static")


def build(
    target: str,
    bits: Iterable[int],
    output: Path,
    *,
    jobs: int | None = None,
    progress: tools.Progress = tools.silent,
) -> dict[int, Path]:
    """Build libmemproxy for `target` ("native" or "solaris") in each of `bits`; return the library of each.

    They are `output`/libmemproxy.so and `output`/64/libmemproxy.so, mode 0755, stripped. `jobs` is what make runs at a
    time (default: one for each processor). Raises UsageError for a target or ABI that does not exist, and BuildError
    with the end of the log, or with the tool that is missing and the Debian package that has it.
    """
    wanted = _check(target, bits)
    made = {}
    with tempfile.TemporaryDirectory(prefix="memproxy-sol-") as scratch:
        work = Path(scratch)
        builder = _Builder(target, work, jobs or os.cpu_count() or 1, progress)
        for width in wanted:
            made[width] = builder.library(width)
        return {width: place(made[width], output, width) for width in wanted}


def cached(
    target: str,
    bits: Iterable[int],
    progress: tools.Progress = tools.silent,
    *,
    jobs: int | None = None,
) -> dict[int, Path]:
    """As `build`, in the cache directory (see `cache.root`): built once for these sources and tools, and re-used after.

    A damaged or half-written entry is built again. The files must not be changed. Raises what `build` raises.
    """
    wanted = _check(target, bits)
    directory = cache.root() / "build"
    directory.mkdir(exist_ok=True)
    entries = {width: directory / f"{target}-{width}-{_key(target, width)}" for width in wanted}
    missing = [width for width in wanted if _entry(entries[width]) is None]
    if missing:
        with tempfile.TemporaryDirectory(prefix=".new-", dir=directory) as scratch:
            made = build(target, missing, Path(scratch, "made"), jobs=jobs, progress=progress)
            for width in missing:
                _enter(made[width], entries[width], Path(scratch))
    found = {width: _entry(entries[width]) for width in wanted}
    return {width: path if path is not None else _lost(entries[width]) for width, path in found.items()}


def _check(target: str, bits: Iterable[int]) -> tuple[int, ...]:
    wanted = tuple(sorted(set(bits)))
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}", hint=f"it is one of {', '.join(TARGETS)}")
    if not wanted or not set(wanted) <= set(abi.ABIS):
        raise UsageError(f"unknown bits {', '.join(map(str, wanted)) or 'none'}", hint="they are 32, 64 or both")
    return wanted


def place(made: Path, output: Path, width: int) -> Path:
    """Copy the library `made` to where `output`, laid out as a generation, has that of this ABI; return that path.

    Raises BuildError if it cannot be written.
    """
    library = Path(f"{output}{abi.ABIS[width].subdirectory}", SONAME)
    try:
        tools.place(made, library)
    except OSError as error:
        raise BuildError(f"cannot be written: {error.strerror}", where=str(library)) from None
    return library


# -- the sources


def source_files(directory: Path) -> Iterator[Path]:
    """What was written by hand below `directory`, in a fixed order, as paths relative to it."""
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if path.is_file() and not _left_over(relative) and not _GENERATED.intersection(relative.parts):
            yield relative


def _left_over(relative: Path) -> bool:
    return bool(_BUILT.intersection(relative.parts)) or relative.name.endswith(_BUILT_ENDS)


def _copy_sources(directory: Path, to: Path) -> bool:
    """Copy the sources and what autoreconf made of them; return whether the latter is there and up to date.

    In a checkout it is made anew if older than what it comes from. In the copy all that is generated gets a later time
    than its source, since make would otherwise take the order in which a wheel was unpacked for changes.
    """
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if path.is_file() and not _left_over(relative):
            (to / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / relative)
            shutil.copymode(path, to / relative)
    outputs = [directory / name for name in ("configure", "Makefile.in")]
    ready = all(path.is_file() for path in outputs)
    if ready and not resources.installed(directory):
        newest = max(os.path.getmtime(directory / name) for name in ("configure.ac", "Makefile.am"))
        ready = newest <= min(os.path.getmtime(path) for path in outputs)
    order = {"aclocal.m4": 1, "config.h.in": 3, "configure": 2, "Makefile.in": 3}
    for path in to.rglob("*"):
        if path.is_file():
            os.utime(path, (0, 10 * order.get(path.name, 0)))
    return ready


# -- one build


class _Builder:
    """Builds one target in one scratch directory: the sources once, then each ABI out of tree."""

    def __init__(self, target: str, work: Path, jobs: int, progress: tools.Progress) -> None:
        self.target = target
        self.work = work
        env = tools.environment() if target == "solaris" else tools.environment("CC", "CXX")
        self.runner = tools.Runner(work / "log", env, progress, f"build-{target}")
        self.compiler = cross.find_compiler() if target == "solaris" else None
        make = tools.find(("gmake", "make"), "make")
        parallel = [f"-j{jobs}"] if "GNU" in tools.first_line([make, "--version"]) else []
        self.make = [make, *parallel]
        tools.find(("ar", "gar"), "binutils")
        if target == "native" and "CXX" not in env:
            tools.find(("g++", "c++", "clang++", "CC"), "g++ g++-multilib")
        self.source = work / "source"
        if not _copy_sources(resources.native_sources(), self.source):
            for tool in ("autoconf", "automake", "libtoolize"):
                tools.find((tool,), "autoconf automake libtool")
            command = [tools.find(("autoreconf",), "autoconf"), "-fi"]
            self.runner.run("autoreconf", command, cwd=self.source, seconds=AUTORECONF_SECONDS)

    def library(self, bits: int) -> Path:
        """Configure, make and install for `bits` into scratch space; return the checked library."""
        directory = self.work / f"build-{bits}"
        stage = self.work / f"stage-{bits}"
        directory.mkdir()
        what = f"for {'Solaris, ' if self.target == 'solaris' else ''}{bits} bit"
        configure = ["/bin/sh", "../source/configure", *_SAME_FOR_ALL, *self._arguments(bits)]
        self._run(f"configure {what}", configure, directory, CONFIGURE_SECONDS, bits)
        self._run(f"make {what}", self.make, directory, MAKE_SECONDS, bits)
        # Solaris objects are stripped by their linker; this machine's strip might not know them.
        install = "install" if self.target == "solaris" else "install-strip"
        self._run(f"{install} {what}", [*self.make, install, f"DESTDIR={stage}"], directory, MAKE_SECONDS, bits)
        made = stage / "usr/local/lib" / SONAME
        if self.target == "solaris":
            cross.check(made, bits, SONAME)
        else:
            _check_native(made, bits)
        return made

    def _arguments(self, bits: int) -> list[str]:
        if self.compiler is None:
            flag = _width_flag(bits)
            return [f"CFLAGS=-O2{flag}", f"CXXFLAGS=-O2{flag}", *([f"LDFLAGS={flag.strip()}"] if flag else [])]
        chain = cross.Toolchain(
            self.work / f"toolchain-{bits}", bits, self.compiler, self.runner, self.source / cross.SYSROOT
        )
        return [
            f"--host={chain.host}",
            f"CC={chain.cc}",
            f"CXX={chain.cxx}",
            f"LD={self.compiler.lld}",
            "CFLAGS=-O2",
            "CXXFLAGS=-O2",
        ]

    def _run(self, what: str, command: Sequence[str], directory: Path, seconds: float, bits: int) -> None:
        try:
            self.runner.run(what, command, cwd=directory, seconds=seconds, more_log=directory / "config.log")
        except BuildError as error:
            if bits == 32 and self.target == "native" and "cannot create executables" in str(error):
                error.hint = "if the compiler lacks 32-bit libraries, on Debian: apt-get install g++-multilib"
            raise


_WIDTH_FLAGS = ("x86_64", "amd64", "i386", "i486", "i586", "i686", "i86pc", "sparc", "sparc64", "sun4u", "sun4v")


def _width_flag(bits: int) -> str:
    """The compiler flag for `bits` on this machine, with a blank before it; empty where there is only one width."""
    machine = platform.machine()
    if machine in _WIDTH_FLAGS:
        return f" -m{bits}"
    if bits == 64:
        return ""
    raise BuildError(f"a {machine} machine has no {bits}-bit processes", hint="use --bits 64")


def _check_native(made: Path, bits: int) -> None:
    library = elf.read(made)
    if library.bits != bits or library.soname != SONAME or "malloc" not in library.exports:
        raise BuildError(
            f"the compiler made a {library.bits}-bit library {library.soname}, not {SONAME} for {bits} bit",
            hint="check what CC and CXX name",
        )


# -- the cache


def _key(target: str, bits: int) -> str:
    """What identifies a result: the sources' bytes and names, and the programs that make it."""
    digest = hashlib.sha256(f"{target} {bits} {platform.machine()} {platform.system()}\n".encode())
    directory = resources.native_sources()
    for relative in source_files(directory):
        data = (directory / relative).read_bytes()
        digest.update(f"{relative} {len(data)}\n".encode("utf-8", "surrogateescape") + data)
    own = Path(__file__).parent
    for name in ("build.py", "cross.py", "libc_stub.py", "tools.py"):
        digest.update((own / name).read_bytes())
    for version in _tool_versions(target):
        digest.update(f"{version}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]


def _tool_versions(target: str) -> tuple[str, ...]:
    if target == "solaris":
        return cross.find_compiler().versions()
    env = tools.environment("CC", "CXX")
    compiler = env["CXX"].split() if "CXX" in env else [tools.find(("g++", "c++", "clang++", "CC"), "g++ g++-multilib")]
    linker = tools.find(("ld",), "binutils")
    return (" ".join(compiler), tools.first_line([*compiler, "--version"]), tools.first_line([linker, "--version"]))


def _entry(directory: Path) -> Path | None:
    """The library of a cache entry, or None if the entry is absent or not as it was written."""
    try:
        library = directory / SONAME
        wanted = (directory / "sha256").read_text("ascii").strip()
        return library if hashlib.sha256(library.read_bytes()).hexdigest() == wanted else None
    except (OSError, ValueError):
        return None


def _enter(made: Path, directory: Path, scratch: Path) -> None:
    """Make a cache entry of `made` in one rename; an entry that another process made meanwhile is as good."""
    fresh = scratch / f"entry-{directory.name}"
    tools.place(made, fresh / SONAME)
    (fresh / "sha256").write_text(hashlib.sha256(made.read_bytes()).hexdigest() + "\n", "ascii")
    for _ in range(3):
        try:
            os.rename(fresh, directory)
            return
        except OSError:
            if _entry(directory) is not None:
                return
            aside = Path(tempfile.mkdtemp(dir=scratch))
            try:
                os.rename(directory, aside / "damaged")
            except OSError:
                continue


def _lost(directory: Path) -> NoReturn:
    raise BuildError("the cache entry just made is gone or damaged", where=str(directory), hint="try again")

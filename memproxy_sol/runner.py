"""What one command needs to run with the proxy: a private directory with the libraries, and an environment.

The GNU loader reads one LD_PRELOAD for all ABIs, but puts another text for `$LIB` in each. So the directory has one
subdirectory for each ABI, named as that ABI's loader says, and in each lie files of the same names:

    DIRECTORY/lib/x86_64-linux-gnu/libmemproxy.so     DIRECTORY/lib/i386-linux-gnu/libmemproxy.so
    DIRECTORY/lib/x86_64-linux-gnu/allocator.so       DIRECTORY/lib/i386-linux-gnu/allocator.so

A name that is missing would make the loader complain at each exec, so each exists in each ABI: without an allocator,
`allocator.so` is libmemproxy again, which the loader recognises as loaded already. On Solaris each ABI has a variable
of its own; that path has not been run on a Solaris machine.

Sources: ld.so(8), LD_PRELOAD and "Dynamic string tokens"; for Solaris reference "crle", sections 5.2 and 5.3.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from memproxy_sol import abi, build, cache, elf
from memproxy_sol.allocator import is_allocator
from memproxy_sol.errors import BuildError, CommandLineError, ElfError
from memproxy_sol.hosts import linux_loader as linux

MEMPROXY = "libmemproxy.so"
ALLOCATOR = "allocator.so"
ROUTE_VARIABLE = "MEMPROXY_ROUTE"


@dataclass(frozen=True)
class Slot:
    """Where the libraries of one ABI go, and how its loader is told."""

    bits: int
    machine: int | None
    """e_machine of this ABI; None if any will do."""
    variable: str
    subdirectory: str
    """Below the private directory."""
    spelling: str
    """The subdirectory as it stands in the variable."""
    loader: linux.Loader | None = None


@dataclass(frozen=True)
class Launch:
    """Everything that is put around a command."""

    directory: str
    environment: dict[str, str]
    """What is to be set in the environment, by name."""
    allocators: dict[int, str]
    """The allocator by bits; an ABI without one is missing."""
    notes: tuple[str, ...]
    """Sentences about what was chosen."""
    warnings: tuple[str, ...]
    """Sentences about what will not work as asked."""


def slots() -> tuple[Slot, ...]:
    """The ABIs whose programs this machine runs, 32 bit first. Raises CommandLineError if there is none we know."""
    if sys.platform.startswith("sunos"):
        paths = {32: "/usr/lib/ld.so.1", 64: "/usr/lib/64/ld.so.1"}
        present = [value for bits, value in abi.ABIS.items() if os.path.exists(paths[bits])]
        return tuple(
            Slot(value.bits, None, value.preload_variable, value.subdirectory[1:], value.subdirectory[1:])
            for value in present
        )
    found = tuple(
        Slot(loader.bits, loader.machine, "LD_PRELOAD", loader.lib, "$LIB", loader) for loader in linux.loaders()
    )
    if not found:
        raise CommandLineError("no runtime linker of the GNU C library is here", where=" ".join(linux.LOADERS))
    if len({slot.subdirectory for slot in found}) < len(found):
        # One $LIB for both ABIs: only one of them can be served.
        return found[-1:]
    return found


def prepare(
    route: str | None,
    allocators: Sequence[str],
    environ: Mapping[str, str],
    progress: Callable[[str], None],
) -> Launch:
    """Choose and build what a command needs; nothing outside the cache changes.

    `route` is `system`, `custom` or None (the exclusion list decides); `allocators` are files, at most one for each
    ABI, and empty for the distribution's; `environ` is the command's environment. Raises CommandLineError.
    """
    here = slots()
    chosen = _given(allocators, here) if allocators else _found(here)
    if not chosen and route != "system":
        raise CommandLineError(
            "no allocator found on this machine", hint="name one with --allocator FILE, or install jemalloc"
        )
    run_root()
    warnings: list[str] = []
    libraries = _libraries(here, progress, warnings)
    notes = [
        f"{slot.bits}-bit programs: {chosen.get(slot.bits, 'no allocator, so the system allocator serves')}"
        for slot in here
        if slot.bits in libraries
    ]
    directory = _directory(here, libraries, chosen)
    environment = _variables(here, libraries, chosen, directory, environ, warnings)
    if route is not None:
        environment[ROUTE_VARIABLE] = route
    return Launch(directory, environment, chosen, tuple(notes), tuple(warnings))


def start(command: Sequence[str], environ: Mapping[str, str]) -> None:
    """Become `command`. Returns only by OSError: FileNotFoundError if there is no such command."""
    # Python ignores these, and what is ignored stays so in the command.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), dict(environ))
    except OSError as error:
        script = shutil.which(command[0], path=environ.get("PATH", os.defpath))
        if error.errno != errno.ENOEXEC or script is None:
            raise
        os.execve("/bin/sh", ["/bin/sh", script, *command[1:]], dict(environ))  # as execvp(3) does


def inherited_environment() -> dict[str, str]:
    """The environment that this process was given: without the LC_CTYPE that Python adds in the C locale (PEP 538)."""
    environ = dict(os.environ)
    try:
        given = Path("/proc/self/environ").read_bytes()
    except OSError:
        return environ
    if not any(entry.startswith(b"LC_CTYPE=") for entry in given.split(b"\0")):
        environ.pop("LC_CTYPE", None)
    return environ


# -- allocators


def _given(files: Sequence[str], here: Sequence[Slot]) -> dict[int, str]:
    chosen: dict[int, str] = {}
    for file in files:
        try:
            library = elf.read(file)
        except ElfError as error:
            raise CommandLineError(error.what, where=error.where, hint="--allocator takes a shared library") from None
        slot = next((slot for slot in here if slot.bits == library.bits), None)
        if slot is None or slot.machine not in (None, library.machine):
            raise CommandLineError("is for another machine than this one", where=file)
        if library.bits in chosen:
            raise CommandLineError(
                f"is the second {library.bits}-bit allocator", where=file, hint="give at most one for each ABI"
            )
        if not is_allocator(library.exports):
            raise CommandLineError("is no allocator: it does not export malloc, realloc and free", where=file)
        complaint = slot.loader.complaint(os.path.abspath(file)) if slot.loader else None
        if complaint is not None:
            raise CommandLineError(f"cannot be loaded: {complaint}", where=file)
        chosen[library.bits] = os.path.abspath(file)
    return chosen


def _found(here: Sequence[Slot]) -> dict[int, str]:
    chosen: dict[int, str] = {}
    for slot in here:
        if slot.loader is not None:
            for path in linux.allocators(slot.loader).values():
                chosen.setdefault(slot.bits, path)
    return chosen


# -- libraries


def _libraries(here: Sequence[Slot], progress: Callable[[str], None], warnings: list[str]) -> dict[int, Path]:
    """libmemproxy by bits, built if need be; an ABI for which nothing can be compiled is left out with a warning."""
    built: dict[int, Path] = {}
    failures: list[BuildError] = []
    for slot in here:
        try:
            built.update(build.cached("native", (slot.bits,), progress=progress))
        except BuildError as error:
            failures.append(error)
            warnings.append(f"{slot.bits}-bit programs run without the proxy: {error}")
    if not built:
        raise CommandLineError(failures[-1].what, where=failures[-1].where, hint=failures[-1].hint)
    return built


def _directory(here: Sequence[Slot], libraries: Mapping[int, Path], chosen: Mapping[int, str]) -> str:
    """The private directory with these contents, made if it is not there yet."""
    key = hashlib.sha256()
    root = run_root()
    for slot in here:
        content = libraries[slot.bits].read_bytes() if slot.bits in libraries else b""
        for part in (slot.subdirectory.encode(), content, os.fsencode(chosen.get(slot.bits, ""))):
            key.update(b"%d:" % len(part) + part)
    directory = root / key.hexdigest()[:16]
    if not directory.is_dir():
        fresh = Path(tempfile.mkdtemp(dir=root))
        try:
            for slot in here:
                _fill(fresh, slot, libraries.get(slot.bits), chosen.get(slot.bits))
            os.rename(fresh, directory)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # else another run was quicker
                raise CommandLineError(f"cannot be made: {error.strerror}", where=str(directory)) from None
    return str(directory)


def run_root() -> Path:
    """The directory that holds the private directories of all runs. Nobody else can write to it (`cache.root`).

    Raises CommandLineError if a preload list cannot name it.
    """
    directory = cache.root() / "run"
    if re.search(r"[ :$]", str(directory)):
        raise CommandLineError(
            "LD_PRELOAD cannot name a path with a blank, a colon or a dollar sign",
            where=str(directory),
            hint="set XDG_CACHE_HOME to a directory without them",
        )
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _fill(fresh: Path, slot: Slot, memproxy: Path | None, allocator: str | None) -> None:
    directory = fresh / slot.subdirectory
    for parent in (*reversed(directory.relative_to(fresh).parents), directory.relative_to(fresh)):
        (fresh / parent).mkdir(mode=0o755, exist_ok=True)  # each by itself: parents=True would leave modes to the umask
    if memproxy is not None:
        shutil.copyfile(memproxy, directory / MEMPROXY)
        (directory / MEMPROXY).chmod(0o644)
        # A link, so that a program that is linked with this allocator does not get it twice.
        (directory / ALLOCATOR).symlink_to(MEMPROXY if allocator is None else allocator)
    elif slot.loader is not None:
        # Nothing could be compiled for this ABI. libdl is harmless to load, and keeps its loader from complaining.
        harmless = os.path.join(os.path.dirname(os.path.realpath(slot.loader.path)), "libdl.so.2")
        for name in (MEMPROXY, ALLOCATOR):
            (directory / name).symlink_to(harmless)


# -- environment


def _variables(
    here: Sequence[Slot],
    libraries: Mapping[int, Path],
    chosen: Mapping[int, str],
    directory: str,
    environ: Mapping[str, str],
    warnings: list[str],
) -> dict[str, str]:
    environment: dict[str, str] = {}
    for slot in here:
        if slot.loader is None and slot.bits not in libraries:
            continue  # a preload that is missing is fatal on Solaris
        previous = environ.get(slot.variable)
        if previous is None:
            previous = environ.get("LD_PRELOAD", "")  # on Solaris the suffixed name replaces the plain one
        theirs = _entries_of_others(previous)
        for entry in theirs:
            if _exports_malloc(entry, slot):
                warnings.append(
                    f"{slot.variable} already holds {entry}, which has a malloc of its own: {slot.bits}-bit programs "
                    "will use that one; give it with --allocator instead"
                )
        place = os.path.join(directory, slot.spelling)
        ours = [os.path.join(place, MEMPROXY)]
        if slot.loader is not None or slot.bits in chosen:
            ours.append(os.path.join(place, ALLOCATOR))
        environment[slot.variable] = ":".join([*theirs, *ours])
    return environment


def _entries_of_others(value: str) -> list[str]:
    """The entries of a preload list that an enclosing `memproxy-sol run` has not put there."""
    prefix = f"{run_root()}{os.sep}"
    return [entry for entry in re.split("[ :]+", value) if entry and not entry.startswith(prefix)]


def _exports_malloc(entry: str, slot: Slot) -> bool:
    lib = slot.subdirectory
    path = entry.replace("${LIB}", lib).replace("$LIB", lib)
    if "/" not in path:
        path = os.path.join("/usr", lib, path)
    try:
        library = elf.read(path)
    except ElfError:
        return False
    return library.bits == slot.bits and "malloc" in library.exports

"""The runtime linkers of the GNU C library, of this machine or an image, and the allocators of the distribution.

Sources: ld.so(8), "Dynamic string tokens" ($LIB) and `--list-diagnostics` (glibc 2.33 and later).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from memproxy_sol import elf_header
from memproxy_sol.errors import ElfError, HostError
from memproxy_sol.root import Root

LOADERS = ("/lib/ld-linux.so.2", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
"""The runtime linkers that the psABIs name, 32 bit first."""

ALLOCATORS = {
    "jemalloc": ("libjemalloc.so.2",),
    "mimalloc": ("libmimalloc.so.2", "libmimalloc.so.2.0", "libmimalloc.so.3"),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4"),
}
"""File names by family, in the order in which `run` prefers them."""


@dataclass(frozen=True)
class Loader:
    """A runtime linker of this machine, which stands for the ABI whose programs it loads."""

    path: str
    bits: int
    machine: int
    """e_machine of the objects that it loads."""
    lib: str
    """What `$LIB` stands for in its LD_PRELOAD, for instance `lib/x86_64-linux-gnu`."""

    def complaint(self, path: str) -> str | None:
        """Why this loader cannot load the library `path` with all it needs, in its own words; None if it can."""
        from plumbum import local

        with local.env(LD_PRELOAD=""):
            status, output, error = local[self.path].run(("--list", path), retcode=None)
        for line in (error + output).splitlines():
            if "not found" in line or status != 0:
                return str(line).rpartition("error while loading shared libraries: ")[2].strip()
        return None


def loaders() -> tuple[Loader, ...]:
    """The runtime linkers that are here and that this kernel runs, 32 bit first."""
    here = loaders_below(Root("/"))
    told = ((loader, _lib_token(loader)) for loader in here)
    return tuple(replace(loader, lib=token) for loader, token in told if token is not None)


def loaders_below(root: Root) -> tuple[Loader, ...]:
    """The runtime linkers of a tree, 32 bit first, by their files alone: nothing is started.

    One that cannot be read is none. What `$LIB` stands for is compiled in: the directory that libc was installed to,
    in which the loader's own file lies.
    """
    found = []
    for path in LOADERS:
        try:
            state = root.read(path)
            header = None if state is None else elf_header.parse(state.data)
            place = os.path.dirname(root.resolve(path))
        except (ElfError, HostError):
            continue
        if state is not None and header is not None:
            found.append(Loader(path, header.bits, header.machine, _compiled_in(state.data, place)))
    return tuple(found)


def _compiled_in(data: bytes, place: str) -> str:
    """What stands for `$LIB` in the loader `data`, which lies in the directory `place`."""
    likely = re.sub(r"^/(usr/)?", "", place)
    usual = (likely, "lib64", "lib32", "lib")
    return next((text for text in usual if b"\0%s\0" % text.encode("utf-8", "surrogateescape") in data), likely)


def allocators(loader: Loader) -> dict[str, str]:
    """The distribution's allocators for this ABI, by family: the file in a directory that the loader searches."""
    found: dict[str, str] = {}
    for family, names in ALLOCATORS.items():
        for path in (os.path.join(directory, name) for name in names for directory in _directories(loader)):
            if family not in found and _fits(path, loader):
                found[family] = path
    return found


def _directories(loader: Loader) -> list[str]:
    return [f"/usr/local/{loader.lib}", "/usr/local/lib", f"/usr/{loader.lib}", f"/{loader.lib}"]


def _fits(path: str, loader: Loader) -> bool:
    if not os.path.exists(path):
        return False
    from memproxy_sol import elf

    try:
        library = elf.read(path)
    except ElfError:
        return False
    return (library.bits, library.machine) == (loader.bits, loader.machine) and "malloc" in library.exports


def _lib_token(loader: Loader) -> str | None:
    """What the loader puts for `$LIB`; None if it cannot be run here (a kernel without this ABI)."""
    from plumbum import local

    try:
        _, output, _ = local[loader.path].run("--list-diagnostics", retcode=None)
    except OSError:
        return None
    match = re.search(r'^dl_dst_lib="([^"\\]+)"$', output, re.MULTILINE)
    return match.group(1) if match else loader.lib  # before glibc 2.33 it does not tell

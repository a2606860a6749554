"""What a Linux machine with the GNU C library has: its runtime linkers and the allocators of the distribution.

Sources: ld.so(8), "Dynamic string tokens" ($LIB) and `--list-diagnostics` (glibc 2.33 and later).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from plumbum import local

from memproxy_sol import elf
from memproxy_sol.errors import ElfError

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
        with local.env(LD_PRELOAD=""):
            status, output, error = local[self.path].run(("--list", path), retcode=None)
        for line in (error + output).splitlines():
            if "not found" in line or status != 0:
                return str(line).rpartition("error while loading shared libraries: ")[2].strip()
        return None


def loaders() -> tuple[Loader, ...]:
    """The runtime linkers that are here and that this kernel runs, 32 bit first."""
    found = []
    for path in LOADERS:
        try:
            library = elf.read(path)
        except ElfError:
            continue
        token = _lib_token(path)
        if token is not None:
            found.append(Loader(path, library.bits, library.machine, token))
    return tuple(found)


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
    try:
        library = elf.read(path)
    except ElfError:
        return False
    return (library.bits, library.machine) == (loader.bits, loader.machine) and "malloc" in library.exports


def _lib_token(path: str) -> str | None:
    """What the loader `path` puts for `$LIB`; None if it cannot be run here (a kernel without this ABI)."""
    try:
        _, output, _ = local[path].run("--list-diagnostics", retcode=None)
    except OSError:
        return None
    match = re.search(r'^dl_dst_lib="([^"\\]+)"$', output, re.MULTILINE)
    if match:
        return match.group(1)
    # Before glibc 2.33 it does not tell. $LIB is the last part of the directory that libc was installed to,
    # and the loader's real file lies in it.
    directory = os.path.dirname(os.path.realpath(path))
    return re.sub(r"^/(usr/)?", "", directory)

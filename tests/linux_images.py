"""Linux image: a scratch root with the real runtime linkers and C libraries of both ABIs, and the commands on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Callable

from memproxy_sol import build, elf
from memproxy_sol.elf import Library
from tests import needs
from tests.images import Image

PRELOAD = "etc/ld.so.preload"
ALLOCATOR = {"mimalloc": "libmimalloc.so.2", "jemalloc": "libjemalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4"}
NEEDED = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1")


class LinuxImage(Image):
    """A scratch Linux root. `objects` is a directory as `memproxy-sol build` fills it."""

    def install(self, *arguments: str, allocator: str = "mimalloc") -> int:
        """Install with an allocator of the distribution for both ABIs."""
        allocators: list[str] = []
        for bits in (32, 64):
            allocators += ["--allocator", str(self.library(ALLOCATOR[allocator], bits))] if allocator else []
        return self.run("install", "--libraries", str(self.objects), *allocators, *arguments)

    def library(self, name: str, bits: int) -> Path:
        """A library in the image's own directory of this ABI."""
        return self.path / "usr" / needs.loader(bits).lib / name

    def preload(self, data: bytes | None = None) -> bytes | None:
        """What the list of preloads says, None without one; `data` is written to it before."""
        if data is not None:
            self.write(PRELOAD, data)
        path = self / PRELOAD
        return path.read_bytes() if path.exists() else None

    def line(self, *names: str) -> bytes:
        """Our line for these files of the only generation."""
        place = "/" + str(self.generation().relative_to(self.path))
        return " ".join(f"{place}/$LIB/{name}" for name in names).encode() + b"\n"

    def member(self, bits: int, name: str) -> Path:
        """A file of the only generation."""
        return self.generation() / needs.loader(bits).lib / name

    def path_of_line(self, bits: int, name: str, original: Path) -> Path:
        """Where the line leads this ABI's runtime linker for `name`, held to be a copy of `original`."""
        (item,) = [item for item in (self.preload() or b"").decode().split() if item.endswith(f"/{name}")]
        found = self.path / item[1:].replace("$LIB", needs.loader(bits).lib)
        assert found.read_bytes() == original.read_bytes()
        return found


_READ: dict[tuple[int, ...], Library] = {}


def read_once(path: str | os.PathLike[str], read: Callable[[str], Library] = elf.read) -> Library:
    """As `elf.read`, which takes most of the time of a test here: the same file, by inode and times, is read once."""
    where = os.fspath(path)
    try:
        status = os.stat(where)
    except OSError:
        return read(where)
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _READ:
        _READ[key] = read(where)
    return replace(_READ[key], path=where)


def collect_libraries(top: Path) -> Path:
    """libmemproxy.so as `memproxy-sol build` leaves it, 64-bit in `64`."""
    for bits, made in build.cached("native", (32, 64)).items():
        target = build.place(made, top, bits)
        assert target.exists()
    return top


def collect_distribution(top: Path) -> Path:
    """The runtime linkers, C libraries and allocators of this machine's distribution, laid out as it has them."""
    for bits in (32, 64):
        loader = needs.loader(bits)
        target = top / "usr" / loader.lib
        target.mkdir(parents=True)
        shutil.copy(os.path.realpath(loader.path), target / os.path.basename(loader.path))
        for name in NEEDED:
            shutil.copy(f"/{loader.lib}/{name}", target / name)
        for family, name in ALLOCATOR.items():
            shutil.copy(needs.allocator(family, bits), target / name)
    return top


def furnish(path: Path, distribution: Path, os_release: str = 'PRETTY_NAME="Example Linux 1"\n') -> None:
    """What an installed system has, as far as anything here looks at it. Libraries are links to the collection."""
    shutil.copytree(distribution, path, copy_function=os.link, dirs_exist_ok=True)
    for name in ("bin", "local/bin", "local/lib", "lib64", "lib/systemd"):
        (path / "usr" / name).mkdir(parents=True, exist_ok=True)
    for name in ("etc", "var/opt", "run", "tmp", "root"):
        (path / name).mkdir(parents=True)
    for name in ("lib", "lib64", "bin"):
        (path / name).symlink_to(f"usr/{name}")
    for bits in (32, 64):
        loader = needs.loader(bits)
        place = path / loader.path[1:]
        place.symlink_to(os.path.relpath(path / "usr" / loader.lib / place.name, place.resolve().parent))
    for name, text in ETC.items():
        (path / "etc" / name).write_text(text)
    (path / "etc/os-release").write_text(os_release)
    for where, directories, files in os.walk(path):
        for name in (*directories, *files, "."):
            full = os.path.join(where, name)
            os.chown(full, 0, 0, follow_symlinks=False)
            if name in directories or name == ".":
                if not os.path.islink(full):
                    os.chmod(full, 0o755)
            elif where == str(path / "etc"):
                os.chmod(full, 0o644)


ETC: Mapping[str, str] = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/usr/sbin/nologin\njoe:x:1000:1000::/home/joe:/bin/sh\n",
    "group": "root:x:0:\ndaemon:x:1:\nadm:x:4:joe\njoe:x:1000:\n",
}

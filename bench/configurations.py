"""What is compared: a program without preload, with an allocator alone, and with libmemproxy before it on either route.

libmemproxy is built here as by hand, for each ABI, with a path for its exclusion list that is longer than any other;
in each copy that is used it is overwritten, so that no measurement depends on this machine's /etc/memproxy.conf.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memproxy_sol import resources, tools
from memproxy_sol.errors import MemproxyError
from memproxy_sol.hosts import linux_loader as linux

LIST_DIRECTORY = "/" + "memproxy-bench-list-" * 10
LIST_PATH = LIST_DIRECTORY + "/memproxy.conf"
LIBRARY = "libmemproxy.so"


@dataclass(frozen=True)
class Configuration:
    """One way to run a program: what is preloaded, and libmemproxy's route."""

    name: str
    """plain, alone, custom or system."""
    preload: tuple[Path, ...] = ()
    route: str = ""
    """What MEMPROXY_ROUTE says; nothing: the exclusion list decides."""

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a program run so."""
        variables = {**tools.environment(), "PYTHONHASHSEED": "0", **(more or {})}
        if self.preload:
            variables["LD_PRELOAD"] = ":".join(map(str, self.preload))
        if self.route:
            variables["MEMPROXY_ROUTE"] = self.route
        return variables


PLAIN = Configuration("plain")


@dataclass(frozen=True)
class Setting:
    """One ABI with one allocator, in a directory as a generation has it: libmemproxy and a copy of the allocator."""

    bits: int
    family: str
    directory: Path
    exclusions: Path
    """libmemproxy's exclusion list, which does not exist yet."""

    @property
    def proxy(self) -> Path:
        return self.directory / LIBRARY

    @property
    def allocator(self) -> Path:
        """The copy of the allocator."""
        (found,) = (path for path in self.directory.iterdir() if path.name != LIBRARY)
        return found

    @property
    def alone(self) -> Configuration:
        return Configuration("alone", (self.allocator,))

    def routed(self, route: str) -> Configuration:
        """libmemproxy in front of the allocator, on `route`; on that of the exclusion list if it is empty."""
        return Configuration(route or "by list", (self.proxy, self.allocator), route)

    @property
    def pairs(self) -> tuple[tuple[Configuration, Configuration], ...]:
        """What is compared: each route with what the program would have without libmemproxy."""
        return (self.alone, self.routed("custom")), (PLAIN, self.routed("system"))


@dataclass(frozen=True)
class Installation:
    """libmemproxy of each ABI as installed, and the allocators that this machine has."""

    built: dict[int, Path]
    allocators: dict[int, dict[str, str]]
    """File by family, by bits."""
    scratch: Path
    made: dict[tuple[int, str, str], Setting] = field(default_factory=dict)

    def setting(self, bits: int, family: str, name: str = "") -> Setting:
        """The setting of an ABI and an allocator; those of different `name` have exclusion lists of their own."""
        key = (bits, family, name)
        if key not in self.made:
            directory = self.scratch / "-".join(str(part) for part in key if part)
            directory.mkdir()
            exclusions = self.scratch / f"{directory.name}.conf"
            place(self.built[bits], directory / LIBRARY, exclusions)
            file = self.allocators[bits][family]
            shutil.copy(file, directory / Path(file).name)
            self.made[key] = Setting(bits, family, directory, exclusions)
        return self.made[key]

    def settings(self) -> list[Setting]:
        """Every pair of ABI and allocator, 64 bit first."""
        return [self.setting(bits, family) for bits in self.built for family in self.allocators[bits]]


def place(library: Path, target: Path, exclusions: Path) -> None:
    """Copy a library that was built with LIST_PATH; the copy reads the list `exclusions`."""
    old, new = os.fsencode(LIST_PATH), os.fsencode(exclusions)
    data = library.read_bytes()
    if len(new) > len(old) or data.count(old + b"\0") != 1:
        raise MemproxyError("the path of the exclusion list cannot be replaced", where=str(library))
    # A path may begin with any number of slashes.
    target.write_bytes(data.replace(old, b"/" * (len(old) - len(new)) + new))
    target.chmod(0o755)


def install(scratch: Path) -> Installation:
    """Build libmemproxy for each ABI whose programs run here, with LIST_PATH, below `scratch`."""
    source = scratch / "source"
    unwanted = shutil.ignore_patterns("sysroot", "autom4te.cache", ".libs", "*.o", "*.lo", "configure")
    shutil.copytree(resources.native_sources(), source, ignore=unwanted)
    run(["autoreconf", "-fi"], source)
    loaders = sorted(linux.loaders(), key=lambda loader: -loader.bits)
    built = {}
    for loader in loaders:
        place = scratch / f"build{loader.bits}"
        prefix = scratch / f"prefix{loader.bits}"
        place.mkdir()
        flags = f"CXXFLAGS=-O2 -m{loader.bits}"
        run(["../source/configure", flags, f"--prefix={prefix}", f"--sysconfdir={LIST_DIRECTORY}"], place)
        run(["make"], place)
        run(["make", "install-strip"], place)
        built[loader.bits] = prefix / "lib" / LIBRARY
    found = {loader.bits: linux.allocators(loader) for loader in loaders}
    if not any(found.values()):
        raise MemproxyError("no allocator is here to be measured", hint="install libjemalloc2")
    return Installation(built, found, scratch)


def run(command: Sequence[object], directory: Path | None = None) -> str:
    """Run a command that has to succeed, in a clean environment; return what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=directory,
        env=tools.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0:
        raise MemproxyError(f"ended with {done.returncode}:\n{done.stdout[-2000:]}", where=" ".join(words))
    return done.stdout

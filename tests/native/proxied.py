"""Building libmemproxy.so as a user does by hand, and running programs under it: what the fixtures are made of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import needs

REPOSITORY = Path(__file__).resolve().parents[2]
NATIVE = REPOSITORY / "native"
PROGRAMS = Path(__file__).resolve().parent / "programs"
TRIPLETS = {64: "x86_64-linux-gnu", 32: "i386-linux-gnu"}
ALLOCATOR_FILES = {
    "jemalloc": "libjemalloc.so.2",
    "mimalloc": "libmimalloc.so.2",
    "tcmalloc": "libtcmalloc.so.4",
    "tcmalloc_minimal": "libtcmalloc_minimal.so.4",
}
ALLOCATOR_PACKAGES = {
    "jemalloc": "libjemalloc2",
    "mimalloc": "libmimalloc2.0",
    "tcmalloc": "libgoogle-perftools4",
    "tcmalloc_minimal": "libtcmalloc-minimal4",
}
LIST_DIRECTORY = "/" + "memproxy-test-list-" * 10
LIST_PATH = LIST_DIRECTORY + "/memproxy.conf"

both_abis = pytest.mark.parametrize("bits", [64, 32])


class Allocators(dict[str, Path]):
    """Allocators by name; one that is not there fails the test and names its package."""

    def __missing__(self, name: str) -> Path:
        needs.missing(ALLOCATOR_FILES[name], ALLOCATOR_PACKAGES[name])
        raise AssertionError


def allocators(bits: int) -> Allocators:
    """The distribution's allocators of an ABI, by name; `kind` gives served.c's word for it."""
    directory = Path("/usr/lib") / TRIPLETS[bits]
    return Allocators((name, directory / file) for name, file in ALLOCATOR_FILES.items() if (directory / file).exists())


def kind(allocator: str) -> str:
    """What served.c calls an allocator: both variants of tcmalloc are one kind."""
    return allocator.split("_")[0]


each_allocator = pytest.mark.parametrize(
    ("bits", "allocator"),
    [(bits, name) for bits in (64, 32) for name in ALLOCATOR_FILES if not (bits == 32 and name == "tcmalloc")],
)
"""Every pair of ABI and allocator that Debian has a package for; the full tcmalloc does not exist for i386."""


def must(command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a tool of the build; what it printed is in the error if it fails."""
    result = subprocess.run(
        [str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}"
    return result


def clean_environment() -> dict[str, str]:
    """This process's environment without what steers loader, compiler or libmemproxy."""
    unwanted = ("LD_", "MEMPROXY", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CPPFLAGS", "MAKEFLAGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def build_by_hand(directory: Path, options: Sequence[str] = ()) -> dict[int, Path]:
    """autoreconf -fi, then configure, make and make install-strip outside the source tree, once for each ABI."""
    sources = directory / "source"
    shutil.copytree(NATIVE, sources, ignore=shutil.ignore_patterns("sysroot", "autom4te.cache", ".libs", "*.o", "*.lo"))
    environment = clean_environment()
    must(["autoreconf", "-fi"], cwd=sources, env=environment)
    running: list[tuple[subprocess.Popen[str], Path]] = []
    installed = {}
    for bits in (64, 32):
        place = directory / f"build{bits}"
        place.mkdir()
        prefix = directory / f"prefix{bits}"
        script = (
            f"../source/configure CXXFLAGS=-m{bits} --prefix={prefix} --sysconfdir={LIST_DIRECTORY} {' '.join(options)}"
            " && make && make install-strip"
        )
        log = place / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                script, shell=True, cwd=place, env=environment, text=True, stdout=output, stderr=subprocess.STDOUT
            )
        running.append((process, log))
        installed[bits] = prefix / "lib" / "libmemproxy.so"
    for process, log in running:
        assert process.wait() == 0, log.read_text()
    return installed


@dataclass(frozen=True)
class Installed:
    """A copy of the library, and the exclusion list that it reads."""

    path: Path
    list_path: Path

    def exclude(self, *lines: str) -> None:
        """Writes the exclusion list."""
        self.list_path.write_text("".join(line + "\n" for line in lines))


def once(directory: Path, make: Callable[[Path], None]) -> Path:
    """Makes `directory` in one worker while the others wait; raises in all of them if that fails."""
    try:
        directory.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 300
        while not (directory / "done").exists():
            assert not (directory / "failed").exists(), f"{directory} failed in another worker"
            assert time.monotonic() < deadline, f"{directory} is not being made"
            time.sleep(0.1)
        return directory
    try:
        make(directory)
    except BaseException:
        (directory / "failed").touch()
        raise
    (directory / "done").touch()
    return directory


@dataclass
class Outcome:
    """What a program did."""

    status: int
    output: str
    errors: str
    json: Any = field(default=None)


def run_under(
    command: Sequence[object],
    preload: Sequence[object] = (),
    environment: Mapping[str, str] | None = None,
    expect: int | None = 0,
    timeout: float = 60,
    **options: Any,
) -> Outcome:
    """Runs a command with an LD_PRELOAD; `expect` is the exit status that is asserted, None for any."""
    variables = clean_environment()
    if preload:
        variables["LD_PRELOAD"] = ":".join(str(item) for item in preload)
    variables.update(environment or {})
    result = subprocess.run(
        [str(word) for word in command],
        env=variables,
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
        **options,
    )
    if expect is not None:
        assert result.returncode == expect, f"status {result.returncode}\n{result.stdout}\n{result.stderr}"
    parsed = json.loads(result.stdout) if result.stdout.startswith("{") and result.stdout.count("\n") == 1 else None
    return Outcome(result.returncode, result.stdout, result.stderr, parsed)

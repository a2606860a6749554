"""Building libmemproxy.so as a user does by hand, and running programs under it: what the fixtures are made of."""

from __future__ import annotations

import glob
import json
import os
import re
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
MACHINES = {64: "x86_64", 32: "i386"}


@dataclass(frozen=True)
class Source:
    """Where an allocator comes from. In `pattern` {triplet} and {machine} are the ABI's; `kind` is served.c's word."""

    pattern: str
    package: str
    kind: str


DISTRIBUTION = "/usr/lib/{triplet}/"
ALLOCATORS = {
    "jemalloc": Source(DISTRIBUTION + "libjemalloc.so.2", "libjemalloc2", "jemalloc"),
    "mimalloc": Source(DISTRIBUTION + "libmimalloc.so.2", "libmimalloc2.0", "mimalloc"),
    "tcmalloc": Source(DISTRIBUTION + "libtcmalloc.so.4", "libgoogle-perftools4", "tcmalloc"),
    "tcmalloc_minimal": Source(DISTRIBUTION + "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4", "tcmalloc"),
    # Private names alone; and the plain ones, in a library of its own that calls the first.
    "tbbmalloc": Source(DISTRIBUTION + "libtbbmalloc.so.2", "libtbbmalloc2", "tbb"),
    "tbbmalloc_proxy": Source(DISTRIBUTION + "libtbbmalloc_proxy.so.2", "libtbbmalloc2", "tbb"),
    # One package has both ABIs.
    "scudo": Source(
        "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.scudo_standalone-{machine}.so", "libclang-rt-14-dev", "scudo"
    ),
}
LIST_DIRECTORY = "/" + "memproxy-test-list-" * 10
LIST_PATH = LIST_DIRECTORY + "/memproxy.conf"

SECONDS = float(os.environ.get("MEMPROXY_TEST_SECONDS", "60"))
"""After which a program under the library counts as hung."""

both_abis = pytest.mark.parametrize("bits", [64, 32])


class Allocators(dict[str, Path]):
    """Allocators by name; one that is not there fails the test and names its package."""

    def __missing__(self, name: str) -> Path:
        needs.missing(ALLOCATORS[name].pattern, ALLOCATORS[name].package)
        raise AssertionError


def allocators(bits: int) -> Allocators:
    """The distribution's allocators of an ABI, by name; of several versions the newest."""
    found = Allocators()
    for name, source in ALLOCATORS.items():
        pattern = source.pattern.format(triplet=TRIPLETS[bits], machine=MACHINES[bits])
        files = sorted(glob.glob(pattern), key=lambda path: [int(number) for number in re.findall(r"\d+", path)])
        if files:
            found[name] = Path(files[-1])
    return found


def kind(allocator: str) -> str:
    """What served.c calls an allocator: the variants of one are of one kind."""
    return ALLOCATORS[allocator].kind


each_allocator = pytest.mark.parametrize(
    ("bits", "allocator"), [(bits, name) for bits in (64, 32) for name in ALLOCATORS]
)
"""Every pair of ABI and allocator that Debian has a package for."""

each_common_allocator = pytest.mark.parametrize(
    ("bits", "allocator"), [(bits, name) for bits in (64, 32) for name in ("jemalloc", "mimalloc", "tcmalloc_minimal")]
)
"""The same for those that, also alone, survive fork beside threads (not Scudo) and the end of memory (nor TBB)."""


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


def libraries(directory: Path) -> dict[int, Path]:
    """Where build_by_hand installs, by bits."""
    return {bits: directory / f"prefix{bits}" / "lib" / "libmemproxy.so" for bits in (64, 32)}


def build_by_hand(directory: Path, options: Sequence[str] = ()) -> dict[int, Path]:
    """autoreconf -fi, then configure, make and make install-strip outside the source tree, once for each ABI."""
    sources = directory / "source"
    shutil.copytree(NATIVE, sources, ignore=shutil.ignore_patterns("sysroot", "autom4te.cache", ".libs", "*.o", "*.lo"))
    environment = clean_environment()
    must(["autoreconf", "-fi"], cwd=sources, env=environment)
    running: list[tuple[subprocess.Popen[str], Path]] = []
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
    for process, log in running:
        assert process.wait() == 0, log.read_text()
    return libraries(directory)


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
    timeout: float = SECONDS,
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

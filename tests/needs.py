"""What tests of real processes need from the machine. A missing thing fails the test and names the package.

On a distribution that does not have it, MEMPROXY_SOL_ALLOW_SKIPS=1 turns these failures into skips.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

from memproxy_sol.hosts import linux_loader as linux

PACKAGES = {"jemalloc": "libjemalloc2", "mimalloc": "libmimalloc2.0", "tcmalloc": "libtcmalloc-minimal4"}
FAMILIES = tuple(PACKAGES)


def missing(what: str, package: str) -> None:
    """Fail (or skip, where that is allowed) for want of `what`."""
    message = f"{what} is missing: install {package}, or run make setup"
    if os.environ.get("MEMPROXY_SOL_ALLOW_SKIPS") == "1":
        pytest.skip(message)
    pytest.fail(message, pytrace=False)


def loader(bits: int) -> linux.Loader:
    """The runtime linker of this ABI."""
    for candidate in _loaders():
        if candidate.bits == bits:
            return candidate
    missing(f"a {bits}-bit C library", "libc6:i386" if bits == 32 else "libc6")
    raise AssertionError


def allocator(family: str, bits: int) -> str:
    """The distribution's allocator of this family for this ABI."""
    found = linux.allocators(loader(bits)).get(family)
    if found is None:
        missing(f"{bits}-bit {family}", PACKAGES[family] + (":i386" if bits == 32 else ""))
        raise AssertionError
    return found


def compile_program(source: Path, bits: int, output: Path, *options: str) -> Path:
    """`source` (C) as a program of this ABI."""
    loader(bits)
    done = subprocess.run(
        ["gcc", f"-m{bits}", "-o", str(output), str(source), *options], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        if subprocess.run(
            ["gcc", f"-m{bits}", "-x", "c", "-", "-o", str(output)], input="int main(void) { return 0; }",
            text=True, capture_output=True, check=False,
        ).returncode != 0:  # fmt: skip
            missing(f"a {bits}-bit C compiler", "gcc-multilib")
        pytest.fail(f"{source.name}: {done.stderr}", pytrace=False)
    return output


@cache
def _loaders() -> tuple[linux.Loader, ...]:
    return linux.loaders()

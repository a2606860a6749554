"""Programs that replace part of what libmemproxy defines, or that use names of its for something of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from proxied import Installed, Outcome, allocators, both_abis

Library = Callable[..., Installed]
Served = Callable[..., dict[str, Any]]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]


# ---- Malloc made from glibc's own names


@both_abis
@pytest.mark.parametrize("allocator", [None, "jemalloc", "mimalloc"])
def test_program_whose_malloc_calls_libc_s_internal_name(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str | None
) -> None:
    preload = [library(bits).path, *([allocators(bits)[allocator]] if allocator else [])]
    assert run([compile("malloc_by_libc.c", bits)], preload).output == "ok\n"


@both_abis
def test_preload_whose_malloc_calls_libc_s_internal_name(
    library: Library, compile: Compile, served: Served, bits: int
) -> None:
    owner = compile("malloc_by_libc.c", bits, "-shared", "-DPRELOAD")
    report = served(bits, [owner, library(bits).path, allocators(bits)["jemalloc"]])
    assert report["reason"] == "not-owner"
    assert set(report["each"].values()) == {"glibc"}


# ---- Threads older than the decision


@both_abis
def test_threads_older_than_the_decision(library: Library, compile: Compile, run: Run, bits: int) -> None:
    """A race: without the warm-up of glibc's malloc two or three of a hundred runs fail."""
    program = compile("early_threads.c", bits)
    proxy = library(bits)
    for _ in range(150):
        run([program], [proxy.path])

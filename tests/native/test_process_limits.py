"""Limits: no address space, no data, little stack, no file to write, and programs that take all there is."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import Installed, Outcome, allocators, both_abis, each_common_allocator

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]

each_route = pytest.mark.parametrize("route", ["custom", "system"])


@each_common_allocator
@each_route
@pytest.mark.parametrize("limit", [("as", 200), ("data", 100)], ids=["RLIMIT_AS", "RLIMIT_DATA"])
def test_address_space_exhausted(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str, limit: tuple[str, int]
) -> None:
    """Every function says so in its way, and all goes on when there is memory again."""
    program = compile("exhausted.cc", bits, "-std=c++17")
    preload = [library(bits).path, allocators(bits)[allocator]]
    assert run([program, *limit], preload, environment={"MEMPROXY_ROUTE": route}).output == "ok\n"


@both_abis
@pytest.mark.parametrize("name", ["AS", "DATA", "STACK"])
def test_start_under_small_limits(library: Library, compile: Compile, run: Run, bits: int, name: str) -> None:
    """A process starts, or is told that it cannot, by the loader (127) or by malloc (7). None dies otherwise."""
    program = compile("start_up.c", bits)
    preload = [library(bits).path]
    kind = getattr(resource, f"RLIMIT_{name}")
    sizes = {
        "AS": [n * 300_000 for n in range(5, 20)],
        "DATA": [n * 40_000 for n in range(2, 20)],
        "STACK": [32 << 10, 64 << 10, 128 << 10],
    }[name]
    outcomes = []
    for size in sizes:
        outcome = run(
            [program], preload, expect=None, preexec_fn=lambda size=size: resource.setrlimit(kind, (size, size))
        )
        outcomes.append(outcome.status)
    assert set(outcomes) <= ({0} if name == "STACK" else {0, 7, 127}), list(zip(sizes, outcomes))
    assert outcomes[-1] == 0, list(zip(sizes, outcomes))


@both_abis
def test_nothing_is_written_under_a_file_size_limit_of_zero(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    preload = [library(bits).path, allocators(bits)["mimalloc"]]
    run(
        [compile("start_up.c", bits)], preload,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )  # fmt: skip

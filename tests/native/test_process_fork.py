"""Children of processes with threads: fork, vfork, clone, posix_spawn, while memory is being allocated."""

from __future__ import annotations

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
def test_children_free_what_their_parent_allocated(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    """They are made in each way, with fork handlers that allocate, and end by exit and by _exit."""
    preload = [library(bits).path, allocators(bits)[allocator]]
    run([compile("children.c", bits), 4, 15], preload, environment={"MEMPROXY_ROUTE": route})


@both_abis
@each_route
def test_children_of_a_process_with_a_thousand_threads(
    library: Library, compile: Compile, run: Run, bits: int, route: str
) -> None:
    # mimalloc takes 4 MiB of addresses for a thread, and a 32-bit process has less than a thousand times as much.
    allocator = allocators(bits)["mimalloc" if bits == 64 else "tcmalloc_minimal"]
    run([compile("children.c", bits), 1000, 5], [library(bits).path, allocator], environment={"MEMPROXY_ROUTE": route})

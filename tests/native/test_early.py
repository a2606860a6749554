"""Requests before the decision, in the middle of it, and from several threads at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import Installed, Outcome, allocators, both_abis, each_allocator

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]

each_route = pytest.mark.parametrize("route", ["custom", "system"])


@each_allocator
@each_route
def test_constructor_of_an_earlier_object(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    early = compile("early_object.c", bits, "-shared", "-Wl,-soname,libearly.so", name="libearly.so")
    program = compile("early_main.c", bits, str(early), f"-Wl,-rpath,{early.parent}")
    preload = [library(bits).path, allocators(bits)[allocator]]
    run([program], preload, environment={"MEMPROXY_ROUTE": route})


@each_allocator
@each_route
def test_before_any_initialiser(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    program = compile("halfway_main.c", bits, "-DPREINIT")
    preload = [library(bits).path, allocators(bits)[allocator]]
    # The environment cannot be read then; what it says still counts.
    assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output.split() == [route]


@each_allocator
@each_route
def test_in_the_middle_of_the_decision(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    preload = [compile("halfway.c", bits, "-shared"), library(bits).path, allocators(bits)[allocator]]
    run([compile("halfway_main.c", bits)], preload, environment={"MEMPROXY_ROUTE": route})


@both_abis
@each_route
def test_many_blocks_from_many_threads_in_the_middle_of_the_decision(
    library: Library, compile: Compile, run: Run, bits: int, route: str
) -> None:
    halfway = compile("halfway.c", bits, "-shared", "-DTHREADS=6", "-DBLOCKS=2500")
    for name in ("jemalloc", "tcmalloc_minimal"):
        preload = [halfway, library(bits).path, allocators(bits)[name]]
        run([compile("halfway_main.c", bits)], preload, environment={"MEMPROXY_ROUTE": route})


@both_abis
def test_in_the_middle_of_the_decision_without_an_allocator(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    preload = [compile("halfway.c", bits, "-shared"), library(bits).path]
    assert run([compile("halfway_main.c", bits)], preload).output == "system\n"


@both_abis
@each_route
def test_main_finds_nothing_changed(library: Library, compile: Compile, run: Run, bits: int, route: str) -> None:
    program = compile("errno_main.c", bits)
    plain = run([program]).output
    assert plain.startswith("errno 0, descriptor 3,")
    for listed in (False, True):
        proxy = library(bits)
        if listed:
            proxy.exclude("x", "y")
        preload = [proxy.path, allocators(bits)["mimalloc"]]
        assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output == plain


@each_allocator
@each_route
def test_fork_and_vfork_of_a_process_with_threads(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    preload = [library(bits).path, allocators(bits)[allocator]]
    run([compile("forks.c", bits)], preload, environment={"MEMPROXY_ROUTE": route})

"""Plugins: opened and closed in every way that the linker has, with what C++ plugins do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import Installed, Outcome, allocators, both_abis, each_common_allocator

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]

each_route = pytest.mark.parametrize("route", ["custom", "system"])


def host(compile: Compile, bits: int, language: str) -> Path:
    """A program that opens plugins; in C++ it has the run-time library already."""
    flags = ["-Wl,--no-as-needed", "-lstdc++"] if language == "C++" else []
    return compile("plugin_host.c", bits, *flags)


@each_common_allocator
@each_route
def test_plugin_opened_and_closed_200_times(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    preload = [library(bits).path, allocators(bits)[allocator]]
    plugin = compile("plugin.cc", bits, "-shared")
    run([host(compile, bits, "C"), 200, "lx", plugin], preload, environment={"MEMPROXY_ROUTE": route})
    run([host(compile, bits, "C"), 20, "gx", plugin], preload, environment={"MEMPROXY_ROUTE": route})


@both_abis
@each_route
@pytest.mark.parametrize("flag", ["-DOWN_OPERATORS", "-DOWN_MALLOC"])
@pytest.mark.parametrize("language", ["C", "C++"])
def test_plugin_with_operators_or_a_malloc_of_its_own(
    library: Library, compile: Compile, run: Run, bits: int, route: str, flag: str, language: str
) -> None:
    """Its own are not used, as they are not without us where the program has the C++ run-time library."""
    plugin = compile("plugin.cc", bits, "-shared", flag)
    program = host(compile, bits, language)
    preload = [library(bits).path, allocators(bits)["mimalloc"]]
    for way in ("lx", "gx"):
        run([program, 5, way, plugin], preload, environment={"MEMPROXY_ROUTE": route})


@each_common_allocator
@each_route
@pytest.mark.parametrize("way", ["d", "n"], ids=["deepbind", "new namespace"])
def test_plugin_that_takes_libc_s_malloc(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str, way: str
) -> None:
    """Its blocks are libc's, past every preload. As long as they do not change sides, that is well."""
    preload = [library(bits).path, allocators(bits)[allocator]]
    plugin = compile("plugin.cc", bits, "-shared")
    # There are 16 namespaces, and a C++ plugin's does not become free again.
    run([host(compile, bits, "C"), 10, way, plugin], preload, environment={"MEMPROXY_ROUTE": route})


@both_abis
@pytest.mark.parametrize("language", ["C", "C++"])
def test_deeply_bound_plugin_shares_blocks_with_a_listed_program(
    library: Library, compile: Compile, run: Run, bits: int, language: str
) -> None:
    """Which is the remedy for programs with such plugins."""
    plugin = compile("plugin.cc", bits, "-shared")
    proxy = library(bits)
    proxy.exclude("plugin_host")
    for name in (None, "jemalloc", "mimalloc", "tcmalloc_minimal"):
        preload = [proxy.path, *([allocators(bits)[name]] if name else [])]
        run([host(compile, bits, language), 20, "dx", plugin], preload)

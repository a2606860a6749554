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


# ---- Some of the operators replaced


@both_abis
@pytest.mark.parametrize("flags", ["", "-DALIGNED", "-DARRAYS"])
@pytest.mark.parametrize("allocator", [None, "mimalloc"])
def test_other_operators_are_made_from_the_program_s(
    library: Library, compile: Compile, run: Run, bits: int, flags: str, allocator: str | None
) -> None:
    program = compile("few_operators.cc", bits, "-std=c++17", *flags.split())
    assert run([program]).output == "ok\n"
    preload = [library(bits).path, *([allocators(bits)[allocator]] if allocator else [])]
    assert run([program], preload).output == "ok\n"


# ---- Two copies of libmemproxy


@both_abis
@pytest.mark.parametrize("allocator", [None, "jemalloc"])
def test_second_copy_is_no_allocator(
    library: Library, served: Served, bits: int, tmp_path: Path, allocator: str | None
) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    copies = [library(bits, tmp_path / "first").path, library(bits, tmp_path / "second").path]
    report = served(bits, [*copies, *([allocators(bits)[allocator]] if allocator else [])])
    assert report["reason"] == ("default" if allocator else "no-allocator")
    assert set(report["each"].values()) == {allocator or "glibc"}


# ---- A variable called environ


@both_abis
def test_program_with_its_own_environ(library: Library, compile: Compile, run: Run, bits: int) -> None:
    program = compile("own_environ.c", bits, "-ldl")
    preload = [library(bits).path, allocators(bits)["jemalloc"]]
    assert run([program], preload, environment={"MEMPROXY_ROUTE": "system"}).output == "environment\n"


# ---- Names of the allocators' that a library of the program's has for something of its own


@both_abis
@pytest.mark.parametrize("route", ["custom", "system"])
@pytest.mark.parametrize("allocator", [None, "jemalloc", "mimalloc", "tcmalloc_minimal"])
def test_library_with_functions_of_general_names(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str | None, route: str
) -> None:
    own = compile("generic_names.c", bits, "-shared", "-DLIBRARY", "-Wl,-soname,libgeneric.so", name="libgeneric.so")
    program = compile("generic_names.c", bits, str(own), f"-Wl,-rpath,{own.parent}")
    preload = [library(bits).path, *([allocators(bits)[allocator]] if allocator else [])]
    assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output == "ok\n"


# ---- A library of the program's with operators new and delete of its own


@both_abis
@pytest.mark.parametrize("route", ["custom", "system"])
@pytest.mark.parametrize("allocator", [None, "jemalloc", "mimalloc", "tcmalloc_minimal"])
def test_library_with_operators_of_its_own(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str | None, route: str
) -> None:
    flags = ["-shared", "-DLIBRARY", "-Wl,-Bsymbolic-functions", "-Wl,-soname,libown.so"]
    own = compile("library_operators.cc", bits, *flags, name="libown.so")
    program = compile("library_operators.cc", bits, str(own), f"-Wl,-rpath,{own.parent}")
    preload = [library(bits).path, *([allocators(bits)[allocator]] if allocator else [])]
    assert run([program]).output == "ok\n"
    assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output == "ok\n"


@both_abis
def test_allocator_s_own_nothrow_operator_is_not_the_run_time_library_s(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    flags = ["-shared", "-DLIBRARY", "-static-libstdc++", "-Wl,-u,_ZSt15get_new_handlerv"]
    allocator = compile("nothrow_of_allocator.cc", bits, *flags)
    program = compile("nothrow_of_allocator.cc", bits)
    for route in ("custom", "system"):
        preload = [library(bits).path, allocator]
        assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output == "ok\n"


# ---- A program linked with the very allocator that is ours


@both_abis
@pytest.mark.parametrize("route", ["custom", "system"])
def test_program_linked_with_our_allocator_has_it_on_either_route(
    library: Library, compile: Compile, run: Run, bits: int, route: str
) -> None:
    jemalloc = allocators(bits)["jemalloc"]
    program = compile("own_jemalloc.c", bits, str(jemalloc))
    assert run([program], [library(bits).path, jemalloc], environment={"MEMPROXY_ROUTE": route}).output == "ok\n"


# ---- Allocators that are made from glibc's internal names


@both_abis
@pytest.mark.parametrize("flag", ["-DHEADER_IN_FRONT", "-DALIGNED"])
@pytest.mark.parametrize("allocator", [None, "mimalloc"])
def test_program_linked_with_a_wrapper_of_libc_keeps_it(
    library: Library, compile: Compile, run: Run, bits: int, flag: str, allocator: str | None
) -> None:
    shared = ["-shared", "-DLIBRARY", flag, "-Wl,-Bsymbolic-functions", "-Wl,-soname,libwrap.so"]
    wrapper = compile("header_by_libc.c", bits, *shared, name="libwrap.so")
    program = compile("header_by_libc.c", bits, str(wrapper), f"-Wl,-rpath,{wrapper.parent}")
    preload = [library(bits).path, *([allocators(bits)[allocator]] if allocator else [])]
    assert run([program], preload, environment={"MEMPROXY_ROUTE": "system"}).output == "ok\n"
    assert run([program], [library(bits).path, wrapper], environment={"MEMPROXY_ROUTE": "custom"}).output == "ok\n"


# ---- Nothing, by any function's name


@both_abis
@pytest.mark.parametrize("allocator", ["jemalloc", "mimalloc", "tcmalloc_minimal"])
def test_size_nothing_frees_whatever_the_function(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str
) -> None:
    program = compile("size_nothing.c", bits)
    preload = [library(bits).path, allocators(bits)[allocator]]
    for route in ("custom", "system"):
        assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output == "null null\n"

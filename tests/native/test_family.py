"""Every name of malloc's family, against every allocator of the distribution and a stub with each oddity."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import NATIVE, Installed, Outcome, allocators, both_abis, each_allocator, kind

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]

PREFIXES = ["mi_", "je_", "tc_", "lt", "rp", "scalable_", "xx", "h_", "sn_", "TCMallocInternal"]
"""Of the allocators that heap.cc knows by name."""


@each_allocator
def test_every_function_of_an_unlisted_program(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str
) -> None:
    program = compile("family.c", bits, f"-I{NATIVE}")
    report = run([program], [library(bits).path, allocators(bits)[allocator]]).json
    assert set(report.values()) == {kind(allocator)}, report


@each_allocator
def test_every_function_of_a_listed_program(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str
) -> None:
    program = compile("family.c", bits, f"-I{NATIVE}")
    proxy = library(bits)
    proxy.exclude("family")
    report = run([program], [proxy.path, allocators(bits)[allocator]]).json
    assert set(report.values()) == {"glibc"}, report


@each_allocator
@pytest.mark.parametrize("route", ["custom", "system"])
def test_promises(library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str) -> None:
    program = compile("promises.c", bits, f"-I{NATIVE}")
    preload = [library(bits).path, allocators(bits)[allocator]]
    assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output == "ok\n"


@both_abis
@pytest.mark.parametrize("name", sorted({"jemalloc", "mimalloc", "tcmalloc_minimal"}))
def test_no_plain_name_of_an_allocator_is_left_out(bits: int, name: str) -> None:
    """What a new version exports beyond the table would reach it past an exclusion."""
    command = ["nm", "-D", "--defined-only", str(allocators(bits)[name])]
    output = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    functions = {line.split()[-1] for line in output.splitlines() if line.split()[-2] in "TWi"}
    letter = {64: "m", 32: "j"}[bits]
    table = set((NATIVE / "names.def").read_text().replace("@", letter).split())
    family = re.compile(r"alloc|free|^_Zn[wa]|^_Zd[la]|mall(info|opt)")
    related = {function for function in functions if family.search(function)}
    private = re.compile(
        r"mi_|je_|tc_|TCMalloc|MallocExtension|MallocHook|_Z\d|_Z[NTKS]|[a-z]+allocx$|mallctl|malloc_stats_print"
        # A mistake of mimalloc's 32-bit build: the mangled names of 64-bit.
        + (r"|_Zd[la]Pvm" if bits == 32 else "")
    )
    assert {function for function in related if not private.match(function)} <= table


ODDITIES = {
    "calloc calls the public malloc": ["-DPUBLIC_CALLOC"],
    "its constructor allocates": ["-DEARLY"],
    "its constructor allocates and calloc calls the public malloc": ["-DEARLY", "-DPUBLIC_CALLOC"],
    "of aligned functions aligned_alloc alone": ["-DONLY_ALIGNED_ALLOC"],
    "of aligned functions posix_memalign alone": ["-DONLY_POSIX_MEMALIGN"],
    "malloc(0) is null": ["-DNULL_FOR_ZERO"],
    "failures leave errno alone": ["-DNO_ERRNO"],
    "the older kind of symbol hash": ["-Wl,--hash-style=sysv"],
    "the GNU kind of symbol hash": ["-Wl,--hash-style=gnu"],
}


@both_abis
@pytest.mark.parametrize("flags", ODDITIES.values(), ids=ODDITIES.keys())
@pytest.mark.parametrize("route", ["custom", "system"])
def test_allocator_with_an_oddity(
    library: Library, compile: Compile, run: Run, bits: int, flags: list[str], route: str
) -> None:
    stub = compile("stub_allocator.c", bits, "-shared", *flags)
    preload = [library(bits).path, stub]
    environment = {"MEMPROXY_ROUTE": route}
    report = run([compile("family.c", bits, f"-I{NATIVE}")], preload, environment=environment).json
    assert set(report.values()) == {"stub" if route == "custom" else "glibc"}, report
    program = compile("promises.c", bits, f"-I{NATIVE}")
    assert run([program], preload, environment=environment).output == "ok\n"


@both_abis
@pytest.mark.parametrize("prefix", [prefix for prefix in PREFIXES if prefix != "TCMallocInternal"])
def test_allocator_with_private_names_only(
    library: Library, compile: Compile, run: Run, bits: int, prefix: str
) -> None:
    stub = compile("stub_allocator.c", bits, "-shared", f"-DPREFIX={prefix}")
    between = compile("nothing_early.c", bits, "-shared")
    report = run([compile("family.c", bits, f"-I{NATIVE}")], [library(bits).path, between, stub]).json
    assert set(report.values()) == {"stub"}, report


@both_abis
def test_allocator_with_three_functions(library: Library, compile: Compile, run: Run, bits: int) -> None:
    """What needs no alignment is made from them; an aligned block is theirs, or there is none: never another heap's."""
    stub = compile("stub_allocator.c", bits, "-shared", "-DONLY_THREE")
    outcome = run([compile("three_functions.c", bits, f"-I{NATIVE}")], [library(bits).path, stub])
    assert outcome.output == "ok\n"

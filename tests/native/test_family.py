"""Every name of malloc's family, against every allocator of the distribution and a stub with each oddity."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import NATIVE, PROGRAMS, Installed, Outcome, allocators, both_abis, each_allocator, kind

from memproxy_sol.allocator import PREFIXES

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]

REPORTS = {
    "mallinfo", "mallinfo2", "mallopt", "malloc_stats", "malloc_trim", "malloc_info", "malloc_good_size",
    "memproxy_record", "memproxy_route", "memproxy_allocator", "memproxy_reason", "__asan_default_options",
}  # fmt: skip
"""What libmemproxy exports and no block passes through."""


def exported_names(bits: int) -> set[str]:
    """The table of names, as they are on this ABI."""
    lines = (NATIVE / "names.def").read_text().replace("@", {64: "m", 32: "j"}[bits]).splitlines()
    return {line for line in lines if line and not line.startswith("#")}


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


@both_abis
def test_no_exported_function_is_left_uncalled_by_the_two_tests_above(compile: Compile, run: Run, bits: int) -> None:
    called = run([compile("family.c", bits, f"-I{NATIVE}"), "names"]).output.split()
    assert set(called) == exported_names(bits) - REPORTS


@each_allocator
@pytest.mark.parametrize("route", ["custom", "system"])
def test_promises(library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str) -> None:
    program = compile("promises.c", bits, f"-I{NATIVE}")
    preload = [library(bits).path, allocators(bits)[allocator]]
    # Each of them knows its blocks' sizes, and so does glibc.
    assert run([program, "sizes"], preload, environment={"MEMPROXY_ROUTE": route}).output == "ok\n"


@each_allocator
def test_no_plain_name_of_an_allocator_is_left_out(bits: int, allocator: str) -> None:
    """What a new version exports beyond the table would reach it past an exclusion."""
    command = ["nm", "-D", "--defined-only", str(allocators(bits)[allocator])]
    output = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    functions = {line.split()[-1] for line in output.splitlines() if line.split()[-2] in "TWi"}
    family = re.compile(r"alloc|free|^_Zn[wa]|^_Zd[la]|mall(info|opt)|msize|dup")
    related = {function for function in functions if family.search(function)}
    private = re.compile(
        r"mi_|je_|tc_|TCMalloc|MallocExtension|MallocHook|_Z\d|_Z[NTKS]|[a-z]+allocx$|mallctl|malloc_stats_print"
        r"|scalable_|__TBB_malloc|MallocInitializeITT|__(start|stop)_"
        # Scudo's, of Android: they neither give blocks nor take them.
        r"|malloc_(iterate|enable|disable|disable_memory_tagging|set_[a-z_]+)$" + (r"|_Zd[la]Pvm" if bits == 32 else "")
        # A mistake of mimalloc's 32-bit build: the mangled names of 64-bit.
    )
    assert {function for function in related if not private.match(function)} <= exported_names(bits)


ODDITIES = {
    "calloc calls the public malloc": ["-DPUBLIC_CALLOC"],
    "its constructor allocates": ["-DEARLY"],
    "its constructor allocates and calloc calls the public malloc": ["-DEARLY", "-DPUBLIC_CALLOC"],
    "of aligned functions aligned_alloc alone": ["-DONLY_ALIGNED_ALLOC"],
    "of aligned functions posix_memalign alone": ["-DONLY_POSIX_MEMALIGN"],
    "of aligned functions memalign alone, and malloc aligns to 8, as libumem's": ["-DONLY_MEMALIGN", "-DALIGNMENT=8"],
    "no calloc": ["-DNO_CALLOC"],
    "malloc(0) is null": ["-DNULL_FOR_ZERO"],
    "failures leave errno alone": ["-DNO_ERRNO"],
    "symbol versions": [f"-Wl,--version-script={PROGRAMS}/stub_allocator.map"],
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
@pytest.mark.parametrize("prefix", [prefix for prefix in PREFIXES if prefix])
@pytest.mark.parametrize("flags", [[], ["-DNO_CALLOC", "-DNO_REALLOC"]], ids=["", "without calloc and realloc"])
def test_allocator_with_private_names_only(
    library: Library, compile: Compile, run: Run, bits: int, prefix: str, flags: list[str]
) -> None:
    """What preflight takes for an allocator, libmemproxy does."""
    stub = compile("stub_allocator.c", bits, "-shared", f"-DPREFIX={prefix}", *flags)
    preload = [library(bits).path, compile("nothing_early.c", bits, "-shared"), stub]
    report = run([compile("family.c", bits, f"-I{NATIVE}")], preload).json
    assert set(report.values()) == {"stub"}, report
    assert run([compile("promises.c", bits, f"-I{NATIVE}"), "sizes"], preload).output == "ok\n"


@both_abis
def test_private_names_that_need_each_thread_to_be_announced_are_not_called(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    """As rpmalloc's, where they are all that there is."""
    stub = compile("stub_allocator.c", bits, "-shared", "-DPREFIX=rp", "-DANNOUNCE")
    report = run([compile("family.c", bits, f"-I{NATIVE}")], [library(bits).path, stub]).json
    assert set(report.values()) == {"glibc"}, report


@both_abis
def test_rpmalloc_with_the_plain_names_is_known(library: Library, compile: Compile, run: Run, bits: int) -> None:
    stub = compile("stub_allocator.c", bits, "-shared", "-Wl,--defsym=rpmalloc=malloc")
    preload = [library(bits).path, compile("nothing_early.c", bits, "-shared"), stub]
    report = run([compile("family.c", bits, f"-I{NATIVE}")], preload).json
    assert set(report.values()) == {"stub"}, report


@both_abis
def test_allocator_with_three_functions(library: Library, compile: Compile, run: Run, bits: int) -> None:
    """What needs no alignment is made from them; an aligned block is theirs, or there is none: never another heap's."""
    stub = compile("stub_allocator.c", bits, "-shared", "-DONLY_THREE")
    outcome = run([compile("three_functions.c", bits, f"-I{NATIVE}")], [library(bits).path, stub])
    assert outcome.output == "ok\n"


@both_abis
@pytest.mark.parametrize("flags", [["-DFAILING_MEMALIGN"], ["-DMISALIGNED"], ["-DMISALIGNED", "-DALIGNMENT=8"]])
def test_allocator_whose_aligned_functions_are_of_no_use(
    library: Library, compile: Compile, run: Run, bits: int, flags: list[str]
) -> None:
    """libmapmalloc's always fail. An aligned block is aligned, or there is none."""
    stub = compile("stub_allocator.c", bits, "-shared", *flags)
    program = compile("three_functions.c", bits, f"-I{NATIVE}", "-DKNOWS_SIZES")
    assert run([program], [library(bits).path, stub]).output == "ok\n"


@both_abis
def test_allocator_that_has_no_memory(library: Library, compile: Compile, run: Run, bits: int) -> None:
    stub = compile("stub_allocator.c", bits, "-shared", "-DNOTHING_LEFT", "-DNO_ERRNO")
    assert run([compile("no_memory.c", bits, f"-I{NATIVE}")], [library(bits).path, stub]).output == "ok\n"

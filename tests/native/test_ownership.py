"""Who is the custom allocator, who is the system's, and what happens where malloc is not libmemproxy's to give."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from proxied import NATIVE, Installed, Outcome, allocators, both_abis, kind

from tests import needs

Library = Callable[..., Installed]
Served = Callable[..., dict[str, Any]]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]


def family(compile: Compile, bits: int, *flags: str) -> Path:
    return compile("family.c", bits, f"-I{NATIVE}", *flags)


# ---- Which object is the custom allocator


@both_abis
def test_allocator_in_our_own_directory_wins_over_one_right_behind(
    library: Library, served: Served, bits: int, tmp_path: Path
) -> None:
    proxy = library(bits)
    ours = proxy.path.parent / "libany-name.so"
    shutil.copy(allocators(bits)["mimalloc"], ours)
    report = served(bits, [proxy.path, allocators(bits)["jemalloc"], ours])
    assert report["allocator"] == str(ours)
    assert set(report["each"].values()) == {"mimalloc"}


@both_abis
def test_allocator_of_no_known_name_right_behind_us(library: Library, compile: Compile, run: Run, bits: int) -> None:
    stub = compile("stub_allocator.c", bits, "-shared")
    report = run([family(compile, bits)], [library(bits).path, stub]).json
    assert set(report.values()) == {"stub"}, report


@both_abis
def test_unknown_allocator_further_behind_is_not_the_custom_one(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    stub = compile("stub_allocator.c", bits, "-shared")
    between = compile("nothing_early.c", bits, "-shared")
    report = run([family(compile, bits)], [library(bits).path, between, stub]).json
    assert set(report.values()) == {"glibc"}, report


@both_abis
def test_known_allocator_further_behind_is_the_custom_one(
    library: Library, compile: Compile, served: Served, bits: int
) -> None:
    between = compile("nothing_early.c", bits, "-shared")
    for name in ("jemalloc", "mimalloc", "tcmalloc_minimal"):
        report = served(bits, [library(bits).path, between, allocators(bits)[name]])
        assert report["allocator"] == str(allocators(bits)[name])


@both_abis
def test_libc_preloaded_between_us_and_the_allocator(library: Library, served: Served, bits: int) -> None:
    report = served(bits, [library(bits).path, "libc.so.6", allocators(bits)["jemalloc"]])
    assert set(report["each"].values()) == {"jemalloc"}


@both_abis
@pytest.mark.parametrize("listed", [False, True])
def test_of_two_allocators_one_serves_everything(
    library: Library, compile: Compile, run: Run, bits: int, listed: bool
) -> None:
    proxy = library(bits)
    if listed:
        proxy.exclude("family")
    # The first lacks what the second has.
    preload = [proxy.path, allocators(bits)["jemalloc"], allocators(bits)["mimalloc"]]
    report = run([family(compile, bits)], preload).json
    assert set(report.values()) == {"glibc" if listed else "jemalloc"}, report


@both_abis
@pytest.mark.parametrize("flag", ["-DMALLOC_IS_DATA", "-DMALLOC_IS_INDIRECT"])
def test_object_whose_malloc_is_no_plain_function_is_no_allocator(
    library: Library, compile: Compile, run: Run, bits: int, flag: str
) -> None:
    """The address of an indirect one is the linker's secret."""
    stub = compile("stub_allocator.c", bits, "-shared", flag)
    report = run([family(compile, bits)], [library(bits).path, stub]).json
    assert set(report.values()) == {"glibc"}, report


@both_abis
@pytest.mark.parametrize("needed", [False, True], ids=["preloaded", "linked with"])
def test_wrapper_of_libc_s_internal_names_behind_us_leads_to_libc(
    library: Library, compile: Compile, run: Run, bits: int, needed: bool
) -> None:
    """We export __libc_malloc too: it must not come back to us, and we to it."""
    wrapper = compile("malloc_by_libc.c", bits, "-shared", "-DPRELOAD", "-Wl,-soname,libwrap.so.1", name="libwrap.so.1")
    link = ["-Wl,--no-as-needed", str(wrapper), f"-Wl,-rpath,{wrapper.parent}"] if needed else []
    report = run([family(compile, bits, *link)], [library(bits).path, *([] if needed else [wrapper])]).json
    assert set(report.values()) == {"glibc"}, report


@both_abis
@pytest.mark.parametrize("route", ["custom", "system"])
def test_glibc_s_own_malloc_debug_is_no_allocator(library: Library, served: Served, bits: int, route: str) -> None:
    preload = [library(bits).path, "libc_malloc_debug.so.0"]
    report = served(bits, preload, environment={"MEMPROXY_ROUTE": route, "MALLOC_CHECK_": "3"})
    assert report["route"] == "system"
    assert set(report["each"].values()) == {"glibc"}


@pytest.fixture
def second_jemalloc(tmp_path: Path) -> Callable[[int], Path]:
    """The same allocator from another file and by another name, as the loader sees it a library of its own."""

    def copy(bits: int) -> Path:
        data = allocators(bits)["jemalloc"].read_bytes()
        place = tmp_path / f"libjemalloc{bits}.so"
        assert data.count(b"\0libjemalloc.so.2\0") == 1
        place.write_bytes(data.replace(b"\0libjemalloc.so.2\0", b"\0libjemalloc.so.9\0"))
        return place

    return copy


@both_abis
@pytest.mark.parametrize("route", ["custom", "system"])
def test_same_allocator_preloaded_twice(
    library: Library, compile: Compile, run: Run, served: Served, second_jemalloc: Callable[[int], Path], bits: int,
    route: str,
) -> None:  # fmt: skip
    preload = [library(bits).path, allocators(bits)["jemalloc"], second_jemalloc(bits)]
    environment = {"MEMPROXY_ROUTE": route}
    report = served(bits, preload, environment=environment)
    # The first one's count, which is what dlsym finds.
    assert set(report["each"].values()) == {"jemalloc" if route == "custom" else "glibc"}
    program = compile("promises.c", bits, f"-I{NATIVE}")
    assert run([program, "sizes"], preload, environment=environment).output == "ok\n"


@both_abis
@pytest.mark.parametrize("listed", [False, True])
def test_same_allocator_as_preload_and_as_the_program_s_own(
    library: Library, compile: Compile, run: Run, second_jemalloc: Callable[[int], Path], bits: int, listed: bool
) -> None:
    """Two heaps: ours in our directory, and its own. Nothing crosses, whoever serves."""
    own = allocators(bits)["jemalloc"]
    proxy = library(bits)
    ours = proxy.path.parent / "libjemalloc.so"
    shutil.copy(second_jemalloc(bits), ours)
    link = ["-Wl,--no-as-needed", str(own)]
    program = compile(NATIVE / "served.c", bits, *link)
    if listed:
        proxy.exclude("served", "family")
    report = run([program], [proxy.path, ours]).json
    assert Path(report["allocator"]).resolve() == (own if listed else ours).resolve()
    # Asked is the preload, which comes first: it has given the block, or nobody who is asked has.
    assert set(report["each"].values()) == {"unknown" if listed else "jemalloc"}
    report = run([family(compile, bits, *link)], [proxy.path, ours]).json
    assert set(report.values()) == {"unknown" if listed else "jemalloc"}, report
    if not listed:  # jemalloc alone does not always set errno; on the system route nothing is added to it
        promises = compile("promises.c", bits, f"-I{NATIVE}", *link)
        assert run([promises, "sizes"], [proxy.path, ours]).output == "ok\n"


# ---- Whose is the system's malloc


@both_abis
@pytest.mark.parametrize("listed", [False, True])
def test_allocator_that_the_program_is_linked_with_is_its_system_allocator(
    library: Library, compile: Compile, run: Run, bits: int, listed: bool
) -> None:
    own = compile("stub_allocator.c", bits, "-shared", "-DLENIENT", "-Wl,-soname,libown.so.1", name="libown.so.1")
    program = family(compile, bits, "-Wl,--no-as-needed", str(own), f"-Wl,-rpath,{own.parent}")
    proxy = library(bits)
    if listed:
        proxy.exclude("family")
    alone = run([program], [proxy.path], environment={"MEMPROXY_DEBUG": "1"})
    assert set(alone.json.values()) == {"stub"}, alone.json
    assert f"route system, served by {own}" in alone.errors
    with_jemalloc = run([program], [proxy.path, allocators(bits)["jemalloc"]]).json
    assert set(with_jemalloc.values()) == {"stub" if listed else "jemalloc"}, with_jemalloc


@both_abis
def test_program_linked_with_a_known_allocator_has_it_as_its_own(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    jemalloc = allocators(bits)["jemalloc"]
    program = compile(NATIVE / "served.c", bits, "-Wl,--no-as-needed", str(jemalloc))
    report = run([program], [library(bits).path]).json
    assert (report["route"], report["reason"], report["served_by"]) == ("system", "no-allocator", "jemalloc")
    report = run([program], [library(bits).path, allocators(bits)["mimalloc"]]).json
    assert (report["route"], report["served_by"]) == ("custom", "mimalloc")


# ---- Malloc is not ours


@both_abis
@pytest.mark.parametrize("allocator", [None, "jemalloc", "mimalloc", "tcmalloc_minimal"])
def test_program_with_its_own_malloc_keeps_it(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str | None
) -> None:
    program = compile("own_malloc.c", bits, f"-I{NATIVE}")
    preload = [library(bits).path, *([allocators(bits)[allocator]] if allocator else [])]
    report = run([program], preload).json
    assert (report["route"], report["reason"]) == ("system", "not-owner")
    for name in ("malloc", "strdup", "calloc", "operator new", "reallocarray", "reallocf"):
        assert report[name] == "own", name
    # As without us: from libc. Never from the custom allocator.
    assert report["posix_memalign"] == report["valloc"] == "glibc"


@pytest.mark.parametrize("allocator", [None, "mimalloc", "jemalloc"])
def test_program_with_an_allocator_linked_into_it_keeps_it(
    library: Library, compile: Compile, run: Run, allocator: str | None
) -> None:
    archive = Path("/usr/lib/x86_64-linux-gnu/libjemalloc_pic.a")
    if not archive.exists():
        needs.missing(archive.name, "libjemalloc-dev")
    link = [f"-Wl,--whole-archive,{archive},--no-whole-archive", "-lstdc++", "-lm", "-rdynamic"]
    proxy = library(64)
    preload = [proxy.path, *([allocators(64)[allocator]] if allocator else [])]
    program = compile(NATIVE / "served.c", 64, *link)
    report = run([program], preload, environment={"MEMPROXY_ROUTE": "custom"}).json
    assert (report["route"], report["reason"]) == ("system", "not-owner")
    assert report["allocator"] == str(program)
    assert set(report["each"].values()) == {"jemalloc"}
    # glibc's internal names stay glibc's.
    report = run([family(compile, 64, "-DNO_INTERNAL_NAMES", *link)], preload).json
    assert set(report.values()) == {"jemalloc"}, report


@both_abis
def test_program_s_own_malloc_is_not_called_before_main(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    program = compile("own_malloc.c", bits, f"-I{NATIVE}", "-DCOUNT")
    assert run([program], [library(bits).path]).output == "0 calls before main\n"


@both_abis
def test_program_with_its_own_memalign_has_it_under_every_name(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    program = compile("own_malloc.c", bits, f"-I{NATIVE}", "-DALIGNED")
    report = run([program], [library(bits).path, allocators(bits)["mimalloc"]]).json
    assert report["posix_memalign"] == report["valloc"] == "own"


@both_abis
@pytest.mark.parametrize("flag", ["-DPLAIN", "-DWITH_MEMALIGN"])
@pytest.mark.parametrize("allocator", [None, "jemalloc", "mimalloc", "tcmalloc_minimal"])
def test_another_interposer_ahead_gets_what_it_would_get_without_us(
    library: Library, compile: Compile, served: Served, bits: int, flag: str, allocator: str | None
) -> None:
    tracer = compile("tracer.c", bits, "-shared", flag)
    preload = [tracer, library(bits).path, *([allocators(bits)[allocator]] if allocator else [])]
    report = served(bits, preload, environment={"MEMPROXY_ROUTE": "custom"})
    assert (report["route"], report["reason"], report["allocator"]) == ("system", "not-owner", str(tracer))
    assert set(report["each"].values()) == {"glibc"}, report


@both_abis
@pytest.mark.parametrize("ahead", [False, True], ids=["ours", "of another interposer"])
def test_system_that_lacks_most_functions(library: Library, compile: Compile, run: Run, bits: int, ahead: bool) -> None:
    """As old C libraries do: what is missing is made from what is there, whoever owns malloc."""
    own = compile("stub_allocator.c", bits, "-shared", "-DONLY_THREE", "-Wl,-soname,libold.so.1", name="libold.so.1")
    program = compile(
        "three_functions.c", bits, f"-I{NATIVE}", "-Wl,--no-as-needed", str(own), f"-Wl,-rpath,{own.parent}"
    )
    preload = [*([compile("tracer.c", bits, "-shared")] if ahead else []), library(bits).path]
    assert run([program], preload).output == "ok\n"


@both_abis
@pytest.mark.parametrize("allocator", ["jemalloc", "mimalloc", "tcmalloc_minimal"])
def test_allocator_ahead_of_us_serves_also_what_it_lacks(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str
) -> None:
    preload = [allocators(bits)[allocator], library(bits).path]
    # glibc's internal names are glibc's then, unless the allocator has them.
    report = run([family(compile, bits, "-DNO_INTERNAL_NAMES")], preload).json
    assert set(report.values()) == {kind(allocator)}, report

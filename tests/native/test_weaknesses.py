"""Situations in which an existing implementation of such a library crashes or takes the wrong route.

weaknesses/table.toml has all 27 of its weaknesses, the tests here and elsewhere that show each, and the plants that
make these tests fail.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from proxied import NATIVE, PROGRAMS, Installed, Outcome, allocators, both_abis, clean_environment, must
from test_build import dynamic_symbols, readelf

from memproxy_sol import cross, resources

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]


@pytest.fixture
def route_of(library: Library, compile: Compile, run: Run, tmp_path: Path) -> Callable[..., str]:
    """`route_of(bits, name, listed)`: route and reason of a program of this name, by a list of these bytes."""

    def ask(
        bits: int, name: str, listed: bytes, relative: bool = False, ahead: Sequence[object] = (), **options: object
    ) -> str:
        proxy = library(bits)
        proxy.list_path.write_bytes(listed)
        program = tmp_path / f"bin{bits}" / name
        program.parent.mkdir(exist_ok=True)
        shutil.copy(compile("tell_route.c", bits, f"-I{NATIVE}"), program)
        preload = [*ahead, proxy.path, allocators(bits)["mimalloc"]]
        if relative:
            options["cwd"] = program.parent
        return run([f"./{name}" if relative else program], preload, **options).output.strip()

    return ask


@both_abis
def test_otherwise_the_library_works(route_of: Callable[..., str], bits: int) -> None:
    """What a library with a weakness can still do."""
    assert route_of(bits, "listed", b"# comment\nlisted\n") == "system list"
    assert route_of(bits, "unlisted", b"# comment\nlisted\n") == "custom default"


# ---- Before the constructor (1, 2, 8, 21)


@both_abis
@pytest.mark.parametrize("route", ["custom", "system"])
@pytest.mark.parametrize(
    "way",
    [
        *("free", "malloc", "malloc-of-nothing", "malloc-of-too-much", "calloc", "calloc-of-too-much", "realloc"),
        *("realloc-of-a-block", "memalign", "aligned_alloc", "posix_memalign", "valloc", "malloc_usable_size"),
    ],
)
def test_first_call_comes_before_any_initialiser(
    library: Library, compile: Compile, run: Run, bits: int, way: str, route: str
) -> None:
    preload = [library(bits).path, allocators(bits)["mimalloc"]]
    run([compile("first_call.c", bits), way], preload, environment={"MEMPROXY_ROUTE": route})


# ---- What the list says (5, 6, 25, 26)


@both_abis
@pytest.mark.parametrize("relative", [False, True], ids=["by its path", "by a relative name"])
@pytest.mark.parametrize("length", [15, 16, 17, 31, 200, 255])
def test_name_of_any_length_matches_as_a_whole(
    route_of: Callable[..., str], bits: int, length: int, relative: bool
) -> None:
    name = ("a-program-with-a-long-name-" * 10)[:length]
    assert route_of(bits, name, f"{name}\n".encode(), relative) == "system list"
    for shorter in {name[:15], name[:16], name[:-1]} - {name}:
        assert route_of(bits, name, f"{shorter}\n".encode(), relative) == "custom default"
    assert route_of(bits, name[:-1], f"{name}\n".encode(), relative) == "custom default"


FORMS = {
    "plain": b"listed\n",
    "CR LF": b"listed\r\n",
    "trailing blanks": b"listed \t \n",
    "leading blanks": b" \t listed\n",
    "after a byte order mark": b"\xef\xbb\xbflisted\n",
    "without a line end": b"listed",
    "all of these": b"\xef\xbb\xbf \tlisted\t \r",
}


@both_abis
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_entry_in_any_form_counts(route_of: Callable[..., str], bits: int, form: bytes) -> None:
    assert route_of(bits, "listed", form) == "system list"
    assert route_of(bits, "other", form) == "custom default"


@both_abis
@pytest.mark.parametrize("comment", [b"#tool\n", b"  #tool\n", b"\t;tool\r\n"])
def test_comment_is_one_wherever_it_begins(route_of: Callable[..., str], bits: int, comment: bytes) -> None:
    """A program may be called so."""
    assert route_of(bits, comment.decode().strip(), comment) == "custom default"


@both_abis
def test_program_of_unknown_name_is_not_what_an_empty_line_means(
    route_of: Callable[..., str], compile: Compile, bits: int
) -> None:
    ahead = [compile("no_name.c", bits, "-shared")]
    assert route_of(bits, "tool", b"\n\n \n\t\r\n#\ntool\n", ahead=ahead) == "custom default"
    assert route_of(bits, "tool", b"\n*\n", ahead=ahead) == "system list"


# ---- What the list is (7, 17)


def memory_calls(program: Path, proxy: Installed, bits: int, log: Path) -> list[str]:
    """The system calls by which a process under the library gets and gives back memory."""
    preload = f"LD_PRELOAD={proxy.path}:{allocators(bits)['mimalloc']}"
    command = ["strace", "-f", "-e", "trace=%memory", "-o", str(log), "-E", preload, str(program)]
    subprocess.run(command, check=True, env=clean_environment(), stdout=subprocess.DEVNULL, timeout=120)
    return re.findall(r"\b(\w+)\(", log.read_text())


@both_abis
def test_long_list_takes_no_memory(library: Library, compile: Compile, bits: int, tmp_path: Path) -> None:
    program = compile("tell_route.c", bits, f"-I{NATIVE}")
    proxy = library(bits)
    proxy.exclude("x")
    short = memory_calls(program, proxy, bits, tmp_path / "short")
    assert {"brk", "munmap"} <= set(short)
    proxy.exclude(*(f"name-of-program-{number}" for number in range(20_000)))
    assert memory_calls(program, proxy, bits, tmp_path / "long") == short


@both_abis
def test_list_that_is_a_fifo_stops_nobody(library: Library, compile: Compile, run: Run, bits: int) -> None:
    proxy = library(bits)
    os.mkfifo(proxy.list_path)
    preload = [proxy.path, allocators(bits)["mimalloc"]]
    assert run([compile("tell_route.c", bits, f"-I{NATIVE}")], preload).output == "custom default\n"


# ---- The functions (10, 14, 19, 27)


@both_abis
@pytest.mark.parametrize("route", ["custom", "system"])
@pytest.mark.parametrize("allocator", ["jemalloc", "mimalloc", "tcmalloc_minimal"])
def test_memalign_takes_small_alignments_and_says_what_failed(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    preload = [library(bits).path, allocators(bits)[allocator]]
    environment = {"MEMPROXY_ROUTE": route}
    assert run([compile("small_alignments.c", bits)], preload, environment=environment).output == "ok\n"


@both_abis
def test_what_the_first_of_two_allocators_lacks_is_not_taken_from_the_second(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    stub = compile("stub_allocator.c", bits, "-shared", "-DONLY_THREE")
    preload = [library(bits).path, stub, allocators(bits)["mimalloc"]]
    assert run([compile("three_functions.c", bits, f"-I{NATIVE}")], preload).output == "ok\n"


@both_abis
def test_relatives_of_malloc_that_only_newer_libcs_have_are_exported(built: dict[int, Path], bits: int) -> None:
    newer = {"reallocarray", "reallocf", "recallocarray", "freezero", "freezeroall", "posix_memalign", "aligned_alloc"}
    assert newer | {"malloc_usable_size"} <= dynamic_symbols(built[bits], "--defined-only")


# ---- How functions are found (20, 22, 24)


@both_abis
def test_handle_on_libc_is_not_closed(built: dict[int, Path], bits: int) -> None:
    imports = dynamic_symbols(built[bits], "--undefined-only")
    assert "dlsym" in imports
    assert "dlclose" not in imports


@both_abis
@pytest.mark.parametrize("allocator", [None, "mimalloc"])
def test_libc_cannot_be_had_from_the_linker(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str | None
) -> None:
    """Neither its list nor a handle: then memory is that of the middle of the decision, for good."""
    blind = compile("no_object_list.c", bits, "-shared", "-DNO_LIBC_EITHER")
    preload = [blind, library(bits).path, *([allocators(bits)[allocator]] if allocator else [])]
    assert run([compile("tell_route.c", bits, f"-I{NATIVE}")], preload).output == "system undecided\n"
    assert run([compile("early_main.c", bits, str(PROGRAMS / "early_object.c"))], preload).output == ""


@both_abis
@pytest.mark.parametrize("allocator", [None, "jemalloc", "mimalloc"])
def test_linker_is_not_asked_for_names_that_nobody_has(
    library: Library, compile: Compile, run: Run, bits: int, tmp_path: Path, allocator: str | None
) -> None:
    """On Solaris that would load every lazy dependency of the program."""
    program = compile("tell_route.c", bits, f"-I{NATIVE}")
    preload = [library(bits).path, *([allocators(bits)[allocator]] if allocator else [])]
    run([program], preload, environment={"LD_DEBUG": "symbols", "LD_DEBUG_OUTPUT": str(tmp_path / "log")})
    (log,) = tmp_path.glob("log.*")
    asked = set(re.findall(r"symbol=([^;]+);", log.read_text()))
    files = [Path(file) for file in set(re.findall(r"lookup in file=(/\S+) ", log.read_text()))]
    assert set(preload) <= set(files)
    assert {"malloc", "memproxy_route"} <= asked
    known = set().union(*(dynamic_symbols(file, "--") for file in files))
    # libc asks the kernel's object for its functions.
    assert {name for name in asked - known if not name.startswith("__vdso_")} == set()


@both_abis
def test_solaris_linker_is_asked_so_that_it_loads_and_guesses_nothing(bits: int, tmp_path: Path) -> None:
    """The object for Solaris, run: names of libc by a handle on libc alone, others by RTLD_PROBE."""
    target = {64: "x86_64", 32: "i386"}[bits] + "-pc-solaris2.11"
    general = ["-O1", "-std=c++17", "-fPIC", "-fno-exceptions", "-fno-rtti"]
    solaris = [f"--target={target}", "-nostdlibinc", "-isystem", resources.solaris_sysroot() / "include"]
    made, program = tmp_path / "platform_solaris.o", tmp_path / "program"
    must([cross.find_compiler().clangxx, *solaris, *general, "-c", NATIVE / "platform_solaris.cc", "-o", made])
    must(["g++", f"-m{bits}", *general, f"-I{NATIVE}", PROGRAMS / "solaris_linker.cc", made, "-o", program])
    open_libc = "dlopen libc.so.1 NOLOAD FIRST"
    assert subprocess.run([program], check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines() == [
        *(open_libc, "dlsym libc malloc", "-> found"),
        *(open_libc, "dlsym libc absent", "-> null"),
        *("dlsym RTLD_PROBE malloc", "-> found"),
        *(open_libc, "-> null"),
        "executable null",
    ]


# ---- The object (12, 23)


HARMLESS = {
    *("__environ", "_environ", "environ", "__errno_location", "getauxval", "sysconf", "syscall", "write", "abort"),
    *("memchr", "memcmp", "memcpy", "memmove", "memset", "strcmp", "strlen", "strncmp", "strrchr"),
    *("mmap", "mmap64", "munmap", "dladdr1", "dlerror", "dlopen", "dlsym", "dl_iterate_phdr"),
    # Of the compiler's start files, and weak.
    *("__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"),
}
"""What libc does without memory, a lock or an initialiser; dlopen and dlsym only where the linker gives no list,
and dl_iterate_phdr, which takes the linker's lock, only where operator new has failed."""


@both_abis
def test_libc_is_asked_for_nothing_that_asks_for_memory(built: dict[int, Path], bits: int) -> None:
    assert dynamic_symbols(built[bits], "--undefined-only") <= HARMLESS


@both_abis
def test_one_constructor_and_no_other_initialiser(built: dict[int, Path], bits: int) -> None:
    """The start files of the compiler add one entry of their own to either table."""
    dynamic = readelf("-dW", built[bits])
    word = bits // 8
    assert re.findall(r"\((INIT|FINI)_ARRAYSZ\)\s+(\d+)", dynamic) == [("INIT", str(2 * word)), ("FINI", str(word))]

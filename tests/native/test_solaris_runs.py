"""The objects for Solaris x86 run on Linux, on a libc.so.1 that behaves as Solaris' does: solaris_lab.py.

Each test reproduces a statement of reference "solaris-native" about libc.so.1, ld.so.1 or the system's allocators.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import solaris_lab
from proxied import PROGRAMS, Outcome, both_abis, once
from solaris_lab import FAMILY, LATER, ORACLE, SOURCES, Laboratory

Lab = Callable[..., Laboratory]
Make = Callable[..., Path]
Decided = Callable[..., tuple[Laboratory, Outcome, list[str]]]

OWN = SOURCES / "programs"
FAMILIES = {*FAMILY, *LATER, *ORACLE}
WORDS = {"umem": "libumem.so.1", "mtmalloc": "libmtmalloc.so.1", "mapmalloc": "libmapmalloc.so.1"}


@pytest.fixture(scope="session")
def kept(shared_directory: Path) -> Path:
    place = shared_directory / "solaris-lab"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="session")
def allocator(kept: Path) -> Make:
    """`allocator(kind, bits)`: one of allocators/allocator.c, compiled for Solaris."""

    def get(kind: str, bits: int, *flags: str) -> Path:
        soname = WORDS.get(kind, f"lib{kind}.so")

        def make(directory: Path) -> None:
            solaris_lab.make_allocator(directory, bits, kind, soname, *flags)

        return once(kept / f"{kind}{''.join(flags)}-{bits}", make) / soname

    return get


@pytest.fixture
def laboratory(kept: Path, tmp_path: Path) -> Lab:
    """`laboratory(bits, variant)`."""

    def get(bits: int, variant: str = "illumos") -> Laboratory:
        def make(directory: Path) -> None:
            solaris_lab.make_libc(directory, variant, bits)

        libc = once(kept / f"{variant}-{bits}", make) / "libc.so.1"
        proxy = solaris_lab.for_linux(solaris_lab.solaris_library(bits), tmp_path / f"proxy{bits}" / "libmemproxy.so")
        return Laboratory(bits, libc, proxy, tmp_path)

    return get


@pytest.fixture
def program(compile: Make) -> Make:
    """`program(laboratory, source, *libraries)`: linked as on Solaris, malloc's family from libc.so.1."""

    def get(
        lab: Laboratory, source: Path, *libraries: object, flags: Sequence[str] = (), name: str | None = None
    ) -> Path:
        words = [*flags, "-Wl,--no-as-needed", *map(str, libraries), str(lab.libc.parent / "family.so")]
        words += [f"-Wl,-rpath,{Path(str(library)).parent}" for library in libraries]
        return compile(source, lab.bits, *words, "-Wl,--allow-shlib-undefined", name=name)

    return get


def calls(journal: Sequence[str], *names: str) -> list[str]:
    """The lines of the journal about calls of these functions."""
    return [line for line in journal if line.split()[0] in names]


def by_proxy(lines: Sequence[str]) -> list[str]:
    return [line.removesuffix(" < libmemproxy.so") for line in lines if line.endswith(" < libmemproxy.so")]


def served(journal: Sequence[str]) -> set[str]:
    """Functions of libc's family that others than libc called; a call that we pass on by a jump shows the program."""
    return {line.split()[0] for line in journal if not line.endswith(" < libc.so.1")} & FAMILIES


def decision(journal: Sequence[str]) -> list[str]:
    """What libmemproxy called while it decided: all that it called that is not of malloc's family."""
    return [line for line in by_proxy(journal) if line.split()[0] not in FAMILIES]


def assert_well_behaved(journal: Sequence[str]) -> None:
    """What holds in every process."""
    first = next(i for i, line in enumerate(journal) if line.endswith(" < libmemproxy.so"))
    made = decision(journal)
    assert made[0] == "getexecname"
    assert made.count("getexecname") == 1, "one decision"
    opened = [line for line in made if line.startswith("open")]
    assert opened == ["open /etc/memproxy.conf"]
    end = max(i for i, line in enumerate(journal) if line.startswith("dladdr1"))
    assert served(journal[first:end]) == set(), "a function of libc's family before the decision has ended"
    assert not [line for line in made if line.startswith("dlsym RTLD")], "that would load lazy dependencies"
    assert {line.split()[0] for line in made} <= {
        *("getexecname", "issetugid", "open", "fstat", "read", "close", "getcwd", "dladdr1", "mmap", "munmap"),
        *("sysconf", "write", "dlopen", "dlsym"),
    }


# -- what is run


@both_abis
def test_the_bytes_that_are_run_are_those_that_are_shipped(bits: int, laboratory: Lab) -> None:
    shipped = solaris_lab.solaris_library(bits).read_bytes()
    run = laboratory(bits).proxy.read_bytes()
    assert [i for i in range(len(shipped)) if shipped[i] != run[i]] in ([], [7])
    assert len(run) == len(shipped)


@both_abis
def test_that_libc_notices_a_foreign_block(bits: int, laboratory: Lab, program: Make, tmp_path: Path) -> None:
    """The laboratory itself: what a proxy must not do is fatal there."""
    source = tmp_path / "wrong.c"
    source.write_text(
        "#include <stdlib.h>\n#include <dlfcn.h>\nstatic char other[4096];\n"
        'int main(int n, char **w) { void *(*m)(size_t, size_t) = dlsym(RTLD_DEFAULT, "memalign");'
        " if (n > 1) free(other + 64); else m(64, 10); }\n"
        "#ifdef OWN\nvoid *malloc(size_t size) { return other + 128; }\n#endif\n"
    )
    lab = laboratory(bits)
    wrong, _ = lab.run([program(lab, source), "free"], expect=-6)
    assert "free of a foreign block" in wrong.errors
    wrong, _ = lab.run([program(lab, source, flags=["-DOWN"], name="own")], expect=-6)
    assert "memalign was given a foreign block by malloc" in wrong.errors


# -- the family, on both routes


@both_abis
@pytest.mark.parametrize("variant", solaris_lab.VARIANTS)
@pytest.mark.parametrize("route", ["system", "custom"])
def test_the_family(
    bits: int,
    variant: str,
    route: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    """libc's calloc, memalign and others call the public malloc and edit the header. Names come and go by release."""
    lab = laboratory(bits, variant)
    custom = allocator("plain", bits)
    server = {"system": "libc", "custom": custom}[route]
    family = program(lab, OWN / "family.c")
    outcome, journal = lab.run([family, server], [lab.proxy, custom], {"MEMPROXY_ROUTE": route})
    assert outcome.output == "well\n"
    assert_well_behaved(journal)
    if route == "custom":
        assert served(journal) == set(), "libc's family is not for the custom route"
        return
    exported = solaris_lab.exports(variant, bits)
    assert {"malloc", "calloc", "realloc", "free", "memalign"} <= served(journal) <= set(exported)
    assert ("posix_memalign" in served(journal)) == (variant != "solaris10")
    assert ("malloc_usable_size" in served(journal)) == (variant == "solaris11.4")


@both_abis
@pytest.mark.parametrize("kind", ["umem", "mtmalloc", "mapmalloc", "bsdmalloc"])
def test_the_systems_other_allocators_behind_us(
    bits: int,
    kind: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    """calloc, realloc and memalign call the public names; libmapmalloc's memalign fails; libbsdmalloc has none."""
    lab = laboratory(bits)
    custom = allocator(kind, bits)
    words = [custom, *["unaligned"] * (kind in ("mapmalloc", "bsdmalloc"))]
    outcome, journal = lab.run([program(lab, OWN / "family.c"), *words], [lab.proxy, custom])
    assert outcome.output == "well\n"
    assert served(journal) == set()
    assert_well_behaved(journal)


@both_abis
@pytest.mark.parametrize("kind", ["umem", "mtmalloc", "mapmalloc", "bsdmalloc"])
def test_a_program_linked_with_one_of_these_and_the_proxy_alone(
    bits: int,
    kind: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    """svc.startd, svc.configd and others are linked with libumem: that is their system allocator."""
    lab = laboratory(bits)
    linked = allocator(kind, bits)
    family = program(lab, OWN / "family.c", linked, name=kind)
    words = [linked, *["unaligned"] * (kind in ("mapmalloc", "bsdmalloc"))]
    outcome, _ = lab.run([family, *words], [lab.proxy], {"MEMPROXY_DEBUG": "1"})
    assert outcome.output == "well\n"
    assert f"route system, served by {linked}: no custom allocator" in outcome.errors
    # With a custom allocator, and on the list.
    custom = allocator("plain", bits)
    (lab.scratch / "list").write_text(f"{kind}\n")
    environment = {"MEMPROXY_DEBUG": "1", "LAB_LIST": str(lab.scratch / "list")}
    outcome, _ = lab.run([family, *words], [lab.proxy, custom], environment)
    assert f"route system, served by {linked}: line 1" in outcome.errors
    outcome, _ = lab.run([family, custom], [lab.proxy, custom], {"MEMPROXY_DEBUG": "1"})
    assert f"route custom, served by {custom}: no line" in outcome.errors


# -- who owns malloc


@both_abis
@pytest.mark.parametrize("address", ["pie", "no-pie"])
def test_a_program_that_owns_malloc(bits: int, address: str, laboratory: Lab, program: Make, allocator: Make) -> None:
    """Without us its posix_memalign ends in its own malloc; with a proxy on the custom route it got a foreign block."""
    lab = laboratory(bits)
    own = program(lab, OWN / "own_malloc.c", flags=["-rdynamic", f"-{address}"])
    foreign_ok = {"LAB_FOREIGN_OK": "1"}
    proxied, journal = lab.run([own], [lab.proxy, allocator("plain", bits)], foreign_ok)
    lines = dict(line.rsplit(" ", 1) for line in proxied.output.splitlines())
    assert lines == dict.fromkeys(lines, "0"), "foreign blocks, or a call of its malloc before main"
    assert {"posix_memalign", "aligned_alloc", "memalign", "valloc", "strdup", "reallocarray", "new"} < set(lines)
    assert calls(journal, "edits"), "memalign went to libc, which went to the program's malloc"


@both_abis
@pytest.mark.parametrize("kind", ["umem", "mtmalloc"])
def test_a_users_preload_ahead_of_us(
    bits: int,
    kind: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    """User preloads stand before permanent ones: a user's libumem takes malloc although the proxy is loaded."""
    lab = laboratory(bits)
    preload = [allocator(kind, bits), lab.proxy, allocator("plain", bits)]
    outcome, _ = lab.run([program(lab, OWN / "family.c"), preload[0]], preload, {"MEMPROXY_DEBUG": "1"})
    assert outcome.output == "well\n"
    assert f"served by {preload[0]}: malloc of this process is defined ahead" in outcome.errors


# -- the order of initialisation


@both_abis
@pytest.mark.parametrize("route", ["system", "custom"])
@pytest.mark.parametrize("function", ["dladdr1", "dlsym", ""])
def test_an_initialiser_runs_in_the_middle_of_the_decision(
    bits: int,
    route: str,
    function: str,
    laboratory: Lab,
    program: Make,
    compile: Make,
    allocator: Make,
) -> None:
    """dlsym and lazy binding run initialisers of others; these call malloc, half way through ours."""
    lab = laboratory(bits)
    halfway = program(lab, OWN / "halfway.c", flags=["-shared"] + ["-DCONSTRUCTOR"] * (not function))
    main = program(lab, OWN / "halfway_main.c", halfway)
    environment = {"LAB_INITIALISE_IN": function, "MEMPROXY_ROUTE": route}
    if function == "dlsym":
        environment["LAB_NO_LIST"] = "1"
    outcome, journal = lab.run([main], [lab.proxy, allocator("plain", bits)], environment)
    assert outcome.output == "well\n"
    if function:
        assert "mmap" in decision(journal), "the bootstrap region has grown"
        assert "sysconf 11" in decision(journal)


@both_abis
@pytest.mark.parametrize("route", ["system", "custom"])
@pytest.mark.parametrize("kind", ["plain", "umem", "mtmalloc", "eager"])
def test_malloc_from_the_preinit_array(
    bits: int,
    route: str,
    kind: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    """Before any initialiser. An allocator's own may be what its malloc needs: ld.so.1 runs it when a call is bound."""
    lab = laboratory(bits)
    preload = [lab.proxy, allocator(kind, bits)]
    outcome, journal = lab.run([program(lab, OWN / "preinit.c")], preload, {"MEMPROXY_ROUTE": route})
    assert outcome.output == "well\n"
    assert_well_behaved(journal)


@both_abis
@pytest.mark.parametrize("kind", ["umem", "mtmalloc", "eager"])
@pytest.mark.parametrize("place", ["preload", "dependency"])
def test_an_object_that_is_initialised_before_the_allocator(
    bits: int,
    kind: str,
    place: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    """Ordinary dependencies came before the allocator and the proxy; without us, binding initialises it first."""
    lab = laboratory(bits)
    early = program(lab, PROGRAMS / "early_object.c", flags=["-shared"])
    linked = allocator(kind, bits)
    libraries = [linked, early] if place == "dependency" else [early]
    main = program(lab, PROGRAMS / "early_main.c", *libraries, name=f"{place}-{kind}")
    preload = {"preload": [lab.proxy, linked], "dependency": [lab.proxy]}[place]
    outcome, journal = lab.run([main], preload, {"MEMPROXY_DEBUG": "1"})
    assert f"served by {linked}" in outcome.errors
    bound = [line for line in decision(journal) if line.startswith("dl") and not line.startswith("dladdr1")]
    assert bound == [f"dlopen {linked} 0x2005", f"dlsym {linked.name} malloc"]


@both_abis
@pytest.mark.parametrize("kind", ["umem", "mtmalloc"])
def test_operator_new_before_the_owner_of_malloc_is_initialised(
    bits: int,
    kind: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    lab = laboratory(bits)
    main = program(lab, OWN / "preinit_new.c")
    outcome, journal = lab.run([main], [allocator(kind, bits), lab.proxy], {"MEMPROXY_DEBUG": "1"})
    assert outcome.output == "well\n"
    assert "is defined ahead of libmemproxy.so" in outcome.errors
    assert calls(journal, "dlsym") == [f"dlsym {WORDS[kind]} malloc < libmemproxy.so"]


@both_abis
def test_an_allocator_that_we_know_is_not_asked_of_dlsym(
    bits: int,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    """jemalloc, mimalloc and others set themselves up in their first call; libc's initialiser is the first of all."""
    lab = laboratory(bits)
    known = allocator("plain", bits, "-Dallocator_owns=mallocx")
    main = program(lab, OWN / "preinit.c")
    for preload, server in (([lab.proxy, known], known), ([lab.proxy], lab.libc)):
        outcome, journal = lab.run([main], preload, {"MEMPROXY_DEBUG": "1"})
        assert f"served by {server}" in outcome.errors
        assert not calls(journal, "dlopen", "dlsym")


@both_abis
@pytest.mark.parametrize("route", ["system", "custom"])
def test_calls_after_our_fini(
    bits: int,
    route: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
    tmp_path: Path,
) -> None:
    lab = laboratory(bits)
    late = program(lab, OWN / "late_object.c", flags=["-shared"])
    source = tmp_path / "late_main.c"
    source.write_text("void late_object(void);\nint main(void) { late_object(); return 0; }\n")
    outcome, _ = lab.run([program(lab, source, late)], [lab.proxy, allocator("plain", bits)], {"MEMPROXY_ROUTE": route})
    assert outcome.output == "late\n"


# -- the linker


@both_abis
def test_a_linker_that_gives_no_list(
    bits: int,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    """Then libc's functions by dlsym, with a handle on libc alone: names that it lacks load no lazy dependency."""
    for variant in solaris_lab.VARIANTS:
        lab = laboratory(bits, variant)
        preload = [lab.proxy, allocator("plain", bits)]
        outcome, journal = lab.run([program(lab, OWN / "family.c"), "libc"], preload, {"LAB_NO_LIST": "1"})
        assert outcome.output == "well\n"
        asked = calls(journal, "dlopen", "dlsym")
        assert {line.split()[1] for line in asked} == {"libc.so.1"}
        assert len([line for line in asked if line.startswith("dlsym libc.so.1 malloc ")]) == 1
        assert len(calls(journal, "dlerror")) >= 1, "the message about a missing name is not left for the program"


@both_abis
@pytest.mark.parametrize(
    ("visibility", "server"),
    [
        pytest.param(4, "allocator", id="exported"),
        pytest.param(5, "allocator", id="singleton"),
        pytest.param(6, "libc", id="eliminated"),
        pytest.param(2, "libc", id="hidden"),
    ],
)
def test_visibilities_of_solaris(
    bits: int, visibility: int, server: str, laboratory: Lab, program: Make, allocator: Make
) -> None:
    """STV_EXPORTED, STV_SINGLETON and STV_ELIMINATE: three bits, not two."""
    lab = laboratory(bits)
    custom = solaris_lab.with_visibility(allocator("plain", bits), lab.scratch / "libplain.so", visibility)
    served_by = {"allocator": custom, "libc": lab.libc}[server]
    outcome, _ = lab.run([program(lab, OWN / "preinit.c")], [lab.proxy, custom], {"MEMPROXY_DEBUG": "1"})
    assert f"served by {served_by}:" in outcome.errors


# -- the name, the environment, the list


def listed(lab: Laboratory, *lines: str) -> dict[str, str]:
    """Writes the exclusion list and returns the variables that make libc.so.1 open it."""
    path = lab.scratch / "memproxy.conf"
    path.write_text("".join(line + "\n" for line in lines))
    return {"LAB_LIST": str(path), "MEMPROXY_DEBUG": "1"}


@pytest.fixture
def decided(
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> Decided:
    """`decided(bits, *lines, **environment)`: a small program with a custom allocator and this exclusion list."""

    def run(
        bits: int, *lines: str, cwd: Path | None = None, **environment: str
    ) -> tuple[Laboratory, Outcome, list[str]]:
        lab = laboratory(bits)
        variables = {**listed(lab, *lines), **environment}
        main = program(lab, PROGRAMS / "errno_main.c")
        outcome, journal = lab.run([main], [lab.proxy, allocator("plain", bits)], variables, cwd=cwd)
        return lab, outcome, journal

    return run


@both_abis
def test_the_list_is_opened_once_and_closed(bits: int, decided: Decided) -> None:
    _, outcome, journal = decided(bits, "other", "errno_main")
    assert "route system" in outcome.errors
    assert "line 2 of /etc/memproxy.conf" in outcome.errors
    assert_well_behaved(journal)
    made = [line for line in decision(journal) if not line.startswith(("dl", "write"))]
    assert made == ["getexecname", "issetugid", "open /etc/memproxy.conf", "fstat", "read", "close"]
    assert outcome.output == "errno 0, descriptor 3, dlerror none, blocked 0\n"


@both_abis
@pytest.mark.parametrize(
    ("name", "lines", "route"),
    [
        pytest.param("/usr/bin/prog", ["prog"], "system", id="base name"),
        pytest.param("/usr/bin/prog", ["/usr/bin/prog"], "system", id="path"),
        pytest.param("/usr/bin/prog", ["/usr/bin/"], "system", id="directory"),
        pytest.param("prog", ["prog"], "system", id="bare name"),
        pytest.param("dir/prog", ["prog"], "system", id="relative, base name"),
        pytest.param("dir/prog", ["/tmp/dir/prog"], "system", id="relative, path"),
        pytest.param("../prog", ["/prog"], "system", id="relative, upwards"),
        pytest.param("dir/prog", ["dir/prog"], "custom", id="relative, a pattern that is none"),
        pytest.param("/x/" + "n" * 250, ["n" * 16], "custom", id="not cut to 16"),
        pytest.param("/x/" + "n" * 250, ["n" * 250], "system", id="250 bytes"),
        pytest.param("/" + "d/" * 400 + "prog", ["prog"], "system", id="long path"),
        pytest.param("null", ["", "# a comment", "prog", "null"], "custom", id="no name: no line"),
        pytest.param("null", ["*"], "system", id="no name: a line of stars"),
    ],
)
def test_getexecname(bits: int, name: str, lines: list[str], route: str, decided: Decided) -> None:
    """Absolute, relative, never cut, null without /proc."""
    _, outcome, journal = decided(bits, *lines, LAB_EXECNAME=name, cwd=Path("/tmp"))
    assert f": route {route}," in outcome.errors
    assert outcome.output == "errno 0, descriptor 3, dlerror none, blocked 0\n"
    assert ("getcwd" in decision(journal)) == (name != "null" and not name.startswith("/"))


@both_abis
def test_a_secure_process(bits: int, decided: Decided) -> None:
    """issetugid: nothing is taken from the environment, no relative path is opened; the list holds."""
    _, outcome, journal = decided(bits, "errno_main", MEMPROXY_ROUTE="custom", LAB_SETUGID="1", LAB_EXECNAME="./x")
    assert outcome.errors == "", "MEMPROXY_DEBUG is not for it either"
    assert_well_behaved(journal)
    _, outcome, _ = decided(bits, "errno_main", MEMPROXY_ROUTE="custom", LAB_SETUGID="0")
    assert "route custom" in outcome.errors
    assert "MEMPROXY_ROUTE says so" in outcome.errors


@both_abis
@pytest.mark.parametrize("setugid", ["0", "1"])
def test_the_route_of_a_secure_process(
    bits: int,
    setugid: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    lab = laboratory(bits)
    environment = {**listed(lab, "family"), "MEMPROXY_ROUTE": "custom", "LAB_SETUGID": setugid}
    custom = allocator("plain", bits)
    wanted = {"0": custom, "1": "libc"}[setugid]
    outcome, _ = lab.run([program(lab, OWN / "family.c"), wanted], [lab.proxy, custom], environment)
    assert outcome.output == "well\n"


@both_abis
@pytest.mark.parametrize("what", ["long", "fifo", "directory", "missing", "no newline"])
def test_what_the_list_may_be(
    bits: int,
    what: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    """struct stat and the flags of open are Solaris': the kind and the size of the file are read from it."""
    lab = laboratory(bits)
    path = lab.scratch / "list"
    if what == "long":
        path.write_text("".join(f"program-{i}\n" for i in range(20000)) + "errno_main\n")
    elif what == "no newline":
        path.write_text("errno_main")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    environment = {"LAB_LIST": str(path), "MEMPROXY_DEBUG": "1"}
    main = program(lab, PROGRAMS / "errno_main.c")
    outcome, journal = lab.run([main], [lab.proxy, allocator("plain", bits)], environment)
    assert (": route system," in outcome.errors) == (what in ("long", "no newline"))
    assert outcome.output == "errno 0, descriptor 3, dlerror none, blocked 0\n"
    made = decision(journal)
    assert made.count("close") == (what != "missing")
    assert ("read" in made) == (what in ("long", "no newline"))


# -- the process


@both_abis
@pytest.mark.parametrize("route", ["system", "custom"])
@pytest.mark.parametrize("source", ["forks.c", "early_threads.c"])
def test_threads_and_fork(
    bits: int,
    route: str,
    source: str,
    laboratory: Lab,
    program: Make,
    allocator: Make,
) -> None:
    lab = laboratory(bits, "solaris11.4")  # early_threads.c asks for malloc_usable_size
    preload = [lab.proxy, allocator("plain", bits, "-DUSABLE")]
    lab.run([program(lab, PROGRAMS / source)], preload, {"MEMPROXY_ROUTE": route}, journal=False)


@both_abis
@pytest.mark.parametrize("how", ["system", "custom", "no list"])
def test_an_exception_passes_through_operator_new(
    bits: int, how: str, laboratory: Lab, program: Make, allocator: Make
) -> None:
    """What throws is found in the list of objects, or by RTLD_PROBE, which loads no lazy dependency either."""
    lab = laboratory(bits)
    main = program(lab, OWN / "new.cc", flags=["-std=c++17"])
    environment = {"LAB_NO_LIST": "1"} if how == "no list" else {"MEMPROXY_ROUTE": how}
    outcome, journal = lab.run([main], [lab.proxy, allocator("plain", bits)], environment)
    assert outcome.output == "3 calls of the handler, 2 exceptions\n"
    probed = [line for line in by_proxy(calls(journal, "dlsym")) if "RTLD_PROBE" in line]
    assert bool(probed) == (how == "no list")

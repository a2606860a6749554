"""What kind of ELF object the ordinary build makes, that only the table is visible in it, and what configure says.

The build of the fixture `built` is by gcc with --enable-werror; here clang does the same.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from proxied import LIST_PATH, NATIVE, both_abis, clean_environment, must


def readelf(option: str, path: Path) -> str:
    return subprocess.run(["readelf", option, str(path)], check=True, text=True, stdout=subprocess.PIPE).stdout


def dynamic_symbols(path: Path, option: str) -> set[str]:
    output = subprocess.run(["nm", "-D", option, str(path)], check=True, text=True, stdout=subprocess.PIPE).stdout
    return {line.split()[-1].split("@")[0] for line in output.splitlines()}


def table(bits: int) -> set[str]:
    letter = {64: "m", 32: "j"}[bits]
    lines = (NATIVE / "names.def").read_text().splitlines()
    return {line.replace("@", letter) for line in lines if line and not line.startswith("#")}


@both_abis
def test_exports_exactly_the_table(built: dict[int, Path], bits: int) -> None:
    assert dynamic_symbols(built[bits], "--defined-only") == table(bits)


@both_abis
def test_exports_carry_no_version_of_ours(built: dict[int, Path], bits: int) -> None:
    assert "VERDEF" not in readelf("-dW", built[bits])


@both_abis
def test_needs_libc_and_nothing_else(built: dict[int, Path], bits: int) -> None:
    dynamic = readelf("-dW", built[bits])
    assert re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) == ["libc.so.6"]
    assert re.findall(r"\(SONAME\).*\[(.*)\]", dynamic) == ["libmemproxy.so"]
    assert not re.search(r"\((RPATH|RUNPATH)\)", dynamic)


@both_abis
def test_binds_at_once_is_never_unloaded_and_interposes(built: dict[int, Path], bits: int) -> None:
    dynamic = readelf("-dW", built[bits])
    for flag in ("NOW", "NODELETE", "INTERPOSE"):
        assert re.search(rf"FLAGS_1.*\b{flag}\b", dynamic), flag
    assert "TEXTREL" not in dynamic


@both_abis
def test_has_no_thread_local_storage_and_no_writable_code(built: dict[int, Path], bits: int) -> None:
    segments = readelf("-lW", built[bits])
    assert " TLS " not in segments
    assert not re.search(r"\bRWE\b", segments)


@both_abis
def test_asks_nothing_of_the_cxx_run_time_or_of_an_allocator(built: dict[int, Path], bits: int) -> None:
    wanted = dynamic_symbols(built[bits], "--undefined-only")
    assert not {name for name in wanted if name.startswith(("_Z", "__cxa_", "__gxx", "_Unwind"))} - {"__cxa_finalize"}
    assert not wanted & table(bits)
    assert not wanted & {
        "fopen",
        "getline",
        "printf",
        "fprintf",
        "getenv",
        "qsort",
        "strdup",
        "atexit",
        "pthread_create",
    }


@both_abis
def test_is_small(built: dict[int, Path], bits: int) -> None:
    assert built[bits].stat().st_size < 64 * 1024


@both_abis
def test_reads_the_list_that_sysconfdir_names(built: dict[int, Path], bits: int) -> None:
    assert built[bits].read_bytes().count(LIST_PATH.encode() + b"\0") == 1


def test_both_abis_are_what_they_say(built: dict[int, Path]) -> None:
    assert "ELF64" in readelf("-h", built[64])
    assert "ELF32" in readelf("-h", built[32])


@pytest.mark.parametrize(
    "construct", [r"^\s*ifn?eq\b", r"\$\((shell|wildcard|patsubst|foreach|call)\b", r"%\.\w+:", r"\+=|:="]
)
def test_makefile_needs_no_gnu_make(construct: str) -> None:
    assert not re.search(construct, (NATIVE / "Makefile.am").read_text(), re.MULTILINE)


# -- configure


def configure(built: dict[int, Path], directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the configure of the fixture's copy of the sources."""
    command = [str(built[64].parents[2] / "source" / "configure"), *arguments]
    return subprocess.run(command, cwd=directory, env=clean_environment(), text=True, capture_output=True, check=False)


def test_configure_help_teaches(built: dict[int, Path], tmp_path: Path) -> None:
    text = configure(built, tmp_path, "--help").stdout
    for words in ("--with-list=FILE", "--enable-usdt[=auto|yes|no|dtrace]", "--enable-werror", "One build is one ABI"):
        assert words in text
    assert re.search(r"Solaris, illumos .*\n.*-m64 --libdir=/usr/local/lib/64\b", text)
    assert "/usr/local/$LIB/libmemproxy.so" in text


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("--with-list=etc/list", "must begin with a slash"),
        ("--with-list=/etc/a list", "may consist of"),
        ('--with-list=/etc/a"list', "may consist of"),
        ("--with-list=/etc/a'list", "may consist of"),
        ("--with-list=/etc/$HOME", "may consist of"),
        ("--with-list=/etc/a\\tlist", "may consist of"),
        ("--with-list=/etc/a\nlist", "may consist of"),
        ("--with-list=/etc/mémoire", "may consist of"),
        ("--with-list=/etc/", "names a directory"),
        ("--with-list=/etc/..", "names a directory"),
        ("--with-list=", "wants the path of a file"),
        ("--with-list", "wants the path of a file"),
        ("--without-list", "wants the path of a file"),
        ("--sysconfdir=/a directory", "may consist of"),
        ("--enable-usdt=perhaps", "--enable-usdt takes"),
    ],
)
def test_configure_refuses(built: dict[int, Path], tmp_path: Path, argument: str, complaint: str) -> None:
    done = configure(built, tmp_path, argument)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert not (tmp_path / "Makefile").exists()


# -- make check, and the same by clang


def checked(directory: Path) -> str:
    """The log of `make check`."""
    must(["make", "check"], cwd=directory, env=clean_environment())
    return (directory / "check-object.log").read_text() + (directory / "check-routes.log").read_text()


ROUTES_CHECKED = (
    "no list: route custom, default",
    "no allocator: route system, no-allocator",
    "not listed: route custom, default",
    "listed: route system, list",
    "listed, MEMPROXY_ROUTE=custom: route custom, environment",
    "MEMPROXY_ROUTE=system: route system, environment",
)


@both_abis
def test_make_check(built: dict[int, Path], bits: int) -> None:
    place = built[bits].parents[2] / f"build{bits}"
    log = checked(place)
    assert [line for line in log.splitlines() if ": route" in line] == list(ROUTES_CHECKED)
    assert "PASS check-object.sh" in log


BAD = """
#include <math.h>
__thread int counted;
int data;
int *where(void) { return &data; }
double of_another_library(double x) { return cos(x) + counted; }
"""


def test_make_check_finds_what_a_preload_must_not_have(built: dict[int, Path], tmp_path: Path) -> None:
    (tmp_path / ".libs").mkdir()
    (tmp_path / "bad.c").write_text(BAD)
    flags = ["-m32", "-shared", "-fno-pic", "-w", "-Wl,-rpath,/tmp", "-Wl,--no-as-needed", "-lm"]
    flags += ["-Wl,-z,notext", "-Wl,-z,execstack"]
    must(["gcc", "bad.c", "-o", ".libs/libmemproxy.so", *flags], cwd=tmp_path, env=clean_environment())
    must(["cp", built[32].parents[2] / "build32" / "libmemproxy.map", tmp_path])
    environment = {**clean_environment(), "READELF": "readelf"}
    script = str(NATIVE / "check-object.sh")
    done = subprocess.run(["sh", script], cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    said = re.findall(r"^\.libs/libmemproxy\.so: (.*)$", done.stdout, re.M)
    assert said == [
        "needs libm.so.6",
        "is not called libmemproxy.so",
        "has text relocations",
        "has thread-local storage",
        "has a segment that is writable and executable",
        "has a run path",
        "does not show the names of names.def and no others",
    ]
    assert "< malloc\n" in done.stdout
    assert "> of_another_library\n" in done.stdout
    del environment["READELF"]
    assert subprocess.run(["sh", script], cwd=tmp_path, env=environment, check=False).returncode == 77


@pytest.fixture(scope="module")
def by_clang(built: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 32-bit build by clang without probes, its warnings being errors."""
    place = tmp_path_factory.mktemp("clang")
    script = built[64].parents[2] / "source" / "configure"
    options = ["CC=clang", "CXX=clang++", "CXXFLAGS=-m32", "--enable-werror", "--disable-usdt"]
    must([script, *options], cwd=place, env=clean_environment())
    must(["make", "-j2"], cwd=place, env=clean_environment())
    return place


def test_clang_makes_the_same_kind_of_object_without_a_warning(by_clang: Path) -> None:
    log = checked(by_clang)
    assert [line for line in log.splitlines() if ": route" in line] == list(ROUTES_CHECKED)
    assert "PASS check-object.sh" in log


def test_clang_finds_nothing_to_warn_of_in_64_bit_code_either(by_clang: Path) -> None:
    flags = re.search(r"^OWN_CXXFLAGS = (.*)$", (by_clang / "Makefile").read_text(), re.M)
    assert flags is not None
    assert "-Werror" in flags[1]
    assert "-Wconversion" in flags[1]
    kept = [word for word in flags[1].split() if not word.startswith(("-mno-sse", "-ffile-prefix"))]
    for option in ("-UMEMPROXY_USDT_NOTES", "-DMEMPROXY_USDT_NOTES"):
        general = ["clang++", "-m64", "-fsyntax-only", "-D_REENTRANT", option, '-DMEMPROXY_LIST="/list"', *kept]
        for source in sorted(NATIVE.glob("*.cc")):
            must([*general, source], env=clean_environment())


@both_abis
def test_the_record_is_our_own_beside_another_copy(built: dict[int, Path], by_clang: Path, bits: int) -> None:
    """By its public name it would be that of the copy ahead of us."""
    for library in (built[bits], by_clang / ".libs" / "libmemproxy.so"):
        assert "memproxy_record" not in readelf("-rW", library)


def test_disabled_probes_leave_nothing_behind(by_clang: Path) -> None:
    assert "stapsdt" not in readelf("-SW", by_clang / ".libs" / "libmemproxy.so")

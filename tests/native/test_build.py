"""What kind of ELF object the ordinary build makes, and that nothing but the table is visible in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from proxied import LIST_PATH, NATIVE, both_abis


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

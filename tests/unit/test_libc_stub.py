"""libc_stub.py: which names of libc.so.1 Solaris 10 has, in which version."""

from __future__ import annotations

from pathlib import Path

import pytest

from memproxy_sol import libc_stub, resources
from memproxy_sol.errors import BuildError

TABLE = resources.solaris_sysroot() / "libc-symbols.tsv"
HEADING = "symbol\ttype\tversion\tarch\tattributes\n"


@pytest.mark.parametrize(
    ("version", "there"),
    [
        ("SYSVABI_1.3", True),
        ("SISCD_2.3", True),
        ("SUNW_0.7", True),
        ("SUNW_1.1", True),
        ("SUNW_1.9", True),
        ("SUNW_1.21.3", True),
        ("SUNW_1.22", True),
        ("SUNW_1.22.1", False),
        ("SUNW_1.23", False),
        ("SUNW_2.0", False),
        ("SUNWprivate_1.1", False),
        ("ILLUMOS_0.1", False),
        ("GLIBC_2.0", False),
        ("", False),
    ],
)
def test_versions_of_solaris_10(version: str, there: bool) -> None:
    assert libc_stub.in_solaris_10(version) is there


@pytest.mark.parametrize(
    ("name", "version32", "version64"),
    [
        ("malloc", "SYSVABI_1.3", "SUNW_0.7"),
        ("open64", "SUNW_1.1", None),
        ("dlsym", "SUNW_1.22", "SUNW_1.22"),
        ("___errno", "SUNW_0.7", "SUNW_0.7"),
        ("posix_memalign", None, None),
        ("aligned_alloc", None, None),
        ("__udivdi3", None, None),
        (".div", None, None),
    ],
)
def test_known_symbols(name: str, version32: str | None, version64: str | None) -> None:
    for bits, version in ((32, version32), (64, version64)):
        found = {symbol.name: symbol.version for symbol in libc_stub.read_symbols(TABLE, bits)}
        assert found.get(name) == version


def test_data_is_told_from_functions() -> None:
    symbols = {symbol.name: symbol for symbol in libc_stub.read_symbols(TABLE, 64)}
    assert not symbols["environ"].is_function
    assert symbols["memcpy"].is_function
    text = libc_stub.assembly([symbols["environ"], symbols["memcpy"]])
    assert '.type "environ", @object' in text
    assert '.type "memcpy", @function' in text


def test_architecture_lists(tmp_path: Path) -> None:
    table = tmp_path / "t"
    rows = [("a", "all"), ("b", "i386,amd64,sparcv9"), ("c", "i386,sparc"), ("d", "sparc-both"), ("e", "elf64")]
    table.write_text(HEADING + "".join(f"{name}\tFUNCTION\tSUNW_0.7\t{where}\t-\n" for name, where in rows))
    assert [symbol.name for symbol in libc_stub.read_symbols(table, 32)] == ["a", "b", "c"]
    assert [symbol.name for symbol in libc_stub.read_symbols(table, 64)] == ["a", "b", "e"]


@pytest.mark.parametrize(
    "line",
    ["malloc", "malloc\tFUNCTION\tSUNW_0.7\tall", "malloc\tVERB\tSUNW_0.7\tall\t-", "a\tDATA\tSUNW_0.7\tall\t-\n" * 2],
)
def test_a_damaged_table_names_the_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "t").write_text(HEADING + line)
    with pytest.raises(BuildError, match=r"t: line [23] "):
        libc_stub.read_symbols(tmp_path / "t", 64)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be read"):
        libc_stub.read_symbols(tmp_path / "t", 64)

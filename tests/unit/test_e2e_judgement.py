"""What `make e2e` judges by can say no: the table of verify, the routes of a workload, what an uninstall leaves."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.__main__ import chosen
from e2e.observer import Own, compare
from e2e.system import differences
from e2e.table import SystemImage, Table
from e2e.workloads import SCRIPTS, excluded, workloads
from memproxy_sol.errors import UsageError
from soak.matrix import Cell, Result

LIBRARY = "/usr/local/lib/memproxy/0/lib/libmemproxy.so"
OWN = Own("7", "/usr/bin/perl", LIBRARY, True, "custom", 0, "/lib/libmimalloc.so.2", True)
ROW: dict[str, object] = {
    **{"pid": 5, "state": "loaded", "library": LIBRARY, "route": "custom", "line": 0},
    **{"allocator": "/lib/libmimalloc.so.2", "current": True},
}


def test_a_row_that_says_what_the_process_says_agrees() -> None:
    assert compare({5: OWN}, {5: OWN}, [ROW]) == {"perl: custom, libmimalloc.so.2": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"route": "system"},
        {"line": 3},
        {"allocator": "/lib/libc.so.6"},
        {"library": "/else"},
        {"state": "earlier"},
        {"current": False},
    ],
)
def test_a_row_that_says_something_else_disagrees(change: dict[str, Any]) -> None:
    (seen,) = compare({5: OWN}, {5: OWN}, [{**ROW, **change}])
    assert seen.startswith("DISAGREES")


def test_a_process_that_is_not_in_the_table_disagrees() -> None:
    assert list(compare({5: OWN}, {5: OWN}, [])) == ["DISAGREES: perl is not in the table"]


def test_an_allocator_that_is_not_mapped_disagrees() -> None:
    own = replace(OWN, mapped=False)
    assert all(seen.startswith("DISAGREES") for seen in compare({5: own}, {5: own}, [ROW]))


def test_a_dynamic_program_without_the_library_disagrees_and_a_static_one_does_not() -> None:
    bare = replace(OWN, library="", route="", allocator="", mapped=False)
    (seen,) = compare({5: bare}, {5: bare}, [{**ROW, "state": "earlier"}])
    assert seen == "DISAGREES: perl is without libmemproxy (earlier)"
    static = replace(bare, dynamic=False)
    assert compare({5: static}, {5: static}, [{**ROW, "state": "static"}]) == {"perl: static": 1}


def test_a_process_that_changed_between_the_looks_is_not_judged() -> None:
    assert not compare({5: OWN}, {5: replace(OWN, started="8")}, [])
    assert not compare({5: OWN}, {5: replace(OWN, where="it executed itself again")}, [])


def verdict(routes: dict[str, int], route: str, table: dict[str, int] | None = None) -> tuple[int, tuple[str, ...]]:
    """The proof of a cell of perl's under mimalloc."""
    cell = Cell(SystemImage(64, Path("/"), "", ()), workloads()["perl"], route, "mimalloc")
    return Table.proof(object.__new__(Table), cell, Result("", [], [], routes, table=table or {}))


def test_programs_on_the_route_that_the_list_gives_are_proof() -> None:
    excluded_perl = {"perl: system (list 2), libc.so.6": 4, "bash: custom (default), libmimalloc.so.2": 3}
    assert verdict(excluded_perl, "system") == (7, ())
    assert verdict({"perl: custom (default), libmimalloc.so.2": 2}, "custom") == (2, ())


@pytest.mark.parametrize(
    ("seen", "route"),
    [
        ("perl: custom (default), libmimalloc.so.2", "system"),
        ("bash: system (list 2), libc.so.6", "system"),
        ("perl: system (list 2), libjemalloc.so.2", "system"),
        ("perl: system (list 2), libc.so.6", "custom"),
        ("perl: custom (default), libjemalloc.so.2", "custom"),
        ("perl: libmemproxy.so is not mapped", "custom"),
    ],
)
def test_a_program_on_another_route_is_an_objection(seen: str, route: str) -> None:
    assert verdict({seen: 1}, route) == (0, (f"{seen} (1 times)",))


def test_a_table_that_disagrees_is_an_objection() -> None:
    assert verdict({}, "custom", {"DISAGREES: x": 2, "perl: custom, y": 1}) == (0, ("DISAGREES: x (2 times)",))


def test_what_an_uninstall_leaves_is_found(tmp_path: Path) -> None:
    upper, image = tmp_path / "upper", tmp_path / "image"
    for place in (upper, image):
        (place / "etc").mkdir(parents=True)
        for name in ("same", "content", "mode", "time"):
            (place / "etc" / name).write_text(name)
            os.utime(place / "etc" / name, (5, 5))
        os.symlink("same", place / "etc/link")
    assert list(differences(upper, image)) == []
    (upper / "etc/content").write_text("CONTENT")
    os.utime(upper / "etc/content", (5, 5))
    (upper / "etc/mode").chmod(0o600)
    os.utime(upper / "etc/time", (6, 6))
    (upper / "etc/new").write_text("")
    (upper / "etc/link").unlink()
    os.symlink("mode", upper / "etc/link")
    assert sorted(differences(upper, image)) == [
        "/etc/content has another content or time",
        "/etc/link leads elsewhere",
        "/etc/mode has another type, mode or owner",
        "/etc/new is there",
        "/etc/time has another content or time",
    ]


def test_what_an_uninstall_takes_of_others_is_found(tmp_path: Path) -> None:
    """Of a file that went, the layer has a device (overlayfs: a whiteout)."""
    upper, image = tmp_path / "upper", tmp_path / "image"
    upper.mkdir()
    image.mkdir()
    (image / "lost").write_text("")
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    os.mknod(upper / "lost", 0o020000, 0)
    assert list(differences(upper, image)) == ["/lost has another type, mode or owner"]


def test_every_workload_has_a_script_and_excludes_something() -> None:
    for name, workload in workloads().items():
        assert excluded(workload), name
        assert name == "python" or (SCRIPTS / f"{name}.sh").exists()


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    assert chosen("a,b", ["a", "b", "c"]) == ["a", "b"]
    with pytest.raises(UsageError, match="unknown name 'x'"):
        chosen("a,x", ["a", "b"])

"""The soak's judgement: which differences it sees, whose it says they are, and what it takes for a proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from soak import page
from soak.image import Image
from soak.matrix import Cell, Matrix, Result, Verdict
from soak.workloads import Workload, workloads

GOOD = {"cc1: custom (default), libjemalloc.so.2": 5}
PLAIN = {"test_a": "ok", "test_b": "ok"}

Judge = Callable[..., "Verdict | None"]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    allocator = tmp_path / "image/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
    allocator.parent.mkdir(parents=True)
    allocator.touch()
    return Image(64, tmp_path / "image", "identity", ("libc6 2.36",))


@pytest.fixture
def workload() -> Workload:
    return Workload("compile", "full", "make", lambda result: {}, ("cc1",), "cc1\n", 1, "a compiler")


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    library = tmp_path / "libmemproxy.so"
    library.write_text("one")
    return Matrix({64: library}, tmp_path)


@pytest.fixture
def judge(matrix: Matrix, image: Image, workload: Workload) -> Judge:
    def run(
        *attempts: dict[str, str],
        alone: dict[str, str] | None = None,
        routes: dict[str, int] = GOOD,
        route: str = "custom",
        complete: bool = True,
    ) -> Verdict | None:
        cell = Cell(image, workload, route, "jemalloc")
        matrix.keep(Cell(image, workload, "plain"), Result("", [1], [PLAIN], {}))
        matrix.keep(cell, Result("", [1], list(attempts), routes, complete))
        if alone is not None:
            matrix.keep(Cell(image, workload, "alone", "jemalloc"), Result("", [1], [alone], {}))
        return matrix.verdict(cell)

    return run


def test_what_is_observed_as_without_a_preload_is_the_same(judge: Judge) -> None:
    assert judge(PLAIN) == Verdict("same", (), 5)


def test_a_test_that_fails_only_here_differs(judge: Judge) -> None:
    assert judge({**PLAIN, "test_b": "failure"}) == Verdict("DIFFERS", ("test_b: failure, not ok",), 5)


def test_a_test_that_is_missing_differs(judge: Judge) -> None:
    assert judge({"test_a": "ok"}) == Verdict("DIFFERS", ("test_b: absent, not ok",), 5)


def test_a_test_that_is_too_many_differs(judge: Judge) -> None:
    assert judge({**PLAIN, "core": "1"}) == Verdict("DIFFERS", ("core: 1, not absent",), 5)


def test_what_the_allocator_does_alone_is_named_as_its_own(judge: Judge) -> None:
    failed = {**PLAIN, "test_b": "failure"}
    assert judge(failed, alone=failed) == Verdict("as alone", ("test_b: failure, not ok",), 5)


def test_an_allocator_that_fails_in_something_else_is_no_excuse(judge: Judge) -> None:
    found = judge({**PLAIN, "test_a": "error"}, alone={**PLAIN, "test_b": "failure"})
    assert found == Verdict("DIFFERS", ("test_a: error, not ok",), 5)


def test_what_differs_once_is_named_although_the_next_try_is_the_same(judge: Judge) -> None:
    found = judge({**PLAIN, "test_a": "failure"}, PLAIN)
    assert found == Verdict("same at try 2", ("test_a: failure, not ok",), 5)


def test_a_program_on_the_other_route_spoils_the_proof(judge: Judge) -> None:
    wrong = "dash: system (list 1), libc.so.6"
    assert judge(PLAIN, routes={**GOOD, wrong: 1}) == Verdict("NO PROOF", (f"{wrong} (1 times)",), 5)


def test_a_program_served_by_another_object_spoils_the_proof(judge: Judge) -> None:
    wrong = "cc1: custom (default), libother.so"
    assert judge(PLAIN, routes={wrong: 5}) == Verdict("NO PROOF", (f"{wrong} (5 times)", "cc1 was not met"), 0)


def test_a_program_that_was_never_met_is_not_proven(judge: Judge) -> None:
    found = judge(PLAIN, routes={"dash: custom (default), libjemalloc.so.2": 9})
    assert found == Verdict("NO PROOF", ("cc1 was not met",), 9)


def test_a_program_without_the_library_spoils_the_proof(judge: Judge) -> None:
    found = judge(PLAIN, routes={**GOOD, "as: libmemproxy.so is not mapped": 3})
    assert found == Verdict("NO PROOF", ("as: libmemproxy.so is not mapped (3 times)",), 5)


def test_the_system_route_is_proven_by_the_list(judge: Judge) -> None:
    assert judge(PLAIN, route="system", routes={"cc1: system (list 2), libc.so.6": 4}) == Verdict("same", (), 4)
    found = judge(PLAIN, route="system", routes={"cc1: system (no-allocator), libc.so.6": 4})
    assert found is not None
    assert found.word == "NO PROOF"


def test_a_run_that_was_ended_is_not_judged(judge: Judge) -> None:
    assert judge(PLAIN, complete=False) is None


def test_without_anything_to_compare_with_nothing_is_judged(
    judge: Judge, matrix: Matrix, image: Image, workload: Workload
) -> None:
    judge(PLAIN)
    matrix.path(Cell(image, workload, "plain")).unlink()
    assert matrix.verdict(Cell(image, workload, "custom", "jemalloc")) is None


def test_another_library_is_another_result(judge: Judge, image: Image, workload: Workload, tmp_path: Path) -> None:
    judge(PLAIN)
    other = tmp_path / "other.so"
    other.write_text("two")
    assert Matrix({64: other}, tmp_path).verdict(Cell(image, workload, "custom", "jemalloc")) is None


def test_python_tests_are_told_apart_by_name(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("2\n")
    (tmp_path / "log").write_text("0:00:10 load avg: 1.2 [3/7/1] test_gc crashed\n")
    (tmp_path / "junit.xml").write_text(
        "<testsuites><testsuite><testcase name='a'/><testcase name='a'><failure/></testcase>"
        "<testcase name='b'><skipped/></testcase></testsuite></testsuites>"
    )
    seen = workloads("full")["python"].observe(tmp_path)
    assert seen == {"exit status": "2", "a": "ok", "a'": "failure", "b": "skipped", "test_gc": "crashed"}


def test_a_python_that_did_not_get_to_its_end_is_seen(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    seen = workloads("full")["python"].observe(tmp_path)
    assert seen == {"exit status": "none", "junit.xml": "there is none"}


def test_objects_are_compared_by_their_bytes(tmp_path: Path) -> None:
    observe = workloads("full")["compile"].observe
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.c.o").write_bytes(b"one")
    (tmp_path / "out/a.c.o.status").write_text("0\n")
    before = observe(tmp_path)
    (tmp_path / "out/a.c.o").write_bytes(b"two")
    after = observe(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"a.c.o"}
    (tmp_path / "core").touch()
    assert observe(tmp_path)["core files"] == "1"


def test_what_stress_ng_complains_of_is_seen(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("2\n")
    (tmp_path / "log").write_text("stress-ng: fail:  [7] malloc: block 0x1234 corrupt\nstress-ng: info: [1] fine\n")
    seen = workloads("full")["stress-ng"].observe(tmp_path)
    assert seen == {
        "exit status": "2",
        "core files": "0",
        "stress-ng: fail:  [N] malloc: block NxN corrupt": "said",
    }


def test_the_page_says_what_was_not_run_and_keeps_what_is_above(
    matrix: Matrix, image: Image, judge: Judge, tmp_path: Path
) -> None:
    cell = Cell(image, workloads("full")["compile"], "custom", "jemalloc")
    matrix.keep(Cell(image, cell.workload, "plain"), Result("", [1], [PLAIN], {}))
    failed = {**PLAIN, "test_b": "failure"}
    routes = {f"{program}: custom (default), libjemalloc.so.2": 1 for program in cell.workload.programs}
    matrix.keep(cell, Result("", [1], [failed], routes, True))
    path = tmp_path / "soak.md"
    path.write_text(f"# Soak\n\nin words\n\n{page.BEGIN}\n\nan older table\n")
    page.write(path, matrix, [image], "abcdef0")
    text = path.read_text()
    assert text.startswith("# Soak\n\nin words\n")
    assert "an older table" not in text
    assert "| compile | jemalloc | DIFFERS, full | - |" in text
    assert "| compile | mimalloc | does not exist | does not exist |" in text
    assert "`test_b: failure, not ok`" in text
    assert "Of these: 1 DIFFERS, full; 7 not run." in text

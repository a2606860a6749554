"""Libraries with a known weakness, made from ours by a small change, and the tests that must fail on them.

`weaknesses/table.toml` says which weaknesses there are, which plants give a library each of them, and which tests must
then fail. A plant is a file of exact replacements in native/; one whose old text is not found exactly once is an error,
so plants are maintained with the code. Tests run in a copy of what they need of the repository, with the planted
sources, on a planted build of both ABIs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tomli
from proxied import REPOSITORY, build_by_hand, clean_environment, must

DIRECTORY = Path(__file__).resolve().parent / "weaknesses"
BITS = (64, 32)
CONTROL = "test_weaknesses.py::test_otherwise_the_library_works"
"""Must pass on a planted library: else it is a wreck, on which every test fails."""
RESULTS = {"error": "broken", "skipped": "broken", "failure": "failed"}
"""What JUnit's words for what a test has not passed amount to."""
COPIED = ("memproxy_sol", "native", "pyproject.toml", "tests/data/exclusions.toml", "tests/native", "tests/needs.py")
SECONDS, HANG_SECONDS = 60, 10
"""After which a program under a library counts as hung; under one that is expected to hang."""
RUN_SECONDS = 600


@dataclass(frozen=True)
class Change:
    """`old`, which is once in `file`, becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Plant:
    """One way to have a weakness, and the tests that must fail on a library which has it.

    A test is FILE::FUNCTION, of which a case must fail in each ABI, or FILE::FUNCTION[CASE] with `{bits}` in CASE.
    """

    name: str
    tests: tuple[str, ...]

    @cached_property
    def _text(self) -> Mapping[str, object]:
        return tomli.loads((DIRECTORY / f"{self.name}.toml").read_text(encoding="utf-8"))

    @property
    def gives(self) -> str:
        """What is wrong with the planted library, in one sentence."""
        return str(self._text["gives"])

    @property
    def hangs(self) -> bool:
        """Whether programs hang under the planted library; otherwise a test that runs out of time has seen nothing."""
        return bool(self._text.get("hangs", False))

    @property
    def changes(self) -> tuple[Change, ...]:
        """What the plant replaces."""
        changes = self._text["change"]
        assert isinstance(changes, list)
        return tuple(Change(**change) for change in changes)

    def apply(self, native: Path) -> None:
        """Changes the sources in `native`; LookupError if there is not exactly one place for a change."""
        for change in self.changes:
            path = native / change.file
            text = path.read_text(encoding="utf-8")
            if text.count(change.old) != 1:
                raise LookupError(f"{self.name}: {text.count(change.old)} times in native/{change.file}:\n{change.old}")
            path.write_text(text.replace(change.old, change.new), encoding="utf-8")


@dataclass(frozen=True)
class Weakness:
    """A row of the table; `note` says what of the weakness cannot be shown here."""

    number: int
    what: str
    plants: tuple[Plant, ...]
    note: str


@dataclass(frozen=True)
class Verdict:
    """What a test says of a library: "passed", "failed", "hung", "broken" (no verdict) or "absent"; and why."""

    word: str
    why: str = ""


Verdicts = Mapping[tuple[str, int], Verdict]
"""By test, as the table names it, and ABI."""


def table() -> list[Weakness]:
    """All weaknesses, as the table has them."""
    rows = tomli.loads((DIRECTORY / "table.toml").read_text(encoding="utf-8"))["weakness"]
    return [
        Weakness(
            row["number"],
            row["what"],
            tuple(Plant(name, tuple(tests)) for name, tests in row["plants"].items()),
            row.get("note", ""),
        )
        for row in rows
    ]


def copy_of_repository(directory: Path) -> Path:
    """What the tests need, without anything that was built; returns the copy's native/."""
    built = shutil.ignore_patterns("__pycache__", "autom4te.cache", ".libs", ".deps", "*.o", "*.lo", "Makefile")
    for name in COPIED:
        source, target = REPOSITORY / name, directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=built)
        else:
            shutil.copy2(source, target)
    return directory / "native"


class Workshop:
    """Builds planted libraries from one configured build, and runs tests on them."""

    def __init__(self, place: Path, configured: Path | None = None) -> None:
        """`configured`: where build_by_hand has been, or it is called here."""
        self.place = place
        self.configured = configured or place / "configured"
        if configured is None:
            self.configured.mkdir(parents=True)
            build_by_hand(self.configured)

    def plant(self, plant: Plant) -> Path:
        """A directory with a planted copy of the repository and, in `built`, the planted libraries."""
        directory = Path(tempfile.mkdtemp(prefix=f"{plant.name}-", dir=self.place))
        plant.apply(copy_of_repository(directory))
        built = directory / "built"
        # With their times: only what the plant changes is compiled again.
        shutil.copytree(self.configured, built, symlinks=True, ignore=shutil.ignore_patterns("prefix*", "done"))
        plant.apply(built / "source")
        environment = clean_environment()
        for bits in BITS:  # one after the other: a changed Makefile.am has both regenerate one Makefile.in
            must(["make", "-s", "Makefile"], cwd=built / f"build{bits}", env=environment)
        running = []
        for bits in BITS:
            target = built / f"prefix{bits}" / "lib" / "libmemproxy.so"
            target.parent.mkdir(parents=True)
            script = f"make -s libmemproxy.la && strip --strip-unneeded -o {target} .libs/libmemproxy.so"
            log = built / f"build{bits}" / "log"
            with log.open("w") as output:
                process = subprocess.Popen(
                    script, shell=True, cwd=built / f"build{bits}", env=environment, stdout=output, stderr=output
                )
            running.append((process, log))
        for process, log in running:
            assert process.wait() == 0, f"{plant.name} cannot be built:\n{log.read_text()}"
        return directory

    def run(self, repository: Path, libraries: Path, tests: Sequence[str], seconds: float = SECONDS) -> Verdicts:
        """Runs tests of a copy of the repository on libraries that lie elsewhere, as build_by_hand leaves them."""
        work = Path(tempfile.mkdtemp(prefix="run-", dir=self.place))
        environment = clean_environment()
        environment.update(
            PYTHONPATH=str(repository),
            PYTHONDONTWRITEBYTECODE="1",
            XDG_CACHE_HOME=str(work / "cache"),
            MEMPROXY_TEST_LIBRARIES=str(libraries),
            MEMPROXY_TEST_SECONDS=str(seconds),
        )
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST"):
            environment.pop(name, None)
        report = work / "report.xml"
        names = {f"tests/native/{test.format(bits=bits)}" for test in tests for bits in BITS}
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={work / 'tests'}",
            f"--junitxml={report}", *sorted(names),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=repository, env=environment, text=True, capture_output=True, timeout=RUN_SECONDS, check=False
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        cases = read_report(report)
        shutil.rmtree(work)
        return {(test, bits): verdict(cases, test, bits) for test in tests for bits in BITS}

    def verdicts(self, plant: Plant) -> Verdicts:
        """What the plant's tests, and the control, say of the planted library."""
        directory = self.plant(plant)
        try:
            seconds = HANG_SECONDS if plant.hangs else SECONDS
            return self.run(directory, directory / "built", [*plant.tests, CONTROL], seconds)
        finally:
            shutil.rmtree(directory)


def is_caught(plant: Plant, verdicts: Verdicts) -> bool:
    """True if every test of the plant has failed in both ABIs, and the control has not."""
    seen = "hung" if plant.hangs else "failed"
    return all(value.word == ("passed" if test == CONTROL else seen) for (test, _), value in verdicts.items())


@dataclass(frozen=True)
class Case:
    """One test that was run: FILE::FUNCTION[CASE], its ABI (0: none), and what came of it."""

    name: str
    bits: int
    result: str
    why: str = ""


def read_report(path: Path) -> list[Case]:
    """The cases of a JUnit report whose `bits` conftest.py has added."""
    cases = []
    for element in ElementTree.parse(path).iter("testcase"):
        bits = [item.get("value") for item in element.iter("property") if item.get("name") == "bits"]
        kinds = {child.tag: child.get("message") or "" for child in element if child.tag in RESULTS}
        result = next((RESULTS[kind] for kind in RESULTS if kind in kinds), "passed")
        file = f"{(element.get('classname') or '').split('.')[-1]}.py"
        why = " ".join("; ".join(kinds.values()).split())
        if result == "failed" and "TimeoutExpired" in why:
            result = "hung"
        cases.append(Case(f"{file}::{element.get('name')}", int(bits[0] or 0) if bits else 0, result, why))
    return cases


def verdict(cases: Sequence[Case], test: str, bits: int) -> Verdict:
    """What the cases of one ABI amount to for a test: it has failed if one of its cases has."""
    wanted = test.format(bits=bits)
    mine = {
        case.result: case.why
        for case in reversed(cases)
        if (case.name == wanted or re.sub(r"\[.*\]$", "", case.name) == wanted) and case.bits in (0, bits)
    }
    word = next((word for word in ("broken", "failed", "hung", "passed") if word in mine), "absent")
    return Verdict(word, mine.get(word, ""))

"""A fixed sample of the brick hunt on a real Linux in namespaces of its own, and that it finds what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hunt import own_root
from hunt.calls import CHANGING, DEEDS
from hunt.cases import Hunt, Scenario
from hunt.linux_cases import scenarios
from hunt.linux_ground import LinuxGround, ingredients
from memproxy_sol import journal, ld_so_preload, plan_linux, removal
from memproxy_sol.errors import HostError
from tests.host.test_hunt import SYSTEM_CALLS

NAMES = {
    "install behind others": 571,
    "upgrade among others": 383,
    "uninstall among others": 89,
    "rollback": 271,
    "install --try": 401,
    "a probe fails among others": 601,
    "confirm without its guard": 53,
    "guard: install --try and back": 29,
}
"""One of so many cases, a prime: all deeds and all parts of a change are met."""
Inside = Callable[[Callable[[LinuxGround], Any]], Any]


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """What a function answers of a ground of its own, whose first state is `new`."""
    reason = own_root.obstacle()
    if reason:
        pytest.skip(reason)
    made = ingredients(tmp_path_factory.mktemp("hunt-linux"))

    def run(work: Callable[[LinuxGround], Any]) -> Any:
        def first() -> Any:
            with pytest.MonkeyPatch.context() as patch:
                ground = LinuxGround(patch)
                ground.keep("new")
                return work(ground)

        return own_root.inside(first, made)

    return run


def named(ground: LinuxGround, name: str) -> Scenario:
    return next(one for one in scenarios(ground) if one.name == name)


def hunted(ground: LinuxGround, scenario: Scenario, every: int, deeds: Sequence[str] = DEEDS) -> dict[str, str | None]:
    """What is wrong after each case of a sample of a scenario."""
    hunt = Hunt(ground, scenario)
    problems = {str(case): hunt.judge(case) for case in list(hunt.cases(deeds))[::every]}
    assert hunt.struck > 0
    return problems


def test_no_brick_and_no_state_in_between(inside: Inside) -> None:
    def work(ground: LinuxGround) -> dict[str, str | None]:
        problems = {}
        for name, every in NAMES.items():
            problems |= hunted(ground, named(ground, name), every)
        return problems

    problems = inside(work)
    assert {case: problem for case, problem in problems.items() if problem} == {}
    assert len(problems) > 20


def test_a_change_that_nobody_takes_back_is_found(inside: Inside) -> None:
    def work(ground: LinuxGround) -> dict[str, str | None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal, "recover", lambda *words: "nothing")
            return hunted(ground, named(ground, "uninstall"), 7, ("kill before",))

    problems = inside(work)
    assert any(problem and problem.startswith("IN BETWEEN") for problem in problems.values()), problems


def test_a_generation_that_goes_before_the_list_that_names_it_is_found(inside: Inside) -> None:
    def work(ground: LinuxGround) -> dict[str, str | None]:
        def backwards(*words: Any) -> Any:
            plan = uninstall(*words)
            return replace(plan, steps=plan.steps[::-1])

        uninstall = removal.uninstall
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(removal, "uninstall", backwards)
            scenario = Scenario("backwards", (ground.install(ground.first),), ("uninstall", "--purge"))
            return hunted(ground, scenario, 9, ("kill before",))

    problems = inside(work)
    assert any(problem and problem.startswith("BRICK: ") for problem in problems.values()), problems


def test_an_upgrade_that_loses_what_others_have_in_the_list_is_found(inside: Inside) -> None:
    def work(ground: LinuxGround) -> dict[str, str | None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan_linux, "_check_effect", lambda *words: None)
            patch.setattr(ld_so_preload, "strip", lambda data, chosen: b"")
            return hunted(ground, named(ground, "upgrade among others"), 31, ("kill after",))

    problems = inside(work)
    assert any(problem and "of others, not" in problem for problem in problems.values()), problems


def test_the_calls_that_are_hunted_are_all_that_the_kernel_sees(inside: Inside) -> None:
    """Those of the command itself: what it starts, and its guard, are processes of their own."""
    if shutil.which("strace") is None:
        pytest.fail("strace is missing: install strace, or run make setup", pytrace=False)

    def work(ground: LinuxGround) -> list[dict[str, int]]:
        command = (*ground.install(ground.first), "--try", "600")
        mine = Counter(SYSTEM_CALLS.get(name, name) for name in ground.count(command))
        ground.put_back("new")
        names = sorted({SYSTEM_CALLS.get(name, name) for name in CHANGING} - {"mknod", "mkfifo"})
        names += ["openat", "creat", "renameat", "renameat2", "mkdirat", "linkat", "symlinkat", "fchmodat", "setxattr"]
        names += ["fchownat", "pwritev", "writev", "copy_file_range", "sendfile", "fallocate", "fdatasync"]
        subprocess.run(
            [
                *("strace", "-y", "-qq", "-o", "/tmp/strace", "-e", f"trace={','.join(sorted(set(names)))}"),
                *(sys.executable, "-m", "memproxy_sol", *command),
            ],
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(own_root.CHECKOUT)},
            capture_output=True,
            check=True,
        )
        seen: Counter[str] = Counter()
        for line in Path("/tmp/strace").read_text().splitlines():
            name, _, rest = line.partition("(")
            path = re.match(r'(?:AT_FDCWD(?:<[^>]*>)?, |[0-9]+<)?"?(/[^">]*)', rest)
            if path and ground.concerns(path[1]) and (name != "openat" or re.search(r"O_CREAT|O_TRUNC", line)):
                seen["open" if name == "openat" else name] += 1
        return [mine, seen]

    mine, seen = inside(work)
    assert mine == seen
    assert sum(seen.values()) > 50


def test_only_process_1_of_a_root_of_its_own_has_a_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostError, match="is not process 1"):
        LinuxGround(monkeypatch)

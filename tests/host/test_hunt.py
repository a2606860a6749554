"""A fixed sample of the brick hunt, and that it hunts at every call and finds what there is to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from hunt.cases import Hunt, scenarios
from hunt.ground import Ground

NAMES = (
    *("install", "upgrade", "uninstall", "purge", "install --try", "a probe fails"),
    *("guard: upgrade", "guard: a probe fails"),
)
EVERY = 61
"""One of so many cases, a prime: all deeds and all parts of a change are met."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, objects: Path) -> Ground:
    """A laboratory in memory, if there is room for one."""
    made = Ground(tmp_path_factory.mktemp("hunt") / "solaris", objects)
    made.keep("new")
    return made


@pytest.mark.parametrize("name", NAMES)
def test_no_brick_and_no_state_in_between(ground: Ground, name: str) -> None:
    scenario = next(one for one in scenarios(ground) if one.name == name)
    hunt = Hunt(ground, scenario)
    sample = list(hunt.cases())[::EVERY]
    problems = {str(case): hunt.judge(case) for case in sample}
    assert hunt.struck > 1
    assert {case: problem for case, problem in problems.items() if problem} == {}

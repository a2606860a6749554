"""Cases: one command cut short or failed at one call, and the judgement of what is left.

A case is good if, whatever happened: a process of each ABI starts, as root and as another user, before and after a
reboot; and the next command finishes the change or takes it back, to exactly one of the two intended states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hunt.calls import DEEDS, KILLED, KILLS, Calls
from hunt.ground import Ground
from memproxy_sol import change
from memproxy_sol.lock import locked
from memproxy_sol.root import Root
from tests.host.laboratory import Bricked


@dataclass(frozen=True)
class Scenario:
    """A command, and the commands that lead to where it is given."""

    name: str
    before: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """The call `number` (from 1, named `call`) of a scenario's command, and what is done to it."""

    scenario: Scenario
    number: int
    call: str
    deed: str

    def __str__(self) -> str:
        return f"{self.scenario.name}: {self.deed} at call {self.number} ({self.call})"


def scenarios(ground: Ground) -> tuple[Scenario, ...]:
    """The four changes of a host: install, upgrade, uninstall, rollback; and an install that is tried."""
    here = ground.objects
    plain = (
        "install",
        "--libraries",
        str(here),
        f"--allocator={here}/liballoc.so",
        f"--allocator={here}/64/liballoc.so",
    )
    other = (
        "install",
        "--libraries",
        str(here),
        f"--allocator={here}/libother.so",
        f"--allocator={here}/64/libother.so",
    )
    return (
        Scenario("install", (), plain),
        Scenario("upgrade", (plain,), other),
        Scenario("uninstall", (plain,), ("uninstall",)),
        Scenario("purge", (plain, ("uninstall",)), ("uninstall", "--purge")),
        Scenario("rollback", (plain, other), ("rollback",)),
        Scenario("install --try", (), (*plain, "--try", "600")),
    )


class Hunt:
    """The cases of one scenario on one ground, and their judgement."""

    def __init__(self, ground: Ground, scenario: Scenario) -> None:
        self.ground, self.scenario = ground, scenario
        ground.put_back("new")
        for command in scenario.before:
            status, said = ground.run(command)
            if status not in (0, 3):
                raise RuntimeError(f"{' '.join(command)} ended with {status}: {said}")
        ground.keep(scenario.name)
        self.former = ground.snapshot()
        self.calls = ground.count(scenario.command)
        self.later = self._later()
        ground.end_guards()

    def _later(self) -> dict[str, str]:
        """What the command leads to if nothing happens; a trial is confirmed."""
        if "--try" in self.scenario.command:
            status, said = self.ground.run(("confirm",))
            if status:
                raise RuntimeError(f"confirm ended with {status}: {said}")
        return self.ground.snapshot()

    def cases(self, deeds: Sequence[str] = DEEDS) -> Iterator[Case]:
        """All of them, call by call."""
        for number, call in enumerate(self.calls, 1):
            for deed in deeds:
                yield Case(self.scenario, number, call, deed)

    def judge(self, case: Case) -> str | None:
        """What is wrong after the case; None if all is well."""
        ground = self.ground
        ground.put_back(self.scenario.name)
        calls = Calls(case.number, case.deed, ground.concerns)
        status, said = ground.run(self.scenario.command, calls)
        if case.deed in KILLS and status != KILLED:
            return f"was not killed, but ended with {status}: {said[-400:]}"
        try:
            dead = ground.lab.brick()
            if dead:
                return f"BRICK: {dead}"
            return ground.in_child(self._after_boot) or self._next()
        finally:
            ground.end_guards()

    def _after_boot(self) -> str | None:
        ground = self.ground
        ground.end_guards()
        ground.keep("away")
        try:
            ground.lab.boot()
            dead = ground.lab.brick()
            return f"BRICK after a reboot: {dead}" if dead else self._next()
        except Bricked as error:
            return f"BRICK: it does not boot: {error}"
        finally:
            ground.put_back("away")
            ground.discard("away")

    def _next(self) -> str | None:
        """The next command mends, and leaves one of the two states; the command again leads to the later one."""
        ground = self.ground
        problem = ground.in_child(_mend)
        if problem:
            return f"the next command cannot mend it: {problem}"
        found = ground.snapshot()
        if found not in (self.former, self.later):
            former, later = difference(found, self.former), difference(found, self.later)
            return f"IN BETWEEN: from the former state {former}; from the later {later}"
        dead = ground.lab.brick()
        return f"BRICK after mending: {dead}" if dead else None


def _mend() -> str | None:
    root = Root("/")
    with locked(root):
        change.mend_unfinished(change.Target(root))
    return None


def difference(found: dict[str, str], wanted: dict[str, str]) -> str:
    """The first paths in which two snapshots differ."""
    paths = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
    told = [f"{path} is {found.get(path, 'absent')}, not {wanted.get(path, 'absent')}" for path in paths[:4]]
    return f"{len(paths)} differ: {'; '.join(told)}"

"""Cases: one command cut short or failed at one call, and the judgement of what is left.

A case is good if, whatever happened: a process of each ABI starts, as root and as another user, before and after a
reboot; and the next command finishes the change or takes it back, to exactly one of the two intended states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hunt.calls import DEEDS, KILLED, KILLS, LASTING, Calls
from hunt.ground import METHOD, Ground
from memproxy_sol import change
from memproxy_sol.errors import RefusedError
from memproxy_sol.lock import locked
from memproxy_sol.root import Root

GUARD_CALLS = 40
"""More than a guard makes; what is not met is no case."""

ON_TRIAL = "a guard lives, and has the last word"


@dataclass(frozen=True)
class Scenario:
    """A command, and the commands that lead to where it is given."""

    name: str
    before: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]
    guard: bool = False
    """Whether it is the guard that is struck, not the command."""
    boots: bool = False
    """Whether it is the next boot that finishes what the command did."""
    fails: bool = False
    """Whether a probe fails once the change is in force, so that it is taken back."""
    keeps_files: bool = True
    """Whether what is taken back leaves the very files that were there, and not others of the same content."""


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
    """The changes of a host, one that is tried, one that is taken back; and the guard of both."""
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
    of_image = ("--root", str(ground.top), "--first-boot-trial")
    return (
        Scenario("install", (), plain),
        Scenario("upgrade", (plain,), other),
        Scenario("uninstall", (plain,), ("uninstall",)),
        Scenario("purge", (plain, ("uninstall",)), ("uninstall", "--purge")),
        Scenario("rollback", (plain, other), ("rollback",)),
        Scenario("install --try", (), (*plain, "--try", "600")),
        Scenario("a probe fails", (plain,), other, fails=True),
        Scenario("stage for a first boot", (), (*plain, *of_image), boots=True),
        Scenario("first boot", ((*plain, *of_image),), METHOD),
        Scenario("first boot: upgrade", (plain, (*other, *of_image)), METHOD),
        Scenario("first boot: a program fails", ((*plain, *of_image),), METHOD, fails=True),
        Scenario("guard: upgrade", (plain,), other, guard=True),
        Scenario("guard: a probe fails", (plain,), other, guard=True, fails=True),
    )


class Hunt:
    """The cases of one scenario on one ground, and their judgement."""

    def __init__(self, ground: Ground, scenario: Scenario) -> None:
        self.ground, self.scenario = ground, scenario
        self.struck = 0
        self.beyond = GUARD_CALLS + 1
        ground.put_back("new")
        for command in scenario.before:
            status, said = ground.run(command)
            if status not in (0, 3):
                raise RuntimeError(f"{' '.join(command)} ended with {status}: {said}")
        ground.keep(scenario.name)
        # A change that waits for a boot is taken back by the next command.
        problem = ground.in_child(_mend)
        if problem:
            raise RuntimeError(problem)
        self.former = ground.snapshot()
        ground.put_back(scenario.name)
        ground.let_fail(scenario.fails)
        self.calls = ["guard"] * GUARD_CALLS if scenario.guard else ground.count(scenario.command)
        if scenario.guard:
            ground.run(scenario.command)
        self.later = self._later()
        ground.end_guards()

    def _later(self) -> dict[str, str]:
        """What the command leads to if nothing happens; a trial is confirmed."""
        if "--try" in self.scenario.command and ";" not in self.scenario.command:
            status, said = self.ground.run(("confirm",))
            if status:
                raise RuntimeError(f"confirm ended with {status}: {said}")
        if self.scenario.boots:
            self.ground.boot()
        if self.scenario.fails and self.scenario.command == METHOD:
            # Killed before it began, the next boot tries it again, and then nothing fails.
            self.ground.put_back(self.scenario.name)
            self.ground.let_fail(False)
            self.ground.run(METHOD)
        return self.ground.snapshot()

    def cases(self, deeds: Sequence[str] = DEEDS) -> Iterator[Case]:
        """All of them, call by call; a guard that cannot write goes on trying for longer than anybody waits here."""
        chosen = [deed for deed in deeds if not (self.scenario.guard and deed in LASTING)]
        for number, call in enumerate(self.calls, 1):
            for deed in chosen:
                yield Case(self.scenario, number, call, deed)

    def judge(self, case: Case) -> str | None:
        """What is wrong after the case; None if all is well."""
        ground = self.ground
        if self.scenario.guard and case.number >= self.beyond:
            return None
        ground.put_back(self.scenario.name)
        ground.let_fail(self.scenario.fails)
        self.identity = ground.identity()
        ground.struck.unlink(missing_ok=True)
        calls = Calls(case.number, case.deed, ground.concerns, guard=self.scenario.guard, struck=str(ground.struck))
        status, said = ground.run(self.scenario.command, calls)
        try:
            if not ground.struck.exists():
                self.beyond = case.number
                return None if self.scenario.guard else f"nothing was struck, it ended with {status}: {said[-400:]}"
            self.struck += 1
            if case.deed in KILLS and status != KILLED and not self.scenario.guard:
                return f"was not killed, but ended with {status}: {said[-400:]}"
            ground.let_fail(False)
            dead = ground.brick()
            if dead:
                return f"BRICK: {dead}"
            problem = ground.looked_at()
            if problem:
                return problem
            # Killed after one call is killed before the next: either state is judged, once with a reboot, once without.
            if case.deed == "kill after":
                return self._boot() or self._next()
            return self._next() or self._boot()
        finally:
            ground.end_guards()

    def _boot(self) -> str | None:
        ground = self.ground
        ground.end_guards()
        dead = ground.boot() or ground.brick()
        return f"BRICK after a reboot: {dead}" if dead else ground.looked_at()

    def _next(self) -> str | None:
        """The next command mends, and leaves one of the two states; the command again leads to the later one."""
        ground = self.ground
        problem = ground.in_child(_mend)
        if problem == ON_TRIAL:
            ground.end_guards()  # instead of waiting until it takes the change back
            problem = ground.in_child(_mend)
        if problem:
            return f"the next command cannot mend it: {problem}"
        found = ground.snapshot()
        if found not in (self.former, self.later):
            former, later = difference(found, self.former), difference(found, self.later)
            return f"IN BETWEEN: from the former state {former}; from the later {later}"
        if found == self.former and ground.identity() != self.identity and self.scenario.keeps_files:
            return f"ANOTHER FILE: the former state, but {ground.identity()} instead of {self.identity}"
        dead = ground.brick()
        return f"BRICK after mending: {dead}" if dead else None


def _mend() -> str | None:
    root = Root("/")
    try:
        with locked(root):
            change.mend_unfinished(change.Target(root))
    except RefusedError:
        return ON_TRIAL
    return None


def difference(found: dict[str, str], wanted: dict[str, str]) -> str:
    """The first paths in which two snapshots differ."""
    paths = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
    told = [f"{path} is {found.get(path, 'absent')}, not {wanted.get(path, 'absent')}" for path in paths[:4]]
    return f"{len(paths)} differ: {'; '.join(told)}"

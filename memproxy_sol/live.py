"""Live: a change of the running system: written by crle, tried before it is in force, guarded, and probed when it is.

The order, all of it one change of the journal: what nothing depends on yet (directories, generation, list, service,
rescue), the candidates, the trial of exactly these bytes, the configurations under the guard's eyes, the record, the
probes of what is in force, and then, when it is permanent, the service's own look. Whatever fails before that takes
everything back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from memproxy_sol import candidate, journal, live_probe, probe_list, steps, trial
from memproxy_sol.abi import ABIS, CONFIGURATIONS, Abi
from memproxy_sol.commands import Shell
from memproxy_sol.errors import ServiceError
from memproxy_sol.findings import ERROR, WARNING, Finding
from memproxy_sol.pending import Keeper
from memproxy_sol.plan import Plan, named_in
from memproxy_sol.probe import Outcome, Probe, Prober
from memproxy_sol.services import Services
from memproxy_sol.steps import ReplaceFile, Step, TryFile

UNTRIED_SECONDS = 60.0
"""How long a change that is not to be tried stays under guard if the command dies before it has made it permanent."""


@dataclass
class Carrying:
    """A change of the running system while it is carried out; what has to be told afterwards collects in `findings`."""

    plan: Plan
    services: Services | None
    """What delivers the service; None where nothing runs services."""
    shell: Shell
    custom: tuple[int, ...] = ()
    """The ABIs, by bits, that get a custom allocator."""
    commands: tuple[tuple[str, ...], ...] = ()
    """The policy's own probes."""
    secure: bool = True
    """Whether set-id programs are to get libmemproxy."""
    scope: str = "all"
    """Whose processes are to get it."""
    progress: Callable[[str], None] = lambda text: None
    prober: Prober = field(default_factory=Prober)
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.plan.facts.root
        self._made: dict[int, str] = {}

    def install(self, started: str, seconds: float | None) -> float | None:
        """Carry the plan out; with `seconds` it is left on trial, and what is returned is how long from now.

        Raises TrialError with findings where programs do not start as they should, and what `journal.apply` raises.
        Then nothing is changed.
        """

        def apply(keeper: Keeper) -> None:
            journal.apply(
                self.root,
                self.plan.what,
                started,
                steps.on_trial(self.plan.steps),
                leave_nothing=self.plan.leave_nothing,
                cleanup=self.plan.cleanup,
                progress=self.progress,
                keeper=keeper,
                services=self.services,
                ready=self._ready,
            )

        guarded = UNTRIED_SECONDS if seconds is None else seconds
        try:
            attempt = trial.attempt(self.root, guarded, apply, self._before, self._after)
            self.findings += attempt.findings
            if seconds is None:
                attempt.keep(self.services)
                if self.services is not None:
                    self.progress("have the service look at it")
                    self.findings += look_again(self.services)
            else:
                attempt.leave()
        finally:
            candidate.discard(self.root)
            self.findings += self.services.findings if self.services is not None else []
        return None if seconds is None else attempt.seconds

    def remove(self, started: str) -> None:
        """Carry out a plan that takes out what is ours; nothing keeps it from being done, the probes follow."""
        journal.apply(
            self.root,
            self.plan.what,
            started,
            self.plan.steps,
            leave_nothing=self.plan.leave_nothing,
            cleanup=self.plan.cleanup,
            progress=self.progress,
            services=self.services,
        )
        self.findings += self.services.findings if self.services is not None else []
        if any(isinstance(step, ReplaceFile) and step.path in CONFIGURATIONS for step in self.plan.steps):
            self.findings += self._starting()

    def _starting(self) -> list[Finding]:
        """What does not start now. Nothing is taken back for it: what is ours is out, and that was asked for."""
        self.progress("start programs")
        found = []
        for probe in probe_list.default_probes(self.root, self._abis(), self.commands).probes:
            outcome = self.prober.run(probe, {})
            failure = outcome.started
            if failure is not None and not self._fails_anyway(outcome):
                text = f"does not work, though memproxy is out of the configuration: it {failure}"
                found.append(Finding("program-fails", WARNING, str(probe), text, "memproxy-sol rescue"))
        return found

    def _fails_anyway(self, outcome: Outcome) -> bool:
        """Whether a program does the same with no configuration at all: then what was put back is not the reason."""
        none, given = self.prober.trying({})
        alone = none.run(outcome.probe, given)
        return alone.started is not None and (alone.status, alone.problem) == (outcome.status, outcome.problem)

    @property
    def served(self) -> tuple[Abi, ...]:
        """The ABIs whose programs are to be served by what the plan puts into force."""
        replaced = {step.path for step in self.plan.steps if isinstance(step, ReplaceFile)}
        served = [
            bits
            for change in self.plan.changes
            if change.after is not None and named_in(change.after) and (change.path in replaced or not self.plan.exact)
            for bits in change.bits
            if self.plan.serves is None or bits in self.plan.serves
        ]
        return tuple(ABIS[bits] for bits in served)

    def _abis(self) -> tuple[Abi, ...]:
        changed = {bits for change in self.plan.changes for bits in change.bits}
        return tuple(ABIS[bits] for bits in sorted(changed))

    def _generation(self) -> str:
        """The directory of the generation that the configurations are to name; empty if there is none."""
        named = [name for change in self.plan.changes if change.after is not None for name in named_in(change.after)]
        return named[0] if named else ""

    def _ready(self, rest: tuple[Step, ...]) -> tuple[Step, ...]:
        """Before the first configuration: have the candidates written; the rest of the steps with their bytes."""
        made = candidate.candidates(self.shell, self.plan)
        self.findings += [finding for one in made.values() for finding in one.findings]
        wanted = candidate.with_candidates(self.plan, made)
        served = [abi.bits for abi in self.served]
        self._made = {bits: one.path for one in made.values() for bits in one.bits if bits in served}
        after = {step.path: step.after for step in wanted.steps if isinstance(step, ReplaceFile)}
        left: list[Step] = []
        for step in rest:
            if isinstance(step, (ReplaceFile, TryFile)) and step.after is not None:
                now = after.get(step.path)
                if now is None or now == step.before:
                    continue  # crle's bytes turn out to be those that are there
                left.append(replace(step, after=now))
            else:
                left.append(step)
        return tuple(left)

    def _before(self) -> trial.Tried:
        """The probes of the candidates."""
        own = live_probe.own_programs(self.root, self._generation())
        chosen = probe_list.default_probes(self.root, self.served, self.commands, self.secure, own, self.scope)
        missing = trial.check_coverage(chosen.probes, sorted(self._made))
        if missing:
            return trial.Tried((*chosen.findings, *missing), ())
        obstacle = self.prober.obstacle(self._made)
        if obstacle is not None:
            text = f"could not be tried before the change: {obstacle}; programs are started once it is in force"
            note = Finding("trial-not-tried", WARNING, "the candidates", text)
            return trial.Tried((*chosen.findings, note), chosen.probes)
        self.progress("try the candidates")
        tried = trial.run(self.prober, chosen.probes, self._made, self._expectation())
        return replace(tried, findings=(*chosen.findings, *tried.findings))

    def _after(self, probes: Sequence[Probe]) -> trial.Tried:
        """The probes of what is in force."""
        self.progress("try what is in force")
        return trial.run(self.prober, probes, None, self._expectation())

    def _expectation(self) -> probe_list.Expectation:
        return probe_list.expectation(self.root, self.custom)


def look_again(services: Services) -> list[Finding]:
    """Have the service judge what is permanent now; while a change is under way it has nothing to say."""
    try:
        services.look_again()
    except ServiceError as error:
        return [Finding("service-failed", ERROR, services.name, error.what, error.hint or services.explain)]
    return []

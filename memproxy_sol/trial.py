"""Trial: does every kind of program start with a candidate, and with the change in force; and what follows from it.

Before the change the candidate is given to each probe by LD_CONFIG_32 and LD_CONFIG_64, which beat the live file for
all programs but set-id ones, even where the live file is broken (reference "crle", 5.1 and 5.6). After it the same
probes are run without, set-id programs included.

A program that does not work by itself proves nothing: where a probe fails it is run without any candidate, and if it
fails there too, without a word of the runtime linker, it is set aside and said to be. An ABI of which nothing could be
tried, as root or as the unprivileged user, is an error: what was not tried does not go live.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from memproxy_sol import changes, guard, journal, live_probe, pending, record, signals
from memproxy_sol.abi import ABIS, CONFIGURATIONS
from memproxy_sol.errors import ChangeError, HostError, Interrupted, MemproxyError
from memproxy_sol.findings import ERROR, WARNING, Finding, errors_in
from memproxy_sol.guard import Watch
from memproxy_sol.journal import Services
from memproxy_sol.pending import Keeper
from memproxy_sol.probe import DEBUG, SECONDS, Outcome, Probe, Prober
from memproxy_sol.probe_list import Expectation, default_probes, expectation
from memproxy_sol.root import Root
from memproxy_sol.steps import TryFile


@dataclass(frozen=True)
class Tried:
    """What came of a round of probes."""

    findings: tuple[Finding, ...]
    good: tuple[Probe, ...]
    """The probes that were as they should be; what is not among them proves nothing in the next round either."""


@dataclass
class TrialError(ChangeError):
    """Programs do not start as they should; the change has been taken back. `findings` has them all."""

    findings: tuple[Finding, ...] = field(default_factory=tuple)

    def __init__(self, findings: Sequence[Finding], what: str) -> None:
        wrong = errors_in(findings)
        first = f"{wrong[0].where}: {wrong[0].text}" if wrong else "a probe failed"
        super().__init__(f"{what}: {first}", hint="look at what is listed; memproxy-sol plan changes nothing")
        self.findings = tuple(findings)


def run(
    prober: Prober,
    probes: Sequence[Probe],
    candidates: Mapping[int, str] | None,
    expected: Expectation,
    seconds: float = SECONDS,
) -> Tried:
    """Run the probes, with the candidate files (target paths by bits) or, if that is None, with what is in force.

    Set-id programs ignore LD_CONFIG: they are taken for good here, and tried with what is in force. Raises
    Interrupted alone.
    """
    starting, given = (prober, {}) if candidates is None else prober.trying(candidates)
    findings: list[Finding] = []
    good: list[Probe] = []
    for probe in probes:
        signals.check()
        if probe.secure and candidates is not None and not starting.tries_secure:
            good.append(probe)
            continue
        outcome = starting.run(probe, {**DEBUG, **given}, seconds)
        wrong = outcome.wrong(expected(probe))
        if wrong is None:
            good.append(probe)
            continue
        alone = _alone(prober, probe, seconds, candidates is not None)
        if _is_right(outcome, alone, expected(probe)):
            good.append(probe)
        elif alone.started is None or outcome.complaint or _differs(outcome, alone):
            findings.append(Finding("trial-failed", ERROR, str(probe), wrong, "nothing of it may go live"))
        else:
            text = f"proves nothing: without memproxy, too, it {alone.started}"
            findings.append(Finding("trial-not-tried", WARNING, str(probe), text, "correct probes in the policy"))
    return Tried((*findings, *_gaps(probes, good, findings)), tuple(good))


def _alone(prober: Prober, probe: Probe, seconds: float, untouched: bool) -> Outcome:
    """The probe as it is without memproxy: with the present configuration if that is `untouched`, or with none."""
    if untouched:
        outcome = prober.run(probe, DEBUG, seconds)
        if outcome.started is None:
            return outcome
    none, given = prober.trying({})
    return none.run(probe, {**DEBUG, **given}, seconds)


def _is_right(outcome: Outcome, alone: Outcome, route: str | None) -> bool:
    """Whether a program that fails by itself fails in just that way, with libmemproxy in it on its route."""
    if outcome.problem or outcome.status < 0 or outcome.complaint or _differs(outcome, alone):
        return False
    return outcome.probe.secure or (outcome.route is not None and route in (None, outcome.route))


def _differs(outcome: Outcome, alone: Outcome) -> bool:
    """Whether a program that fails by itself fails otherwise under memproxy: then memproxy is the reason."""
    return (outcome.status, bool(outcome.problem)) != (alone.status, bool(alone.problem))


def _gaps(probes: Sequence[Probe], good: Sequence[Probe], findings: Sequence[Finding]) -> list[Finding]:
    """An error for each ABI, as each user, of which nothing could be tried though nothing failed."""
    gaps = []
    asked = dict.fromkeys((probe.bits, probe.user) for probe in probes if not probe.secure)
    failed = {finding.where for finding in errors_in(findings)}
    for bits, user in asked:
        mine = [p for p in probes if (p.bits, p.user) == (bits, user) and not p.secure]
        if not any(p in good or str(p) in failed for p in mine):
            gaps.append(_impossible(bits, f"as {user or 'root'}"))
    return gaps


def prove(
    root: Root, prober: Prober, bits: Sequence[int], commands: Sequence[tuple[str, ...]] = ()
) -> tuple[Finding, ...]:
    """Whether new processes of these ABIs start now, with what is in force, as the record says it was installed.

    `commands` are the policy's probes. HostError where record, exclusion list or users cannot be read.
    """
    known = record.read(root) or record.Record()
    custom = {size for size, installed in known.abis.items() if len(installed.files) > 1}
    # One file may serve ABIs of which just one was asked for.
    bits = [size for size in bits if size in known.abis] or bits
    secure = all(known.abis[size].trusted for size in bits if size in known.abis)
    generation = next((installed.generation for installed in known.abis.values()), "")
    own = live_probe.own_programs(root, generation)
    scope = next((known.abis[size].scope for size in bits if size in known.abis), "all")
    wanted = default_probes(root, [ABIS[size] for size in bits], commands, secure, own, scope)
    findings = wanted.findings + check_coverage(wanted.probes, bits)
    if errors_in(findings):
        return findings
    return findings + run(prober, wanted.probes, None, expectation(root, custom)).findings


def check_coverage(probes: Sequence[Probe], bits: Sequence[int]) -> tuple[Finding, ...]:
    """An error for each ABI that has no probe at all; to be asked before anything is changed."""
    there = {probe.bits for probe in probes if not probe.secure}
    return tuple(_impossible(size, "of which none was found") for size in bits if size not in there)


def _impossible(bits: int, how: str) -> Finding:
    hint = f"name one in the policy's probes, or leave the ABI out: --bits {96 - bits}"
    return Finding("trial-impossible", ERROR, f"{bits}-bit programs", f"could not be tried {how}", hint)


@dataclass(frozen=True)
class Attempt:
    """A change that is in force, and the guard that would take it back."""

    watch: Watch
    findings: tuple[Finding, ...]
    seconds: float | None
    """How long it is on trial from now; None where nothing had to be tried."""

    def keep(self, services: Services | None = None) -> None:
        """Make it permanent at once; ChangeError if it cannot be, and then everything is taken back."""
        if not self.watch.is_armed:
            return
        root = self.watch.root
        with signals.caught(), signals.deferred():
            try:
                self.watch.keep()
            except (ChangeError, OSError) as error:
                self.watch.stand_down()
                left = changes.unfinished(root)
                if left is None or left.state != changes.COMPLETE:
                    _take_back(root, services)
                    what = error.what if isinstance(error, ChangeError) else error.strerror or str(error)
                    text = f"could not make the change permanent ({what}), so it was taken back"
                    raise ChangeError(text, where="the guard of the trial", hint="type the command again") from error
            finish(root)

    def leave(self) -> None:
        """Leave it on trial: it is for `confirm` in a new process, or for the guard."""
        self.watch.close()


class _Tests(Watch):
    """A watch whose guard is armed only when the candidates have been tried: their generation is in place by then."""

    def __init__(self, root: Root, seconds: float, before: Callable[[], Tried]) -> None:
        super().__init__(root, seconds)
        self.before, self.tried = before, Tried((), ())

    def arm(self, change: int, journal: str, steps: Sequence[TryFile]) -> None:
        """Try the candidates, then start the guard; TrialError if programs do not start with them."""
        self.tried = self.before()
        if errors_in(self.tried.findings):
            raise TrialError(self.tried.findings, "programs do not start as they should, so nothing is changed")
        super().arm(change, journal, steps)


def attempt(
    root: Root,
    seconds: float,
    apply: Callable[[Keeper], None],
    before: Callable[[], Tried],
    after: Callable[[Sequence[Probe]], Tried],
    services: Services | None = None,
) -> Attempt:
    """Make a change under a guard, and probe it.

    `apply` carries out the steps (`steps.on_trial`) with the keeper given. `before` runs the probes with the
    candidates, when all is in place but the configurations; `after` runs the good ones of them with the change in
    force. `services` is what `apply` gives to the journal. Whatever fails, and every signal, takes everything back.
    Raises TrialError with the findings, Interrupted, and what `apply` raises.
    """
    watch = _Tests(root, seconds, before)
    with signals.caught():
        try:
            apply(watch)
            if not watch.is_armed:
                return Attempt(watch, (), None)
            findings = watch.tried.findings + after(watch.tried.good).findings
            still = changes.unfinished(root)
            if still is None or still.state != changes.TRIAL:
                text = "has ended before the probes had: the change was taken back"
                raise ChangeError(text, where="the guard of the trial")
            if errors_in(findings):
                raise TrialError(findings, "programs do not start as they should, so the change was taken back")
            return Attempt(watch, findings, watch.passed())
        except BaseException as error:
            # The signal that ended it is still there at the end of `deferred`.
            with contextlib.suppress(Interrupted), signals.deferred():
                watch.stand_down()
                change = changes.unfinished(root)
                if change is not None and change.state in (changes.TRIAL, changes.EXPIRED):
                    journal.recover(root, change, services)
            if isinstance(error, Interrupted):
                raise Interrupted(error.number, "the change was taken back") from None
            raise


def finish(root: Root) -> None:
    """Clean up after a trial that the journal calls complete."""
    change = changes.unfinished(root)
    if change is not None and change.state == changes.COMPLETE:
        journal.recover(root, change)


@dataclass(frozen=True)
class Confirmation:
    """A trial that is now permanent."""

    change: changes.Change
    findings: tuple[Finding, ...]
    guarded: bool
    """False: its guard was gone, and the files were put in place by this process."""


def confirm(
    root: Root, prove: Callable[[Sequence[int]], tuple[Finding, ...]], services: Services | None = None
) -> Confirmation:
    """Make the pending trial permanent, once `prove` (of these bits) finds that new processes start.

    `services` takes the service back where the change is taken back. For who holds the lock. Raises HostError where no
    trial is pending, ChangeError where it is too late, TrialError where programs do not start: then everything is taken
    back at once.
    """
    change = _pending(root, services)
    steps = changes.tried(change)
    if not pending.is_guarded(root) and _is_over(root):
        raise ChangeError(
            f"is too late: its guard is gone and {journal.recover(root, change, services)}", where="confirm"
        )
    findings = prove(sorted({bits for step in steps for bits in CONFIGURATIONS[step.path]}))
    if errors_in(findings):
        with contextlib.suppress(MemproxyError):
            guard.ask(root, "undo")
        _take_back(root, services)
        raise TrialError(findings, "programs do not start as they should, so the change was taken back")
    for step in steps:
        if pending.edited(root, step):
            text = f"was written to while it is tried, which confirming would lose; it lies in {step.candidate}, too"
            hint = "keep a copy of your lines, take the trial back with memproxy-sol uninstall, and begin again"
            raise ChangeError(text, where=step.path, hint=hint)
    answer = guard.ask(root, "confirm")
    word, _, rest = (answer or "").partition(" ")
    if word in ("confirmed", "unsure", ""):
        left = changes.unfinished(root)
        if left is not None and left.state == changes.COMPLETE:
            finish(root)
            return Confirmation(change, findings, True)
        if word == "" and left is not None and left.state == changes.TRIAL and not _is_over(root):
            journal.confirm(root, left, services)
            return Confirmation(change, findings, False)
    elif word == "changed":
        text = f"was changed by somebody else while it was tried ({rest}), so nothing is confirmed"
        raise ChangeError(text, where=steps[0].path, hint="wait until the trial is over, and look at the file")
    elif word == "unfinished":
        raise ChangeError("is not complete, so it cannot be confirmed", where=f"change {change.number}")
    _take_back(root, services)
    reason = "the files could not be put in place" if word == "failed" else "the time was over"
    raise ChangeError(f"is not confirmed: {reason}, and the former configuration is in force", where="the trial")


def refuse_none(root: Root) -> None:
    """HostError where no trial is pending, ChangeError where the last one is over; changes nothing."""
    if changes.unfinished(root) is None:
        last = next(reversed(changes.history(root)), None)
        if isinstance(last, changes.Change) and last.state == changes.UNDONE and changes.tried(last):
            text = (
                f"is over: change {last.number} ({last.what}) was taken back and the former configuration is in force"
            )
            raise ChangeError(text, where="the trial", hint="type memproxy-sol install --try again")
        raise HostError("no trial is pending", where=root.path, hint="memproxy-sol install --try SECONDS begins one")


def _pending(root: Root, services: Services | None) -> changes.Change:
    """The change on trial; what is not, is finished or taken back, and said."""
    refuse_none(root)
    change = changes.unfinished(root)
    assert change is not None, "which the lock keeps"
    if change.state == changes.TRIAL:
        return change
    if change.state == changes.STAGED:
        text = f"change {change.number} ({change.what}) waits for the service to try it"
        raise HostError(text, where=root.path, hint="svcadm enable memproxy, or svcadm clear memproxy")
    done = journal.recover(root, change, services)
    if change.state == changes.EXPIRED:
        raise ChangeError(f"is too late: {done}", where="confirm", hint="type memproxy-sol install --try again")
    raise HostError(f"no trial is pending: {done}", where=root.path)


def _take_back(root: Root, services: Services | None) -> None:
    """What is left of a trial after its guard has done its part, or is gone."""
    change = changes.unfinished(root)
    if change is not None:
        journal.recover(root, change, services)


def _is_over(root: Root) -> bool:
    """Whether the time of a trial without a guard is over; so it is where nothing tells."""
    trial = pending.read(root)
    return trial is None or trial.is_over(pending.now())

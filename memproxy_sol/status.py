"""Status: what is installed on a host, since when, and what uses it, in one value. It reads, and changes nothing.

What cannot be read is said in its place and keeps nothing else from being shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memproxy_sol import changes, exclusions, first_boot, generation, lock, pending, processes, verify_live
from memproxy_sol import record as records
from memproxy_sol import verify as verification
from memproxy_sol.changes import Change, Damaged
from memproxy_sol.commands import Shell
from memproxy_sol.errors import HostError, MemproxyError
from memproxy_sol.exclusions import LIST_PATH
from memproxy_sol.findings import Finding
from memproxy_sol.process import LOADED, Process
from memproxy_sol.record import RECORD_PATH
from memproxy_sol.root import Root
from memproxy_sol.services import Services, services_of
from memproxy_sol.steps import ReplaceFile


@dataclass(frozen=True)
class Installed:
    """What one ABI has."""

    bits: int
    generation: str
    allocator: str
    """Name of the allocator's file in the generation; empty without one."""
    secure: bool
    """Whether set-id programs get it."""

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class PendingTrial:
    """A change that will be taken back unless it is confirmed."""

    change: int
    left: float
    """Seconds until it is taken back; negative if that is overdue."""
    guarded: bool
    """Whether the process lives that takes it back."""

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Status:
    """One screen of a host."""

    root: str
    installed: tuple[Installed, ...] | None
    """None if the record cannot be read."""
    since: str | None
    """Start of the install after which memproxy was there all the time, ISO 8601, UTC; None if it is not known."""
    last_change: str | None
    """The last complete change: number, command and start; None if there is none or the journal cannot be read."""
    unfinished: str | None
    """The change that was cut short, or whose trial is over."""
    unfinished_why: tuple[str, str] | None
    """What is the matter with it, and what to type."""
    staged: str | None
    """The change that waits for the first boot."""
    changing: int | None
    """The process that is changing the host right now; 0 if its number is not known."""
    trial: PendingTrial | None
    service: str | None
    """State of the service, or why it is not known; None for an image and where there is none."""
    exclusions: int | None
    """Lines of the exclusion list that apply; None without a list."""
    processes: tuple[Process, ...] | None
    findings: tuple[Finding, ...]
    problems: tuple[str, ...] = ()
    """What could not be read."""

    def to_json(self) -> dict[str, Any]:
        """What `status --json` prints."""
        return {
            "root": self.root,
            "installed": None if self.installed is None else [one.to_json() for one in self.installed],
            "since": self.since,
            "last_change": self.last_change,
            "unfinished": self.unfinished,
            "staged": self.staged,
            "changing": self.changing,
            "trial": None if self.trial is None else self.trial.to_json(),
            "service": self.service,
            "exclusions": self.exclusions,
            "processes": None if self.processes is None else processes.counts(self.processes),
            "errors": sum(finding.severity == "error" for finding in self.findings),
            "warnings": sum(finding.severity == "warning" for finding in self.findings),
            "problems": list(self.problems),
        }

    @property
    def routes(self) -> dict[str, int]:
        """How many processes are on each route; those without libmemproxy as `without`."""
        counted: dict[str, int] = {}
        for process in self.processes or ():
            if process.state in ("kernel", "zombie", "gone", "other-zone"):
                continue
            word = (process.route or "unknown") if process.state == LOADED else "without"
            word = "not to be looked at" if process.state == "unreadable" else word
            counted[word] = counted.get(word, 0) + 1
        return counted


def read(
    root: Root,
    shell: Shell | None = None,
    *,
    host: str | None = None,
    release: str | None = None,
    machine: str | None = None,
) -> Status:
    """The status of the host below `root`; with a `shell` what its commands say, the state of its service, too.

    `host`, `release` and `machine` are those of `hosts.solaris.read`. Raises HostError where the tree cannot be
    judged at all.
    """
    problems: list[str] = []
    judge = verify_live.verify if root.is_live else verification.verify
    report = judge(root, host=host, release=release, machine=machine, shell=shell)
    history = _history(root, problems)
    last = next((change for change in reversed(history) if change.state == changes.COMPLETE), None)
    waiting = next((change for change in history[-1:] if change.state == changes.STAGED), None)
    unfinished, why, trial = _unfinished(root)
    return Status(
        root=root.path,
        installed=_installed(root, problems, waiting),
        since=_since(history),
        last_change=None if last is None else f"{last.number} ({last.what}), {last.started}",
        unfinished=unfinished,
        unfinished_why=why,
        staged=None if waiting is None else f"{waiting.number} ({waiting.what}), {waiting.started}",
        changing=lock.holder(root),
        trial=trial,
        service=_service(services_of(root, shell)),
        exclusions=_exclusions(root, problems),
        processes=getattr(report, "processes", None),
        findings=report.findings,
        problems=tuple(problems),
    )


def _installed(root: Root, problems: list[str], waiting: Change | None) -> tuple[Installed, ...] | None:
    """What the record says is installed; what waits for a boot is not."""
    try:
        record = records.read(root) if waiting is None else first_boot.record_before(waiting)
    except HostError as error:
        problems.append(str(error))
        return None
    found = []
    for bits, abi in sorted(record.abis.items()) if record else ():
        allocators = [name for name in abi.files if name != generation.LIBRARY]
        found.append(Installed(bits, abi.generation, "".join(allocators[:1]), abi.trusted))
    return tuple(found)


def _history(root: Root, problems: list[str]) -> tuple[Change, ...]:
    """The changes whose journal can be read; of the others what is wrong with it."""
    try:
        entries = changes.history(root)
    except HostError as error:
        problems.append(str(error))
        return ()
    problems += [f"{entry.path}: {entry.problem}" for entry in entries if isinstance(entry, Damaged)]
    return tuple(entry for entry in entries if isinstance(entry, Change))


def _since(history: tuple[Change, ...]) -> str | None:
    """The start of the first complete change that left something installed, after the last one that left nothing."""
    since = None
    for change in history:
        if change.state == changes.COMPLETE:
            since = (since or change.started) if _left_installed(change, since is not None) else None
    return since


def _left_installed(change: Change, before: bool) -> bool:
    """Whether memproxy was installed after a change, as the record that it wrote says; `before`: before it."""
    written = [step.after for step in change.steps if isinstance(step, ReplaceFile) and step.path == RECORD_PATH]
    if not written:  # there was none that could be read, or the change concerned something else
        return before and change.what != "uninstall"
    try:
        return written[-1] is not None and bool(records.decode(written[-1].data).abis)
    except HostError:
        return before


def _unfinished(root: Root) -> tuple[str | None, tuple[str, str] | None, PendingTrial | None]:
    try:
        change = changes.unfinished(root)
    except HostError:
        return None, None, None  # which the history has told
    if change is None or change.state == changes.STAGED:
        return None, None, None
    known = pending.read(root) if change.state == changes.TRIAL else None
    if known is not None and known.change == change.number:
        return None, None, PendingTrial(change.number, known.deadline - pending.now(), pending.is_guarded(root))
    return f"{change.number} ({change.what}), {change.started}", changes.why_unfinished(change), None


def _service(services: Services | None) -> str | None:
    try:
        state = None if services is None else services.state()
    except MemproxyError as error:
        return f"not known: {error.what}"
    return None if state is None else str(state)


def _exclusions(root: Root, problems: list[str]) -> int | None:
    try:
        state = root.read(LIST_PATH)
    except HostError as error:
        problems.append(str(error))
        return None
    return None if state is None else sum(not line.problem for line in exclusions.parse(state.data))

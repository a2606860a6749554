"""Change: from the switches of a command to a plan, and from a plan to a changed host."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

from memproxy_sol import (
    build,
    changes,
    generation,
    guard,
    journal,
    plan_linux,
    policy,
    preflight,
    preflight_linux,
    record,
    removal,
    rollback,
    sandboxes,
    systemd_unit,
)
from memproxy_sol import plan as plans
from memproxy_sol.abi import Abi
from memproxy_sol.commands import Shell
from memproxy_sol.elf import Library
from memproxy_sol.errors import HostError, RefusedError, ServiceError
from memproxy_sol.findings import Finding, errors_in
from memproxy_sol.hosts import linux, solaris
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.hosts.solaris_live import check_kind
from memproxy_sol.live import Carrying
from memproxy_sol.namespace_probe import LinuxProber
from memproxy_sol.plan import Plan
from memproxy_sol.policy import POLICY_PATH, Policy
from memproxy_sol.probe import Prober
from memproxy_sol.root import Root
from memproxy_sol.service_preflight import check_method, check_unit
from memproxy_sol.services import Services, State, services_of

Progress = Callable[[str], None]


def _silent(text: str) -> None:
    pass


@dataclass(frozen=True)
class Target:
    """Which host is meant, and what is said about it where it does not tell itself."""

    root: Root
    host: str | None = None
    release: str | None = None
    machine: str | None = None
    native: bool = False
    """Whether an image is a clone of the running system, so that its libraries are built as for that."""

    @property
    def shell(self) -> Shell | None:
        """What runs the commands of the running system; None for an image, of which nothing can be run."""
        return Shell() if self.root.is_live else None

    @property
    def is_linux(self) -> bool:
        """Whether it is a Linux system: by --host, or by what its tree shows."""
        return self.host == "linux" or (self.host is None and linux.is_linux(self.root))

    @property
    def services(self) -> Services | None:
        """What delivers the service on a running system; None where nothing does."""
        return services_of(self.root, self.shell, self.is_linux)

    @property
    def prober(self) -> Prober:
        """What starts probes on it."""
        return LinuxProber() if self.is_linux else Prober()

    def refuse_foreign(self) -> None:
        """HostError where this is a running system that is not ours to change; before the lock, which is a file."""
        if self.shell is not None and not self.is_linux:
            check_kind(self.shell)

    def facts(self, tolerant: bool = False) -> Facts:
        """Read the facts; `tolerant` and what is raised as in `hosts.solaris.read` and `hosts.linux.read`."""
        if self.is_linux:
            return linux.read(self.root, machine=self.machine, tolerant=tolerant, ask=self.shell is not None)
        return solaris.read(
            self.root,
            host=self.host,
            release=self.release,
            machine=self.machine,
            tolerant=tolerant,
            shell=self.shell,
        )

    def service(self, tolerant: bool = False) -> State | None:
        """What is known of the service; None where there is none. ServiceError or HostError unless `tolerant`."""
        try:
            services = self.services
            if services is not None:
                return services.state()
            return systemd_unit.on_disk(self.root) if self.is_linux else None
        except (ServiceError, HostError):
            if tolerant:
                return None
            raise


@dataclass(frozen=True)
class Wishes:
    """What an install is asked for: a policy, and files of this machine."""

    policy: Policy
    allocators: tuple[str, ...] = ()
    """Allocator files on this machine; they take the place of the policy's."""
    without_allocator: bool = False
    """Install libmemproxy alone, though an allocator may be installed."""
    libraries: str | None = None
    """A directory that `memproxy-sol build` has filled; None builds."""
    first_boot: bool = False
    """Leave the configurations of an image to a trial at its first boot."""


@dataclass
class Refusal(RefusedError):
    """Preflight found errors; `findings` has them all."""

    findings: tuple[Finding, ...] = field(default_factory=tuple)

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        count = len(errors_in(findings))
        noun = "1 error forbids" if count == 1 else f"{count} errors forbid"
        super().__init__(f"{noun} the change; nothing has been changed", hint="mend what is listed and try again")
        self.findings = findings


def read_policy(root: Root, path: str | None) -> Policy:
    """The policy in the file `path` of this machine, or, if that is None, in the target's own file if it has one."""
    if path is None:
        state = root.read(POLICY_PATH)
        return Policy() if state is None else policy.parse(state.data, root.host_path(POLICY_PATH))
    state = Root("/").read(os.path.abspath(path))
    if state is None:
        raise HostError("no such policy file", where=path)
    return policy.parse(state.data, path)


def plan_install(target: Target, wishes: Wishes, progress: Progress = _silent) -> Plan:
    """The plan that brings the host to the policy. Raises Refusal where preflight forbids it."""
    facts = target.facts()
    wanted = wishes.policy
    is_staged = wishes.first_boot and not target.root.is_live
    remarks: tuple[Finding, ...] = ()
    if isinstance(facts, LinuxFacts):
        abis = linux.abis_of(facts, wanted.bits)
        remarks = preflight_linux.check_host(facts, wanted)
        _refuse(remarks)
        if is_staged:
            hint = "leave --first-boot-trial out"
            raise RefusedError("a first boot can try a change on Solaris alone", where=target.root.path, hint=hint)
    else:
        assert isinstance(facts, SolarisFacts)
        abis = solaris.abis_of(facts, wanted.bits)
        _refuse(preflight.check_host(facts, wanted, abis))
        if is_staged:
            _refuse(preflight.check_first_boot(facts, wanted, abis))
    chosen = _allocators(facts, wishes)
    native = target.native or target.root.is_live or isinstance(facts, LinuxFacts)
    proxies = _proxies(facts, abis, wishes.libraries, native, progress)
    read_proxies = preflight.read_libraries(proxies)
    read_allocators = preflight.read_libraries(chosen)
    findings = remarks + preflight.check_libraries(facts, abis, read_proxies, read_allocators)
    if isinstance(facts, LinuxFacts):
        findings += sandboxes.remarks(facts, wanted.prefix, read_allocators.values())
    adopted: dict[int, tuple[str, ...]] = {}
    for abi in abis:
        others, unknown = preflight.interposers(facts, abi)
        adopted[abi.bits], ahead = preflight.refuse_interposers(facts, abi, others, chosen.get(abi.bits))
        findings += (*unknown, *ahead)
    findings += _method(target, facts, wanted)
    _refuse(findings)
    made, names = _generation(facts, abis, read_proxies, read_allocators)
    service = target.service() if wanted.service or _delivered(facts) else None
    plan = plans.install(facts, wanted, abis, made, names, adopted, service)
    plan = replace(plan, findings=(*findings, *plan.findings))
    return plans.for_first_boot(plan) if is_staged else plan


def plan_uninstall(target: Target, bits: tuple[int, ...] | None, purge: bool) -> Plan:
    """The plan that takes memproxy-sol out of the host again; it never refuses because the present state is bad."""
    facts = target.facts(tolerant=True)
    abis = facts.machine.abis() if bits is None else tuple(a for a in facts.machine.abis() if a.bits in bits)
    return removal.uninstall(facts, abis, purge, target.service(tolerant=True))


def plan_rollback(target: Target, number: int | None) -> Plan:
    """The plan that returns to the state before change `number`, or before the last one.

    It never refuses because the present state is bad; UsageError for a change that there is not, RefusedError where
    nothing was ever changed.
    """
    history = changes.history(target.root)
    wanted = rollback.last_change(history) if number is None else number
    if wanted is None:
        hint = "memproxy-sol uninstall takes our part out of whatever is there"
        raise RefusedError("no change is known that could be taken back", where=target.root.path, hint=hint)
    # Where a change was made there was a host, whatever is left of it.
    known = target if target.host is not None or target.is_linux else replace(target, host="solaris")
    return rollback.plan(known.facts(tolerant=True), history, wanted, target.service(tolerant=True))


def mend_unfinished(target: Target, tolerant: bool = False, even_on_trial: bool = False) -> str | None:
    """Take back (or finish) a change that was cut short; returns what was done, None if there was none.

    RefusedError for a change on trial, whose time is not over, unless `even_on_trial`. HostError for a journal that is
    damaged, of which `tolerant` only tells: uninstall and rollback must not refuse because the present state is bad.
    """
    root = target.root
    journal.sweep(root)
    try:
        change = journal.unfinished(root)
    except HostError as error:
        if not tolerant or isinstance(error.__cause__, PermissionError):
            raise
        return f"{error.where}: {error.what}; what that change did is not taken back by it"
    if change is None:
        return None
    if not even_on_trial:
        guard.refuse_pending(root, change)
    return journal.recover(root, change, target.services)


@dataclass(frozen=True)
class Outcome:
    """What came of a change beyond its plan."""

    findings: tuple[Finding, ...] = ()
    seconds: float | None = None
    """How long from now it is on trial; None where it is permanent."""


def carry_out(
    target: Target, plan: Plan, policy: Policy | None = None, seconds: float | None = None, progress: Progress = _silent
) -> Outcome:
    """Carry the plan's steps out in one transaction; ChangeError if it had to be taken back.

    `policy` is what an install brings the host to; `seconds` leaves it on trial (running system only).
    """
    root = plan.facts.root
    if not plan.steps and not (plan.leave_nothing and root.exists(journal.CHANGES)):
        return Outcome()
    started = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    shell = target.shell
    if shell is not None:
        wanted = Policy() if policy is None else policy
        carrying = Carrying(
            plan,
            target.services,
            shell,
            prober=target.prober,
            custom=plan.custom,
            commands=wanted.probes,
            secure=wanted.secure == "custom",
            scope=plan.scope,
            progress=progress,
        )
        left = None
        if plan.what == "uninstall" or not carrying.served:
            carrying.remove(started)
        else:
            left = carrying.install(started, seconds)
        return Outcome(tuple(dict.fromkeys(carrying.findings)), left)
    journal.apply(
        root,
        plan.what,
        started,
        plan.steps,
        leave_nothing=plan.leave_nothing,
        cleanup=plan.cleanup,
        progress=progress,
        staged=plan.staged,
    )
    return Outcome()


def _method(target: Target, facts: Facts, wanted: Policy) -> tuple[Finding, ...]:
    """What is wrong with the service's program, started as it will be; one that is missing has a remark.

    With a change that was cut short it is not started: it might take that back, and a plan changes nothing.
    """
    shell = target.shell
    if shell is None or target.services is None or not wanted.service or not facts.root.exists(wanted.program_path):
        return ()
    if journal.unfinished(facts.root) is not None:
        return ()
    if isinstance(facts, LinuxFacts):
        found = check_unit(shell, wanted.program_path)
        return () if found is None else (found,)
    zone = facts.live.zone if facts.live is not None else None
    found = check_method(shell, wanted.program_path, facts.root, zone or "global")
    return () if found is None else (found,)


def _delivered(facts: Facts) -> bool:
    """Whether the service is one of the things that we placed."""
    return facts.record is not None and facts.manifest_path in facts.record.files


def _refuse(findings: tuple[Finding, ...]) -> None:
    if errors_in(findings):
        raise Refusal(findings)


def _allocators(facts: Facts, wishes: Wishes) -> dict[int, str]:
    """The allocator file on this machine for each ABI; what nobody names stays the installed one."""
    return {} if wishes.without_allocator else _chosen_allocators(facts, wishes)


def _chosen_allocators(facts: Facts, wishes: Wishes) -> dict[int, str]:
    named = _named_allocators(facts, wishes)
    return {**_installed_allocators(facts, named), **named}


def _installed_allocators(facts: Facts, named: Mapping[int, str]) -> dict[int, str]:
    """The allocators of the generations in force, for the ABIs that nobody named one for."""
    found = {}
    for bits, known in facts.record.abis.items() if facts.record else ():
        is_gone = isinstance(facts, LinuxFacts) and bits not in {abi.bits for abi in facts.abis}
        if bits in named or is_gone:
            continue
        names = [facts.member(bits, name) for name in known.files if name != generation.LIBRARY]
        digests = facts.record.generations.get(known.generation, {}) if facts.record else {}
        for name in names:
            state = facts.root.read(f"{known.generation}/{name}")
            if state is None or record.digest(state.data) != digests.get(name):
                raise HostError(
                    "the installed allocator is damaged or gone",
                    where=f"{known.generation}/{name}",
                    hint="name it again with --allocator FILE",
                )
            found[bits] = facts.root.host_path(facts.root.resolve(f"{known.generation}/{name}"))
    return found


def _named_allocators(facts: Facts, wishes: Wishes) -> dict[int, str]:
    if wishes.allocators:
        return preflight.allocators_by_abi(wishes.allocators)
    paths = []
    for path in wishes.policy.allocators:
        if not facts.root.exists(path):
            raise HostError("the allocator that the policy names does not exist", where=path)
        paths.append(facts.root.host_path(facts.root.resolve(path)))
    return preflight.allocators_by_abi(tuple(paths))


def _proxies(
    facts: Facts, abis: tuple[Abi, ...], libraries: str | None, native: bool, progress: Progress
) -> Mapping[int, str]:
    bits = [abi.bits for abi in abis]
    if libraries is not None:
        return {b: os.path.join(libraries, generation.member_name(b, generation.LIBRARY)) for b in bits}
    if isinstance(facts, LinuxFacts) and not linux.is_native(facts):
        raise HostError(
            f"libmemproxy for {facts.machine.name} Linux cannot be built on this machine",
            where=facts.root.path,
            hint="build it there and name the directory with --libraries DIR",
        )
    if native:
        own = build.cached("native", bits, progress)
        return {b: os.fspath(path) for b, path in own.items()}
    if facts.machine.name != "x86":
        raise HostError(
            f"libmemproxy for {facts.machine.name} cannot be built on this machine",
            where=facts.root.path,
            hint="build it there and name the directory with --libraries DIR",
        )
    built: dict[int, Path] = build.cached("solaris", bits, progress)
    return {b: os.fspath(path) for b, path in built.items()}


def _generation(
    facts: Facts, abis: tuple[Abi, ...], proxies: Mapping[int, Library], allocators: Mapping[int, Library]
) -> tuple[generation.Generation, dict[int, str]]:
    """The generation, and what each ABI's allocator is called in it."""
    wanted = [abi.bits for abi in abis]
    contents = {bits: Path(proxies[bits].path).read_bytes() for bits in wanted}
    chosen = {bits: Path(allocators[bits].path).read_bytes() for bits in wanted if bits in allocators}
    names = {bits: os.path.basename(allocators[bits].path) for bits in chosen}
    if isinstance(facts, LinuxFacts):
        names = plan_linux.names(facts, abis, names)
        return generation.make(plan_linux.members(facts, abis, contents, chosen, names)), names
    members = {facts.member(bits, generation.LIBRARY): data for bits, data in contents.items()}
    members |= {facts.member(bits, names[bits]): data for bits, data in chosen.items()}
    return generation.make(members), names

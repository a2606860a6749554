"""Plan: the ordered steps that lead from the facts of a host to the policy; a plain value, printed or carried out.

Order (design: a generation is in place before a configuration names it, and stays until none does): directories,
generation, exclusion list, service, rescue, runtime linker configurations, record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

from memproxy_sol import entry as entries
from memproxy_sol import exclusions, ld_so_preload, plan_linux, preloads, rescue, service_plan, steps
from memproxy_sol import generation as generations
from memproxy_sol.abi import LD_SO_PRELOAD, Abi
from memproxy_sol.entry import Entry
from memproxy_sol.errors import HostError, LdConfigError, RefusedError
from memproxy_sol.files import missing_directories
from memproxy_sol.findings import ERROR, NOTE, WARNING, Finding
from memproxy_sol.generation import Generation
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import ConfigFile, SolarisFacts
from memproxy_sol.ld_config import LdConfig, decode, encode, new
from memproxy_sol.policy import Policy
from memproxy_sol.record import RECORD_PATH, AbiRecord, Record, digest
from memproxy_sol.record import encode as encode_record
from memproxy_sol.root import FileState
from memproxy_sol.services import State
from memproxy_sol.steps import (
    ChangeService,
    MakeDirectory,
    MendMember,
    PlaceGeneration,
    ReplaceFile,
    Step,
)

CONFIG_MODE = 0o644
"""What crle gives the file: readable by every user, or it is not in force for them (reference "crle", 5.6)."""


Configuration = Union[LdConfig, bytes]
"""What a configuration file says: Solaris' as a value, Linux' list of preloads as it is written."""


@dataclass(frozen=True)
class ConfigChange:
    """One configuration file before and after."""

    path: str
    bits: tuple[int, ...]
    """The ABIs whose processes read it."""
    before: Configuration | None
    after: Configuration | None

    @classmethod
    def of(cls, abi: Abi, before: LdConfig | None, after: LdConfig | None) -> ConfigChange:
        """That of one ABI's own file, on Solaris."""
        return cls(abi.config_path, (abi.bits,), before, after)


@dataclass(frozen=True)
class Plan:
    """What will be done, why it may be done, and what the host amounts to before and after."""

    what: str
    """`install` or `uninstall`."""
    facts: Facts
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    changes: tuple[ConfigChange, ...]
    generation: str | None = None
    """The generation's directory on the target (install)."""
    leave_nothing: bool = False
    cleanup: tuple[str, ...] = ()
    custom: tuple[int, ...] = ()
    """The ABIs, by bits, that get a custom allocator."""
    staged: bool = False
    """Whether the configurations of an image are laid ready for its first boot, instead of put into force."""
    serves: tuple[int, ...] | None = None
    """The ABIs, by bits, that get libmemproxy; None where each configuration tells that by naming it."""
    scope: str = "all"
    """Whose processes get it: everybody's, `root`'s alone, or those of some `services`."""
    exact: bool = False
    """Whether configurations go into force byte for byte as they are here, rather than as crle writes them."""

    def to_json(self) -> dict[str, Any]:
        """The plan as `plan --json` prints it."""
        return {
            "what": self.what,
            "root": self.facts.root.path,
            "release": self.facts.release,
            "distribution": self.facts.distribution,
            "machine": self.facts.machine.name,
            "sources": self.facts.sources,
            "generation": self.generation,
            "first_boot_trial": self.staged,
            "steps": [steps.summary(step) for step in self.steps],
            "findings": [finding.to_json() for finding in self.findings],
            "configurations": [
                {
                    **({"abi": change.bits[0]} if len(change.bits) == 1 else {"abis": list(change.bits)}),
                    "before": _configuration_to_json(change.before),
                    "after": _configuration_to_json(change.after),
                }
                for change in self.changes
            ],
        }


def named_in(value: Configuration) -> tuple[str, ...]:
    """The generation directories that a configuration names."""
    return entries.generations_named(value) if isinstance(value, LdConfig) else ld_so_preload.generations_named(value)


def _configuration_to_json(value: Configuration | None) -> Any:
    if isinstance(value, LdConfig):
        from memproxy_sol.ld_config import to_json

        return to_json(value)
    return None if value is None else {"text": value.decode("utf-8", "backslashreplace")}


def install(
    facts: Facts,
    policy: Policy,
    abis: tuple[Abi, ...],
    generation: Generation,
    allocators: Mapping[int, str],
    adopted: Mapping[int, tuple[str, ...]],
    service: State | None = None,
) -> Plan:
    """The plan that brings `abis` of the host to `policy`.

    `generation` holds the libraries of these ABIs, `allocators` the allocator's file name in it by bits, `adopted`
    others' preload items which the allocator stands in for, `service` what is known of the service
    (None: there is none). Raises RefusedError where a configuration cannot be
    changed without losing something.
    """
    directory = generation.directory(policy.prefix)
    findings: list[Finding] = list(_remarks(facts, policy, abis, allocators))
    plan_steps: list[Step] = []
    files: list[ReplaceFile | ChangeService] = []
    created_files: dict[str, str] = dict(facts.record.files) if facts.record else {}
    if facts.exclusion_list is None:
        state = FileState(exclusions.TEMPLATE, 0o644, 0, 0)
        files.append(ReplaceFile(exclusions.LIST_PATH, None, state, "exclusion list"))
        created_files[exclusions.LIST_PATH] = digest(state.data)
    service_steps, service_findings = service_plan.deliver(facts, policy, created_files, service)
    files += service_steps
    findings += service_findings

    changes, configurations, records, others = _configurations(facts, policy, abis, directory, allocators, adopted)
    other_steps, other_findings = plan_linux.keep(facts, others, created_files)
    files += other_steps
    findings += other_findings
    rescue_steps, rescue_findings = rescue.steps(facts, records, created_files)
    files += [*rescue_steps, *configurations]
    findings += rescue_findings

    plan_steps += _place(facts, directory, generation)
    made = _directories(facts, [os.path.dirname(directory), *(os.path.dirname(f.path) for f in files)])
    placed = dict(facts.record.generations) if facts.record else {}
    placed[directory] = generation.digests
    known = facts.record.directories if facts.record else ()
    record = Record(
        release=facts.release,
        machine=facts.machine.name,
        abis=records,
        generations=placed,
        files=created_files,
        directories=known + tuple(d for d in made if d not in known),
    )
    before = facts.root.read(RECORD_PATH)
    after = FileState(encode_record(record), 0o644, 0, 0)
    if before != after:
        files.append(ReplaceFile(RECORD_PATH, before, after, "record of what is installed"))
    return Plan(
        what="install",
        facts=facts,
        steps=(*(MakeDirectory(path) for path in made), *plan_steps, *files),
        findings=tuple(findings),
        changes=tuple(changes),
        generation=directory,
        custom=tuple(bits for bits, known in records.items() if len(known.files) > 1),
        serves=tuple(records) if isinstance(facts, LinuxFacts) else None,
        scope=policy.scope,
    )


def for_first_boot(plan: Plan) -> Plan:
    """The plan of an image with its configurations left to the trial of the first boot."""
    tried = steps.on_trial(plan.steps)
    if tried == plan.steps:
        return plan
    text = (
        "the configurations stay as they are: at the first boot the service tries the new ones and puts them into force"
    )
    hint = "switched off, the service tries nothing: svcadm enable memproxy"
    note = Finding("first-boot-trial", NOTE, plan.facts.root.path, text, hint)
    findings = (*(finding for finding in plan.findings if finding.identifier != "untried"), note)
    return replace(plan, steps=tried, findings=findings, staged=True)


def _configurations(
    facts: Facts,
    policy: Policy,
    abis: tuple[Abi, ...],
    directory: str,
    allocators: Mapping[int, str],
    adopted: Mapping[int, tuple[str, ...]],
) -> tuple[list[ConfigChange], list[ReplaceFile], dict[int, AbiRecord], dict[str, bytes]]:
    """What becomes of the configuration, the steps, what the record says of each ABI, and further files."""
    records = dict(facts.record.abis) if facts.record else {}
    if isinstance(facts, LinuxFacts):
        items = tuple(dict.fromkeys(item for bits in adopted for item in adopted[bits]))
        done = plan_linux.configure(facts, policy, abis, directory, allocators, items)
        bits = tuple(abi.bits for abi in facts.abis)
        change = ConfigChange(LD_SO_PRELOAD, bits, done.before, done.after)
        return [change], [] if done.step is None else [done.step], done.records, done.others
    assert isinstance(facts, SolarisFacts)
    changes: list[ConfigChange] = []
    configurations: list[ReplaceFile] = []
    for abi in abis:
        ours = Entry(
            directory=directory + abi.subdirectory,
            files=generations.files_for(abi.bits, allocators.get(abi.bits)),
            replaceable=policy.replaceable,
            trusted=policy.secure == "custom",
            library_path=policy.library_path,
        )
        one, step, abi_record = _configure(facts, abi, ours, directory, adopted.get(abi.bits, ()))
        changes.append(one)
        records[abi.bits] = abi_record
        if step is not None:
            configurations.append(step)
    return changes, configurations, records, {}


def _remarks(facts: Facts, policy: Policy, abis: tuple[Abi, ...], allocators: Mapping[int, str]) -> list[Finding]:
    found = []
    if not facts.root.is_live:
        text = "the image is configured untried: nothing of it can be run here"
        hint = "boot it where you can reach its console, then run memproxy-sol verify there"
        found.append(Finding("untried", NOTE, facts.root.path, text, hint))
    for abi in abis:
        if abi.bits not in allocators:
            text = "no allocator is named, so every program stays on the system allocator"
            hint = "add --allocator FILE, or allocators = [...] in the policy"
            found.append(Finding("no-allocator", WARNING, abi.name, text, hint))
        if facts.libc.get(abi.bits) is None:
            text = "the image has no C library, so what the libraries need could not be looked up"
            found.append(Finding("libc-missing", WARNING, abi.name, text, "install into a complete image"))
    if policy.secure == "system":
        text = "set-id programs will print a warning of ld.so.1 at each start, since they are not to load the proxy"
        found.append(Finding("secure-system", WARNING, "policy secure", text, 'secure = "custom" avoids it'))
    return found


def _configure(
    facts: SolarisFacts, abi: Abi, ours: Entry, directory: str, adopted: tuple[str, ...]
) -> tuple[ConfigChange, ReplaceFile | None, AbiRecord]:
    """The configuration of one ABI with our entry in it."""
    file = facts.configs[abi.bits]
    known = facts.record.abis.get(abi.bits) if facts.record else None
    base, original = _without_ours(facts, file, known)
    if adopted:
        base = entries.without_preload(base, abi, lambda item: item in adopted)
    config = entries.put(base, abi, ours)
    data = encode(config)
    # The file's own bytes where they are still nobody's but others': what an old version means is not re-encoded.
    present = file.state.data if file.state is not None and base == file.config else encode(base)
    nothing = file.state is None and base == new(facts.layout(abi), identified=facts.identified)
    before = preloads_of(facts, abi, None if nothing else present)
    _check_effect(abi, before, preloads_of(facts, abi, data), ours)
    after = FileState(data, CONFIG_MODE, file.state.uid if file.state else 0, file.state.gid if file.state else 0)
    record = AbiRecord(
        generation=directory,
        files=ours.files,
        replaceable=ours.replaceable,
        trusted=ours.trusted,
        library_path=tuple(d for d in ours.library_path if d not in (base.library_path or abi.default_library_path)),
        written=digest(data),
        original=original,
        adopted=tuple(dict.fromkeys((*(known.adopted if known else ()), *adopted))),
    )
    step = None
    if file.state != after:
        step = ReplaceFile(abi.config_path, file.state, after, f"{abi.name} runtime linker configuration")
    return ConfigChange.of(abi, file.config, config), step, record


def _without_ours(facts: SolarisFacts, file: ConfigFile, known: AbiRecord | None) -> tuple[LdConfig, FileState | None]:
    """What the configuration says without us, and the file to put back at uninstall."""
    abi = file.abi
    if file.state is None:
        fresh = new(facts.layout(abi), identified=facts.identified)
        if known is None or known.original is None:
            return fresh, None
        # Ours was removed or moved aside since: what was there before us is still what has to be there after us.
        try:
            return decode(known.original.data, layout=facts.layout(abi)), known.original
        except LdConfigError:
            return fresh, known.original
    assert file.config is not None, "preflight refuses a file that cannot be decoded"
    stripped = entries.taken_out(file.config, abi, known)
    if known is not None:
        if digest(file.state.data) == known.written:
            return stripped, known.original
        # Others changed the file since: what they have now is what has to be there after us.
        empty = replace(stripped, environment=stripped.environment or None) == new(facts.layout(abi), facts.identified)
        return stripped, None if empty else file.state.with_data(encode(stripped))
    if stripped != file.config:
        return stripped, file.state.with_data(encode(stripped))
    return stripped, file.state


def preloads_of(facts: SolarisFacts, abi: Abi, data: bytes | None, secure: bool = False) -> preloads.Effective:
    """What processes of `abi` with an empty environment make of a configuration file's content."""
    return preloads.effective(data, facts.layout(abi), (), secure)


def _check_effect(abi: Abi, before: preloads.Effective, after: preloads.Effective, ours: Entry) -> None:
    """Prove that the change adds our entry and takes nothing from anybody (rule 5); RefusedError if it does not."""
    wanted = [item.name for item in before.preloads] + list(ours.items)
    problems = []
    if not ours.replaceable and [item.name for item in after.preloads] != wanted:
        problems.append("the list of preloads would not be the present one with ours added")
    if ours.replaceable and sorted(item.name for item in after.preloads) != sorted(wanted):
        problems.append("a preload of others would be lost")
    if tuple(after.library_path[: len(before.library_path)]) != tuple(before.library_path):
        problems.append("the library path would change")
    if tuple(after.trusted_directories[: len(before.trusted_directories)]) != tuple(before.trusted_directories):
        problems.append("the trusted directories would change")
    for name, kept in (("replaceable", before.replaceable), ("permanent", before.permanent)):
        now = getattr(after, name)
        if any(now.get(key) != value for key, value in kept.items() if key != "LD_PRELOAD"):
            problems.append(f"a {name} variable would change")
    if problems:
        raise RefusedError(
            "; ".join(problems), where=abi.config_path, hint="look at it with memproxy-sol ldconfig show"
        )


def _place(facts: Facts, directory: str, generation: Generation) -> list[Step]:
    """The generation as a whole, or, where it stands already, just the members that were damaged."""
    if not facts.root.exists(directory):
        return [PlaceGeneration(directory, generation.digests, generation)]
    repairs: list[Step] = []
    for name in generation.subdirectories:
        if not facts.root.exists(f"{directory}/{name}"):
            repairs.append(MakeDirectory(f"{directory}/{name}"))
    for member in generation.members:
        path = f"{directory}/{member.name}"
        after = FileState(member.data, generations.FILE_MODE, 0, 0)
        try:
            before = facts.root.read(path)
        except HostError:
            before = None  # too large, or no file at all: not the member
        if before != after:
            repairs.append(MendMember(path, after))
    return repairs


def _directories(facts: Facts, wanted: list[str]) -> tuple[str, ...]:
    """The directories to be made for `wanted`, parents first. The record's own are the journal's."""
    made: list[str] = []
    for directory in wanted:
        made += [d for d in missing_directories(facts.root.exists, facts.root.resolve(directory)) if d not in made]
    return tuple(made)


def errors(plan: Plan) -> tuple[Finding, ...]:
    """What forbids the plan."""
    return tuple(finding for finding in plan.findings if finding.severity == ERROR)

"""Removal: the plan that takes memproxy-sol out of a host again.

A configuration that nobody else changed gets its former bytes back; from any other just what is ours is taken.
The generation stays until the next boot unless `purge` asks for it and it is proven that nothing names or maps it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace

from memproxy_sol import access, changes, drop_ins, plan_linux, preflight, processes, service_plan, systemd_unit
from memproxy_sol import entry as entries
from memproxy_sol.abi import ABIS, CONFIGURATIONS, LD_SO_PRELOAD, Abi
from memproxy_sol.errors import HostError, LdConfigError, RefusedError
from memproxy_sol.exclusions import LIST_PATH
from memproxy_sol.findings import ERROR, NOTE, WARNING, Finding
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import ConfigFile, SolarisFacts
from memproxy_sol.ld_config import LdConfig, Variable, decode, encode, new
from memproxy_sol.plan import ConfigChange, Plan
from memproxy_sol.record import RECORD_PATH, AbiRecord, Record, digest
from memproxy_sol.record import encode as encode_record
from memproxy_sol.root import FileState, Root
from memproxy_sol.services import State
from memproxy_sol.steps import MakeDirectory, PlaceGeneration, RemoveGeneration, ReplaceFile, Step


def uninstall(facts: Facts, abis: tuple[Abi, ...], purge: bool, service: State | None = None) -> Plan:
    """The plan that takes our entry out of the configurations of `abis`, and with `purge` everything else of ours.

    `service` is what is known of the service, None where there is none.
    """
    record = facts.record or Record()
    findings: list[Finding] = []
    plan_steps: list[Step] = []
    changes: list[ConfigChange] = []
    remaining = {bits: known for bits, known in record.abis.items() if ABIS[bits] not in abis}
    if isinstance(facts, LinuxFacts):
        change, config_steps, config_findings = _restore_linux(facts, record, remaining)
        changes.append(change)
        plan_steps += config_steps
        findings += config_findings
    else:
        assert isinstance(facts, SolarisFacts)
        for abi in abis:
            change, config_steps, config_findings = _living(facts, *_restore(facts, abi, record.abis.get(abi.bits)))
            changes.append(change)
            plan_steps += config_steps
            findings += config_findings

    files = dict(record.files)
    still_configured = bool(remaining)
    if not still_configured:
        for path in [path for path in files if path != LIST_PATH]:
            _remove_ours(facts, path, _purpose(path), files, plan_steps, findings, service)
        if service_plan.takes_a_step(facts) and service is not None:
            plan_steps += _orphan(facts, service) if facts.manifest_path not in record.files else []
    generations = dict(record.generations)
    if purge:
        generations = {**_placed(facts), **generations}
        after = {step.path: step.after for step in plan_steps if isinstance(step, ReplaceFile)}
        named = _generations_named(facts, after, tuple(generations))
        for directory in sorted(generations):
            blocked = _why_kept(facts, directory, named, tuple(generations[directory]))
            if blocked is None:
                if facts.root.exists(directory):
                    plan_steps.append(RemoveGeneration(directory))
                del generations[directory]
            else:
                findings.append(blocked)
        if not still_configured:
            _remove_ours(facts, LIST_PATH, "exclusion list", files, plan_steps, findings)
    leave_nothing = purge and not still_configured and not generations
    if facts.record is None and any(isinstance(step, ReplaceFile) for step in plan_steps):
        text = "is missing or damaged, so only the configuration is restored; the rest of ours stays"
        hint = "look for lib/memproxy, memproxy.xml and /etc/memproxy.conf below the root"
        findings.append(Finding("record-missing", WARNING, RECORD_PATH, text, hint))
    if facts.record is not None:
        present = facts.root.read(RECORD_PATH)
        left = replace(record, abis=remaining, generations=generations, files=files)
        state = None if leave_nothing else FileState(encode_record(left), 0o644, 0, 0)
        if present != state:
            plan_steps.append(ReplaceFile(RECORD_PATH, present, state, "record of what is installed"))
    cleanup = _cleanup(facts, record) if leave_nothing else ()
    return Plan(
        what="uninstall",
        facts=facts,
        steps=tuple(plan_steps),
        findings=tuple(findings),
        changes=tuple(changes),
        leave_nothing=leave_nothing,
        cleanup=cleanup,
    )


def _restore(
    facts: SolarisFacts, abi: Abi, known: AbiRecord | None
) -> tuple[ConfigChange, list[ReplaceFile], list[Finding]]:
    file = facts.configs[abi.bits]
    path = abi.config_path
    purpose = f"{abi.name} runtime linker configuration"
    nothing = ConfigChange.of(abi, file.config, file.config)
    if file.state is None and known is not None and known.original is not None and file.verdict == "absent":
        text = "was removed by somebody since install; the file from before is put back"
        finding = Finding(
            "config-changed", NOTE, path, text, f"rm {shlex.quote(facts.root.host_path(path))}, if it is not wanted"
        )
        step = ReplaceFile(path, None, known.original, purpose)
        return ConfigChange.of(abi, None, _decoded(facts, known.original, file)), [step], [finding]
    if file.verdict == "unreadable":
        text = f"{file.problem}, so nothing is taken out of it"
        return nothing, [], [Finding("config-unusable", WARNING, path, text, access.aside(facts.root, path))]
    if file.state is None:
        return nothing, [], []
    if known is not None and digest(file.state.data) == known.written:
        step = ReplaceFile(path, file.state, known.original, purpose)
        return ConfigChange.of(abi, file.config, _decoded(facts, known.original, file)), [step], []
    if file.config is None:
        return _set_aside(facts, abi, file, known)
    stripped = with_adopted(entries.taken_out(file.config, abi, known), abi, known)
    if stripped == file.config:
        return nothing, [], []
    original = known.original if known else None
    if is_empty(stripped) and original is None:
        return ConfigChange.of(abi, file.config, None), [ReplaceFile(path, file.state, None, purpose)], []
    former = _decoded(facts, original, file)
    if original is not None and former == stripped:
        return ConfigChange.of(abi, file.config, former), [ReplaceFile(path, file.state, original, purpose)], []
    text = "was changed by somebody else since install, so only what is ours is taken out of it"
    finding = Finding("config-changed", NOTE, path, text, "look at the plan's difference")
    state = file.state.with_data(encode(stripped))
    return ConfigChange.of(abi, file.config, stripped), [ReplaceFile(path, file.state, state, purpose)], [finding]


def _restore_linux(
    facts: LinuxFacts, record: Record, remaining: Mapping[int, AbiRecord]
) -> tuple[ConfigChange, list[ReplaceFile], list[Finding]]:
    if remaining:
        raise RefusedError(
            "one line serves all ABIs, so that they go together",
            where=LD_SO_PRELOAD,
            hint="memproxy-sol uninstall, and then install with --bits",
        )
    here = facts.preload.state
    before = None if here is None else here.data
    bits = tuple(abi.bits for abi in facts.abis)
    if facts.preload.problem:
        text = f"{facts.preload.problem}, so nothing is taken out of it"
        hint = access.aside(facts.root, LD_SO_PRELOAD)
        found = Finding("config-unusable", WARNING, LD_SO_PRELOAD, text, hint)
        return ConfigChange(LD_SO_PRELOAD, bits, before, before), [], [found]
    step, edited = plan_linux.restore(facts, record.abis)
    if step is None:
        return ConfigChange(LD_SO_PRELOAD, bits, before, before), [], []
    change = ConfigChange(LD_SO_PRELOAD, bits, before, None if step.after is None else step.after.data)
    if not edited:
        return change, [step], []
    if here is None:
        text = "was removed by somebody since install; the file from before is put back"
        hint = f"rm {shlex.quote(facts.root.host_path(LD_SO_PRELOAD))}, if it is not wanted"
    else:
        text = "was changed by somebody else since install, so only what is ours is taken out of it"
        hint = "look at the plan's difference"
    return change, [step], [Finding("config-changed", NOTE, LD_SO_PRELOAD, text, hint)]


def _living(
    facts: SolarisFacts, change: ConfigChange, config_steps: list[ReplaceFile], findings: list[Finding]
) -> tuple[ConfigChange, list[ReplaceFile], list[Finding]]:
    """What `_restore` says, less the preloads that would kill every process: their objects went while ours stood there.

    So it is with an allocator that was adopted, and whose package has been removed since.
    """
    abi = ABIS[change.bits[0]]
    steps: list[ReplaceFile] = []
    for step in config_steps:
        config = change.after if step.path == change.path and isinstance(change.after, LdConfig) else None
        config = None if step.after is None else config
        dead = [] if config is None or config.has_object_cache else preflight.dead_preloads(facts, abi, config)
        text = f"would preload {', '.join(dead)} again, which is gone or damaged and would kill every process"
        if dead and not facts.root.is_live:
            # It may lie on a file system that is not mounted below the image.
            hint = "look for it before this is booted"
            findings = [*findings, Finding("preload-gone", WARNING, step.path, text, hint)]
        elif step.after is not None and config is not None and dead:
            config = entries.without_preload(config, abi, frozenset(dead).__contains__)
            step = replace(step, after=step.after.with_data(encode(config)))
            change = replace(change, after=config)
            hint = "once the object is there again, crle -u -e puts it back"
            findings = [*findings, Finding("preload-gone", WARNING, step.path, f"{text}: it is left out", hint)]
        steps.append(step)
    return change, steps, findings


def _set_aside(
    facts: SolarisFacts, abi: Abi, file: ConfigFile, known: AbiRecord | None
) -> tuple[ConfigChange, list[ReplaceFile], list[Finding]]:
    """An unreadable file is kept beside the former one, which is put back: undo never refuses (rule 10)."""
    path = abi.config_path
    if known is None:
        return ConfigChange.of(abi, None, None), [], []
    aside = f"{path}.damaged"
    text = f"cannot be decoded ({file.problem}); it is kept as {aside} and the former file is put back"
    found = [Finding("config-undecodable", WARNING, path, text, "delete the copy once you know what it was")]
    put = [
        ReplaceFile(aside, facts.root.read(aside), file.state, "the damaged configuration, kept"),
        ReplaceFile(path, file.state, known.original, f"{abi.name} runtime linker configuration"),
    ]
    return ConfigChange.of(abi, None, _decoded(facts, known.original, file)), put, found


def _decoded(facts: SolarisFacts, state: FileState | None, file: ConfigFile) -> LdConfig | None:
    if state is None:
        return None
    try:
        return decode(state.data, layout=facts.layout(file.abi))
    except LdConfigError:
        return None


def with_adopted(config: LdConfig, abi: Abi, known: AbiRecord | None) -> LdConfig:
    """Others' preload items that ours stood in for are put back in front."""
    if known is None or not known.adopted:
        return config
    value = ":".join(known.adopted)
    variables = list(config.environment or ())
    for index, variable in enumerate(variables):
        if variable.name == abi.preload_variable and variable.value:
            variables[index] = replace(variable, text=f"{variable.name}={value}:{variable.value}")
            return replace(config, environment=tuple(variables))
    permanent = not known.replaceable
    return replace(config, environment=(*variables, Variable.define(abi.preload_variable, value, permanent)))


def is_empty(config: LdConfig) -> bool:
    """Whether the configuration says nothing at all, so that its file can go."""
    bare = new(config.layout, config.identified)
    return replace(config, version=bare.version, flags=bare.flags) == bare


def _purpose(path: str) -> str:
    """What a file that we created is, in words."""
    if path.startswith(("/var/ld/", LD_SO_PRELOAD)) or "rescue" in path:
        return "what to do when no program starts"
    if plan_linux.is_other(path):
        return plan_linux.purpose(path)
    return systemd_unit.PURPOSE if path.startswith("/etc/systemd/") else "SMF manifest or profile"


def _remove_ours(
    facts: Facts,
    path: str,
    purpose: str,
    files: dict[str, str],
    plan_steps: list[Step],
    findings: list[Finding],
    service: State | None = None,
) -> None:
    """Remove a file which we created, unless somebody has changed it since."""
    if path not in files:
        return
    try:
        state = facts.root.read(path)
    except HostError:
        state = FileState(b"", 0, 0, 0)  # a FIFO, a directory: not what we made
    if state is not None and digest(state.data) != files[path]:
        host = shlex.quote(facts.root.host_path(path))
        ours = plan_linux.edited(path, state)
        plan_steps += ours
        text = f"was changed since install and is kept{', less our line' if ours else ''} ({purpose})"
        findings.append(Finding("file-changed", WARNING, path, text, f"rm {host}, if it is not needed"))
    elif path == facts.manifest_path and service_plan.takes_a_step(facts):
        plan_steps += service_plan.retire(facts, state, service)
    elif state is not None:
        plan_steps.append(ReplaceFile(path, state, None, purpose))
    del files[path]


def _orphan(facts: Facts, service: State) -> list[Step]:
    """The step that retires a service without a manifest: a trial that the boot took back leaves it loaded."""
    try:
        gone = facts.root.read(facts.manifest_path) is None
    except HostError:
        return []
    return [*service_plan.retire(facts, None, service)] if gone else []


def _placed(facts: Facts) -> dict[str, dict[str, str]]:
    """Generations of which only the journal knows: their change was taken back, or the record is gone."""
    return {
        step.directory: dict(step.digests)
        for change in changes.history(facts.root)
        if isinstance(change, changes.Change)
        for step in change.steps
        if isinstance(step, PlaceGeneration) and facts.root.exists(step.directory)
    }


def _generations_named(
    facts: Facts, after: Mapping[str, FileState | None], generations: tuple[str, ...]
) -> dict[str, str]:
    """Every configuration, of this host and of the zones below it, that will still name a generation.

    `after` is what the plan makes of files, by path.
    """
    contents: dict[str, bytes] = {}
    created = facts.record.files if facts.record is not None else {}
    for path in (*CONFIGURATIONS, *filter(plan_linux.is_other, created)):
        state = after[path] if path in after else _legible(facts.root, path)
        contents |= {} if state is None else {path: state.data}
    for zone in _zone_roots(facts.root):
        for path in ("/var/ld/ld.config", "/var/ld/64/ld.config"):
            state = facts.root.read(zone + path)
            if state is not None:
                contents[zone + path] = state.data
    named: dict[str, str] = {}
    if isinstance(facts, LinuxFacts):
        units = {directory: drop_ins.naming(facts.root, directory, after) for directory in generations}
        named |= {directory: path for directory, path in units.items() if path is not None}
    for path, data in contents.items():
        for directory in generations:
            if directory.encode("utf-8", "surrogateescape") in data:
                named[directory] = path
    return named


def _legible(root: Root, path: str) -> FileState | None:
    try:
        return root.read(path)
    except HostError:
        return None


def _zone_roots(root: Root) -> tuple[str, ...]:
    state = root.read("/etc/zones/index")
    lines = state.data.decode("utf-8", "surrogateescape").splitlines() if state else []
    fields = [line.split(":") for line in lines if not line.startswith("#")]
    return tuple(f"{f[2]}/root" for f in fields if len(f) >= 3 and f[0] != "global" and f[2].startswith("/"))


def _why_kept(facts: Facts, directory: str, named: dict[str, str], known: tuple[str, ...]) -> Finding | None:
    """Why a generation, whose members are `known`, is not removed."""
    if directory in named:
        text = f"is kept: {named[directory]} still names it"
        return Finding("generation-in-use", WARNING, directory, text, "uninstall there first")
    strangers = [name for name in _files_below(facts.root, directory) if name not in known]
    if strangers:
        text = f"is kept: it holds {strangers[0]}, which is not ours"
        return Finding("generation-in-use", WARNING, directory, text, "move that away and purge again")
    kernel = processes.LINUX if isinstance(facts, LinuxFacts) else processes.SOLARIS
    users = processes.processes_that_map(facts.root, directory, kernel=kernel)
    if users is None:
        text = "is kept: whether a running process still maps it cannot be told on this machine"
        return Finding("generation-in-use", ERROR, directory, text, "purge after the next boot")
    if users:
        text = f"is kept: process {users[0]} still maps it" + (f" and {len(users) - 1} more" if users[1:] else "")
        return Finding("generation-in-use", WARNING, directory, text, "purge when these have ended")
    return None


def _files_below(root: Root, directory: str) -> tuple[str, ...]:
    """The files of a generation's directory, relative to it."""
    top = root.host_path(directory)
    return tuple(os.path.relpath(os.path.join(where, name), top) for where, _, names in os.walk(top) for name in names)


def _cleanup(facts: Facts, record: Record) -> tuple[str, ...]:
    """Directories that we made, deepest first; they go if they are empty."""
    made = set(record.directories)
    # What a damaged journal made stays.
    known = [change for change in changes.history(facts.root) if isinstance(change, changes.Change)]
    made |= {directory for change in known for directory in change.directories}
    made |= {step.path for change in known for step in change.steps if isinstance(step, MakeDirectory)}
    return tuple(sorted(made, key=lambda d: (-d.count(os.sep), d)))

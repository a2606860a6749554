"""Rollback: the plan that returns a host to the state before a change, as a change of its own.

Pure: from facts and what the journals tell to a plan. Each file that we wrote gets the content that it had before that
change. What others did since is kept: of a configuration file that they changed just our part is made what it was, and
any other file of theirs stays. It never refuses because the present state is bad: what cannot be read or decoded is
kept beside, or left alone, with a finding. Generations stay where they are, and so do directories.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memproxy_sol import access, drop_ins, former, ld_so_preload, plan_linux, service_plan
from memproxy_sol import entry as entries
from memproxy_sol.abi import ABIS, CONFIGURATIONS, LD_SO_PRELOAD, Abi
from memproxy_sol.changes import COMPLETE, Change, Damaged, Entry
from memproxy_sol.errors import HostError, LdConfigError, UsageError
from memproxy_sol.findings import NOTE, WARNING, Finding
from memproxy_sol.generation import NAMED
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.ld_config import LdConfig, decode, encode, new
from memproxy_sol.plan import ConfigChange, Plan
from memproxy_sol.record import RECORD_PATH, AbiRecord, Record, digest
from memproxy_sol.record import decode as decode_record
from memproxy_sol.record import encode as encode_record
from memproxy_sol.removal import is_empty, with_adopted
from memproxy_sol.root import FileState
from memproxy_sol.services import State
from memproxy_sol.steps import ChangeService, MakeDirectory, PlaceGeneration, ReplaceFile, Service, Step, TryFile

DAMAGED = ".damaged"
"""What is put behind the name of a file that is kept because it could not be understood."""


@dataclass(frozen=True)
class Was:
    """One file before the change that is returned to, and as we left it last."""

    before: FileState | None
    after: FileState | None
    purpose: str
    service: Service | None = None
    """What was known of the service before, for its file."""
    is_mixed: bool = False
    """Whether others changed it between two of our changes, so that what we left holds something of theirs."""

    def followed_by(self, later: Was) -> Was:
        """This and a later change of the same file as one."""
        is_theirs = later.before is not None and (self.after is None or later.before.data != self.after.data)
        return replace(self, after=later.after, is_mixed=self.is_mixed or is_theirs)

    def is_ours(self, now: FileState | None) -> bool:
        """Whether what is there now is what we left, or nothing, so that nobody loses anything with it."""
        return now is None or (not self.is_mixed and self.after is not None and now.data == self.after.data)


def last_change(entries_: Sequence[Entry]) -> int | None:
    """The number of the last change that is complete, or of which nothing is known; None if there is none."""
    return next((e.number for e in reversed(entries_) if isinstance(e, Damaged) or e.state == COMPLETE), None)


def plan(facts: Facts, history: Sequence[Entry], number: int, service: State | None = None) -> Plan:
    """The plan that returns to the state before change `number`; UsageError if there is no such change.

    `history` is all that the journals tell, `service` what is known of the service.
    """
    if number not in (entry.number for entry in history):
        raise UsageError(f"there is no change {number}", hint="memproxy-sol history shows them")
    return _Rollback(facts, history, number, service).plan()


def files_before(history: Sequence[Entry], number: int) -> dict[str, Was]:
    """What each file was before change `number`, for the files that it and later ones wrote.

    Where the journal of one of these is damaged, it is what the change before it left.
    """
    earlier: dict[str, Was] = {}
    found: dict[str, Was] = {}
    clean = True
    for entry in history:
        if not isinstance(entry, Change):
            clean = clean and entry.number < number
        elif entry.state == COMPLETE:
            for path, was in _written(entry):
                if entry.number < number:
                    earlier[path] = replace(was, before=was.after, service=None)
                elif path in found:
                    found[path] = found[path].followed_by(was)
                else:
                    known = None if clean else earlier.get(path)
                    found[path] = was if known is None else known.followed_by(was)
    return found if clean else {**earlier, **found}


def _written(change: Change) -> list[tuple[str, Was]]:
    """The files that a change wrote. What was kept since it could not be understood stays kept."""
    written = []
    for step in change.steps:
        if isinstance(step, (ReplaceFile, TryFile)) and not step.path.endswith(DAMAGED):
            written.append((step.path, Was(step.before, step.after, step.purpose)))
        elif isinstance(step, ChangeService):
            was = Was(step.before.manifest, step.after.manifest, step.purpose, step.before)
            written.append((step.path, was))
    return written


class _Rollback:
    """Collects the steps and the findings of one plan."""

    def __init__(self, facts: Facts, history: Sequence[Entry], number: int, service: State | None) -> None:
        self.facts = facts
        self.root = facts.root
        self.history = history
        self.number = number
        self.service = service
        self.findings: list[Finding] = []
        self.was = files_before(history, number)
        self.after: dict[str, FileState | None] = {}
        """What the files will be that the plan looks at."""
        self.present = facts.record
        if number == 1 and isinstance(history[0], Damaged) and self.present is not None:
            self.was = self._before_everything(self.present)
        self.record = self._record_before()
        self.generations = self._generations()

    def plan(self) -> Plan:
        for entry in self.history:
            if isinstance(entry, Damaged) and entry.number >= self.number:
                text = f"{entry.problem}; what this change did is told by the changes beside it and by the record alone"
                self.findings.append(Finding("journal-damaged", WARNING, entry.path, text, entry.hint))
        first: list[Step] = []
        last: list[Step] = []
        for path in sorted(set(self.was) - set(CONFIGURATIONS) - {RECORD_PATH}):
            step = self._file(path, self.was[path])
            if step is not None:
                # What processes look for is there before they are configured, and goes after. SMF's commands are
                # processes, which may not start before the configuration is mended.
                is_first = self.after[path] is not None and not isinstance(step, ChangeService)
                (first if is_first else last).append(step)
        changes: list[ConfigChange] = []
        middle: list[ReplaceFile] = []
        records: dict[int, AbiRecord] = {}
        if isinstance(self.facts, LinuxFacts):
            change, steps, records = self._config_linux(self.facts)
            changes.append(change)
            middle += steps
        else:
            for abi in self.facts.machine.abis():
                change, steps, record = self._config(abi)
                changes.append(change)
                middle += steps
                if record is not None:
                    records[abi.bits] = record
        return Plan(
            what=f"rollback {self.number}",
            facts=self.facts,
            steps=(*first, *middle, *last, *self._record_steps(records)),
            findings=tuple(self.findings),
            changes=tuple(changes),
            custom=tuple(bits for bits, record in records.items() if len(record.files) > 1),
            serves=tuple(records) if isinstance(self.facts, LinuxFacts) else None,
            scope=next((record.scope for record in records.values()), "all"),
            exact=True,
        )

    @property
    def _facts(self) -> SolarisFacts:
        """The facts, where they are Solaris'."""
        assert isinstance(self.facts, SolarisFacts)
        return self.facts

    # The record.

    def _record_before(self) -> Record:
        was = self.was.get(RECORD_PATH)
        if was is None:
            return self.present or Record()
        if was.before is None:
            return Record()
        try:
            return decode_record(was.before.data)
        except HostError as error:
            text = f"{error.what}, as it was before change {self.number}: our entry is left out"
            self.findings.append(Finding("record-damaged", WARNING, RECORD_PATH, text, "install again"))
            return Record()

    def _before_everything(self, record: Record) -> dict[str, Was]:
        """What the record says of the time before the first change, whose own journal is damaged."""
        found = {RECORD_PATH: Was(None, None, "")}
        for path, value in record.files.items():
            now = self._read(path)
            ours = now if now is not None and digest(now.data) == value else None
            found[path] = Was(None, ours, "made by memproxy-sol")
        for bits, known in record.abis.items():
            path = LD_SO_PRELOAD if isinstance(self.facts, LinuxFacts) else ABIS[bits].config_path
            now = self._read(path)
            ours = now if now is not None and digest(now.data) == known.written else None
            found[path] = Was(known.original, ours, "")
        return found

    def _generations(self) -> dict[str, dict[str, str]]:
        """All generations that are known and still in their place."""
        changes = [change for change in self.history if isinstance(change, Change)]
        known = {s.directory: s.digests for c in changes for s in c.steps if isinstance(s, PlaceGeneration)}
        known.update(self.record.generations)
        known.update(self.present.generations if self.present else {})
        return {directory: dict(digests) for directory, digests in known.items() if self._exists(directory)}

    def _record_steps(self, records: dict[int, AbiRecord]) -> list[ReplaceFile]:
        known = [self.record, *([self.present] if self.present else [])]
        files: dict[str, str] = {}
        for record in known:
            for path, value in record.files.items():
                state = self.after[path] if path in self.after else self._read(path)
                if state is not None and (path not in files or digest(state.data) == value):
                    files[path] = value
        changes = [change for change in self.history if isinstance(change, Change)]
        made = [s.path for c in changes for s in c.steps if isinstance(s, MakeDirectory)]
        directories = dict.fromkeys(path for r in known for path in r.directories)
        directories.update(dict.fromkeys(made))
        left = Record(
            release=self.facts.release,
            machine=self.facts.machine.name,
            abis=records,
            generations=self.generations,
            files=files,
            directories=tuple(path for path in directories if self._exists(path)),
        )
        is_needed = bool(records or self.generations or files)
        after = FileState(encode_record(left), 0o644, 0, 0) if is_needed else None
        try:
            now = self.root.read(RECORD_PATH)
        except HostError as error:
            text = f"{error.what}, so it is not replaced"
            hint = access.aside(self.root, RECORD_PATH)
            self.findings.append(Finding("record-damaged", WARNING, RECORD_PATH, text, hint))
            return []
        found = []
        if now is not None and self.present is None:
            found.append(self._kept(RECORD_PATH, now, "cannot be understood", "record-damaged"))
        if now != after:
            found.append(ReplaceFile(RECORD_PATH, now, after, "record of what is installed"))
        return found

    # Other files.

    def _file(self, path: str, was: Was) -> Step | None:
        """The step for a file that is not a configuration, None if it stays as it is."""
        try:
            now = self.root.read(path)
        except HostError as error:
            # A FIFO, a directory: nothing of ours.
            self.after[path] = None
            self._keep(path, f"{error.what}, and is left alone ({was.purpose})")
            return None
        self.after[path] = now
        is_service = path == self.facts.manifest_path and service_plan.takes_a_step(self.facts)
        if now == was.before and not is_service:
            return None
        if not was.is_ours(now) and now != was.before:
            self._keep(path, f"was changed by somebody else since and is kept ({was.purpose})")
            return None
        if drop_ins.is_drop_in(path) and was.before is not None:
            named = [os.fsdecode(one) for one in NAMED.findall(was.before.data)]
            if any(former.damage(self.root, one, self.generations) for one in named):
                was = replace(was, before=None)  # what it would name is gone or damaged
        self.after[path] = was.before
        if now == was.before:
            return None
        return self._service(path, was, now) if is_service else ReplaceFile(path, now, was.before, was.purpose)

    def _service(self, path: str, was: Was, now: FileState | None) -> ChangeService | None:
        known, enabled = self.service is not None, self.service is not None and self.service.enabled
        wanted = was.service or Service(was.before, was.before is not None, enabled and was.before is not None)
        # Who has switched it off since has switched it off.
        wanted = replace(wanted, enabled=wanted.enabled and (enabled or not known))
        present = Service(now, known, enabled)
        if present == wanted:
            return None
        return ChangeService(path, present, wanted, service_plan.by_import(self.facts))

    def _keep(self, path: str, text: str) -> None:
        hint = f"rm {shlex.quote(self.root.host_path(path))}, if it is not needed"
        self.findings.append(Finding("file-changed", WARNING, path, text, hint))

    # The configurations.

    def _config_linux(self, facts: LinuxFacts) -> tuple[ConfigChange, list[ReplaceFile], dict[int, AbiRecord]]:
        """The change of the list of preloads, its step, and what the record will say of each ABI."""
        now, bits = facts.preload.state, tuple(abi.bits for abi in facts.abis)
        before = None if now is None else now.data
        if facts.preload.problem:
            text = f"{facts.preload.problem}, so nothing is changed in it"
            hint = access.aside(self.root, LD_SO_PRELOAD)
            self.findings.append(Finding("config-unusable", WARNING, LD_SO_PRELOAD, text, hint))
            return ConfigChange(LD_SO_PRELOAD, bits, before, before), [], dict(self.record.abis)
        was = self.was.get(LD_SO_PRELOAD, Was(now, now, ""))
        known = {one: record for one, record in self.record.abis.items() if one in bits}
        if now == was.before or was.is_ours(now):
            state = was.before
            wrong = self._unusable(facts, b"" if state is None else state.data)
            if state is not None and wrong is not None:
                self.findings.append(wrong)
                original = next((one.original for one in known.values()), None)
                rest = ld_so_preload.strip(state.data, ld_so_preload.is_ours)
                state = original if original is None or original.data == rest else state.with_data(rest)
                known = {}
        else:
            state, known = self._with_ours_linux(facts, b"" if now is None else now.data, known)
        in_services = {one: record for one, record in self.record.abis.items() if record.scope == "services"}
        if state is None or not ld_so_preload.generations_named(state.data):
            known = {one: record for one, record in in_services.items() if one in bits and self._serves(record)}
        self.after[LD_SO_PRELOAD] = state
        steps = [] if state == now else [ReplaceFile(LD_SO_PRELOAD, now, state, plan_linux.PURPOSE)]
        return ConfigChange(LD_SO_PRELOAD, bits, before, None if state is None else state.data), steps, known

    def _with_ours_linux(
        self, facts: LinuxFacts, data: bytes, known: dict[int, AbiRecord]
    ) -> tuple[FileState | None, dict[int, AbiRecord]]:
        """What others have there now, with our part as it was before."""
        now = facts.preload.state
        rest = ld_so_preload.strip(data, ld_so_preload.is_ours)
        theirs = None if now is None or not rest.strip() else now.with_data(rest)
        present = next(iter(self.present.abis.values()), None) if self.present else None
        first = next(iter(known.values()), None)
        if present is not None and present.adopted and (first is None or first.adopted != present.adopted):
            rest = ld_so_preload.put(rest, list(present.adopted))
            theirs = FileState(rest, plan_linux.MODE, 0, 0) if now is None else now.with_data(rest)
        self.findings.append(
            Finding(
                "config-changed",
                NOTE,
                LD_SO_PRELOAD,
                f"was changed by somebody else since, so only our part is made what it was before change {self.number}",
                "look at the plan's difference",
            )
        )
        wanted = self.was[LD_SO_PRELOAD].before if LD_SO_PRELOAD in self.was else None
        items = [item.text for item in ld_so_preload.parse(b"" if wanted is None else wanted.data)]
        ours = [item for item in items if ld_so_preload.is_ours(item)]
        if not ours or not known or wanted is None:
            return theirs, {}
        wrong = self._unusable(facts, wanted.data)
        if wrong is not None:
            self.findings.append(wrong)
            return theirs, {}
        state = (now or wanted).with_data(ld_so_preload.put(rest, ours))
        written = digest(state.data)
        return state, {bits: replace(one, written=written, original=theirs) for bits, one in known.items()}

    def _serves(self, record: AbiRecord) -> bool:
        """Whether a generation that services were given is still what it was."""
        wrong = former.damage(self.root, record.generation, self.generations)
        self.findings += [] if wrong is None else [wrong]
        return wrong is None

    def _unusable(self, facts: LinuxFacts, data: bytes) -> Finding | None:
        """Why a list may not come into force again: a generation that it names is gone or damaged."""
        problems = (
            former.damage(facts.root, named, self.generations) for named in ld_so_preload.generations_named(data)
        )
        return next((found for found in problems if found is not None), None)

    def _config(self, abi: Abi) -> tuple[ConfigChange, list[ReplaceFile], AbiRecord | None]:
        """The change of one configuration, its steps, and what the record will say of it."""
        file, path = self._facts.configs[abi.bits], abi.config_path
        known = self.record.abis.get(abi.bits)
        if file.verdict == "unreadable":
            text = f"{file.problem}, so nothing is changed in it"
            self.findings.append(Finding("config-unusable", WARNING, path, text, access.aside(self.root, path)))
            return ConfigChange.of(abi, file.config, file.config), [], known
        was = self.was.get(path, Was(file.state, file.state, ""))
        steps: list[ReplaceFile] = []
        now = file.state
        is_garbage = now is not None and file.config is None and now != was.before
        if is_garbage and now is not None:
            steps.append(self._kept(path, now, "cannot be decoded", "config-undecodable"))
        ours = is_garbage or was.is_ours(now)
        before = self._decoded(abi, was.before)
        if was.before is not None and before is None and now != was.before:
            text = f"could not be decoded before change {self.number} either, and does not come back"
            self.findings.append(Finding("config-undecodable", WARNING, path, text, "look at what is there now"))
        if now == was.before or (ours and (was.before is None or before is not None)):
            state, config, known = self._as_before(abi, was.before, before, known)
        else:
            state, config, known = self._with_ours(abi, None if is_garbage else file.config, known)
        if state != now:
            steps.append(ReplaceFile(path, now, state, f"{abi.name} runtime linker configuration"))
        self.after[path] = state
        return ConfigChange.of(abi, file.config, config), steps, known

    def _as_before(
        self, abi: Abi, state: FileState | None, config: LdConfig | None, known: AbiRecord | None
    ) -> tuple[FileState | None, LdConfig | None, AbiRecord | None]:
        """The very file of before, as far as it may come into force again."""
        if state is None or config is None:
            return state, config, None
        safe, findings = former.vetted(self._facts, abi, config, self.generations, known)
        self.findings += findings
        if safe == config:
            return state, config, known
        has_ours = bool(entries.generations_named(safe))
        original = known.original if known is not None else None
        if not has_ours and original is not None and self._decoded(abi, original) == safe:
            return original, safe, None
        if not has_ours and original is None and is_empty(safe):
            return None, None, None
        changed = state.with_data(encode(safe))
        return changed, safe, replace(known, written=digest(changed.data)) if known and has_ours else None

    def _with_ours(
        self, abi: Abi, now: LdConfig | None, known: AbiRecord | None
    ) -> tuple[FileState | None, LdConfig | None, AbiRecord | None]:
        """What others have there now, with our part as it was before."""
        present = self.present.abis.get(abi.bits) if self.present else None
        bare = new(self._facts.layout(abi), identified=self._facts.identified)
        config = now if now is not None else bare
        either = present or known
        config = entries.taken_out(config, abi, either)
        if now is not None and present is not None and (known is None or known.adopted != present.adopted):
            config, findings = former.vetted(self._facts, abi, with_adopted(config, abi, present), self.generations)
            self.findings += findings
        state = self._facts.configs[abi.bits].state
        theirs = None if is_empty(config) or state is None else state.with_data(encode(config))
        if known is not None:
            directory = known.generation + abi.subdirectory
            problems = [former.problem(self._facts, abi, f"{directory}/{f}", self.generations) for f in known.files]
            wrong = next((found for found in problems if found is not None), None)
            if wrong is None:
                ours = entries.Entry(directory, known.files, known.replaceable, known.trusted, known.library_path)
                adopted = known.adopted
                config = entries.put(entries.without_preload(config, abi, lambda item: item in adopted), abi, ours)
                data = encode(config)
                changed = FileState(data, 0o644, 0, 0) if state is None else state.with_data(data)
                self._changed(abi)
                return changed, config, replace(known, written=digest(data), original=theirs)
            self.findings.append(wrong)
        if now is not None and config == now:
            return state, now, None
        self._changed(abi)
        return theirs, config if theirs is not None else None, None

    def _changed(self, abi: Abi) -> None:
        text = f"was changed by somebody else since, so only our part is made what it was before change {self.number}"
        self.findings.append(Finding("config-changed", NOTE, abi.config_path, text, "look at the plan's difference"))

    # What all need.

    def _kept(self, path: str, now: FileState, why: str, identifier: str) -> ReplaceFile:
        """The step that keeps beside what is in the way."""
        aside = path + DAMAGED
        text = f"{why}, and is kept as {aside}"
        self.findings.append(Finding(identifier, WARNING, path, text, "delete the copy once you know what it was"))
        return ReplaceFile(aside, self._read(aside), now, "what could not be understood, kept")

    def _decoded(self, abi: Abi, state: FileState | None) -> LdConfig | None:
        try:
            return None if state is None else decode(state.data, layout=self._facts.layout(abi))
        except LdConfigError:
            return None

    def _read(self, path: str) -> FileState | None:
        try:
            return self.root.read(path)
        except HostError:
            return None

    def _exists(self, path: str) -> bool:
        try:
            return self.root.exists(path)
        except HostError:
            return False

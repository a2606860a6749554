"""Verify: whether a host is as it was installed; it reads, and mends nothing.

Here are two layers, the configuration files and the libraries that they name; the third, the processes of a live
host, is verify_live.py. Each way in which something can be wrong is a finding of its own, with the command that
mends it.
Standard library and own modules only: this runs at boot.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from dataclasses import dataclass, replace
from typing import Any

from memproxy_sol import (
    access,
    changes,
    elf_header,
    entry,
    exclusion_problems,
    exclusions,
    first_boot,
    generation,
    pending,
    preloads,
    smf_manifest,
)
from memproxy_sol.abi import ABI32, ABI64, EM_SPARC32PLUS, LD_SO_PRELOAD, Abi
from memproxy_sol.access import Groups
from memproxy_sol.commands import Shell
from memproxy_sol.errors import ElfError, HostError, SmfError
from memproxy_sol.executable import USUAL_DIRECTORIES, reported
from memproxy_sol.findings import ERROR, NOTE, WARNING, Finding, errors_in
from memproxy_sol.generation import DEFAULT_PREFIX
from memproxy_sol.hosts import linux, solaris, solaris_live
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.solaris import ConfigFile, SolarisFacts
from memproxy_sol.record import RECORD_PATH, AbiRecord, Record, digest
from memproxy_sol.record import decode as decode_record
from memproxy_sol.root import Root, kind_of


@dataclass(frozen=True)
class Report:
    """All findings of one verification, errors first within their layer."""

    root: str
    findings: tuple[Finding, ...]
    abis: tuple[int, ...] = ()
    """The ABIs that are configured, as the record has them."""
    release: str = ""
    machine: str = ""
    facts: Facts | None = None
    """What was read; None where the record, a configuration or the journal cannot be read."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings of severity error."""
        return errors_in(self.findings)

    def to_json(self) -> dict[str, Any]:
        """What `verify --json` prints."""
        return {
            "root": self.root,
            "release": self.release,
            "machine": self.machine,
            "abis": list(self.abis),
            "ok": not self.errors,
            "findings": [finding.to_json() for finding in self.findings],
        }


def verify(
    root: Root,
    *,
    host: str | None = None,
    release: str | None = None,
    machine: str | None = None,
    shell: Shell | None = None,
    deep: bool = False,
) -> Report:
    """Judge the host below `root`; the options are those of `hosts.solaris.read`.

    `deep` is for what needs more than the standard library: not at boot.
    With a `shell` what the running system says by command is held against its files: not at boot, where nothing but
    this process may be needed. Raises HostError where the tree cannot be judged at all (no Solaris root, an unreadable
    directory).
    """
    broken = _unreadable_parts(root)
    if broken:
        return Report(root.path, tuple(broken))
    if host == "linux" or (host is None and linux.is_linux(root)):
        from memproxy_sol.verify_linux import LinuxChecker  # which is made of what is here

        facts: Facts = linux.read(root, machine=machine)
        checker: Checker = LinuxChecker(facts)
    else:
        facts = solaris.read(root, host=host, release=release, machine=machine, shell=shell, judging=True)
        checker = SolarisChecker(facts)
    checker.running_system()
    staged = _staged(root)
    record = facts.record
    in_force = record if staged is None else first_boot.record_before(staged)
    configured = tuple(sorted(in_force.abis)) if in_force else ()
    ours_named = checker.names_ours()
    if staged is not None:
        checker.staged(staged)
    if staged is not None and not configured and not ours_named:
        checker.libraries(record or Record())
        checker.exclusion_list()
        checker.service(record or Record())
    elif not configured and not ours_named:
        text = "memproxy is not installed: no runtime linker configuration names it"
        checker.add("not-installed", ERROR, root.path, text, checker.install())
    else:
        if record is None:
            text = "is missing, so what was there before install is not known any more"
            checker.add("record-missing", ERROR, RECORD_PATH, text, checker.install())
        else:
            checker.findings += access.judge(root, RECORD_PATH, "record", checker.groups)
        checker.configurations(in_force or Record())
        checker.libraries(in_force or Record())
        if staged is not None:
            checker.libraries(record or Record())
        if deep:
            checker.dependencies(record or Record())
        checker.exclusion_list()
        checker.service(record or Record())
    return Report(
        root.path, tuple(dict.fromkeys(checker.findings)), configured, facts.release, facts.machine.name, facts
    )


def _unreadable_parts(root: Root) -> list[Finding]:
    """Whatever would keep the facts from being read: each is a finding, not a failure."""
    found = []
    for path, noun in (
        (RECORD_PATH, "record"),
        (ABI32.config_path, "config"),
        (ABI64.config_path, "config"),
        (LD_SO_PRELOAD, "config"),
        (exclusions.LIST_PATH, "exclusions"),
    ):
        try:
            state = root.read(path)
            if state is not None and path == RECORD_PATH:
                decode_record(state.data)
        except HostError as error:
            found.append(_unreadable(root, path, noun, error))
    change = None
    try:
        change = changes.unfinished(root)
    except HostError as error:
        # Only root may read the journals; for others the layers are judged all the same.
        if not isinstance(error.__cause__, PermissionError):
            where = error.where or changes.CHANGES
            found.append(Finding("journal-damaged", ERROR, where, error.what, error.hint or access.aside(root, where)))
    if change is not None and change.state != changes.STAGED:
        found.append(_unfinished(root, change))
    return found


def _staged(root: Root) -> changes.Change | None:
    """The change that waits for the first boot, as far as the reader may know of it."""
    try:
        return first_boot.staged(root)
    except HostError:
        return None


def _unfinished(root: Root, change: changes.Change) -> Finding:
    text = f"change {change.number} ({change.what}), begun {change.started},"
    number = changes.at_work(root, change)
    if number is not None:
        who = f" by process {number}" if number else ""
        return Finding("change-under-way", NOTE, change.path, f"{text} is being made or taken back{who}")
    if change.state == changes.TRIAL and pending.is_guarded(root):
        return Finding("change-on-trial", NOTE, change.path, f"{text} is on trial", "memproxy-sol confirm keeps it")
    why, hint = changes.why_unfinished(change)
    return Finding("change-unfinished", ERROR, changes.CHANGES, f"{text} {why}", hint)


def _unreadable(root: Root, path: str, noun: str, error: HostError) -> Finding:
    try:
        status = root.stat(path)
    except HostError:
        status = None
    if status is not None and not stat.S_ISREG(status.st_mode):
        text = f"is {kind_of(status.st_mode)}, not a regular file"
        return Finding(f"{noun}-not-a-file", ERROR, path, text, access.aside(root, path))
    denied = isinstance(error.__cause__, PermissionError)
    if denied:
        return Finding(f"{noun}-unreadable", ERROR, path, error.what, "run memproxy-sol as root", unreadable=True)
    identifier = "record-damaged" if noun == "record" else f"{noun}-unusable"
    return Finding(identifier, ERROR, path, error.what, error.hint or access.aside(root, path))


class Checker:
    """Collects the findings on one host; what differs by the kind of host is its subclasses'."""

    dies = "every {abi} process dies of it"
    """What comes of a preload object that cannot be loaded."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.root = facts.root
        self.groups = Groups(facts.root)
        self.findings: list[Finding] = []

    def add(self, identifier: str, severity: str, where: str, text: str, hint: str = "") -> None:
        self.findings.append(Finding(identifier, severity, where, text, hint))

    def install(self, bits: int | None = None) -> str:
        """The command that brings the host back to its policy."""
        at_root = "" if self.root.is_live else f" --root {shlex.quote(self.root.path)}"
        known = self.facts.record.abis.values() if self.facts.record else ()
        prefixes = {abi.generation.rpartition("/lib/memproxy/")[0] for abi in known} - {DEFAULT_PREFIX}
        at_prefix = "".join(f" --prefix {shlex.quote(prefix)}" for prefix in sorted(prefixes)[:1])
        return f"memproxy-sol install{at_root}{at_prefix}" + (f" --bits {bits}" if bits else "")

    def names_ours(self) -> bool:
        """Whether a configuration names a generation, whatever the record says."""
        raise NotImplementedError

    def configurations(self, record: Record) -> None:
        """Judge what the runtime linkers are told."""
        raise NotImplementedError

    def libraries(self, record: Record) -> None:
        """Judge each file that the configurations have processes load, and each component on its path."""
        raise NotImplementedError

    def running_system(self) -> None:
        """What the running system says by command, where it was asked, and what it would have against a change."""

    def staged(self, change: changes.Change) -> None:
        """What waits for the first boot, and whether it can still go live."""
        text = f"change {change.number} ({change.what}), begun {change.started}, waits for the first boot"
        hint = "svcadm enable memproxy, or svcadm clear memproxy" if self.root.is_live else "boot it"
        self.add("change-staged", NOTE, change.path, f"{text}: nothing of it is in force", hint)
        for path in first_boot.outdated(self.root, change):
            text = "was changed by somebody else since, so that what is staged does not go live"
            self.add("staged-outdated", ERROR, path, text, self.install())

    def dependencies(self, record: Record) -> None:
        """Judge what the libraries need, where that may go away; nothing of it is allowed on Solaris."""

    def _library(self, abi: Abi, directory: str, name: str, record: Record, kind: int = elf_header.ET_DYN) -> None:
        path = f"{directory}/{name}"
        mend = self.install(abi.bits)
        findings = access.judge(self.root, path, "library", self.groups)
        for finding in findings:
            missing = finding.identifier == "library-missing"
            text = f"does not exist: {self.dies.format(abi=abi.name)}" if missing else finding.text
            hint = mend if missing else finding.hint
            self.add(finding.identifier, finding.severity, finding.where, text, hint)
        if any(f.identifier in ("library-missing", "library-not-a-file", "path-not-a-directory") for f in findings):
            return
        try:
            state = self.root.read(path)
        except HostError as error:
            denied = isinstance(error.__cause__, PermissionError)
            hint = "run memproxy-sol as root" if denied else mend
            self.findings.append(Finding("library-unjudged", ERROR, path, error.what, hint, unreadable=denied))
            return
        if state is None:
            return
        problem = self._wrong_object(abi, state.data, kind)
        if problem is not None:
            self.add(problem[0], ERROR, path, f"{problem[1]}: {self.dies.format(abi=abi.name)}", mend)
        elif not self._intact(directory, name, state.data, record):
            self.add("library-changed", ERROR, path, "is not the file that was installed", mend)

    def _wrong_object(self, abi: Abi, data: bytes, kind: int) -> tuple[str, str] | None:
        try:
            header = elf_header.parse(data)
        except ElfError as error:
            return "library-not-elf", error.what
        machines = {self.facts.machine.elf_machine[abi.bits]}
        if machines == {2}:
            machines.add(EM_SPARC32PLUS)
        if header.bits != abi.bits:
            return "library-wrong-class", f"is {header.bits}-bit, not {abi.name}"
        if header.machine not in machines:
            return "library-wrong-machine", f"is for ELF machine {header.machine}, not for {self.facts.machine.name}"
        if header.kind != kind:
            return "library-not-shared", f"is of ELF type {header.kind}, not a shared object"
        return None

    def _intact(self, directory: str, name: str, data: bytes, record: Record) -> bool:
        """Whether the content is what the generation was made of; its directory's name tells if no record does."""
        known = record.generations.get(directory)
        if known is not None:
            return known.get(name) == digest(data)
        digests = {}
        for member in self._members(directory):
            try:
                state = self.root.read(f"{directory}/{member}")
            except HostError:
                return False
            digests[member] = digest(state.data) if state else ""
        return generation.name_of(digests) == os.path.basename(directory)

    def _members(self, directory: str) -> tuple[str, ...]:
        found: list[str] = []
        for name in self.root.names(directory):
            status = self.root.lstat(f"{directory}/{name}")
            if status is not None and stat.S_ISDIR(status.st_mode):
                found += [f"{name}/{member}" for member in self._members(f"{directory}/{name}")]
            else:
                found.append(name)
        return tuple(found)

    def _strangers(self, directory: str, members: dict[str, str]) -> None:
        try:
            strangers = [name for name in self._members(directory) if name not in members]
        except HostError:
            return  # judged with the libraries
        if strangers:
            text = f"holds {strangers[0]}, which was not installed there; the directory is trusted by set-id programs"
            host = shlex.quote(self.root.host_path(f"{directory}/{strangers[0]}"))
            self.add("generation-foreign-file", WARNING, directory, text, f"rm {host}")

    # The exclusion list and the service.

    def exclusion_list(self) -> None:
        """Judge the exclusion list: who can read it, and each line."""
        path = exclusions.LIST_PATH
        state = self.facts.exclusion_list
        if state is None:
            text = "does not exist: no program is excluded"
            self.add("exclusions-missing", WARNING, path, text, self.install())
            return
        for finding in access.judge(self.root, path, "exclusions", self.groups):
            text = finding.text
            if finding.identifier == "exclusions-unreadable":
                text += ": in the programs of ordinary users nothing is excluded"
            self.add(finding.identifier, finding.severity, finding.where, text, finding.hint)
        lines = exclusions.parse(state.data)
        for problem in exclusion_problems.problems(lines, self._programs(), lambda name: reported(self.root, name)):
            self.findings.append(problem.finding(path))

    def _programs(self) -> set[str]:
        """The names of installed programs, as far as the usual directories can be read."""
        names: set[str] = set()
        for directory in USUAL_DIRECTORIES:
            with contextlib.suppress(HostError):
                names.update(self.root.names(directory))
        return names

    def service(self, record: Record) -> None:
        """Judge the SMF manifest and profile that were delivered."""
        for path, noun in ((self.facts.manifest_path, "manifest"), (self.facts.profile_path, "profile")):
            if path is None or path not in record.files:
                continue
            state = self.root.read(path)
            if state is None:
                text = "does not exist: nothing verifies the configuration at boot"
                self.add(f"{noun}-missing", WARNING, path, text, self.install())
            elif digest(state.data) != record.files[path]:
                self.add(f"{noun}-changed", WARNING, path, "is not the file that was installed", self.install())
        if self.facts.manifest_path in record.files:
            self._service_program()

    def _service_program(self) -> None:
        state = self.root.read(self.facts.manifest_path)
        if state is None:
            return
        try:
            program = smf_manifest.parse_manifest(state.data, self.facts.manifest_path).program
        except SmfError as error:
            self.add("manifest-damaged", WARNING, self.facts.manifest_path, str(error), self.install())
            return
        if program is None or not self.root.exists(program):
            text = "the program that the service starts is not there"
            self.add(
                "service-program-missing", NOTE, program or self.facts.manifest_path, text, "install memproxy-sol there"
            )


class SolarisChecker(Checker):
    """The findings on a Solaris host."""

    facts: SolarisFacts

    def names_ours(self) -> bool:
        """Whether a configuration file names a generation, whatever the record says."""
        files = self.facts.configs.values()
        return any(file.config is not None and entry.generations_named(file.config) for file in files)

    def running_system(self) -> None:
        """What the running system says by command, where it was asked, and what it would have against a change."""
        live, record = self.facts.live, self.facts.record
        if live is None:
            return
        for directory in sorted({known.generation for known in record.abis.values()}) if record else ():
            for finding in solaris_live.obstacles(self.root, live, directory, self.facts.written_directories):
                if finding.identifier == "read-only":
                    # What nobody can change can be as it was installed.
                    text = f"{finding.text}: nothing could be changed or taken back now"
                    finding = replace(finding, severity=NOTE, text=text)
                self.findings.append(finding)
        self.findings += live.findings

    # The configuration layer.

    def configurations(self, record: Record) -> None:
        """Judge the configuration file of each ABI."""
        for bits, file in self.facts.configs.items():
            known = record.abis.get(bits)
            if known is None:
                if file.config is None or not entry.generations_named(file.config):
                    text = "memproxy is not configured for this ABI: its programs use the system allocator"
                    self.add("abi-not-configured", NOTE, file.abi.name, text, self.install(bits))
                    continue
                known = self._guessed(file)
            self._configuration(file, known)

    def _guessed(self, file: ConfigFile) -> AbiRecord:
        """What the record would say of an ABI, as far as its configuration tells."""
        assert file.config is not None
        directory = entry.generations_named(file.config)[0]
        names = self.root.names(directory + file.abi.subdirectory)
        others = tuple(name for name in names if name not in (generation.LIBRARY, "64"))
        return AbiRecord(directory, (generation.LIBRARY, *others), False, True, (), "", None)

    def _configuration(self, file: ConfigFile, known: AbiRecord) -> None:
        abi, path = file.abi, file.abi.config_path
        mend = self.install(abi.bits)
        if file.state is None:
            self.add("config-missing", ERROR, path, f"does not exist: {abi.name} programs do without memproxy", mend)
            return
        for finding in access.judge(self.root, path, "config", self.groups):
            self.findings.append(finding)
        if file.verdict != "accepted" or file.config is None:
            names = {
                "corrupt": "config-corrupt",
                "crash": "config-corrupt",
                "abi mismatch": "config-wrong-abi",
                "bad version": "config-version",
                "ignored flag": "config-ignored",
            }
            reason = file.problem or file.verdict
            if file.verdict == "crash":
                text = f"every {abi.name} process dies of it: {reason}"
            elif file.verdict == "accepted":
                text = f"is damaged, though the runtime linker still takes it: {reason}"
            else:
                text = f"the runtime linker does not use it ({reason}): {abi.name} programs do without memproxy"
            hint = access.aside(self.root, path)
            self.add(names.get(file.verdict, "config-corrupt"), ERROR, path, text, hint)
            return
        before = len(self.findings)
        self._preloads(file, known, mend)
        self._trust(file, known, mend)
        self._search_path(file, known, mend)
        if len(self.findings) == before and known.written and digest(file.state.data) != known.written:
            text = "was changed since install, though memproxy's part of it is right"
            self.add("config-changed", NOTE, path, text, "nothing needs to be done")

    def _preloads(self, file: ConfigFile, known: AbiRecord, mend: str) -> None:
        abi, path = file.abi, file.abi.config_path
        assert file.state is not None
        assert file.config is not None
        effective = preloads.effective(file.state.data, self.facts.layout(abi))
        names = [item.name for item in effective.preloads]
        wanted = [f"{known.generation}{abi.subdirectory}/{name}" for name in known.files]
        stored = [
            item
            for variable in file.config.environment or ()
            if variable.name in ("LD_PRELOAD", abi.preload_variable)
            for item in entry.split_items(variable.value or "")
        ]
        missing = [item for item in wanted if item not in names]
        if missing and all(item in stored for item in missing):
            text = f"another definition of {abi.preload_variable} displaces the entry of {os.path.basename(missing[0])}"
            self.add("preload-displaced", ERROR, path, text, mend)
        elif missing:
            text = f"the preload entry of {missing[0]} is gone"
            self.add("preload-missing", ERROR, path, text, mend)
        else:
            places = [names.index(item) for item in wanted]
            if places != list(range(places[0], places[0] + len(places))):
                text = "the allocator does not stand right behind libmemproxy in the list of preloads"
                self.add("preload-order", ERROR, path, text, mend)
            self._kind(file, known, wanted[0], mend)
            alone = preloads.effective(entry.taken_out(file.config, abi, known), self.facts.layout(abi))
            displaced = [item.name for item in alone.preloads if item.name not in names]
            if displaced:
                text = f"LD_PRELOAD names {displaced[0]}, which is not loaded: the entry of memproxy displaces it"
                self.add("preload-others-displaced", WARNING, path, text, mend)
        strangers = [name for name in names if entry.is_ours(name) and name not in wanted]
        if strangers:
            text = f"also preloads {strangers[0]}, of another generation"
            self.add("preload-foreign-generation", ERROR, path, text, mend)
        for name in names:
            if not entry.is_ours(name):
                self._others_item(file, name, effective.library_path)

    def _kind(self, file: ConfigFile, known: AbiRecord, item: str, mend: str) -> None:
        assert file.config is not None
        for variable in file.config.environment or ():
            if item in entry.split_items(variable.value or "") and variable.permanent == known.replaceable:
                now = "permanent" if variable.permanent else "replaceable"
                text = f"the preload entry is {now}, but was installed the other way"
                self.add("preload-kind", WARNING, file.abi.config_path, text, mend)

    def _others_item(self, file: ConfigFile, name: str, library_path: tuple[str, ...]) -> None:
        candidates = [name] if "/" in name else [f"{directory}/{name}" for directory in library_path]
        path = file.abi.config_path
        if not any(self.root.exists(candidate) for candidate in candidates):
            text = f"preloads {name}, which does not exist: every {file.abi.name} process dies of it"
            hint = (
                f"put it there, or take it out of {shlex.quote(self.root.host_path(path))} (decode it: ldconfig show)"
            )
            self.add("preload-object-missing", ERROR, path, text, hint)

    def _trust(self, file: ConfigFile, known: AbiRecord, mend: str) -> None:
        assert file.config is not None
        directory = known.generation + file.abi.subdirectory
        trusted = file.config.trusted_directories
        if known.trusted and directory not in (trusted or ()):
            text = f"does not trust {directory}: set-id programs print a warning and do without memproxy"
            self.add("directory-not-trusted", ERROR, file.abi.config_path, text, mend)
        lost = [d for d in file.abi.default_trusted_directories if trusted is not None and d not in trusted]
        if lost:
            text = f"does not trust {lost[0]}, which the system trusts by default"
            self.add("trusted-default-missing", NOTE, file.abi.config_path, text)

    def _search_path(self, file: ConfigFile, known: AbiRecord, mend: str) -> None:
        assert file.config is not None
        present = file.config.library_path
        gone = [directory for directory in known.library_path if directory not in (present or ())]
        if gone:
            text = f"does not search {gone[0]}, which the policy asks for"
            self.add("library-path-missing", ERROR, file.abi.config_path, text, mend)

    # The library layer.

    def libraries(self, record: Record) -> None:
        """Judge each file that the configurations have processes load, and each component on its path."""
        for bits, file in self.facts.configs.items():
            known = record.abis.get(bits)
            if known is None:
                if file.config is None or not entry.generations_named(file.config):
                    continue
                known = self._guessed(file)
            for name in known.files:
                self._library(file.abi, known.generation, generation.member_name(bits, name), record)
        for directory in sorted({known.generation for known in record.abis.values()}):
            mount = self.facts.mounted_later(directory)
            if mount is not None:
                text = f"lies on {mount}, a file system of its own, which is not mounted when the first processes start"
                self.add(
                    "prefix-not-on-root",
                    ERROR,
                    directory,
                    text,
                    f"{self.install()} with a prefix on the root file system",
                )
        for directory, members in record.generations.items():
            if any(known.generation == directory for known in record.abis.values()):
                self._strangers(directory, members)

"""Candidate: the runtime linker configurations that a plan is about to put into force, ready to be tried.

On a live host crle writes them, as siblings of nothing: in RUN_DIRECTORY, which no process reads unasked and no boot
survives. The trial tries these files, and `with_candidates` makes the plan put exactly their bytes into force.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace

from memproxy_sol import files, record
from memproxy_sol.abi import ABIS, CONFIGURATIONS, LD_SO_PRELOAD
from memproxy_sol.commands import Shell
from memproxy_sol.crle import MODE, Crle
from memproxy_sol.errors import CrleOptionsError, HostError
from memproxy_sol.findings import NOTE, Finding
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.hosts.solaris_live import crle_missing
from memproxy_sol.ld_config import LdConfig
from memproxy_sol.plan import Plan
from memproxy_sol.record import RECORD_PATH, RUN_DIRECTORY, digest
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import ReplaceFile, Step

CANDIDATE_DIRECTORY = f"{RUN_DIRECTORY}/candidate"
"""Where candidates lie: `ld.config.32` and `ld.config.64`, or `etc/ld.so.preload`."""


@dataclass(frozen=True)
class Candidate:
    """One configuration file that is to go live."""

    target: str
    """The configuration file."""
    bits: tuple[int, ...]
    """The ABIs that read it."""
    path: str
    """Where it lies: what is tried."""
    data: bytes
    writer: str
    """Who wrote it: `crle` or `memproxy-sol`."""
    findings: tuple[Finding, ...] = ()
    """Why crle did not write it."""


def candidate_path(path: str) -> str:
    """Where the candidate for the configuration file `path` lies; that of the file which serves all ABIs has its name,
    in a directory that can be laid over the file's own."""
    bits = CONFIGURATIONS[path]
    return f"{CANDIDATE_DIRECTORY}{path}" if len(bits) > 1 else f"{CANDIDATE_DIRECTORY}/ld.config.{bits[0]}"


def candidates(shell: Shell, plan: Plan) -> dict[str, Candidate]:
    """Write a candidate for each configuration that the plan replaces; by the configuration's path.

    crle writes, unless the plan's own bytes are wanted; where the host has none, or where it has no options for the
    value, our encoder does, and a finding says so. What crle cleans out of a list of directories depends on which
    of them exist, so the plan's generation should be in its place already. Raises CrleError if crle fails or writes
    something else than it was told, and CommandError if it cannot be run: nothing of the live files was touched
    then. HostError if there is no directory to write in.
    """
    root = plan.facts.root
    crle = Crle(shell, root, plan.facts.release)
    uses_crle = isinstance(plan.facts, SolarisFacts) and not plan.exact
    made: dict[str, Candidate] = {}
    _directory(root, RUN_DIRECTORY)
    _directory(root, CANDIDATE_DIRECTORY)
    if isinstance(plan.facts, LinuxFacts):
        _directory(root, os.path.dirname(candidate_path(LD_SO_PRELOAD)))
    replaced = {step.path: step.after for step in plan.steps if isinstance(step, ReplaceFile)}
    for change in plan.changes:
        after = replaced.get(change.path)
        path = candidate_path(change.path)
        if after is None or change.after is None:
            files.remove(root, path)  # of another plan
            continue
        refusal = None if crle.present or not uses_crle else crle_missing()
        if refusal is None and uses_crle and isinstance(change.after, LdConfig):
            try:
                data = crle.write(ABIS[change.bits[0]], change.after, path)
                made[change.path] = Candidate(change.path, change.bits, path, data, "crle")
                continue
            except CrleOptionsError as error:
                text = f"{error.what}, so memproxy-sol writes it itself"
                refusal = Finding("crle-not-used", NOTE, change.path, text)
        mode = MODE if isinstance(plan.facts, SolarisFacts) else after.mode
        files.put(root, path, FileState(after.data, mode, os.geteuid(), os.getegid()))
        refusals = () if refusal is None else (refusal,)
        made[change.path] = Candidate(change.path, change.bits, path, after.data, "memproxy-sol", refusals)
    return made


def with_candidates(plan: Plan, made: Mapping[str, Candidate]) -> Plan:
    """The plan with the candidates' bytes as what goes live, in the configurations' steps and in the record.

    A step that turns out to change nothing is left out, so that a second install changes nothing either where
    crle's bytes are not our encoder's.
    """
    written = {path: candidate.data for path, candidate in made.items()}
    planned = {s.path: digest(s.after.data) for s in plan.steps if isinstance(s, ReplaceFile) and s.after is not None}
    steps: list[Step] = []
    for step in plan.steps:
        if isinstance(step, ReplaceFile) and step.after is not None:
            data = step.after.data
            if step.path == RECORD_PATH:
                data = _record(data, made, planned)
            step = replace(step, after=replace(step.after, data=written.get(step.path, data)))
            if step.before == step.after:
                continue
        steps.append(step)
    notes = (finding for candidate in made.values() for finding in candidate.findings)
    return replace(plan, steps=tuple(steps), findings=tuple(dict.fromkeys((*plan.findings, *notes))))


def discard(root: Root) -> None:
    """Remove the candidates and their directory, if they are there."""
    for path in CONFIGURATIONS:
        files.remove(root, candidate_path(path))
    files.remove_empty(root, (os.path.dirname(candidate_path(LD_SO_PRELOAD)), CANDIDATE_DIRECTORY))


def _record(data: bytes, made: Mapping[str, Candidate], planned: Mapping[str, str]) -> bytes:
    """The record with the digests of what crle made in the place of the planned; a rollback may return to a file that
    others had changed, which is not what the record says was written."""
    known = record.decode(data)
    abis = dict(known.abis)
    for path, candidate in made.items():
        for bits in candidate.bits:
            if bits in abis and abis[bits].written == planned.get(path):
                abis[bits] = replace(abis[bits], written=digest(candidate.data))
    return record.encode(replace(known, abis=abis))


def _directory(root: Root, path: str) -> None:
    """Make `path` a directory that every user can pass and only root can change."""
    try:
        status = root.lstat(path)
        if status is None:
            files.make_directory(root, path, 0o755)
            return
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise HostError("is not a directory of root's", where=path, hint="remove it, and try again")
        if stat.S_IMODE(status.st_mode) != 0o755:
            os.chmod(root.host_path(path), 0o755)
    except OSError as error:
        raise HostError(f"cannot be made: {error.strerror}", where=path) from error

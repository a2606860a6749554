"""Verify of a live host: what verify.py says of its files, and its third layer, the processes; its zones only named.

Another zone has a configuration of its own. It is read, as an image, when it is asked for by name, and never written.
Standard library and own modules only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from memproxy_sol import live_probe, process_findings, processes, zones
from memproxy_sol import verify as verification
from memproxy_sol.commands import Shell
from memproxy_sol.errors import HostError
from memproxy_sol.findings import NOTE, WARNING, Finding
from memproxy_sol.generation import LIBRARY
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.process import Process
from memproxy_sol.root import Root
from memproxy_sol.verify import Report


@dataclass(frozen=True)
class ZoneReport:
    """What is seen of another zone from outside."""

    name: str
    state: str
    """As the index has it."""
    root: str
    processes: int
    """How many processes it has; 0 for a zone that does not run."""
    loaded: int
    """In how many of them a libmemproxy is, whatever its configuration."""

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class LiveReport(Report):
    """All three layers."""

    zone: str = ""
    """The zone that was asked about; empty for the one that this process runs in."""
    processes: tuple[Process, ...] | None = None
    """None where there is no /proc."""
    zones: tuple[ZoneReport, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `verify --json` prints of a live host."""
        return {
            **super().to_json(),
            "zone": self.zone,
            "processes": None if self.processes is None else processes.to_json(self.processes),
            "zones": [zone.to_json() for zone in self.zones],
        }


def verify(
    root: Root,
    *,
    zone: str | None = None,
    host: str | None = None,
    release: str | None = None,
    machine: str | None = None,
    shell: Shell | None = None,
    proc: str | None = None,
    kernel: str | None = None,
) -> LiveReport:
    """Judge the live host below `root`, or its zone `zone`; raises HostError as `verify.verify` and for no such zone.

    `shell` is that of `verify.verify`, and not used for another zone; `proc` and `kernel` are those of
    `processes.look`.
    """
    target = root if zone is None else Root(root.host_path(zones.find(root, zone).root))
    asked = shell if target.is_live else None
    files = verification.verify(target, host=host, release=release, machine=machine, shell=asked, deep=True)
    if isinstance(files.facts, LinuxFacts) and not files.errors and root.path == "/":
        # What its files do not tell: a library of the system that ours need, and that is not what it was.
        files = replace(files, findings=(*files.findings, *live_probe.findings(root, files.abis)))
    try:
        known = zones.read(root)
    except HostError as error:
        known = ()
        text = f"the zones are not known: {error.what}"
        files = replace(files, findings=(*files.findings, Finding("zones-unreadable", WARNING, zones.INDEX, text)))
    names = {one.root: one.name for one in known}
    expected = processes.configured(files.facts) if files.facts else {}
    values = {name: getattr(files, name) for name in Report.__dataclass_fields__}
    try:
        found = processes.look(root, expected, proc=proc, kernel=kernel, zones=names, zone=zone or "")
    except HostError as error:
        text = f"no process could be looked at: {error.what}"
        values["findings"] += (Finding("processes-unlisted", WARNING, error.where or "/proc", text, error.hint or ""),)
        return LiveReport(**values, zone=zone or "")
    reports = tuple(_of_zone(one, found) for one in known) if zone is None else ()
    if expected:
        record = files.facts.record if files.facts else None
        abis = record.abis.items() if record else ()
        allocators = [bits for bits, abi in abis if any(name != LIBRARY for name in abi.files)]
        values["findings"] += tuple(process_findings.judge(found, allocators))
    running = [report for report in reports if report.processes]
    if running:
        names_of = ", ".join(report.name for report in running)
        text = f"{names_of}: each zone has a configuration of its own, which was not judged"
        hint = f"memproxy-sol verify --zone {running[0].name}"
        values["findings"] += (Finding("zones-not-judged", NOTE, zones.INDEX, text, hint),)
    return LiveReport(**values, zone=zone or "", processes=found, zones=reports)


def _of_zone(zone: zones.Zone, found: tuple[Process, ...]) -> ZoneReport:
    inside = [process for process in found if process.zone == zone.name]
    loaded = sum(process.record is not None or bool(process.library) for process in inside)
    return ZoneReport(zone.name, zone.state, zone.root, len(inside), loaded)

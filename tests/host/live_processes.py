"""The processes of a laboratory as files of its /proc, so that what reads them sees what the laboratory runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from tests.host.laboratory import Process, proxy
from tests.host.live import Live
from tests.solaris_proc import SolarisProc, record

ROUTES = ("system", "custom")
LATER = 1e7
"""Seconds after the newest configuration file: when a process started of which nobody says when."""


def draw(live: Live, started: Mapping[int, float] | None = None, bits: int = 64) -> SolarisProc:
    """Write the laboratory's /proc anew; `started` is relative to the newest configuration, by process number."""
    proc = live.lab.top / "proc"
    shutil.rmtree(proc, ignore_errors=True)
    drawn = SolarisProc(proc, bits)
    drawn.add(0, "sched", size=0)
    configs = [live.lab.top / "var/ld/ld.config", live.lab.top / "var/ld/64/ld.config"]
    newest = max((path.stat().st_ctime for path in configs if path.exists()), default=0.0)
    for pid, process in live.lab.processes.items():
        _add(live, drawn, process, newest + (started or {}).get(pid, LATER))
    return drawn


def _add(live: Live, drawn: SolarisProc, process: Process, started: float) -> None:
    libraries = [path for path in process.objects if path.endswith("/libmemproxy.so")]
    decision = proxy.decide(process.started.loaded, process.environment, exclusions(live), secure=process.secure)
    what = None
    if decision is not None:
        reason = 4 if decision.reason.startswith("no custom") else 3 if "MEMPROXY_ROUTE" in decision.reason else 1
        line = 0
        if decision.reason.startswith("line "):
            reason, line = 2, int(decision.reason.split()[1])
        what = record(ROUTES.index(decision.route), reason, line, decision.served_by.encode())
    drawn.add(
        process.pid,
        process.path.rpartition("/")[2],
        bits=process.bits,
        program=process.path,
        objects=[path for path in process.objects[1:] if path not in libraries],
        library=libraries[0] if libraries else None,
        library_record=what,
        environment=[f"{name}={value}" for name, value in process.environment.items()],
        started=started,
        ids=(process.uid, 0 if process.secure else process.uid, 0, 0),
        auxflags=int(process.secure),
    )


def exclusions(live: Live) -> bytes | None:
    path = live.lab.top / "etc/memproxy.conf"
    return path.read_bytes() if path.exists() else None

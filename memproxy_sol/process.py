"""Process: one live process of a host as plain values: what was seen of it, and what that means for memproxy.

Standard library and own modules only: `verify` reads it with nothing else imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memproxy_sol.route_record import RouteRecord

LOADED = "loaded"
STATES = {
    LOADED: "libmemproxy is in it",
    "earlier": "it, or the process that forked it, started before the configuration took effect",
    "boot": "it started before the configuration's file system was mounted",
    "kernel": "it belongs to the kernel and has no program",
    "zombie": "it has ended and waits for its parent",
    "static": "it is linked statically, so no runtime linker is in it",
    "foreign": "it runs with a runtime linker that does not read this configuration",
    "not-configured": "memproxy is not configured for its ABI",
    "own-preload": "its own environment displaces the preload list",
    "no-config": "its own environment keeps the runtime linker from the configuration",
    "own-config": "its own environment names another configuration",
    "set-id": "it is a set-id process, and the directory is not trusted",
    "other-zone": "it runs in another zone (or container), which has a configuration of its own",
    "unreadable": "it could not be looked at",
    "gone": "it ended while it was looked at",
    "unexplained": "nothing that was seen says why",
}
"""The word for what is the matter with a process, and its meaning; all but the first are reasons for the absence."""

EXPECTED = frozenset({"kernel", "zombie", "static", "foreign", "not-configured", "other-zone", "gone"})
"""States that no restart would change, and that nobody has to be told of one by one."""


@dataclass(frozen=True)
class Seen:
    """What /proc tells of one process, before anything is made of it. None and "" are: not known."""

    pid: int
    state: str = ""
    """`kernel`, `zombie`, `gone` or `unreadable` where nothing more can be seen, else empty."""
    detail: str = ""
    """Why it could not be looked at."""
    name: str = ""
    """As the kernel cuts it (15 bytes)."""
    program: str = ""
    """Path of the executable, as a process outside its zone sees it."""
    bits: int | None = None
    uid: int | None = None
    started: float | None = None
    """Seconds since the epoch."""
    relatives: tuple[int, ...] = ()
    """Its parent, the leader of its group, the leader of its session."""
    linker: str = ""
    """Path of the runtime linker that is mapped; empty where there is none, as in a statically linked program."""
    library: str | None = None
    """Path of the libmemproxy.so that is mapped; empty where it is mapped and its file has no name any more."""
    record: RouteRecord | None = None
    secure: bool = False
    environment: tuple[str, ...] = ()
    """The texts `LD_…` and `MEMPROXY_…` of its initial environment, in its order."""
    zone: str = ""
    """Number of another zone, or name of another mount namespace; empty in that of this process."""
    root: str = ""
    """Its root directory, where it is not `/`."""


@dataclass(frozen=True)
class Process:
    """What one live process means for memproxy."""

    pid: int
    name: str
    program: str
    bits: int | None
    uid: int | None
    started: float | None
    """Seconds since the epoch."""
    zone: str
    """Name (or number) of another zone; empty in the one that was asked about."""
    state: str
    """One of STATES."""
    detail: str = ""
    """What makes the state so: the variable, the error."""
    library: str = ""
    """The libmemproxy.so that is mapped; empty where it is mapped and its file has no name any more."""
    current: bool = False
    """Whether that is the library of the generation that is configured now."""
    record: RouteRecord | None = None
    """What its libmemproxy says of itself."""

    @property
    def route(self) -> str:
        """`custom`, `system`, or `undecided`; empty without libmemproxy or its record."""
        return "" if self.record is None else self.record.route or "undecided"

    def to_json(self) -> dict[str, Any]:
        """The process as `verify --json` prints it."""
        record = self.record
        return {
            "pid": self.pid,
            "name": self.name,
            "program": self.program,
            "bits": self.bits,
            "uid": self.uid,
            "started": self.started,
            "zone": self.zone,
            "state": self.state,
            "detail": self.detail,
            "library": self.library,
            "current": self.current,
            "route": self.route,
            "reason": record.reason if record else "",
            "line": record.line if record else 0,
            "allocator": record.allocator if record else "",
        }

"""Processes: every live process of a host: whether libmemproxy is in it, why not, and which route it took.

`look` reads /proc (process_solaris.py, process_linux.py), then says of each process what it means. It neither stops
nor attaches to anything, and whatever ends, changes or may not be read meanwhile is a state, not a failure.

Why a process is without the library is decided in this order: what lasts (statically linked, its own environment,
set-id) comes before what the next start mends (it is older than the configuration).
Standard library and own modules only.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memproxy_sol import entry, ld_so_preload, preloads, process_linux, process_solaris
from memproxy_sol.abi import ABIS, LD_SO_PRELOAD
from memproxy_sol.errors import HostError, LdConfigError
from memproxy_sol.generation import LIBRARY
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.ld_config import Layout
from memproxy_sol.process import LOADED, Process, Seen
from memproxy_sol.root import Root

SOLARIS = "SunOS"
LINUX = "Linux"


@dataclass(frozen=True)
class Configured:
    """What a process of one ABI, if it starts now, gets."""

    library: str
    """Path of libmemproxy.so."""
    since: float
    """When the configuration file came to be where it is, in seconds since the epoch."""
    late: bool = False
    """Whether the file or the library lies on a file system that is not there when the first processes start."""
    data: bytes | None = None
    """The configuration file; None where it is none of Solaris'."""
    layout: Layout | None = None
    roots: bool = False
    """Whether it is for root's processes alone."""


def configured(facts: Facts) -> dict[int, Configured]:
    """By ABI, what the configuration files of a host give to processes; ABIs without ours are missing.

    The time is that of the last change of the file's inode, which rename(2) sets. Whoever touches the file later
    moves it; that hides nothing but the reason of a process that is without the library already.
    """
    if isinstance(facts, LinuxFacts):
        return _configured_linux(facts)
    found: dict[int, Configured] = {}
    if not isinstance(facts, SolarisFacts):
        return found
    for bits, file in facts.configs.items():
        if file.state is None or file.config is None or file.verdict != "accepted":
            continue
        known = facts.record.abis.get(bits) if facts.record else None
        directories = (known.generation,) if known else entry.generations_named(file.config)
        path = file.abi.config_path
        times = [status.st_ctime for status in (facts.root.lstat(path), facts.root.stat(path)) if status is not None]
        if not directories or not times:
            continue
        library = f"{directories[0]}{file.abi.subdirectory}/{LIBRARY}"
        try:
            in_force = preloads.effective(file.state.data, facts.layout(file.abi)).tried
        except LdConfigError:
            continue
        if library not in in_force:
            continue
        late = _mounted_late(facts, os.path.dirname(path)) or _mounted_late(facts, directories[0])
        found[bits] = Configured(library, max(times), late, file.state.data, facts.layout(file.abi))
    return found


def _configured_linux(facts: LinuxFacts) -> dict[int, Configured]:
    ours = [item for item in facts.preload.items if ld_so_preload.is_ours(item) and item.endswith(f"/{LIBRARY}")]
    paths = (facts.root.lstat(LD_SO_PRELOAD), facts.root.stat(LD_SO_PRELOAD))
    times = [status.st_ctime for status in paths if status is not None]
    found = {}
    here = [abi.bits for abi in facts.abis]
    for bits in [bits for bits in here if facts.record is None or bits in facts.record.abis]:
        library = ld_so_preload.expand(ours[0], facts.loader(bits).lib, None, "") if ours and times else None
        if library is not None:
            late = facts.mounted_later(os.path.dirname(library)) is not None
            state = facts.preload.state
            roots = state is not None and not state.mode & 0o004
            found[bits] = Configured(library, max(times), late, roots=roots)
    return found


def _mounted_late(facts: SolarisFacts, directory: str) -> bool:
    """Whether `directory` is not there yet when the very first process starts."""
    if facts.live is None or not facts.live.mounts:
        return facts.mounted_later(directory) is not None
    # LiveFacts.mounted_later goes by the first process that reads the configuration, which is another question.
    mount = facts.live.mount_over(facts.root.resolve(directory))
    return mount is not None and mount.point != "/" and mount.kind != "lofs"


def look(
    root: Root,
    expected: Mapping[int, Configured],
    *,
    proc: str | None = None,
    kernel: str | None = None,
    zones: Mapping[str, str] | None = None,
    zone: str = "",
) -> tuple[Process, ...]:
    """All processes of the host, ascending by number.

    `expected` is what each ABI is configured to get. `proc` is a directory of this machine, the root's `/proc` if it
    is not given; `kernel` is SOLARIS or LINUX, if not given this machine's for `/` and Solaris for any other tree.
    `zones` maps the root directories of zones to their names; `zone` is the one that is asked about, empty for the
    one that this process is in. HostError if there is no /proc.
    """
    reader, directory = _reader(root, proc, kernel)
    try:
        seen = {one.pid: one for one in reader(directory)}
    except OSError as error:
        text = f"cannot be listed: {error.strerror}"
        raise HostError(text, where=directory, hint="mount the process file system there") from error
    return tuple(_Judge(seen, expected, zones or {}, zone).all())


def processes_that_map(
    root: Root, directory: str, *, proc: str | None = None, kernel: str = SOLARIS
) -> tuple[int, ...] | None:
    """Other processes that map a file below the target's `directory`, ascending; None if it cannot be told.

    This one does not count: what it has mapped stays while it lives, and it starts nothing with it.

    `kernel` is the target's. Another kernel runs none of its programs, so there the answer is: none. On its own an
    image may be the root of a running zone, container or chroot.
    """
    if os.uname().sysname != kernel and not root.is_live:
        return ()
    maps_file_below = process_linux.maps_file_below if kernel == LINUX else process_solaris.maps_file_below
    place = proc or (root.host_path("/proc") if root.is_live else "/proc")
    prefix = (directory if root.is_live else root.host_path(directory)) + "/"
    users = []
    try:
        numbers = sorted(int(name) for name in os.listdir(place) if name.isascii() and name.isdigit())
        for pid in numbers:
            try:
                if pid != os.getpid() and maps_file_below(place, pid, prefix):
                    users.append(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile, or belongs to the kernel
    except OSError:
        return None
    return tuple(users)


def counts(processes: Iterable[Process]) -> dict[str, dict[str, int]]:
    """How many processes there are by state, by route, and by ABI and route, most frequent first."""
    found = tuple(processes)
    return {
        "states": dict(Counter(process.state for process in found).most_common()),
        "routes": dict(Counter(process.route for process in found if process.route).most_common()),
        "abis": dict(sorted(Counter(f"{process.bits}" for process in found if process.state == LOADED).items())),
    }


def groups(processes: Iterable[Process]) -> dict[tuple[str, str, str], list[Process]]:
    """The processes by state, ABI and route (the latter two empty where there is none), the largest group first."""
    found: dict[tuple[str, str, str], list[Process]] = {}
    for process in processes:
        route = process.route if process.state == LOADED else ""
        found.setdefault((process.state, str(process.bits or ""), route), []).append(process)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def to_json(processes: Iterable[Process]) -> dict[str, Any]:
    """The `processes` of `verify --json`."""
    found = tuple(processes)
    return {**counts(found), "total": len(found), "list": [process.to_json() for process in found]}


def _reader(root: Root, proc: str | None, kernel: str | None) -> tuple[Callable[[str], Iterator[Seen]], str]:
    if kernel is None:
        kernel = os.uname().sysname if root.path == "/" else SOLARIS
    directory = proc or root.host_path("/proc")
    return (process_linux.processes if kernel == LINUX else process_solaris.processes), directory


class _Judge:
    """Says of each process that was seen what it means."""

    def __init__(
        self, seen: Mapping[int, Seen], expected: Mapping[int, Configured], zones: Mapping[str, str], zone: str
    ) -> None:
        self._seen, self._expected, self._zones, self._zone = seen, expected, zones, zone
        self._first: dict[int | None, float] = {}
        for one in seen.values():
            if one.library is not None and one.started is not None:
                self._first[one.bits] = min(one.started, self._first.get(one.bits, one.started))

    def all(self) -> Iterator[Process]:
        for one in self._seen.values():
            zone = self._zone_of(one)
            state, detail = self._state(one, zone)
            configuration = self._expected.get(one.bits or 0)
            yield Process(
                pid=one.pid,
                name=one.name,
                program=one.program,
                bits=one.bits,
                uid=one.uid,
                started=one.started,
                zone=zone,
                state=state,
                detail=detail or one.detail,
                library=one.library or "",
                current=bool(configuration and one.library and self._inside(one) == configuration.library),
                record=one.record,
            )

    def _zone_of(self, one: Seen) -> str:
        """Empty for the zone that is asked about, else the name of another, or its number."""
        name = self._zones.get(one.root, one.zone) if one.zone else ""
        if not self._zone:
            return name
        return "" if name == self._zone else name or "global"

    def _inside(self, one: Seen) -> str:
        """The path of its libmemproxy.so as the zone sees it that is asked about."""
        library = one.library or ""
        if self._zone and one.root and library.startswith(f"{one.root}/"):
            return library[len(one.root) :]
        return library

    def _state(self, one: Seen, zone: str) -> tuple[str, str]:
        if one.state in ("kernel", "zombie", "gone"):
            return one.state, ""
        if zone:
            return "other-zone", zone
        if one.state:
            return one.state, one.detail
        configuration = self._expected.get(one.bits or 0)
        # On Linux an object with nothing in it lies where an ABI gets no library.
        if one.library is not None and (one.record is not None or configuration is not None):
            return LOADED, ""
        if not one.linker:
            return "static", ""
        if os.path.basename(one.linker).startswith("ld-musl"):
            return "foreign", one.linker
        if configuration is None:
            return "not-configured", ""
        if configuration.roots and one.uid not in (0, None):
            return "not-configured", "the list is for root's processes alone"
        own = _own_reason(one, configuration)
        if own is not None:
            return own
        return self._age(one, configuration) or ("unexplained", "")

    def _age(self, one: Seen, configuration: Configured) -> tuple[str, str] | None:
        """Whether it, or a process that it was forked from, is too old to have the library."""
        candidates = [one, *(self._seen[pid] for pid in one.relatives if pid in self._seen and pid != one.pid)]
        for candidate in candidates:
            # A child that has not called exec runs its parent's program, without what its parent is without.
            if candidate.library is not None or (candidate.program, candidate.name) != (one.program, one.name):
                continue
            if candidate.started is None:
                continue
            who = "" if candidate is one else f"forked by process {candidate.pid}"
            if candidate.started <= configuration.since:
                return "earlier", who
            if configuration.late and candidate.started < self._first.get(one.bits, 0.0):
                return "boot", who
        return None


def _own_reason(one: Seen, configuration: Configured) -> tuple[str, str] | None:
    """What of the process itself keeps the library out, as ld.so.1 goes by (preloads.py)."""
    if configuration.data is None or configuration.layout is None:
        return None
    abi = ABIS[configuration.layout.bits]
    names = [text.partition("=")[0] for text in one.environment]

    def named(*variables: str) -> str:
        wanted = {variable for name in variables for variable in (name, abi.suffixed(name))}
        return ", ".join(dict.fromkeys(name for name in names if name in wanted))

    config = named("LD_CONFIG")
    if config and not one.secure:
        return "own-config", config
    effect = preloads.effective(configuration.data, configuration.layout, one.environment, one.secure)
    if effect.result == preloads.NOT_READ or "LD_NOENVCONFIG" in effect.switches:
        return "no-config", named("LD_NOCONFIG", "LD_NOENVCONFIG", "LD_FLAGS")
    if configuration.library in effect.tried:
        return None
    if any(item.name == configuration.library and item.verdict == preloads.REFUSED for item in effect.preloads):
        return "set-id", os.path.dirname(configuration.library)
    return "own-preload", named("LD_PRELOAD", "LD_FLAGS")

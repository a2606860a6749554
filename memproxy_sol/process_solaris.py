"""Solaris' /proc: what it tells of each process, read from the structures of the process file system.

/proc/PID holds binary structures in the data model of whoever reads them: `psinfo` (world-readable), `map`, `auxv`
and `as` (the owner's and root's), and `path/`, with a link for each mapped object. A structure of another size than
those known here, or one that does not name its own process, is not interpreted: the process is `unreadable`.

Sources: proc(5) (proc(4) on older releases) and <sys/procfs.h>, <sys/auxv.h> of illumos for sizes and offsets;
docs/status.md says what has not been seen on a running system.
Standard library and own modules only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from memproxy_sol import route_record
from memproxy_sol.process import Seen
from memproxy_sol.route_record import LIBRARY, RouteRecord

_PSINFO = {
    416: (64, "6i4I5Q2H4x2q32x16s80s2i2QB3x6i4x128x"),
    336: (32, "6i4I5I2H2i16x16s80s2i2IB3x6i4x104x"),
}
"""By size: the reader's data model and the layout of psinfo_t."""
_MAP = {64: "QQ64sq4i", 32: "II64sq4i"}
_AUXV = {64: "i4xQ", 32: "iI"}
_POINTER = {64: "Q", 32: "I"}
_ILP32, _LP64 = 1, 2
_WRITE, _SHARED = 0x02, 0x08
_AT_SUN_AUXFLAGS, _AF_SUN_SETUGID = 2017, 0x1

# Far above what a sound process has.
_MOST_MAPS = 1 << 24
_MOST_BYTES = 1 << 18
_MOST_VARIABLES = 1 << 14
_MOST_NAMELESS = 64


@dataclass(frozen=True)
class Psinfo:
    """The fields of psinfo_t that are used."""

    model: int
    """Data model of the reader, in bits."""
    order: str
    """Byte order, as in the module struct."""
    threads: int
    pid: int
    ppid: int
    pgid: int
    sid: int
    uid: int
    euid: int
    gid: int
    egid: int
    size: int
    """Of the process image, in KiB; 0 for a process of the kernel."""
    started: float
    name: str
    envp: int
    bits: int | None
    """Data model of the process."""
    zone: int


def parse_psinfo(data: bytes, pid: int) -> Psinfo | None:
    """The psinfo of process `pid` in `data`; None for an unknown size or a structure that names another process."""
    if len(data) not in _PSINFO:
        return None
    model, layout = _PSINFO[len(data)]
    orders = "<>" if sys.byteorder == "little" else "><"
    order = next((order for order in orders if struct.unpack_from(order + "i", data, 8)[0] == pid), None)
    if order is None:
        return None
    value = struct.unpack(order + layout, data)
    name = value[19].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    bits = {_ILP32: 32, _LP64: 64}.get(value[25])
    started = value[17] + value[18] / 1e9
    _, threads, _, ppid, pgid, sid, uid, euid, gid, egid = value[:10]
    size, envp, zone = value[11], value[24], value[30]
    return Psinfo(
        model, order, threads, pid, ppid, pgid, sid, uid, euid, gid, egid, size, started, name, envp, bits, zone
    )


def processes(directory: str) -> Iterator[Seen]:
    """All processes below `directory` (`/proc`), ascending by number. OSError if it cannot be listed."""
    numbers = sorted(int(name) for name in os.listdir(directory) if name.isascii() and name.isdigit())
    zone = _own_zone(directory)
    for pid in numbers:
        yield _process(f"{directory}/{pid}", pid, zone)


def maps_file_below(directory: str, pid: int, prefix: str) -> bool:
    """Whether process `pid` has a file whose path begins with `prefix` mapped; OSError if it cannot be told."""
    links = f"{directory}/{pid}/path"
    for name in os.listdir(links):
        with contextlib.suppress(FileNotFoundError):  # an object without a name
            if os.readlink(f"{links}/{name}").startswith(prefix):
                return True
    return False


def mapped_files(place: str) -> dict[str, str]:
    """The objects that the process at `place` (`/proc/PID`) has mapped, by name: `a.out` is its program.

    Of the links in `path/` those are mapped objects that stand in `object/`, too; the others are open files. OSError.
    """
    found = {}
    for name in os.listdir(f"{place}/object"):
        with contextlib.suppress(FileNotFoundError):
            found[name] = os.readlink(f"{place}/path/{name}")
    return found


def _own_zone(directory: str) -> int:
    try:
        data = _read(f"{directory}/self/psinfo", 4096)
        known = parse_psinfo(data, struct.unpack_from("=i", data, 8)[0])
    except (OSError, struct.error):
        return 0
    return known.zone if known else 0


def _process(place: str, pid: int, own_zone: int) -> Seen:
    seen = Seen(pid)
    try:
        data = _read(f"{place}/psinfo", 4096)
        psinfo = parse_psinfo(data, pid)
        if psinfo is None:
            return replace(seen, state="unreadable", detail=f"psinfo of {len(data)} bytes is not understood")
        seen = replace(
            seen,
            name=psinfo.name,
            uid=psinfo.euid,
            started=psinfo.started,
            relatives=(psinfo.ppid, psinfo.pgid, psinfo.sid),
            secure=psinfo.uid != psinfo.euid or psinfo.gid != psinfo.egid,
            zone="" if psinfo.zone == own_zone else str(psinfo.zone),
        )
        if psinfo.threads == 0:
            return replace(seen, state="zombie")
        if psinfo.size == 0 or pid == 0:
            return replace(seen, state="kernel")
        return _Memory(place, psinfo).look(replace(seen, bits=psinfo.bits))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return replace(seen, state="gone")
        if error.errno == errno.EOVERFLOW:
            return replace(seen, state="unreadable", detail="a 32-bit Python cannot look into a 64-bit process")
        return replace(seen, state="unreadable", detail=error.strerror or str(error))


@dataclass(frozen=True)
class _Mapping:
    start: int
    size: int
    name: str
    """The name of the object's link in path/; empty for memory of no file."""
    flags: int


class _Memory:
    """One process that has memory: what is mapped, and what lies in it."""

    def __init__(self, place: str, psinfo: Psinfo) -> None:
        self._place, self._psinfo = place, psinfo

    def look(self, seen: Seen) -> Seen:
        mappings = self._mappings()
        if mappings is None:
            return replace(seen, state="unreadable", detail="its map is not understood")
        paths = {m.name: self._link(m.name) for m in mappings if m.name}
        linker = next((path for path in paths.values() if os.path.basename(path) == "ld.so.1"), "")
        proxies = [name for name, path in paths.items() if os.path.basename(path) == LIBRARY]
        wanted = set(proxies) or {name for name, path in paths.items() if not path and name != "a.out"}
        records = self._records([m for m in mappings if m.name in wanted and m.flags & _WRITE])
        library = paths[proxies[0]] if proxies else "" if records else None
        if library is None and not linker and not all(paths.values()):
            linker = "(an object without a name)"  # so that a linker that was replaced is not taken for none
        root = self._link("root")
        return replace(
            seen,
            program=self._link("a.out"),
            linker=linker,
            library=library,
            record=route_record.serving(records) if records else None,
            secure=self._secure(seen.secure),
            environment=() if library is not None else self._environment(),
            root="" if root == "/" else root,
        )

    def _mappings(self) -> list[_Mapping] | None:
        layout = struct.Struct(self._psinfo.order + _MAP[self._psinfo.model])
        data = _read(f"{self._place}/map", _MOST_MAPS)
        if not data or len(data) % layout.size:
            return None
        found = []
        for start, size, name, _, flags, _, _, _ in layout.iter_unpack(data):
            found.append(_Mapping(start, size, name.split(b"\0", 1)[0].decode("utf-8", "surrogateescape"), flags))
        return found

    def _link(self, name: str) -> str:
        if "/" in name:
            return ""
        try:
            return os.readlink(f"{self._place}/path/{name}")
        except OSError:
            return ""

    def _records(self, mappings: list[_Mapping]) -> list[RouteRecord]:
        found: list[RouteRecord] = []
        private = [m for m in mappings if not m.flags & _SHARED]
        for mapping in private[:_MOST_NAMELESS]:
            data = self._memory(mapping.start, min(mapping.size, _MOST_BYTES))
            found += route_record.search(data, self._psinfo.order)
        return found

    def _memory(self, address: int, size: int) -> bytes:
        try:
            descriptor = os.open(f"{self._place}/as", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(descriptor, size, file_offset(address))
            finally:
                os.close(descriptor)
        except (OSError, OverflowError):
            return b""  # it was mapped a moment ago

    def _secure(self, by_ids: bool) -> bool:
        """As the kernel told the runtime linker at the start; else as the ids look now."""
        layout = struct.Struct(self._psinfo.order + _AUXV[self._psinfo.model])
        try:
            data = _read(f"{self._place}/auxv", 1 << 16)
        except OSError:
            return by_ids
        if len(data) % layout.size:
            return by_ids
        for kind, value in layout.iter_unpack(data):
            if kind == _AT_SUN_AUXFLAGS:
                return bool(value & _AF_SUN_SETUGID)
        return by_ids

    def _environment(self) -> tuple[str, ...]:
        """The variables that matter, as far as the process has left them where exec put them."""
        bits, address = self._psinfo.bits, self._psinfo.envp
        if bits is None or address == 0:
            return ()
        pointer = struct.Struct(self._psinfo.order + _POINTER[bits])
        data = self._memory(address, _MOST_VARIABLES * pointer.size)
        pointers = []
        for (value,) in pointer.iter_unpack(data[: len(data) // pointer.size * pointer.size]):
            if value == 0:
                break
            pointers.append(value)
        if not pointers:
            return ()
        # exec puts the texts behind each other: one read gets them, where they lie close enough.
        low = min(pointers)
        block = self._memory(low, min(max(pointers) - low + 4096, _MOST_BYTES))
        texts = []
        for value in pointers:
            end = block.find(b"\0", value - low)
            text = block[value - low : end] if end >= 0 else self._memory(value, 4096)
            texts.append(text.split(b"\0", 1)[0].decode("utf-8", "surrogateescape"))
        return tuple(text for text in texts if text.startswith(("LD_", "MEMPROXY_")))


def file_offset(address: int) -> int:
    """The offset in `as` for an address: off_t is signed, so the upper half of the address space is negative."""
    return address - (1 << 64) if address >= 1 << 63 else address


def _read(path: str, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        data = b""
        while len(data) < limit:
            more = stream.read(limit - len(data))
            if not more:
                break
            data += more
        return data

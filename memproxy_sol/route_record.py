"""RouteRecord: what libmemproxy.so says of itself in a live process, or in the core file that one left.

The record is `struct memproxy_record` of native/memproxy.h. It lies in the writable segment of the mapped library,
where it is found by its magic bytes: that needs no symbol table, no file that still exists, and is the same in both
ABIs and in a core. A process is neither stopped nor attached to, and what is read is not trusted: sizes are bounded.

Sources: native/memproxy.h; proc(5) (`/proc/PID/maps`, `/proc/PID/mem`); core(5), and the System V ABI for core files,
of which NT_FILE is Linux' own note: a count, the page size, start, end and offset of each mapping, then the names.

Standard library only.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from memproxy_sol.errors import ProcessDeniedError, ProcessGoneError, RouteRecordError

LIBRARY = "libmemproxy.so"
MAGIC = b"memproxy"
STATES = ("start", "resolving", "ready")
ROUTES = ("system", "custom")
REASONS = ("undecided", "default", "list", "environment", "no-allocator", "not-owner", "sanitizer")
"""Indexed by the numbers of native/memproxy.h, and the words that memproxy_reason() has for them."""

_HEAD = "8s6I"
_PATH = 1024
SIZE = struct.calcsize("<" + _HEAD) + _PATH
"""Bytes of a record of version 1. Later versions append to it."""

# Far above what a sound library has, far below what would hurt.
_MOST_BYTES = 1 << 18  # of one writable mapping of the library
_MOST_RANGES = 8
_MOST_MAPS = 1 << 26  # of /proc/PID/maps, and of the note in a core
_MOST_SEGMENTS = 1 << 20
_MOST_SEARCHED = 1 << 34  # of a core that does not say where the library is
_CHUNK = 1 << 20

_ET_CORE, _PT_LOAD, _PT_NOTE, _PF_W, _NT_FILE, _PN_XNUM = 4, 1, 4, 2, 0x46494C45, 0xFFFF


@dataclass(frozen=True)
class RouteRecord:
    """What the library wrote down. A number that this program does not know is given as its digits."""

    version: int
    state: str
    """One of STATES; before `ready` nothing else is decided."""
    route: str | None
    """One of ROUTES; None before `ready`."""
    reason: str
    """One of REASONS."""
    line: int
    """Of the exclusion list, counted from 1; 0 where no line matched."""
    allocator: str
    """Path of the object that serves malloc, cut to 1023 bytes; decoded from UTF-8 with surrogateescape."""


def of_process(pid: int) -> RouteRecord | None:
    """The record in a process of this machine; None if libmemproxy is not in it (so for kernel threads and zombies).

    Of several copies of the library the one whose malloc the process uses. Linux only.
    Raises ProcessGoneError, ProcessDeniedError, or RouteRecordError for memory in which there is no sound record.
    """
    if not sys.platform.startswith("linux"):
        raise RouteRecordError("live processes can be read on Linux only", where=f"process {pid}")
    before: list[tuple[int, int]] = []
    for _ in range(3):
        directory, ranges = _library_in_process(pid)
        if not ranges:
            return None
        if ranges == before:  # else it has called exec between the look at its mappings and that at its memory
            break
        before = ranges
        found = list(_in_memory(directory, pid, ranges))
        if found:
            return serving(found)
    raise RouteRecordError(f"has {LIBRARY}, but no record in its writable memory", where=f"process {pid}")


def of_core(path: str | os.PathLike[str]) -> RouteRecord | None:
    """The record in a core file of either ABI and byte order; None if the process had no libmemproxy.

    Raises RouteRecordError if it is not a readable core file, is damaged, or cut off before the record.
    """
    where = os.fspath(path)
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            return _Core(descriptor, where).record()
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise RouteRecordError(f"cannot be read: {getattr(error, 'strerror', error)}", where=where) from error


def parse(data: bytes, order: str = "<") -> RouteRecord | None:
    """The record that begins with `data`; None if it is none. `order` is that of the struct module: `<` or `>`."""
    if len(data) < SIZE:
        return None
    magic, version, size, state, route, reason, line = struct.unpack_from(order + _HEAD, data)
    if magic != MAGIC or version == 0 or not SIZE <= size <= _MOST_BYTES:  # the magic alone may be text
        return None
    allocator = data[SIZE - _PATH : SIZE].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    decided = _word(ROUTES, route) if state == STATES.index("ready") else None
    return RouteRecord(version, _word(STATES, state), decided, _word(REASONS, reason), line, allocator)


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if number < len(words) else str(number)


def search(data: bytes, order: str) -> Iterator[RouteRecord]:
    """All records in a piece of memory that begins at a multiple of four."""
    at = data.find(MAGIC)
    while at >= 0:
        record = parse(data[at : at + SIZE], order) if at % 4 == 0 else None
        if record is not None:
            yield record
        at = data.find(MAGIC, at + 1)


def serving(records: list[RouteRecord]) -> RouteRecord:
    """Of two copies of the library in a process, the one behind the other is not the owner of malloc."""
    return next((record for record in records if record.reason != "not-owner"), records[0])


# ---- A live process.


def _library_in_process(pid: int) -> tuple[str, list[tuple[int, int]]]:
    """A directory of /proc with the process's memory, and where in it the library's writable segments are."""
    directory = f"/proc/{pid}"
    maps = _maps(directory, pid)
    if not maps:
        # Either there is no memory, or the first thread has ended and others have not.
        for thread in _threads(directory):
            directory = f"/proc/{pid}/task/{thread}"
            maps = _maps(directory, pid)
            if maps:
                break
    return directory, _library_in_maps(maps)


def _maps(directory: str, pid: int) -> bytes:
    try:
        with open(f"{directory}/maps", "rb") as stream:
            return stream.read(_MOST_MAPS)
    except OSError as error:
        raise _failure(error, pid) from error


def _threads(directory: str) -> list[str]:
    try:
        return os.listdir(f"{directory}/task")
    except OSError:
        return []


def _library_in_maps(maps: bytes) -> list[tuple[int, int]]:
    """The writable mappings of files of the library's name that are mapped to be executed as well."""
    library = LIBRARY.encode()
    writable, loaded = [], set()
    for line in maps.splitlines():
        if library not in line:
            continue
        words = line.split(None, 5)
        if len(words) != 6 or _file_name(words[5]) != library:
            continue
        permissions, file = words[1], (words[3], words[4], words[5])
        if b"x" in permissions:
            loaded.add(file)
        if b"w" in permissions and b"p" in permissions:
            start, _, end = words[0].partition(b"-")
            writable.append((file, int(start, 16), int(end, 16)))
    return [(start, end) for file, start, end in writable if file in loaded][:_MOST_RANGES]


def _file_name(path: bytes) -> bytes:
    name = path.rsplit(b"/", 1)[-1]
    return name[: -len(b" (deleted)")] if name.endswith(b" (deleted)") else name


def _in_memory(directory: str, pid: int, ranges: list[tuple[int, int]]) -> Iterator[RouteRecord]:
    order = "<" if sys.byteorder == "little" else ">"
    try:
        with open(f"{directory}/mem", "rb", buffering=0) as memory:
            for start, end in ranges:
                try:
                    data = os.pread(memory.fileno(), min(end - start, _MOST_BYTES), start)
                except (OSError, OverflowError):
                    continue  # it was mapped a moment ago
                yield from search(data, order)
    except OSError as error:
        raise _failure(error, pid) from error


def _failure(error: OSError, pid: int) -> RouteRecordError:
    where = f"process {pid}"
    if isinstance(error, PermissionError):
        return ProcessDeniedError("its memory may not be read by this user", where=where, hint="try as root")
    if isinstance(error, (FileNotFoundError, ProcessLookupError)):
        if not os.path.exists("/proc/self"):
            return RouteRecordError("/proc is not mounted", where=where)
        return ProcessGoneError("there is no such process", where=where)
    return RouteRecordError(f"its memory cannot be read: {error.strerror}", where=where)


# ---- A core file.


class _Core:
    """An ELF core; every size in it is held against the file's before it is used."""

    def __init__(self, descriptor: int, where: str) -> None:
        self._descriptor, self._where = descriptor, where
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise self._error("is not a regular file")
        self._size = status.st_size
        ident = self._read(0, 16)
        if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise self._error("is not an ELF file")
        self._wide = ident[4] == 2
        self._order = "<" if ident[5] == 1 else ">"

    def record(self) -> RouteRecord | None:
        segments = list(self._segments())
        writable = [segment for segment in segments if segment[0] == _PT_LOAD and segment[1] & _PF_W]
        mapped = self._library(segments)
        if mapped is not None:
            if not mapped:
                return None
            writable = [
                (*one[:4], min(one[4], _MOST_BYTES))
                for one in writable
                if any(start <= one[3] < end for start, end in mapped)
            ][:_MOST_RANGES]
        found = list(self._search(writable))
        if found and (mapped is not None or len(set(found)) == 1):
            return serving(found)
        if found:
            raise self._error("does not say what is mapped, and holds more than one record")
        if mapped is not None:
            raise self._error(f"has {LIBRARY}, but no record: its writable memory is not in the file")
        return None

    def _segments(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Type, flags, offset, address and size in the file of each program header."""
        head = self._unpack(16, "HHIQQQIHHHHHH" if self._wide else "HHIIIIIHHHHHH")
        kind, offset, sections, entry_size, count = head[0], head[4], head[5], head[8], head[9]
        if kind != _ET_CORE:
            raise self._error("is an ELF file, but not a core")
        if count == _PN_XNUM and sections != 0:  # the true number is in the first section header
            count = self._unpack(sections + (44 if self._wide else 28), "I")[0]
        layout = self._order + ("IIQQQQQQ" if self._wide else "IIIIIIII")
        if entry_size != struct.calcsize(layout) or count > _MOST_SEGMENTS:
            raise self._error("is damaged in the program headers")
        for values in struct.iter_unpack(layout, self._read(offset, count * entry_size)):
            if self._wide:
                yield values[0], values[1], values[2], values[3], values[5]
            else:
                yield values[0], values[6], values[1], values[2], values[4]

    def _library(self, segments: list[tuple[int, int, int, int, int]]) -> list[tuple[int, int]] | None:
        """The addresses at which the library is mapped; None if the core does not tell what is mapped."""
        notes = [segment for segment in segments if segment[0] == _PT_NOTE]
        for _, _, offset, _, size in notes[:_MOST_RANGES]:
            if size > _MOST_MAPS:
                raise self._error("is damaged in its notes")
            data = self._read(offset, size)
            at = 0
            while at + 12 <= len(data):
                name_size, content_size, kind = struct.unpack_from(self._order + "III", data, at)
                start = at + 12 + -(-name_size // 4) * 4
                if start + content_size > len(data):
                    raise self._error("is damaged in its notes")
                if kind == _NT_FILE and data[at + 12 : at + 17] == b"CORE\0":
                    return self._library_in_note(data[start : start + content_size])
                at = start + -(-content_size // 4) * 4
        return None

    def _library_in_note(self, note: bytes) -> list[tuple[int, int]]:
        word = "Q" if self._wide else "I"
        width = struct.calcsize("<" + word)
        if len(note) < 2 * width:
            raise self._error("is cut off in the list of mapped files")
        count = struct.unpack_from(self._order + word, note)[0]
        names_at = width * (2 + 3 * count)
        if names_at > len(note):
            raise self._error("is cut off in the list of mapped files, or damaged")
        names = note[names_at:].split(b"\0", count)
        found = []
        for number in range(count):
            if _file_name(names[number] if number < len(names) else b"") == LIBRARY.encode():
                start, end = struct.unpack_from(self._order + word * 2, note, width * (2 + 3 * number))
                found.append((start, end))
        return found

    def _search(self, segments: list[tuple[int, int, int, int, int]]) -> Iterator[RouteRecord]:
        left = min(self._size, _MOST_SEARCHED)  # segments of a sound core do not overlap
        for _, _, offset, _, size in segments:
            size = min(size, max(self._size - offset, 0))
            left -= size
            if left < 0:
                raise self._error("is damaged, its segments overlap; or too large to be searched")
            for at in range(0, size, _CHUNK):
                # With as much of the next chunk as a record may reach into; one that begins there is not taken twice.
                data = self._read(offset + at, min(_CHUNK + SIZE - 4, size - at))
                yield from search(data, self._order)

    def _unpack(self, offset: int, layout: str) -> tuple[int, ...]:
        return struct.unpack(self._order + layout, self._read(offset, struct.calcsize("<" + layout)))

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            raise self._error("is cut off, or damaged")
        data = b""
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                raise self._error("is shrinking")
            data += more
        return data

    def _error(self, what: str) -> RouteRecordError:
        return RouteRecordError(what, where=self._where)

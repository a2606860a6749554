"""Linux' /proc: what it tells of each process: maps, stat, environ, auxv, exe, ns/mnt.

Source: proc(5). Standard library and own modules only.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import replace

from memproxy_sol import elf_header, route_record
from memproxy_sol.errors import ElfError, ProcessDeniedError, ProcessGoneError, RouteRecordError
from memproxy_sol.process import Seen

_PF_KTHREAD = 0x00200000
_AT_SECURE = 23
_MOST_BYTES = 1 << 26
_LINKER = re.compile(r"ld(-linux[^/]*|64|-[0-9.]+|-musl-[^/]*)?\.so(\.[0-9]+)?|ld-musl-[^/]*")
_DELETED = " (deleted)"


def processes(directory: str) -> Iterator[Seen]:
    """All processes below `directory` (`/proc`), ascending by number. OSError if it cannot be listed."""
    numbers = sorted(int(name) for name in os.listdir(directory) if name.isascii() and name.isdigit())
    boot, ticks = _boot_time(directory), os.sysconf("SC_CLK_TCK")
    own = _link(f"{directory}/self/ns/mnt")
    for pid in numbers:
        yield _process(directory, pid, boot, ticks, own)


def maps_file_below(directory: str, pid: int, prefix: str) -> bool:
    """Whether a process maps a file whose path begins with `prefix`; OSError if it cannot be looked at.

    The kernel tells paths from the root of who asks; of a file that is gone, too.
    """
    return any(path.startswith(prefix) for path in _paths(_read(f"{directory}/{pid}/maps")))


def _process(directory: str, pid: int, boot: float | None, ticks: int, own: str) -> Seen:
    place, seen = f"{directory}/{pid}", Seen(pid)
    try:
        name, fields = _stat(_read(f"{place}/stat"))
        started = None if boot is None else boot + int(fields[19]) / ticks
        seen = replace(
            seen,
            name=name,
            uid=os.stat(place).st_uid,
            started=started,
            relatives=(int(fields[1]), int(fields[2]), int(fields[3])),
        )
        if fields[0] in ("Z", "X"):
            return replace(seen, state="zombie")
        if int(fields[6]) & _PF_KTHREAD:
            return replace(seen, state="kernel")
        return _look(place, pid, own, seen)
    except (ProcessGoneError, FileNotFoundError, ProcessLookupError):
        return replace(seen, state="gone")
    except OSError as error:
        return replace(seen, state="unreadable", detail=error.strerror or str(error))
    except (ValueError, IndexError):
        return replace(seen, state="unreadable", detail="its stat is not understood")


def _look(place: str, pid: int, own: str, seen: Seen) -> Seen:
    maps = _read(f"{place}/maps")
    if not maps and not _read(f"{place}/cmdline"):
        return replace(seen, state="gone")  # between the end of its memory and its own
    paths = _paths(maps)
    library = next((path for path in paths if os.path.basename(path) == route_record.LIBRARY), None)
    record, detail = None, ""
    if library is not None:
        try:
            record = route_record.of_process(pid)
        except ProcessDeniedError:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from None
        except ProcessGoneError:
            raise
        except RouteRecordError as error:
            detail = error.what
    namespace = _link(f"{place}/ns/mnt")
    root = _link(f"{place}/root")
    return replace(
        seen,
        detail=detail,
        program=without_suffix(_link(f"{place}/exe")),
        bits=_bits(f"{place}/exe"),
        linker=next((path for path in paths if _LINKER.fullmatch(os.path.basename(path))), ""),
        library=library,
        record=record,
        secure=_secure(place),
        environment=() if library is not None else environment(place),
        zone="" if namespace in ("", own) else namespace,
        root="" if root == "/" else root,
    )


def _stat(data: bytes) -> tuple[str, list[str]]:
    """The name, which may hold anything, and the fields behind it, from the state on."""
    head, _, tail = data.rpartition(b")")
    return head.partition(b"(")[2].decode("utf-8", "surrogateescape"), tail.decode("ascii").split()


def _boot_time(directory: str) -> float | None:
    try:
        match = re.search(rb"^btime (\d+)$", _read(f"{directory}/stat"), re.MULTILINE)
    except OSError:
        return None
    return float(match[1]) if match else None


def mapped_files(place: str) -> list[str]:
    """The files that the process at `place` (`/proc/PID`) has mapped. OSError if it has gone or may not be read."""
    return list(_paths(_read(f"{place}/maps")))


def _paths(maps: bytes) -> dict[str, None]:
    """The mapped files, in the order of their addresses."""
    found: dict[str, None] = {}
    for line in maps.splitlines():
        words = line.split(None, 5)
        if len(words) == 6 and words[5].startswith(b"/"):
            found[without_suffix(os.fsdecode(words[5]))] = None
    return found


def without_suffix(path: str) -> str:
    return path[: -len(_DELETED)] if path.endswith(_DELETED) else path


def _bits(path: str) -> int | None:
    try:
        with open(path, "rb") as stream:
            return elf_header.parse(stream.read(elf_header.SIZE)).bits
    except (OSError, ElfError):
        return None


def _secure(place: str) -> bool:
    try:
        data = _read(f"{place}/auxv")
    except OSError:
        return False
    # A pair of words of the process's own ABI; a type is small, so that in 64 bit its upper half is 0.
    for layout in ("=QQ", "=II"):
        pairs = list(struct.iter_unpack(layout, data[: len(data) // struct.calcsize(layout) * struct.calcsize(layout)]))
        if pairs and all(kind < 1000 for kind, _ in pairs):
            return any(kind == _AT_SECURE and value for kind, value in pairs)
    return False


def environment(place: str) -> tuple[str, ...]:
    """The variables of runtime linker and libmemproxy with which the process at `place` was started."""
    try:
        data = _read(f"{place}/environ")
    except OSError:
        return ()
    texts = (text.decode("utf-8", "surrogateescape") for text in data.split(b"\0"))
    return tuple(text for text in texts if text.startswith(("LD_", "MEMPROXY_")))


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        data = b""
        while len(data) < _MOST_BYTES:
            more = stream.read(1 << 20)
            if not more:
                break
            data += more
        return data

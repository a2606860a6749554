"""SolarisProc: a directory with the files of Solaris' /proc, laid out by C's own rules (ctypes) from <sys/procfs.h>.

It shares nothing with process_solaris.py, which it is read by: there the offsets are counted, here the compiler's
rules place the fields. `as` is a sparse file, so addresses stay below what a file may have.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SIZES = {64: (416, 104), 32: (336, 96)}
"""sizeof(psinfo_t) and sizeof(prmap_t) by data model, as on every Solaris machine since 7."""
TEXT, DATA, STACK = 0x8050000, 0x8090000, 0x7F00000


def structures(bits: int, order: str) -> tuple[type[Any], type[Any], type[Any]]:
    """psinfo_t, prmap_t and auxv_t in the data model and byte order of a reader."""
    base: Any = ctypes.LittleEndianStructure if order == "<" else ctypes.BigEndianStructure
    word, signed = (ctypes.c_uint64, ctypes.c_int64) if bits == 64 else (ctypes.c_uint32, ctypes.c_int32)
    integer, short = ctypes.c_int32, ctypes.c_uint16

    class Times(base):  # type: ignore[misc]
        _fields_ = (("seconds", signed), ("nanoseconds", signed))

    class Lwpsinfo(base):  # type: ignore[misc]
        _fields_ = (
            *(("pr_flag", integer), ("pr_lwpid", integer), ("pr_addr", word), ("pr_wchan", word)),
            *(("pr_letters", ctypes.c_char * 4), ("pr_syscall", short), ("pr_oldpri", ctypes.c_uint8)),
            *(("pr_cpu", ctypes.c_uint8), ("pr_pri", integer), ("pr_pctcpu", short), ("pr_pad", short)),
            *(("pr_start", Times), ("pr_time", Times), ("pr_clname", ctypes.c_char * 8)),
            *(("pr_name", ctypes.c_char * 16), ("pr_places", integer * 4), ("pr_filler", integer * 4)),
        )

    class Psinfo(base):  # type: ignore[misc]
        _fields_ = (
            *((name, integer) for name in ("pr_flag", "pr_nlwp", "pr_pid", "pr_ppid", "pr_pgid", "pr_sid")),
            *((name, ctypes.c_uint32) for name in ("pr_uid", "pr_euid", "pr_gid", "pr_egid")),
            *((name, word) for name in ("pr_addr", "pr_size", "pr_rssize", "pr_pad1", "pr_ttydev")),
            *(("pr_pctcpu", short), ("pr_pctmem", short)),
            *(("pr_start", Times), ("pr_time", Times), ("pr_ctime", Times)),
            *(("pr_fname", ctypes.c_char * 16), ("pr_psargs", ctypes.c_char * 80)),
            *(("pr_wstat", integer), ("pr_argc", integer), ("pr_argv", word), ("pr_envp", word)),
            *(("pr_dmodel", ctypes.c_uint8), ("pr_pad2", ctypes.c_char * 3)),
            *((name, integer) for name in ("pr_taskid", "pr_projid", "pr_nzomb", "pr_poolid", "pr_zoneid")),
            *(("pr_contract", integer), ("pr_filler", integer), ("pr_lwp", Lwpsinfo)),
        )

    class Map(base):  # type: ignore[misc]
        _fields_ = (
            *(("pr_vaddr", word), ("pr_size", word), ("pr_mapname", ctypes.c_char * 64)),
            *(("pr_offset", ctypes.c_int64), ("pr_mflags", integer), ("pr_pagesize", integer)),
            *(("pr_shmid", integer), ("pr_filler", integer)),
        )

    class Auxv(base):  # type: ignore[misc]
        _fields_ = (("a_type", integer), ("a_val", word))

    assert (ctypes.sizeof(Psinfo), ctypes.sizeof(Map)) == SIZES[bits]
    return Psinfo, Map, Auxv


def record(
    route: int = 1,
    reason: int = 1,
    line: int = 0,
    allocator: bytes = b"/a/liballoc.so",
    state: int = 2,
    order: str = "<",
) -> bytes:
    """struct memproxy_record of native/memproxy.h."""
    return struct.pack(order + "8s6I1024s", b"memproxy", 1, 1056, state, route, reason, line, allocator)


class SolarisProc:
    """A /proc as a process of data model `bits` on a machine of byte order `order` would read it."""

    def __init__(self, path: Path, bits: int = 64, order: str = "<", zone: int = 0) -> None:
        self.path, self.bits, self.order = path, bits, order
        self.psinfo, self.map, self.auxv = structures(bits, order)
        path.mkdir(parents=True, exist_ok=True)
        # The alias is not in the listing of a real one.
        self.add(77777, name="reader", zone=zone)
        os.rename(path / "77777", path / "self")

    def add(
        self,
        pid: int,
        name: str | bytes = "prog",
        *,
        bits: int = 64,
        program: str | None = None,
        objects: Sequence[str] = (),
        linker: str = "/lib/ld.so.1",
        library: str | None = None,
        library_record: bytes | None = None,
        nameless: bytes | None = None,
        environment: Sequence[str] = (),
        started: float = 1000.0,
        ppid: int = 1,
        pgid: int = 0,
        sid: int = 0,
        ids: tuple[int, int, int, int] = (0, 0, 0, 0),
        auxflags: int | None = 0,
        zone: int = 0,
        root: str = "/",
        threads: int = 1,
        size: int = 1024,
        fields: Mapping[str, Any] | None = None,
    ) -> Path:
        """A process; `linker` empty is a statically linked one, `nameless` the data of an object without a name."""
        place = self.path / str(pid)
        (place / "path").mkdir(parents=True)
        raw = name if isinstance(name, bytes) else name.encode()
        psinfo = self.psinfo(pr_nlwp=threads, pr_pid=pid, pr_ppid=ppid, pr_pgid=pgid or pid, pr_sid=sid or pid)
        psinfo.pr_uid, psinfo.pr_euid, psinfo.pr_gid, psinfo.pr_egid = ids
        psinfo.pr_size, psinfo.pr_fname, psinfo.pr_psargs = size, raw[:15], raw
        psinfo.pr_start.seconds, psinfo.pr_start.nanoseconds = int(started), int(started % 1 * 1e9)
        psinfo.pr_dmodel, psinfo.pr_zoneid, psinfo.pr_envp = {32: 1, 64: 2}[bits], zone, STACK
        for field, value in (fields or {}).items():
            setattr(psinfo, field, value)
        (place / "psinfo").write_bytes(bytes(psinfo))
        if not threads or not size:
            return place
        mapped = [("a.out", program or f"/usr/bin/{name!s}", None)]
        if linker:
            mapped.append(("zfs.1.2.3", linker, None))
        mapped += [(f"zfs.1.2.{100 + number}", path, None) for number, path in enumerate(objects)]
        if library is not None:
            mapped.append(("zfs.1.2.9", library, library_record or record(order=self.order)))
        entries, memory = [], []
        for number, (mapname, path, data) in enumerate(mapped):
            os.symlink(path, place / "path" / mapname)
            entries.append((TEXT + number * 0x10000, mapname, 0x05))
            entries.append((DATA + number * 0x10000, mapname, 0x07))
            if data is not None:
                memory.append((DATA + number * 0x10000 + 64, data))
        if nameless is not None:
            entries.append((DATA + 0x900000, "zfs.1.2.11", 0x07))
            memory.append((DATA + 0x900000 + 8, nameless))
        entries.append((STACK, "", 0x07))
        os.symlink(root, place / "path" / "root")
        os.symlink("/", place / "path" / "cwd")
        maps = [self.map(pr_vaddr=at, pr_size=0x1000, pr_mapname=n.encode(), pr_mflags=f) for at, n, f in entries]
        (place / "map").write_bytes(b"".join(map(bytes, maps)))
        if auxflags is not None:
            vector = [self.auxv(a_type=6, a_val=4096), self.auxv(a_type=2017, a_val=auxflags), self.auxv()]
            (place / "auxv").write_bytes(b"".join(map(bytes, vector)))
        texts = [text.encode("utf-8", "surrogateescape") + b"\0" for text in ("HOME=/", *environment, "TERM=sun")]
        width = bits // 8
        at = STACK + (len(texts) + 1) * width
        pointers = b""
        for text in texts:
            pointers += at.to_bytes(width, "little" if self.order == "<" else "big")
            memory.append((at, text))
            at += len(text)
        memory.append((STACK, pointers + bytes(width)))
        with (place / "as").open("wb") as file:
            for at, data in memory:
                file.seek(at)
                file.write(data)
        return place

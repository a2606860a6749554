"""The proof that the programs of a run were on the route claimed: the records of living processes, read from outside.

Each process of the run's PID namespace is looked at several times a second: its mappings say where libmemproxy.so lies,
and its memory there holds the record that memproxy.h describes.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

BARE = "libmemproxy.so is not mapped"
INTERVAL = 0.15
RECORD = struct.Struct("=8s6I1024s")
READY = 2
ROUTES = ("system", "custom")
REASONS = ("undecided", "default", "list", "environment", "no-allocator", "not-owner", "sanitizer")


class Census:
    """Looks at the processes below an `unshare --pid --fork` while the block runs; `seen` counts what was found."""

    def __init__(self, starter: int, library: Path | None) -> None:
        self.seen: Counter[str] = Counter()
        self._starter = starter
        self._offset = 0 if library is None else _record_offset(library)
        self._library = library
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Census:
        if self._library is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._library is not None:
            self._thread.join()

    def _watch(self) -> None:
        own = os.readlink("/proc/self/ns/pid")
        while not self._end.wait(INTERVAL):
            with contextlib.suppress(OSError):
                namespace = os.readlink(f"/proc/{self._starter}/ns/pid_for_children")
                if namespace != own:
                    self._round(namespace)

    def _round(self, namespace: str) -> None:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") == namespace and not os.path.samefile(f"/proc/{pid}/root", "/"):
                    found = self.look(pid)
                    if found is not None:
                        self.seen[found] += 1
            except (OSError, ValueError, struct.error):
                continue  # it ended meanwhile

    def look(self, pid: str) -> str | None:
        """What a process is on, in words; None if it is too young to tell. ValueError or OSError: it is ending."""
        link = os.readlink(f"/proc/{pid}/exe")
        program = os.path.basename(link)
        base = None
        libc = False
        with open(f"/proc/{pid}/maps") as maps:
            for line in maps:
                if line.endswith("/libmemproxy.so\n") and base is None:
                    base = int(line.split("-")[0], 16)
                libc = libc or "/libc.so.6" in line
        # Mappings come in pieces, and cease when the process ends or executes another program: the link then, too.
        if os.readlink(f"/proc/{pid}/exe") != link:
            return None
        if program == "chroot" or (base is None and not libc):
            return None  # on its way into the image, or so young that nothing is loaded yet
        if base is None:
            return f"{program}: {BARE}"
        with open(f"/proc/{pid}/mem", "rb") as memory:
            memory.seek(base + self._offset)
            magic, _, _, state, route, reason, line_number, allocator = RECORD.unpack(memory.read(RECORD.size))
        if magic != b"memproxy":
            raise ValueError("not relocated yet, or gone")
        if state != READY:
            return None
        where = f" {line_number}" if line_number else ""
        server = os.path.basename(allocator.split(b"\0")[0].decode())
        return f"{program}: {ROUTES[route]} ({REASONS[reason]}{where}), {server}"


def _record_offset(library: Path) -> int:
    with library.open("rb") as stream:
        symbols = ELFFile(stream).get_section_by_name(".dynsym")
        assert isinstance(symbols, SymbolTableSection), f"{library} is stripped of what it exports"
        found = symbols.get_symbol_by_name("memproxy_record")
        assert found, f"{library} does not export its record"
        return int(found[0]["st_value"])

"""The proof that the programs of a run were on the route claimed: the records of living processes, read from outside.

Each process of the run's PID namespace is looked at several times a second.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from types import TracebackType

from memproxy_sol import route_record
from memproxy_sol.errors import MemproxyError

BARE = "libmemproxy.so is not mapped"
INTERVAL = 0.15


class Census:
    """Looks at the processes below an `unshare --pid --fork` while the block runs; `seen` counts what was found."""

    def __init__(self, starter: int) -> None:
        self.seen: Counter[str] = Counter()
        self._starter = starter
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Census:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
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
                    found = look(int(pid))
                    if found is not None:
                        self.seen[found] += 1
            except (OSError, MemproxyError):
                continue  # it ended meanwhile


def look(pid: int) -> str | None:
    """What a process is on, in words; None if it is too young to tell. OSError or MemproxyError: it is ending."""
    link = os.readlink(f"/proc/{pid}/exe")
    program = os.path.basename(link)
    record = route_record.of_process(pid)
    # Mappings come in pieces, and cease when the process ends or executes another program: the link then, too.
    if os.readlink(f"/proc/{pid}/exe") != link or program == "chroot":
        return None
    if record is None:
        # A program that executes itself again keeps its link: so it has to be bare twice.
        return f"{program}: {BARE}" if is_bare(pid) and is_bare(pid) else None
    if record.state != "ready":
        return None
    where = f" {record.line}" if record.line else ""
    return f"{program}: {record.route} ({record.reason}{where}), {os.path.basename(record.allocator)}"


def is_bare(pid: int) -> bool:
    """Whether libc is mapped and libmemproxy is not: where libc is, a preload that is there at all is there already."""
    with open(f"/proc/{pid}/maps") as maps:
        text = maps.read()
    return "/libc.so.6" in text and "/libmemproxy.so" not in text

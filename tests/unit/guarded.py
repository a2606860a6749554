"""An installer that tries two files under a real guard: `python guarded.py TOP CLOCK READY`.

The clock is what the file CLOCK holds (a double), so that a test decides how late it is. Writes `live` to the
descriptor READY when the trial is pending, then waits for ever.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
from collections.abc import Sequence

from memproxy_sol import guard_process, journal, steps
from memproxy_sol.guard import Watch
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import ReplaceFile

PATHS = ("/var/ld/ld.config", "/var/ld/64/ld.config")
AFTER = FileState(b"tried", 0o644, 0, 0)
SECONDS = 60.0
PATIENCE = 1000.0


def glance(descriptors: Sequence[int], seconds: float) -> list[int]:
    """Waits a moment only: a clock that somebody moves wakes nobody."""
    return guard_process.poll(descriptors, min(seconds, 0.02))


def main(top: str, clock: str, ready: int) -> None:
    root = Root(top, live=True)
    with open(clock, "rb") as stream:
        memory = mmap.mmap(stream.fileno(), 8, prot=mmap.PROT_READ)
    watch = Watch(root, SECONDS, PATIENCE, lambda: float(struct.unpack("d", memory[:8])[0]), glance)
    plan = [ReplaceFile(path, root.read(path), AFTER, "configuration") for path in PATHS]
    journal.apply(root, "install", "now", steps.on_trial(plan), keeper=watch)
    watch.passed()
    os.write(ready, b"live\n")
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

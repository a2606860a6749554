"""The calls that alter the file system, counted, and one of them cut short or failed.

They are counted where Python makes them, in the process itself: a case costs milliseconds, and the process that is
"killed" ends there and then, as by SIGKILL. tests/unit/test_hunt.py holds the list of calls to what strace sees the
same change make.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable

CHANGING = (
    *("rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir", "mknod", "mkfifo"),
    *("chmod", "chown", "lchown", "fchmod", "fchown", "utime", "truncate", "ftruncate", "write", "pwrite", "fsync"),
)
"""Functions of os that alter a file, a name or an attribute, or force them to the disk."""

ERRORS = ("ENOSPC", "EIO", "EROFS", "EACCES")
KILLS = ("kill before", "kill after")
LASTING = ("ENOSPC on", "EROFS on")
"""This call fails, and so does every later one of the process: a disk stays full, or read-only."""
DEEDS = (*KILLS, *ERRORS, *LASTING)


really_open = os.open

KILLED = 137
"""What a process that was killed here ends with."""


@dataclass
class Calls:
    """Counts the calls; does `deed` to the call `number` (from 1; 0 to none)."""

    number: int = 0
    deed: str = ""
    concerns: Callable[[Any], bool] = lambda argument: True
    """Whether a call with this first argument (a path or a descriptor) is one of those that count."""
    seen: list[str] = field(default_factory=list)
    paused: bool = False
    """While a command of the host runs: it is another process."""
    guard: bool = False
    """Whether it is the guard's calls that count, which this process forks, and not its own."""
    struck: str = ""
    """A file that is there once the deed is done."""
    process: int = 0

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` as it behaves in the process that is hunted."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            mine = (os.getpid() == self.process) != self.guard
            if self.paused or not mine or not self.concerns(arguments[0]):
                return function(*arguments, **keywords)
            self.seen.append(name)
            lasts = self.deed in LASTING and 0 < self.number < len(self.seen)
            if len(self.seen) != self.number and not lasts:
                return function(*arguments, **keywords)
            if self.struck and not lasts:
                os.close(really_open(self.struck, os.O_CREAT | os.O_WRONLY, 0o600))
            if self.deed == "kill after":
                with contextlib.suppress(OSError):
                    function(*arguments, **keywords)
            if self.deed in KILLS:
                os._exit(KILLED)
            code = getattr(errno, self.deed.split()[0])
            raise OSError(code, os.strerror(code), arguments[0] if isinstance(arguments[0], str) else None)

        return call

    @contextlib.contextmanager
    def watching(self) -> Iterator[Calls]:
        """Within, the calls of this process are counted."""
        self.process = os.getpid()
        kept = {name: getattr(os, name) for name in (*CHANGING, "open")}
        plain = io.open
        make_new = self.around("open", kept["open"])
        open_to_write = self.around("open", plain)

        def open_(path: Any, flags: int, *rest: Any, **keywords: Any) -> Any:
            changing = flags & (os.O_CREAT | os.O_TRUNC)
            return (make_new if changing else kept["open"])(path, flags, *rest, **keywords)

        def io_open(file: Any, mode: str = "r", *rest: Any, **keywords: Any) -> Any:
            changing = set(mode) & set("wax+")
            return (open_to_write if changing else plain)(file, mode, *rest, **keywords)

        try:
            for name in CHANGING:
                setattr(os, name, self.around(name, kept[name]))
            os.open = open_
            io.open = io_open
            yield self
        finally:
            for name, function in kept.items():
                setattr(os, name, function)
            io.open = plain

"""Root: a directory tree seen as `/`, whether the running system's or a mounted image's.

Paths are resolved as a process chrooted there would: an absolute link starts again at the tree's own
root and `..` never leaves it, so that an image cannot lead us to files of this machine.

Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field, replace

from memproxy_sol.errors import HostError

MAX_LINKS = 40
"""Symbolic links followed in one path before it is called a loop (a common value of MAXSYMLINKS)."""

_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""What the kernel answers where there is nothing; nothing can have a name that is too long."""

MAX_READ = 16 * 1024 * 1024
"""Bytes that `read` returns at most; nothing that we read whole is larger."""


@dataclass(frozen=True)
class Component:
    """One step of a path's resolution: a directory, a link on the way, or what the path leads to."""

    path: str
    """As the target system sees it, all links before it resolved."""
    status: os.stat_result
    """From lstat(2)."""


@dataclass(frozen=True)
class FileState:
    """A regular file's content and attributes: what is compared, written and put back."""

    data: bytes
    mode: int
    """Permission bits, 0 to 0o7777."""
    uid: int
    gid: int
    mtime_ns: int | None = field(default=None, compare=False)
    """Time of modification in nanoseconds since 1970; None is that of the writing."""
    atime_ns: int | None = field(default=None, compare=False)
    """Time of the last access before we read it."""

    def with_data(self, data: bytes) -> FileState:
        """Another content for the same owner, with the same mode, and new times."""
        return replace(self, data=data, mtime_ns=None, atime_ns=None)


class Root:
    """A tree with its own `/`. `path` is the absolute path of its top on this machine."""

    def __init__(self, path: str, live: bool | None = None) -> None:
        """`live` says whether the tree is the running system's; only a laboratory says so of another tree than `/`."""
        self.path = os.path.realpath(path)
        self._live = self.path == "/" if live is None else live
        if not os.path.isdir(self.path):
            raise HostError("no such directory", where=path, hint="name the directory that an image is mounted on")

    @property
    def is_live(self) -> bool:
        """True for the running system's own root."""
        return self._live

    def host_path(self, path: str) -> str:
        """Where the target's `path` lies on this machine, its *parent's* links resolved inside the tree."""
        if "\0" in path:
            raise HostError("has a null byte in its name", where=path)
        parent, name = os.path.split(path.rstrip("/") or "/")
        if not name:
            return self.path
        return self._outside(os.path.join(self.resolve(parent), name))

    def resolve(self, path: str) -> str:
        """`path` with all links resolved inside the tree, as far as it exists.

        What does not exist is kept as written. Raises HostError for a loop of links.
        """
        return self._walk(path)[0]

    def components(self, path: str) -> tuple[Component, ...]:
        """Everything that a process must pass to open `path`, from `/` on: directories, links, the object itself.

        Ends early where a component does not exist. Raises HostError for a loop of links.
        """
        return tuple(self._walk(path)[1])

    def _outside(self, inside: str) -> str:
        return self.path.rstrip("/") + inside if inside != "/" else self.path

    def _walk(self, path: str) -> tuple[str, list[Component]]:
        if "\0" in path:
            raise HostError("has a null byte in its name", where=path)
        pending = [part for part in path.split("/") if part]
        here = "/"
        seen = [Component("/", os.lstat(self.path))]
        links = 0
        missing = False
        while pending:
            part = pending.pop(0)
            if part == ".":
                continue
            if part == "..":
                here = os.path.dirname(here)
                continue
            there = os.path.join(here, part)
            if missing:
                here = there
                continue
            try:
                status = os.lstat(self._outside(there))
            except OSError as error:
                if error.errno in _NOTHING:
                    missing = True
                    here = there
                    continue
                raise HostError(error.strerror or str(error), where=there) from error
            seen.append(Component(there, status))
            if not stat.S_ISLNK(status.st_mode):
                here = there
                continue
            links += 1
            if links > MAX_LINKS:
                raise HostError("too many symbolic links", where=path, hint="remove the loop")
            target = os.readlink(self._outside(there))
            if target.startswith("/"):
                here = "/"
            pending = [piece for piece in target.split("/") if piece] + pending
        return here, seen

    def lstat(self, path: str) -> os.stat_result | None:
        """The status of `path` itself (not of what a link leads to), or None where it does not exist."""
        try:
            return os.lstat(self.host_path(path))
        except OSError as error:
            if error.errno in _NOTHING:
                return None
            raise HostError(error.strerror or str(error), where=path) from error

    def stat(self, path: str) -> os.stat_result | None:
        """The status of what `path` leads to, links resolved inside the tree, or None where nothing is there."""
        return self.lstat(self.resolve(path))

    def exists(self, path: str) -> bool:
        """Whether `path`, links resolved inside the tree, leads to anything."""
        return self.stat(path) is not None

    def read(self, path: str, limit: int = MAX_READ) -> FileState | None:
        """The regular file that `path` leads to, or None where nothing is there.

        Never blocks and never opens anything but a regular file. Raises HostError for another kind of
        object, for one of more than `limit` bytes, and for one that this process may not read.
        """
        host = self._outside(self.resolve(path))
        try:
            descriptor = os.open(host, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _NOTHING:
                return None
            raise HostError(error.strerror or str(error), where=path) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise HostError(f"is {kind_of(status.st_mode)}, not a regular file", where=path)
            if status.st_size > limit:
                raise HostError(f"has {status.st_size} bytes, more than the {limit} that are read", where=path)
            data = _read(descriptor, status.st_size, limit)
            if len(data) > limit:
                raise HostError(f"grew beyond the {limit} bytes that are read", where=path)
        except OSError as error:
            raise HostError(error.strerror or str(error), where=path) from error
        finally:
            os.close(descriptor)
        mode = stat.S_IMODE(status.st_mode)
        return FileState(data, mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_atime_ns)

    def names(self, path: str) -> tuple[str, ...]:
        """The sorted names in the directory that `path` leads to; empty where there is none."""
        try:
            return tuple(sorted(os.listdir(self._outside(self.resolve(path)))))
        except OSError as error:
            if error.errno in _NOTHING:
                return ()
            raise HostError(error.strerror or str(error), where=path) from error


def _read(descriptor: int, size: int, limit: int) -> bytes:
    """At most `limit` + 1 bytes of an open file, which has `size`, or says so: memory for what is there alone."""
    pieces: list[bytes] = []
    left = limit + 1
    while left > 0:
        piece = os.read(descriptor, min(left, max(size + 1, 65536)))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def kind_of(mode: int) -> str:
    """The kind of object that st_mode tells, with its article: `a directory`, `a FIFO`…"""
    for test, name in (
        (stat.S_ISREG, "a regular file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    ):
        if test(mode):
            return name
    return "an object of unknown kind"

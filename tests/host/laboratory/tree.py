"""Tree: the laboratory's files as a process of a given user sees them, links and modes obeyed, nothing outside."""

from __future__ import annotations

import errno
import os
import stat

MAX_LINKS = 20
"""Links followed in one path before ELOOP (MAXSYMLINKS of sys/param.h)."""


class Tree:
    """The files below `top`, which is this tree's `/`."""

    def __init__(self, top: str) -> None:
        self.top = os.path.realpath(top)
        self.cwd = "/"
        """Where relative names begin."""
        self.hidden: set[str] = set()
        """Mount points whose file system is not mounted now: nothing below them is there."""

    def resolve(self, path: str, uid: int = 0, follow: bool = True) -> str:
        """`path` with every link resolved inside the tree (`follow`: the last component too).

        The last component need not exist. Raises OSError as a system call of user `uid` would: ENOENT, ENOTDIR,
        EACCES (a directory that may not be searched), ELOOP.
        """
        if not path.startswith("/"):
            path = f"{self.cwd}/{path}"
        pending = [part for part in path.split("/") if part]
        must_be_directory = path.endswith("/") and len(pending) > 0
        here = ""
        links = 0
        while pending:
            part = pending.pop(0)
            if part == ".":
                continue
            if part == "..":
                here = here.rpartition("/")[0]
                continue
            there = f"{here}/{part}"
            if here in self.hidden:
                raise _error(errno.ENOENT, path)
            try:
                status = os.lstat(self.top + there)
            except (FileNotFoundError, NotADirectoryError) as error:
                if error.errno == errno.ENOENT and not pending:
                    return there
                raise _error(error.errno or errno.ENOENT, path) from None
            if uid != 0 and not self._may(os.lstat(self.top + here), uid, 1):
                raise _error(errno.EACCES, path)
            if stat.S_ISLNK(status.st_mode) and (pending or follow or must_be_directory):
                links += 1
                if links > MAX_LINKS:
                    raise _error(errno.ELOOP, path)
                target = os.readlink(self.top + there)
                if target.startswith("/"):
                    here = ""
                pending[:0] = [piece for piece in target.split("/") if piece]
                continue
            if pending and not stat.S_ISDIR(status.st_mode):
                raise _error(errno.ENOTDIR, path)
            here = there
        return here or "/"

    def host(self, path: str, uid: int = 0, follow: bool = True) -> str:
        """Where `path` lies on this machine; raises as `resolve`."""
        inside = self.resolve(path, uid, follow)
        return self.top if inside == "/" else self.top + inside

    def stat(self, path: str, uid: int = 0) -> os.stat_result:
        """The status of what `path` leads to; raises OSError."""
        return os.lstat(self.host(path, uid))

    def exists(self, path: str) -> bool:
        """Whether anything is there."""
        try:
            self.stat(path)
        except OSError:
            return False
        return True

    def may(self, path: str, uid: int, wanted: int) -> bool:
        """Whether user `uid` has the rights `wanted` (4 read, 2 write, 1 execute) on what `path` leads to."""
        try:
            return self._may(self.stat(path, uid), uid, wanted)
        except OSError:
            return False

    def read(self, path: str, uid: int = 0) -> bytes:
        """The content of the file; raises OSError as open(2) and read(2) of user `uid` would."""
        host = self.host(path, uid)
        status = os.lstat(host)
        if not self._may(status, uid, 4):
            raise _error(errno.EACCES, path)
        if stat.S_ISDIR(status.st_mode):
            raise _error(errno.EISDIR, path)
        if not stat.S_ISREG(status.st_mode):
            raise _error(errno.ENXIO, path)
        with open(host, "rb") as stream:
            return stream.read()

    @staticmethod
    def _may(status: os.stat_result, uid: int, wanted: int) -> bool:
        if uid == 0:
            return wanted != 1 or stat.S_ISDIR(status.st_mode) or status.st_mode & 0o111 != 0
        bits = status.st_mode >> 6 if status.st_uid == uid else status.st_mode
        return bits & wanted == wanted


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)

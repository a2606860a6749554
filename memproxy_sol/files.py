"""Files: how a file or a directory of a tree gets onto the disk, or off it, such that no instant shows half of it.

Standard library only: journal.py is imported at boot.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable

from memproxy_sol.root import FileState, Root

NEW = ".memproxy-new"
"""What is put behind a file's name for the sibling that will take its place."""


def put(root: Root, path: str, state: FileState | None) -> None:
    """Bring the file at `path` to `state` in one rename (None: remove it), and put it on disk; OSError on failure."""
    host = root.host_path(path)
    if state is None:
        remove(root, path)
        return
    new = host + NEW
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    try:
        write_new(new, state)
        os.rename(new, host)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    sync_directory(os.path.dirname(host))


def write_new(host: str, state: FileState) -> None:
    """Make the file `host` (a path of this machine), which must not exist, and read it back; OSError on failure.

    The times of `state` are set as well as the file system can hold them.
    """
    descriptor = os.open(host, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, state.data)
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_gid) != (state.uid, state.gid):
            os.fchown(descriptor, state.uid, state.gid)
        os.fchmod(descriptor, state.mode)
        os.fsync(descriptor)
        if _read_all(descriptor) != state.data:
            raise OSError(5, "what was written reads back differently", host)
        if state.mtime_ns is not None:
            # Reading it back was an access. A file system that has no such time is no reason not to put a file back.
            times = (state.atime_ns if state.atime_ns is not None else state.mtime_ns, state.mtime_ns)
            with contextlib.suppress(OSError, OverflowError, ValueError):
                os.utime(descriptor if os.utime in os.supports_fd else host, ns=times)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however often it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    pieces: list[bytes] = []
    while True:
        piece = os.read(descriptor, 1 << 20)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def place(root: Root, path: str, state: FileState | None) -> None:
    """As `put`, for the places of a change: directories on the way that somebody has removed since are made."""
    if state is not None:
        for directory in missing_directories(root.exists, root.resolve(os.path.dirname(path))):
            make_directory(root, directory, 0o755)
    put(root, path, state)


def missing_directories(exists: Callable[[str], bool], path: str) -> tuple[str, ...]:
    """The ancestors of `path` and `path` itself which `exists` denies, parents first."""
    missing = []
    while path != "/" and not exists(path):
        missing.append(path)
        path = path.rpartition("/")[0] or "/"
    return tuple(reversed(missing))


def make_directory(root: Root, path: str, mode: int) -> None:
    """Make a directory of root's with exactly this mode; OSError on failure."""
    host = root.host_path(path)
    os.mkdir(host, 0o700)  # whatever the umask: nobody may put anything in before the mode is what it is to be
    os.chmod(host, mode)
    status = os.stat(host)
    if (status.st_uid, status.st_gid) != (0, 0):
        os.chown(host, 0, 0)
    sync_directory(os.path.dirname(host))


def discard(host: str) -> None:
    """Remove what is no directory at a path of this machine, if it is there; OSError where it has to stay."""
    try:
        os.unlink(host)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass
    except PermissionError as error:
        if error.errno != errno.EPERM:  # which is what Solaris says of a directory
            raise
    except OSError as error:
        # Linux says so of what is not there, too.
        if error.errno != errno.EROFS or os.path.lexists(host):
            raise


def remove(root: Root, path: str) -> None:
    """Remove a file, if it is there."""
    host = root.host_path(path)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(host)
        sync_directory(os.path.dirname(host))


def remove_empty(root: Root, paths: Iterable[str]) -> None:
    """Remove those of the directories that are empty."""
    for path in paths:
        host = root.host_path(path)
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.lstat(host).st_mode):
                os.rmdir(host)
                sync_directory(os.path.dirname(host))


def sync_directory(host: str) -> None:
    """Put the names in a directory of this machine on disk."""
    descriptor = os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

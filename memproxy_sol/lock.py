"""Lock: keeps a second memproxy-sol from changing the same host at the same time, and tells who holds it.

On the running system it is a record lock, fcntl(2), on RUN_DIRECTORY/lock, which holds the process number: Solaris 10
has no flock(3C) on a directory (Python does flock there by record locks, which need a descriptor that may write). It
lies where nothing survives a reboot, and the kernel drops it with the process: a number that a killed one left in the
file is stale and means nothing. An image is locked by flock on its top directory, which leaves nothing behind; where
it is Solaris that configures it, by a file in RUN_DIRECTORY of that machine.

A file can be removed by whoever cleans up: so the journal names the process that carries a change out, too, and nobody
takes that back while it lives; and who has lost his file begins no change.

Record locks end with the *first* close of any descriptor of the file in the process: nobody else may open it there.
Standard library only: the boot-time verification asks `holder`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator

from memproxy_sol.errors import HostError
from memproxy_sol.record import RUN_DIRECTORY
from memproxy_sol.root import Root, kind_of

try:
    import fcntl
except ImportError:  # pragma: no cover - every host we configure has it
    fcntl = None  # type: ignore[assignment]

LOCK_PATH = f"{RUN_DIRECTORY}/lock"
_LOCKS = "/proc/locks"
"""Who holds which lock (proc(5) of Linux, since it may be Linux that an image is configured on)."""
_CAN_LOCK_DIRECTORIES = not sys.platform.startswith("sunos")
_MACHINE = "/"
"""The machine that an image is configured on."""
_UNSUPPORTED = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_held: dict[str, int] = {}
"""The trees that this process has locked, to its number: record locks do not keep a process from itself."""
_files: dict[str, int] = {}
"""The descriptors of those whose lock is a file."""


@contextlib.contextmanager
def locked(root: Root) -> Iterator[None]:
    """Keep a second memproxy-sol from changing the same host; HostError with its process number if one is at work."""
    if _held.get(root.path) == os.getpid():
        raise busy(root, os.getpid())
    tree = _tree_of_file(root)
    descriptor = _open_file(tree, _name(root)) if tree else _open_directory(root)
    try:
        if fcntl is not None:
            _take(root, descriptor, of_file=tree is not None)
        _held[root.path] = os.getpid()
        if tree:
            _files[root.path] = descriptor
        try:
            check(root)
            yield
        finally:
            del _held[root.path]
            _files.pop(root.path, None)
            if tree:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(root: Root) -> int | None:
    """The number of the process that is changing the host, 0 if one is that cannot be told, None if none is.

    For readers: it changes nothing, and takes a lock of its own only to unmask a stale number, for an instant.
    """
    own = _held.get(root.path)
    if own is not None and _is_alive(own):
        return own
    if fcntl is None:
        return None
    if _tree_of_file(root) is not None:
        number = _number_in_file(root)
        return number if number and _is_alive(number) and _is_locked(root) else None
    pids = _flocks(root)
    if pids is not None and not pids:
        return None
    return (pids[0] if pids else 0) if _is_locked(root) else None


def run_directory(root: Root) -> str:
    """RUN_DIRECTORY as a path of this machine, made if it is missing; HostError if it is not root's alone."""
    host = root.host_path(RUN_DIRECTORY)
    try:
        try:
            os.mkdir(host, 0o755)
            os.chmod(host, 0o755)
        except FileExistsError:
            pass
        status = os.lstat(host)
    except OSError as error:
        raise HostError(
            f"cannot be made: {error.strerror or error}", where=RUN_DIRECTORY, hint="look at /var/run"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise HostError(
            f"is {kind_of(status.st_mode)} where a directory has to be", where=RUN_DIRECTORY, hint=f"rm {host}"
        )
    if status.st_uid != 0 or status.st_mode & 0o022:
        text = f"belongs to user {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}, not to root alone"
        raise HostError(text, where=RUN_DIRECTORY, hint=f"find out who made it, then rm -r {host}")
    return host


def _tree_of_file(root: Root) -> Root | None:
    """The tree in whose RUN_DIRECTORY the lock is a file; None where it is the top directory that is locked.

    Who is not root can change nothing that the lock is for, but may have an exclusion list of his own.
    """
    if os.geteuid() != 0:
        return None
    if root.is_live:
        return root
    return None if _CAN_LOCK_DIRECTORIES else Root(_MACHINE)


def _name(root: Root) -> str:
    """The name of the lock's file; an image has one on the machine that configures it."""
    if root.is_live:
        return os.path.basename(LOCK_PATH)
    status = os.stat(root.path)
    return f"lock-{status.st_dev:x}-{status.st_ino:x}"


def _open_file(tree: Root, name: str) -> int:
    host = f"{run_directory(tree)}/{name}"
    try:
        return os.open(host, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        text = f"cannot be made: {error.strerror or error}"
        raise HostError(text, where=f"{RUN_DIRECTORY}/{name}", hint=f"look at {host}") from error


def _open_directory(root: Root) -> int:
    return os.open(root.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _take(root: Root, descriptor: int, of_file: bool) -> None:
    try:
        if of_file:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise busy(root, _number_in_file(root) if of_file else next(iter(_flocks(root) or ()), None)) from None
        if not of_file and os.geteuid() != 0 and error.errno in _UNSUPPORTED:
            return
        raise HostError(f"cannot be locked: {error.strerror or error}", where=root.path) from error
    if of_file:
        # Without room for the number the lock is still a lock.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)


def check(root: Root) -> None:
    """HostError if the file that this process has locked is not the one that another would lock."""
    descriptor = _files.get(root.path)
    if descriptor is None or _held.get(root.path) != os.getpid():
        return
    try:
        there = os.lstat(_lock_path(root))
    except (OSError, HostError):
        there = None
    mine = os.fstat(descriptor)
    if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
        text = "was removed by somebody while this command was at work, so that another may be, too"
        raise HostError(f"{text}; nothing has been changed", where=_lock_path(root), hint="type the command again")


def busy(root: Root, number: int | None) -> HostError:
    """The error that tells of the process, if its number is known, that is changing the host."""
    who = f"another memproxy-sol (process {number})" if number else "another memproxy-sol"
    return HostError(f"{who} is changing it", where=root.path, hint="wait for it to end and try again")


def _lock_path(root: Root) -> str:
    """The lock's file, or the directory that is locked, as a path of this machine."""
    tree = _tree_of_file(root)
    return root.path if tree is None else tree.host_path(f"{RUN_DIRECTORY}/{_name(root)}")


def _number_in_file(root: Root) -> int | None:
    """What the lock's file says, stale or not. Not for the holder itself."""
    try:
        descriptor = os.open(_lock_path(root), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, HostError):
        return None
    try:
        text = os.read(descriptor, 32).strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    number = int(text) if text.isdigit() else 0
    return number if 0 < number < 2**31 else None


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _is_locked(root: Root) -> bool:
    """Whether a lock for reading is refused: the holder is there, and no number left by a dead one."""
    of_file = _tree_of_file(root) is not None
    try:
        descriptor = os.open(_lock_path(root), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, HostError):
        return False
    try:
        (fcntl.lockf if of_file else fcntl.flock)(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def _flocks(root: Root) -> tuple[int, ...] | None:
    """Who holds an flock on the tree's top directory by /proc/locks; None where that does not tell.

    The device is not compared: that of a subvolume differs from its file system's.
    """
    try:
        inode = os.stat(root.path).st_ino
        with open(_LOCKS, encoding="ascii", errors="replace") as stream:
            lines = [line.split() for line in stream]
    except OSError:
        return None
    found = []
    for fields in lines:
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            found.append(max(int(fields[4]), 0) if fields[4].lstrip("-").isdigit() else 0)
    return tuple(found)

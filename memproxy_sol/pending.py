"""Pending: what of a trial lies on the disk, and what becomes of it. Reads and changes files; decides nothing.

While a trial is pending there lie, for each configuration file PATH (`steps.TryFile` names them):

  PATH                    a symbolic link to TRIAL_DIRECTORY/32 or 64, the file that is tried. That directory does not
                          survive a reboot; the runtime linker then finds no configuration and uses its defaults
  PATH.memproxy-new       the same content, on disk: one rename makes it permanent
  PATH.memproxy-former    a hard link to the file that PATH was, if there was one: one rename makes it undone, with
                          inode, owner and times
  TRIAL_DIRECTORY/state   who guards the trial and until when (`Trial`); locked by the guard while it lives
  GUARD_DIRECTORY/socket  where the guard listens

Everything here may be repeated, and begun at any state that a killed process left. What somebody else has put at PATH
meanwhile is theirs, and stays. Standard library only: a forgotten trial is taken back at boot.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from memproxy_sol import files
from memproxy_sol.abi import LD_SO_PRELOAD
from memproxy_sol.errors import ChangeError, HostError
from memproxy_sol.record import RUN_DIRECTORY
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import TRIAL_DIRECTORY, TryFile

try:
    import fcntl
except ImportError:  # pragma: no cover - every host we configure has it
    fcntl = None  # type: ignore[assignment]

STATE = f"{TRIAL_DIRECTORY}/state"
GUARD_DIRECTORY = f"{RUN_DIRECTORY}/guard"
SOCKET = f"{GUARD_DIRECTORY}/socket"
STATE_SIZE = 512
"""Bytes of STATE, so that one write in place changes it."""
_END_SECONDS = 10.0
"""How long a killed guard may take to be gone."""


class Keeper(Protocol):
    """What the journal asks of the guard of a trial (guard.py has it; pending.py only knows what lies on the disk)."""

    def arm(self, change: int, journal: str, steps: Sequence[TryFile]) -> None:
        """Start to guard these steps of a change, whose journal lies at a path of this machine; nothing is live yet."""

    def go_live(self, step: TryFile) -> None:
        """Let the step's file, which is prepared, lead to the candidate."""

    def stand_down(self) -> None:
        """Take everything back that is live, and end. Never raises: what is left, the journal takes back."""


@dataclass(frozen=True)
class Trial:
    """Who guards a pending trial, and until when. Times are those of the monotonic clock, in seconds."""

    change: int
    """Its number in the journal."""
    guard: int
    """The guard's process."""
    seconds: float
    """How long it is tried."""
    armed: float
    deadline: float
    boot: str
    """What tells this boot from another; empty where nothing does but the directory's being gone."""
    passed: bool = False
    """Whether the probes after the change have passed."""

    def encode(self) -> bytes:
        """As it lies in STATE: one line of JSON, filled up with blanks."""
        return json.dumps(asdict(self)).encode("ascii").ljust(STATE_SIZE - 1) + b"\n"

    def is_over(self, now: float) -> bool:
        """Whether it is later than the deadline, or another boot: the clock starts anew with each."""
        return self.boot != boot_id() or not self.armed <= now < self.deadline


def boot_id() -> str:
    """What the kernel calls this boot; empty on Solaris, where RUN_DIRECTORY is on a file system of its own memory."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except (OSError, ValueError):
        return ""


def read(root: Root) -> Trial | None:
    """The trial that STATE tells of, None if there is none or it cannot be understood."""
    try:
        state = root.read(STATE, limit=STATE_SIZE)
        return None if state is None else Trial(**json.loads(state.data))
    except (HostError, ValueError, TypeError):
        return None


def is_guarded(root: Root) -> bool:
    """Whether the guard of the pending trial lives: it holds the lock on STATE as long as it does."""
    try:
        descriptor = os.open(root.host_path(STATE), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, HostError):
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def make_directories(root: Root) -> None:
    """TRIAL_DIRECTORY, which everybody has to be able to search, and GUARD_DIRECTORY, which is root's alone."""
    for path, mode in ((RUN_DIRECTORY, 0o755), (TRIAL_DIRECTORY, 0o755), (GUARD_DIRECTORY, 0o700)):
        if root.lstat(path) is None:
            files.make_directory(root, path, mode)
        status = root.lstat(path)
        if status is None or not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
            raise ChangeError("is not a directory of root's alone", where=path, hint=f"rm -r {root.host_path(path)}")


def prepare(root: Root, step: TryFile) -> None:
    """Put everything beside the live file, which stays as it is. ChangeError if that is not what the plan saw."""
    host = root.host_path(step.path)
    _check_live(root, step)
    make_directories(root)
    candidate = root.host_path(step.candidate)
    files.discard(candidate)
    # A list for root's processes alone is that while it is tried, too; what crle writes is for everybody.
    mode = step.after.mode if step.path == LD_SO_PRELOAD else 0o644
    files.write_new(candidate, FileState(step.after.data, mode, 0, 0))
    for name in (step.new, step.former, step.link, step.tried):
        files.discard(root.host_path(name))
    files.write_new(root.host_path(step.new), step.after)
    if step.before is not None:
        os.link(host, root.host_path(step.former), follow_symlinks=False)
    os.symlink(step.candidate, root.host_path(step.link))
    files.sync_directory(os.path.dirname(host))


def stage(root: Root, step: TryFile) -> None:
    """Lay beside the live file, which stays as it is, what a boot is to try; ChangeError as `prepare`."""
    _check_live(root, step)
    for name in (step.new, step.former, step.link, step.tried):
        files.discard(root.host_path(name))
    files.write_new(root.host_path(step.new), step.after)
    files.sync_directory(os.path.dirname(root.host_path(step.path)))


def go_live(root: Root, step: TryFile) -> None:
    """Let the name of a prepared file lead to the candidate: one rename. ChangeError as `prepare`."""
    _check_live(root, step)
    os.rename(root.host_path(step.link), root.host_path(step.path))
    files.sync_directory(os.path.dirname(root.host_path(step.path)))


def _check_live(root: Root, step: TryFile) -> None:
    status = root.lstat(step.path)
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise ChangeError("is not a regular file, so it cannot be put back", where=step.path)
    if root.read(step.path) != step.before:
        raise ChangeError("was changed since the plan was made", where=step.path, hint="type the command again")


def is_on_trial(root: Root, path: str) -> bool:
    """Whether the name of a configuration file is one of our links, whatever it leads to."""
    try:
        return os.path.dirname(os.readlink(root.host_path(path))) == TRIAL_DIRECTORY
    except OSError:
        return False


def edited(root: Root, step: TryFile) -> bool:
    """Whether somebody has written through the link, into what is tried: neither verdict on the trial keeps that."""
    try:
        state = root.read(step.candidate)
    except HostError:
        return True
    return state is not None and state.data != step.after.data


def is_live(root: Root, step: TryFile) -> bool:
    """Whether the file's name leads to the candidate."""
    try:
        return os.readlink(root.host_path(step.path)) == step.candidate
    except OSError:
        return False


def make_permanent(root: Root, step: TryFile) -> None:
    """Put the real file in place of the link: one rename. ChangeError if somebody else has put something there."""
    if not is_live(root, step):
        raise ChangeError("was changed by somebody else while it was tried", where=step.path)
    os.rename(root.host_path(step.new), root.host_path(step.path))
    files.sync_directory(os.path.dirname(root.host_path(step.path)))


def take_back(root: Root, step: TryFile) -> None:
    """Put the former file back, whatever of the step has happened, and remove what lies beside it."""
    host, former = root.host_path(step.path), root.host_path(step.former)
    if not os.path.isdir(os.path.dirname(host)):
        # Somebody has removed the whole directory, and all that lay in it.
        if step.before is not None:
            files.place(root, step.path, step.before)
        return
    ours = is_live(root, step) or _is_after(root, step)
    if _is(root, step.former, step.before):
        # Before the trial is live both are names of one file, and `clear` takes this one away.
        if ours or not os.path.lexists(host):
            os.rename(former, host)
    elif ours and step.before is None:
        os.unlink(host)
    elif step.before is not None and (ours or not os.path.lexists(host)):
        files.place(root, step.path, step.before)
    files.sync_directory(os.path.dirname(host))
    clear(root, step)


def _is_after(root: Root, step: TryFile) -> bool:
    """Whether the file is, under its own name, what was tried: confirmed, or half confirmed."""
    return step.before != step.after and _is(root, step.path, step.after)


def _is(root: Root, path: str, state: FileState | None) -> bool:
    """Whether a regular file of this state lies at `path`, under its own name."""
    status = root.lstat(path)
    if state is None or status is None or not stat.S_ISREG(status.st_mode):
        return False
    with contextlib.suppress(HostError):
        return root.read(path) == state
    return False


def clear(root: Root, step: TryFile) -> None:
    """Remove what lies beside a file that is no longer on trial."""
    for name in _litter(root, [step]):
        files.discard(root.host_path(name))
        files.sync_directory(os.path.dirname(root.host_path(name)))


def has_litter(root: Root, steps: Iterable[TryFile]) -> bool:
    """Whether anything of the trial of these steps, which is over, still lies somewhere."""
    steps = list(steps)
    return bool(steps) and (bool(_litter(root, steps)) or root.lstat(TRIAL_DIRECTORY) is not None)


def _litter(root: Root, steps: Iterable[TryFile]) -> list[str]:
    names = [name for step in steps for name in (step.new, step.former, step.link, step.tried)]
    return [name for name in names if root.lstat(name) is not None]


def clear_run(root: Root) -> None:
    """Remove what lies of a trial in RUN_DIRECTORY."""
    for directory in (GUARD_DIRECTORY, TRIAL_DIRECTORY):
        for name in root.names(directory):
            files.discard(root.host_path(f"{directory}/{name}"))
        with contextlib.suppress(OSError):
            os.rmdir(root.host_path(directory))


def end_guard(root: Root) -> None:
    """Kill the guard of the pending trial, if there is one: what it has not done, `take_back` does.

    ChangeError if it does not end. The number in STATE is the guard's, as long as its lock is held.
    """
    trial = read(root)
    if trial is None or not is_guarded(root):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(trial.guard, signal.SIGKILL)
    limit = now() + _END_SECONDS
    while is_guarded(root):
        if now() > limit:
            raise ChangeError(f"does not end (process {trial.guard})", where="the guard of the trial")
        time.sleep(0.01)


def now() -> float:
    """The clock of deadlines: it neither jumps nor stops with the wall clock, and starts with the boot."""
    return time.monotonic()

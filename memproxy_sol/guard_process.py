"""Guard process: what runs in the guard of a trial (guard.py), from its fork to its verdict.

After it has said that it is armed it opens, starts and imports nothing: every exec on the machine may die. Its way
back is rename(2) and fsync(2) on what it holds open, and one line to the journal. Before a rename it looks, with
lstat(2) and readlink(2), whether the names are still what was put there: what somebody else put there meanwhile stays,
and does not come into force either.
Standard library only: guard.py is imported at boot.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from memproxy_sol import changes, files
from memproxy_sol.pending import Trial
from memproxy_sol.root import Root
from memproxy_sol.steps import TryFile

try:
    import fcntl
except ImportError:  # pragma: no cover - every host we configure has it
    fcntl = None  # type: ignore[assignment]

CLIENTS = 8
"""How many that want something may wait at a time."""
ATTEMPTS = 300
"""How often, a second apart, it tries to put a file back that does not let itself be put back."""
_LONGEST = 3600.0
"""Seconds of one wait: poll(2) takes its limit as an int of milliseconds."""
_DEADLY = ("SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS", "SIGCHLD")
_AT = {os.rename, os.readlink, os.stat} <= os.supports_dir_fd
"""Solaris 10 has no readlinkat(2)."""

Clock = Callable[[], float]
Wait = Callable[[Sequence[int], float], Sequence[int]]
"""Which of the descriptors have something to read, or have ended, after at most so many seconds."""


@dataclass
class Held:
    """A configuration file, as names in a directory that is held open."""

    directory: int
    path: str
    """The directory as a path of this machine, for systems that know no names in open directories."""
    name: str
    link: str
    new: str
    former: str
    tried: str
    candidate: str
    """What the link leads to."""
    had_file: bool
    live: bool = False
    permanent: bool = False
    identity: tuple[int, int] | None = None
    """Device and inode of the file that went when this became live."""

    def rename(self, old: str, new: str) -> None:
        """Rename, and put it on disk."""
        if _AT:
            os.rename(old, new, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        else:  # pragma: no cover - Solaris 10
            os.rename(f"{self.path}/{old}", f"{self.path}/{new}")
        os.fsync(self.directory)

    def identity_of(self, name: str) -> tuple[int, int] | None:
        """Device and inode of a name, None for nothing."""
        try:
            if _AT:
                status = os.stat(name, dir_fd=self.directory, follow_symlinks=False)
            else:  # pragma: no cover - Solaris 10
                status = os.lstat(f"{self.path}/{name}")
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def is_former(self) -> bool:
        """Whether the name, which is not live yet, is what was there when all was prepared; it is remembered."""
        self.identity = self.identity_of(self.name)
        return self.identity == (self.identity_of(self.former) if self.had_file else None)

    def is_ours(self) -> bool:
        """Whether the name is our link. OSError where it is no link (EINVAL) or nothing (ENOENT)."""
        if _AT:
            return os.readlink(self.name, dir_fd=self.directory) == self.candidate
        return os.readlink(f"{self.path}/{self.name}") == self.candidate  # pragma: no cover - Solaris 10


def hold(root: Root, step: TryFile) -> Held:
    """Open what the guard needs of a file."""
    host = root.host_path(step.path)
    directory, name = os.path.split(host)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Held(
        descriptor,
        directory,
        name,
        link=os.path.basename(step.link),
        new=os.path.basename(step.new),
        former=os.path.basename(step.former),
        tried=os.path.basename(step.tried),
        candidate=step.candidate,
        had_file=step.before is not None,
    )


@dataclass
class Guard:
    """The guard's own process, from being armed to its verdict. Nothing in here may open, fork, exec or import."""

    held: Sequence[Held]
    trial: Trial
    journal: int
    state: int
    channel: socket.socket | None
    listener: socket.socket
    clock: Clock
    wait: Wait

    def __post_init__(self) -> None:
        self.clients: list[socket.socket] = []
        # A torn line of a killed installer must not swallow ours.
        self.complete = b"\n" + changes.line({"state": changes.COMPLETE})
        self.expired = b"\n" + changes.line({"state": changes.EXPIRED})

    def run(self) -> None:
        """Wait for the verdict and carry it out."""
        while True:
            left = self.trial.deadline - self.clock()
            if left <= 0:
                self.take_back()
                return
            sources = [self.listener, *self.clients, *([self.channel] if self.channel else [])]
            ready = self.wait([source.fileno() for source in sources], min(left, _LONGEST))
            for source in sources:
                if source.fileno() in ready and self.clock() < self.trial.deadline and self._hear(source):
                    return

    def _hear(self, source: socket.socket) -> bool:
        """What one source has to say; whether it was the verdict."""
        if source is self.listener:
            with contextlib.suppress(OSError):
                client, _ = self.listener.accept()
                client.setblocking(False)
                if len(self.clients) == CLIENTS:
                    self.clients.pop(0).close()
                self.clients.append(client)
            return False
        try:
            words = source.recv(256).decode("ascii", "replace").split("\n")[0].split()
        except BlockingIOError:
            return False
        except OSError:
            words = []
        if not words:
            self._ended(source)
            return False
        if words == ["undo"]:
            self.take_back(source)
            return True
        if words == ["confirm"]:
            return self._confirm(source)
        if source is self.channel and words[0] == "live" and len(words) == 2 and words[1].isdigit():
            self._go_live(int(words[1]))
        elif source is self.channel and words == ["passed"]:
            self._reckon(passed=True)
            self._answer(source, f"until {self.trial.deadline!r}")
        else:
            self._answer(source, "what")
        return False

    def _ended(self, source: socket.socket) -> None:
        source.close()
        if source is self.channel:
            self.channel = None
            self._reckon(passed=False)
        else:
            self.clients.remove(source)

    def _reckon(self, passed: bool) -> None:
        """Count the trial's seconds from now, unless they are over sooner."""
        deadline = min(self.trial.deadline, self.clock() + self.trial.seconds)
        self.trial = replace(self.trial, deadline=deadline, passed=passed or self.trial.passed)
        with contextlib.suppress(OSError):
            os.pwrite(self.state, self.trial.encode(), 0)

    def _go_live(self, number: int) -> None:
        assert self.channel is not None
        held = self.held[number]
        try:
            answer = f"changed {held.name}"
            if held.is_former():
                held.rename(held.link, held.name)
                held.live = True
                answer = "live"
        except OSError as error:
            answer = f"failed {error.errno}"
        self._answer(self.channel, answer)

    def _confirm(self, source: socket.socket) -> bool:
        for held in self.held:
            try:
                ours = held.is_ours()
            except OSError:
                ours = False
            if not held.live or not ours:
                self._answer(source, f"changed {held.name}" if held.live else "unfinished")
                return False
        try:
            for held in self.held:
                held.permanent = True  # if the rename happens and its fsync fails, it has happened
                held.rename(held.new, held.name)
        except OSError as error:
            self._answer(source, f"failed {error.errno}")
            self.take_back()
            return True
        # Whether a line that could not be put on disk is there is for the next reader to see: no second one now.
        self._answer(source, "confirmed" if self._write(self.complete) else "unsure")
        self._dismiss("confirmed")
        return True

    def take_back(self, source: socket.socket | None = None) -> None:
        """Put every former file back, tell the journal, and then whoever asks."""
        left = list(self.held)
        for _ in range(ATTEMPTS):
            left = [held for held in left if not _put_back(held)]
            if not left:
                break
            self.wait([], 1.0)
        else:
            return  # the trial is left without a guard, which says that it is to be taken back
        self._write(self.expired)
        if source is not None:
            self._answer(source, "undone")
        self._dismiss("undone")

    def _write(self, line: bytes) -> bool:
        try:
            files.write_all(self.journal, line)
            os.fsync(self.journal)
        except OSError:
            return False
        return True

    def _dismiss(self, word: str) -> None:
        """Answer everybody who still waits, those who were never heard included."""
        with contextlib.suppress(OSError):
            while len(self.clients) < 2 * CLIENTS:
                client, _ = self.listener.accept()
                self.clients.append(client)
        for source in (*self.clients, *([self.channel] if self.channel else [])):
            self._answer(source, word)

    @staticmethod
    def _answer(source: socket.socket, word: str) -> None:
        with contextlib.suppress(OSError):
            source.send(word.encode("ascii") + b"\n")


def _put_back(held: Held) -> bool:
    """Whether the former file has its name again, or the name is somebody else's by now."""
    try:
        if not held.permanent:
            try:
                if not held.is_ours():
                    return True
            except FileNotFoundError:
                if not held.had_file:
                    return True
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return True
        try:
            if held.had_file and held.identity not in (None, held.identity_of(held.former)):
                raise FileNotFoundError
            held.rename(held.former if held.had_file else held.name, held.name if held.had_file else held.tried)
        except FileNotFoundError:
            # Its former file is gone, or another: without any configuration every program starts, and the journal has
            # the bytes. So it is where the whole directory is.
            with contextlib.suppress(FileNotFoundError):
                if held.had_file and held.is_ours():
                    held.rename(held.name, held.tried)
    except OSError:
        return False
    return True


def start(guard: Guard, null: int, ours: socket.socket) -> None:
    """Start the guard's process as nobody's child, in a session of its own."""
    child = os.fork()
    if child != 0:
        os.waitpid(child, 0)
        return
    try:
        # First of all: no handler of the installer's may run in here, nor anything that it would do on leaving.
        for number in signal.valid_signals() - {getattr(signal, name) for name in _DEADLY if hasattr(signal, name)}:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                signal.signal(number, signal.SIG_IGN)
        os.setsid()
        if os.fork() == 0:
            ours.close()
            _live(guard, null)
    finally:
        os._exit(0)


def _live(guard: Guard, null: int) -> NoReturn:
    """What the guard's process does."""
    try:
        os.chdir("/")
        for number in (0, 1, 2):
            os.dup2(null, number)
        assert guard.channel is not None
        kept = {0, 1, 2, guard.journal, guard.state, guard.channel.fileno(), guard.listener.fileno()}
        _close_all_but(kept | {held.directory for held in guard.held})
        gc.disable()
        gc.freeze()
        _lock_memory()
        fcntl.lockf(guard.state, fcntl.LOCK_EX | fcntl.LOCK_NB)
        guard.trial = replace(guard.trial, guard=os.getpid())
        os.pwrite(guard.state, guard.trial.encode(), 0)
        guard.channel.send(b"armed\n")
        guard.run()
    finally:
        os._exit(0)


def _close_all_but(kept: set[int]) -> None:
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except (OSError, ValueError):
        numbers = list(range(4096))
    for number in set(numbers) - kept:
        with contextlib.suppress(OSError):
            os.close(number)


def _lock_memory() -> None:
    """Keep what is in memory there, if the system lets us: its file may be unreadable when it is needed."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).mlockall(1)  # MCL_CURRENT, of Linux and Solaris alike


def poll(descriptors: Sequence[int], seconds: float) -> list[int]:
    """poll(2). A process that cannot even wait must not run in circles: the deadline is what counts."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poller.poll(max(0, int(seconds * 1000) + 1))]

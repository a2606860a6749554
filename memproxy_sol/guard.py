"""Guard: a process that takes a change on trial back, unless it is confirmed in time; and the way to it.

`install --try` forks it before anything is live. It lives in its own session, without a terminal, deaf to every signal
that may be ignored, and holds open all that it needs: the directories of the configuration files, the journal, the
state, a listening socket. From then on it starts no program or process, opens and imports nothing: what it can do
when every exec on the machine dies is rename(2), fsync(2), and one line to the journal. Before a rename it looks, with
readlink(2), whether the name is still the link that it has put there: what somebody else put there meanwhile stays.

It alone makes a configuration live, permanent or undone, in one thread, so that no two of these can race:

  armed      nothing is live. The installer prepares each file and asks over its channel: `live N`
  on trial   the installer says `passed` when the probes have passed, or `undo`. The end of the channel is no verdict;
             it only means that nobody will say `passed` any more. A new process says `confirm` over the socket
  the end    `confirm` within time: every name becomes the real file, and the journal is `complete`. Else, at the
             deadline or told to: every name is the former file again, and the journal says `expired`

The deadline is that of the monotonic clock; it is looked at before every message, and wins a tie. It counts from the
moment at which the probes passed, or the channel ended, and has an upper bound from the beginning.

If the guard itself dies (nothing but SIGKILL does that), the links are still there, and lead nowhere after a reboot;
whoever finds a trial without a guard takes it back (`forgotten`, `take_back`).
Standard library only: it is imported at boot.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

from memproxy_sol import changes, guard_process, journal, pending
from memproxy_sol.errors import ChangeError, HostError, RefusedError
from memproxy_sol.guard_process import ATTEMPTS, CLIENTS, Clock, Guard, Wait
from memproxy_sol.pending import GUARD_DIRECTORY, SOCKET, STATE, Trial, is_guarded
from memproxy_sol.root import Root
from memproxy_sol.steps import TryFile

PATIENCE = 600.0
"""Seconds that the remaining steps and the probes may take, all together, before the trial's own seconds begin."""
ANSWER_SECONDS = 30.0
"""How long the guard may take to answer; it never waits for anything itself."""
_STUCK = ATTEMPTS + 60.0
"""Seconds after the deadline at which a guard that still lives is given up: stopped, or hanging in the kernel."""


class Watch:
    """The installer's end of a guard; what the journal asks of it is `pending.Keeper`."""

    def __init__(
        self,
        root: Root,
        seconds: float,
        patience: float = PATIENCE,
        clock: Clock = pending.now,
        wait: Wait | None = None,
    ) -> None:
        self.root, self.seconds, self.patience = root, seconds, patience
        self._clock, self._wait = clock, wait or guard_process.poll
        self._steps: list[TryFile] = []
        self._channel: socket.socket | None = None

    @property
    def is_armed(self) -> bool:
        """Whether there is a guard: a change that tries no file needs none."""
        return self._channel is not None

    def arm(self, change: int, journal: str, steps: Sequence[TryFile]) -> None:
        """Start the guard of a change, whose journal lies at a path of this machine; ChangeError if it cannot be."""
        root = self.root
        if is_guarded(root):
            raise ChangeError("another trial is pending", where=STATE, hint="type memproxy-sol confirm, or wait")
        pending.clear_run(root)
        pending.make_directories(root)
        self._steps = list(steps)
        now = self._clock()
        trial = Trial(change, 0, self.seconds, now, now + self.patience + self.seconds, pending.boot_id())
        with contextlib.ExitStack() as opened:

            def keep(descriptor: int) -> int:
                opened.callback(os.close, descriptor)
                return descriptor

            held = []
            for step in steps:
                held.append(guard_process.hold(root, step))
                keep(held[-1].directory)
            written = keep(os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC))
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            state = keep(os.open(root.host_path(STATE), flags, 0o600))
            null = keep(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            listener = opened.enter_context(_listen(root))
            ours, theirs = socket.socketpair()
            opened.enter_context(theirs)
            guard = Guard(held, trial, written, state, theirs, listener, self._clock, self._wait)
            try:
                guard_process.start(guard, null, ours)
                theirs.close()  # or the end of a guard that dies now would not be seen
                self._channel = ours
                self._expect("armed")
            except BaseException:
                ours.close()
                self._channel = None
                raise

    def go_live(self, step: TryFile) -> None:
        """Have a prepared file go live; ChangeError if it does not."""
        self._ask(f"live {self._steps.index(step)}", "live")

    def passed(self) -> float:
        """Say that the probes passed; the seconds until the trial is taken back. ChangeError if it is already."""
        return float(self._ask("passed", "until").partition(" ")[2]) - self._clock()

    def keep(self) -> None:
        """Confirm the change without a trial: what an install does that has been probed and is not to be tried.

        ChangeError where somebody has written into what is live for just this time.
        """
        for step in self._steps:
            if pending.edited(self.root, step):
                raise ChangeError(f"somebody else has written to {step.path} meanwhile", where="the guard of the trial")
        self._ask("confirm", "confirmed")
        self.close()

    def stand_down(self) -> None:
        """Have everything taken back, and end the guard, whatever state it is in."""
        if self._channel is not None:
            with contextlib.suppress(OSError, ChangeError):
                self._ask("undo", "undone")
            self.close()
        with contextlib.suppress(OSError, ChangeError, HostError):
            pending.end_guard(self.root)

    def close(self) -> None:
        """Leave the guard alone."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _ask(self, words: str, expected: str) -> str:
        assert self._channel is not None, "not armed"
        try:
            self._channel.sendall(words.encode("ascii") + b"\n")
        except OSError as error:
            raise ChangeError(f"is gone: {error.strerror}", where="the guard of the trial") from error
        return self._expect(expected)

    def _expect(self, expected: str) -> str:
        assert self._channel is not None
        answer = _line_of(self._channel)
        if answer.partition(" ")[0] == expected:
            return answer
        if answer.startswith("failed "):
            raise OSError(int(answer[7:]), os.strerror(int(answer[7:])))
        reason = {
            "undone": "has taken everything back: the time was over",
            "unsure": "could not write to the journal",
            "": "is gone",
        }
        if answer.startswith("changed "):
            text = f"somebody else has changed {answer[8:]} meanwhile"
        else:
            text = reason.get(answer, f"says {answer}")
        raise ChangeError(text, where="the guard of the trial")


def _line_of(channel: socket.socket) -> str:
    """One line that the guard says; empty if it is gone. HostError if it says none in time."""
    data = b""
    channel.settimeout(ANSWER_SECONDS)
    while not data.endswith(b"\n"):
        try:
            piece = channel.recv(256)
        except socket.timeout:
            text = f"has not answered within {ANSWER_SECONDS:g} seconds"
            raise ChangeError(text, where="the guard of the trial") from None
        except OSError:
            return ""
        if not piece:
            return ""
        data += piece
    return data.decode("ascii").split("\n")[0]


def ask(root: Root, words: str) -> str | None:
    """What the guard of the pending trial answers to `confirm` or `undo`; None if there is none any more.

    ChangeError for one that does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            with _inside(root.host_path(GUARD_DIRECTORY)):
                client.connect(os.path.basename(SOCKET))
            client.sendall(words.encode("ascii") + b"\n")
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            return None
        except OSError as error:
            raise HostError(error.strerror or str(error), where=SOCKET) from error
        return _line_of(client) or None


def forgotten(root: Root, clock: Clock = pending.now) -> changes.Change | None:
    """The change with files on trial that nobody takes care of: after a reboot, or when the guard was killed.

    None where a guard lives, or another memproxy-sol is at work. Who holds the lock himself may ask.
    """
    change = changes.unfinished(root)
    if change is None or change.state in (changes.COMPLETE, changes.STAGED) or not changes.tried(change):
        return None
    if is_guarded(root):
        trial = pending.read(root)
        return change if trial is not None and clock() > trial.deadline + _STUCK else None
    return change if changes.at_work(root, change) in (None, os.getpid()) else None


def take_back(root: Root, clock: Clock = pending.now, services: journal.Services | None = None) -> str | None:
    """Take a forgotten trial back, all its steps; what was done, in words, or None if there is none.

    For who holds the lock. HostError or ChangeError where it cannot be done; OSError for a step that fails.
    """
    change = forgotten(root, clock)
    return None if change is None else journal.recover(root, change, services)


def refuse_pending(root: Root, change: changes.Change, clock: Clock = pending.now) -> None:
    """RefusedError for a change on trial whose guard lives: another change has to wait until it is decided."""
    if change.state == changes.TRIAL and is_guarded(root) and forgotten(root, clock) is None:
        trial = pending.read(root)
        left = max(0.0, trial.deadline - clock()) if trial else 0.0
        text = f"change {change.number} ({change.what}) is on trial for another {left:.0f} seconds"
        raise RefusedError(
            text,
            where=root.path,
            hint="type memproxy-sol confirm to keep it, or memproxy-sol uninstall to take it back",
        )


def _listen(root: Root) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _inside(root.host_path(GUARD_DIRECTORY)):
            mask = os.umask(0o177)
            try:
                listener.bind(os.path.basename(SOCKET))
            finally:
                os.umask(mask)
        listener.listen(CLIENTS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _inside(directory: str) -> Iterator[None]:
    """With `directory` as the working directory: the name of a socket has room for about a hundred bytes."""
    here = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        yield
    finally:
        os.fchdir(here)
        os.close(here)

"""The guard: in this process with a clock that the test turns, and as a real process that loses everything else."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from memproxy_sol import guard, guard_process, journal, lock, pending, steps
from memproxy_sol.errors import ChangeError, RefusedError
from memproxy_sol.guard_process import Guard, Held
from memproxy_sol.pending import Trial
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import ReplaceFile, TryFile
from tests.unit.guarded import AFTER, PATHS, SECONDS

FORMER = b"former"
NEVER = 1e9


@pytest.fixture(params=[True, False], ids=["with former files", "without"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    top = tmp_path / "top"
    for name in ("var/ld/64", "var/run"):
        (top / name).mkdir(parents=True)
    if request.param:
        for path in PATHS:
            (top / path[1:]).write_bytes(FORMER)
            os.utime(top / path[1:], ns=(1_500_000_000_000_000_007, 1_500_000_000_000_000_007))
    return Root(str(top), live=True)


def seen(root: Root) -> dict[str, tuple[object, ...]]:
    """The configuration directories: each name with inode, time and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in Path(root.host_path("/var/ld")).rglob("*"):
        if not path.is_dir():
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes()
            found[str(path)] = (status.st_ino, status.st_mode, status.st_mtime_ns, content)
    return found


def planned(root: Root) -> tuple[steps.Step, ...]:
    return steps.on_trial(ReplaceFile(path, root.read(path), AFTER, "configuration") for path in PATHS)


# ---- The decision, in this process.


@dataclass
class Desk:
    """A guard whose clock and waiting the test holds, and both ends of its channel."""

    root: Root
    guard: Guard
    channel: socket.socket
    journal: Path
    now: float = 0.0
    script: list[Callable[[], None]] = field(default_factory=list)
    """What happens while the guard waits, one at a time; then the time is over."""

    def clock(self) -> float:
        return self.now

    def wait(self, descriptors: Sequence[int], seconds: float) -> list[int]:
        if descriptors and self.script:
            self.script.pop(0)()
        elif descriptors and not guard_process.poll(descriptors, 0):
            self.now += seconds
        return guard_process.poll(descriptors, 0) if descriptors else []

    def client(self, words: str) -> socket.socket:
        """A new process that asks."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with guard._inside(self.root.host_path(pending.GUARD_DIRECTORY)):
            client.connect("socket")
        client.sendall(words.encode() + b"\n")
        return client

    def states(self) -> list[str]:
        return re.findall(r'"state":"(\w+)"', self.journal.read_text())


@pytest.fixture
def desk(root: Root, tmp_path: Path) -> Iterator[Desk]:
    pending.make_directories(root)
    files = [step for step in planned(root) if isinstance(step, TryFile)]
    for step in files:
        pending.prepare(root, step)
    note = tmp_path / "journal"
    note.write_bytes(b'00000000 {"torn')
    state = tmp_path / "state"
    ours, theirs = socket.socketpair()
    flags = os.O_RDWR | os.O_CREAT
    made = Guard(
        [guard_process.hold(root, step) for step in files],
        Trial(1, os.getpid(), 60.0, 0.0, 100.0, ""),
        os.open(note, os.O_WRONLY | os.O_APPEND),
        os.open(state, flags),
        theirs,
        guard._listen(root),
        lambda: NEVER,
        lambda descriptors, seconds: [],
    )
    found = Desk(root, made, ours, note)
    made.clock, made.wait = found.clock, found.wait
    yield found
    for held in made.held:
        os.close(held.directory)
    for descriptor in (made.journal, made.state):
        os.close(descriptor)
    for end in (ours, theirs, made.listener, *made.clients):
        end.close()


def heard(end: socket.socket) -> list[str]:
    end.settimeout(10)
    return end.recv(256).decode().split("\n")[:-1]


def live(desk: Desk) -> None:
    desk.channel.sendall(b"live 0\n")


def both_live(desk: Desk) -> list[Callable[[], None]]:
    def second() -> None:
        assert heard(desk.channel) == ["live"]
        desk.channel.sendall(b"live 1\n")

    return [lambda: live(desk), second, lambda: None]


def is_former(desk: Desk, name: str) -> bool:
    path = Path(desk.root.host_path(name))
    return not os.path.lexists(path) or (not path.is_symlink() and path.read_bytes() == FORMER)


def all_former(desk: Desk) -> bool:
    return all(is_former(desk, name) for name in PATHS)


def all_new(desk: Desk) -> bool:
    return all(not os.path.islink(desk.root.host_path(name)) and desk.root.read(name) == AFTER for name in PATHS)


def test_without_a_word_the_time_runs_out_and_it_is_taken_back(desk: Desk) -> None:
    desk.script = both_live(desk)
    desk.guard.run()
    assert all_former(desk)
    assert desk.states() == ["expired"]
    assert desk.now == 100.0


def test_live_is_a_link_and_nothing_else(desk: Desk) -> None:
    def look() -> None:
        for path, bits in zip(PATHS, (32, 64)):
            assert os.readlink(desk.root.host_path(path)) == f"/var/run/memproxy/trial/{bits}"
            assert desk.root.read(path) == AFTER

    desk.script = [*both_live(desk), look]
    desk.guard.run()
    assert not desk.script


def test_confirmed_in_time_it_stays(desk: Desk) -> None:
    clients: list[socket.socket] = []
    desk.script = [*both_live(desk), lambda: clients.append(desk.client("confirm"))]
    desk.guard.run()
    assert heard(clients[0])[0] == "confirmed"
    assert all_new(desk)
    assert desk.states() == ["complete"]


def test_a_confirmation_that_waits_when_the_time_is_over_has_lost(desk: Desk) -> None:
    clients: list[socket.socket] = []

    def tie() -> None:
        clients.append(desk.client("confirm"))
        desk.now = 100.0

    desk.script = [*both_live(desk), tie]
    desk.guard.run()
    assert heard(clients[0])[0] == "undone"
    assert all_former(desk)
    assert desk.states() == ["expired"]


def test_so_has_one_that_was_taken_up_but_not_heard_yet(desk: Desk) -> None:
    clients: list[socket.socket] = []

    def tie() -> None:
        assert desk.guard.clients
        desk.now = 100.0

    desk.script = [*both_live(desk), lambda: clients.append(desk.client("confirm")), tie]
    desk.guard.run()
    assert heard(clients[0])[0] == "undone"
    assert all_former(desk)


def test_a_moment_before_it_has_won(desk: Desk) -> None:
    clients: list[socket.socket] = []

    def close_call() -> None:
        clients.append(desk.client("confirm"))
        desk.now = 99.999

    desk.script = [*both_live(desk), close_call]
    desk.guard.run()
    assert heard(clients[0])[0] == "confirmed"


def test_the_end_of_the_channel_is_no_verdict(desk: Desk) -> None:
    clients: list[socket.socket] = []

    def ended() -> None:
        desk.now = 10.0
        desk.channel.close()

    def still() -> None:
        assert desk.guard.trial.deadline == 70.0, "the trial's own seconds from now"
        assert not all_former(desk) or all_new(desk)
        clients.append(desk.client("confirm"))

    desk.script = [*both_live(desk), ended, lambda: None, still]
    desk.guard.run()
    assert heard(clients[0])[0] == "confirmed"


def test_the_seconds_count_from_the_probes_and_have_an_upper_bound(desk: Desk) -> None:
    answers: list[str] = []

    def passed(now: float) -> Callable[[], None]:
        def say() -> None:
            desk.now = now
            desk.channel.sendall(b"passed\n")

        return say

    def answered() -> None:
        answers.extend(heard(desk.channel))

    desk.script = [*both_live(desk), lambda: answers.extend(heard(desk.channel)), passed(20.0), answered]
    desk.guard.run()
    assert answers == ["live", "until 80.0"]
    assert desk.now == 80.0
    stored = Trial(**json.loads(os.pread(desk.guard.state, 512, 0)))
    assert (stored.deadline, stored.passed) == (80.0, True)


def test_probes_that_pass_late_do_not_prolong_it(desk: Desk) -> None:
    def passed() -> None:
        desk.now = 90.0
        desk.channel.sendall(b"passed\n")

    desk.script = [*both_live(desk), passed]
    desk.guard.run()
    assert desk.now == 100.0


def test_told_to_it_takes_back_at_once(desk: Desk) -> None:
    def undo() -> None:
        heard(desk.channel)
        desk.channel.sendall(b"undo\n")

    desk.script = [*both_live(desk), undo]
    desk.guard.run()
    assert heard(desk.channel)[0] == "undone"
    assert all_former(desk)
    assert desk.now < 100.0


def test_a_change_that_is_half_live_cannot_be_confirmed(desk: Desk) -> None:
    clients: list[socket.socket] = []
    desk.script = [lambda: live(desk), lambda: clients.append(desk.client("confirm"))]
    desk.guard.run()
    assert heard(clients[0]) == ["unfinished", "undone"]
    assert all_former(desk)


def test_what_somebody_else_put_there_is_neither_confirmed_nor_overwritten(desk: Desk) -> None:
    clients: list[socket.socket] = []
    other = Path(desk.root.host_path(PATHS[0]))

    def change() -> None:
        other.unlink()
        other.write_bytes(b"another's")
        clients.append(desk.client("confirm"))

    desk.script = [*both_live(desk), change]
    desk.guard.run()
    assert heard(clients[0]) == ["changed ld.config", "undone"]
    assert other.read_bytes() == b"another's"
    assert is_former(desk, PATHS[1])


def test_nor_is_a_link_of_somebody_else(desk: Desk) -> None:
    other = Path(desk.root.host_path(PATHS[0]))

    def change() -> None:
        other.unlink()
        other.symlink_to("/opt/their.config")

    desk.script = [*both_live(desk), change]
    desk.guard.run()
    assert os.readlink(other) == "/opt/their.config"
    assert is_former(desk, PATHS[1])


def test_a_link_that_somebody_removed_gives_way_to_the_former_file(desk: Desk) -> None:
    desk.script = [*both_live(desk), lambda: os.unlink(desk.root.host_path(PATHS[0]))]
    desk.guard.run()
    assert all_former(desk)
    before = desk.guard.held[0].had_file
    assert os.path.exists(desk.root.host_path(PATHS[0])) == before


def test_without_its_former_file_a_live_link_still_goes(desk: Desk) -> None:
    def lose() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(desk.root.host_path(f"{PATHS[0]}.memproxy-former"))

    desk.script = [*both_live(desk), lose]
    desk.guard.run()
    assert not os.path.lexists(desk.root.host_path(PATHS[0]))
    assert desk.states() == ["expired"]


def test_another_file_in_the_place_of_the_former_one_does_not_come_into_force(desk: Desk) -> None:
    """The guard leaves nothing then, with which every program starts; the journal has what was there before."""
    tried = [step for step in planned(desk.root) if isinstance(step, TryFile)]
    former = Path(desk.root.host_path(tried[0].former))

    def change() -> None:
        another = former.with_name("another")
        another.write_bytes(b"another's")
        another.rename(former)

    desk.script = [*both_live(desk), change]
    desk.guard.run()
    assert not os.path.lexists(desk.root.host_path(PATHS[0]))
    assert is_former(desk, PATHS[1])
    for step in tried:
        pending.take_back(desk.root, step)
    assert all_former(desk)
    assert os.path.exists(desk.root.host_path(PATHS[0])) == desk.guard.held[0].had_file


def test_what_somebody_has_put_there_before_it_goes_live_stays(desk: Desk) -> None:
    other = Path(desk.root.host_path(PATHS[0]))

    def change() -> None:
        another = other.with_name("another")
        another.write_bytes(b"another's")
        another.rename(other)
        live(desk)

    desk.script = [change, lambda: None]
    desk.guard.run()
    assert heard(desk.channel) == ["changed ld.config", "undone"]
    assert other.read_bytes() == b"another's"


def test_a_rename_that_fails_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError(errno.EIO, "I/O error")] * 5
    rename = Held.rename

    def flaky(held: Held, old: str, new: str) -> None:
        if old != held.link and failures:
            raise failures.pop()
        rename(held, old, new)

    monkeypatch.setattr(Held, "rename", flaky)
    desk.script = both_live(desk)
    desk.guard.run()
    assert not failures
    assert all_former(desk)
    assert desk.states() == ["expired"]


def test_what_cannot_be_put_back_is_not_said_to_be(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Held.rename

    def stuck(held: Held, old: str, new: str) -> None:
        if old != held.link:
            raise OSError(errno.EROFS, "Read-only file system")
        rename(held, old, new)

    monkeypatch.setattr(Held, "rename", stuck)
    desk.script = both_live(desk)
    desk.guard.run()
    assert desk.states() == [], "a trial that nobody guards: the next command takes it back"


def test_half_confirmed_is_taken_back_whole(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    clients: list[socket.socket] = []
    rename = Held.rename

    def second_fails(held: Held, old: str, new: str) -> None:
        if held is desk.guard.held[1] and old == held.new:
            raise OSError(errno.EIO, "I/O error")
        rename(held, old, new)

    monkeypatch.setattr(Held, "rename", second_fails)
    desk.script = [*both_live(desk), lambda: clients.append(desk.client("confirm"))]
    desk.guard.run()
    assert heard(clients[0])[0] == f"failed {errno.EIO}"
    assert all_former(desk)
    assert desk.states() == ["expired"]


def test_a_failing_flip_is_told_to_the_installer(desk: Desk) -> None:
    os.unlink(desk.root.host_path(f"{PATHS[0]}.memproxy-link"))
    desk.script = [lambda: live(desk)]
    desk.guard.run()
    assert heard(desk.channel)[0] == f"failed {errno.ENOENT}"
    assert all_former(desk)


@pytest.mark.parametrize("words", ["live 0", "passed", "hello", "confirm now", "\0", "x" * 200])
def test_a_stranger_can_say_nothing_else(desk: Desk, words: str) -> None:
    clients: list[socket.socket] = []
    desk.script = [lambda: clients.append(desk.client(words)), lambda: None]
    desk.guard.run()
    assert heard(clients[0])[0] == "what"
    assert all_former(desk)
    assert not any(held.live for held in desk.guard.held)


def test_silent_clients_keep_nobody_out(desk: Desk) -> None:
    clients: list[socket.socket] = []

    def idle() -> None:
        clients.append(desk.client(""))

    def ask() -> None:
        clients.append(desk.client("confirm"))

    desk.script = [*both_live(desk), *[idle] * 20, ask]
    desk.guard.run()
    assert heard(clients[-1])[0] == "confirmed"


# ---- A real process.


@dataclass
class Trying:
    """An installer with its guard, as processes; the clock is a file."""

    root: Root
    installer: subprocess.Popen[bytes]
    clock: Path
    terminal: int
    trace: Path | None
    pid: int = 0
    """The guard's."""

    @property
    def guard(self) -> int:
        trial = pending.read(self.root)
        assert trial is not None
        return trial.guard

    def turn(self, now: float) -> None:
        with self.clock.open("r+b") as stream:
            stream.write(struct.pack("d", now))

    def ended(self) -> None:
        """Wait for the guard's end."""
        while pending.is_guarded(self.root):
            time.sleep(0.01)
        if self.trace is not None:
            self.installer.kill()
            self.installer.wait()

    def calls(self) -> list[str]:
        """The guard's system calls from the moment at which it was armed."""
        assert self.trace is not None
        text = Path(f"{self.trace}.{self.pid}").read_text()
        armed = text.index('"armed\\n"')
        return re.findall(r"^(\w+)\(", text[armed:], re.MULTILINE)


def strace() -> list[str]:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed")
    return [found]


def start(root: Root, tmp_path: Path, tracer: Sequence[str] = ()) -> Trying:
    clock, trace = tmp_path / "clock", tmp_path / "trace"
    clock.write_bytes(struct.pack("d", 0.0))
    master, slave = os.openpty()
    ready, ready_end = os.pipe()
    program = Path(__file__).with_name("guarded.py")
    command = [sys.executable, str(program), root.path, str(clock), str(ready_end)]
    if tracer:
        command = [*tracer, "-ff", "-o", str(trace), *command]
    installer = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        pass_fds=[ready_end],
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    os.close(slave)
    os.close(ready_end)
    said = os.read(ready, 64)
    os.close(ready)
    if said != b"live\n":
        pytest.fail(os.read(master, 65536).decode(errors="replace"))
    trying = Trying(root, installer, clock, master, trace if tracer else None)
    trying.pid = trying.guard
    return trying


@pytest.fixture
def trying(root: Root, tmp_path: Path) -> Iterator[Callable[..., Trying]]:
    started: list[Trying] = []

    def make(tracer: Sequence[str] = ()) -> Trying:
        started.append(start(root, tmp_path, tracer))
        return started[-1]

    yield make
    for one in started:
        pending.end_guard(one.root)
        one.installer.kill()
        one.installer.wait()
        with contextlib.suppress(OSError):
            os.close(one.terminal)


ALLOWED = {
    *("poll", "accept4", "accept", "recvfrom", "sendto", "close", "getsockname", "getsockopt", "ioctl", "fcntl"),
    *("renameat", "renameat2", "readlinkat", "newfstatat", "fstatat64", "statx", "fsync", "write", "pwrite64"),
    *("mmap", "munmap", "brk", "madvise", "mremap", "exit_group", "clock_gettime", "getpid"),
    "restart_syscall",  # of a poll that was interrupted
}
"""What an armed guard may call: nothing of it starts a process or a program, or opens a file."""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def test_it_survives_its_terminal_its_parent_and_every_signal_and_needs_nothing_to_take_back(
    root: Root, trying: Callable[..., Trying]
) -> None:
    before = seen(root)
    one = trying(strace())
    status = Path(f"/proc/{one.guard}/stat").read_text().rpartition(")")[2].split()
    assert int(status[3]) != os.getsid(one.installer.pid), "its session is its own"
    assert status[4] == "0", "it has no terminal"
    assert os.readlink(f"/proc/{one.guard}/cwd") == "/"
    assert {os.readlink(f"/proc/{one.guard}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
    children = Path(f"/proc/{one.installer.pid}/task/{one.installer.pid}/children").read_text().split()
    for child in children:  # strace's child is the installer
        os.kill(int(child), signal.SIGKILL)
    os.close(one.terminal)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP, signal.SIGALRM):
        os.kill(one.guard, number)
    os.kill(one.guard, signal.SIGUSR1)
    assert all(os.path.islink(root.host_path(path)) for path in PATHS)
    one.turn(SECONDS)
    one.ended()
    after = {name: value for name, value in seen(root).items() if ".memproxy-" not in name}
    assert after == before
    (change,) = journal.history(root)
    assert change.state == "expired"
    calls = one.calls()
    assert set(calls) <= ALLOWED, set(calls) - ALLOWED
    changing = [call for call in calls if call.startswith("renameat") or call in ("fsync", "write")]
    flip = ["renameat", "fsync"]
    assert [call[:8] for call in changing] == [*flip, *flip, *flip, *flip, "write", "fsync"], "live, back, the journal"
    journal.recover(root, change)
    assert seen(root) == before
    assert os.listdir(root.host_path("/var/run/memproxy")) == []


def test_confirmed_it_has_called_nothing_else_either(root: Root, trying: Callable[..., Trying]) -> None:
    one = trying(strace())
    one.turn(SECONDS - 1)
    assert guard.ask(root, "confirm") == "confirmed"
    one.ended()
    for path in PATHS:
        assert not os.path.islink(root.host_path(path))
        assert root.read(path) == AFTER
    assert set(one.calls()) <= ALLOWED
    change = journal.unfinished(root)
    assert change is not None
    assert change.state == "complete"
    journal.recover(root, change)
    assert sorted(os.listdir(root.host_path("/var/ld"))) == ["64", "ld.config"]
    assert guard.ask(root, "confirm") is None


def test_a_real_tie_is_lost_by_the_confirmation(root: Root, trying: Callable[..., Trying]) -> None:
    before = seen(root)
    one = trying()
    os.kill(one.guard, signal.SIGSTOP)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        with guard._inside(root.host_path(pending.GUARD_DIRECTORY)):
            client.connect("socket")
        client.sendall(b"confirm\n")
        one.turn(SECONDS)
        os.kill(one.guard, signal.SIGCONT)
        client.settimeout(60)
        assert client.recv(100).startswith(b"undone\n")
    one.ended()
    assert {name: value for name, value in seen(root).items() if ".memproxy-" not in name} == before


def test_a_killed_guard_is_noticed_and_the_trial_taken_back(root: Root, trying: Callable[..., Trying]) -> None:
    before = seen(root)
    one = trying()
    assert guard.forgotten(root, lambda: SECONDS) is None
    change = journal.unfinished(root)
    assert change is not None
    with pytest.raises(RefusedError, match="is on trial for another 20 seconds; type memproxy-sol confirm"):
        guard.refuse_pending(root, change, lambda: SECONDS - 20)
    os.kill(one.guard, signal.SIGKILL)
    one.ended()
    assert guard.ask(root, "confirm") is None
    guard.refuse_pending(root, change)
    assert guard.forgotten(root) is not None
    assert "on trial" in str(guard.take_back(root))
    assert seen(root) == before
    assert guard.take_back(root) is None


def test_a_guard_that_is_stopped_long_after_its_time_is_given_up(root: Root, trying: Callable[..., Trying]) -> None:
    before = seen(root)
    one = trying()
    os.kill(one.guard, signal.SIGSTOP)
    assert guard.take_back(root, lambda: SECONDS + guard._STUCK) is None
    assert "on trial" in str(guard.take_back(root, lambda: SECONDS + guard._STUCK + 1))
    assert not is_alive(one.pid)
    assert seen(root) == before


def test_nobody_takes_a_change_back_that_is_being_made(root: Root, trying: Callable[..., Trying]) -> None:
    one = trying()
    os.kill(one.guard, signal.SIGKILL)
    one.ended()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException), lock.locked(root):
            os.write(writer, b"+")
            signal.pause()
        os._exit(0)
    try:
        os.read(reader, 1)
        assert guard.forgotten(root) is None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
    assert guard.forgotten(root) is not None


def test_a_trial_that_is_taken_back_by_hand_ends_its_guard(root: Root, trying: Callable[..., Trying]) -> None:
    before = seen(root)
    one = trying()
    change = journal.unfinished(root)
    assert change is not None
    journal.recover(root, change)
    assert not is_alive(one.pid)
    assert seen(root) == before


# ---- The installer's end.


def run_journal(root: Root, watch: guard.Watch, plan: Sequence[steps.Step]) -> None:
    journal.apply(root, "install", "now", plan, keeper=watch)


def test_kept_without_a_trial(root: Root) -> None:
    watch = guard.Watch(root, 60.0)
    run_journal(root, watch, planned(root))
    assert watch.is_armed
    assert 0 < watch.passed() <= 60.0
    watch.keep()
    change = journal.unfinished(root)
    assert change is not None
    journal.recover(root, change)
    assert journal.unfinished(root) is None
    assert root.read(PATHS[0]) == AFTER


def test_stood_down_everything_is_as_before(root: Root) -> None:
    before = seen(root)
    watch = guard.Watch(root, 60.0)
    run_journal(root, watch, planned(root))
    watch.stand_down()
    change = journal.unfinished(root)
    assert change is not None
    assert change.state == "expired"
    journal.recover(root, change)
    assert seen(root) == before
    watch.stand_down()


def test_a_guard_that_is_gone_fails_the_change(root: Root) -> None:
    before = seen(root)

    class Dies(guard.Watch):
        def go_live(self, step: TryFile) -> None:
            if step.path == PATHS[1]:
                trial = pending.read(self.root)
                assert trial is not None
                os.kill(trial.guard, signal.SIGKILL)
                while pending.is_guarded(self.root):
                    time.sleep(0.01)
            super().go_live(step)

    with pytest.raises(ChangeError, match="is gone"):
        run_journal(root, Dies(root, 60.0), planned(root))
    assert seen(root) == before
    assert journal.unfinished(root) is None


def test_a_guard_that_cannot_be_armed_leaves_all_as_it_is(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    before = seen(root)

    def no_process() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_process)
    with pytest.raises(ChangeError, match="nothing is changed"):
        run_journal(root, guard.Watch(root, 60.0), planned(root))
    assert seen(root) == before


def test_a_guard_that_dies_before_it_is_armed_is_not_waited_for(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor of its end of the channel that stayed open here would keep it alive."""
    monkeypatch.setattr(guard_process, "_lock_memory", lambda: os._exit(1))
    before = seen(root)
    with pytest.raises(ChangeError, match="is gone"):
        run_journal(root, guard.Watch(root, 60.0), planned(root))
    assert seen(root) == before


def test_no_second_trial_beside_a_pending_one(root: Root, trying: Callable[..., Trying]) -> None:
    trying()
    with pytest.raises(ChangeError, match="another trial is pending"):
        guard.Watch(root, 60.0).arm(2, "/nowhere", [])


def test_a_change_without_files_to_try_needs_no_guard(root: Root) -> None:
    watch = guard.Watch(root, 60.0)
    run_journal(root, watch, [ReplaceFile("/var/ld/memproxy.txt", None, FileState(b"", 0o644, 0, 0), "a file")])
    assert not watch.is_armed
    assert journal.history(root)[0].state == "complete"

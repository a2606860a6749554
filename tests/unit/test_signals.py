"""Signals between steps, in a step, in the undo: real processes, real signals, every boundary."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import errors, files, journal, signals
from memproxy_sol.errors import Interrupted, MemproxyError
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import MakeDirectory, ReplaceFile
from tests.usual_signals import usual_signals

LIST, PROFILE, CONFIG = "/etc/memproxy.conf", "/etc/svc/profile/site/memproxy.xml", "/var/ld/ld.config"
FILE = FileState(b"new", 0o644, 0, 0)
FORMER = FileState(b"former", 0o600, 0, 3)
STEPS = [
    MakeDirectory("/etc/svc"),
    MakeDirectory("/etc/svc/profile"),
    MakeDirectory("/etc/svc/profile/site"),
    ReplaceFile(LIST, FORMER, FILE, "list"),
    ReplaceFile(PROFILE, None, FILE, "profile"),
    ReplaceFile(CONFIG, None, FILE, "configuration"),
]


@pytest.fixture(autouse=True)
def dispositions() -> Iterator[None]:
    """As in a shell at a terminal, even where the tests run in the background or under nohup."""
    with usual_signals():
        yield


@pytest.fixture
def top(tmp_path: Path) -> Path:
    path = tmp_path / "top"
    (path / "etc").mkdir(parents=True)
    (path / "var/ld").mkdir(parents=True)
    (path / "etc/memproxy.conf").write_bytes(b"former")
    (path / "etc/memproxy.conf").chmod(0o600)
    os.chown(path / "etc/memproxy.conf", 0, 3)
    return path


def contents(top: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(top.rglob("*")):
        status = path.stat()
        found[str(path.relative_to(top))] = (
            status.st_mode, status.st_uid, status.st_gid, path.read_bytes() if path.is_file() else None
        )  # fmt: skip
    return found


def child(work: Callable[[], int]) -> int:
    """The exit status of a process of its own that does `work`; negative for a signal, as subprocess has it."""
    number = os.fork()
    if number == 0:
        status = 99
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(number, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def apply(top: Path, told: Path, *more: Callable[[], None]) -> int:
    """The change in this process; what it says goes to `told`."""
    try:
        for prepare in more:
            prepare()
        journal.apply(Root(str(top)), "install", "now", STEPS)
    except MemproxyError as error:
        told.write_text(str(error))
        return errors.report(error)
    return 0


def at(count: int, place: str, number: int, undo_too: bool) -> Callable[[], None]:
    """Send this process the signal before, in or after the step `count`; and then once more in the undo."""

    def send() -> None:
        os.kill(os.getpid(), number)

    def prepare() -> None:
        real, undo, put, seen = journal._do, journal._undo_step, files.sync_directory, []

        def do(*arguments: Any) -> None:
            seen.append(1)
            if len(seen) - 1 == count:
                if place == "before":
                    send()
                elif place == "in":
                    files.sync_directory = lambda host: (send(), put(host))  # type: ignore[assignment]
            real(*arguments)
            files.sync_directory = put
            if len(seen) - 1 == count and place == "after":
                send()

        def undo_step(*arguments: Any) -> None:
            if undo_too:
                send()
            undo(*arguments)

        journal._do, journal._undo_step = do, undo_step

    return prepare


@pytest.mark.parametrize("undo_too", [False, True], ids=["once", "again in the undo"])
@pytest.mark.parametrize("number", signals.SIGNALS)
@pytest.mark.parametrize("place", ["before", "in", "after"])
@pytest.mark.parametrize("count", range(len(STEPS)))
def test_a_signal_takes_the_change_back_whole(
    top: Path, tmp_path: Path, count: int, place: str, number: int, undo_too: bool
) -> None:
    before = contents(top)
    told = tmp_path / "told"
    assert child(lambda: apply(top, told, at(count, place, number, undo_too))) == 128 + number
    assert contents(top) == before
    name = signal.Signals(number).name
    assert told.read_text() == f"interrupted by {name}; the install was taken back and nothing is changed"


def test_a_signal_after_the_last_step_leaves_the_change_complete(top: Path, tmp_path: Path) -> None:
    def prepare() -> None:
        journal._finish = lambda *arguments: os.kill(os.getpid(), signal.SIGTERM)

    told = tmp_path / "told"
    assert child(lambda: apply(top, told, prepare)) == 128 + signal.SIGTERM
    assert told.read_text() == "interrupted by SIGTERM; the install was done before"
    assert (top / CONFIG[1:]).read_bytes() == b"new"
    assert journal.unfinished(Root(str(top))) is None


def test_a_signal_that_was_ignored_stays_ignored(top: Path, tmp_path: Path) -> None:
    def nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    assert child(lambda: apply(top, tmp_path / "told", nohup, at(2, "in", signal.SIGHUP, True))) == 0
    assert (top / CONFIG[1:]).read_bytes() == b"new"


@pytest.mark.parametrize("kind", ["closed pipe", "closed", "gone terminal", "rich's end of the program"])
def test_a_lost_terminal_does_not_end_the_change(top: Path, kind: str) -> None:
    def work() -> int:
        broken = {
            "closed pipe": BrokenPipeError(32, "Broken pipe"),
            "closed": ValueError("I/O operation on closed file"),
            "gone terminal": OSError(5, "Input/output error"),
            "rich's end of the program": SystemExit(1),
        }[kind]

        def progress(text: str) -> None:
            raise broken

        journal.apply(Root(str(top)), "install", "now", STEPS, progress=progress)
        return 0

    assert child(work) == 0
    assert (top / CONFIG[1:]).read_bytes() == b"new"


def test_without_a_terminal_a_signal_still_takes_the_change_back(top: Path) -> None:
    """As when a window is closed: SIGHUP, and standard output and error lead nowhere."""
    before = contents(top)

    def work() -> int:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        at(3, "in", signal.SIGHUP, False)()
        try:
            journal.apply(Root(str(top)), "install", "now", STEPS, progress=lambda text: print(text, flush=True))
        except MemproxyError as error:
            return errors.report(error)
        return 0

    assert child(work) == 128 + signal.SIGHUP
    assert contents(top) == before


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_outside_of_a_change_a_signal_is_an_error_with_the_status_of_the_shell(number: int) -> None:
    former = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, signals.caught():
        os.kill(os.getpid(), number)
    assert caught.value.exit_status == 128 + number
    assert str(caught.value) == f"interrupted by {signal.Signals(number).name}"
    assert signal.getsignal(number) is former


def test_a_signal_waits_for_the_end_of_the_outermost_deferral() -> None:
    reached = []

    def nested() -> None:
        with signals.deferred():
            with signals.deferred():
                os.kill(os.getpid(), signal.SIGTERM)
                reached.append(1)
            reached.append(2)
        reached.append(3)

    with pytest.raises(Interrupted), signals.caught():
        nested()
    assert reached == [1, 2]


def test_a_swallowed_interruption_is_raised_again_at_the_end() -> None:
    def swallow() -> None:
        with contextlib.suppress(MemproxyError):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), signals.caught():
        swallow()
    with signals.caught():
        signals.check()


def test_another_failure_is_not_hidden_by_a_signal() -> None:
    def fail() -> None:
        with signals.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), signals.caught():
        fail()

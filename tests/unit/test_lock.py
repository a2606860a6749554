"""The lock against a second run, on a live host and on an image, between real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memproxy_sol import lock
from memproxy_sol.errors import HostError
from memproxy_sol.root import Root

HOLD = """
import sys
from memproxy_sol import lock
from memproxy_sol.root import Root
with lock.locked(Root(sys.argv[1], live=sys.argv[2] == "live")):
    print("held", flush=True)
    sys.stdin.read()
"""
KINDS = ["live", "image"]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    path = tmp_path / "top"
    (path / "var/run").mkdir(parents=True)
    return path


def root(top: Path, kind: str) -> Root:
    return Root(str(top), live=kind == "live")


@contextlib.contextmanager
def other(top: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that holds the lock until its standard input ends."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLD, str(top), kind]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_is_told_which_process_is_at_work(top: Path, kind: str) -> None:
    here = root(top, kind)
    assert lock.holder(here) is None
    with other(top, kind) as process:
        assert lock.holder(here) == process.pid
        told = rf"another memproxy-sol \(process {process.pid}\) is changing it; wait"
        with pytest.raises(HostError, match=told), lock.locked(here):
            pytest.fail("two at once")
        assert lock.holder(here) == process.pid, "the refused attempt took nothing from the holder"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
        assert lock.holder(here) is None
        with lock.locked(here):
            assert lock.holder(here) == os.getpid()
    assert lock.holder(here) is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_of_a_killed_process_is_stale(top: Path, kind: str) -> None:
    with other(top, kind) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        if kind == "live":
            assert (top / "var/run/memproxy/lock").read_text() == f"{process.pid}\n", "nobody could take it out"
        assert lock.holder(root(top, kind)) is None
        with lock.locked(root(top, kind)):
            pass


def test_a_stale_number_that_another_process_has_now_is_unmasked(top: Path) -> None:
    with lock.locked(root(top, "live")):
        pass
    (top / "var/run/memproxy/lock").write_text("1\n")
    assert lock.holder(root(top, "live")) is None
    with lock.locked(root(top, "live")):
        assert (top / "var/run/memproxy/lock").read_text() == f"{os.getpid()}\n"
    assert (top / "var/run/memproxy/lock").read_text() == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_does_not_take_it_twice(top: Path, kind: str) -> None:
    with lock.locked(root(top, kind)):
        with pytest.raises(HostError, match=f"process {os.getpid()}"), lock.locked(root(top, kind)):
            pytest.fail("twice")
        reader = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import os, fcntl; from memproxy_sol import lock; from memproxy_sol.root import Root;"
                f"print(lock.holder(Root({str(top)!r}, live={kind == 'live'})))",
            ],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert reader.stdout == f"{os.getpid()}\n", "the refused second attempt released nothing"


def test_an_image_keeps_nothing_of_it(top: Path) -> None:
    with lock.locked(root(top, "image")):
        assert list((top / "var/run").iterdir()) == []


def test_the_file_and_its_directory_are_roots_alone(top: Path) -> None:
    umask = os.umask(0o077)
    try:
        with lock.locked(root(top, "live")):
            directory, file = (top / "var/run/memproxy").stat(), (top / "var/run/memproxy/lock").stat()
    finally:
        os.umask(umask)
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid) == (0o755, 0)
    assert (stat.S_IMODE(file.st_mode), file.st_uid) == (0o600, 0)


def test_a_directory_of_others_is_refused(top: Path) -> None:
    directory = top / "var/run/memproxy"
    directory.symlink_to("/tmp")
    with (
        pytest.raises(HostError, match=r"/var/run/memproxy: is a symbolic link .*; rm "),
        lock.locked(root(top, "live")),
    ):
        pytest.fail("a link")
    directory.unlink()
    directory.mkdir()
    for uid, mode in ((1, 0o755), (0, 0o777), (0, 0o775)):
        os.chown(directory, uid, 0)
        directory.chmod(mode)
        with pytest.raises(HostError, match="not to root alone"), lock.locked(root(top, "live")):
            pytest.fail("others may change it")
    assert lock.holder(root(top, "live")) is None


def test_a_link_in_place_of_the_file_is_refused(top: Path) -> None:
    (top / "var/run/memproxy").mkdir(mode=0o755)
    (top / "victim").write_text("1\n")
    (top / "var/run/memproxy/lock").symlink_to(top / "victim")
    with pytest.raises(HostError, match="/var/run/memproxy/lock: cannot be made"), lock.locked(root(top, "live")):
        pytest.fail("a link")
    assert (top / "victim").read_text() == "1\n"


def test_without_a_place_for_it_the_error_says_where(top: Path) -> None:
    (top / "var/run").rmdir()
    with (
        pytest.raises(
            HostError, match="/var/run/memproxy: cannot be made: No such file or directory; look at /var/run"
        ),
        lock.locked(root(top, "live")),
    ):
        pytest.fail("no directory")


def test_a_host_that_cannot_lock_directories_has_a_file_for_an_image(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "machine/var/run").mkdir(parents=True)
    monkeypatch.setattr(lock, "_CAN_LOCK_DIRECTORIES", False)
    monkeypatch.setattr(lock, "_MACHINE", str(tmp_path / "machine"))
    here = root(top, "image")
    with lock.locked(here):
        (file,) = (tmp_path / "machine/var/run/memproxy").iterdir()
        assert file.read_text() == f"{os.getpid()}\n"
        assert list((top / "var/run").iterdir()) == []
        with pytest.raises(HostError, match=f"process {os.getpid()}"), lock.locked(root(top, "image")):
            pytest.fail("twice")
    assert lock.holder(here) is None

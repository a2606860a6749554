"""Commands of the host: real processes that are missing, slow, loud or odd, through plumbum."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from memproxy_sol import signals
from memproxy_sol.commands import ENVIRONMENT, Ran, Shell
from memproxy_sol.errors import CommandError, Interrupted

SHELL = "/bin/sh"


def sh(text: str, *arguments: str, seconds: float = 30.0) -> Ran:
    return Shell().run((SHELL, "-c", text, "sh", *arguments), seconds=seconds)


def test_status_and_both_streams() -> None:
    ran = sh("echo out; echo err >&2; exit 7")
    assert (ran.status, ran.out, ran.err) == (7, "out\n", "err\n")
    assert ran.command == (SHELL, "-c", "echo out; echo err >&2; exit 7", "sh")


def test_the_signal_that_ended_it() -> None:
    ran = sh("kill -SEGV $$")
    assert ran.status == -11
    assert "was ended by signal 11: it said nothing" in str(ran.failure())


def test_arguments_arrive_as_they_are() -> None:
    words = ["", " ", "*", "$HOME", "a'b\"c", "\\", "-n", "two\nlines", "\udcff", "é"]
    ran = sh('printf "%s|" "$@"', *words)
    assert ran.out == "".join(f"{word}|" for word in words)


def test_the_environment_is_the_given_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_32", "/nowhere.so")
    monkeypatch.setenv("LC_MESSAGES", "de_DE.UTF-8")
    before = dict(os.environ)
    for given in (ENVIRONMENT, {"PATH": "/usr/bin", "ODD": "a=b c\udcff"}):
        ran = Shell().run(("/usr/bin/env", "-0"), environment=given)
        assert sorted(filter(None, ran.out.split("\0"))) == sorted(f"{name}={value}" for name, value in given.items())
    assert dict(os.environ) == before


def test_standard_input_is_empty_and_the_directory_is_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert sh("cat; pwd").out == "/\n"
    assert Path.cwd() == tmp_path


def test_bytes_that_are_no_text_are_kept() -> None:
    ran = sh(r"printf 'a\377\000b\r\n'; printf '\200' >&2")
    assert (ran.out, ran.err) == ("a\udcff\0b\r\n", "\udc80")


def test_much_output_on_both_streams_at_once() -> None:
    ran = sh("i=0; while [ $i -lt 40 ]; do head -c 50000 /dev/zero; head -c 50000 /dev/zero >&2; i=$((i+1)); done")
    assert (ran.status, len(ran.out), len(ran.err)) == (0, 2000000, 2000000)


def test_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "gone", tmp_path / "no" / "gone"):
        with pytest.raises(CommandError) as caught:
            Shell().run((str(path),))
        assert str(caught.value).startswith(f"{path}: is not on this system")
        assert not Shell().has(str(path))


@pytest.mark.parametrize("content", [b"\x7fELFnonsense", b"", b"#!/nowhere/interpreter\n"])
def test_what_cannot_be_started(tmp_path: Path, content: bytes) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(0o755)
    with pytest.raises(CommandError) as caught:
        Shell().run((str(program), "one two"))
    assert str(program) in str(caught.value)


def test_not_executable(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    assert not Shell().has(str(program))
    with pytest.raises(CommandError) as caught:
        Shell().run((str(program),))
    assert str(program) in str(caught.value)


def test_a_slow_command_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    text = f"exec 3>{shlex.quote(str(fifo))}; sleep 300 & trap '' TERM HUP INT; sleep 300"
    with pytest.raises(CommandError) as caught:
        sh(text, seconds=0.5)
    assert "has not ended after 0.5 seconds and was killed" in str(caught.value)
    # The end of the file comes when the last of them that holds it open is gone.
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_hostile_words_are_one_printable_line() -> None:
    ran = sh(r"printf 'first\n\033[2J\007\n\n  last\u202e\377  ' >&2; exit 1")
    text = str(ran.failure("type this"))
    assert text.isprintable()
    assert "ended with status 1: first / " in text


def test_words_fall_back_to_standard_output_and_are_cut() -> None:
    assert sh("echo told; exit 1").words == "told"
    assert sh("exit 1").words == "it said nothing"
    assert len(sh("head -c 9000 /dev/zero | tr '\\0' x >&2; exit 1").words) == 500


def test_the_limit_holds_though_what_it_left_behind_keeps_the_output_open() -> None:
    with pytest.raises(CommandError) as caught:
        sh("sleep 300 &", seconds=0.5)
    assert "has not ended after 0.5 seconds" in str(caught.value)


def test_an_interrupted_command_is_killed(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(number: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code.co_name != "communicate":
            frame = frame.f_back
        if frame is not None:  # it is being waited for, not being started
            raise Stop

    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(Stop):
            sh(f"exec 3>{shlex.quote(str(fifo))}; while kill -USR1 {os.getpid()}; do sleep 0.05; done")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_signal_while_it_is_being_started_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is there already, and nobody could end it yet."""
    started: list[int] = []
    execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def interrupted(self: Any, *words: Any, **more: Any) -> None:
        execute(self, *words, **more)
        started.append(self.pid)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(subprocess.Popen, "_execute_child", interrupted)
    with pytest.raises(Interrupted), signals.caught():
        sh("exec sleep 1000")
    (pid,) = started
    try:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

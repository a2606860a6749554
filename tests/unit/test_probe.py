"""A probe is a real process: what it gets, what it cannot do to us, and what counts as good."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import probe as probes
from memproxy_sol import signals
from memproxy_sol.errors import Interrupted
from memproxy_sol.probe import Outcome, Probe, Prober

SELF = """
import json, os, resource, sys
print(json.dumps({
    "environment": dict(os.environ), "ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(),
    "open": sorted(int(n) for n in os.listdir("/proc/self/fd")), "umask": os.umask(0), "cwd": os.getcwd(),
    "session": os.getsid(0) == os.getpid(), "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    "input": sys.stdin.read(),
}))
"""
TRUE = Probe("true", ("/bin/true",), 64)


def python(code: str) -> Probe:
    return Probe("python", (os.path.realpath(sys.executable), "-I", "-S", "-c", code), 64)


def run(probe: Probe, environment: dict[str, str] | None = None, seconds: float = 300.0) -> Outcome:
    return Prober().run(probe, environment or {}, seconds)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def test_it_gets_what_is_said_and_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_NOCONFIG", "yes")
    inherited = os.open("/", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    before = os.umask(0o077)
    try:
        outcome = run(python(SELF), {"A": "b"})
    finally:
        os.umask(before)
        os.close(inherited)
    assert outcome.started is None, outcome.err
    seen = json.loads(outcome.out)
    assert seen["environment"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # Python's own doing
    assert seen["environment"] == {"A": "b"}
    assert [number for number in seen["open"] if number > 3] == []  # 3: the listing itself
    assert (seen["umask"], seen["cwd"], seen["session"], seen["core"]) == (0o022, "/", True, 0)
    assert seen["input"] == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_another_user_every_id_is_that_users_and_no_group_is_left() -> None:
    before = os.getgroups()
    os.setgroups([0, 3])
    try:
        outcome = run(Probe("sh", ("/bin/sh", "-c", "exec /bin/cat /proc/self/status"), 64, "nobody"))
    finally:
        os.setgroups(before)
    assert outcome.started is None, outcome.err
    seen = dict(line.split(":", 1) for line in outcome.out.decode().splitlines())
    known = pwd.getpwnam("nobody")
    assert [int(number) for number in seen["Uid"].split()] == [known.pw_uid] * 4
    assert [int(number) for number in seen["Gid"].split()] == [known.pw_gid] * 4
    assert {int(number) for number in seen["Groups"].split()} <= {known.pw_gid}


def test_a_user_that_does_not_exist() -> None:
    assert run(Probe("true", ("/bin/true",), 64, "no such user")).started == "there is no user no such user"


@pytest.mark.parametrize(
    ("command", "words"), [("/no/such", "cannot be started: No such file"), ("/etc/passwd", "cannot be started: Perm")]
)
def test_a_program_that_cannot_be_started(command: str, words: str) -> None:
    started = run(Probe("x", (command,), 64)).started
    assert started is not None
    assert started.startswith(words)


def test_a_null_byte_in_the_command() -> None:
    assert "null byte" in str(run(Probe("x", ("/bin/true", "a\0b"), 64)).started)


def test_status_signal_and_last_words_are_told() -> None:
    shell = Probe("sh", ("/bin/sh", "-c", "echo first >&2; echo last words >&2; exit 7"), 64)
    assert run(shell).started == "ended with status 7: last words"
    killed = run(Probe("sh", ("/bin/sh", "-c", "kill -SEGV $$"), 64))
    assert killed.status == -signal.SIGSEGV
    assert killed.started == "was ended by signal 11: it said nothing"


def test_what_does_not_end_is_killed_with_all_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"(echo $$ > {note}.sh; exec sleep 1000) & echo $! > {note}; exec sleep 1000"
    seconds = 0.2
    while True:  # a machine so slow that the script had not come so far is asked again, with more time
        outcome = run(Probe("sh", ("/bin/sh", "-c", script), 64), {"PATH": "/bin"}, seconds)
        if note.exists() and note.read_text().strip():
            break
        seconds *= 2
    assert outcome.problem == f"had not ended after {seconds:g} seconds and was killed"
    assert outcome.wrong(None) == outcome.problem
    while alive(int(note.read_text())):  # SIGKILL has been sent: it is a matter of the kernel's time
        time.sleep(0.01)


def test_what_it_leaves_behind_is_killed_and_not_waited_for(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {note}; echo said"
    outcome = run(Probe("sh", ("/bin/sh", "-c", script), 64), {"PATH": "/bin"})
    assert outcome.started is None
    assert outcome.out == b"said\n"
    while alive(int(note.read_text())):
        time.sleep(0.01)


def test_output_without_end_is_cut_and_not_believed_to_be_an_end() -> None:
    outcome = run(Probe("yes", ("/usr/bin/yes",), 64), seconds=0.3)
    assert len(outcome.out) <= probes.KEPT
    assert "had not ended" in outcome.problem
    large = run(python("import sys; sys.stdout.write('x' * 1000000)"))
    assert large.started is None
    assert large.out == b"x" * probes.KEPT


def test_closed_output_is_not_the_end() -> None:
    outcome = run(Probe("sh", ("/bin/sh", "-c", "exec >&- 2>&-; exit 3"), 64))
    assert outcome.status == 3


# ---- What counts as good.

LINE = b"memproxy: /usr/bin/true: route custom, served by /g/a.so: no line of /etc/memproxy.conf matches\n"
LISTED = b"memproxy: /x: y: route system, served by /lib/libc.so.1: line 3 of /etc/memproxy.conf\n"
OWN = b"memproxy: /x: route system, served by /x: malloc of this process is defined ahead of libmemproxy.so\n"
FATAL = b"ld.so.1: true: fatal: /g/libmemproxy.so: open failed: No such file or directory\n"
WARNING = b"ld.so.1: su: warning: /g/libmemproxy.so: open failed: illegal insecure pathname\n"
SECURE = Probe("su", ("/usr/bin/su",), 64, "nobody", secure=True)


@pytest.mark.parametrize(
    ("outcome", "route", "wrong"),
    [
        (Outcome(TRUE, 0, b"", LINE), "custom", None),
        (Outcome(TRUE, 0, b"", LINE), None, None),
        (Outcome(TRUE, 0, b"", b"first\n" + LINE + b"after\n"), "custom", None),
        (Outcome(TRUE, 0, b"", LINE), "system", "is on route custom, not system"),
        (Outcome(TRUE, 0, b"", LISTED), "custom", "is on route system, not custom"),
        (Outcome(TRUE, 0, b"", LISTED), "system", None),
        (Outcome(TRUE, 0, b"", OWN), "custom", None),
        (Outcome(TRUE, 0), "custom", "started, but libmemproxy is not in it"),
        (Outcome(TRUE, 0, LINE, b""), "custom", "started, but libmemproxy is not in it"),  # not where it would say it
        (Outcome(TRUE, 0, b"", b"x" + LINE), "custom", "started, but libmemproxy is not in it"),
        (Outcome(TRUE, 0, b"", LISTED + LINE), "custom", "is on route system"),  # the first is the program's own
        (Outcome(TRUE, -9, b"", FATAL), "custom", "was ended by signal 9: ld.so.1: true: fatal"),
        (Outcome(TRUE, 1, b"", LINE), "custom", "ended with status 1"),
        (Outcome(TRUE, 0, b"", LINE + WARNING), "custom", "the runtime linker says: ld.so.1: su: warning"),
        (Outcome(SECURE, 0), "custom", None),
        (Outcome(SECURE, 0, b"", WARNING), "custom", "the runtime linker says: ld.so.1: su: warning"),
        (Outcome(SECURE, 0, b"", b"su: warning: something of its own\n"), "custom", None),
        (Outcome(SECURE, 1), "custom", "ended with status 1"),
        (Outcome(TRUE, 0, b"", LINE, problem="had not ended"), "custom", "had not ended"),
    ],
)
def test_judged(outcome: Outcome, route: str | None, wrong: str | None) -> None:
    found = outcome.wrong(route)
    assert (found is None) == (wrong is None), found
    assert wrong is None or (found is not None and found.startswith(wrong)), found


def test_the_words_are_those_that_libmemproxy_writes() -> None:
    source = (Path(__file__).parents[2] / "native" / "debug.cc").read_text()
    spoken = "".join(re.findall(r'line\.add\("([^"]*)"\)', source))
    for words in ("memproxy: ", ": route ", ", served by ", *probes._OWN_MALLOC):
        assert words in spoken


def test_no_terminal_obeys_what_a_probe_says() -> None:
    outcome = Outcome(TRUE, 1, b"", b"\x1b[2Jgone\n")
    assert outcome.started == "ended with status 1: \\x1b[2Jgone"


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
        run(Probe("sh", ("/bin/sh", "-c", "exec sleep 1000"), 64), {"PATH": "/bin"}, 1000.0)
    (pid,) = started
    try:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_an_object_of_others_that_linux_does_without_is_no_fault_of_ours() -> None:
    probe = Probe("true", ("/bin/true",), 32)
    ours = (
        b"ERROR: ld.so: object '/usr/local/lib/memproxy/0123456789abcdef/$LIB/libmemproxy.so' from /etc/ld.so.preload"
    )
    theirs = b"ERROR: ld.so: object '/x.so' from /etc/ld.so.preload cannot be preloaded (wrong ELF class): ignored.\n"
    told = b"memproxy: /usr/bin/true: route custom, served by /a.so: no line of /etc/memproxy.conf matches\n"
    assert Outcome(probe, 0, b"", theirs + told).wrong("custom") is None
    assert Outcome(probe, 0, b"", ours + b" cannot be preloaded (x): ignored.\n" + told).wrong("custom") is not None
    dead = b"/bin/true: error while loading shared libraries: libx.so: cannot open shared object file\n"
    assert Outcome(probe, 0, b"", dead + told).wrong("custom") is not None

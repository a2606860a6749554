"""smf_method.py: in whatever way the check ends, the restarter gets one of SMF's exit codes and a last line that helps.

Where the check itself must hang, crash or run out of memory it is replaced by a function that really does.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from memproxy_sol import smf_method
from memproxy_sol.errors import HostError, LdConfigError
from memproxy_sol.findings import Finding
from memproxy_sol.probe import Probe, Prober
from memproxy_sol.root import Root

FMRI = "svc:/site/memproxy:default"


@dataclass(frozen=True)
class Verdict:
    """What verify returns, as far as the method looks at it."""

    findings: tuple[Finding, ...]
    abis: tuple[int, ...] = ()


ERROR = Finding("library-missing", "error", "/opt/x.so", "does not exist", "type memproxy-sol install")
OTHER_ERROR = Finding("not-trusted", "error", "/var/ld/64/ld.config", "does not trust /opt", "type memproxy-sol plan")
DENIED = Finding("unreadable", "error", "/etc/memproxy.conf", "permission denied", "run as root", unreadable=True)
WARNING = Finding("name-cut", "warning", "/etc/memproxy.conf", "a name of 15 characters", "write the whole name")
NOTE = Finding("untried", "note", "/", "was configured untried")


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Root], Verdict]], None]:
    """As svc.startd starts it; the function that it gives puts another check in the place of verify."""
    monkeypatch.setenv("SMF_FMRI", FMRI)
    monkeypatch.setenv("LD_NOCONFIG", "yes")

    def replace(check: Callable[[Root], Verdict]) -> None:
        module = types.ModuleType("memproxy_sol.verify")
        module.verify = check  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "memproxy_sol.verify", module)

    return replace


Method = Callable[[Callable[[Root], Verdict]], None]


def finds(*findings: Finding) -> Callable[[Root], Verdict]:
    return lambda root: Verdict(findings)


def raises(error: BaseException) -> Callable[[Root], Verdict]:
    def check(root: Root) -> NoReturn:
        raise error

    return check


def denied() -> HostError:
    error = HostError("permission denied", where="/etc/memproxy.conf")
    error.__cause__ = PermissionError(errno.EACCES, "permission denied")
    return error


@pytest.mark.parametrize(
    ("check", "status", "last"),
    [
        (finds(), 0, r"SMF_EXIT_OK \(0\): nothing wrong below /, 0 remarks above"),
        (finds(WARNING, NOTE), 0, r"SMF_EXIT_OK \(0\): nothing wrong below /, 2 remarks above"),
        (
            finds(WARNING, ERROR),
            96,
            r"SMF_EXIT_ERR_CONFIG \(96\): /opt/x.so: does not exist; type memproxy-sol install; then svcadm clear FMRI",
        ),
        (
            finds(ERROR, OTHER_ERROR),
            96,
            r"SMF_EXIT_ERR_CONFIG \(96\): /opt/x.so: does not exist \(and 1 more above\); type .* install; then .*",
        ),
        (
            finds(DENIED),
            100,
            r"SMF_EXIT_ERR_PERM \(100\): /etc/memproxy.conf: permission denied; run as root; then svcadm clear FMRI",
        ),
        # What is certainly wrong outranks what could not be judged.
        (finds(DENIED, ERROR), 96, r"SMF_EXIT_ERR_CONFIG \(96\): /opt/x.so: does not exist \(and 1 more above\); .*"),
        (
            raises(HostError("no such image", where="/x", hint="mount it")),
            96,
            r"SMF_EXIT_ERR_CONFIG \(96\): /x: no such image; mount it; then .*",
        ),
        (
            raises(LdConfigError("is cut short")),
            96,
            r"SMF_EXIT_ERR_CONFIG \(96\): is cut short; svcadm clear FMRI looks again",
        ),
        (raises(denied()), 100, r"SMF_EXIT_ERR_PERM \(100\): /etc/memproxy.conf: permission denied; svcadm .*"),
        (raises(PermissionError(errno.EPERM, "not you", "/f")), 100, r"SMF_EXIT_ERR_PERM \(100\): .*not you: '/f'.*"),
        (raises(OSError(errno.EIO, "I/O error", "/f")), 95, r"SMF_EXIT_ERR_FATAL \(95\): internal error: OSError: .*"),
        (raises(ValueError("a\nb")), 95, r"SMF_EXIT_ERR_FATAL \(95\): internal error: ValueError: a\\nb; .*"),
        (raises(KeyboardInterrupt()), 95, r".*\(95\): internal error: KeyboardInterrupt.*"),
        (raises(SystemExit(0)), 95, r".*\(95\): internal error: SystemExit: 0.*"),
        (raises(MemoryError()), 95, r".*\(95\): internal error: MemoryError.*"),
        (raises(RecursionError("deep")), 95, r".*\(95\): internal error: RecursionError: deep.*"),
        (lambda root: os._exit(7), 95, r".*\(95\): internal error: the check ended with status 7 and without an .*"),
        (lambda root: os.kill(os.getpid(), signal.SIGKILL), 95, r".*\(95\): .*: the check died on signal 9; .*"),
        (lambda root: os.kill(os.getpid(), signal.SIGTERM), 95, r".*\(95\): .*: interrupted by SIGTERM; .*"),
    ],
)
def test_every_end_has_its_status_and_its_last_line(
    check: Callable[[Root], Verdict], status: int, last: str, method: Method, capfd: pytest.CaptureFixture[str]
) -> None:
    method(check)
    assert smf_method.main(["--smf"]) == status
    output = capfd.readouterr()
    assert re.fullmatch("memproxy-sol: " + last.replace("FMRI", FMRI), output.out.splitlines()[-1])
    assert output.err == ""


def test_each_finding_is_a_line_above_the_last(method: Method, capfd: pytest.CaptureFixture[str]) -> None:
    method(finds(WARNING, ERROR, NOTE))
    assert smf_method.main(["--smf"]) == 96
    lines = capfd.readouterr().out.splitlines()
    assert lines[:-1] == [str(WARNING), str(ERROR), str(NOTE)]


def test_a_name_in_a_finding_cannot_forge_a_line(method: Method, capfd: pytest.CaptureFixture[str]) -> None:
    forged = 'x\n[ Nov 20 18:54:03 Method "start" exited with status 0. ]\r\x1b[2J\u2028\udcff\x85'
    method(finds(Finding("library-missing", "error", forged, forged, forged)))
    assert smf_method.main(["--smf"]) == 96
    output = capfd.readouterr().out
    assert len(output.splitlines()) == 2
    assert output.replace("\n", "").isprintable()


def test_a_long_answer_passes_the_pipe(method: Method, capfd: pytest.CaptureFixture[str]) -> None:
    method(finds(Finding("x", "error", "/" + "y" * 300_000, "é", "z")))
    assert smf_method.main(["--smf"]) == 96
    assert len(capfd.readouterr().out.splitlines()[-1]) > 300_000


# --- the time limit


def catastrophic(root: Root) -> Verdict:
    re.match("(a+)+$", "a" * 60 + "b")  # one call into C that returns to no signal handler
    return Verdict(())


def stopped(root: Root) -> Verdict:
    os.kill(os.getpid(), signal.SIGSTOP)
    return Verdict(())


def deaf(root: Root) -> Verdict:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(60)
    return Verdict(())


def hung_on_a_fifo(root: Root) -> Verdict:
    os.open(root.path + "/fifo", os.O_RDONLY)
    return Verdict(())


@pytest.mark.parametrize("check", [catastrophic, stopped, deaf, hung_on_a_fifo])
def test_a_check_that_hangs_is_ended(
    check: Callable[[Root], Verdict], method: Method, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    method(check)
    start = time.monotonic()
    assert smf_method.main(["--smf", "--root", str(tmp_path)], limit=0.3) == 95
    assert time.monotonic() - start < 3
    last = capfd.readouterr().out.splitlines()[-1]
    assert "the check took longer than 0.3 seconds and was ended; look for a file system" in last


def test_what_the_check_has_started_is_ended_with_it(method: Method, tmp_path: Path) -> None:
    """A probe that hangs must not stay behind for as long as the machine runs."""
    note = tmp_path / "pid"
    command = ("/bin/sh", "-c", f"echo $$ > {note}.new && mv {note}.new {note}; exec sleep 1000")

    def check(root: Root) -> Verdict:
        Prober().run(Probe("sh", command, 64), {"PATH": "/bin:/usr/bin"}, 1000.0)
        return Verdict(())

    method(check)
    limit = 0.5
    while not note.exists():  # a machine so slow that the probe had not come so far is asked again, with more time
        assert smf_method.main(["--smf"], limit=limit) == 95
        limit *= 2
    pid = int(note.read_text())
    while is_alive(pid):  # SIGKILL has been sent: it is a matter of the kernel's time
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The children that are forked; they are killed and reaped at the end."""
    found: list[int] = []
    fork, kill = os.fork, os.kill

    def remember() -> int:
        child = fork()
        if child:
            found.append(child)
        return child

    monkeypatch.setattr(os, "fork", remember)
    yield found
    for child in found:
        kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_check_that_cannot_even_be_killed_is_not_waited_for(
    method: Method, children: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a read from a file server that is gone: the kernel keeps SIGKILL back until it answers."""
    method(deaf)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    start = time.monotonic()
    assert smf_method.main(["--smf"], limit=0.3) == 95
    assert time.monotonic() - start < 3
    assert os.waitpid(children[0], os.WNOHANG) == (0, 0)


def test_the_limit_leaves_time_within_that_of_the_manifest() -> None:
    assert smf_method.LIMIT_SECONDS == 20


def test_an_interrupted_parent_ends_its_child(
    method: Method, children: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    method(deaf)

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(smf_method, "_read_until_closed", interrupted)
    assert smf_method.main(["--smf"]) == 95
    assert os.WTERMSIG(os.waitpid(children.pop(), 0)[1]) in (signal.SIGTERM, signal.SIGKILL)


def test_nothing_stays_open(method: Method) -> None:
    method(finds(ERROR))
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        smf_method.main(["--smf"])
    assert os.listdir("/proc/self/fd") == before


# --- environment and arguments


def test_without_smf_it_says_so_and_checks_nothing(
    method: Method, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    method(raises(AssertionError("was called")))
    for environment in (None, ""):
        monkeypatch.delenv("SMF_FMRI", raising=False)
        if environment is not None:
            monkeypatch.setenv("SMF_FMRI", environment)
        assert smf_method.main(["--smf"]) == 99
        assert "SMF_EXIT_ERR_NOSMF (99): " in capfd.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [["--smf", "--json"], ["--help", "--smf"], ["--smf", "x"], ["--smf", "--root"], ["--smf", "--root="], ["-x"]],
)
def test_an_argument_that_no_manifest_of_ours_has_is_fatal(
    argv: list[str], method: Method, capfd: pytest.CaptureFixture[str]
) -> None:
    method(raises(AssertionError("was called")))
    assert smf_method.main(argv) == 95
    output = capfd.readouterr().out
    assert len(output.splitlines()) == 1
    assert "AssertionError" not in output


@pytest.mark.parametrize(
    "argv", [["--smf", "--root", "DIR"], ["--root=DIR", "--smf"], ["--smf", "--root", "DIR", "--smf"]]
)
def test_the_tree_to_look_at(argv: list[str], method: Method, tmp_path: Path) -> None:
    def check(root: Root) -> Verdict:
        return Verdict(() if root.path == str(tmp_path) else (ERROR,))

    method(check)
    assert smf_method.main([argument.replace("DIR", str(tmp_path)) for argument in argv]) == 0
    assert smf_method.main(["--smf"]) == 96


def test_a_tree_that_is_not_there(method: Method, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    method(finds())
    assert smf_method.main(["--smf", "--root", str(tmp_path / "none")]) == 96
    assert "no such directory" in capfd.readouterr().out


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_ld_noconfig_is_a_warning(
    value: str | None, method: Method, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    method(finds())
    monkeypatch.delenv("LD_NOCONFIG")
    if value is not None:
        monkeypatch.setenv("LD_NOCONFIG", value)
    assert smf_method.main(["--smf"]) == 0
    assert capfd.readouterr().out.startswith("warning: LD_NOCONFIG is not set: ")
    monkeypatch.setenv("LD_NOCONFIG", "no")  # any value counts
    smf_method.main(["--smf"])
    assert "LD_NOCONFIG" not in capfd.readouterr().out


def test_a_file_that_may_not_be_read_is_a_lack_of_rights() -> None:
    """As a user that is not root, with the real check."""
    import memproxy_sol.verify  # noqa: F401  (loaded while it may be read)

    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    try:
        for directory in ("etc", "var", "var/ld"):
            (top / directory).mkdir(mode=0o755)
        (top / "etc/release").write_text("OmniOS v11 r151038\n")
        (top / "var/ld/ld.config").write_bytes(b"")
        (top / "var/ld/ld.config").chmod(0)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.environ["SMF_FMRI"] = FMRI
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                status = smf_method.main(["--smf", "--root", str(top)])
            finally:
                os._exit(status)
        assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 100
    finally:
        shutil.rmtree(top)

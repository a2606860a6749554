"""The laboratory: its files, its processes, its reboot; and that it owes nothing to what it tests."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from memproxy_sol.probe import DEBUG, Probe, Prober
from tests.host import laboratory
from tests.host.laboratory import Fault, Laboratory, Process, Program, Result
from tests.host.live import Live

SOURCES = sorted(Path(laboratory.__file__).parent.glob("*.py"))


@pytest.fixture
def lab(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path / "lab")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_it_imports_the_standard_library_and_itself_alone(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name}: a relative import"
            names = [node.module or ""]
        for name in names:
            known = name.split(".")[0] in sys.stdlib_module_names if sys.version_info >= (3, 10) else True
            assert name.startswith("tests.host.laboratory") or known, f"{source.name} imports {name}"
            assert not name.startswith("memproxy_sol")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_it_reads_no_recording(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        beside = isinstance(node, ast.Name) and node.id == "__file__"
        # The DTD of service bundles is no recording: it is a file that every Solaris has.
        assert not beside or source.name == "smf_boot.py", f"{source.name} looks for files beside it"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for word in ("vectors.json", "ldso.json", "ldso-runtime.json", "smf.json", "tests/data"):
                assert word not in node.value, f"{source.name} names the recording {word}"


def test_a_program_starts_and_ends(lab: Laboratory) -> None:
    assert lab.execute(["/usr/bin/true"]) == Result(0)
    assert lab.execute(["/bin/true"]) == Result(0), "by the link /bin"
    assert lab.execute(["/sbin/sh", "-c", "exec /usr/bin/uname -s"]).out == b"SunOS\n"


def test_what_is_not_there_cannot_be_executed(lab: Laboratory) -> None:
    with pytest.raises(FileNotFoundError):
        lab.execute(["/usr/bin/nosuch"])
    (lab.top / "usr/bin/true").chmod(0o644)
    with pytest.raises(PermissionError):
        lab.execute(["/usr/bin/true"])
    (lab.top / "usr/bin/true").unlink()
    with pytest.raises(FileNotFoundError):
        lab.execute(["/usr/bin/true"])


def test_a_reboot_ends_processes_and_empties_memory(lab: Laboratory) -> None:
    lab.boot()
    (lab.top / "var/run/x").write_text("")
    (lab.top / "tmp/d").mkdir()
    (lab.top / "var/tmp/kept").write_text("")
    stays = lab.spawn(["/usr/bin/true"])
    assert isinstance(stays, Process)
    assert (lab.top / "proc" / str(stays.pid) / "path/a.out").is_symlink()
    lab.boot()
    assert [process.path for process in lab.processes.values()] == [
        "/sbin/init", "/lib/svc/bin/svc.startd", "/lib/svc/bin/svc.configd",
    ]  # fmt: skip
    assert not list((lab.top / "var/run").iterdir())
    assert not list((lab.top / "tmp").iterdir())
    assert (lab.top / "var/tmp/kept").exists()


def test_faults(lab: Laboratory) -> None:
    lab.faults["/usr/bin/zonename"] = Fault(status=1, out=b"", err=b"zonename: no\n", times=1)
    assert lab.execute(["/usr/bin/zonename"]) == Result(1, b"", b"zonename: no\n")
    assert lab.execute(["/usr/bin/zonename"]) == Result(0, b"global\n")
    lab.faults["/usr/bin/zonename"] = Fault(missing=True)
    with pytest.raises(FileNotFoundError):
        lab.execute(["/usr/bin/zonename"])


def test_scripts_are_their_interpreter(lab: Laboratory) -> None:
    lab.write("/usr/bin/script", b"#!/usr/bin/echo one\n", 0o755)
    lab.install_program("/usr/bin/echo", Program(64, lambda lab, argv, env, uid, stdin: Result(0, repr(argv).encode())))
    assert lab.execute(["/usr/bin/script", "x"]).out == b"['/usr/bin/echo', 'one', '/usr/bin/script', 'x']"


def test_the_shell_of_the_package(live: Live) -> None:
    assert live.shell.run(["/usr/bin/uname", "-r"]).out == "5.11\n"
    assert live.shell.has("/usr/bin/uname")
    assert not live.shell.has("/usr/bin/nosuch")
    assert live.root.is_live
    assert live.lab.brick() is None


def test_the_prober_of_the_package(live: Live) -> None:
    for user in (None, "joe"):
        outcome = live.prober.run(Probe("true", ("/usr/bin/true",), 64, user), DEBUG)
        assert (outcome.started, outcome.route) == (None, None)
    assert "no user nobody-at-all" in live.prober.run(Probe("x", ("/usr/bin/true",), 64, "nobody-at-all"), {}).problem
    assert Prober().run(Probe("true", ("/usr/bin/cplusplus",), 64), DEBUG).started is None, "the package's own"


@pytest.mark.parametrize(
    ("machine", "command", "out"),
    [
        ("x86", "isainfo", "amd64 i386\n"),
        ("sparc", "isainfo", "sparcv9 sparc\n"),
        ("x86", "isainfo -n", "amd64\n"),
        ("sparc", "isainfo -k", "sparcv9\n"),
        ("x86", "isainfo -b", "64\n"),
        ("x86", "uname", "SunOS\n"),
        ("x86", "uname -r -v", "5.11 illumos-2b73ed1c58\n"),
        ("x86", "uname -p", "i386\n"),
        ("sparc", "uname -pi", "sparc sun4v\n"),
        ("x86", "zonename", "global\n"),
        ("x86", "id", "uid=0(root)\n"),
        ("x86", "ls /var/ld", "64\n"),
    ],
)
def test_what_commands_print(tmp_path: Path, machine: str, command: str, out: str) -> None:
    name, *words = command.split()
    result = Laboratory(tmp_path / "lab", machine=machine).execute([f"/usr/bin/{name}", *words])
    assert (result.status, result.out.decode(), result.err) == (0, out, b"")


@pytest.mark.parametrize("command", ["isainfo -q", "uname -Z", "id -q nobody", "ls /nosuch"])
def test_commands_that_fail_say_so(lab: Laboratory, command: str) -> None:
    name, *words = command.split()
    result = lab.execute([f"/usr/bin/{name}", *words])
    assert result.status != 0
    assert result.err


@pytest.mark.parametrize(
    ("line", "status", "out"),
    [
        (":", 0, ""),
        ("exit 3", 3, ""),
        ("echo 'a  b' c", 0, "a  b c\n"),
        ("exec /usr/bin/zonename", 0, "global\n"),
        ("zonename", 0, "global\n"),
        ("X=1 /usr/bin/env", 0, "X=1\n"),
        ("nosuch", 127, ""),
        ("exec /etc/passwd", 126, ""),
        ("echo 'open", 3, ""),
    ],
)
def test_the_shell_runs_one_simple_line(lab: Laboratory, line: str, status: int, out: str) -> None:
    def env(lab: Laboratory, argv: object, env: dict[str, str], uid: int, stdin: bytes) -> Result:
        return Result(0, "".join(f"{name}={value}\n" for name, value in env.items()).encode())

    lab.install_program("/usr/bin/env", Program(64, env))
    result = lab.execute(["/sbin/sh", "-c", line])
    assert (result.status, result.out.decode()) == (status, out)
    assert bool(result.err) is (status > 3 or "'open" in line)


def test_the_mount_table_in_both_places(lab: Laboratory) -> None:
    lab.mount("rpool/opt", "/opt", "zfs", "rw,devices")
    lines = lab.execute(["/sbin/mount", "-p"]).out.decode().splitlines()
    assert lines[0].startswith("rpool/ROOT/openindiana - / zfs - no ")
    assert lines[-1] == "rpool/opt - /opt zfs - no rw,devices"
    table = [line.split("\t") for line in (lab.top / "etc/mnttab").read_text().splitlines()]
    assert [fields[1] for fields in table] == ["/", "/proc", "/etc/svc/volatile", "/tmp", "/var/run", "/opt"]
    lab.unmount("/opt")
    assert "/opt" not in (lab.top / "etc/mnttab").read_text()

"""`memproxy-sol exclude` and `explain`: in images, and against what this machine's kernel reports of real processes."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import exclusions, lock
from memproxy_sol.cli import main
from memproxy_sol.root import Root

Run = Callable[..., str]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A small system: a program with a link, a script, an env script and a hard link to it, and an isaexec wrapper."""
    root = tmp_path / "image"
    for directory in ("etc", "usr/bin/amd64", "usr/bin/i86", "usr/lib", "usr/sbin", "opt/app", "opt/real"):
        (root / directory).mkdir(parents=True)
    binary = root / "usr/bin"

    def program(path: Path, text: str = "\x7fELF") -> None:
        path.write_text(text)
        path.chmod(0o755)

    program(binary / "prog")
    (binary / "alias").symlink_to("prog")
    (root / "bin").symlink_to("usr/bin")
    program(binary / "script", "#! /bin/alias -x\n")
    program(binary / "envscript", "#!/usr/bin/env -S A=b prog -q\n")
    program(binary / "env")
    os.link(binary / "prog", root / "usr/sbin/prog2")
    os.link(binary / "prog", binary / "prog3")
    program(root / "usr/lib/isaexec", "\x7fELFisaexec")
    os.link(root / "usr/lib/isaexec", binary / "both")
    program(binary / "amd64/both")
    program(binary / "i86/both")
    program(binary / "suid")
    (binary / "suid").chmod(0o4755)
    (binary / "data").write_text("no program")
    program(root / "opt/real/x")
    (root / "opt/link").symlink_to("/opt/real")
    return root


@pytest.fixture
def run(image: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the image; returns standard output, or standard error if the command is to fail."""

    def call(*arguments: str, status: int = 0) -> str:
        assert main([*arguments, "--root", str(image)]) == status
        captured = capsys.readouterr()
        assert not (captured.err if status == 0 else captured.out)
        return captured.out if status == 0 else captured.err

    return call


def conf(image: Path) -> Path:
    return image / "etc/memproxy.conf"


def entries(image: Path) -> list[str]:
    return [line.text for line in exclusions.parse(conf(image).read_bytes())]


# ---- add


def test_the_first_addition_makes_the_list_from_the_template(image: Path, run: Run) -> None:
    out = run("exclude", "add", "nscd")
    assert conf(image).read_bytes() == exclusions.TEMPLATE + b"nscd\n"
    assert stat.S_IMODE(conf(image).stat().st_mode) == 0o644
    assert "added line 20: nscd\n" in out
    assert "nscd does not exist in the directories searched" in out
    assert "it matches every executable named nscd; processes that run already keep their route" in out


@pytest.mark.parametrize(
    ("program", "line", "says"),
    [
        ("prog", "prog", "every executable named prog"),
        ("alias", "prog", "/usr/bin/alias leads through a symbolic link to /usr/bin/prog"),
        ("/usr/bin/prog", "/usr/bin/prog", "the executable /usr/bin/prog"),
        ("/bin/prog", "/usr/bin/prog", "/bin/prog leads through a symbolic link to /usr/bin/prog"),
        ("/usr//bin/./prog", "/usr/bin/prog", "added"),
        ("/bin/alias", "/usr/bin/prog", "symbolic link"),
        (
            "script",
            "prog",
            "is a script: its processes are those of its interpreter /bin/alias, like every script of it",
        ),
        ("/usr/bin/script", "/usr/bin/prog", "is a script"),
        ("envscript", "prog", "/usr/bin/env starts /usr/bin/prog"),
        ("both", "both", "is a wrapper (isaexec)"),
        ("/usr/bin/both", "/usr/bin/*/both", "whose path looks like /usr/bin/*/both"),
        ("prog3", "prog3", "/usr/bin/prog is the same file: started by that name, it is not matched"),
        ("/usr/sbin/prog2", "/usr/sbin/prog2", "the same file has 2 names in other directories"),
        ("/opt/app/", "/opt/app/", "every executable in and below /opt/app/"),
        ("/opt/link/", "/opt/real/", "/opt/link/ leads through a symbolic link to /opt/real"),
        ("/opt/link/x", "/opt/real/x", "symbolic link"),
        ("/opt/none/", "/opt/none/", "/opt/none does not exist yet"),
        ("/", "/", "every executable in and below /"),
        ("/opt/none/x", "/opt/none/x", "does not exist"),
        ("/usr/bin/data", "/usr/bin/data", "is not executable"),
        ("wor*[0-9]", "wor*[0-9]", "whose name looks like wor*[0-9]"),
        ("/opt/*/bin/x?", "/opt/*/bin/x?", "whose path looks like"),
        ("[", "[", "every executable named ["),
        ("a b", "a b", "named a b"),
        ("a = custom", "a [=] custom", "every executable named a = custom"),
        ("#odd", "[#]odd", "added"),
    ],
)
def test_what_is_written_is_what_the_kernel_reports(image: Path, run: Run, program: str, line: str, says: str) -> None:
    out = run("exclude", "add", program)
    assert entries(image) == [line]
    assert says in out


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(image: Path, run: Run) -> None:
    path = image / "opt/app/w[1]*"
    path.write_text("\x7fELF")
    run("exclude", "add", "/opt/app/w[1]*")
    assert entries(image) == ["/opt/app/w[[]1][*]"]
    assert "route system" in run("explain", "/opt/app/w[1]*")


def test_added_twice_is_added_once(image: Path, run: Run) -> None:
    run("exclude", "add", "prog")
    before, kept = conf(image).read_bytes(), os.open(conf(image), os.O_RDONLY)
    try:  # held open, so that no other file can get its inode number
        assert "/etc/memproxy.conf: alias has the route system already, by line 20: prog\n" in run(
            "exclude", "add", "alias"
        )
        assert "already" in run("exclude", "add", "/usr/bin/prog")
        assert os.fstat(kept).st_ino == conf(image).stat().st_ino
        assert conf(image).read_bytes() == before
    finally:
        os.close(kept)


def test_several_at_once(image: Path, run: Run) -> None:
    run("exclude", "add", "prog", "/opt/app/", "prog", "x")
    assert entries(image) == ["prog", "/opt/app/", "x"]


def test_one_that_cannot_be_added_leaves_the_list_alone(image: Path, run: Run) -> None:
    assert "is a directory, not a program" in run("exclude", "add", "x", "/opt/app", status=1)
    assert not conf(image).exists()


def test_an_addition_goes_in_front_of_a_catch_all(image: Path, run: Run) -> None:
    conf(image).write_text("# a\nfoo\n* = custom # not a comment\n* = custom\n# b\n")
    out = run("exclude", "add", "prog")
    assert conf(image).read_text() == "# a\nfoo\n* = custom # not a comment\nprog\n* = custom\n# b\n"
    assert "it stands in front of the line that would have matched first: * = custom" in out


def test_another_route_replaces_the_line(image: Path, run: Run) -> None:
    conf(image).write_text("prog\nx\n")
    out = run("exclude", "add", "--route", "custom", "prog")
    assert conf(image).read_text() == "prog = custom\nx\n"
    assert "it replaces: prog" in out


def test_an_addition_by_name_that_a_path_overrides_says_so(image: Path, run: Run) -> None:
    conf(image).write_text("/usr/bin/prog = custom\n")
    out = run("exclude", "add", "prog")
    assert "but for /usr/bin/prog line 1 is its path: /usr/bin/prog decides first" in out


def test_mode_and_owner_stay(image: Path, run: Run) -> None:
    conf(image).write_text("x\n")
    conf(image).chmod(0o640)
    if os.geteuid() == 0:
        os.chown(conf(image), 12, 34)
    before = conf(image).stat()
    out = run("exclude", "add", "prog")
    after = conf(image).stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert "is not readable for every user: in their programs nothing is excluded; chmod o+r" in out
    assert os.listdir(image / "etc") == ["memproxy.conf"]


def test_bytes_of_no_encoding_stay(image: Path, run: Run) -> None:
    conf(image).write_bytes(b"# \xff\xfe caf\xe9\r\ncaf\xe9\r\n")
    run("exclude", "add", "prog")
    assert conf(image).read_bytes() == b"# \xff\xfe caf\xe9\r\ncaf\xe9\r\nprog\r\n"


def test_a_name_of_bytes_of_no_encoding(image: Path, run: Run) -> None:
    name = os.fsdecode(b"caf\xe9\x1b[1m")
    out = run("exclude", "add", name)
    assert conf(image).read_bytes().endswith(b"\ncaf\xe9\x1b[[]1m\n")
    assert "\x1b" not in out
    assert "caf\\udce9\\x1b" in out
    assert json.loads(run("exclude", "list", "--json"))["lines"][0]["pattern"] == "caf\udce9\x1b[[]1m"


def test_a_list_that_is_a_link_is_not_written_through(image: Path, run: Run) -> None:
    target = image / "etc/other.conf"
    target.write_text("x\n")
    conf(image).symlink_to("other.conf")
    for command in ("add", "remove"):
        error = run("exclude", command, "x", status=1)
        assert "is a symbolic link to /etc/other.conf; to change that file, name it: --list /etc/other.conf" in error
    run("exclude", "add", "prog", "--list", "/etc/other.conf")
    assert target.read_text() == "x\nprog\n"
    assert conf(image).is_symlink()


@pytest.mark.parametrize("kind", ["fifo", "directory", "large"])
@pytest.mark.parametrize(
    "command", [["exclude", "list"], ["exclude", "add", "x"], ["exclude", "remove", "x"], ["explain", "x"]]
)
def test_a_list_that_is_none_is_an_error_at_once(image: Path, run: Run, kind: str, command: list[str]) -> None:
    if kind == "fifo":
        os.mkfifo(conf(image))
    elif kind == "directory":
        conf(image).mkdir()
    else:
        with open(conf(image), "wb") as stream:
            stream.truncate(exclusions.MAX_SIZE + 1)
    error = run(*command, status=1)
    assert error.startswith("memproxy-sol: /etc/memproxy.conf: ")
    assert error.endswith("; an exclusion list is a regular text file\n")


def test_where_there_is_no_directory_for_the_list(image: Path, run: Run) -> None:
    error = run("exclude", "add", "x", "--list", "/nowhere/list", status=1)
    assert error == (
        "memproxy-sol: /nowhere/list: cannot be changed: No such file or directory; nothing was changed; "
        "run it as a user who may\n"
    )


def test_a_second_command_waits_its_turn(image: Path, run: Run) -> None:
    with lock.locked(Root(str(image))):
        error = run("exclude", "add", "x", status=1)
    assert f"another memproxy-sol (process {os.getpid()}) is changing it; wait for it to end" in error
    assert not conf(image).exists()


@pytest.mark.parametrize("program", ["bin/prog", "./prog"])
def test_a_relative_path_in_an_image_is_a_usage_error(run: Run, program: str) -> None:
    for command in (["exclude", "add"], ["explain"]):
        assert "is a relative path; give the full path that it has inside the image" in run(*command, program, status=2)


@pytest.mark.parametrize(
    "arguments", [["add"], ["remove"], ["add", ""], ["add", "--route", "wild", "x"], ["frobnicate"]]
)
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exclude", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("memproxy-sol: ")
    assert captured.err.count("\n") == 1
    assert not captured.out


@pytest.mark.parametrize(
    "arguments", [["exclude"], ["exclude", "--help"], ["exclude", "add", "--help"], ["explain", "--help"]]
)
def test_help_shows_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == (2 if arguments == ["exclude"] else 0)
    out = capsys.readouterr().out
    assert "Usage:\n    memproxy-sol ex" in out
    assert "%(" not in out


def test_json_of_an_addition(image: Path, run: Run) -> None:
    conf(image).write_text("* = custom\n")
    (answer,) = json.loads(run("exclude", "add", "alias", "--json"))["programs"]
    line = {"number": 1, "text": "prog", "pattern": "prog", "route": "system", "applies": True}
    catch_all = {"number": 1, "text": "* = custom", "pattern": "*", "route": "custom", "applies": True}
    hop = {"kind": "link", "path": "/usr/bin/alias", "target": "/usr/bin/prog"}
    notes = answer.pop("notes")
    assert any("symbolic link" in note for note in notes)
    assert answer == {
        "program": "alias",
        "changed": True,
        "line": line,
        "replaced": None,
        "ahead_of": catch_all,
        "executable": "/usr/bin/prog",
        "hops": [hop],
        "decided_by": None,
    }


# ---- remove


def test_removed_is_the_line_and_nothing_else(image: Path, run: Run) -> None:
    conf(image).write_text("# prog\nprog\nprogram\nprog = custom\nx\n")
    out = run("exclude", "remove", "prog")
    assert conf(image).read_text() == "# prog\nprogram\nx\n"
    assert out == "/etc/memproxy.conf: removed line 2: prog\n/etc/memproxy.conf: removed line 4: prog = custom\n"


def test_removed_by_another_name_of_it(image: Path, run: Run) -> None:
    for program in ("alias", "/bin/alias", "both", "/usr/bin/both", "/opt/link/", "#odd"):
        run("exclude", "add", program)
        run("exclude", "remove", program)
        assert conf(image).read_bytes() == exclusions.TEMPLATE


def test_removing_says_what_still_matches(image: Path, run: Run) -> None:
    conf(image).write_text("/usr/bin/prog\npr*\n")
    out = run("exclude", "remove", "/usr/bin/prog")
    assert "  line 1 matches its name: pr* still gives /usr/bin/prog the route system\n" in out
    answer = json.loads(run("exclude", "remove", "prog", "--json"))["programs"][0]
    assert (answer["changed"], answer["route"], answer["decided_by"]["number"]) == (False, "system", 1)


def test_removing_what_is_not_there_changes_nothing(image: Path, run: Run) -> None:
    assert "no line says nscd; nothing was changed" in run("exclude", "remove", "nscd")
    assert not conf(image).exists()
    conf(image).write_text("x\n")
    inode = conf(image).stat().st_ino
    run("exclude", "remove", "nscd")
    assert conf(image).stat().st_ino == inode


# ---- list


def test_list_shows_numbers_routes_and_problems(image: Path, run: Run) -> None:
    conf(image).write_text("# c\nprog\n/opt/app/ = custom\nbad = rout\n/bin/prog\n")
    assert run("exclude", "list").splitlines() == [
        "2  system   prog",
        "3  custom   /opt/app/",
        "4  ignored  bad = rout",
        "5  system   /bin/prog",
        "/etc/memproxy.conf, line 4: bad = rout: the line is ignored: 'rout' is no route; it is one of system, custom; "
        "correct it",
        "/etc/memproxy.conf, line 5: /bin/prog: the line can never match: what the system reports instead is "
        "/usr/bin/prog; write /usr/bin/prog",
        "/etc/memproxy.conf, line 5: /bin/prog: line 2 (prog) decides first, with the same route; remove one of them",
    ]


@pytest.mark.parametrize(
    ("line", "instead"),
    [("/usr/bin/script", "/usr/bin/prog"), ("/opt/link/", "/opt/real/"), ("/usr/bin/both", "/usr/bin/amd64/both")],
)
def test_list_warns_of_a_path_that_is_never_reported(image: Path, run: Run, line: str, instead: str) -> None:
    conf(image).write_text(line + "\n")
    (problem,) = json.loads(run("exclude", "list", "--json"))["problems"]
    assert (problem["id"], problem["hint"]) == ("exclusions-never-matches", f"write {instead}")


def test_list_warns_of_a_name_cut_at_16_characters(image: Path, run: Run) -> None:
    shutil.copy(image / "usr/bin/prog", image / "usr/bin/a-name-of-17-byte")
    conf(image).write_text("a-name-of-17-byt\n")
    (problem,) = json.loads(run("exclude", "list", "--json"))["problems"]
    assert (problem["line"], problem["id"]) == (1, "exclusions-cut-name")


def test_list_of_nothing(image: Path, run: Run) -> None:
    assert run("exclude", "list") == "/etc/memproxy.conf does not exist: no program is excluded\n"
    assert json.loads(run("exclude", "list", "--json"))["exists"] is False
    conf(image).write_text("# c\n")
    assert run("exclude", "list") == "/etc/memproxy.conf names no program\n"


# ---- explain


def test_explain_names_the_line_and_the_way_to_it(image: Path, run: Run) -> None:
    conf(image).write_text("x\n/usr/bin/pr* = system\n")
    assert run("explain", "script").splitlines()[:4] == [
        "/usr/bin/script is a script: its processes are those of its interpreter /bin/alias, like every script of it",
        "/bin/alias leads through a symbolic link to /usr/bin/prog",
        "/usr/bin/prog: route system: line 2 matches its path: /usr/bin/pr*",
        "  /etc/memproxy.conf, line 2: /usr/bin/pr* = system",
    ]
    answer = json.loads(run("explain", "script", "--json"))
    assert (answer["route"], answer["line"]["number"], answer["executable"]) == ("system", 2, "/usr/bin/prog")


def test_explain_without_a_list_and_without_a_program(run: Run) -> None:
    out = run("explain", "nosuch")
    assert out.startswith("nosuch: route custom: no line matches\n")
    assert "/etc/memproxy.conf does not exist" in out
    assert "no such program was found" in out


def test_explain_tells_what_the_environment_can_do(
    image: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "MEMPROXY_ROUTE=system or =custom in its environment beats the list" in run("explain", "prog")
    assert "set-user-id or set-group-id: MEMPROXY_ROUTE is ignored" in run("explain", "suid")
    monkeypatch.setenv("MEMPROXY_ROUTE", "system")
    assert "is set here" not in run("explain", "prog")  # an image's processes are not started from this shell
    assert main(["explain", "--list", str(conf(image)), "sh"]) == 0
    assert "MEMPROXY_ROUTE=system is set here" in capsys.readouterr().out


def test_explain_tells_of_a_hard_link_with_another_route(image: Path, run: Run) -> None:
    conf(image).write_text("prog3\n")
    assert "the same file started as /usr/bin/prog3 has the route system" in run("explain", "prog")


# ---- The kernel as the oracle: what it reports of a real process is what the written line matches.


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A directory of programs that sleep."""
    binary = tmp_path / "bin"
    binary.mkdir()
    sleep = shutil.which("sleep")
    shell = shutil.which("sh")
    assert sleep is not None
    assert shell is not None
    for name in ("plain", "odd [1]* = custom", "#hash", " blank ", "caf\udce9", "line\nbreak", "é" * 100):
        shutil.copy(sleep, binary / name)
    (binary / "link").symlink_to("plain")
    (binary / "far").symlink_to("../bin/link")
    (tmp_path / "other").symlink_to("bin")
    os.link(binary / "plain", binary / "hard")
    for name, first in (("script", f"#!{shell}"), ("envscript", "#!/usr/bin/env sh"), ("nested", f"#!{binary}/script")):
        (binary / name).write_text(f"{first}\nwhile :; do sleep 1; done\n")
        (binary / name).chmod(0o755)
    return binary


def reported(path: Path) -> str:
    """What the kernel says is the executable of a process started as `path`."""
    process = subprocess.Popen([path, "30"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        name = ""
        for _ in range(200):
            before, name = name, os.readlink(f"/proc/{process.pid}/exe")
            if name == before and not name.endswith("/env"):
                return name
            subprocess.run(["sleep", "0.01"], check=True)
        raise AssertionError(name)
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc of Linux")
@pytest.mark.parametrize(
    "name",
    [
        *("plain", "link", "far", "hard", "../other/plain", "script", "envscript", "nested"),
        *("odd [1]* = custom", "#hash", " blank ", "caf\udce9", "line\nbreak", "é" * 100),
    ],
)
@pytest.mark.parametrize("by_name", [False, True], ids=["by path", "by name"])
def test_the_kernel_reports_what_the_line_matches(
    real: Path, name: str, by_name: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = real.parent / "list"
    monkeypatch.setenv("PATH", f"{real}:{os.environ['PATH']}")
    if by_name and "/" in name:
        name = "plain"
    program = name if by_name else str(real / name)
    before = exclusions.decide((), reported(real / name))
    assert main(["exclude", "add", "--list", str(conf), "--", program]) == 0
    lines = exclusions.parse(conf.read_bytes())
    after = exclusions.decide(lines, exclusions.to_text(os.fsencode(reported(real / name))))
    assert (before.route, after.route, len(lines)) == ("custom", "system", 1)
    capsys.readouterr()
    assert main(["explain", "--json", "--list", str(conf), "--", program]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (answer["executable"], answer["route"]) == (reported(real / name), "system")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_change_the_list() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        conf = Path(name) / "list"
        conf.write_text("x\n")
        script = (
            "import os, sys; from memproxy_sol.cli import main; import memproxy_sol.cli.exclude; os.setgid(65534); "
            f"os.setuid(65534); sys.exit(main(['exclude', 'add', 'y', '--root', {name!r}, '--list', '/list']))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 1
        assert (
            "/list: cannot be changed: Permission denied; nothing was changed; run it as a user who may" in done.stderr
        )
        assert conf.read_text() == "x\n"
        assert os.listdir(name) == ["list"]

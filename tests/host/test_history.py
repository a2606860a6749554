"""History: who changed what from where, and damage as one line of it."""

from __future__ import annotations

import itertools
import json
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from memproxy_sol import actor, changes, lock
from memproxy_sol.root import Root
from tests.images import Image


def rows(image: Image) -> list[list[str]]:
    assert image.run("history") == 0, image.err
    return [line.split("\t") for line in image.out.splitlines()]


def test_changes_are_told_with_who_and_from_where(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "current", lambda: actor.Actor("joe as root", "192.0.2.7 on /dev/pts/3"))
    assert image.install() == 0
    assert image.run("uninstall", "--bits", "32") == 0
    head, first, second = rows(image)
    assert head == ["number", "when", "who", "what", "state", "changed"]
    assert first[0] == "1"
    assert first[2:5] == ["joe as root from 192.0.2.7 on /dev/pts/3", "install", "complete"]
    assert first[5].startswith("new generation /usr/local/lib/memproxy/")
    assert "32-bit runtime linker configuration; 64-bit runtime linker configuration" in first[5]
    assert second[3:] == ["uninstall", "complete", "32-bit runtime linker configuration removed"]


def test_json_has_the_steps_without_their_contents(installed: Image) -> None:
    assert installed.run("history", "--json") == 0
    told = json.loads(installed.out)
    assert told["changing"] is None
    (change,) = told["changes"]
    assert (change["number"], change["state"], change["what"]) == (1, "complete", "install")
    assert change["journal"] == "/var/opt/memproxy/changes/000001.jsonl"
    assert change["begun"] == len(change["steps"])
    assert "data" not in installed.out


def test_nothing_yet(image: Image) -> None:
    assert image.run("history") == 0
    assert "nothing has been changed" in image.err
    assert image.run("history", "--json") == 0
    assert json.loads(image.out) == {"changing": None, "changes": []}


@pytest.mark.parametrize("damage", [b"", b"x\ny\n", b"\0" * 100 + b"\n", b'00000000 {"format": 2}\nx\n'])
def test_a_damaged_journal_is_one_line_of_it(installed: Image, damage: bytes) -> None:
    path = installed / changes.path_of(1)[1:]
    whole = path.read_bytes()
    assert installed.run("uninstall") == 0
    path.write_bytes(whole[: len(whole) // 2] + b"\n" + damage + whole)
    _, first, second = rows(installed)
    assert (first[0], first[4]) == ("1", "damaged")
    assert first[5].startswith("/var/opt/memproxy/changes/000001.jsonl: is damaged")
    assert second[3:5] == ["uninstall", "complete"]


def test_a_newer_format_is_named(installed: Image) -> None:
    path = installed / changes.path_of(1)[1:]
    path.write_bytes(changes.line({"format": 2, "something": "else"}) + changes.line({"state": "complete"}))
    _, first = rows(installed)
    assert "has format 2, this program knows 1" in first[5]


def test_cut_short_and_under_way(installed: Image) -> None:
    path = installed / changes.path_of(1)[1:]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert rows(installed)[1][4] == "cut short"
    with lock.locked(Root(str(installed.path))):
        assert rows(installed)[1][4] == f"under way (process {os.getpid()})"
        assert installed.run("verify") == 0
        assert f"change-under-way: {changes.path_of(1)}" in installed.out
    assert installed.run("verify") == 3
    assert "change-unfinished" in installed.out


@pytest.mark.parametrize(
    "command",
    [
        ["exclude", "list"],
        ["exclude", "add", "nscd"],
        ["exclude", "remove", "nscd"],
        ["explain", "nscd"],
        ["rollback", "--dry-run"],
        ["uninstall", "--dry-run"],
    ],
    ids=" ".join,
)
def test_any_command_tells_of_a_change_that_was_cut_short(installed: Image, command: list[str]) -> None:
    path = installed / changes.path_of(1)[1:]
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    installed.run(command[0], *command[1:]) if command[0] != "exclude" else exclude(installed, command)
    assert "change 1 (install), begun 2" in installed.err
    assert "was cut short; the next install, uninstall or rollback takes it back" in installed.err
    path.write_bytes(whole)
    installed.run(command[0], *command[1:]) if command[0] != "exclude" else exclude(installed, command)
    assert "cut short" not in installed.err


def exclude(image: Image, command: list[str]) -> None:
    from memproxy_sol.cli import main

    main([*command, "--root", str(image.path)])
    image.out, image.err = image.capsys.readouterr()


def test_plan_and_dry_run_tell_it_too(installed: Image) -> None:
    path = installed / changes.path_of(1)[1:]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    for command in (["plan"], ["install", "--dry-run"]):
        installed.run(command[0], "--libraries", str(installed.objects), *command[1:])
        assert "was cut short; the next install" in installed.err


def test_who_may_not_read_the_journals_is_told_so(installed: Image) -> None:
    script = (
        "import os, sys, memproxy_sol.cli.history\n"
        "from memproxy_sol.cli import main\n"
        "os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
        f"sys.exit(main(['history', '--root', {str(installed.path)!r}]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    shared = Path(tempfile.gettempdir())
    for directory in (installed.path, *itertools.takewhile(lambda parent: parent != shared, installed.path.parents)):
        directory.chmod(directory.stat().st_mode | 0o055)
    told = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert (
        told.stderr == "memproxy-sol: /var/opt/memproxy/changes: Permission denied; only root may read the journals\n"
    )


# Who it is.


@pytest.mark.parametrize(
    ("environment", "user", "origin"),
    [
        ({}, "ROOT", "no terminal"),
        ({"SUDO_USER": "joe"}, "joe as ROOT", "no terminal"),
        ({"SSH_CONNECTION": "192.0.2.7 5000 192.0.2.1 22"}, "ROOT", "192.0.2.7"),
        ({"SSH_CLIENT": "2001:db8::7 5000 22", "SSH_CONNECTION": ""}, "ROOT", "2001:db8::7"),
        ({"SMF_FMRI": "svc:/site/memproxy:default"}, "ROOT", "svc:/site/memproxy:default"),
        ({"SUDO_USER": "x\n\x1b[2J" + "y" * 500}, "x\\n\\x1b[2J" + "y" * 190, "no terminal"),
    ],
)
def test_the_actor(environment: dict[str, str], user: str, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: object) -> str:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(os, "getlogin", none)
    monkeypatch.setattr(os, "ttyname", none)
    who = actor.current(environment)
    assert who == actor.Actor(user.replace("ROOT", pwd.getpwuid(os.getuid()).pw_name)[: actor.LONGEST], origin)


def test_the_login_and_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getlogin", lambda: "joe")
    monkeypatch.setattr(os, "ttyname", lambda descriptor: "/dev/pts/3")
    name = pwd.getpwuid(os.getuid()).pw_name
    assert actor.current({}) == actor.Actor(f"joe as {name}", "/dev/pts/3")
    assert actor.current({"SSH_CONNECTION": "192.0.2.7 1 2 3"}).origin == "192.0.2.7 on /dev/pts/3"


def test_the_systems_log_has_each_change(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(actor, "log", told.append)
    monkeypatch.setattr(actor, "current", lambda: actor.Actor("joe", "/dev/console"))
    assert image.install() == 0
    monkeypatch.setattr("memproxy_sol.journal._do", lambda *arguments: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        image.run("uninstall")
    where = f"of {image.path}"
    assert told == [
        f"change 1 (install) {where} begun, by joe from /dev/console",
        f"change 1 (install) {where} complete, by joe from /dev/console",
        f"change 2 (uninstall) {where} begun, by joe from /dev/console",
        f"change 2 (uninstall) {where} taken back, by joe from /dev/console",
    ]


def test_what_is_logged_is_one_plain_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, str]] = []
    monkeypatch.setattr("syslog.syslog", lambda priority, text: told.append((priority, text)))
    actor.log("a\nb\0c")
    import syslog

    assert told == [(syslog.LOG_NOTICE, "a\\nb\\x00c")]

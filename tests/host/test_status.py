"""`status`: one screen of an image and of a running system, in every state that a host can be in."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from memproxy_sol import bypass, changes, journal, pending
from memproxy_sol.commands import Shell
from tests.host.live import Live
from tests.host.live_processes import draw
from tests.host.test_verify_live import installed, start
from tests.images import Image

__all__ = ["installed"]
SCREEN = 24


def status(image: Image, *arguments: str) -> dict[str, Any]:
    assert image.run("status", "--json", *arguments) == 0, image.err
    value: dict[str, Any] = json.loads(image.out)
    return value


def lines(image: Image) -> dict[str, str]:
    assert image.run("status") == 0, image.err
    assert len(image.out.splitlines()) < SCREEN
    return {line[:15].rstrip(": "): line[15:] for line in image.out.splitlines()}


def test_image(image: Image) -> None:
    value = status(image)
    assert (value["installed"], value["since"], value["last_change"], value["processes"]) == ([], None, None, None)
    assert lines(image)["installed"] == "nothing"
    assert image.install() == 0
    value = status(image)
    assert [(one["bits"], one["allocator"], one["secure"]) for one in value["installed"]] == [
        (32, "liballoc.so", True),
        (64, "liballoc.so", True),
    ]
    assert value["installed"][0]["generation"] == "/" + os.path.relpath(image.generation(), image.path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value["since"])
    assert value["last_change"] == f"1 (install), {value['since']}"
    assert (value["errors"], value["unfinished"], value["trial"], value["exclusions"]) == (0, None, None, 0)
    shown = lines(image)
    assert shown["verify"].startswith(("ok", "0 errors"))
    assert shown["64-bit"].endswith(", liballoc.so")


def test_since_the_first_install_and_after_uninstall(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(f"2026-01-0{day}T00:00:00Z" for day in range(1, 9))
    real = journal.apply
    monkeypatch.setattr(
        journal, "apply", lambda root, what, started, *words, **more: real(root, what, next(times), *words, **more)
    )
    assert image.install() == 0
    assert image.install(allocator="libother.so") == 0
    assert status(image)["since"] == "2026-01-01T00:00:00Z"
    assert status(image)["last_change"] == "2 (install), 2026-01-02T00:00:00Z"
    assert image.run("uninstall") == 0
    assert status(image)["since"] is None
    assert image.install() == 0
    assert status(image)["since"] == "2026-01-04T00:00:00Z"
    assert image.run("rollback") == 0
    assert (status(image)["installed"], status(image)["since"]) == ([], None), "rolled back to where it was not there"
    assert image.run("rollback") == 0
    assert status(image)["since"] == "2026-01-06T00:00:00Z", "and back to where it was"
    assert image.run("uninstall", "--bits", "32") == 0
    assert status(image)["since"] == "2026-01-06T00:00:00Z", "64-bit programs have it all the time"


def test_running_system(installed: Live) -> None:
    start(installed, "/opt/daemon64")
    assert installed.run("exclude", "add", "/opt/daemon32") == 0
    start(installed, "/opt/daemon32")
    start(installed, "/opt/daemon64", LD_NOCONFIG="1")
    draw(installed)
    value = status(installed)
    assert value["processes"]["routes"] == {"custom": 1, "system": 1}
    assert value["exclusions"] == 1
    shown = lines(installed)
    assert shown["processes"] == "1 custom, 1 system, 1 without"
    assert shown["exclusions"] == "1 line"


def test_bypassed(installed: Live) -> None:
    pid = start(installed, "/opt/daemon64", **bypass.environment(installed.root, "sunos5"))
    assert not [path for path in installed.lab.processes[pid].objects if "libmemproxy" in path]
    draw(installed)
    assert installed.run("verify", "--processes") == 0
    assert f"{pid}\tdaemon64\t64\tno-config\t\tLD_NOENVCONFIG\t" in installed.out
    assert installed.run("status") == 0


def test_cut_short(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(journal, "_do", dies)
        broken.setattr(journal, "_undo", dies)
        image.install()
    shown = lines(image)
    assert re.fullmatch(
        r"1 \(install\), \S+ was cut short; the next install, uninstall or rollback takes it back", shown["unfinished"]
    )
    assert status(image)["unfinished"].startswith("1 (install), ")


def test_record_that_is_damaged(installed: Live) -> None:
    (installed / "var/opt/memproxy/installed.json").write_text("{}")
    draw(installed)
    value = status(installed)
    assert value["installed"] is None
    assert value["errors"] == 1
    assert any("is damaged" in problem for problem in value["problems"])
    assert "is damaged" in lines(installed)["not known"]


def test_journal_that_is_damaged(installed: Live) -> None:
    file = installed / "var/opt/memproxy/changes/000001.jsonl"
    file.unlink()
    file.mkdir()
    draw(installed)
    value = status(installed)
    assert len(value["installed"]) == 2
    assert value["problems"]
    assert lines(installed)["64-bit"]


@pytest.mark.parametrize(("left", "guarded"), [(30.0, True), (30.0, False), (-1.0, True)])
def test_trial(installed: Live, monkeypatch: pytest.MonkeyPatch, left: float, guarded: bool) -> None:
    draw(installed)
    (change,) = changes.history(installed.root)
    trial = pending.Trial(change.number, 77, 60.0, 100.0, 130.0, "", False)
    monkeypatch.setattr(changes, "unfinished", lambda root: type(change)(**{**change.__dict__, "state": "trial"}))
    monkeypatch.setattr(pending, "read", lambda root: trial)
    monkeypatch.setattr(pending, "is_guarded", lambda root: guarded)
    monkeypatch.setattr(pending, "now", lambda: 130.0 - left)
    assert status(installed)["trial"] == {"change": 1, "left": left, "guarded": guarded}
    shown = lines(installed)["on trial"]
    if not guarded:
        assert "the guard has ended" in shown
    else:
        assert ("in 30 seconds" if left > 0 else "taken back now") in shown


def test_service_that_cannot_be_asked(installed: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(installed)
    lines(installed)

    def missing(self: Shell, command: list[str], **options: object) -> object:
        from memproxy_sol.errors import CommandError

        raise CommandError("is not on this system", where=command[0])

    monkeypatch.setattr(Shell, "run", missing)
    assert "not known" in lines(installed)["service"]


def test_no_solaris(empty: Image) -> None:
    assert empty.run("status") == 1
    assert "does not look like a Solaris root" in empty.err


def test_it_changes_nothing(installed: Live) -> None:
    draw(installed)

    def everything() -> dict[str, Any]:
        # The laboratory's own repository keeps time.
        return {path: what for path, what in installed.snapshot(inodes=True).items() if not path.startswith("etc/svc")}

    before = everything()
    lines(installed)
    assert everything() == before

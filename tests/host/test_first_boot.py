"""A change that is staged in an image: tried by the service at the first boot, and in force only if programs start."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import abi, changes, first_boot, journal, pending
from memproxy_sol.cli import main
from memproxy_sol.ld_config import decode, encode, layout_for, new
from memproxy_sol.root import Root
from memproxy_sol.smf_manifest import FMRI
from tests.host import live as lives
from tests.host.laboratory import Fault
from tests.host.live import Live
from tests.images import CONFIG, Image

PROFILE = "etc/svc/profile/site/memproxy.xml"
SIDE = ("memproxy-new", "memproxy-former", "memproxy-link", "memproxy-tried")


def words(live: Live, *switches: str, allocator: str = "liballoc.so") -> list[str]:
    """The command line that stages a change in the tree of the laboratory, which does not run."""
    allocators = [word for d in ("", "64") for word in ("--allocator", str(live.objects / d / allocator))]
    top = ["install", "--root", str(live.path), "--first-boot-trial", "--libraries", str(live.objects)]
    return [*top, *allocators, *switches]


def stage(live: Live, *switches: str, allocator: str = "liballoc.so") -> int:
    status = main(words(live, *switches, allocator=allocator))
    live.out, live.err = live.capsys.readouterr()
    return status


def image(live: Live) -> Image:
    """The same tree as an image."""
    return Image(live.path, live.objects, live.capsys)


def state(live: Live) -> str:
    return live.lab.execute(["/usr/bin/svcs", "-H", "-o", "state", FMRI], {}).out.decode().strip()


def log(live: Live) -> list[str]:
    """What the method wrote."""
    text = (live.path / "var/svc/log/site-memproxy:default.log").read_text()
    return [line for line in text.splitlines() if not line.startswith("[ ")]


def in_force(live: Live, bits: int) -> bool:
    path = live / CONFIG[bits]
    return path.is_file() and not path.is_symlink() and b"libmemproxy" in path.read_bytes()


def litter(live: Live) -> list[str]:
    return [str(path) for path in (live.path / "var/ld").rglob("*") if path.name.endswith(SIDE)]


def last(live: Live) -> str | None:
    found = journal.history(live.root)
    return found[-1].state if found else None


def svcadm(live: Live, verb: str) -> None:
    assert live.shell.run(("/usr/sbin/svcadm", verb, FMRI)).status == 0
    live.lab.smf.settle()


@pytest.fixture
def staged(live: Live) -> Live:
    assert stage(live) == 0, live.err
    return live


def test_nothing_is_in_force_before_the_boot_and_everything_after_it(staged: Live) -> None:
    for bits in (32, 64):
        assert not (staged / CONFIG[bits]).exists()
        waiting = (staged / f"{CONFIG[bits]}.memproxy-new").read_bytes()
        assert b"libmemproxy" in waiting
        assert decode(waiting, layout=layout_for(abi.X86, bits)).environment
    assert last(staged) == "staged"
    assert (staged / PROFILE).exists()
    before = {bits: (staged / f"{CONFIG[bits]}.memproxy-new").read_bytes() for bits in (32, 64)}
    staged.lab.boot()
    assert state(staged) == "online"
    assert {bits: (staged / CONFIG[bits]).read_bytes() for bits in (32, 64)} == before
    assert not any((staged / CONFIG[bits]).is_symlink() for bits in (32, 64))
    assert litter(staged) == []
    assert last(staged) == "complete"
    assert "was tried at this boot and is in force" in "\n".join(log(staged))
    assert log(staged)[-1].startswith("memproxy-sol: SMF_EXIT_OK (0): nothing wrong below")
    assert staged.lab.brick() is None
    assert staged.run("verify") == 0, staged.out
    staged.lab.boot()
    assert state(staged) == "online"
    assert staged.lab.brick() is None
    assert staged.run("uninstall") == 0, staged.err
    assert not (staged / CONFIG[32]).exists()


def test_what_is_told_of_it_before_the_boot(staged: Live) -> None:
    host = image(staged)
    assert host.run("verify") == 0, host.out
    assert "note: change-staged: " in host.out
    assert "waits for the first boot: nothing of it is in force; boot it" in host.out
    assert host.run("status") == 0
    assert "installed:     nothing" in host.out
    assert "staged:        1 (install), " in host.out
    assert "unfinished" not in host.out
    assert host.run("history") == 0
    assert host.out.splitlines()[1].split("\t")[4] == "staged"
    assert host.run("plan", "--libraries", str(staged.objects)) == 3
    assert "change 1 (install), begun" in host.err
    assert "waits for the first boot, and nothing of it is in force; the service tries it" in host.err
    (staged.path / "usr/local/lib/memproxy").chmod(0o777)
    assert host.run("verify") == 3
    assert "path-insecure" in host.out


def test_confirm_leaves_it_for_the_service(staged: Live) -> None:
    assert staged.run("confirm") == 1
    assert "waits for the service to try it" in staged.err
    assert last(staged) == "staged"


# ---- What does not work does not go live.


def damage(live: Live) -> None:
    """A candidate that kills every process: the object is no object."""
    for path in (live.path / "usr/local/lib/memproxy").rglob("libmemproxy.so"):
        path.write_bytes(b"damaged")


def remove_64(live: Live) -> None:
    (path,) = (live.path / "usr/local/lib/memproxy").glob("*/64/libmemproxy.so")
    path.unlink()


def hang(live: Live) -> None:
    live.lab.faults["/usr/bin/true"] = Fault(seconds=60)


def fail_in_force(live: Live) -> None:
    """What starts with the candidate and dies of the same file when it is in force."""
    said = b"ld.so.1: true: fatal: relocation error\n"
    config = live / CONFIG[64]
    live.lab.faults["/usr/bin/true"] = Fault(status=-9, works=False, err=said, when=lambda argv: config.is_symlink())


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (damage, "was ended by signal 9: ld.so.1: "),
        (remove_64, "was ended by signal 9: ld.so.1: "),
        (hang, "had not ended after 3 seconds and was killed"),
        (fail_in_force, "was ended by signal 9: ld.so.1: true: fatal: relocation error"),
    ],
)
@pytest.mark.parametrize("former", [True, False], ids=["with former files", "without"])
def test_a_candidate_that_does_not_work_is_taken_back_and_the_machine_boots(
    live: Live, break_it: Callable[[Live], None], told: str, former: bool
) -> None:
    if former:
        for bits in (32, 64):
            live.write(CONFIG[bits], encode(new(layout_for(abi.X86, bits))))
    before = live.snapshot()
    assert stage(live) == 0, live.err
    break_it(live)
    live.lab.boot()
    live.lab.faults.clear()
    assert live.lab.brick() is None
    assert state(live) == "maintenance"
    line = log(live)[-1]
    reason = "was tried at this boot and taken back: a new process does not start as it should: /usr/bin/"
    assert f"SMF_EXIT_ERR_CONFIG (96): change 1 (install): {reason}" in line
    assert told in line
    assert line.endswith(f"; memproxy-sol install tries it on the running system; then svcadm clear {FMRI}")
    ours = ("etc/svc", "var/svc/log", "var/run", "proc", "etc/mnttab", "var/adm")
    after = live.snapshot()
    assert {n: v for n, v in after.items() if not n.startswith(ours)} == {
        n: v for n, v in before.items() if not n.startswith(ours)
    }
    live.lab.boot()
    assert live.lab.brick() is None
    assert live.shell.run(("/usr/bin/svcs", FMRI)).status != 0


def test_what_fails_as_a_candidate_is_in_force_at_no_instant(staged: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "go_live", lambda root, step: pytest.fail("went live"))
    damage(staged)
    staged.lab.boot()
    assert "was tried at this boot and taken back: a new process does not start" in log(staged)[-1]


def test_programs_without_libmemproxy_are_no_proof(staged: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(staged.lab), "_said", lambda *arguments: b"")
    staged.lab.boot()
    assert "started, but libmemproxy is not in it" in log(staged)[-1]
    assert last(staged) is None
    assert not (staged / CONFIG[64]).exists()


@pytest.mark.parametrize("bits", [32, 64])
def test_one_abi_alone(live: Live, bits: int) -> None:
    top = live.objects if bits == 32 else live.objects / "64"
    words = ["install", "--root", str(live.path), "--first-boot-trial", "--libraries", str(live.objects)]
    assert main([*words, "--bits", str(bits), "--allocator", str(top / "liballoc.so")]) == 0
    live.lab.boot()
    assert in_force(live, bits)
    assert not in_force(live, 96 - bits)
    assert state(live) == "online"
    assert live.lab.brick() is None


def test_what_an_administrator_edits_meanwhile_stays_and_nothing_goes_live(staged: Live) -> None:
    theirs = encode(new(layout_for(abi.X86, 32)))
    staged.write(CONFIG[32], theirs)
    host = image(staged)
    assert host.run("verify") == 3
    assert f"staged-outdated: /{CONFIG[32]}: was changed by somebody else since" in host.out
    staged.lab.boot()
    assert (staged / CONFIG[32]).read_bytes() == theirs
    assert not in_force(staged, 64)
    assert state(staged) == "maintenance"
    assert f"(96): /{CONFIG[32]}: was changed by somebody else since change 1 (install) was staged" in log(staged)[-1]
    assert staged.run("verify") == 3
    assert last(staged) == "staged"
    assert staged.install() == 0, staged.err
    assert "waited for the first boot and has been taken back" in staged.err
    assert in_force(staged, 32)
    assert in_force(staged, 64)
    assert staged.run("uninstall") == 0
    assert (staged / CONFIG[32]).read_bytes() == theirs
    assert staged.lab.brick() is None


def test_a_service_that_is_switched_off_leaves_it_staged(staged: Live) -> None:
    (staged / PROFILE).unlink()
    staged.lab.boot()
    assert state(staged) == "disabled"
    assert last(staged) == "staged"
    assert not in_force(staged, 64)
    assert staged.run("verify") == 0, staged.out
    assert "nothing of it is in force; svcadm enable memproxy" in staged.out
    assert staged.run("status") == 0
    assert "staged: " in staged.out
    svcadm(staged, "enable")
    assert state(staged) == "online"
    assert in_force(staged, 32)
    assert in_force(staged, 64)
    assert staged.run("verify") == 0, staged.out


def test_uninstall_of_a_running_system_that_has_not_tried_it(staged: Live) -> None:
    (staged / PROFILE).unlink()
    staged.lab.boot()
    assert staged.run("uninstall") == 0, staged.err
    assert staged.shell.run(("/usr/bin/svcs", FMRI)).status != 0
    assert not (staged.path / "usr/local/lib/memproxy").exists()
    assert litter(staged) == []


# ---- Other commands on a staged image.


@pytest.mark.parametrize("command", ["uninstall", "rollback"])
def test_it_is_taken_back_in_the_image(live: Live, command: str) -> None:
    before = live.snapshot()
    assert stage(live) == 0, live.err
    host = image(live)
    assert host.run(command) == 0, host.err
    assert "waited for the first boot and has been taken back" in host.err
    assert {k: v for k, v in live.snapshot().items() if k != "."} == {k: v for k, v in before.items() if k != "."}


def test_a_second_install_takes_its_place(staged: Live) -> None:
    assert stage(staged, allocator="libother.so") == 0, staged.err
    assert "has been taken back" in staged.err
    waiting = (staged / f"{CONFIG[64]}.memproxy-new").read_bytes()
    assert b"libother" in waiting
    assert len(list((staged.path / "usr/local/lib/memproxy").iterdir())) == 1
    assert image(staged).install() == 0
    assert in_force(staged, 32)
    assert litter(staged) == []
    staged.lab.boot()
    assert state(staged) == "online"


def test_an_upgrade_is_staged_over_what_is_installed(live: Live) -> None:
    host = image(live)
    assert host.install() == 0, host.err
    former = (live / CONFIG[64]).read_bytes()
    assert stage(live, allocator="libother.so") == 0, live.err
    assert (live / CONFIG[64]).read_bytes() == former
    assert host.run("verify") == 0, host.out
    assert host.run("status") == 0
    assert "liballoc.so" in host.out
    live.lab.boot()
    assert state(live) == "online"
    assert b"libother" in (live / CONFIG[64]).read_bytes()
    assert live.lab.brick() is None
    assert live.run("rollback") == 0, live.err
    assert (live / CONFIG[64]).read_bytes() == former


def test_an_upgrade_that_fails_leaves_what_was_installed(live: Live) -> None:
    host = image(live)
    assert host.install() == 0, host.err
    former = {bits: (live / CONFIG[bits]).read_bytes() for bits in (32, 64)}
    assert stage(live, allocator="libother.so") == 0, live.err
    for path in (live.path / "usr/local/lib/memproxy").rglob("libother.so"):
        path.write_bytes(b"damaged")
    live.lab.boot()
    assert state(live) == "maintenance"
    assert {bits: (live / CONFIG[bits]).read_bytes() for bits in (32, 64)} == former
    svcadm(live, "clear")
    assert state(live) == "online"
    assert last(live) == "undone"


# ---- Cut short.


def test_a_boot_that_is_cut_short_is_the_only_attempt(staged: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a machine that dies of the very trial."""

    def die(*arguments: Any) -> str | None:
        os.kill(os.getpid(), 9)
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_boot.live_probe, "problem", die)
        staged.lab.boot()
    assert "the check died on signal 9" in log(staged)[-1]
    assert last(staged) == "trial"
    staged.lab.boot()
    assert "is not confirmed and has been taken back; memproxy is not installed, as before" in log(staged)[-1]
    assert last(staged) is None
    assert not (staged / CONFIG[64]).exists()
    assert litter(staged) == []
    assert staged.lab.brick() is None


def test_a_take_back_that_is_cut_short_is_not_tried_any_more(staged: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_undo_step", broken)
        with pytest.raises(KeyboardInterrupt):
            journal.recover(staged.root, journal.history(staged.root)[-1])  # type: ignore[arg-type]
    assert last(staged) == "expired"
    staged.lab.boot()
    assert last(staged) is None
    assert not (staged / CONFIG[32]).exists()


def test_a_torn_line_behind_it_is_no_damage(staged: Live) -> None:
    (journal_,) = (staged.path / "var/opt/memproxy/changes").iterdir()
    with journal_.open("ab") as stream:
        stream.write(b'0badc0de {"state": "tri')
    staged.lab.boot()
    assert state(staged) == "online"
    assert last(staged) == "complete"
    assert in_force(staged, 64)


def test_a_disk_without_room_leaves_it_staged(staged: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(host: str, value: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), host)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "append", full)
        staged.lab.boot()
    assert "is staged, and cannot be tried now: No space left on device" in log(staged)[-1]
    assert last(staged) == "staged"
    assert not in_force(staged, 64)
    svcadm(staged, "clear")
    assert state(staged) == "online"
    assert in_force(staged, 64)


def test_an_edit_at_the_last_instant_is_not_lost(staged: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the candidates have been tried and one is in force already."""
    theirs = encode(new(layout_for(abi.X86, 64)))
    go_live = pending.go_live

    def edited(root: Root, step: Any) -> None:
        go_live(root, step)
        (staged / CONFIG[64]).write_bytes(theirs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pending, "go_live", edited)
        staged.lab.boot()
    assert "was changed since the plan was made" in log(staged)[-1]
    assert (staged / CONFIG[64]).read_bytes() == theirs
    assert not (staged / CONFIG[32]).exists()
    assert staged.lab.brick() is None


# ---- Where it cannot be.


def without_program(live: Live) -> None:
    (live / "usr/local/bin/memproxy-sol").unlink()


def without_service(live: Live) -> None:
    live.write("etc/memproxy.toml", b"service = false\n")


def without_small_programs(live: Live) -> None:
    for directory in ("usr/bin", "usr/bin/amd64"):
        for name in ("ls", "pwd", "id", "echo", "sleep", "isainfo"):
            (live.path / directory / name).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (
            without_program,
            "the program of the service, which would try the change at the first boot, is not in the image",
        ),
        (without_service, "is false, and it is the service that would try the change at the first boot"),
        (without_small_programs, "32-bit programs: could not be tried at the first boot"),
    ],
)
def test_what_could_not_be_tried_is_not_staged(live: Live, act: Callable[[Live], None], told: str) -> None:
    act(live)
    before = live.snapshot()
    assert stage(live) == 1
    assert "first-boot-impossible: " in live.err
    assert told in live.err
    assert live.snapshot() == before


def test_solaris_10_has_nothing_that_would_enable_the_service(
    tmp_path: Path, objects: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = lives.build(tmp_path / "old", objects, capsys, monkeypatch, "10")
    assert stage(old) == 1
    assert "this release has no directory for profiles of ours" in old.err


def test_on_solaris_11(
    tmp_path: Path, objects: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lives.build(tmp_path / "eleven", objects, capsys, monkeypatch, "11.4")
    assert stage(host) == 0, host.err
    host.lab.boot()
    assert state(host) == "online"
    assert in_force(host, 32)
    assert host.lab.brick() is None


@pytest.mark.parametrize("more", [(), ("--try", "60")])
def test_the_running_system_is_not_staged(live: Live, more: Sequence[str]) -> None:
    assert live.run("install", "--first-boot-trial", *more) == 2
    assert "--first-boot-trial is for an image, or with --boot-env" in live.err


def test_a_second_time_nothing_is_to_do(staged: Live) -> None:
    staged.lab.boot()
    assert stage(staged) == 0
    assert "nothing to do" in staged.out
    assert last(staged) == "complete"


def test_in_a_clone_of_the_running_system(live: Live) -> None:
    assert live.install("--boot-env", "--first-boot-trial") == 0, live.err
    assert "ready: the next boot, and that alone" in live.out
    assert not (live / CONFIG[64]).exists()
    live.lab.boot()
    assert state(live) == "online"
    assert in_force(live, 32)
    assert in_force(live, 64)
    live.lab.boot()
    assert not (live / CONFIG[64]).exists()
    assert live.lab.brick() is None

"""Boot environments: a clone of the laboratory is changed and booted once; whatever fails leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import boot_environment, journal
from memproxy_sol.boot_environment import MOUNT_POINT, PROGRAM, BootEnvironments
from memproxy_sol.cli import main
from memproxy_sol.errors import BootEnvironmentError
from memproxy_sol.root import Root
from tests.host.laboratory import Bricked, Laboratory, Result
from tests.host.laboratory.beadm import beadm
from tests.host.laboratory.system import Fault
from tests.host.live import Live
from tests.images import CONFIG, Image

FIRST = "openindiana"
SMFS_OWN = {"etc/svc/repository.db"}
"""What the laboratory's SMF writes whoever asks."""
SERVICE = "svc:/site/memproxy:default"


def install(live: Live, name: str | None = None) -> str:
    def change(root: Root) -> None:
        assert not root.is_live
        words = [word for d in ("", "64") for word in ("--allocator", str(live.objects / d / "liballoc.so"))]
        assert main(["install", "--root", root.path, "--libraries", str(live.objects), *words]) == 0

    return boot_environment.clone(live.shell, live.root, change, name)


def left(live: Live) -> dict[str, str]:
    """Each environment with its letters; nothing is mounted."""
    found = BootEnvironments(live.shell).list()
    assert [e.mount_point for e in found if not e.running] == [None] * (len(found) - 1)
    return {e.name: e.active for e in found}


def test_the_clone_is_changed_and_booted_once(live: Live) -> None:
    assert install(live) == "memproxy-1"
    assert left(live) == {FIRST: "NR", "memproxy-1": "T"}
    assert not (live / CONFIG[32]).exists()
    assert not (live / "usr/local/lib/memproxy").exists()
    assert not (live / MOUNT_POINT[1:]).exists()
    live.lab.boot()
    assert (live / CONFIG[32]).exists()
    assert live.lab.brick() is None
    assert left(live) == {FIRST: "R", "memproxy-1": "N"}
    live.lab.boot()
    assert not (live / CONFIG[32]).exists()


def test_a_clone_that_does_not_come_up_costs_one_reset(live: Live) -> None:
    def change(root: Root) -> None:
        words = ("--allocator", str(live.objects / "64/liballoc.so"), "--bits", "64")
        assert main(["install", "--root", root.path, "--libraries", str(live.objects), *words]) == 0
        shutil.rmtree(root.host_path("/usr/local/lib/memproxy"))

    boot_environment.clone(live.shell, live.root, change)
    with pytest.raises(Bricked):
        live.lab.boot()
    live.lab.boot()
    assert live.lab.brick() is None
    assert not (live / CONFIG[64]).exists()


def test_install_boot_env_from_end_to_end(live: Live) -> None:
    before = {name: found for name, found in live.snapshot().items() if name not in SMFS_OWN}
    assert live.install("--boot-env") == 0, live.err
    assert "the next boot, and that alone, is of the boot environment memproxy-1" in live.out
    assert "beadm activate memproxy-1" in live.out
    del before["var/run"]
    after = live.snapshot()
    assert {name: after[name] for name in before} == before
    assert {name for name in set(after) - set(before) - SMFS_OWN if not name.startswith("var/run")} == set()
    live.lab.boot()
    assert live.lab.brick() is None
    assert live.run("verify") == 0, live.out
    assert "32-bit and 64-bit processes" in live.out
    states = live.lab.execute(["/usr/bin/svcs", "-H", "-o", "state", SERVICE], {})
    assert states.out.split() == [b"online"]
    live.lab.boot()
    assert live.lab.brick() is None
    assert live.run("verify") == 3
    assert "not-installed" in live.out
    assert left(live) == {FIRST: "NR", "memproxy-1": ""}


def test_a_clone_that_runs_is_kept_and_a_second_install_there_changes_nothing(live: Live) -> None:
    assert live.install("--boot-env", "mine") == 0, live.err
    live.lab.boot()
    assert live.lab.execute([PROGRAM, "activate", "mine"]).status == 0
    live.lab.boot()
    assert left(live) == {FIRST: "", "mine": "NR"}
    assert live.run("verify") == 0, live.out
    live.lab.execute([PROGRAM, "destroy", "-F", FIRST])
    assert live.install("--boot-env") == 0, live.err
    assert "nothing to do" in live.out
    assert left(live) == {"mine": "NR"}
    assert live.uninstall() == 0, live.err
    assert not (live / CONFIG[32]).exists()


def test_an_upgrade_is_tried_in_a_clone_and_the_former_state_comes_back(live: Live) -> None:
    assert live.install() == 0, live.err
    former = (live / CONFIG[64]).read_bytes()
    assert live.install("--boot-env", "--without-allocator", allocator="") == 0, live.err
    assert (live / CONFIG[64]).read_bytes() == former
    live.lab.boot()
    assert live.lab.brick() is None
    assert b"liballoc" in former
    assert b"liballoc" not in (live / CONFIG[64]).read_bytes()
    assert live.run("verify") == 0, live.out
    live.lab.boot()
    assert (live / CONFIG[64]).read_bytes() == former
    assert live.run("verify") == 0, live.out


def test_a_dry_run_makes_no_clone(live: Live) -> None:
    assert live.install("--boot-env", "--dry-run") == 3, live.err
    assert "profile" in live.out  # as an image has it, not the running system
    assert left(live) == {FIRST: "NR"}


def test_what_preflight_refuses_makes_no_clone(live: Live) -> None:
    (live / CONFIG[64]).write_bytes(b"garbage")
    assert live.install("--boot-env") == 1
    assert "nothing has been changed" in live.err
    assert not (live.lab.environments.top / "memproxy-1").exists()
    assert left(live) == {FIRST: "NR"}


def test_a_clone_that_verify_finds_wrong_is_not_booted(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    original = journal.apply

    def damaging(root: Root, *arguments: Any, **options: Any) -> None:
        original(root, *arguments, **options)
        for found in Path(root.host_path("/usr/local/lib/memproxy")).glob("*/64/libmemproxy.so"):
            found.write_bytes(b"damaged")

    monkeypatch.setattr(journal, "apply", damaging)
    assert live.install("--boot-env") == 1
    assert "library-not-elf" in live.out
    assert "the clone: is not as it was to be, so it is not booted" in live.err
    assert left(live) == {FIRST: "NR"}


@pytest.mark.parametrize("verb", ["create", "mount", "activate"])
def test_a_signal_leaves_no_clone(verb: str, live: Live) -> None:
    def instead(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        if argv[1] == verb and len(argv) > 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return beadm(lab, argv, env, uid, stdin)

    live.lab.faults[PROGRAM] = Fault(instead=instead)
    assert live.install("--boot-env") == 128 + signal.SIGTERM
    assert "interrupted by SIGTERM" in live.err
    assert left(live) == {FIRST: "NR"}
    assert not (live / CONFIG[64]).exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--boot-env", "--try", "9"), "--boot-env and --try contradict each other"),
        (("--boot-env",), "--boot-env and --root contradict each other"),
        (("memproxy-1",), "unexpected argument 'memproxy-1'"),
    ],
)
def test_switches_that_contradict_each_other(words: tuple[str, ...], told: str, image: Image) -> None:
    assert image.run("install", *words) == 2
    assert told in image.err


def test_the_way_by_hand_has_the_switches_that_were_typed(live: Live) -> None:
    live.lab.faults[PROGRAM] = Fault(err=WITHOUT, when=lambda argv: list(argv[1:]) == ["activate"])
    assert live.install("--boot-env", "--bits", "64", allocator="") == 1
    assert f"    memproxy-sol install --root /a --bits 64 --libraries {live.objects}\n" in live.err
    assert "    beadm activate memproxy-1\n" in live.err


def test_solaris_10_is_told_of_live_upgrade(live: Live) -> None:
    live.lab.faults[PROGRAM] = Fault(missing=True)
    live.write("usr/sbin/lucreate", b"", 0o755)
    assert live.install("--boot-env", allocator="") == 1
    assert "is not on this system; type yourself:\n    lucreate -n memproxy-1\n" in live.err
    assert f"    memproxy-sol install --root /a --libraries {live.objects}\n" in live.err
    assert live.err.endswith("    luactivate memproxy-1\n    init 6\n")


def test_a_second_clone_gets_another_name(live: Live) -> None:
    install(live)
    assert install(live) == "memproxy-2"
    assert left(live) == {FIRST: "NR", "memproxy-1": "", "memproxy-2": "T"}


WITHOUT = b"usage:\n\tbeadm activate [-v] beName\n\tbeadm create [-a | -t] beName\n"


def test_where_it_cannot_be_activated_once_the_way_by_hand_is_told(live: Live) -> None:
    live.lab.faults[PROGRAM] = Fault(err=WITHOUT, when=lambda argv: list(argv[1:]) == ["activate"])
    with pytest.raises(BootEnvironmentError, match="cannot activate an environment for one boot") as caught:
        install(live)
    for line in boot_environment.manual("memproxy-1"):
        assert f"    {line}" in (caught.value.hint or "")
    assert left(live) == {FIRST: "NR"}


def test_a_beadm_that_promises_it_and_does_not_do_it(live: Live) -> None:
    live.lab.environments.temporary_activation = False
    with pytest.raises(BootEnvironmentError, match="activate -t memproxy-1") as caught:
        install(live)
    assert "    beadm activate memproxy-1\n" in (caught.value.hint or "")
    assert left(live) == {FIRST: "NR"}


def test_the_way_by_hand_is_the_same_change(live: Live) -> None:
    """Each line typed into the laboratory but for `mkdir` and `reboot`, which it has not."""
    for line in boot_environment.manual("clone"):
        words = line.split()
        if words[0] == "beadm":
            assert live.lab.execute([PROGRAM, *words[1:]]).status == 0, line
        elif words[0] == "memproxy-sol":
            assert words[1:] == ["install", "--root", "/a"]
            options = ["--libraries", str(live.objects), "--allocator", str(live.objects / "liballoc.so")]
            assert main(["install", "--root", str(live / "a"), "--bits", "32", *options]) == 0
    live.lab.boot()
    assert (live / CONFIG[32]).exists()
    assert live.lab.brick() is None


def test_a_change_that_fails_leaves_no_clone(live: Live) -> None:
    def change(root: Root) -> None:
        (live / MOUNT_POINT[1:] / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        boot_environment.clone(live.shell, live.root, change)
    assert left(live) == {FIRST: "NR"}


@pytest.mark.parametrize("verb", ["create", "mount", "unmount", "activate"])
@pytest.mark.parametrize(
    "fault",
    [Fault(works=False, status=1, err=b"it broke\n"), Fault(works=False), Fault(status=1, err=b"it broke\n")],
    ids=["fails", "says 0 and does nothing", "does it and fails"],
)
def test_no_step_is_believed(verb: str, fault: Fault, live: Live) -> None:
    live.lab.faults[PROGRAM] = Fault(
        works=fault.works,
        status=fault.status,
        err=fault.err,
        times=1,
        when=lambda argv: argv[1] == verb and len(argv) > 2,
    )
    with pytest.raises(BootEnvironmentError, match=r"it broke|and memproxy-1"):
        install(live)
    # What a create that failed has left may be somebody else's of the same name: it is not destroyed.
    kept = {"memproxy-1"} if verb == "create" and fault.works and fault.status else set()
    assert set(left(live)) == {FIRST} | kept
    assert not (live / CONFIG[32]).exists()


@pytest.mark.parametrize("letters", ["R", "", "TR"])
def test_an_activation_for_good_is_not_taken_for_one_boot(letters: str, live: Live) -> None:
    lines = f"{FIRST};u;N;/;1;static;1\nmemproxy-1;u;{letters};;1;static;1\n"
    activated: list[Sequence[str]] = []

    def instead(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        if activated and argv[1] == "list":
            return Result(0, lines.encode())
        if argv[1:3] == ["activate", "-t"]:
            activated.append(argv)
        return beadm(lab, argv, env, uid, stdin)

    live.lab.faults[PROGRAM] = Fault(instead=instead)
    with pytest.raises(BootEnvironmentError, match="would not be booted just once"):
        install(live)
    del live.lab.faults[PROGRAM]
    assert set(left(live)) == {FIRST}


def test_a_clone_that_cannot_be_destroyed_is_named(live: Live) -> None:
    live.lab.faults[PROGRAM] = Fault(
        works=False, status=1, err=b"busy\n", when=lambda argv: argv[1] == "destroy" or argv[1:3] == ["activate", "-t"]
    )
    with pytest.raises(BootEnvironmentError, match=r"memproxy-1 could not be destroyed: .*busy"):
        install(live)


@pytest.mark.parametrize("lines", ["", "nonsense\n", "a;b;c\n", "a;u;NR;/;1;s;1\nb;u;N;;1;s;1\n", "a;u;R;/;1;s;1\n"])
def test_a_list_that_cannot_be_understood(lines: str, live: Live) -> None:
    live.lab.faults[PROGRAM] = Fault(out=lines.encode(), when=lambda argv: argv[1] == "list")
    with pytest.raises(BootEnvironmentError, match="does not show which boot environments there are"):
        BootEnvironments(live.shell).list()


@pytest.mark.parametrize("name", ["-x", "a b", "a/b", "x" * 200])
def test_names_that_beadm_would_not_take(name: str, live: Live) -> None:
    with pytest.raises(BootEnvironmentError, match="is no name for a boot environment"):
        boot_environment.clone(live.shell, live.root, lambda root: None, name)


def test_a_name_that_is_taken_is_nobodys_to_destroy(live: Live) -> None:
    with pytest.raises(BootEnvironmentError, match="is the name of a boot environment already"):
        boot_environment.clone(live.shell, live.root, lambda root: None, FIRST)
    assert left(live) == {FIRST: "NR"}


def test_without_beadm(live: Live) -> None:
    live.lab.faults[PROGRAM] = Fault(missing=True)
    with pytest.raises(BootEnvironmentError, match="is not on this system; install without --boot-env"):
        boot_environment.clone(live.shell, live.root, lambda root: None)

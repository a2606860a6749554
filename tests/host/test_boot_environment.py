"""Boot environments: a clone of the laboratory is changed and booted once; whatever fails leaves nothing behind."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

import pytest

from memproxy_sol import boot_environment
from memproxy_sol.boot_environment import MOUNT_POINT, PROGRAM, BootEnvironments
from memproxy_sol.cli import main
from memproxy_sol.errors import BootEnvironmentError
from memproxy_sol.root import Root
from tests.host.laboratory import Bricked, Laboratory, Result
from tests.host.laboratory.beadm import beadm
from tests.host.laboratory.system import Fault
from tests.host.live import Live
from tests.images import CONFIG

FIRST = "openindiana"


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
    activated = []

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

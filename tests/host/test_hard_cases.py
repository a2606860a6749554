"""Ways in which an administrator, a full disk or another user might still break a change on the running system."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from memproxy_sol import abi, actor, changes, journal, pending, probe_list
from memproxy_sol.journal import unfinished
from memproxy_sol.ld_config import Variable, encode, layout_for, new
from memproxy_sol.live import Carrying
from memproxy_sol.probe import Probe
from memproxy_sol.root import Root
from memproxy_sol.steps import PlaceGeneration, Step
from memproxy_sol.trial import Tried
from tests.host import live as lives
from tests.host.live import Live
from tests.images import CONFIG


def with_preload(live: Live, value: str) -> None:
    """A 32-bit configuration of somebody else's that preloads `value`."""
    variable = Variable.define("LD_PRELOAD", value, True)
    live.write(CONFIG[32], encode(replace(new(layout_for(abi.X86, 32)), environment=(variable,))))


def test_the_package_of_an_adopted_allocator_is_removed_before_uninstall(live: Live) -> None:
    theirs = live / "usr/lib/libtheirs.so"
    shutil.copy(live.objects / "liballoc.so", theirs)
    with_preload(live, "libtheirs.so")
    allocator = ("--allocator", str(theirs))
    assert live.run("install", "--bits", "32", "--libraries", str(live.objects), *allocator) == 0, live.err
    theirs.unlink()
    assert live.lab.brick() is None
    assert live.uninstall() == 0
    assert live.lab.brick() is None
    assert "preload-gone" in live.out
    assert live.lab.execute(["/usr/bin/crle"], {}).status == 0
    assert live.uninstall("--purge") == 0, "a second time nothing is in its way"


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_no_directory_of_ours_is_open_to_others_for_an_instant(
    live: Live, monkeypatch: pytest.MonkeyPatch, no_umask: None
) -> None:
    """A file that somebody slipped into a generation would be trusted, and so be preloadable into set-id programs."""
    made: list[str] = []
    mkdir = os.mkdir

    def looked_at(path: str, *mode: int) -> None:
        mkdir(path, *mode)
        made.append(path)
        assert stat.S_IMODE(os.lstat(path).st_mode) & 0o022 == 0, path

    monkeypatch.setattr(os, "mkdir", looked_at)
    assert live.install("--try", "600") == 0, live.err
    assert live.run("confirm") == 0, live.err
    assert any("/lib/memproxy/" in path for path in made)


def test_somebody_writes_a_configuration_just_before_install_makes_its_own_permanent(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stays on trial that nobody knows of, and what the other wrote is his."""
    theirs = encode(replace(new(layout_for(abi.X86, 32)), library_path=("/lib", "/usr/lib", "/opt/x")))
    after = Carrying._after

    def meanwhile(self: Carrying, probes: Sequence[Probe]) -> Tried:
        tried = after(self, probes)
        (live / CONFIG[32]).unlink()
        live.write(CONFIG[32], theirs)
        return tried

    monkeypatch.setattr(Carrying, "_after", meanwhile)
    assert live.install() == 1
    assert "somebody else has changed ld.config" in live.err
    assert "taken back" in live.err
    assert unfinished(live.root) is None
    assert (live / CONFIG[32]).read_bytes() == theirs
    assert sorted(os.listdir(live / "var/ld")) == ["64", "ld.config"]
    assert os.listdir(live / "var/ld/64") == []
    assert live.lab.brick() is None


@pytest.mark.parametrize("place", ["var/opt/memproxy/notes.txt", "var/opt/memproxy/changes/notes.txt"])
def test_what_somebody_keeps_beside_our_state_stays(live: Live, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """It is not ours to remove, neither when a first install is taken back nor at the end of all."""
    notes = live.write(place, b"mine")

    def full(self: Carrying, rest: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as during:
        during.setattr(Carrying, "_ready", full)
        assert live.install() == 1
    assert notes.read_bytes() == b"mine"
    assert unfinished(live.root) is None
    assert live.install() == 0, live.err
    live.lab.boot()
    assert live.uninstall() == 0
    live.lab.boot()
    assert live.uninstall("--purge") == 0
    assert not (live / "usr/local/lib/memproxy").exists(), live.out
    assert notes.read_bytes() == b"mine"
    assert unfinished(live.root) is None


def with_library_path(live: Live) -> None:
    """Configurations of somebody else's for both ABIs."""
    for bits in (32, 64):
        layout = layout_for(abi.X86, bits)
        path = (*abi.ABIS[bits].default_library_path, "/opt/lib")
        live.write(CONFIG[bits], encode(replace(new(layout), library_path=path)))


@pytest.mark.parametrize("directory", ["var/ld/64", "var/ld"])
@pytest.mark.parametrize("has_former", [False, True], ids=["nothing before", "with former files"])
@pytest.mark.parametrize("on_trial", [False, True], ids=["installed", "on trial"])
def test_the_directory_of_a_configuration_is_removed(
    live: Live, directory: str, has_former: bool, on_trial: bool
) -> None:
    """Undo works all the same, and what was there before is there again."""
    if has_former:
        with_library_path(live)
    former = {bits: (live / CONFIG[bits]).read_bytes() for bits in (32, 64)} if has_former else {}
    assert live.install(*(["--try", "600"] if on_trial else [])) == 0, live.err
    shutil.rmtree(live / directory)
    if on_trial:
        assert live.run("confirm") == 1
        assert "the change was taken back" in live.err
    assert live.uninstall() == 0, live.err
    assert live.lab.brick() is None
    assert unfinished(live.root) is None
    for bits, data in former.items():
        assert (live / CONFIG[bits]).read_bytes() == data


def test_uninstall_does_not_wait_for_the_end_of_a_trial(live: Live) -> None:
    with_library_path(live)
    former = [(live / CONFIG[bits]).read_bytes() for bits in (32, 64)]
    assert live.install("--try", "86400") == 0, live.err
    assert live.install() == 1
    assert "memproxy-sol uninstall to take it back" in live.err
    assert live.uninstall() == 0, live.err
    assert "has been taken back" in live.err
    assert unfinished(live.root) is None
    assert [(live / CONFIG[bits]).read_bytes() for bits in (32, 64)] == former


@pytest.mark.parametrize("release", ["10", "11.4", "illumos"])
def test_a_service_that_a_trial_left_in_smf_is_taken_out(
    tmp_path: Path, objects: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    """The boot takes a forgotten trial back, but no method can delete its own service."""
    live = lives.build(tmp_path / "live", objects, capsys, monkeypatch, release)
    assert live.install("--try", "600") == 0, live.err
    pending.end_guard(live.root)  # which is a process of this machine, and no boot of the laboratory ends it
    live.lab.boot()
    live.lab.boot()
    assert live.uninstall() == 0
    assert live.lab.execute(["/usr/bin/svcs", "-H", "svc:/site/memproxy:default"], {}).status != 0
    assert live.uninstall() == 0
    assert "nothing to do" in live.out


def test_set_id_programs_that_were_warned_of_another_preload_before(live: Live) -> None:
    """What is not ours, and was so before, is no reason to take a change back."""
    with_preload(live, "libplain.so")
    warned = live.lab.execute(["/usr/bin/uptime"], {}, uid=100).err
    assert b"warning: libplain.so" in warned
    assert live.install("--try", "600") == 0, live.err
    tried = probe_list.default_probes(live.root, [abi.ABIS[32]]).probes
    assert "/usr/bin/uptime" in {probe.command[0] for probe in tried if probe.secure}
    assert live.run("confirm") == 0, live.err


@pytest.mark.parametrize("guard_lives", [True, False], ids=["guarded", "its guard is killed"])
def test_rollback_during_a_trial_takes_the_trial_back_and_no_more(live: Live, guard_lives: bool) -> None:
    """What is cut short or on trial is the last change, and taking it back is what was asked for."""
    assert live.install() == 0, live.err
    installed = [(live / CONFIG[bits]).read_bytes() for bits in (32, 64)]
    assert live.install("--try", "600", allocator="libother.so") == 0, live.err
    if not guard_lives:
        pending.end_guard(live.root)
    assert live.run("rollback") == 0, live.err
    assert "all that rollback takes back" in live.err
    assert [(live / CONFIG[bits]).read_bytes() for bits in (32, 64)] == installed
    assert live.run("verify") == 0, live.out


def test_the_lock_is_removed_while_a_change_is_carried_out(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes then neither takes the half of it back nor begins another one."""
    (there, there_end), (goes_on, goes_on_end) = os.pipe(), os.pipe()
    real = journal._do

    def slowly(root: Root, step: Step, services: object = None) -> None:
        if isinstance(step, PlaceGeneration):
            os.write(there_end, b".")
            os.read(goes_on, 1)
        real(root, step, services)  # type: ignore[arg-type]

    child = os.fork()
    if child == 0:
        status = 120
        try:
            monkeypatch.setattr(journal, "_do", slowly)
            status = live.install()
        finally:
            os._exit(status)
    try:
        assert os.read(there, 1) == b"."
        (live / "var/run/memproxy/lock").unlink()
        for command in ("uninstall", "rollback", "install"):
            words = ("--libraries", str(live.objects)) if command == "install" else ()
            assert live.run(command, *words) == 1
            assert f"another memproxy-sol (process {child}) is changing it" in live.err
        live.run("verify")
        assert f"is being made or taken back by process {child}" in live.out
        assert "cut short" not in live.out + live.err
    finally:
        os.write(goes_on_end, b".")
        status = os.waitpid(child, 0)[1]
        for descriptor in (there, there_end, goes_on, goes_on_end):
            os.close(descriptor)
    assert os.waitstatus_to_exitcode(status) == 0
    assert live.run("verify") == 0, live.out
    assert live.uninstall() == 0, live.err


def test_the_lock_is_removed_before_a_change_is_begun(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    before = live.snapshot()
    real = Carrying.install

    def meanwhile(self: Carrying, *words: object) -> object:
        (live / "var/run/memproxy/lock").unlink()
        return real(self, *words)  # type: ignore[arg-type]

    with monkeypatch.context() as during:
        during.setattr(Carrying, "install", meanwhile)
        assert live.install() == 1
    assert "lock: was removed by somebody while this command was at work" in live.err
    assert unfinished(live.root) is None
    now = live.snapshot()
    assert {name for name in {*before, *now} if before.get(name) != now.get(name)} <= {
        name for name in {*before, *now} if name.startswith(("var/run", "var/svc", "etc/svc", ".", "var/adm"))
    }
    assert live.install() == 0, live.err


def test_a_number_that_another_process_has_now_is_not_taken_for_a_command(live: Live) -> None:
    """It is killed, and its number given to somebody else: when that was started tells them apart."""
    assert live.install() == 0, live.err
    path = live / changes.path_of(1)[1:]
    first, *rest = (line for line in path.read_bytes().splitlines(keepends=True) if b'"state"' not in line)
    opening = json.loads(first.partition(b" ")[2])
    own = actor.process(os.getppid())
    assert own is not None
    assert opening["process"] == actor.process(os.getpid())
    number, started, *boot = own.split(" ")
    for process, is_alive in ((own, True), (" ".join([number, started + "0", *boot]), False), (number, False)):
        path.write_bytes(changes.line({**opening, "process": process}) + b"".join(rest))
        change = changes.unfinished(live.root)
        assert change is not None
        assert changes.maker(change) == (os.getppid() if is_alive else None)
    assert live.uninstall() == 0, live.err

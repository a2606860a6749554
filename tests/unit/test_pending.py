"""What a trial leaves on the disk at each instant, and that every state leads back to the former files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from memproxy_sol import changes, journal, pending, steps
from memproxy_sol.errors import ChangeError
from memproxy_sol.pending import Trial
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import MakeDirectory, ReplaceFile, TryFile

PATHS = ("/var/ld/ld.config", "/var/ld/64/ld.config")
FORMER = FileState(b"former", 0o640, 0, 3)
AFTER = FileState(b"tried", 0o644, 0, 0)
MOMENT = 1_500_000_000_000_000_007


class Renames:
    """A keeper that does what a guard does for `go_live`, and is gone at a chosen point."""

    def __init__(self, root: Root, stop: int | None = None) -> None:
        self.root, self.stop, self.live = root, stop, 0
        self.stood_down = False

    def arm(self, change: int, journal: str, steps: Sequence[TryFile]) -> None:
        assert Path(journal).exists()
        assert [step.path for step in steps] == list(PATHS)

    def go_live(self, step: TryFile) -> None:
        if self.stop == self.live:
            raise OSError(28, "No space left on device", step.path)
        os.rename(self.root.host_path(step.link), self.root.host_path(step.path))
        self.live += 1

    def stand_down(self) -> None:
        self.stood_down = True


@pytest.fixture(params=[True, False], ids=["with former files", "without"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    top = tmp_path / "top"
    for name in ("var/ld/64", "var/run", "etc"):
        (top / name).mkdir(parents=True)
    if request.param:
        for path in PATHS:
            live = top / path[1:]
            live.write_bytes(FORMER.data)
            live.chmod(FORMER.mode)
            os.chown(live, FORMER.uid, FORMER.gid)
            os.utime(live, ns=(MOMENT, MOMENT))
    return Root(str(top), live=True)


def seen(root: Root) -> dict[str, tuple[object, ...]]:
    """All files with inode and times; links as what they lead to. Not the journal's directory, nor times of reading."""
    found: dict[str, tuple[object, ...]] = {}
    for top, directories, names in os.walk(root.path):
        directories[:] = [name for name in directories if name != "opt"]
        for name in (*directories, *names):
            path = os.path.join(top, name)
            status = os.lstat(path)
            content = os.readlink(path) if os.path.islink(path) else None
            if os.path.isfile(path) and content is None:
                content = f"{Path(path).read_bytes()!r} {status.st_ino} {status.st_mtime_ns}"
            found[os.path.relpath(path, root.path)] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


def plan(root: Root) -> list[steps.Step]:
    configurations = [ReplaceFile(path, root.read(path), AFTER, "a configuration") for path in PATHS]
    return [
        MakeDirectory("/etc/memproxy"),
        *steps.on_trial(configurations),
        ReplaceFile("/var/opt/memproxy/installed.json", None, AFTER, "record"),
    ]


def tried(root: Root) -> journal.Change:
    journal.apply(root, "install", "now", plan(root), keeper=Renames(root))
    change = journal.unfinished(root)
    assert change is not None
    return change


def test_on_trial_every_name_leads_to_what_a_reboot_removes(root: Root) -> None:
    change = tried(root)
    assert change.state == "trial"
    for path, bits in zip(PATHS, (32, 64)):
        assert os.readlink(root.host_path(path)) == f"/var/run/memproxy/trial/{bits}"
        state = root.read(path)
        assert state is not None
        assert (state.data, state.mode) == (b"tried", 0o644)
        assert root.read(f"{path}.memproxy-new") == AFTER
    assert root.stat("/var/run/memproxy/trial").st_mode & 0o7777 == 0o755  # type: ignore[union-attr]


def test_a_trial_taken_back_leaves_the_very_files(root: Root) -> None:
    before = seen(root)
    change = tried(root)
    assert "on trial" in journal.recover(root, change)
    assert {**seen(root), "var/run/memproxy": None} == {**before, "var/run/memproxy": None}
    assert journal.unfinished(root) is None


def test_so_it_does_after_a_reboot_that_emptied_the_run_directory(root: Root) -> None:
    before = seen(root)
    change = tried(root)
    for directory in ("trial", "guard", ""):
        place = Path(root.host_path(f"/var/run/memproxy/{directory}"))
        for file in place.iterdir():
            file.unlink()
        place.rmdir()
    assert root.read(PATHS[0]) is None, "the runtime linker finds no configuration"
    journal.recover(root, change)
    assert seen(root) == before


@pytest.mark.parametrize("stop", [0, 1])
def test_a_failure_on_the_way_takes_everything_back(root: Root, stop: int) -> None:
    before = seen(root)
    keeper = Renames(root, stop)
    with pytest.raises(ChangeError, match="nothing is changed"):
        journal.apply(root, "install", "now", plan(root), keeper=keeper)
    assert keeper.stood_down
    assert {**seen(root), "var/run/memproxy": None} == {**before, "var/run/memproxy": None}


def test_confirmed_the_name_is_a_file_and_nothing_is_left_beside(root: Root) -> None:
    change = tried(root)
    for step in (step for step in change.steps if isinstance(step, TryFile)):
        pending.make_permanent(root, step)
    changes.append(root.host_path(changes.path_of(1)), {"state": "complete"})
    (change,) = journal.history(root)
    assert change.state == "complete"
    assert journal.unfinished(root) == change, "what lay beside still does"
    journal.recover(root, change)
    assert journal.unfinished(root) is None
    assert sorted(os.listdir(root.host_path("/var/ld"))) == ["64", "ld.config"]
    assert root.read(PATHS[0]) == root.read(PATHS[1]) == AFTER
    assert not os.path.islink(root.host_path(PATHS[0]))


def test_half_confirmed_is_taken_back(root: Root) -> None:
    before = seen(root)
    change = tried(root)
    first = next(step for step in change.steps if isinstance(step, TryFile))
    pending.make_permanent(root, first)
    journal.recover(root, change)
    assert {**seen(root), "var/run/memproxy": None} == {**before, "var/run/memproxy": None}


def test_what_somebody_else_put_there_meanwhile_stays(root: Root) -> None:
    change = tried(root)
    other = Path(root.host_path(PATHS[0]))
    other.unlink()
    other.write_bytes(b"another's")
    first = next(step for step in change.steps if isinstance(step, TryFile))
    with pytest.raises(ChangeError, match="was changed by somebody else"):
        pending.make_permanent(root, first)
    journal.recover(root, change)
    assert other.read_bytes() == b"another's"
    assert sorted(os.listdir(other.parent)) == ["64", "ld.config"]


def test_a_former_file_that_somebody_removed_comes_from_the_journal(root: Root) -> None:
    former = root.read(PATHS[0])
    change = tried(root)
    if former is not None:
        os.unlink(root.host_path(f"{PATHS[0]}.memproxy-former"))
    journal.recover(root, change)
    assert root.read(PATHS[0]) == former
    assert not os.path.islink(root.host_path(PATHS[0]))


def test_a_file_that_was_changed_since_the_plan_is_not_tried(root: Root) -> None:
    made = plan(root)
    Path(root.host_path(PATHS[1])).write_bytes(b"changed")
    with pytest.raises(ChangeError, match="was changed since the plan"):
        journal.apply(root, "install", "now", made, keeper=Renames(root))
    assert Path(root.host_path(PATHS[1])).read_bytes() == b"changed"
    assert not os.path.islink(root.host_path(PATHS[0]))


def test_steps_survive_the_journal(root: Root) -> None:
    for step in plan(root):
        assert steps.from_json(steps.to_json(step)) == step


@pytest.mark.parametrize("change", [{"path": "/etc/passwd"}, {"after": None}])
def test_no_journal_can_have_another_file_tried(root: Root, change: dict[str, object]) -> None:
    step = next(step for step in plan(root) if isinstance(step, TryFile))
    with pytest.raises(ValueError, match="cannot be tried"):
        steps.from_json({**steps.to_json(step), **change})


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ([], "open"),
        (["trial"], "trial"),
        (["expired", "trial"], "expired"),
        (["trial", "complete", "expired"], "complete"),
        (["trial", "expired", "complete"], "expired"),
        (["trial", "expired", "undone"], "undone"),
        (["complete", "undone"], "undone"),
    ],
)
def test_the_first_verdict_holds(told: list[str], state: str) -> None:
    assert changes._state(told) == state


def test_the_state_of_a_trial(root: Root) -> None:
    assert pending.read(root) is None
    assert not pending.is_guarded(root)
    trial = Trial(3, 4711, 60.0, 100.0, 160.0, pending.boot_id())
    pending.make_directories(root)
    Path(root.host_path(pending.STATE)).write_bytes(trial.encode())
    assert len(trial.encode()) == pending.STATE_SIZE
    assert pending.read(root) == trial
    assert not pending.is_guarded(root), "nobody holds its lock"
    assert [trial.is_over(now) for now in (99.0, 100.0, 159.9, 160.0)] == [True, False, False, True]
    assert Trial(3, 4711, 60.0, 100.0, 160.0, "another").is_over(120.0)
    Path(root.host_path(pending.STATE)).write_bytes(b"{}")
    assert pending.read(root) is None

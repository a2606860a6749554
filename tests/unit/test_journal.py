"""The journal on disk: torn and damaged lines, and what is never done on their word."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from memproxy_sol import journal, systemd_unit
from memproxy_sol.errors import HostError
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import ChangeService, MakeDirectory, ReplaceFile, Service

FILE = FileState(b"new", 0o644, 0, 0)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    path = tmp_path / "top"
    path.mkdir(mode=0o755)
    return path


def applied(top: Path, name: str = "/etc/memproxy.conf") -> None:
    (top / name[1:]).parent.mkdir(parents=True, exist_ok=True)
    journal.apply(Root(str(top)), "install", "now", [ReplaceFile(name, None, FILE, "a file")])


def lines(*values: object) -> bytes:
    texts = [json.dumps(value).encode() for value in values]
    return b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in texts)


def test_a_change_is_on_disk_with_its_steps(top: Path) -> None:
    applied(top)
    (change,) = journal.history(Root(str(top)))
    assert isinstance(change, journal.Change)
    assert (change.number, change.what, change.state, change.begun) == (1, "install", "complete", 1)
    assert change.steps == (ReplaceFile("/etc/memproxy.conf", None, FILE, "a file"),)
    assert change.directories == ("/var", "/var/opt", "/var/opt/memproxy", "/var/opt/memproxy/changes")
    applied(top, "/etc/svc/profile/site/memproxy.xml")
    assert [change.number for change in journal.history(Root(str(top)))] == [1, 2]
    assert journal.unfinished(Root(str(top))) is None


def test_every_truncation_of_a_journal_is_understood(top: Path) -> None:
    applied(top)
    path = top / "var/opt/memproxy/changes/000001.jsonl"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        change = journal.unfinished(Root(str(top)))
        first, begin, _ = whole.split(b"\n", 2)
        if length < len(first):
            assert change is None, "nothing had been done"
        elif length < len(whole) - 1:
            assert change is not None
            assert change.begun == int(length >= len(first) + 1 + len(begin))


def test_a_torn_journal_does_not_swallow_the_next_change(top: Path) -> None:
    applied(top)
    (top / "var/opt/memproxy/changes/000002.jsonl").write_bytes(b"0badc0de {")
    applied(top, "/etc/svc/profile/site/memproxy.xml")
    assert [change.number for change in journal.history(Root(str(top)))] == [1, 3]


@pytest.mark.parametrize(
    "first",
    [
        {},
        [],
        {"change": 1, "what": "x", "started": "", "steps": 5, "directories": [], "leave_nothing": False, "cleanup": []},
        {
            "change": 1,
            "what": "install",
            "started": "",
            "steps": [{"do": "place-generation", "path": "/usr", "digests": {}}],
            "directories": [],
            "leave_nothing": False,
            "cleanup": [],
        },
    ],
)
def test_a_foreign_journal_is_told_and_nothing_is_done_on_its_word(top: Path, first: object) -> None:
    applied(top)
    (top / "usr").mkdir()
    (top / "var/opt/memproxy/changes/000001.jsonl").write_bytes(lines(first, {"begin": 0}))
    with pytest.raises(HostError, match="is damaged"):
        journal.unfinished(Root(str(top)))
    assert (top / "usr").is_dir()


def test_a_file_that_somebody_changed_meanwhile_is_left_alone_by_undo(top: Path) -> None:
    steps = [MakeDirectory("/etc"), ReplaceFile("/etc/memproxy.conf", None, FILE, "a file")]
    journal.apply(Root(str(top)), "install", "now", steps)
    path = top / "var/opt/memproxy/changes/000001.jsonl"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:3]) + b"\n")  # as if killed before it was complete
    (top / "etc/memproxy.conf").write_bytes(b"somebody's")
    change = journal.unfinished(Root(str(top)))
    assert change is not None
    journal.recover(Root(str(top)), change)
    assert (top / "etc/memproxy.conf").read_bytes() == b"somebody's"


@pytest.mark.parametrize("left", ["the sibling of its file", "the directory of its link"])
def test_an_undo_of_the_unit_leaves_nothing_where_it_was_killed_half_way(top: Path, left: str) -> None:
    (top / "etc").mkdir()
    unit = Service(FILE, True, True)
    directories = ("/etc/systemd", "/etc/systemd/system")
    steps = (
        *(MakeDirectory(directory, 0o755) for directory in directories),
        ChangeService(systemd_unit.PATH, Service(None, False, False), unit, False),
    )
    root = Root(str(top))
    journal.apply(root, "install", "now", [ReplaceFile("/etc/memproxy.conf", None, FILE, "a file")])

    class Killed(BaseException):
        pass

    def killed(*words: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        # What a process that is killed does not do: clean up.
        patch.setattr(journal, "_undo", lambda *words: None)
        patch.setattr(systemd_unit, "enable", killed)
        with pytest.raises(Killed):
            journal.apply(root, "install", "now", steps)
    system = top / "etc/systemd/system"
    if left == "the sibling of its file":
        (system / "memproxy.service").rename(system / "memproxy.service.memproxy-new")
    else:
        (system / "sysinit.target.wants").mkdir()
    change = journal.unfinished(root)
    assert change is not None
    assert change.begun == 3
    journal.recover(root, change)
    assert sorted(path.name for path in (top / "etc").iterdir()) == ["memproxy.conf"]

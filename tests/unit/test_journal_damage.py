"""A journal that is damaged, hostile, huge or of a full disk: told, and never obeyed beyond what a change does."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import changes, files, journal, steps
from memproxy_sol.changes import Change, Damaged
from memproxy_sol.errors import ChangeError, HostError
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import MakeDirectory, RemoveGeneration, ReplaceFile

FILE = FileState(b"new", 0o644, 0, 0)
FORMER = FileState(b"former", 0o600, 0, 3, 1_400_000_000_000_000_000, 1_400_000_000_000_000_001)
LIST, CONFIG, RESCUE = "/etc/memproxy.conf", "/var/ld/ld.config", "/var/ld/memproxy-rescue.txt"
STEPS = [
    MakeDirectory("/etc/svc"),
    ReplaceFile(LIST, FORMER, FILE, "list"),
    ReplaceFile(CONFIG, None, FILE, "configuration"),
    ReplaceFile(RESCUE, None, FILE, "rescue"),
]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    top = tmp_path / "top"
    for name in ("etc", "var/ld", "var/opt/memproxy/changes"):
        (top / name).mkdir(parents=True)
    files.put(Root(str(top)), LIST, FORMER)
    return Root(str(top))


def host(root: Root, number: int = 1) -> Path:
    return Path(root.host_path(changes.path_of(number)))


def contents(root: Root) -> dict[str, Any]:
    """Everything but journals."""
    return {
        str(path.relative_to(root.path)): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(root.path).rglob("*"))
        if "changes/" not in str(path)
    }


@pytest.fixture
def whole(root: Root) -> bytes:
    """The journal of a change that was killed after its last step."""
    journal.apply(root, "install", "now", STEPS)
    return b"".join(host(root).read_bytes().splitlines(keepends=True)[:-1])


def test_the_opening_line_says_all(root: Root, whole: bytes) -> None:
    value = json.loads(whole.split(b"\n")[0][9:])
    assert set(value) == {
        *("format", "change", "what", "started", "user", "origin", "process"),
        *("steps", "directories", "leave_nothing", "cleanup"),
    }  # fmt: skip
    assert value["steps"][1]["before"]["mtime_ns"] == FORMER.mtime_ns
    page = (Path(__file__).parents[2] / "docs/journal.md").read_text()
    assert all(f"`{key}`" in page for key in value), "the page describes it"
    assert all(f"`{state}`" in page for state in changes.STATES)


def test_kinds_of_steps_are_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/journal.md").read_text()
    kinds = set(re.findall(r'"([a-z]+-[a-z]+)"', Path(steps.__file__).read_text()))
    assert {"replace-file", "place-generation"} <= kinds
    assert all(f"`{kind}`" in page for kind in kinds)


def test_undone_to_the_very_file_with_its_times(root: Root, whole: bytes) -> None:
    host(root).write_bytes(whole)
    change = journal.unfinished(root)
    assert change is not None
    journal.recover(root, change)
    status = os.stat(root.host_path(LIST))
    assert (status.st_mode & 0o7777, status.st_gid, status.st_mtime_ns) == (0o600, 3, FORMER.mtime_ns)
    assert not os.path.exists(root.host_path(CONFIG))
    assert not os.path.exists(root.host_path("/etc/svc"))


@pytest.mark.parametrize("line", range(1, 5))
@pytest.mark.parametrize("how", ["zeroed", "cut", "bit"])
def test_damage_in_the_middle_is_told_and_nothing_is_done(root: Root, whole: bytes, line: int, how: str) -> None:
    lines = whole.splitlines(keepends=True)
    victim = lines[line]
    damaged = {
        "zeroed": b"\0" * (len(victim) - 1) + b"\n",
        "cut": victim[: len(victim) // 2] + b"\n",
        "bit": bytes([*victim[:12], victim[12] ^ 1, *victim[13:]]),
    }[how]
    before = contents(root)
    host(root).write_bytes(b"".join([*lines[:line], damaged, *lines[line + 1 :]]))
    if line == len(lines) - 1:
        # The last one: whether its step was begun is not known, so that every step is taken back.
        change = journal.unfinished(root)
        assert change is not None
        assert change.begun == len(STEPS)
        return
    with pytest.raises(HostError, match="is damaged"):
        journal.unfinished(root)
    (entry,) = journal.history(root)
    assert isinstance(entry, Damaged)
    assert contents(root) == before


def test_no_damage_at_all_makes_an_undo_that_leaves_a_half(root: Root, whole: bytes) -> None:
    """Whatever bytes change: it is told, or everything is taken back, or, as in a shorter journal, the first steps."""
    after = contents(root)
    chance = random.Random(11)
    host(root).write_bytes(whole)
    change = journal.unfinished(root)
    assert change is not None
    journal.recover(root, change)
    before = contents(root)
    told = undone = 0
    for _ in range(300):
        for path, state in ((LIST, FILE), (CONFIG, FILE), (RESCUE, FILE)):
            files.put(root, path, state)
        Path(root.host_path("/etc/svc")).mkdir(exist_ok=True)
        assert contents(root) == after
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 8])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        host(root).write_bytes(bytes(data))
        try:
            change = journal.unfinished(root)
        except HostError:
            told += 1
            assert contents(root) == after
            continue
        if change is None:
            continue
        journal.recover(root, change)
        if change.begun == len(STEPS):
            undone += 1
            assert contents(root) == before
    assert told > 200
    assert undone > 0


def test_a_torn_line_may_be_followed_by_the_word_that_it_was_taken_back(root: Root, whole: bytes) -> None:
    lines = whole.splitlines(keepends=True)
    torn = b"".join(lines[:3]) + lines[3][:-5]
    host(root).write_bytes(torn)
    change = journal.unfinished(root)
    assert change is not None
    assert change.begun == 2, "what a torn line was to announce had not begun"
    journal.recover(root, change)
    assert host(root).read_bytes().startswith(torn + b"\n")
    (entry,) = journal.history(root)
    assert entry.state == "undone"
    for state in ("complete", "trial"):
        host(root).write_bytes(torn + b"\n" + changes.line({"state": state}))
        assert journal.history(root)[0].state == "damaged"


OPENING = {"what": "install", "started": "", "directories": [], "leave_nothing": False, "cleanup": []}
FORMER_JSON = {"data": "AAAA", "mode": "0o644", "uid": 0, "gid": 0}


@pytest.mark.parametrize(
    "step",
    [
        *(
            {"do": "replace-file", "path": path, "purpose": "", "before": FORMER_JSON, "after": None}
            for path in (
                *(
                    "/etc/passwd",
                    "/etc/shadow",
                    "/var/ld",
                    "/var/ld/../../etc/passwd",
                    "/var/ld/64/x/y",
                    "/etc//memproxy.conf",
                ),
                *("/var/opt/memproxy/changes/000001.jsonl", "/lib/svc/manifest/system/other.xml", "/var/run/x"),
                *("/var/run/memproxy/a/b/c", "etc/memproxy.conf", "/etc/memproxy.conf\0", "/usr/bin/true", 5, None),
                "/usr/local/lib/memproxy/0123456789abcdef/libmemproxy.so",
            )
        ),
        {"do": "remove-generation", "path": "/usr/lib"},
        {"do": "place-generation", "path": "/", "digests": {}},
        {"do": "place-generation", "path": "/usr/local/lib/memproxy/0123456789abcdef/x", "digests": {}},
        {"do": "mend-member", "path": "/etc/passwd"},
        {"do": "make-directory", "path": "/..", "mode": "0o755"},
        {"do": "try-file", "path": LIST, "purpose": "", "before": None, "after": FORMER_JSON},
        {"do": "change-service", "path": LIST, "before": {}, "after": {}, "by_import": True},
        {"do": "run", "path": LIST},
        {"path": LIST},
        [],
    ],
    ids=str,
)
def test_a_hostile_step_is_told_and_never_taken_back(root: Root, step: object) -> None:
    for name in ("etc/passwd", "usr/lib/x", "usr/bin/true"):
        path = Path(root.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"theirs")
    before = contents(root)
    host(root).write_bytes(changes.line({**OPENING, "steps": [step]}) + changes.line({"begin": 0}))
    with pytest.raises(HostError, match="is damaged"):
        journal.unfinished(root)
    assert contents(root) == before


@pytest.mark.parametrize("begin", [-1, 4, "0", None, True, 1.5, [0]])
def test_a_step_that_there_is_not_is_damage(root: Root, whole: bytes, begin: object) -> None:
    host(root).write_bytes(whole.splitlines(keepends=True)[0] + changes.line({"begin": begin}))
    with pytest.raises(HostError, match="is damaged"):
        journal.unfinished(root)


def test_steps_that_are_told_twice_or_backwards_are_damage(root: Root, whole: bytes) -> None:
    first = whole.splitlines(keepends=True)[0]
    for begins in ([0, 0], [2, 1]):
        host(root).write_bytes(first + b"".join(changes.line({"begin": number}) for number in begins))
        with pytest.raises(HostError, match="is damaged"):
            journal.unfinished(root)


def test_unknown_words_are_damage(root: Root, whole: bytes) -> None:
    for value in ({"state": "maybe"}, {"stat": "complete"}, {}):
        host(root).write_bytes(whole + changes.line(value))
        with pytest.raises(HostError, match="is damaged"):
            journal.unfinished(root)


def test_a_huge_journal_is_not_read(root: Root, whole: bytes) -> None:
    with host(root).open("r+b") as stream:
        stream.truncate(changes.MAX_JOURNAL + 1)
    with pytest.raises(HostError, match="more than the"):
        journal.unfinished(root)
    (entry,) = journal.history(root)
    assert "more than the" in entry.problem  # type: ignore[union-attr]


def test_deeply_nested_json_is_damage(root: Root) -> None:
    import zlib

    text = b"[" * 100_000
    host(root).write_bytes(b"%08x %s\nx\n" % (zlib.crc32(text), text))
    assert journal.history(root)[0].state == "damaged"


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_something_else_in_a_journals_place_is_damage(root: Root, whole: bytes, kind: str) -> None:
    path = host(root)
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)
    assert journal.history(root)[0].state == "damaged"


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("bytes_written", [0, 1, 10])
def test_a_disk_that_is_full_in_the_middle_of_a_line(
    root: Root, monkeypatch: pytest.MonkeyPatch, at: int, bytes_written: int
) -> None:
    """At the opening line, each step's, and the last: everything is taken back, and no half line is left."""
    before = contents(root)
    real, count = changes.append, 0

    def append(path: str, value: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if count != at:
            return real(path, value)
        with monkeypatch.context() as patch:
            written = os.write

            def write(descriptor: int, data: bytes) -> int:
                if bytes_written and not told:
                    told.append(written(descriptor, data[:bytes_written]))
                    return told[0]
                raise OSError(28, "No space left on device")

            told: list[int] = []
            patch.setattr(os, "write", write)
            return real(path, value)

    monkeypatch.setattr(changes, "append", append)
    with pytest.raises(ChangeError, match="No space left on device; the install was taken back and nothing is changed"):
        journal.apply(root, "install", "now", STEPS)
    assert contents(root) == before
    assert journal.unfinished(root) is None
    assert [entry.state for entry in journal.history(root)] == ([] if at == 1 else ["undone"])
    left = list(host(root).parent.iterdir())
    assert len(left) == (0 if at == 1 else 1)
    assert all(changes._value(line) is not None for path in left for line in path.read_bytes().splitlines())


def test_a_disk_that_stays_full_leaves_the_undo_to_the_next_command(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(root)
    real = changes.append

    def append(path: str, value: dict[str, Any]) -> None:
        if value == {"begin": 2} or value.get("state") == "undone":
            raise OSError(28, "No space left on device")
        real(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(changes, "append", append)
        with pytest.raises(ChangeError, match="could not be taken back now; the next install, uninstall or rollback"):
            journal.apply(root, "install", "now", STEPS)
    change = journal.unfinished(root)
    assert change is not None
    journal.recover(root, change)
    assert contents(root) == before
    assert isinstance(journal.history(root)[0], Change)


def test_an_undo_never_puts_a_configuration_back_that_names_a_generation_which_is_gone(root: Root) -> None:
    """As after bit rot in the last line of an uninstall that was complete, and deleted its libraries."""
    generation = "/usr/local/lib/memproxy/0123456789abcdef"
    place = Path(root.host_path("/")) / generation[1:]
    place.mkdir(parents=True)
    old = FileState(b"x\0" + generation.encode() + b"/libmemproxy.so\0", 0o644, 0, 0)
    files.put(root, CONFIG, old)
    journal.apply(root, "uninstall", "now", [ReplaceFile(CONFIG, old, None, "c"), RemoveGeneration(generation)])
    assert not place.exists()
    data = host(root).read_bytes()
    host(root).write_bytes(data[:-5] + b"\xff\xff\xff\xff\n")
    change = journal.unfinished(root)
    assert change is not None
    assert change.begun == 2
    journal.recover(root, change)
    assert not os.path.exists(root.host_path(CONFIG))

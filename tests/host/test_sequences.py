"""A fixed sample of the random sequences, the shortest of those that showed a mistake once, and that they show one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hunt import sequences
from hunt.administrator import CONFIG, effect
from hunt.ground import Ground
from hunt.sequences import Operation, Player, draw
from memproxy_sol import entry

SEED = 20261121
COUNTS = {"plain": 28, "image": 28, "service": 4}

INSTALL = ("install", None, "liballoc.so", None, None)
FOUND: dict[str, tuple[str, tuple[Operation, ...]]] = {
    "a file of theirs in our state directory": ("image", (INSTALL, ("file", "/var/opt/memproxy", "note1"))),
    "LD_PRELOAD added while ours is in force": (
        "plain",
        (INSTALL, ("crle", 64, "E", "LD_PRELOAD=/lib/64/libplain.so")),
    ),
    "a trial killed, its file edited": ("plain", (("install", None, None, 600, None), ("crle", 32, "l", "/opt/b/lib"))),
    "exclude killed before its rename": ("plain", (("exclude", "add", "prog1", ["kill before", 10, False]),)),
    "LD_PRELOAD added while a trial is pending": (
        "plain",
        (("install", None, None, 600, None), ("crle", 32, "E", "LD_PRELOAD=/lib/libplain.so")),
    ),
    "a file of theirs in a generation that is tried": (
        "plain",
        (("install", None, None, 600, None), ("file", "generation", "note1")),
    ),
    "rolled back to a file that they had edited": (
        "plain",
        (INSTALL, ("crle", 32, "l", "/opt/a/lib"), INSTALL, ("rollback", None, None)),
    ),
    "rolled back to a generation that is gone, with theirs displaced by ours": (
        "plain",
        (
            ("install", None, None, None, None),
            ("crle", 32, "E", "LD_PRELOAD=/lib/libplain.so"),
            INSTALL,
            ("uninstall", "64", True, None),
            ("rollback", 2, None),
        ),
    ),
    "garbage in the place of a file with theirs": (
        "image",
        (("crle", 64, "e", "LD_PRELOAD=/lib/64/libplain.so"), INSTALL, ("garbage", 64, 1)),
    ),
}


@pytest.fixture(scope="module")
def player(objects: Path) -> Iterator[Player]:
    """Plays in a laboratory in memory, if there is some: on a disk each fsync takes its time."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as place, pytest.MonkeyPatch.context() as patch:
        ground = Ground(Path(place, "solaris"), objects, patch)
        ground.keep("new")
        yield Player(ground)
        ground.end_guards()


@pytest.mark.parametrize("kind", COUNTS)
def test_random_sequences_lose_nothing_and_brick_nothing(player: Player, kind: str) -> None:
    for number in range(COUNTS[kind]):
        played = player.play(kind, draw(SEED, number, kind))
        assert played.violation is None, (number, played.operations, played.violation)
        assert played.done["uninstall 0"] >= 2


@pytest.mark.parametrize("case", sorted(FOUND))
def test_what_went_wrong_once(player: Player, case: str) -> None:
    assert player.play(*FOUND[case]).violation is None


def test_a_sequence_is_the_same_each_time() -> None:
    assert draw(1, 7, "plain") == draw(1, 7, "plain") != draw(2, 7, "plain")


MISTAKES = {
    "others' objects are taken out with ours": ("LOST of /var/ld/ld.config", "is_ours", lambda item: item != ""),
    "ours is not taken out": ("NOT UNINSTALLED", "is_ours", lambda item: False),
}


@pytest.mark.parametrize("case", sorted(MISTAKES))
def test_a_mistake_is_found_and_its_sequence_shortened(
    player: Player, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sort, name, mistake = MISTAKES[case]
    monkeypatch.setattr(entry, name, mistake)
    wordy: tuple[Operation, ...] = (
        ("line", "prog1"),
        ("crle", 32, "E", "LD_PRELOAD_32=/lib/libplain.so"),
        ("boot",),
        INSTALL,
        ("crle", 32, "l", "/opt/a/lib"),
        ("uninstall", None, False, None),
    )
    played = player.play("image", wordy)
    assert played.violation is not None
    assert played.violation.sort.startswith(sort), played.violation
    short = player.shrink(played)
    assert INSTALL in short.operations
    assert len(short.operations) < len(wordy)
    assert ("boot",) not in short.operations


def test_ours_is_told_from_theirs_by_the_linker_of_the_laboratory() -> None:
    assert effect(None, 32).theirs == effect(b"garbage", 32).theirs
    assert set(CONFIG) == {32, 64}
    assert set(sequences.KINDS) == set(COUNTS)

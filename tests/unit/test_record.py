"""The record of what is installed: exact both ways, and damage is told, never a traceback."""

from __future__ import annotations

import random

import pytest

from memproxy_sol import record
from memproxy_sol.errors import HostError
from memproxy_sol.record import AbiRecord, Record
from memproxy_sol.root import FileState

GENERATION = "/usr/local/lib/memproxy/0123456789abcdef"
FORMER = FileState(b"\0\xff", 0o644, 0, 3)
FULL = Record(
    release="illumos",
    machine="x86",
    abis={
        32: AbiRecord(GENERATION, ("libmemproxy.so",), False, True, ("/opt",), "ab", None),
        64: AbiRecord(
            GENERATION, ("a", "b"), True, False, (), "cd", FileState(b"\0\xff", 0o644, 0, 3), ("libumem.so.1",)
        ),
    },
    generations={GENERATION: {"64/b": "1", "a": "2"}},
    files={"/etc/memproxy.conf": "x", "/odd/\udcff": "y"},
    directories=("/usr", "/usr/local"),
)


def test_round_trip() -> None:
    assert record.decode(record.encode(FULL)) == FULL
    empty = Record(release="10", machine="sparc")
    assert record.decode(record.encode(empty)) == empty


def test_equal_records_are_equal_bytes() -> None:
    again = Record(**{**FULL.__dict__, "abis": dict(reversed(FULL.abis.items()))})
    assert record.encode(again) == record.encode(FULL)


def test_damage_is_told() -> None:
    good = record.encode(FULL)
    chance = random.Random(7)
    seen = 0
    for _ in range(400):
        data = bytearray(good)
        for _ in range(chance.choice([1, 1, 3])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            same = record.decode(bytes(data)) == FULL
        except HostError:
            seen += 1
        else:
            assert same, "what is accepted is what was written"
    assert seen > 300
    for cut in range(0, len(good) - 1, 7):
        with pytest.raises(HostError):
            record.decode(good[:cut])


@pytest.mark.parametrize("data", [b"[]", b"1", b'{"sha256": "x"}', b"[" * 100000, b'{"sha256":"","format":1}'])
def test_foreign_json_is_told(data: bytes) -> None:
    with pytest.raises(HostError, match="is damaged"):
        record.decode(data)


def test_a_newer_format_is_told() -> None:
    with pytest.raises(HostError, match="format 2, this program knows 1"):
        record.decode(b'{"sha256": "", "format": 2}')


@pytest.mark.parametrize("place", ["/usr", "/lib/memproxy/..", "/usr/local/lib/memproxy/0123456789abcdef/x", ""])
def test_nothing_but_a_generation_is_taken_for_one(place: str) -> None:
    with pytest.raises(HostError, match=r"is no place for a generation|is not a"):
        record.decode(record.encode(Record(machine="x86", generations={place: {}})))


def test_times_of_the_former_file_are_kept_and_need_not_be_there() -> None:
    state = FileState(b"x", 0o644, 0, 3, 1_600_000_000_123_456_789, -5)
    value = record.file_to_json(state)
    assert value is not None
    read = record.file_from_json(value)
    assert read is not None
    assert (read.mtime_ns, read.atime_ns) == (1_600_000_000_123_456_789, -5)
    assert read == FileState(b"x", 0o644, 0, 3), "times decide nothing"
    old = record.file_from_json({name: value[name] for name in ("data", "mode", "uid", "gid")})
    assert old is not None
    assert (old.mtime_ns, old.atime_ns) == (None, None)


@pytest.mark.parametrize("time", ["1", 1.5, True, 2**63, -(2**63), [1]])
def test_an_impossible_time_is_told(time: object) -> None:
    with pytest.raises(ValueError, match="an impossible time"):
        record.file_from_json({"data": "", "mode": "0o644", "uid": 0, "gid": 0, "mtime_ns": time})

"""The difference of a configuration that a plan prints: readable, whatever somebody else has in the file."""

from __future__ import annotations

import pytest

from memproxy_sol.plan import ConfigChange
from memproxy_sol.report import LONG, MANY, difference


def lines(before: bytes | None, after: bytes | None) -> list[str]:
    return difference(ConfigChange("/etc/ld.so.preload", (32, 64), before, after))


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (None, b"x\n", ["- (no file: the runtime linker's defaults)", "+ x"]),
        (b"", b"x\n", ["- (empty)", "+ x"]),
        (b"\n", b"\nx\n", ["  ", "+ x"]),
        (b"a\nb\n", b"a\nx\nb\n", ["  a", "+ x", "  b"]),
        (b"a\va\n", b"a\va\nx\n", ["  a\va", "+ x"]),
        (b"a", b"a\nx\n", ["  a", "+ x"]),
        (b"\n" * 500_000, b"\n" * 500_000 + b"x\n", ["  "] * 100 + ["  (499800 lines more)"] + ["  "] * 100 + ["+ x"]),
        (b"x\n" * 10 + b"y\n" + b"z\n" * 300, b"x\n" * 10 + b"z\n" * 300, None),
    ],
    ids=["absent", "empty", "a newline", "between", "no newline of the linker's", "no newline", "huge", "gone"],
)
def test_what_is_shown(before: bytes | None, after: bytes, shown: list[str] | None) -> None:
    found = lines(before, after)
    if shown is not None:
        assert found == shown
    else:
        assert [line for line in found if line[0] != " "] == ["- y"]
        assert "  (100 lines more)" in found


def test_many_lines_that_change_are_not_compared_one_by_one() -> None:
    before = b"".join(b"%d\n" % number for number in range(100_000))
    found = lines(before, before[::-1])
    assert [found.count(f"{sign} 99990") for sign in "-+"] == [1, 0]
    assert len(found) > 2 * MANY


def test_a_line_without_an_end_is_cut() -> None:
    (gone, come) = lines(b"x" * 100_000, b"y")
    assert gone == f"- {'x' * LONG}... (100000 characters)"
    assert come == "+ y"

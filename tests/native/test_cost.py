"""What a pair of malloc and free costs, in instructions: a count, which no load of the machine changes.

`make bench` counts more, for every allocator and both routes; here stands what a change of the hot path must not break.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import pytest
from proxied import Installed, allocators, clean_environment

from bench import callgrind, counts
from bench.programs import SOURCES
from tests import needs

FEW, MORE = 2048, 6144


@pytest.mark.parametrize(
    ("bits", "allocator"), [(64, "jemalloc"), (64, "mimalloc"), (32, "jemalloc"), (32, "mimalloc")]
)
def test_a_pair_of_malloc_and_free_keeps_the_budget_of_instructions(
    compile: Callable[..., Path], library: Callable[[int], Installed], bits: int, allocator: str
) -> None:
    if not callgrind.available():
        needs.missing("valgrind", "valgrind")
    program = compile(SOURCES / "pairs.cc", bits, f"-I{SOURCES}")
    alone = [allocators(bits)[allocator]]
    behind_us = [library(bits).path, *alone]

    added = (_instructions(program, behind_us) - _instructions(program, alone)) / (MORE - FEW)

    assert 0 < added <= counts.BUDGET[bits]


def _instructions(program: Path, preload: Sequence[Path]) -> int:
    """Those of a number of pairs, without start and warming up."""
    environment = {**clean_environment(), "LD_PRELOAD": ":".join(map(str, preload))}
    few, more = (callgrind.count([program, rounds], environment).total for rounds in (FEW, MORE))
    return more - few

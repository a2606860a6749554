"""Two ways measured by turns (A B B A ...), so that what slows the machine down meets both; medians of ratios."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from memproxy_sol.errors import MemproxyError


@dataclass(frozen=True)
class Sample:
    """One run, in seconds: by the clock, and of processor time (user and system)."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Spread:
    """A median with the quartiles around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Comparison:
    """The second way against the first."""

    pairs: tuple[tuple[Sample, Sample], ...]

    @property
    def wall(self) -> Spread:
        """Ratios of wall time."""
        return spread([second.wall / first.wall for first, second in self.pairs])

    @property
    def processor(self) -> Spread:
        """Ratios of processor time."""
        return spread([second.processor / first.processor for first, second in self.pairs])

    @property
    def first(self) -> float:
        """The first way's median wall time."""
        return statistics.median(first.wall for first, _ in self.pairs)


def spread(values: Sequence[float]) -> Spread:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def compare(first: Callable[[], Sample], second: Callable[[], Sample], pairs: int) -> Comparison:
    """Run both once to warm up, then `pairs` times each."""
    first()
    second()
    taken = []
    for pair in range(pairs):
        if pair % 2 == 0:
            one, two = first(), second()
        else:
            two, one = second(), first()
        taken.append((one, two))
    return Comparison(tuple(taken))


def time_command(command: list[str], environment: Mapping[str, str]) -> Sample:
    """Run a command that must succeed, without any input or output."""
    silence = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, flags, 0) for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY))
    ]
    silence.append((os.POSIX_SPAWN_DUP2, 1, 2))  # type: ignore[arg-type]
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, environment, file_actions=silence)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise MemproxyError(f"ended with {os.waitstatus_to_exitcode(status)}", where=" ".join(command))
    return Sample(wall, usage.ru_utime + usage.ru_stime)

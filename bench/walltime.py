"""Wall and processor time of loops and real programs: each route against what they would have without libmemproxy."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench import paired, programs
from bench.configurations import Configuration, Installation, Setting
from bench.paired import Comparison, Sample
from bench.programs import Program
from bench.redis import RedisServer
from bench.report import Section, Verdict
from memproxy_sol.errors import MemproxyError

BUDGET = 1.03
"""Of real programs, against the allocator alone."""

COLUMNS = (
    "program",
    "bits",
    "allocator",
    "compared",
    "seconds before",
    "wall ratio (quartiles)",
    "processor ratio (quartiles)",
)


def loops_section(installation: Installation, pairs: int) -> Section:
    """Nothing but malloc and free: the worst case, which no real program is."""
    rows = []
    for setting in installation.settings():
        for source, argument in (("pairs.cc", 4_000_000), ("threads.c", 15_000)):
            path = programs.compile_program(source, setting.bits, installation.scratch)
            program = Program(Path(source).stem, [str(path), str(argument)])
            for first, second in setting.pairs:
                rows.append(_row(setting, program, first, second, _compare(program, first, second, pairs)))
    text = f"""
{pairs} pairs of runs each, by turns. These programs do nothing but allocate and free, so this is the upper limit of
what a program can lose; the budget is for real ones.
"""
    return Section("Time of loops", text, COLUMNS, rows)


def programs_section(installation: Installation, real: list[Program], pairs: int) -> Section:
    """Real programs of the distribution, and redis-benchmark."""
    rows, verdicts = [], []
    bits = max(installation.built)
    settings = [setting for setting in installation.settings() if setting.bits == bits]
    for program in [*real, None]:
        name = program.name if program is not None else "redis-benchmark"
        ratios = []
        for setting in settings:
            for first, second in setting.pairs:
                if program is not None:
                    prove_route(program, setting, second)
                    comparison = _compare(program, first, second, pairs)
                else:
                    comparison = _compare_servers(installation.scratch, setting, first, second, pairs)
                if second.route == "custom":
                    ratios.append(comparison.wall.median)
                rows.append(_row(setting, program or Program(name, []), first, second, comparison))
        worst = max(ratios)
        what = f"wall time against the allocator alone, the worst allocator: {name}"
        verdicts.append(Verdict(what, f"at most {BUDGET}", f"{worst:.3f}", worst <= BUDGET, exact=False))
    text = f"""
{pairs} pairs of runs each, by turns; for redis-benchmark a fresh server each time, on a socket, saving nothing; its
wall time is the client's, its processor time the server's. The budget is for the custom route. On the system route
each process also loads the allocator that it then does not use (with the C++ run-time library that jemalloc and
tcmalloc need), which short processes feel. Debian's redis-server is linked with jemalloc, so that is its *plain*
allocator, and on the system route too, unless jemalloc is the custom allocator: then its system's is glibc's.
"""
    return Section("Time of real programs", text, COLUMNS, rows, verdicts)


def prove_route(program: Program, setting: Setting, configuration: Configuration) -> None:
    """Run a program once and see that its memory really took the route; MemproxyError if not."""
    environment = configuration.environment({**program.environment, "MEMPROXY_DEBUG": "1"})
    done = subprocess.run(
        program.command, env=environment, capture_output=True, text=True, errors="replace", check=True
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("memproxy: ")]
    check_route(told, setting, configuration, program.name)


def check_route(told: list[str], setting: Setting, configuration: Configuration, name: str) -> None:
    """Whether what libmemproxy told, a line a process, is what `configuration` asks for."""
    served = str(setting.allocator) if configuration.route == "custom" else ""
    if not told or not all(f": route {configuration.route}, served by {served}" in line for line in told):
        raise MemproxyError(f"did not take the route {configuration.route}: {told}", where=name)


def _compare(program: Program, first: Configuration, second: Configuration, pairs: int) -> Comparison:
    def way(configuration: Configuration) -> Sample:
        return paired.time_command(program.command, configuration.environment(program.environment))

    return paired.compare(lambda: way(first), lambda: way(second), pairs)


def _compare_servers(
    scratch: Path, setting: Setting, first: Configuration, second: Configuration, pairs: int
) -> Comparison:
    def way(configuration: Configuration, requests: int) -> Sample:
        with RedisServer(scratch, configuration) as server:
            if configuration.route:
                check_route(server.told(), setting, configuration, "redis-server")
            wall = server.benchmark(requests)
        return Sample(wall, server.processor)

    return paired.compare(lambda: way(first, 60_000), lambda: way(second, 60_000), pairs)


def _row(
    setting: Setting, program: Program, first: Configuration, second: Configuration, comparison: Comparison
) -> list[str]:
    names = [program.name, str(setting.bits), setting.family, f"{second.name} against {first.name}"]
    return [*names, f"{comparison.first:.3f}", str(comparison.wall), str(comparison.processor)]

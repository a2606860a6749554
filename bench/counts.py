"""Instructions, counted by callgrind: what one malloc and free pair, and what whole programs, execute more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import callgrind
from bench.callgrind import Profile
from bench.configurations import LIBRARY, Configuration, Installation
from bench.programs import Program, compile_program
from bench.report import Section, Verdict

BUDGET = {64: 8, 32: 20}
"""Instructions added to one malloc and free pair, by bits."""

FEW, MORE = 20 * 1024, 60 * 1024
"""Rounds of the loop: the difference of two runs holds no start, no end and no warming up."""


@dataclass(frozen=True)
class Added:
    """What one pair of calls executes more than without libmemproxy; averages over many pairs."""

    before: float
    total: float
    own: float
    """Of the total: in libmemproxy itself."""
    elsewhere: float
    """Of the total: neither in libmemproxy nor in the program, but in the allocator or the C++ library."""

    @property
    def by_us(self) -> float:
        """The total but for what is executed elsewhere."""
        return self.total - self.elsewhere


def per_pair(program: Path, first: Configuration, second: Configuration) -> Added:
    """Count a program of `programs/pairs.cc` in two configurations."""
    loops = loop_profiles(program, (first, second), FEW, MORE)
    added = loops[1].minus(loops[0])
    pairs = MORE - FEW
    total = added.total / pairs
    own = added.objects[LIBRARY] / pairs
    return Added(loops[0].total / pairs, total, own, total - own - added.objects[program.name] / pairs)


def loop_profiles(program: Path, ways: Sequence[Configuration], few: int, more: int) -> list[Profile]:
    """What the `more` - `few` rounds beyond `few` take in each of the configurations."""
    counted = callgrind.count_all(([program, rounds], way.environment()) for way in ways for rounds in (few, more))
    return [high.minus(low) for low, high in zip(counted[::2], counted[1::2])]


def pairs_section(installation: Installation) -> Section:
    """malloc and free, and operator new and delete: every allocator, ABI and route."""
    rows, verdicts = [], []
    worst: dict[int, float] = {}
    for setting in installation.settings():
        for title, flags in (("malloc+free", ()), ("new+delete", ("-DWITH_NEW",))):
            program = compile_program("pairs.cc", setting.bits, installation.scratch, *flags)
            for first, second in setting.pairs:
                added = per_pair(program, first, second)
                if not flags:
                    # On the system route the C library's heap has another history, so that it searches elsewhere.
                    counted = added.total if second.route == "custom" else added.by_us
                    worst[setting.bits] = max(worst.get(setting.bits, 0), counted)
                numbers = (added.before, added.total, added.own, added.elsewhere)
                names = f"{setting.bits}", setting.family, title, f"{second.name} against {first.name}"
                rows.append([*names, *(f"{number:.2f}" for number in numbers)])
    for bits, most in worst.items():
        what = f"instructions added to a malloc+free pair, {bits} bit, the worst allocator and route"
        verdicts.append(Verdict(what, f"at most {BUDGET[bits]}", f"{most:.2f}", most < BUDGET[bits] + 0.005))
    text = f"""
Callgrind; a loop with 256 blocks alive and the sizes of daily life (98 % under 100 bytes); the difference of {MORE:,}
and {FEW:,} rounds, so that start and warming up cancel. *Added* is the whole difference of the two configurations,
*ours* what libmemproxy.so itself executes, *elsewhere* the change in the allocator and the C++ library. On the custom
route malloc and free of the allocator do exactly what they did, and the budget is judged by *added*. On the system
route it is judged without *elsewhere*: the process has one block more in its history, so glibc walks other bins,
which is not what the calls cost.

New and delete have no budget. They go to the allocator's malloc and free: elsewhere, *alone* has the allocator's own
operators (mimalloc's are slower than its malloc, tcmalloc's delete that is told the size is faster than its free),
and *plain* has those of libstdc++, which call malloc and free themselves and are now skipped.
"""
    columns = ("bits", "allocator", "calls", "compared", "a pair before", "added", "ours", "elsewhere")
    return Section("Instructions of a pair of calls", text, columns, rows, verdicts)


def anatomy_section(installation: Installation) -> Section:
    """Which of our functions the instructions are in."""
    rows = []
    for bits, families in installation.allocators.items():
        setting = installation.setting(bits, next(iter(families)))
        for flags in ((), ("-DWITH_NEW",)):
            program = compile_program("pairs.cc", bits, installation.scratch, *flags)
            (loop,) = loop_profiles(program, [setting.routed("custom")], FEW, MORE)
            for (name, function), cost in sorted(loop.functions.items()):
                if name == LIBRARY and cost > 0:
                    # Callgrind has no name for a function that is not in the symbol table.
                    shown = "(loads the GOT's address)" if function.startswith("0x") else function
                    rows.append([str(bits), shown, f"{cost / (MORE - FEW):.2f}"])
    text = """
What a pair executes in libmemproxy.so, by function. On 64 bit free is one indirect jump through the table, and malloc
keeps the size, calls, tests for null, restores and returns. 32-bit code has no addressing by the program counter:
each function first calls one that loads it (2 instructions a call, and the call itself and an addition), and passes
its arguments once more on the stack.
"""
    return Section("Where they go", text, ("bits", "function", "instructions a pair"), rows)


def threads_section(installation: Installation) -> Section:
    """Blocks that one thread allocates and another frees."""
    rows = []
    few, more = 200, 800
    blocks = 2 * 64 * (more - few)
    for setting in installation.settings():
        program = compile_program("threads.c", setting.bits, installation.scratch)
        for first, second in setting.pairs:
            loops = loop_profiles(program, (first, second), few, more)
            own = loops[1].objects[LIBRARY] / blocks
            names = f"{setting.bits}", setting.family, f"{second.name} against {first.name}"
            rows.append([*names, f"{loops[0].total / blocks:.1f}", f"{loops[1].total / blocks:.1f}", f"{own:.2f}"])
    text = """
Callgrind; two threads allocate, two others free. The totals depend on how the threads take turns (waiting on a full
or empty queue, the allocators' own locks); *ours* is exact.
"""
    columns = ("bits", "allocator", "compared", "a block before", "a block with us", "ours")
    return Section("Instructions of a block that another thread frees", text, columns, rows)


def programs_section(installation: Installation, programs: list[Program]) -> Section:
    """Whole programs, their starts and their child processes included; with one allocator."""
    bits = max(installation.built)
    setting = installation.setting(bits, next(iter(installation.allocators[bits])))
    rows = []
    for program in programs:
        ways = [way for pair in setting.pairs for way in pair]
        profiles = callgrind.count_all((program.command, way.environment(program.environment)) for way in ways)
        for (first, second), before, after in zip(setting.pairs, profiles[::2], profiles[1::2]):
            calls = sum(number for (name, _), number in _entered(after).items() if name == LIBRARY)
            own = after.objects[LIBRARY]
            cells = [program.name, f"{second.name} against {first.name}", f"{before.total / 1e6:,.1f}"]
            cells += [
                f"{after.total / before.total:.4f}",
                f"{calls:,}",
                f"{own / 1e6:,.2f}",
                f"{100 * own / after.total:.2f} %",
            ]
            rows.append(cells)
    text = f"""
Callgrind, every process of the command, from its start to its end; allocator: {setting.family}, {bits} bit. *Ours* is
what libmemproxy.so itself executes, the decision at each start included. The ratio also holds what the loader does
for one more object (its symbols come first in every look-up), and, on the system route, the loading of the allocator
that is then not used.
"""
    columns = ("program", "compared", "million before", "ratio", "calls of ours", "ours, million", "ours, share")
    return Section("Instructions of whole programs", text, columns, rows)


def _entered(profile: Profile) -> Counter[tuple[str, str]]:
    """Calls of what programs call: names, not the helpers that 32-bit code needs."""
    return Counter({key: number for key, number in profile.calls.items() if not key[1].startswith("0x")})

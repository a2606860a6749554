"""Instructions, counted by callgrind: what one malloc and free pair, and what whole programs, execute more."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench import callgrind
from bench.callgrind import Profile
from bench.configurations import LIBRARY, Configuration, Installation, Setting
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
    serving: float
    """Of the total: in the allocator that serves (its heap lies elsewhere, or begins with other blocks)."""

    @property
    def by_us(self) -> float:
        """The total but for the serving allocator's own share."""
        return self.total - self.serving


def per_pair(program: Path, first: Configuration, second: Configuration, serving: str) -> Added:
    """Count a program of `programs/pairs.cc` in two configurations; `serving` is the file name of the allocator."""
    loops = []
    for configuration in (first, second):
        few, more = (callgrind.count([program, rounds], configuration.environment()) for rounds in (FEW, MORE))
        loops.append(more.minus(few))
    added = loops[1].minus(loops[0])
    pairs = MORE - FEW
    own = added.objects[LIBRARY] / pairs
    return Added(loops[0].total / pairs, added.total / pairs, own, added.objects[serving] / pairs)


def serving_object(setting: Setting, configuration: Configuration) -> str:
    """The file name of the allocator that serves on the route of `configuration`."""
    return "libc.so.6" if configuration.route == "system" else setting.allocator.name


def pairs_section(installation: Installation) -> Section:
    """malloc and free, and operator new and delete: every allocator, ABI and route."""
    rows, verdicts = [], []
    worst: dict[int, float] = {}
    for setting in installation.settings():
        for title, flags in (("malloc+free", ()), ("new+delete", ("-DWITH_NEW",))):
            program = compile_program("pairs.cc", setting.bits, installation.scratch, *flags)
            for first, second in setting.pairs:
                added = per_pair(program, first, second, serving_object(setting, second))
                if not flags:
                    # On the system route the C library's heap has another history, so that it searches elsewhere.
                    counted = added.total if second.route == "custom" else added.by_us
                    worst[setting.bits] = max(worst.get(setting.bits, 0), counted)
                numbers = (added.before, added.total, added.own, added.serving)
                names = f"{setting.bits}", setting.family, title, f"{second.name} against {first.name}"
                rows.append([*names, *(f"{number:.2f}" for number in numbers)])
    for bits, most in worst.items():
        what = f"instructions added to a malloc+free pair, {bits} bit, the worst allocator and route"
        verdicts.append(Verdict(what, f"at most {BUDGET[bits]}", f"{most:.2f}", most < BUDGET[bits] + 0.005))
    text = f"""
Callgrind; a loop with 256 blocks alive and the sizes of daily life (98 % under 100 bytes); the difference of {MORE:,}
and {FEW:,} rounds, so that start and warming up cancel. *Added* is the whole difference of the two configurations,
*ours* what libmemproxy.so itself executes of it, *allocator's* the change in the serving allocator. The budget is
judged by *added* on the custom route. On the system route it is judged by *added* less *allocator's*: there is one
more block in the heap's history (and the allocator beside it has blocks of its own), so glibc walks other bins; that
is not what the calls cost.
"""
    columns = ("bits", "allocator", "calls", "compared", "a pair before", "added", "ours", "allocator's")
    return Section("Instructions of a pair of calls", text, columns, rows, verdicts)


def anatomy_section(installation: Installation) -> Section:
    """Which of our functions the instructions are in."""
    rows = []
    for bits, families in installation.allocators.items():
        setting = installation.setting(bits, next(iter(families)))
        for flags in ((), ("-DWITH_NEW",)):
            program = compile_program("pairs.cc", bits, installation.scratch, *flags)
            environment = setting.routed("custom").environment()
            few, more = (callgrind.count([program, rounds], environment) for rounds in (FEW, MORE))
            for (name, function), cost in sorted(more.minus(few).functions.items()):
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
            loops = []
            for configuration in (first, second):
                low, high = (callgrind.count([program, n], configuration.environment()) for n in (few, more))
                loops.append(high.minus(low))
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
        for first, second in setting.pairs:
            before, after = (
                callgrind.count(program.command, configuration.environment(program.environment))
                for configuration in (first, second)
            )
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

"""Live probe: one new process of each configured ABI, through the configuration as it is, with libmemproxy in it.

The service's method runs with LD_NOCONFIG, so that what it sees of itself proves nothing (reference "smf", section 17:
a verification has to ask a fresh child). Standard library only: this runs at boot.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from memproxy_sol import elf_header, record
from memproxy_sol.abi import ABIS, Abi
from memproxy_sol.errors import ElfError, HostError
from memproxy_sol.findings import ERROR, NOTE, Finding
from memproxy_sol.hosts.linux_loader import loaders_below
from memproxy_sol.probe import DEBUG, Probe, Prober
from memproxy_sol.probe_program import NAME
from memproxy_sol.root import Root

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C", **DEBUG}
"""Without LD_NOCONFIG: this is the process that goes through the configuration."""

SECONDS = 5.0
"""For one probe: both have to end within the limit of the method."""

_HARMLESS = (("true",), ("ls", "-d", "/"), ("pwd",), ("id",), ("echo",), ("sleep", "0"), ("isainfo",))
_DIRECTORIES = ("/usr/bin", "/usr/bin/amd64", "/usr/bin/sparcv9", "/usr/bin/i86", "/usr/bin/sparcv7")


def program_of(root: Root, bits: int) -> tuple[str, ...] | None:
    """A program of this ABI that changes nothing, with its arguments; None if there is none of those we know."""
    for directory in _DIRECTORIES:
        for name, *arguments in _HARMLESS:
            try:
                state = root.read(f"{directory}/{name}")
                if state is not None and elf_header.parse(state.data).bits == bits:
                    return (f"{directory}/{name}", *arguments)
            except (HostError, ElfError):
                continue
    return None


def problem(root: Root, bits: int, candidate: str | None, seconds: float, prober: Prober | None = None) -> str | None:
    """What is wrong with a new process of this ABI, None if nothing is.

    It is started with the configuration file `candidate` of the target, or, if that is None, with what is in force.
    """
    command = program_of(root, bits)
    if command is None:
        return f"there is no small program to try it on ({ABIS[bits].name})"
    given = {} if candidate is None else {ABIS[bits].suffixed("LD_CONFIG"): candidate}
    runs = Prober() if prober is None else prober
    wrong = runs.run(Probe(command[0], command, bits), {**ENVIRONMENT, **given}, seconds).wrong(None)
    return None if wrong is None else f"{command[0]} {wrong} ({ABIS[bits].name})"


def findings(root: Root, bits: Iterable[int], prober: Prober | None = None) -> tuple[Finding, ...]:
    """What new processes of these ABIs of the running system are like; empty if all is well.

    On Linux it is the generation's own program that is started; where only services get libmemproxy, or only root's
    processes and this is none, nothing is.
    """
    runs = Prober() if prober is None else prober
    try:
        known = record.read(root)
    except HostError:
        known = None
    abis = known.abis if known is not None else {}
    unreached = {"services"} if os.geteuid() == 0 else {"services", "root"}
    wanted = [one for one in bits if one not in abis or abis[one].scope not in unreached]
    own = own_programs(root, next((one.generation for one in abis.values()), ""))
    return tuple(found for one in wanted if (found := _finding(root, ABIS[one], runs, own.get(one))) is not None)


def own_programs(root: Root, generation: str) -> dict[int, tuple[str, ...]]:
    """By bits, how to start the program that a generation brings along for Linux; none on Solaris."""
    commands = {loader.bits: (loader.path, f"{generation}/{loader.lib}/{NAME}") for loader in loaders_below(root)}
    return {bits: command for bits, command in commands.items() if root.exists(command[1])}


def _finding(root: Root, abi: Abi, prober: Prober, own: tuple[str, ...] | None) -> Finding | None:
    command = own or program_of(root, abi.bits)
    if command is None:
        text = "there is no small program of this ABI to be tried, so that only the files were judged"
        return Finding("probe-missing", NOTE, abi.name, text)
    outcome = prober.run(Probe(command[0], command, abi.bits), ENVIRONMENT, SECONDS)
    wrong = outcome.wrong(None)
    if wrong is None:
        return None
    if outcome.started is None:
        text, hint = f"a new process does without memproxy: {wrong}", f"memproxy-sol install --bits {abi.bits}"
    else:
        text, hint = f"a new process does not run: {wrong}", "memproxy-sol uninstall"
    return Finding("probe-failed", ERROR, command[0], f"{text} ({abi.name})", hint)

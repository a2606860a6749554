"""Preflight: everything that forbids a change before anything is changed (design, rule 7)."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from memproxy_sol import access, elf, entry, live_probe, pending, preflight_linux, preloads
from memproxy_sol.abi import EM_SPARC32PLUS, LD_SO_PRELOAD, Abi
from memproxy_sol.access import Groups
from memproxy_sol.allocator import aligns, is_allocator
from memproxy_sol.elf import Library
from memproxy_sol.errors import ElfError, HostError
from memproxy_sol.exclusions import LIST_PATH
from memproxy_sol.findings import ERROR, WARNING, Finding
from memproxy_sol.generation import LIBRARY
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.hosts.solaris_live import obstacles
from memproxy_sol.ld_config import LdConfig
from memproxy_sol.policy import Policy
from memproxy_sol.root import MAX_READ

SYSTEM_LIBRARIES = frozenset(
    {"libc.so.1", "libm.so.1", "libm.so.2", "libdl.so.1", "libpthread.so.1", "libthread.so.1", "librt.so.1"}
)
"""What an allocator may need beyond its own file: libc, and what has been beside it in /lib since Solaris 10."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]*\.so[A-Za-z0-9_.+-]*")
"""File names that are safe in a list of preloads: no colon, blank or dollar sign, and never `64` or a hidden name."""

REQUIRED_EXPORTS = ("malloc", "calloc", "realloc", "free", "memalign", "_ZdlPv", "memproxy_route")
"""Names without which a library is not libmemproxy; the whole table is checked where it is built."""


@dataclass(frozen=True)
class Interposer:
    """A preload object of somebody else that defines malloc."""

    item: str
    """As the configuration spells it."""
    host_path: str
    """Where it lies on this machine, links resolved."""


def check_host(facts: SolarisFacts, policy: Policy, abis: tuple[Abi, ...]) -> tuple[Finding, ...]:
    """What forbids changing this host at all: its configuration files, its directories, its mounts."""
    groups = Groups(facts.root)
    found: list[Finding] = []
    if policy.scope != "all":
        text = f"{policy.scope!r} is for Linux: on Solaris every process reads the configuration"
        found.append(Finding("scope-impossible", ERROR, "policy scope", text, "leave it out, and exclude programs"))
    for abi in abis:
        found += _check_config(facts, abi, groups)
    generations = f"{policy.prefix}/lib/memproxy"
    found += _existing(facts, generations, "path", groups)
    for path in (LIST_PATH, facts.manifest_path):
        found += _existing(facts, os.path.dirname(path), "path", groups)
    if facts.exclusion_list is not None:
        found += access.judge(facts.root, LIST_PATH, "exclusions", groups)
    found += _check_mounts(facts, generations)
    if facts.live is not None:
        found += obstacles(facts.root, facts.live, generations, facts.written_directories)
    return _unique(found)


def check_first_boot(facts: SolarisFacts, policy: Policy, abis: tuple[Abi, ...]) -> tuple[Finding, ...]:
    """What keeps the first boot of an image from trying a change: then it would never go live."""
    found = []
    hint = "leave --first-boot-trial out"
    if not policy.service:
        text = "is false, and it is the service that would try the change at the first boot"
        found.append(Finding("first-boot-impossible", ERROR, "policy service", text, hint))
    elif facts.profile_path is None:
        text = "this release has no directory for profiles of ours, so nothing enables the service at the first boot"
        found.append(Finding("first-boot-impossible", ERROR, facts.root.path, text, hint))
    elif not facts.root.exists(policy.program_path):
        text = "the program of the service, which would try the change at the first boot, is not in the image"
        found.append(Finding("first-boot-impossible", ERROR, policy.program_path, text, "install memproxy-sol there"))
    for abi in abis:
        if live_probe.program_of(facts.root, abi.bits) is None:
            text = "could not be tried at the first boot: none of the small programs is in the image"
            without = f"{hint}, or the ABI: --bits {96 - abi.bits}"
            found.append(Finding("first-boot-impossible", ERROR, f"{abi.name} programs", text, without))
    return tuple(found)


def check_libraries(
    facts: Facts, abis: tuple[Abi, ...], proxies: Mapping[int, Library], allocators: Mapping[int, Library]
) -> tuple[Finding, ...]:
    """What forbids preloading these objects: class, machine, dependencies, exports."""
    found: list[Finding] = []
    for abi in abis:
        proxy = proxies[abi.bits]
        found += _check_object(facts, abi, proxy, "library")
        missing = [name for name in REQUIRED_EXPORTS if name not in proxy.exports]
        if missing:
            text = f"does not export {', '.join(missing)}, so it is not a complete libmemproxy"
            found.append(Finding("library-exports", ERROR, proxy.path, text, "build it again"))
        allocator = allocators.get(abi.bits)
        if allocator is None:
            continue
        found += _check_object(facts, abi, allocator, "allocator")
        if not _PLAIN_NAME.fullmatch(os.path.basename(allocator.path)):
            text = "has a name that the runtime linker would split or expand"
            hint = "give it a name of letters, digits and . _ + -"
            found.append(Finding("allocator-name", ERROR, allocator.path, text, hint))
        if "memproxy_route" in allocator.exports or os.path.basename(allocator.path) == LIBRARY:
            text = "is libmemproxy itself, not an allocator"
            found.append(Finding("allocator-is-proxy", ERROR, allocator.path, text, "name the allocator's own library"))
        elif not is_allocator(allocator.exports):
            text = "does not export malloc, realloc and free under any name that is known"
            found.append(Finding("allocator-exports", ERROR, allocator.path, text, "name an allocator's shared object"))
        elif not aligns(allocator.exports):
            text = "has no function for aligned blocks, which it can then give only by chance"
            found.append(Finding("allocator-unaligned", WARNING, allocator.path, text, "choose another allocator"))
    return tuple(found)


def interposers(facts: Facts, abi: Abi) -> tuple[tuple[Interposer, ...], tuple[Finding, ...]]:
    """Others' preload objects of `abi` that define malloc, and findings on those that cannot be found or read."""
    if isinstance(facts, LinuxFacts):
        others, remarks = preflight_linux.interposers(facts, abi)
        return tuple(Interposer(item, place) for item, place in others), remarks
    assert isinstance(facts, SolarisFacts)
    file = facts.configs[abi.bits]
    if file.state is None:
        return (), ()
    effective = preloads.effective(file.state.data, facts.layout(abi))
    found, findings = [], []
    for preload in effective.preloads:
        if entry.is_ours(preload.name):
            continue
        path = locate(facts, preload.name, effective.library_path)
        if path is None:
            text = f"preloads {preload.name}, which does not exist: every {abi.name} process dies of it already"
            config = shlex.quote(facts.root.host_path(abi.config_path))
            hint = f"put it there, or take it out of {config} first (decode it: ldconfig show)"
            findings.append(Finding("preload-object-missing", ERROR, abi.config_path, text, hint))
            continue
        host_path = facts.root.host_path(facts.root.resolve(path))
        try:
            library = elf.read(host_path)
        except ElfError as error:
            findings.append(Finding("preload-object-damaged", ERROR, path, error.what, "mend or remove it first"))
            continue
        if "malloc" in library.exports:
            found.append(Interposer(preload.name, host_path))
    return tuple(found), tuple(findings)


def locate(facts: SolarisFacts, item: str, library_path: tuple[str, ...]) -> str | None:
    """The path on the target at which ld.so.1 finds a preload item of a normal process, None if it does not."""
    candidates = [item] if "/" in item else [f"{directory}/{item}" for directory in library_path]
    return next((path for path in candidates if facts.root.exists(path)), None)


def dead_preloads(facts: SolarisFacts, abi: Abi, config: LdConfig) -> list[str]:
    """The preload items of a configuration that would kill processes of `abi`: missing, or no object of its class."""
    effective = preloads.effective(config, facts.layout(abi))
    dead = []
    for preload in effective.preloads:
        path = locate(facts, preload.name, effective.library_path)
        try:
            is_dead = path is None or elf.read(facts.root.host_path(facts.root.resolve(path))).bits != abi.bits
        except ElfError:
            is_dead = True
        if is_dead:
            dead.append(preload.name)
    return dead


def refuse_interposers(
    facts: Facts, abi: Abi, others: tuple[Interposer, ...], allocator: str | None
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """The items that the chosen allocator file adopts, and a finding for each interposer that stands in the way."""
    adopted, found = [], []
    for other in others:
        if allocator is not None and os.path.realpath(allocator) == os.path.realpath(other.host_path):
            adopted.append(other.item)
            continue
        text = f"already preloads {other.item}, which takes malloc in every {abi.name} process"
        hint = f"make it the allocator (--allocator {shlex.quote(other.host_path)}) or take it out first"
        config = LD_SO_PRELOAD if isinstance(facts, LinuxFacts) else abi.config_path
        found.append(Finding("interposer-ahead", ERROR, config, text, hint))
    return tuple(adopted), tuple(found)


def _check_config(facts: SolarisFacts, abi: Abi, groups: Groups) -> list[Finding]:
    file = facts.configs[abi.bits]
    path = abi.config_path
    found = _existing(facts, os.path.dirname(path), "path", groups)
    if file.state is None:
        return found
    found += access.judge(facts.root, path, "config", groups)
    status = facts.root.lstat(path)
    if pending.is_on_trial(facts.root, path):
        text = "is a link of a change that is on trial, or was cut short"
        found.append(Finding("config-on-trial", ERROR, path, text, "memproxy-sol status tells which"))
    elif status is not None and stat.S_ISLNK(status.st_mode):
        text = "is a symbolic link, which would be lost when the file is replaced"
        hint = f"put the file itself in its place: {shlex.quote(facts.root.host_path(path))}"
        found.append(Finding("config-is-link", ERROR, path, text, hint))
    away = access.aside(facts.root, path)
    if file.verdict != "accepted":
        text = f"the runtime linker does not use it ({file.verdict}{': ' + file.problem if file.problem else ''})"
        found.append(Finding("config-not-in-force", ERROR, path, text, away))
    elif file.config is None:
        found.append(Finding("config-undecodable", ERROR, path, file.problem, away))
    elif file.config.has_object_cache:
        text = "holds an object cache (crle -i, -a or -g), which is not rewritten lest something of it be lost"
        found.append(Finding("config-object-cache", ERROR, path, text, "make it again without these options"))
    return found


def _check_object(facts: Facts, abi: Abi, library: Library, noun: str) -> list[Finding]:
    found = []
    machines = {facts.machine.elf_machine[abi.bits]}
    if machines == {2}:
        machines.add(EM_SPARC32PLUS)
    if library.bits != abi.bits:
        found.append(
            Finding(
                f"{noun}-wrong-class",
                ERROR,
                library.path,
                f"is {library.bits}-bit, not {abi.name}",
                f"name one for {abi.name}",
            )
        )
    if library.machine not in machines:
        text = f"is for ELF machine {library.machine}, not for {facts.machine.name} ({abi.name})"
        found.append(
            Finding(f"{noun}-wrong-machine", ERROR, library.path, text, "name one that was built for the target")
        )
    if library.kind != "shared":
        text = f"is of type {library.kind}, not a shared object"
        found.append(Finding(f"{noun}-not-shared", ERROR, library.path, text, "name a .so file"))
    if library.text_relocations:
        found.append(
            Finding(f"{noun}-text-relocations", WARNING, library.path, "has text relocations", "build it with -fPIC")
        )
    if os.path.getsize(library.path) > MAX_READ:
        text = f"is larger than the {MAX_READ >> 20} MiB that verify reads of a file"
        found.append(Finding(f"{noun}-too-large", ERROR, library.path, text, "strip it"))
    for needed in library.needed:
        found += _check_needed(facts, abi, library, needed, noun)
    return found


def _check_needed(facts: Facts, abi: Abi, library: Library, needed: str, noun: str) -> list[Finding]:
    if isinstance(facts, LinuxFacts):
        return preflight_linux.check_needed(facts, abi, library, needed, noun)
    if needed not in SYSTEM_LIBRARIES:
        text = f"needs {needed}, which may be missing or go missing when a package is removed"
        hint = "link it into the allocator (-static-libgcc -static-libstdc++), or choose a build that needs libc alone"
        return [Finding(f"{noun}-dependency", ERROR, library.path, text, hint)]
    if facts.libc.get(abi.bits) is None:
        return []  # an empty image: the plan says that nothing could be looked up
    path = next((p for p in (f"{d}/{needed}" for d in abi.default_library_path) if facts.root.exists(p)), None)
    if path is None:
        return [
            Finding(
                f"{noun}-dependency",
                ERROR,
                library.path,
                f"needs {needed}, which the target has not",
                "choose another build",
            )
        ]
    try:
        provider = elf.read(facts.root.host_path(facts.root.resolve(path)))
    except ElfError as error:
        return [Finding(f"{noun}-dependency", ERROR, path, error.what, "mend the image first")]
    missing = [v for lib, v in library.versions_needed if lib == needed and v not in provider.versions_defined]
    if missing:
        text = f"needs version {missing[0]} of {needed}, which the target's does not have"
        return [
            Finding(f"{noun}-version", ERROR, library.path, text, "build it on the oldest release it has to run on")
        ]
    return []


def _check_mounts(facts: SolarisFacts, directory: str) -> list[Finding]:
    """The generation has to be there when the first process starts, before anything but `/` is mounted."""
    mount = facts.mounted_later(directory)
    if mount is not None:
        text = f"lies on {mount}, a file system of its own, which is not mounted when the first processes start"
        return [Finding("prefix-not-on-root", ERROR, directory, text, "choose a prefix on the root file system")]
    return []


def _existing(facts: SolarisFacts, directory: str, noun: str, groups: Groups) -> list[Finding]:
    """Findings on that part of a directory's path which exists already."""
    while directory != "/" and facts.root.lstat(directory) is None:
        directory = os.path.dirname(directory)
    return list(access.judge(facts.root, directory, noun, groups, kind="directory"))


def _unique(findings: list[Finding]) -> tuple[Finding, ...]:
    seen: dict[Finding, None] = dict.fromkeys(findings)
    return tuple(seen)


def read_libraries(paths: Mapping[int, str]) -> dict[int, Library]:
    """What each library is, by bits; ElfError names the file that is none."""
    return {bits: elf.read(path) for bits, path in paths.items()}


def allocators_by_abi(paths: tuple[str, ...]) -> dict[int, str]:
    """The allocator files by the class that each one's ELF header tells; HostError for two of one class."""
    found: dict[int, str] = {}
    for path in paths:
        bits = elf.read(path).bits
        if bits in found:
            raise HostError(
                f"is {bits}-bit, and so is {found[bits]}", where=path, hint="name one allocator for each ABI"
            )
        found[bits] = path
    return found

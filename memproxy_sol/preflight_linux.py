"""Preflight for Linux: what forbids a change of /etc/ld.so.preload, or what may go wrong with it later.

A preload object that is missing is complained of and ignored by the runtime linkers of the GNU C library; one whose
own dependency is missing ends every process before its first instruction (ld.so(8); docs/linux.md has what was seen).
"""

from __future__ import annotations

import os
import shlex

from memproxy_sol import access, drop_ins, elf, ld_so_preload, pending, plan_linux
from memproxy_sol.abi import LD_SO_PRELOAD, Abi
from memproxy_sol.access import Groups
from memproxy_sol.elf import Library
from memproxy_sol.errors import ElfError
from memproxy_sol.exclusions import LIST_PATH
from memproxy_sol.findings import ERROR, NOTE, WARNING, Finding
from memproxy_sol.hosts.linux import MEMORY_FILE_SYSTEMS, LinuxFacts, is_link, is_mounted, is_volatile
from memproxy_sol.ld_so_preload import is_ours
from memproxy_sol.policy import Policy
from memproxy_sol.record import RUN_DIRECTORY, STATE_DIRECTORY

C_LIBRARY = frozenset(
    {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"}
    | {"ld-linux-x86-64.so.2", "ld-linux.so.2", "ld-linux-aarch64.so.1"}
)
"""What comes with the C library itself, which no system can be without."""
COMPILER_LIBRARIES = frozenset({"libstdc++.so.6", "libgcc_s.so.1", "libatomic.so.1"})
"""What the allocators of the distributions, which are in C++, need beyond that."""


def check_host(facts: LinuxFacts, policy: Policy) -> tuple[Finding, ...]:
    """What forbids changing this host at all, and what will not be reached."""
    root, groups = facts.root, Groups(facts.root)
    found = list(_existing(facts, os.path.dirname(LD_SO_PRELOAD), groups))
    if facts.preload.problem:
        away = access.aside(root, LD_SO_PRELOAD)
        found.append(Finding("config-unusable", ERROR, LD_SO_PRELOAD, facts.preload.problem, away))
    elif root.is_live and is_mounted(root, LD_SO_PRELOAD):
        text = "is mounted from elsewhere, so that it cannot be replaced by a rename"
        found.append(Finding("config-mounted", ERROR, LD_SO_PRELOAD, text, f"umount {LD_SO_PRELOAD}"))
    elif pending.is_on_trial(root, LD_SO_PRELOAD):
        text = "is a link of a change that is on trial, or was cut short"
        found.append(Finding("config-on-trial", ERROR, LD_SO_PRELOAD, text, "memproxy-sol status tells which"))
    elif is_link(root):
        text = "is a symbolic link, which would be lost when the file is replaced"
        hint = f"put the file itself in its place: {shlex.quote(root.host_path(LD_SO_PRELOAD))}"
        found.append(Finding("config-is-link", ERROR, LD_SO_PRELOAD, text, hint))
    elif facts.preload.state is not None:
        theirs = plan_linux.others(facts.preload.data)
        judged = access.judge(root, LD_SO_PRELOAD, "config", groups)
        is_alone = policy.scope != "all" or not theirs
        found += [one for one in judged if one.identifier != "config-unreadable" or not is_alone]
        if policy.scope == "root" and theirs and facts.preload.state.mode & access.READ_FOR_ALL == access.READ_FOR_ALL:
            text = f"has {theirs[0]} for every user, which a list for root alone would take from them"
            hint = 'take it out, or leave scope = "root" out of the policy'
            found.append(Finding("scope-others", ERROR, LD_SO_PRELOAD, text, hint))
    found += _read_only(facts, f"{policy.prefix}/lib/memproxy")
    if root.is_live and not is_volatile(root, RUN_DIRECTORY):
        text = "is on a file system that a reboot does not empty: what is on trial then stays, unless a command ends it"
        hint = "mount a tmpfs on /run, or do without --try"
        found.append(Finding("run-persistent", WARNING, RUN_DIRECTORY, text, hint))
    if policy.scope == "services":
        found += _check_services(facts, policy)
    generations = f"{policy.prefix}/lib/memproxy"
    found += _existing(facts, generations, groups)
    found += _existing(facts, os.path.dirname(LIST_PATH), groups)
    if facts.exclusion_list is not None:
        found += access.judge(root, LIST_PATH, "exclusions", groups)
    mount = facts.mounted_later(generations)
    if mount is not None:
        severity = ERROR if mount in MEMORY_FILE_SYSTEMS else WARNING
        text = f"lies on {mount}, which is not mounted when the first processes start: each of them complains of it"
        hint = "choose a prefix on the root file system"
        found.append(Finding("prefix-not-on-root", severity, generations, text, hint))
    tokens = [loader.lib for loader in facts.loaders]
    if len(set(tokens)) < len(tokens):
        text = f"$LIB stands for {tokens[0]} in the runtime linkers of both ABIs, so that one line cannot serve both"
        hint = "memproxy-sol cannot be used on this system; tell its makers"
        found.append(Finding("lib-not-distinct", ERROR, facts.loaders[0].path, text, hint))
    for path in facts.foreign:
        text = "knows no /etc/ld.so.preload: its programs keep their own allocator, like static ones"
        found.append(Finding("linker-not-reached", NOTE, path, text))
    return tuple(dict.fromkeys(found))


def _check_services(facts: LinuxFacts, policy: Policy) -> list[Finding]:
    """What keeps services of systemd from getting an LD_PRELOAD of ours."""
    if not policy.services:
        text = 'names no service, so that scope = "services" would serve nobody'
        return [Finding("scope-empty", ERROR, "policy services", text, 'services = ["nginx.service"]')]
    return [found for name in policy.services for found in drop_ins.obstacles(facts.root, name)]


def _read_only(facts: LinuxFacts, generations: str) -> list[Finding]:
    """The directories of a change that lie on a file system which is mounted read-only."""
    found = []
    for directory in (os.path.dirname(LD_SO_PRELOAD), STATE_DIRECTORY, generations):
        existing = directory
        while not facts.root.exists(existing):
            existing = os.path.dirname(existing)
        if os.statvfs(facts.root.host_path(facts.root.resolve(existing))).f_flag & os.ST_RDONLY:
            text = "lies on a file system that is mounted read-only, so that nothing could be changed or taken back"
            found.append(Finding("read-only", ERROR, directory, text, "mount -o remount,rw, or look at why it is so"))
    return found


def found_at(facts: LinuxFacts, bits: int, needed: str) -> str | None:
    """Where the runtime linker of an ABI finds a library by default, None if it does not."""
    return next((path for path in _places(facts.loader(bits).lib, needed) if facts.root.exists(path)), None)


def check_needed(facts: LinuxFacts, abi: Abi, library: Library, needed: str, noun: str) -> list[Finding]:
    """What is to be said of one dependency of a library that every process will load."""
    path = found_at(facts, abi.bits, needed)
    if path is None:
        text = f"needs {needed}, which the target has not"
        return [Finding(f"{noun}-dependency", ERROR, library.path, text, "choose another build")]
    found = []
    if needed not in C_LIBRARY:
        text = f"needs {needed}: without it no {abi.name} program starts any more"
        if needed in COMPILER_LIBRARIES:
            hint = f"keep the package that {path} is of, for instance with apt-mark manual"
            found.append(Finding(f"{noun}-needs", WARNING, library.path, text, hint))
        else:
            hint = "link it into the allocator, or choose a build that needs the C library alone"
            return [Finding(f"{noun}-dependency", ERROR, library.path, text, hint)]
    try:
        provider = elf.read(facts.root.host_path(facts.root.resolve(path)))
    except ElfError as error:
        return [Finding(f"{noun}-dependency", ERROR, path, error.what, "mend the system first")]
    missing = [v for lib, v in library.versions_needed if lib == needed and v not in provider.versions_defined]
    if missing:
        text = f"needs version {missing[0]} of {needed}, which the target's does not have"
        hint = "build it on the oldest system it has to run on"
        found.append(Finding(f"{noun}-version", ERROR, library.path, text, hint))
    return found


def interposers(facts: LinuxFacts, abi: Abi) -> tuple[tuple[tuple[str, str], ...], tuple[Finding, ...]]:
    """Others' preload items that define malloc, each with its place on this machine, and findings on broken ones."""
    found, findings = [], []
    for item in dict.fromkeys(facts.preload.items):
        if is_ours(item):
            continue
        loader = facts.loader(abi.bits)
        path = ld_so_preload.expand(item, loader.lib, None, "")
        places = [path] if path is not None else _places(loader.lib, item) if "/" not in item else []
        place = next((one for one in places if facts.root.exists(one)), None)
        if place is None:
            name = ld_so_preload.shown(item)
            text = f"preloads {name}, which does not exist for {abi.name} programs: each of them complains of it"
            hint = f"put it there, or take it out of {shlex.quote(facts.root.host_path(LD_SO_PRELOAD))}"
            findings.append(Finding("preload-object-missing", WARNING, LD_SO_PRELOAD, text, hint))
            continue
        host_path = facts.root.host_path(facts.root.resolve(place))
        try:
            library = elf.read(host_path)
        except ElfError as error:
            findings.append(Finding("preload-object-damaged", WARNING, place, error.what, "mend or remove it"))
            continue
        if library.bits != abi.bits:
            text = f"preloads {item}, which is {library.bits}-bit: each {abi.name} program complains of it"
            hint = "spell it with $LIB, and give each ABI one"
            findings.append(Finding("preload-object-class", WARNING, LD_SO_PRELOAD, text, hint))
        elif "malloc" in library.exports:
            found.append((item, host_path))
    return tuple(found), tuple(findings)


def _places(lib: str, name: str) -> list[str]:
    """Where a runtime linker whose `$LIB` is `lib` looks for a library by default."""
    return [f"/{lib}/{name}", f"/usr/{lib}/{name}", f"/usr/local/{lib}/{name}", f"/usr/local/lib/{name}"]


def _existing(facts: LinuxFacts, directory: str, groups: Groups) -> tuple[Finding, ...]:
    """Findings on that part of a directory's path which exists already."""
    while directory != "/" and facts.root.lstat(directory) is None:
        directory = os.path.dirname(directory)
    return access.judge(facts.root, directory, "path", groups, kind="directory")

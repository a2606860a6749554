"""Sandboxes: which confined programs of a Linux host could not open what they are to preload, as far as files tell.

A program that may not open it complains at each start and does without (docs/linux.md); nothing of it is fatal, so
these are remarks. Sources: apparmor.d(5) and its securityfs; selinux(8), file_contexts(5); systemd.exec(5);
hardened_malloc's README for vm.max_map_count.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator

from memproxy_sol.drop_ins import UNIT_DIRECTORIES
from memproxy_sol.elf import Library
from memproxy_sol.errors import HostError
from memproxy_sol.findings import WARNING, Finding
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.root import Root

APPARMOR_PROFILES = "/sys/kernel/security/apparmor/profiles"
APPARMOR_BASE = "/etc/apparmor.d/abstractions"
SELINUX_ENFORCE = "/sys/fs/selinux/enforce"
LIBRARY_TYPES = frozenset({"lib_t", "textrel_shlib_t", "usr_t"})
"""SELinux types that every domain may map as a library."""
MAX_MAP_COUNT = "/proc/sys/vm/max_map_count"
_MAPS_WANTED = 1048576
_HIDING = ("RootDirectory", "RootImage", "InaccessiblePaths", "TemporaryFileSystem", "NoExecPaths")
_ALLOWED = re.compile(r"^\s*ExecPaths\s*=(.*)$", re.MULTILINE)
_SETTING = re.compile(rf"^\s*({'|'.join(_HIDING)})\s*=\s*(\S.*?)\s*$", re.MULTILINE)


def remarks(facts: LinuxFacts, prefix: str, allocators: Iterable[Library]) -> tuple[Finding, ...]:
    """What keeps confined programs, or these allocators, from working as everywhere else."""
    place = f"{prefix}/lib/memproxy"
    found = [*_units(facts.root, place)]
    if facts.root.is_live:
        found += [*_apparmor(facts.root, place), *_selinux(facts.root, prefix), *_maps(facts.root, allocators)]
    return tuple(found)


def _apparmor(root: Root, place: str) -> Iterator[Finding]:
    profiles = re.findall(r"^(.*) \(enforce\)$", _text(root, APPARMOR_PROFILES), re.MULTILINE)
    allowed = [f"{APPARMOR_BASE}/base", *_below(root, f"{APPARMOR_BASE}/base.d")]
    if profiles and not any(place in _text(root, path) for path in allowed):
        names = ", ".join(profiles[:3]) + (", …" if len(profiles) > 3 else "")
        text = f"{len(profiles)} profiles are enforced ({names}) that may not let their programs open {place}"
        line = shlex.quote(f"{place}/** mr,")
        hint = f"mkdir -p {APPARMOR_BASE}/base.d; echo {line} > {APPARMOR_BASE}/base.d/memproxy, and reload apparmor"
        yield Finding("apparmor", WARNING, APPARMOR_PROFILES, text, hint)


def _selinux(root: Root, prefix: str) -> Iterator[Finding]:
    if _text(root, SELINUX_ENFORCE).strip() != "1":
        return
    directory = f"{prefix}/lib"
    while directory != "/" and not root.exists(directory):
        directory = os.path.dirname(directory)
    try:
        label = os.getxattr(root.host_path(root.resolve(directory)), "security.selinux").decode("ascii", "replace")
    except OSError:
        return
    kind = label.rstrip("\0").split(":")[2] if label.count(":") >= 2 else ""
    if kind not in LIBRARY_TYPES:
        text = f"has the SELinux type {kind or label!r}, which confined programs may not map as a library"
        pattern = shlex.quote(f"{prefix}/lib/memproxy(/.*)?")
        hint = f"semanage fcontext -a -t lib_t {pattern}, then restorecon -R after install"
        yield Finding("selinux-type", WARNING, directory, text, hint)


def _units(root: Root, place: str) -> Iterator[Finding]:
    """Services whose unit shows them a file system without the generation, or one from which nothing is executed."""
    told = set()
    for directory in UNIT_DIRECTORIES:
        for path in _unit_files(root, directory):
            unit = path[len(directory) + 1 :].split("/")[0]
            unit = unit[: -len(".d")] if unit.endswith(".d") else unit
            content = _text(root, path)
            allowed = [word for line in _ALLOWED.findall(content) for word in line.split()]
            for setting, value in _SETTING.findall(content):
                if unit in told or not _hides(setting, value, place):
                    continue
                if setting == "NoExecPaths" and _covers(allowed, place):
                    continue
                told.add(unit)
                text = f"{setting}={value} keeps {unit} from {place}: it will complain, and do without"
                hint = f"{'ExecPaths' if setting == 'NoExecPaths' else 'BindReadOnlyPaths'}={place} in a drop-in"
                yield Finding("service-sandboxed", WARNING, path, text, hint)


def _hides(setting: str, value: str, place: str) -> bool:
    if setting.startswith("Root"):
        return value not in ("/", "")
    return _covers(value.split(), place)


def _covers(words: Iterable[str], place: str) -> bool:
    """Whether one of the paths of a setting is that directory, or above it."""
    paths = [word.lstrip("-+").split(":")[0].rstrip("/") for word in words]
    return any(f"{place}/".startswith(f"{path}/") for path in paths)


def _maps(root: Root, allocators: Iterable[Library]) -> Iterator[Finding]:
    value = _text(root, MAX_MAP_COUNT).strip()
    for library in allocators:
        # Guard slabs make it need far more mappings than others.
        if "hardened_malloc" in os.path.basename(library.path) and value.isdigit() and int(value) < _MAPS_WANTED:
            text = f"is {value}: large programs run out of mappings with hardened_malloc"
            yield Finding("max-map-count", WARNING, MAX_MAP_COUNT, text, f"sysctl -w vm.max_map_count={_MAPS_WANTED}")
            return


def _unit_files(root: Root, directory: str) -> Iterator[str]:
    for name in _names(root, directory):
        status = root.lstat(f"{directory}/{name}")
        if name.endswith(".service"):
            if status is not None and not stat.S_ISLNK(status.st_mode):  # an alias is told by its own name
                yield f"{directory}/{name}"
        elif name.endswith(".service.d"):
            yield from (path for path in _below(root, f"{directory}/{name}") if path.endswith(".conf"))


def _below(root: Root, directory: str) -> list[str]:
    return [f"{directory}/{name}" for name in _names(root, directory)]


def _names(root: Root, directory: str) -> tuple[str, ...]:
    try:
        return root.names(directory)
    except HostError:
        return ()


def _text(root: Root, path: str) -> str:
    """A file's content; empty where there is none, or none that can be read."""
    try:
        state = root.read(path, limit=1 << 20)
    except HostError:
        return ""
    return "" if state is None else state.data.decode("utf-8", "surrogateescape")

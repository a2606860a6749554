"""Rescue: what to type when no dynamic program starts any more, with this host's own paths filled in.

The cure is always the same: the runtime linker configuration goes out of the way, or the former one comes back. What
differs is from where it can still be done. `install` keeps the text beside the configuration, and a copy of each former
file beside the live one, since a record in JSON helps nobody whose programs do not start.

Every line that is indented is a command, and the tests type each of them into a laboratory that has been bricked.
Sources: reference "smf", sections 15 and 18; reference "crle", section 5.1; beadm(1M), zpool(1M), zoneadm(1M).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Optional

from memproxy_sol import rescue_linux
from memproxy_sol.abi import ABIS, MACHINES, X86, Abi
from memproxy_sol.commands import Shell
from memproxy_sol.errors import HostError, printable
from memproxy_sol.findings import NOTE, Finding
from memproxy_sol.hosts import solaris, solaris_live
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.hosts.solaris_live import LiveFacts, Mount
from memproxy_sol.record import AbiRecord, digest
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import ReplaceFile
from memproxy_sol.zones import Zone

TEXT_PATH = "/var/ld/memproxy-rescue.txt"
TITLE = "When no program starts any more: memproxy-sol on this system"
BROKEN = ".broken"
"""What the file that kills every process is called once it is out of the way."""
MOUNT_POINT = "/a"
"""Where another system's root is mounted; the one that the install media have."""


def former_path(abi: Abi) -> str:
    """Where the copy of an ABI's former configuration lies."""
    return f"{abi.config_path}.before-memproxy"


@dataclass(frozen=True)
class Situation:
    """What the text depends on."""

    files: tuple[tuple[str, str | None], ...]
    """Each configuration file with the copy of the former one, None if there was none."""
    root: Mount | None = None
    """The file system on `/`; None if nobody told."""
    var: Mount | None = None
    """The file system on /var, if it is one of its own."""
    zone: str | None = None
    zones: tuple[Zone, ...] = ()
    release: str = "illumos"

    @property
    def environment(self) -> str:
        """The boot environment's name: the last part of the root dataset's."""
        return "BE" if self.root is None else self.root.special.rpartition("/")[2]

    @property
    def on_zfs(self) -> bool:
        """Whether `/` is a dataset, or nobody knows."""
        return self.root is None or (self.root.kind == "zfs" and "/" in self.root.special)


def situation(live: LiveFacts | None, release: str, files: Iterable[tuple[str, str | None]]) -> Situation:
    """What `live` says of the disks and zones (None for an image: placeholders stand for them)."""
    if live is None:
        return Situation(tuple(files), release=release)
    var = live.mount_over(solaris_live.CONFIG_DIRECTORY)
    return Situation(
        files=tuple(files),
        root=live.mount_over("/"),
        var=None if var is None or var.point == "/" else var,
        zone=live.zone,
        zones=live.zones,
        release=release,
    )


def gather(root: Root, shell: Shell | None, release: str | None = None, machine: str | None = None) -> Situation:
    """The situation of a host in whatever state it is: nothing that is damaged or missing stops this.

    `release` and `machine` are used where the host does not tell.

    Raises HostError for a running system that is neither Solaris nor illumos.
    """
    facts: SolarisFacts | None = None
    if root.is_live and shell is not None:
        solaris_live.check_kind(shell)
    try:
        facts = solaris.read(root, host="solaris", release=release, machine=machine, tolerant=True, shell=shell)
    except HostError:
        kind = MACHINES[machine] if machine else X86
    else:
        kind = facts.machine
    known = facts.record.abis if facts is not None and facts.record is not None else {}
    abis = [ABIS[bits] for bits in sorted(known)] or kind.abis()
    files = [(abi.config_path, former_path(abi) if _is_there(root, former_path(abi)) else None) for abi in abis]
    return situation(facts.live if facts else None, facts.release if facts else release or "illumos", files)


def _is_there(root: Root, path: str) -> bool:
    try:
        return root.lstat(path) is not None
    except HostError:
        return False


# The text


def text(where: Situation) -> str:
    """What to type, in ASCII, for a console of 80 columns; commands are indented."""
    sections = [
        _living_shell(where),
        _builtins(where),
        _single_user(where),
        _other_environment(where),
        _media(where),
        _zone(where),
        *(_zone_below(where, zone) for zone in where.zones),
    ]
    parts = [_head(where)]
    for number, (title, lines) in enumerate((section for section in sections if section is not None), 1):
        parts.append("\n".join([f"{number}. {title}", *lines]))
    parts.append(_tail())
    return printable("\n\n".join(parts), keep="\n").encode("ascii", "backslashreplace").decode("ascii") + "\n"


Section = Optional[tuple[str, list[str]]]
"""A title, and the lines under it; None where there is nothing to say."""


def _head(where: Situation) -> str:
    names = "\n".join(f"  {path}" + (f"\n  (former: {former})" if former else "") for path, former in where.files)
    return f"""{TITLE}
{"=" * len(TITLE)}
A missing or damaged object on the preload list kills every new process with
"fatal: ... open failed" and "Killed". The cure is to take the runtime linker's
configuration out of the way, not to remove any library:
{names}
A program that has LD_NOCONFIG in its environment starts all the same. Take the
first of these ways that is open; lines indented by four blanks are commands."""


def _tail() -> str:
    return """Then, once programs start again, find out what was wrong and clean up:
    memproxy-sol verify
    memproxy-sol uninstall"""


def _out_of_the_way(where: Situation, top: str = "") -> list[str]:
    """The commands that replace each live file by the former one, or by nothing, below `top`."""
    lines = []
    for path, former in where.files:
        live = shlex.quote(top + path)
        lines.append(f"    mv -f {live} {shlex.quote(top + path + BROKEN)}")
        if former is not None:
            lines.append(f"    cp -p {shlex.quote(top + former)} {live}")
    return lines


def _living_shell(where: Situation) -> Section:
    lines = [
        "A shell that runs goes on running. In sh, ksh or bash, as root:",
        "    LD_NOCONFIG=yes; export LD_NOCONFIG",
        *_out_of_the_way(where),
        "    unset LD_NOCONFIG",
        "    /usr/bin/true",
        "In csh say first: setenv LD_NOCONFIG yes. If the last command is not killed,",
        "new programs start again.",
    ]
    return "A root shell is still open", lines


def _builtins(where: Situation) -> Section:
    lines = [
        "This starts no program at all; an empty file is no configuration (the copy of a",
        "former one can be put back later):",
        *(f"    : > {shlex.quote(path)}" for path, _ in where.files),
        "    /usr/bin/true",
    ]
    return "A root shell is still open, and not even mv starts", lines


def _single_user(where: Situation) -> Section:
    title = "The system does not come up: single-user mode"
    if where.zone not in (None, "global"):
        return None
    if where.root is not None and where.var is None:
        return title, [
            "That does not help here: /var is on the root file system, so the programs of",
            "single-user mode die as well. Go on with the next way.",
        ]
    if where.var is None:
        return title, [
            "That helps only if /var is a file system of its own, which is not mounted yet",
            "then. Boot with -m milestone=none, log in, mount /var and do as in 1.",
        ]
    return title, [
        f"/var is a file system of its own ({where.var.special}) and not mounted yet",
        "in single-user mode, so its programs start. Boot with -m milestone=none, log in:",
        "    LD_NOCONFIG=yes; export LD_NOCONFIG",
        f"    {_mount_command(where.var, '/var')}",
        *_out_of_the_way(where),
        "    reboot",
    ]


def _mount_command(mount: Mount, point: str) -> str:
    """The command that mounts a file system; datasets of a boot environment know their mount points."""
    special = shlex.quote(mount.special)
    if mount.kind == "zfs" and "/ROOT/" in mount.special:
        return f"zfs mount {special}"
    return f"mount -F {mount.kind} {special} {shlex.quote(point)}"


def _other_environment(where: Situation) -> Section:
    if not where.on_zfs or where.zone not in (None, "global") or where.release == "10":
        return None
    name = shlex.quote(where.environment)
    known = ["BE stands for the broken environment, which beadm list shows:", "    beadm list"]
    lines = [
        "Choose another boot environment in the boot menu; there, as root:",
        *(known if where.root is None else []),
        f"    mkdir -p {MOUNT_POINT}",
        f"    beadm mount {name} {MOUNT_POINT}",
        *_out_of_the_way(where, MOUNT_POINT),
        f"    beadm unmount {name}",
        f"    beadm activate {name}",
        "    reboot",
    ]
    return "The system does not come up: another boot environment", lines


def _media(where: Situation) -> Section:
    if where.zone not in (None, "global"):
        return None
    root = where.root or Mount("rpool/ROOT/BE", "/", "zfs")
    disks = [mount for mount in (root, where.var) if mount is not None and not mount.volatile]
    pools = dict.fromkeys(m.special.partition("/")[0] for m in disks if m.kind == "zfs" and "/" in m.special)
    unmounted = "" if where.release == "10" else "-N "
    lines = ["Start a shell from there; its programs do not read this system's files."]
    if where.root is None:
        lines += [
            "rpool and BE stand for this system's pool and boot environment (zpool import and",
            "zfs list show them):",
        ]
    lines.append(f"    mkdir -p {MOUNT_POINT}")
    lines += [f"    zpool import -f {unmounted}-R {MOUNT_POINT} {shlex.quote(pool)}" for pool in pools]
    undo: list[str] = []
    for mount in disks:
        point = MOUNT_POINT if mount is root else f"{MOUNT_POINT}/var"
        command = _mount_command(mount, point)
        lines += [f"    mkdir -p {point}"] if mount is not root and root.volatile else []
        lines.append(f"    {command}")
        if not command.startswith("zfs "):
            undo.insert(0, f"    umount {point}")
    lines += [*_out_of_the_way(where, MOUNT_POINT), *undo, *(f"    zpool export {shlex.quote(pool)}" for pool in pools)]
    return "The system does not come up: install media, failsafe, network boot", [*lines, "    reboot"]


def _zone(where: Situation) -> Section:
    if where.zone in (None, "global"):
        return None
    zone = shlex.quote(where.zone or "")
    lines = [
        "ZONEPATH stands for what the first command shows; as root in the global zone:",
        f"    zonecfg -z {zone} info zonepath",
        f"    zoneadm -z {zone} halt",
        f"    zoneadm -z {zone} ready",
        *_out_of_the_way(where, "ZONEPATH/root"),
        f"    zoneadm -z {zone} boot",
    ]
    return "This is a zone: from the global zone", lines


def _zone_below(where: Situation, zone: Zone) -> Section:
    files = tuple((path, None) for path, _ in where.files)
    lines = [
        "A zone has files of its own, and its own copy of this text if memproxy-sol was",
        "run in it. As root in the global zone:",
        f"    zoneadm -z {shlex.quote(zone.name)} halt",
        f"    zoneadm -z {shlex.quote(zone.name)} ready",
        *_out_of_the_way(replace(where, files=files), zone.root),
        f"    zoneadm -z {shlex.quote(zone.name)} boot",
    ]
    return f"Programs die in the zone {zone.name}", lines


# What install keeps


def steps(
    facts: Facts, records: Mapping[int, AbiRecord], created: dict[str, str]
) -> tuple[list[ReplaceFile], list[Finding]]:
    """The steps that keep the text and the former files on the host; `created` (record.files) brought up to date.

    They belong in front of the steps that change the configurations.
    """
    if isinstance(facts, LinuxFacts):
        return _keep(facts, rescue_linux.wanted(facts, records), created)
    wanted: list[tuple[str, FileState | None, str]] = []
    files: list[tuple[str, str | None]] = []
    for bits, known in sorted(records.items()):
        former = former_path(ABIS[bits])
        files.append((ABIS[bits].config_path, None if known.original is None else former))
        wanted.append((former, known.original, f"copy of the former {ABIS[bits].name} runtime linker configuration"))
    content = text(situation(facts.live, facts.release, files)).encode("ascii")
    wanted.append((TEXT_PATH, FileState(content, 0o644, 0, 0), "what to type when no program starts"))
    return _keep(facts, wanted, created)


def _keep(
    facts: Facts, wanted: Iterable[tuple[str, FileState | None, str]], created: dict[str, str]
) -> tuple[list[ReplaceFile], list[Finding]]:
    """The steps to these files, each with what it is to be and its purpose, where nobody else's file stands."""
    found: list[ReplaceFile] = []
    findings: list[Finding] = []
    for path, state, purpose in wanted:
        before = facts.root.read(path)
        if before is not None and path not in created and (state is None or before.data != state.data):
            if state is not None:
                hint = f"memproxy-sol rescue prints the text; move {path} away and install again to have it kept"
                findings.append(Finding("rescue-not-kept", NOTE, path, "is somebody else's file and is kept", hint))
            continue
        if state is None:
            created.pop(path, None)
        else:
            created[path] = digest(state.data)
        if before != state:
            found.append(ReplaceFile(path, before, state, purpose))
    return found, findings

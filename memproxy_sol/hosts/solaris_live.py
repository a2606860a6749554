"""Live facts: what a running Solaris or illumos system says of itself by command; nothing here changes anything.

A command may be missing, hang, fail or lie. What it says is held against the files that tell the same: where it
fails, the files decide and a finding says so; where both speak and disagree, that is a finding, too.

Sources: uname(1), isainfo(1), zonename(1), mnttab(5), mount(1M); reference "smf", sections 4, 15, 17 and 19.
Standard library and own modules only: verify.py imports this at boot.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Callable

from memproxy_sol import crle_display, zones
from memproxy_sol.abi import ABIS, Abi
from memproxy_sol.commands import Shell
from memproxy_sol.crle import PROGRAM as CRLE
from memproxy_sol.crle import Crle
from memproxy_sol.crle_display import Display
from memproxy_sol.errors import CommandError, CrleError, HostError, printable
from memproxy_sol.findings import ERROR, NOTE, WARNING, Finding
from memproxy_sol.root import Root
from memproxy_sol.zones import Zone

if TYPE_CHECKING:
    from memproxy_sol.hosts.solaris import ConfigFile

UNAME = "/usr/bin/uname"
ISAINFO = "/usr/bin/isainfo"
ZONENAME = "/usr/bin/zonename"
MOUNT = "/sbin/mount"
MNTTAB = "/etc/mnttab"

CONFIG_DIRECTORY = "/var/ld"

_INSTRUCTION_SETS = {
    "i386": ("x86", 32),
    "amd64": ("x86", 64),
    "sparc": ("sparc", 32),
    "sparcv9": ("sparc", 64),
    "aarch64": ("aarch64", 64),
}
"""Names of isainfo(1) to machine and bits."""

_ZONE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_VFSTAB_LINE = re.compile(r"(?P<special>.+?) - (?P<point>/.*) (?P<kind>\S+) - no(?: (?P<options>\S*))?")
"""A line of `mount -p`: device, no device to check, mount point, type, no pass, not at boot, options."""


@dataclass(frozen=True)
class Mount:
    """One mounted file system."""

    special: str
    """The device, dataset or directory that is mounted."""
    point: str
    kind: str
    """`zfs`, `ufs`, `lofs`, `tmpfs`…"""
    options: tuple[str, ...] = ()

    @property
    def volatile(self) -> bool:
        """Whether the next boot loses what is written there: swap, or the ram disk that SmartOS and media run from."""
        return self.kind == "tmpfs" or self.special.startswith(("/devices/ramdisk", "/dev/ramdisk"))

    @property
    def read_only(self) -> bool:
        return "ro" in self.options


@dataclass(frozen=True)
class LiveFacts:
    """What the running system says."""

    kernel_release: str = ""
    """`5.10`, `5.11`; empty if nobody told."""
    kernel_version: str = ""
    """`omnios-r151046-0123456`, `11.4.42.0.0.111.0`, `Generic_150401-16`…"""
    machine: str | None = None
    """`x86`, `sparc` or `aarch64` by isainfo; None if it did not tell."""
    bits: tuple[int, ...] = ()
    """The ABIs that programs run in, by isainfo; empty if it did not tell."""
    zone: str | None = None
    """`global`, or the zone's name; None if nobody told."""
    zones: tuple[Zone, ...] = ()
    """The non-global zones; empty within one."""
    mounts: tuple[Mount, ...] = ()
    """The mount table in its order: of two on one point the later counts."""
    displays: dict[int, Display] = field(default_factory=dict)
    """What crle shows of the live files, by bits, where it could be asked."""
    findings: tuple[Finding, ...] = ()
    """What could not be found out, and what contradicts something else."""

    @property
    def release(self) -> str | None:
        """One of `hosts.solaris.RELEASES`, by uname; None if it does not tell."""
        if self.kernel_release == "5.10":
            return "10"
        if self.kernel_release != "5.11":
            return None
        match = re.match(r"11\.(\d+)(\.|$)", self.kernel_version)
        return "illumos" if match is None else "11.4" if match[1] == "4" else "11"

    @property
    def smartos(self) -> bool:
        """Whether it is SmartOS, whose global zone runs from a ram disk (its zones have files of their own)."""
        return self.kernel_version.startswith("joyent_")

    def mount_over(self, path: str) -> Mount | None:
        """The file system on which `path` (links resolved) lies; None if the table does not tell."""
        over = [m for m in self.mounts if m.point == "/" or f"{path}/".startswith(f"{m.point}/")]
        deepest = max((len(m.point) for m in over), default=0)
        return next((m for m in reversed(over) if len(m.point) == deepest), None)

    def mounted_later(self, directory: str, config: str = CONFIG_DIRECTORY) -> str | None:
        """The mount point over `directory` that is not there yet when processes begin to read `config`; else None.

        Both with links resolved. Processes read the configuration from the moment on that its file system is
        mounted: with `/` from the first process on; on a file system of its own from filesystem/minimal on, which
        mounts it among the first, after `/` and `/usr` (reference "smf", sections 4 and 17). What zoneadmd mounts
        into a zone, which is lofs, is there before the zone's first process.
        """
        mount, config_mount = self.mount_over(directory), self.mount_over(config)
        if mount is None or mount.point == "/":
            return None
        if mount.kind == "lofs" and self.zone not in (None, "global"):
            return None
        if config_mount is not None and config_mount.point != "/" and mount.point in (config_mount.point, "/usr"):
            return None
        return mount.point


def read(root: Root, shell: Shell, tolerant: bool = False) -> LiveFacts:
    """Ask the running system; HostError if it is neither Solaris nor illumos, or does not tell what it is.

    `tolerant` takes the latter for Solaris: uninstall must not refuse because the present state is bad.
    """
    findings = list(check_kind(shell, tolerant))
    kernel = (_ask(shell, findings, UNAME, "-r", "-v") or "").split(None, 1)
    names = (_ask(shell, findings, ISAINFO) or "").split()
    known = [_INSTRUCTION_SETS[name] for name in names if name in _INSTRUCTION_SETS]
    if names and (not known or len({machine for machine, _ in known}) > 1):
        text = f"says {_shown(' '.join(names))}, which is no set of instructions that is known"
        findings.append(Finding("host-command", WARNING, ISAINFO, text, "the ABIs are taken from libc.so.1"))
        known = []
    zone = _zone(shell, findings)
    return LiveFacts(
        kernel_release=kernel[0] if kernel else "",
        kernel_version=kernel[1] if len(kernel) > 1 else "",
        machine=known[0][0] if known else None,
        bits=tuple(sorted({bits for _, bits in known})),
        zone=zone,
        zones=_zones(root, findings) if zone in (None, "global") else (),
        mounts=_mounts(root, shell, findings),
        findings=tuple(findings),
    )


def check_kind(shell: Shell, tolerant: bool = True) -> tuple[Finding, ...]:
    """HostError for a running system that is neither Solaris nor illumos; `tolerant` and findings as in `read`."""
    findings: list[Finding] = []
    kind = _ask(shell, findings, UNAME, "-s")
    hint = "configure an image or an inactive boot environment with --root DIR"
    if kind is None and not tolerant:
        text = f"{findings[0].text}, so it cannot be told what kind of system this is"
        raise HostError(text, where=UNAME, hint=hint)
    if kind not in (None, "SunOS"):
        text = f"the running system is {_shown(kind or '')}, and only Solaris, illumos and Linux with glibc are changed"
        raise HostError(text, where="/", hint=hint)
    return tuple(findings)


def _ask(shell: Shell, findings: list[Finding], *command: str) -> str | None:
    """What a command printed; None, and a finding, if it failed or said nothing."""
    try:
        ran = shell.run(command)
    except CommandError as error:
        findings.append(Finding("host-command", WARNING, command[0], error.what))
        return None
    if ran.status or not ran.out.strip():
        findings.append(Finding("host-command", WARNING, command[0], ran.failure().what))
        return None
    return ran.out.strip()


def _shown(text: str) -> str:
    return printable(text if len(text) <= 100 else text[:97] + "...")


def _zone(shell: Shell, findings: list[Finding]) -> str | None:
    name = _ask(shell, findings, ZONENAME)
    if name is None or _ZONE_NAME.fullmatch(name):
        return name
    findings.append(Finding("host-command", WARNING, ZONENAME, f"says {_shown(name)}, which is no zone's name"))
    return None


def _zones(root: Root, findings: list[Finding]) -> tuple[Zone, ...]:
    try:
        return zones.read(root)
    except HostError as error:
        findings.append(Finding("host-command", WARNING, zones.INDEX, error.what))
        return ()


def _read(root: Root, path: str, findings: list[Finding]) -> str | None:
    try:
        state = root.read(path)
    except HostError as error:
        findings.append(Finding("host-command", WARNING, path, error.what))
        return None
    return None if state is None else state.data.decode("utf-8", "surrogateescape")


def _mounts(root: Root, shell: Shell, findings: list[Finding]) -> tuple[Mount, ...]:
    """The mount table: /etc/mnttab, whose fields are separated by tabs, else `mount -p`, where they are by blanks."""
    text = _read(root, MNTTAB, findings)
    lines = [line for line in (text or "").split("\n") if line]
    if lines:
        split = [line.split("\t") for line in lines]
        found = [Mount(f[0], f[1], f[2], tuple(f[3].split(","))) for f in split if len(f) == 5 and _is_point(f[1])]
        return _counted(MNTTAB, found, len(lines), findings)
    lines = [line for line in (_ask(shell, findings, MOUNT, "-p") or "").split("\n") if line]
    if not lines:
        return ()
    matches = [match for match in map(_VFSTAB_LINE.fullmatch, lines) if match is not None]
    found = [Mount(m["special"], m["point"], m["kind"], tuple((m["options"] or "").split(","))) for m in matches]
    return _counted(MOUNT, [mount for mount in found if _is_point(mount.point)], len(lines), findings)


def _is_point(path: str) -> bool:
    return path == "/" or (path.startswith("/") and not any(part in ("", ".", "..") for part in path[1:].split("/")))


def _counted(where: str, found: list[Mount], lines: int, findings: list[Finding]) -> tuple[Mount, ...]:
    unread = lines - len(found)
    if unread or not any(mount.point == "/" for mount in found):
        text = f"has {unread} lines that cannot be understood" if unread else "does not say what is mounted on /"
        hint = "where such a file system lies is told by its device numbers alone"
        findings.append(Finding("mount-table", WARNING, where, text, hint))
    return tuple(found)


# Held against the files


def with_release(live: LiveFacts, release: str, source: str) -> LiveFacts:
    """The facts with a finding if uname tells another release than `release`, which `source` told."""
    told = live.release
    if told is None or told == release or {told, release} == {"11", "11.4"}:
        return live
    text = f"{UNAME} tells of release {told} ({_shown(live.kernel_version)}), {source} of {release}, which is taken"
    return replace(live, findings=(*live.findings, Finding("release-disagrees", WARNING, source, text)))


def with_displays(
    live: LiveFacts,
    crle: Crle,
    configs: Mapping[int, ConfigFile],
    again: Callable[[Abi], ConfigFile],
) -> LiveFacts:
    """The facts with crle's displays of the live files, each held against our own decoder's reading of the file.

    `again` reads a file anew: somebody may have changed it in between. A file that our decoder cannot read has a
    finding of its own already.
    """
    if not crle.present:
        return replace(live, findings=(*live.findings, crle_missing()))
    displays: dict[int, Display] = {}
    findings = list(live.findings)
    for bits in [bits for bits in configs if not live.bits or bits in live.bits]:
        abi = ABIS[bits]
        try:
            displays[bits] = crle.display(abi)
        except (CrleError, CommandError) as error:
            if configs[bits].config is not None or configs[bits].state is None:
                findings.append(Finding("crle-unreadable", WARNING, abi.config_path, f"crle does not show it: {error}"))
            continue
        difference = _difference(displays[bits], configs[bits]) and _difference(displays[bits], again(abi))
        if difference:
            text = f"crle shows {difference}: one of the two does not understand the file"
            hint = f"compare {CRLE} -c {abi.config_path} with memproxy-sol ldconfig show {abi.config_path}"
            findings.append(Finding("crle-disagrees", ERROR, abi.config_path, text, hint))
    return replace(live, displays=displays, findings=tuple(findings))


def crle_missing() -> Finding:
    """The host has no crle."""
    text = "is not on this system, so memproxy-sol reads and writes the runtime linker configurations alone"
    return Finding("crle-missing", WARNING, CRLE, text, "install the package that delivers crle")


def _difference(display: Display, file: ConfigFile) -> str:
    """How crle's display differs from our reading of the file; empty if it does not, or cannot be compared."""
    path = file.abi.config_path
    if file.state is None:
        return "" if display.version is None else "a file where none can be read"
    if display.version is None:
        return "no file where there is one"
    if file.config is None or any("\n" in variable.text for variable in file.config.environment or ()):
        return ""  # a display of several lines a value cannot be told from several values
    expected = crle_display.shown(file.config, path)
    if display.layout is None or expected.layout is None:
        expected = replace(expected, layout=display.layout)  # Solaris 10 shows no platform
    for name in ("version", "layout", "library_path", "trusted_directories", "environment", "dlflags", "reservation"):
        theirs, ours = getattr(display, name), getattr(expected, name)
        if theirs != ours:
            return f"another {name} than memproxy-sol reads ({_value(theirs)}, not {_value(ours)})"
    return "" if display == expected else "other tables than memproxy-sol reads"


def _value(value: object) -> str:
    if value is None:
        return "none"
    items = [getattr(item, "text", item) for item in value] if isinstance(value, tuple) else [value]
    return _shown(":".join(str(item) for item in items))


# What they forbid, and what is worth knowing


def obstacles(root: Root, live: LiveFacts, generations: str, written: Sequence[str]) -> tuple[Finding, ...]:
    """What the running system has against writing in the directories `written` and placing a generation.

    `generations` is the directory that generations go to.
    """
    found = list(live.findings)
    for directory in dict.fromkeys((generations, *written)):
        existing = _existing(root, directory)
        mount = live.mount_over(existing)
        if (mount is not None and mount.read_only) or _mounted_read_only(root, existing):
            hint = "choose another prefix, or mount it writable"
            if live.zone not in (None, "global"):
                hint = f"an immutable zone is booted for changes by zoneadm -z {live.zone} boot -w in the global zone"
            found.append(Finding("read-only", ERROR, directory, "lies on a file system that is read-only", hint))
    mount, config = live.mount_over(_existing(root, generations)), live.mount_over(root.resolve(CONFIG_DIRECTORY))
    if mount is not None and mount.volatile and not (config is not None and config.volatile):
        text = f"lies on {mount.point}, which the next boot loses, while {CONFIG_DIRECTORY} would go on naming it"
        hint = "choose a prefix on the file system of /var" + (", such as /var/memproxy" if live.smartos else "")
        found.append(Finding("prefix-volatile", ERROR, generations, text, hint))
    if live.zones:
        names = ", ".join(zone.name for zone in live.zones)
        text = f"the zones {names} have configurations of their own and are left alone"
        found.append(Finding("zones-untouched", NOTE, zones.INDEX, text, "run memproxy-sol in each that is to have it"))
    return tuple(found)


def _existing(root: Root, directory: str) -> str:
    """The deepest ancestor of `directory` (links resolved) that exists."""
    found = root.resolve(directory)
    while found != "/" and root.lstat(found) is None:
        found = os.path.dirname(found)
    return found


def _mounted_read_only(root: Root, path: str) -> bool:
    try:
        return bool(os.statvfs(root.host_path(path)).f_flag & os.ST_RDONLY)
    except OSError:
        return False

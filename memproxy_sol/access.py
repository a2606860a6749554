"""Access: whether every user can reach and read a file, and nobody but root can change it.

A preload object, or a directory on its path, that an ordinary user cannot read kills each of that user's
processes; one that somebody else can change gives that somebody every process of root. Both are judged
for each component of the path, links followed as the target system would follow them.

Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

import os
import shlex
import stat
import struct

from memproxy_sol.errors import HostError
from memproxy_sol.findings import ERROR, Finding
from memproxy_sol.root import Component, FileState, Root, kind_of

READ_FOR_ALL = 0o444
SEARCH_FOR_ALL = 0o111


class Groups:
    """Who besides root is in a group, by the tree's own passwd and group files."""

    def __init__(self, root: Root) -> None:
        self._members: dict[int, frozenset[str]] | None = None
        try:
            self._members = _read_groups(root.read("/etc/group"), root.read("/etc/passwd"))
        except HostError:
            self._members = None

    def others(self, gid: int) -> frozenset[str] | None:
        """Names of the members other than root; None if that cannot be told (no group file, unknown group)."""
        if self._members is None:
            return None
        return self._members.get(gid)


def judge(root: Root, path: str, noun: str, groups: Groups, kind: str = "file") -> tuple[Finding, ...]:
    """Findings on `path` and each component that leads to it; none if all is well.

    `noun` is the first word of the identifiers for the object itself (`library-missing`, `library-unreadable`,
    `library-insecure`, `library-not-a-file`); for the directories on the way they begin with `path-`.
    `kind` is `file` or `directory`: what the object has to be.
    """
    try:
        components = root.components(path)
        resolved = root.resolve(path)
        status = root.lstat(resolved)
    except HostError as error:
        return (Finding("path-loop", ERROR, path, error.what, error.hint or ""),)
    findings: list[Finding] = []
    for component in components:
        if component.path == resolved or stat.S_ISLNK(component.status.st_mode):
            continue
        if stat.S_ISDIR(component.status.st_mode):
            findings += _judge_one(root, component, "path", groups)
        else:
            text = f"is {kind_of(component.status.st_mode)} where a directory has to be"
            findings.append(Finding("path-not-a-directory", ERROR, component.path, text, aside(root, component.path)))
    if status is None:
        if not any(finding.identifier == "path-not-a-directory" for finding in findings):
            findings.append(Finding(f"{noun}-missing", ERROR, path, "does not exist"))
    elif (stat.S_ISDIR if kind == "directory" else stat.S_ISREG)(status.st_mode):
        findings += _judge_one(root, Component(resolved, status), noun, groups)
    else:
        text = f"is {kind_of(status.st_mode)}, not a {'directory' if kind == 'directory' else 'regular file'}"
        findings.append(Finding(f"{noun}-not-a-{kind}", ERROR, path, text, aside(root, path)))
    return tuple(findings)


def aside(root: Root, path: str) -> str:
    """The command that moves what stands in the way out of it; nothing is lost."""
    host = shlex.quote(root.host_path(path))
    return f"mv {host} {host}.aside, then install again"


def _judge_one(root: Root, component: Component, noun: str, groups: Groups) -> list[Finding]:
    findings = []
    status = component.status
    host = shlex.quote(root.host_path(component.path))
    if stat.S_ISDIR(status.st_mode):
        if status.st_mode & SEARCH_FOR_ALL != SEARCH_FOR_ALL:
            text = f"mode {stat.S_IMODE(status.st_mode):04o} does not let every user search it"
            findings.append(Finding(f"{noun}-unsearchable", ERROR, component.path, text, f"chmod a+x {host}"))
    elif status.st_mode & READ_FOR_ALL != READ_FOR_ALL:
        text = f"mode {stat.S_IMODE(status.st_mode):04o} does not let every user read it"
        findings.append(Finding(f"{noun}-unreadable", ERROR, component.path, text, f"chmod a+r {host}"))
    for text, hint in _insecure(root, component, groups):
        findings.append(Finding(f"{noun}-insecure", ERROR, component.path, text, hint.format(host=host)))
    return findings


def _insecure(root: Root, component: Component, groups: Groups) -> list[tuple[str, str]]:
    status = component.status
    found = []
    if status.st_uid != 0:
        found.append((f"belongs to user {status.st_uid}, not to root", "chown root {host}"))
    if status.st_mode & stat.S_IWOTH:
        found.append(("every user may change it", "chmod o-w {host}"))
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        others = groups.others(status.st_gid)
        if others is None:
            found.append((f"group {status.st_gid}, of unknown members, may change it", "chmod g-w {host}"))
        elif others:
            names = ", ".join(sorted(others)[:3])
            found.append(
                (f"group {status.st_gid} may change it, which has members besides root ({names})", "chmod g-w {host}")
            )
    if _acl_lets_others_write(root.host_path(component.path)):
        found.append(("an access control list lets others change it", "setfacl -b {host}"))
    return found


def _acl_lets_others_write(host_path: str) -> bool:
    """Whether a POSIX ACL grants write to a named user or group (Linux only; format of acl(5) in its attribute)."""
    getxattr = getattr(os, "getxattr", None)
    if getxattr is None:
        return False
    try:
        data = getxattr(host_path, "system.posix_acl_access", follow_symlinks=False)
    except OSError:
        return False
    named, mask = False, 0o7
    for tag, permissions, identity in struct.iter_unpack("<HHI", data[4 : 4 + (len(data) - 4) // 8 * 8]):
        if tag in (0x02, 0x08) and permissions & 2 and identity != 0:
            named = True
        elif tag == 0x10:
            mask = permissions
    return named and bool(mask & 2)


def _read_groups(group: FileState | None, passwd: FileState | None) -> dict[int, frozenset[str]] | None:
    if group is None:
        return None
    members: dict[int, set[str]] = {}
    for fields in _fields(group.data):
        if len(fields) >= 4 and fields[2].isdigit():
            members.setdefault(int(fields[2]), set()).update(filter(None, fields[3].split(",")))
    for fields in _fields(passwd.data if passwd else b""):
        if len(fields) >= 4 and fields[3].isdigit() and fields[2] != "0":
            members.setdefault(int(fields[3]), set()).add(fields[0])
    return {gid: frozenset(names - {"root"}) for gid, names in members.items()}


def _fields(data: bytes) -> list[list[str]]:
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    return [line.split(":") for line in lines if line and not line.startswith("#")]

"""Executable: what the kernel will report as the executable of a process that is started as a given program.

Links are followed, a script is its interpreter, and what isaexec(3C) starts lies in a subdirectory (reference
"solaris-native", section 2.6). Reads the tree, runs nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from memproxy_sol.errors import ExclusionError, MemproxyError
from memproxy_sol.root import Root, kind_of

USUAL_DIRECTORIES = (
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/gnu/bin",
    "/opt/local/bin",
    "/opt/ooce/bin",
)
"""Where the programs of an image are looked for by name: an image has no PATH."""

_ISA_DIRECTORIES = ("amd64", "sparcv9", "i86", "sparcv7")
_ISAEXEC = "/usr/lib/isaexec"
_HEAD = 1024
_MAX_INTERPRETERS = 5
"""Interpreters of interpreters; Linux allows four, Solaris none."""


@dataclass(frozen=True)
class Hop:
    """One reason why the reported name is another than the one that was typed."""

    kind: str
    """`link`, `interpreter`, `env` or `isaexec`."""
    path: str
    target: str

    def __str__(self) -> str:
        return {
            "link": "{0} leads through a symbolic link to {1}",
            "interpreter": "{0} is a script: its processes are those of its interpreter {1}, like every script of it",
            "env": "{0} starts {1}",
            "isaexec": "{0} is a wrapper (isaexec), it starts {1} or its sibling for another instruction set",
        }[self.kind].format(self.path, self.target)


@dataclass(frozen=True)
class Executable:
    """Where a program leads."""

    program: str
    """As it was asked for."""
    path: str
    """What the kernel will report: an absolute path; the bare name where no such program was found."""
    exists: bool
    hops: tuple[Hop, ...] = ()
    hard_links: tuple[str, ...] = ()
    """Other names of the same file in its directory: a process started by one of them has that name."""
    unseen_links: int = 0
    """Names of the same file that lie elsewhere."""
    secure: bool = False
    """Whether the file is set-user-id or set-group-id."""
    mode: int | None = None
    """st_mode of what `path` leads to."""

    @property
    def by_isaexec(self) -> bool:
        """Whether a wrapper chooses among several executables, of which `path` is one."""
        return any(hop.kind == "isaexec" for hop in self.hops)


def locate(root: Root, program: str, directories: Sequence[str] = USUAL_DIRECTORIES) -> Executable:
    """Where `program`, an absolute path or a bare name that is searched in `directories`, leads.

    ExclusionError for a directory or anything else that cannot be executed; HostError for a loop of links.
    """
    start = program if "/" in program else _search(root, program, directories)
    if start is None:
        return Executable(program, program, False)
    hops: list[Hop] = []
    path = _follow(root, start, hops)
    status = root.lstat(path)
    if status is None:
        return Executable(program, path, False, tuple(hops))
    if not stat.S_ISREG(status.st_mode):
        hint = "name an executable file" + (
            ", or all below it by a / at the end" if stat.S_ISDIR(status.st_mode) else ""
        )
        raise ExclusionError(f"is {kind_of(status.st_mode)}, not a program", where=program, hint=hint)
    for _ in range(_MAX_INTERPRETERS):
        words = _interpreter(root, path)
        if not words or not words[0].startswith("/"):
            break
        hops.append(Hop("interpreter", path, words[0]))
        path = _follow(root, words[0], hops)
        started = _started_by_env(words) if os.path.basename(words[0]) == "env" else None
        found = None if started is None else started if "/" in started else _search(root, started, directories)
        if found is not None:
            hops.append(Hop("env", words[0], found))
            path = _follow(root, found, hops)
    path = _isaexec(root, path, hops)
    final = root.lstat(path)
    if final is None:
        return Executable(program, path, False, tuple(hops))
    siblings = _siblings(root, path, final) if final.st_nlink > 1 else ()
    unseen = max(0, final.st_nlink - 1 - len(siblings))
    secure = bool(final.st_mode & (stat.S_ISUID | stat.S_ISGID))
    return Executable(program, path, True, tuple(hops), siblings, unseen, secure, final.st_mode)


def _search(root: Root, name: str, directories: Sequence[str]) -> str | None:
    for directory in directories:
        path = f"{directory.rstrip('/')}/{name}"
        status = root.stat(path) if directory.startswith("/") and "\0" not in path else None
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_mode & 0o111:
            return path
    return None


def _follow(root: Root, path: str, hops: list[Hop]) -> str:
    target = root.resolve(path)
    if target != os.path.normpath(path):
        hops.append(Hop("link", path, target))
    return target


def _interpreter(root: Root, path: str) -> list[str]:
    """The words of the script's first line behind `#!`; none if it is no script or may not be read."""
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(root.host_path(path), flags)
    except OSError:
        return []
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        head = os.read(descriptor, _HEAD) if regular else b""
    except OSError:
        return []
    finally:
        os.close(descriptor)
    if not head.startswith(b"#!"):
        return []
    return [os.fsdecode(word) for word in head[2:].split(b"\n", 1)[0].split()]


def _started_by_env(words: Sequence[str]) -> str | None:
    """What `#!/usr/bin/env [-S] [-i] [NAME=VALUE...] PROGRAM` starts."""
    return next((word for word in words[1:] if not word.startswith("-") and "=" not in word), None)


def _isaexec(root: Root, path: str, hops: list[Hop]) -> str:
    wrapper, status = root.stat(_ISAEXEC), root.lstat(path)
    if wrapper is None or status is None or path == _ISAEXEC:
        return path
    if (wrapper.st_dev, wrapper.st_ino) != (status.st_dev, status.st_ino):
        return path
    directory, name = os.path.split(path)
    for subdirectory in _ISA_DIRECTORIES:
        target = f"{directory}/{subdirectory}/{name}"
        if root.exists(target):
            hops.append(Hop("isaexec", path, target))
            return _follow(root, target, hops)
    return path


def _siblings(root: Root, path: str, status: os.stat_result) -> tuple[str, ...]:
    directory, name = os.path.split(path)
    others = []
    for other in root.names(directory):
        there = root.lstat(f"{directory.rstrip('/')}/{other}") if other != name else None
        if there is not None and (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
            others.append(f"{directory.rstrip('/')}/{other}")
    return tuple(others)


def reported(root: Root, path: str) -> str:
    """The path that the kernel reports for the program at `path`; `path` itself where that cannot be told.

    Links are resolved, a script is its interpreter; a directory is given with its links resolved.
    """
    try:
        status = root.stat(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            return root.resolve(path)
        executable = locate(root, path)
    except MemproxyError:
        return path
    return executable.path if executable.exists else path

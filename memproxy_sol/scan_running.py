"""Running: what live processes run and have mapped, by /proc alone: nothing is attached to, nothing is stopped.

Processes that end meanwhile are left out, those of other users that may not be looked at are counted. What a preload
has brought is no choice of the program: libmemproxy, what lies beside it, what ld.so.preload or LD_PRELOAD names.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from memproxy_sol import process_linux, process_solaris
from memproxy_sol.errors import HostError
from memproxy_sol.route_record import LIBRARY

_WORDS = re.compile(r"[\s:]+")


@dataclass
class Running:
    """The processes of a host by program."""

    programs: dict[str, list[int]] = field(default_factory=dict)
    """Paths that the kernel reports, with their processes."""
    mapped: dict[str, set[str]] = field(default_factory=dict)
    """By program, the files that any of its processes has mapped, without those that a preload brought."""
    files: dict[str, str] = field(default_factory=dict)
    """Each path with where it can be read."""
    unreadable: int = 0


def read(directory: str = "/proc", kernel: str | None = None) -> Running:
    """The processes below `directory`. HostError if there is no /proc."""
    linux = (kernel or os.uname().sysname) == "Linux"
    try:
        numbers = sorted(int(name) for name in os.listdir(directory) if name.isascii() and name.isdigit())
    except OSError as error:
        text = f"cannot be listed: {error.strerror}"
        raise HostError(text, where=directory, hint="mount the process file system there") from error
    seen = _linux if linux else _solaris
    running = Running()
    for pid in numbers:
        try:
            found = seen(directory, pid)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):
                running.unreadable += 1
            continue
        if found is None:
            continue  # a process of the kernel, or one that has ended
        program, mapped, place = found
        running.programs.setdefault(program, []).append(pid)
        running.mapped.setdefault(program, set()).update(path for path in mapped if path != program)
        running.files.setdefault(program, f"{directory}/{pid}/exe" if linux else f"{directory}/{pid}/object/a.out")
        for path in mapped:
            if path != program:
                running.files.setdefault(path, place(path))
    return running


def _linux(directory: str, pid: int) -> tuple[str, list[str], Callable[[str], str]] | None:
    place = f"{directory}/{pid}"
    try:
        program = process_linux.without_suffix(os.readlink(f"{place}/exe"))
    except FileNotFoundError:
        return None
    mapped = process_linux.mapped_files(place)
    own = os.readlink(f"{directory}/self/ns/mnt") == os.readlink(f"{place}/ns/mnt")
    preloads = _preload_names(f"{place}/root/etc/ld.so.preload", process_linux.environment(place))
    return program, _chosen(mapped, preloads), (lambda path: path) if own else (lambda path: f"{place}/root{path}")


def _solaris(directory: str, pid: int) -> tuple[str, list[str], Callable[[str], str]] | None:
    place = f"{directory}/{pid}"
    objects = process_solaris.mapped_files(place)
    program = objects.pop("a.out", "")
    if not program:
        return None
    return program, _chosen(list(objects.values()), set()), lambda path: path


def _preload_names(path: str, environment: tuple[str, ...]) -> set[str]:
    texts = [value for name, _, value in (text.partition("=") for text in environment) if name == "LD_PRELOAD"]
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            texts += [line.partition("#")[0] for line in stream.read(1 << 20).splitlines()]
    except OSError:
        pass
    return {os.path.basename(word) for text in texts for word in _WORDS.split(text) if word}


def _chosen(mapped: list[str], preloads: set[str]) -> list[str]:
    ours = {os.path.dirname(path) for path in mapped if os.path.basename(path) == LIBRARY}
    return [path for path in mapped if os.path.dirname(path) not in ours and not _is_preload(path, preloads)]


def _is_preload(path: str, preloads: set[str]) -> bool:
    """By name: $LIB, and links to the file that is mapped, make the path another."""
    name = os.path.basename(path)
    return any(name == word or name.startswith(f"{word}.") for word in preloads)

"""Mappings: which running processes of this machine have files of a directory mapped."""

from __future__ import annotations

import os

from memproxy_sol.root import Root


def processes_that_map(root: Root, directory: str) -> tuple[int, ...] | None:
    """Process ids, ascending, that map any file below the target's `directory`; None if it cannot be told.

    Files are compared by device and inode in Linux's /proc/PID/maps. Where that does not exist, or a process's
    map may not be read, nothing is proven for an image that could be running as a zone or chroot: None.
    """
    files = _inodes(root.host_path(directory))
    if not files:
        return ()
    if not os.path.exists("/proc/self/maps"):
        return None
    # Overlay and copy-on-write file systems show another device in the map than in stat(2): the name counts, too.
    named = os.fsencode(directory) + b"/"
    users = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/maps", "rb") as maps:
                lines = maps.read().split(b"\n")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            return None
        if any(_file_of(line) in files or named in line for line in lines):
            users.append(int(name))
    return tuple(sorted(users))


def _inodes(host_directory: str) -> set[tuple[int, int, int]]:
    found = set()
    for top, _, names in os.walk(host_directory):
        for name in names:
            status = os.lstat(os.path.join(top, name))
            found.add((os.major(status.st_dev), os.minor(status.st_dev), status.st_ino))
    return found


def _file_of(line: bytes) -> tuple[int, int, int] | None:
    fields = line.split(None, 5)
    if len(fields) < 5:
        return None
    major, _, minor = fields[3].partition(b":")
    return (int(major, 16), int(minor, 16), int(fields[4]))

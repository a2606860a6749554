"""Mappings: which running processes of this machine have files of a generation mapped."""

from __future__ import annotations

import os

from memproxy_sol.root import Root


def processes_that_map(root: Root, directory: str) -> tuple[int, ...] | None:
    """Process ids, ascending, that map a file below the Solaris target's `directory`; None if it cannot be told.

    Another kernel runs no Solaris program, so there the answer is: none. On Solaris itself an image may be the
    root of a running zone; the links below /proc/PID/path name every mapped object (proc(5)).
    """
    if os.uname().sysname != "SunOS":
        return ()
    prefix = root.host_path(directory) + "/"
    users = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if any(target.startswith(prefix) for target in _objects(pid)):
                users.append(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        except OSError:
            return None
    return tuple(sorted(users))


def _objects(pid: str) -> list[str]:
    directory = f"/proc/{pid}/path"
    found = []
    for name in os.listdir(directory):
        try:
            found.append(os.readlink(f"{directory}/{name}"))
        except FileNotFoundError:
            continue  # an object without a name
    return found

"""Files that a scan looks at: all regular files below directories of a tree, and what each of them carries.

No link of a directory is followed, so that none can lead in a circle; a link of a file is, inside of the tree. What has
gone, may not be read, or is damaged is a Problem and stops nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from memproxy_sol import carried, workers
from memproxy_sol.carried import Carried
from memproxy_sol.errors import ElfError, HostError, Interrupted
from memproxy_sol.executable import USUAL_DIRECTORIES
from memproxy_sol.root import Root, kind_of

DIRECTORIES = (
    *USUAL_DIRECTORIES,
    *("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec"),
    *("/usr/local", "/usr/games", "/usr/sfw", "/usr/xpg4", "/usr/xpg6", "/usr/ccs", "/opt"),
)
"""Where programs and libraries lie, on either kind of host."""

PASSED_OVER = frozenset(
    (
        "/proc",
        "/sys",
        "/dev",
        "/system/object",
        "/system/contract",
        "/usr/lib/debug",
        "/usr/lib/modules",
        "/lib/modules",
    )
)
"""Kernels' own trees, and debugging information and modules, which no process runs."""

DENIED, VANISHED, DAMAGED, KILLED, LINK = "denied", "vanished", "damaged", "killed", "link"


@dataclass(frozen=True)
class Problem:
    """A file or directory that could not be looked at."""

    path: str
    kind: str
    """DENIED (or another refusal of the system), VANISHED, DAMAGED, LINK (it leads in a circle, or into what is closed
    to us), or KILLED: the process that looked at it died."""
    text: str


@dataclass
class Listing:
    """What lies in a tree."""

    files: dict[str, str] = field(default_factory=dict)
    """Paths of regular files as the tree sees them, links resolved, and where they lie on this machine."""
    problems: list[Problem] = field(default_factory=list)
    special: int = 0
    """Devices, FIFOs, sockets."""


def walk(root: Root, tops: Iterable[str], told: Callable[[int], None] = lambda count: None) -> Listing:
    """All files in and below `tops`, absolute paths of the tree: directories, or single files.

    `told` hears now and then how many there are so far.
    """
    listing, seen = Listing(), set[str]()
    pending = []
    for top in tops:
        path = root.resolve(top)
        status = root.lstat(path)
        if status is None:
            continue
        if stat.S_ISDIR(status.st_mode):
            pending.append(path)
        elif stat.S_ISREG(status.st_mode):
            listing.files[path] = root.host_path(path)
        else:
            raise HostError(f"is {kind_of(status.st_mode)}, not a directory or a program", where=top)
    asked = frozenset(pending)
    while pending:
        directory = pending.pop()
        if directory in seen or (directory in PASSED_OVER and directory not in asked):
            continue
        seen.add(directory)
        try:
            with os.scandir(root.host_path(directory)) as entries:
                for entry in entries:
                    _sort(root, f"{directory.rstrip('/')}/{entry.name}", entry, listing, pending)
        except OSError as error:
            listing.problems.append(_refused(directory, error))
        told(len(listing.files))
    return listing


def _sort(root: Root, path: str, entry: os.DirEntry[str], listing: Listing, pending: list[str]) -> None:
    try:
        if entry.is_symlink():
            target = root.resolve(path)
            status = root.lstat(target)
            if status is not None and stat.S_ISREG(status.st_mode):
                listing.files.setdefault(target, root.host_path(target))
        elif entry.is_dir(follow_symlinks=False):
            pending.append(path)
        elif entry.is_file(follow_symlinks=False):
            listing.files[path] = entry.path
        else:
            listing.special += 1
    except OSError as error:
        listing.problems.append(_refused(path, error))
    except HostError as error:
        listing.problems.append(Problem(path, LINK, error.what))


def look(
    files: dict[str, str], told: Callable[[int], None] = lambda count: None, count: int | None = None
) -> tuple[dict[str, Carried], list[Problem]]:
    """What each file carries, as far as it is a program or a shared object. `told` hears how many are done."""
    found: dict[str, Carried] = {}
    problems: list[Problem] = []
    with contextlib.closing(workers.each(_look, list(files.items()), count)) as results:
        for done, ((path, _), result) in enumerate(results, start=1):
            if isinstance(result, Carried):
                found[path] = result
            elif isinstance(result, workers.Lost):
                problems.append(Problem(path, KILLED, "the process that read it was killed"))
            elif result is not None:
                problems.append(Problem(path, *result))
            told(done)
    return found, sorted(problems, key=lambda problem: problem.path)


def _look(item: tuple[str, str]) -> Carried | tuple[str, str] | None:
    """What a worker does; a value in any case."""
    try:
        return carried.look(item[1])
    except ElfError as error:
        return DAMAGED, error.what
    except OSError as error:
        problem = _refused(item[0], error)
        return problem.kind, problem.text
    except Interrupted:
        raise
    except Exception as error:  # of one file of tens of thousands
        return DAMAGED, f"{type(error).__name__}: {error}"


def _refused(path: str, error: OSError) -> Problem:
    gone = isinstance(error, (FileNotFoundError, NotADirectoryError, ProcessLookupError))
    return Problem(path, VANISHED if gone else DENIED, error.strerror or str(error))

"""Journal: carries a plan out, step by step, such that it can be taken back whenever it is cut short.

The states of a change, told by its file STATE_DIRECTORY/changes/NNNNNN.jsonl:

  no file         nothing has been changed
  open            the first line (all steps, with what each file was before and will be after) and one `begin`
                  line for each step taken up are on disk. Whoever finds it may not know whether the last step
                  that was begun had its effect: undoing looks at what is there
  complete        the last step is done; what the plan leaves for afterwards (deleting a generation that was
                  set aside) may still be under way and can be repeated
  trial           (install --try) the last step is done, and the configuration files are on trial: links that lead to
                  nothing after a reboot (pending.py). What comes of it is the guard's to decide (guard.py): it alone
                  writes `complete`, or `expired` when it has put the former files back. Without a guard a trial is
                  taken back
  expired         the configuration files are the former ones; all other steps are still to be taken back
  undone          every step that was begun has been taken back, in reverse order

A line is `CRC32 JSON`, written and fsynced before what it announces. A torn last line announces nothing that has
happened. The directories of the journal itself, where they are missing, appear together with its first line in one
rename, and go in one rename. Every replacement of a file is: sibling in the same directory, fsync, read back, rename,
fsync of the directory, so no instant exists at which a name leads to half a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from memproxy_sol import access, files, pending
from memproxy_sol import generation as generations
from memproxy_sol import steps as step_values
from memproxy_sol.abi import ABIS
from memproxy_sol.errors import ChangeError, HostError, SmfError
from memproxy_sol.pending import Keeper
from memproxy_sol.record import STATE_DIRECTORY, checked_path
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import (
    ChangeService,
    MakeDirectory,
    MendMember,
    PlaceGeneration,
    RemoveGeneration,
    ReplaceFile,
    Step,
    TryFile,
)

CHANGES = f"{STATE_DIRECTORY}/changes"
_SUFFIX = ".jsonl"
_UNNAMED = ".memproxy-sol-state"
_OWN_NAME = re.compile(r"[0-9]{6}\.jsonl|installed\.json")
"""All that our own state holds."""

MAX_JOURNAL = 1 << 30
"""Bytes of a journal that are read: configuration files before and after, never libraries."""


class Services(Protocol):
    """What carries the service's steps out on a running system (services.py); without one just the file changes."""

    def do(self, step: ChangeService) -> None:
        """Bring SMF to `step.after`; SmfError if it cannot be."""

    def undo(self, step: ChangeService) -> None:
        """Bring SMF to `step.before`, as far as it lets us."""


@dataclass(frozen=True)
class Change:
    """One change as its journal tells it."""

    number: int
    what: str
    """The command: `install`, `uninstall`…"""
    started: str
    """When, ISO 8601, UTC."""
    steps: tuple[Step, ...]
    begun: int
    """How many of the steps were taken up."""
    state: str
    """`open`, `complete`, `trial`, `expired` or `undone`."""
    directories: tuple[str, ...]
    """Directories made for the journal itself."""
    leave_nothing: bool
    """Whether the journal and the directories go when the change is complete (uninstall --purge)."""
    cleanup: tuple[str, ...]
    """Directories that we made once, to be removed when empty, deepest first."""


def history(root: Root) -> tuple[Change, ...]:
    """All changes of the host, oldest first. HostError for a journal whose first line is damaged."""
    changes = (_read(root, f"{CHANGES}/{number:06d}{_SUFFIX}", number) for number in _numbers(root))
    return tuple(change for change in changes if change is not None)


def _numbers(root: Root) -> list[int]:
    return [int(name[:6]) for name in root.names(CHANGES) if re.fullmatch(r"[0-9]{6}\.jsonl", name)]


def unfinished(root: Root) -> Change | None:
    """The change that was cut short or is on trial, if there is one. Only the last can be: it is mended first."""
    changes = (_read(root, f"{CHANGES}/{number:06d}{_SUFFIX}", number) for number in reversed(_numbers(root)))
    last = next((change for change in changes if change is not None), None)
    if last is None or last.state == "undone":
        return None
    leaves = last.leave_nothing or pending.has_litter(root, _tried(last))
    return last if last.state != "complete" or leaves else None


def _tried(change: Change) -> list[TryFile]:
    return [step for step in change.steps if isinstance(step, TryFile)]


def apply(
    root: Root,
    what: str,
    started: str,
    steps: Sequence[Step],
    *,
    leave_nothing: bool = False,
    cleanup: Sequence[str] = (),
    progress: Callable[[str], None] = lambda text: None,
    keeper: Keeper | None = None,
    services: Services | None = None,
) -> None:
    """Carry `steps` out. On any failure, Ctrl-C included, everything is taken back; ChangeError says what was wrong.

    With steps that try a file the change is on `trial` afterwards; `keeper` guards it.
    """
    try:
        _apply(root, what, started, steps, leave_nothing, cleanup, progress, keeper, services)
    except SmfError as error:
        raise ChangeError(f"{error.what}; {_outcome(root, what)}", where=error.where, hint=error.hint) from error
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else root.path
        hint = "memproxy-sol is run as root, as a rule" if isinstance(error, PermissionError) else None
        raise ChangeError(f"{error.strerror or error}; {_outcome(root, what)}", where=place, hint=hint) from error


def _outcome(root: Root, what: str) -> str:
    """What a failed change left behind, in words."""
    try:
        left = unfinished(root)
    except HostError:
        left = None
    if left is None:
        return f"the {what} was taken back and nothing is changed"
    if left.state == "complete":
        return f"the {what} is complete, but left something to be cleaned up: type the command again"
    return f"the {what} could not be taken back now; the next install or uninstall does it"


def _apply(
    root: Root,
    what: str,
    started: str,
    steps: Sequence[Step],
    leave_nothing: bool,
    cleanup: Sequence[str],
    progress: Callable[[str], None],
    keeper: Keeper | None,
    services: Services | None,
) -> None:
    sweep(root)
    directories = step_values.missing_directories(root.exists, root.resolve(CHANGES))
    steps = [step for step in steps if not (isinstance(step, MakeDirectory) and step.path in directories)]
    number = max(_numbers(root), default=0) + 1
    change = Change(number, what, started, tuple(steps), 0, "open", directories, leave_nothing, tuple(cleanup))
    path = f"{CHANGES}/{number:06d}{_SUFFIX}"
    _open(root, change, path)
    begun = 0
    tried = _tried(change)
    try:
        for step in steps:
            progress(str(step))
            if tried and step is tried[0]:
                assert keeper is not None, "nothing is tried without a guard"
                keeper.arm(number, root.host_path(path), tried)
            _append(root.host_path(path), {"begin": begun})
            begun += 1
            _do(root, step, services)
            if keeper is not None and isinstance(step, TryFile):
                keeper.go_live(step)
        _append(root.host_path(path), {"state": "trial" if tried else "complete"})
    except BaseException:
        if keeper is not None:
            keeper.stand_down()
        _undo(root, change, begun, services)
        raise
    if not tried:
        _finish(root, change)


def recover(root: Root, change: Change, services: Services | None = None) -> str:
    """Take back the unfinished `change`, or finish what a complete one left; returns what was done, in words.

    The guard of a trial is ended first: whether it is time for that is the caller's to decide.
    """
    if _tried(change):
        pending.end_guard(root)
    if change.state == "complete":
        _finish(root, change)
        return f"change {change.number} ({change.what}) was complete; what it had left has been cleaned up"
    _undo(root, change, change.begun, services)
    why = {"open": "had been cut short", "trial": "was on trial and is not confirmed"}
    reason = why.get(change.state, "was tried and not confirmed in time")
    return f"change {change.number} ({change.what}), begun {change.started}, {reason} and has been taken back"


def sweep(root: Root) -> None:
    """Remove what a change left that was killed before its journal, or after its end, had a name."""
    for directory in _ancestors(root.resolve(STATE_DIRECTORY)):
        host = root.host_path(f"{directory.rstrip('/')}/{_UNNAMED}")
        if all(_OWN_NAME.fullmatch(name) for _, _, names in os.walk(host) for name in names):
            shutil.rmtree(host, ignore_errors=True)


def _ancestors(path: str) -> list[str]:
    found = []
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        found.append(path)
    return found


def _open(root: Root, change: Change, path: str) -> None:
    """Put the first line of the journal on disk, with the directories that it needs."""
    opening = {
        "change": change.number,
        "what": change.what,
        "started": change.started,
        "steps": [step_values.to_json(step) for step in change.steps],
        "directories": list(change.directories),
        "leave_nothing": change.leave_nothing,
        "cleanup": list(change.cleanup),
    }
    if not change.directories:
        _append(root.host_path(path), opening)
        return
    top = change.directories[0]
    unnamed = f"{top.rpartition('/')[0]}/{_UNNAMED}"
    try:
        for directory in change.directories:
            files.make_directory(
                root, unnamed + directory[len(top) :], 0o700 if directory.endswith("/changes") else 0o755
            )
        _append(root.host_path(unnamed + root.resolve(path)[len(top) :]), opening)
        os.rename(root.host_path(unnamed), root.host_path(top))
    except BaseException:
        sweep(root)
        raise
    files.sync_directory(os.path.dirname(root.host_path(top)))


def _close(root: Root, cleanup: Iterable[str]) -> None:
    """Take the journal and all of our own state away, and the directories of `cleanup` that are empty then."""
    state = root.resolve(STATE_DIRECTORY)
    cleanup = list(cleanup)
    files.remove_empty(root, [directory for directory in cleanup if not f"{state}/".startswith(f"{directory}/")])
    top = state
    while (parent := top.rpartition("/")[0]) in cleanup and root.names(parent) == (top.rpartition("/")[2],):
        top = parent
    unnamed = root.host_path(f"{top.rpartition('/')[0]}/{_UNNAMED}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(root.host_path(top), unnamed)
        files.sync_directory(os.path.dirname(unnamed))
    shutil.rmtree(unnamed, ignore_errors=True)
    files.remove_empty(root, cleanup)


def _read(root: Root, path: str, number: int) -> Change | None:
    state = root.read(path, limit=MAX_JOURNAL)
    lines = [] if state is None else [_line(line) for line in state.data.split(b"\n") if line]
    if state is not None and (not lines or (lines[0] is None and len(lines) == 1)):
        return None  # torn before the first line was whole: nothing had been done
    try:
        first, rest = lines[0], [line for line in lines[1:] if line is not None]
        if first is None:
            raise ValueError("the first line")
        return Change(
            number=number,
            what=str(first["what"]),
            started=str(first["started"]),
            steps=tuple(step_values.from_json(value) for value in first["steps"]),
            begun=sum(1 for line in rest if "begin" in line),
            state=_state([str(line["state"]) for line in rest if "state" in line]),
            directories=tuple(checked_path(value) for value in first["directories"]),
            leave_nothing=bool(first["leave_nothing"]),
            cleanup=tuple(checked_path(value) for value in first["cleanup"]),
        )
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise HostError(f"is damaged: {error!r}", where=path, hint=access.aside(root, path)) from error


def _state(told: Sequence[str]) -> str:
    """What the lines of a journal come to. Of the guard's words the first holds: it says nothing after a verdict."""
    if "undone" in told:
        return "undone"
    return next((state for state in told if state != "trial"), told[0] if told else "open")


def _line(line: bytes) -> dict[str, Any] | None:
    """The value of a line, None for a torn one: what it was to announce had not begun."""
    checksum, _, text = line.partition(b" ")
    try:
        value = json.loads(text) if int(checksum, 16) == zlib.crc32(text) else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def line(value: dict[str, Any]) -> bytes:
    """A line of a journal."""
    text = json.dumps(value, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _append(host: str, value: dict[str, Any]) -> None:
    new = not os.path.exists(host)
    descriptor = os.open(host, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # A torn line must not swallow the one that follows it.
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        files.write_all(descriptor, (b"\n" if torn else b"") + line(value))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        files.sync_directory(os.path.dirname(host))


def _do(root: Root, step: Step, services: Services | None = None) -> None:
    if isinstance(step, ChangeService):
        _change_service(root, step, services)
    elif isinstance(step, MakeDirectory):
        files.make_directory(root, step.path, step.mode)
    elif isinstance(step, PlaceGeneration):
        _place_generation(root, step)
    elif isinstance(step, (ReplaceFile, MendMember)):
        files.put(root, step.path, step.after)
    elif isinstance(step, TryFile):
        pending.prepare(root, step)
    else:
        os.rename(root.host_path(step.directory), root.host_path(step.aside))
        files.sync_directory(os.path.dirname(root.host_path(step.directory)))


def _change_service(root: Root, step: ChangeService, services: Services | None, back: bool = False) -> None:
    if services is not None:
        (services.undo if back else services.do)(step)
        return
    # Not the running system, as when it is mended from another boot environment: its next boot reads the file.
    wanted = (step.before if back else step.after).manifest
    if root.read(step.path) != wanted:
        files.put(root, step.path, wanted)


def _undo(root: Root, change: Change, begun: int, services: Services | None = None) -> None:
    """Take back the first `begun` steps in reverse; each looks at what is there: the last may not have happened."""
    for step in reversed(change.steps[:begun]):
        _undo_step(root, step, services)
    if _tried(change):
        pending.clear_run(root)
    path = f"{CHANGES}/{change.number:06d}{_SUFFIX}"
    if change.directories:
        # The first change of this host: without it there would be no journal at all.
        _close(root, reversed(change.directories))
    elif root.exists(path):
        _append(root.host_path(path), {"state": "undone"})


def _undo_step(root: Root, step: Step, services: Services | None = None) -> None:
    if isinstance(step, ChangeService):
        _change_service(root, step, services, back=True)
        return
    host = root.host_path(step.directory if isinstance(step, (PlaceGeneration, RemoveGeneration)) else step.path)
    if isinstance(step, MakeDirectory):
        files.remove_empty(root, [step.path])
    elif isinstance(step, PlaceGeneration):
        # Whatever the journal says: what a configuration names stays.
        for name in (_partial(host), *(() if _is_named(root, step.directory) else (host,))):
            if os.path.isdir(name):
                shutil.rmtree(name)
                files.sync_directory(os.path.dirname(name))
    elif isinstance(step, TryFile):
        pending.take_back(root, step)
    elif isinstance(step, MendMember):
        pass  # the content is right, whoever wrote it
    elif isinstance(step, RemoveGeneration):
        if os.path.isdir(root.host_path(step.aside)):
            os.rename(root.host_path(step.aside), host)
            files.sync_directory(os.path.dirname(host))
    else:
        now = root.read(step.path) if os.path.lexists(host) else None
        if now == step.after and now != step.before:
            files.put(root, step.path, step.before)


def _is_named(root: Root, directory: str) -> bool:
    """Whether a configuration file of the tree names a generation."""
    states = (root.read(abi.config_path) for abi in ABIS.values())
    return any(os.fsencode(directory) in state.data for state in states if state is not None)


def _finish(root: Root, change: Change) -> None:
    """What a complete change leaves for afterwards; may be repeated."""
    for step in change.steps:
        if isinstance(step, RemoveGeneration):
            files.discard(root.host_path(step.aside))
            shutil.rmtree(root.host_path(step.aside), ignore_errors=True)
        elif isinstance(step, TryFile):
            pending.clear(root, step)
    if _tried(change):
        pending.clear_run(root)
    if change.leave_nothing:
        _close(root, [*change.cleanup, *reversed(change.directories)])


def _place_generation(root: Root, step: PlaceGeneration) -> None:
    assert step.generation is not None, "a step from a journal can only be undone"
    host = root.host_path(step.directory)
    partial = _partial(host)
    if os.path.isdir(partial):
        shutil.rmtree(partial)
    made = [partial, *(os.path.join(partial, name) for name in step.generation.subdirectories)]
    for directory in made:
        os.mkdir(directory)
        os.chmod(directory, generations.DIRECTORY_MODE)
        os.chown(directory, 0, 0)
    for member in step.generation.members:
        files.write_new(os.path.join(partial, member.name), FileState(member.data, generations.FILE_MODE, 0, 0))
    for directory in reversed(made):
        files.sync_directory(directory)
    os.rename(partial, host)
    files.sync_directory(os.path.dirname(host))


def _partial(host: str) -> str:
    parent, name = os.path.split(host)
    return os.path.join(parent, f".{name}.partial")

"""Journal: carries a plan out, step by step, such that it can be taken back whenever it is cut short.

The states of a change, told by its file STATE_DIRECTORY/changes/NNNNNN.jsonl:

  no file         nothing has been changed
  open            the first line (all steps, with what each file was before and will be after) and one `begin`
                  line for each step taken up are on disk. Whoever finds it may not know whether the last step
                  that was begun had its effect: undoing looks at what is there
  staged          (install --first-boot-trial, of an image) the last step is done, but the configuration files are as
                  they were: what they are to become lies beside them, for the first boot (first_boot.py), which makes
                  it `trial`
  complete        the last step is done; what the plan leaves for afterwards (deleting a generation that was
                  set aside) may still be under way and can be repeated
  trial           (install --try) the last step is done, and the configuration files are on trial: links that lead to
                  nothing after a reboot (pending.py). What comes of it is the guard's to decide (guard.py): it alone
                  writes `complete`, or `expired` when it has put the former files back. Without a guard a trial is
                  taken back. The boot service has no guard: it is done in an instant, or was cut short
  expired         the configuration files are the former ones; all other steps are still to be taken back
  undone          every step that was begun has been taken back, in reverse order

The journals are written and read by changes.py, their format is docs/journal.md. The directories of the journal
itself, where they are missing, appear together with its first line in one rename, and go in one rename. Every
replacement of a file is: sibling in the same directory, fsync, read back, rename, fsync of the directory, so no instant
exists at which a name leads to half a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from memproxy_sol import actor, changes, files, lock, pending, signals, systemd_unit
from memproxy_sol import generation as generations
from memproxy_sol import steps as step_values
from memproxy_sol.abi import CONFIGURATIONS
from memproxy_sol.changes import CHANGES, Change, history, line, unfinished
from memproxy_sol.errors import ChangeError, HostError, Interrupted, ServiceError
from memproxy_sol.exclusions import LIST_PATH
from memproxy_sol.pending import Keeper
from memproxy_sol.record import STATE_DIRECTORY
from memproxy_sol.root import MAX_READ, FileState, Root
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

__all__ = ["CHANGES", "Change", "apply", "history", "line", "recover", "sweep", "unfinished"]

_UNNAMED = ".memproxy-sol-state"
_OWN_NAME = re.compile(r"[0-9]{6}\.jsonl|installed\.json")
"""All that our own state holds."""


class Services(Protocol):
    """What carries the service's steps out on a running system (services.py); without one just the file changes."""

    def do(self, step: ChangeService) -> None:
        """Bring the service to `step.after`; ServiceError if it cannot be."""

    def undo(self, step: ChangeService) -> None:
        """Bring the service to `step.before`, as far as that can be."""


Ready = Callable[[tuple[Step, ...]], Sequence[Step]]
"""Told the steps that are left, answers what shall be done instead: the same files, with contents that only now are
known, or fewer. What it raises takes the change back."""


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
    ready: Ready | None = None,
    staged: bool = False,
) -> None:
    """Carry `steps` out. On any failure or signal everything is taken back; ChangeError or Interrupted says so.

    With steps that try a file the change is on `trial` afterwards; `keeper` guards it. `ready` is called once, before
    the first runtime linker configuration is touched, with the steps that are left, and answers what they shall be.
    With `staged` files that are to be tried are laid beside the live ones, for the next boot of the image to try.
    """
    is_done = False
    try:
        # No signal cuts a step or the undo in two: they wait, and are looked for between the steps.
        with signals.caught(), signals.deferred():
            _apply(root, what, started, steps, leave_nothing, cleanup, progress, keeper, services, ready, staged)
            is_done = True
    except Interrupted as error:
        outcome = f"the {what} was done before" if is_done else _outcome(root, what)
        raise Interrupted(error.number, outcome) from None
    except ServiceError as error:
        raise ChangeError(f"{error.what}; {_outcome(root, what)}", where=error.where, hint=error.hint) from error
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else root.path
        hint = "memproxy-sol is run as root, as a rule" if isinstance(error, PermissionError) else None
        if error.errno == errno.EPERM and os.geteuid() == 0:
            hint = "it or its directory may be marked immutable (on Linux lsattr shows it): take that away first"
        if error.errno in (errno.EBUSY, errno.EXDEV):
            hint = "something is mounted there: umount it, and type the command again"
        raise ChangeError(f"{error.strerror or error}; {_outcome(root, what)}", where=place, hint=hint) from error


def _outcome(root: Root, what: str) -> str:
    """What a failed change left behind, in words."""
    try:
        left = unfinished(root)
    except HostError:
        return f"whether the {what} was taken back cannot be told; look at memproxy-sol history"
    if left is None:
        return f"the {what} was taken back and nothing is changed"
    if left.state == "complete":
        return f"the {what} is complete, but left something to be cleaned up: type the command again"
    return f"the {what} could not be taken back now; the next install, uninstall or rollback does it"


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
    ready: Ready | None,
    staged: bool,
) -> None:
    sweep(root)
    directories = files.missing_directories(root.exists, root.resolve(CHANGES))
    steps = [step for step in steps if not (isinstance(step, MakeDirectory) and step.path in directories)]
    number = max(changes.numbers(root), default=0) + 1
    who = actor.current()
    change = Change(
        number,
        what,
        started,
        tuple(steps),
        0,
        "open",
        directories,
        leave_nothing,
        tuple(cleanup),
        who.user,
        who.origin,
        actor.process(os.getpid()) or "",
    )
    _check(steps)
    _refuse_others(root)
    path = change.path
    _open(root, change, path)
    _log(root, change, "begun", who)
    begun = 0
    try:
        tried: list[TryFile] = []
        while begun < len(change.steps):
            step = change.steps[begun]
            signals.check()
            if ready is not None and _is_configuration(step):
                left, ready = tuple(ready(change.steps[begun:])), None
                _check(left)
                changes.append(root.host_path(path), changes.amendment(begun, left))
                change = replace(change, steps=(*change.steps[:begun], *left))
                continue
            _show(progress, step)
            if not tried and isinstance(step, TryFile):
                tried = changes.tried(change)
                assert staged or keeper is not None, "nothing is tried without a guard"
                if keeper is not None:
                    keeper.arm(number, root.host_path(path), tried)
            changes.append(root.host_path(path), {"begin": begun})
            begun += 1
            if staged and isinstance(step, TryFile):
                pending.stage(root, step)
            else:
                _do(root, step, services)
            if keeper is not None and isinstance(step, TryFile):
                keeper.go_live(step)
        signals.check()
        state = changes.COMPLETE if not tried else changes.STAGED if staged else changes.TRIAL
        changes.append(root.host_path(path), {"state": state})
    except BaseException:
        if keeper is not None:
            keeper.stand_down()
        _undo(root, change, begun, services)
        _log(root, change, "taken back", who)
        raise
    _log(root, change, "on trial" if state == changes.TRIAL else state, who)
    if not tried:
        _finish(root, change)


def _refuse_others(root: Root) -> None:
    """HostError where the lock did not keep others out, since somebody has removed it."""
    lock.check(root)
    try:
        left = unfinished(root)
    except HostError:
        return  # a damaged journal keeps nobody from uninstall or rollback
    number = None if left is None else changes.maker(left)
    if number is not None:
        raise lock.busy(root, number)


def _is_configuration(step: Step) -> bool:
    return isinstance(step, (ReplaceFile, TryFile)) and step.path in CONFIGURATIONS


def _check(steps: Sequence[Step]) -> None:
    """ChangeError for a step that could not be taken back on the journal's word."""
    for step in steps:
        try:
            step_values.from_json(step_values.to_json(step))
        except ValueError as error:
            raise ChangeError(f"{error}; nothing has been changed", where=str(step)) from error


def _show(progress: Callable[[str], None], step: Step) -> None:
    """Tell of the step; whether somebody reads it decides nothing (rich ends the program when a pipe is closed)."""
    with contextlib.suppress(OSError, ValueError, SystemExit):
        progress(str(step))


def _log(root: Root, change: Change, event: str, who: actor.Actor) -> None:
    actor.log(f"change {change.number} ({change.what}) of {root.path} {event}, by {who.user} from {who.origin}")


def confirm(root: Root, change: Change, services: Services | None = None) -> None:
    """Make a change on trial permanent that has no guard; ChangeError or OSError, and it is taken back, if it fails."""
    with signals.caught(), signals.deferred():
        try:
            for step in changes.tried(change):
                pending.make_permanent(root, step)
            changes.append(root.host_path(change.path), {"state": changes.COMPLETE})
        except BaseException:
            _undo(root, change, change.begun, services)
            _log(root, change, "taken back", actor.current())
            raise
        _log(root, change, "confirmed", actor.current())
        _finish(root, change)


def recover(root: Root, change: Change, services: Services | None = None) -> str:
    """Take back the unfinished `change`, or finish what a complete one left; returns what was done, in words.

    The guard of a trial is ended first: whether it is time for that is the caller's to decide. HostError where the
    process that began it still lives, which somebody has taken the lock from.
    """
    with signals.caught(), signals.deferred():
        return _recover(root, change, services)


def _recover(root: Root, change: Change, services: Services | None) -> str:
    number = changes.maker(change)
    if number is not None:
        raise lock.busy(root, number)
    if changes.tried(change):
        pending.end_guard(root)
    if change.state == changes.STAGED:
        # Half taken back it must not be tried any more.
        changes.append(root.host_path(change.path), {"state": changes.EXPIRED})
    if change.state == "complete":
        _finish(root, change)
        return f"change {change.number} ({change.what}) was complete; what it had left has been cleaned up"
    _undo(root, change, change.begun, services)
    _log(root, change, "taken back", actor.current())
    why = {
        "open": "had been cut short",
        "staged": "waited for the first boot",
        "trial": "was on trial and is not confirmed",
    }
    reason = why.get(change.state, "was tried and not confirmed in time")
    return f"change {change.number} ({change.what}), begun {change.started}, {reason} and has been taken back"


def sweep(root: Root) -> None:
    """Remove what a change left that was killed before its journal, or after its end, had a name; or an `exclude`."""
    with contextlib.suppress(OSError):
        files.discard(root.host_path(LIST_PATH) + files.NEW)
    for directory in _ancestors(root.resolve(STATE_DIRECTORY)):
        host = root.host_path(f"{directory.rstrip('/')}/{_UNNAMED}")
        if _holds_ours_alone(host):
            shutil.rmtree(host, ignore_errors=True)


def _ancestors(path: str) -> list[str]:
    found = []
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        found.append(path)
    return found


def _open(root: Root, change: Change, path: str) -> None:
    """Put the first line of the journal on disk, with the directories that it needs."""
    opening = changes.opening(change)
    if not change.directories:
        try:
            changes.append(root.host_path(path), opening)
        except BaseException:
            with contextlib.suppress(OSError):
                files.discard(root.host_path(path))
            raise
        return
    top = change.directories[0]
    unnamed = f"{top.rpartition('/')[0]}/{_UNNAMED}"
    try:
        for directory in change.directories:
            files.make_directory(
                root, unnamed + directory[len(top) :], 0o700 if directory.endswith("/changes") else 0o755
            )
        changes.append(root.host_path(unnamed + root.resolve(path)[len(top) :]), opening)
        os.rename(root.host_path(unnamed), root.host_path(top))
    except BaseException:
        sweep(root)
        raise
    files.sync_directory(os.path.dirname(root.host_path(top)))


def _close(root: Root, cleanup: Iterable[str]) -> None:
    """Take the journal and all of our own state away, and the directories of `cleanup` that are empty then.

    What somebody else has put among our state stays, with the directory that it lies in.
    """
    state = root.resolve(STATE_DIRECTORY)
    cleanup = list(cleanup)
    files.remove_empty(root, [directory for directory in cleanup if not f"{state}/".startswith(f"{directory}/")])
    if _holds_ours_alone(root.host_path(state)):
        top = state
        while (parent := top.rpartition("/")[0]) in cleanup and root.names(parent) == (top.rpartition("/")[2],):
            top = parent
        unnamed = root.host_path(f"{top.rpartition('/')[0]}/{_UNNAMED}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(root.host_path(top), unnamed)
            files.sync_directory(os.path.dirname(unnamed))
        shutil.rmtree(unnamed, ignore_errors=True)
    else:
        for directory in (STATE_DIRECTORY, CHANGES):
            # The last journal goes last: until then whoever finds it does the same again.
            for name in [name for name in root.names(directory) if _OWN_NAME.fullmatch(name)]:
                files.remove(root, f"{directory}/{name}")
        files.remove_empty(root, (CHANGES, STATE_DIRECTORY))
    files.remove_empty(root, cleanup)


def _holds_ours_alone(host: str) -> bool:
    """Whether nothing below a directory of this machine is anybody's but ours."""
    return all(_OWN_NAME.fullmatch(name) for _, _, names in os.walk(host) for name in names)


def _do(root: Root, step: Step, services: Services | None = None) -> None:
    if isinstance(step, ChangeService):
        _change_service(root, step, services)
    elif isinstance(step, MakeDirectory):
        files.make_directory(root, step.path, step.mode)
    elif isinstance(step, PlaceGeneration):
        _place_generation(root, step)
    elif isinstance(step, (ReplaceFile, MendMember)):
        files.place(root, step.path, step.after)
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
    wanted = step.before if back else step.after
    files.discard(root.host_path(step.path) + files.NEW)  # what a killed process was about to put there
    if _is_legible(root, step.path) and root.read(step.path) != wanted.manifest:
        files.place(root, step.path, wanted.manifest)
    if step.path == systemd_unit.PATH:
        (systemd_unit.enable if wanted.enabled else systemd_unit.disable)(root)


def _undo(root: Root, change: Change, begun: int, services: Services | None = None) -> None:
    """Take back the first `begun` steps in reverse; each looks at what is there: the last may not have happened."""
    for step in reversed(change.steps[:begun]):
        _undo_step(root, step, services)
    # Once more: one that cannot go must not keep the undo from its end, but may have been in use for an instant.
    files.remove_empty(root, [step.path for step in reversed(change.steps[:begun]) if isinstance(step, MakeDirectory)])
    if changes.tried(change):
        pending.clear_run(root)
    placed = [step.directory for step in change.steps[:begun] if isinstance(step, PlaceGeneration)]
    if change.directories and not any(root.exists(directory) for directory in placed):
        # The first change of this host: without it there would be no journal at all. A generation that others have
        # come to name stays, and so does the journal, which alone knows of it.
        _close(root, reversed(change.directories))
    elif root.exists(change.path):
        changes.append(root.host_path(change.path), {"state": "undone"})


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
                _remove_generation(name, step.digests)
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
        _put_back(root, step)


def _remove_generation(host: str, members: Iterable[str]) -> None:
    """Remove a generation's directory; of one in which others keep a file just the members."""
    found = {os.path.relpath(os.path.join(where, name), host) for where, _, names in os.walk(host) for name in names}
    if found <= {*members}:
        shutil.rmtree(host)
        return
    for name in members:
        files.discard(os.path.join(host, name))


def _put_back(root: Root, step: ReplaceFile) -> None:
    files.discard(root.host_path(step.path) + files.NEW)  # what a killed process was about to put there
    if not _is_legible(root, step.path):
        return  # somebody has put something else there
    now = root.read(step.path)
    # Attributes that somebody changed since do not make our content theirs.
    ours = now == step.after if now is None or step.after is None else now.data == step.after.data
    if ours and now != step.before and not _names_nothing(root, step):
        files.place(root, step.path, step.before)


def _is_legible(root: Root, path: str) -> bool:
    """Whether `path` is of the kind and size that we write, or nothing: an undo must not stop at garbage."""
    try:
        status = root.stat(path)
    except HostError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return False  # a loop of links
    return status is None or (stat.S_ISREG(status.st_mode) and status.st_size <= MAX_READ)


def _names_nothing(root: Root, step: ReplaceFile) -> bool:
    """Whether the former configuration names a generation that is gone: that would be the end of every process."""
    if step.before is None or step.path not in CONFIGURATIONS:
        return False
    named = {os.fsdecode(match) for match in generations.NAMED.findall(step.before.data)}
    return any(not root.exists(directory) for directory in named)


def _is_named(root: Root, directory: str) -> bool:
    """Whether a configuration file of the tree names a generation, or may do so."""
    for path in CONFIGURATIONS:
        if not _is_legible(root, path):
            return True
        state = root.read(path)
        if state is not None and os.fsencode(directory) in state.data:
            return True
    return False


def _finish(root: Root, change: Change) -> None:
    """What a complete change leaves for afterwards; may be repeated."""
    for step in change.steps:
        if isinstance(step, RemoveGeneration):
            files.discard(root.host_path(step.aside))
            # While anything of it is there the journal has to stay, which knows of it.
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(root.host_path(step.aside))
        elif isinstance(step, TryFile):
            pending.clear(root, step)
    if changes.tried(change):
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
        # Closed first, whatever the umask: what somebody else put in would be trusted by set-id programs.
        os.mkdir(directory, 0o700)
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

"""First boot: what the boot service makes of a change that was staged in an image.

`install --first-boot-trial` does everything but the last: the configuration files of the image stay as they are, and
what they are to become lies beside them (`pending.stage`). So the system boots as it always did. The service then does
what an install on a running system does, by the same means: the change is on trial (links that lead to nothing after a
reboot), and without a guard, so that wherever this is cut short the next boot, or the next command, takes it back as it
does any forgotten trial. It is done in an instant; nobody has to confirm it.

There is one attempt: a machine that does not survive it boots without the change from then on.
Standard library only: this runs at boot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from memproxy_sol import changes, journal, live_probe, pending, record, signals
from memproxy_sol.abi import ABIS
from memproxy_sol.changes import Change
from memproxy_sol.errors import ChangeError, HostError, Interrupted, MemproxyError
from memproxy_sol.probe import Prober
from memproxy_sol.record import RECORD_PATH, Record
from memproxy_sol.root import Root
from memproxy_sol.steps import ReplaceFile, TryFile

SECONDS = 3.0
"""For one program. The first that fails ends it, so that all of it stays within the limit of the method."""


def staged(root: Root) -> Change | None:
    """The change that waits for the boot, None if there is none; HostError where the last journal is damaged."""
    change = changes.unfinished(root)
    return change if change is not None and change.state == changes.STAGED else None


def record_before(change: Change) -> Record | None:
    """The record of what is in force while `change` is staged; None if there was none, or it was damaged."""
    for step in change.steps:
        if isinstance(step, ReplaceFile) and step.path == RECORD_PATH:
            with contextlib.suppress(HostError):
                return None if step.before is None else record.decode(step.before.data)
    return None


def outdated(root: Root, change: Change) -> tuple[str, ...]:
    """The configuration files that are no longer what they were when the change was staged."""
    return tuple(step.path for step in changes.tried(change) if not _is_as_before(root, step))


def _is_as_before(root: Root, step: TryFile) -> bool:
    try:
        return root.read(step.path) == step.before
    except HostError:
        return False


def attempt(root: Root, change: Change, prober: Prober | None = None) -> str:
    """Try the staged change and put it into force; what was done, in words. For who holds the lock.

    Raises ChangeError where a configuration was edited since (nothing is done then), and where programs do not start
    as they should, or a step fails: then all of the change is taken back.
    """
    name = f"change {change.number} ({change.what})"
    edited = outdated(root, change)
    if edited:
        text = f"was changed by somebody else since {name} was staged, so that does not go live"
        raise ChangeError(text, where=edited[0], hint="memproxy-sol install, which begins with what is there now")
    with signals.caught(), signals.deferred():
        try:
            # From here on whoever finds it cut short takes it back.
            changes.append(root.host_path(change.path), {"state": changes.TRIAL})
        except OSError as error:
            text = f"is staged, and cannot be tried now: {error.strerror or error}"
            raise ChangeError(
                text, where=name, hint="make the file system of /var writable, with room on it"
            ) from error
        try:
            _carry_out(root, change, prober)
        except BaseException as error:
            if _is_complete(root):
                raise  # it is in force; what it left beside is for the next command
            _take_back(root, change)
            if isinstance(error, Interrupted) or not isinstance(error, (MemproxyError, OSError)):
                raise
            what = error.what if isinstance(error, MemproxyError) else error.strerror or str(error)
            text = f"was tried at this boot and taken back: {what}"
            raise ChangeError(text, where=name, hint="memproxy-sol install tries it on the running system") from error
    return f"{name}, begun {change.started}, was tried at this boot and is in force"


def _carry_out(root: Root, change: Change, prober: Prober | None) -> None:
    steps = changes.tried(change)
    for step in steps:
        pending.prepare(root, step)
    _prove(root, steps, True, prober)
    for step in steps:
        pending.go_live(root, step)
    _prove(root, steps, False, prober)
    journal.confirm(root, change)


def _prove(root: Root, steps: Sequence[TryFile], as_candidate: bool, prober: Prober | None) -> None:
    """ChangeError unless a new process of each ABI starts with libmemproxy, by the candidate or by what is in force."""
    bits_of = {abi.config_path: bits for bits, abi in ABIS.items()}
    for step in steps:
        given = step.candidate if as_candidate else None
        wrong = live_probe.problem(root, bits_of[step.path], given, SECONDS, prober)
        if wrong is not None:
            raise ChangeError(f"a new process does not start as it should: {wrong}")


def _is_complete(root: Root) -> bool:
    try:
        left = changes.unfinished(root)
    except HostError:
        return False
    return left is not None and left.state == changes.COMPLETE


def _take_back(root: Root, change: Change) -> None:
    """All of it; where that fails, too, the next boot or command does it, and says so."""
    try:
        left = changes.unfinished(root)
        if left is not None and left.number == change.number:
            journal.recover(root, left)
    except (OSError, MemproxyError) as error:
        text = f"could not be taken back now: {error}"
        hint = "memproxy-sol uninstall takes it back"
        raise ChangeError(text, where=f"change {change.number} ({change.what})", hint=hint) from error

"""Changes: what the journals of a host tell, one file a change; journal.py carries changes out and takes them back.

A journal is `CHANGES/NNNNNN.jsonl`, its format docs/journal.md. A line is `CRC32 JSON`. It is written, and is on the
disk, before what it announces; a line that is torn announces nothing that has happened, and only word of the change
being taken back can follow it. Every other damage is told, and nothing is done on the word of such a journal.

Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

from memproxy_sol import access, actor, files, lock, pending
from memproxy_sol import steps as step_values
from memproxy_sol.errors import HostError
from memproxy_sol.record import STATE_DIRECTORY, checked_path
from memproxy_sol.root import Root
from memproxy_sol.steps import RemoveGeneration, Step, TryFile

CHANGES = f"{STATE_DIRECTORY}/changes"
FORMAT = 1
OPEN, STAGED, COMPLETE, TRIAL, EXPIRED, UNDONE = "open", "staged", "complete", "trial", "expired", "undone"
STATES = (OPEN, STAGED, COMPLETE, TRIAL, EXPIRED, UNDONE)
"""What they mean: journal.py."""

MAX_JOURNAL = 128 * 1024 * 1024
"""Bytes of a journal that are read: configuration files before and after, never libraries."""

_NAME = re.compile(r"[0-9]{6}\.jsonl")


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
    """One of STATES."""
    directories: tuple[str, ...]
    """Directories made for the journal itself."""
    leave_nothing: bool
    """Whether the journal and the directories go when the change is complete (uninstall --purge)."""
    cleanup: tuple[str, ...]
    """Directories that we made once, to be removed when empty, deepest first."""
    user: str = ""
    """Who began it; empty in a journal of before it was noted."""
    origin: str = ""
    """From where: a terminal, the other end of an ssh connection, a service."""
    process: str = ""
    """The process that began it, as `actor.process` tells it."""

    @property
    def path(self) -> str:
        """Its journal on the target."""
        return path_of(self.number)


@dataclass(frozen=True)
class Damaged:
    """A change whose journal does not tell what it did."""

    number: int
    problem: str
    hint: str = ""
    state: str = "damaged"

    @property
    def path(self) -> str:
        """Its journal on the target."""
        return path_of(self.number)


Entry = Union[Change, Damaged]


def path_of(number: int) -> str:
    """The journal of a change."""
    return f"{CHANGES}/{number:06d}.jsonl"


def numbers(root: Root) -> list[int]:
    """The numbers of all changes, ascending. HostError if the directory cannot be read."""
    return [int(name[:6]) for name in root.names(CHANGES) if _NAME.fullmatch(name)]


def history(root: Root) -> tuple[Entry, ...]:
    """All changes of the host, oldest first; a damaged journal is an entry, not an error.

    HostError where the directory cannot be read at all, which is how it answers whoever is not root.
    """
    entries: list[Entry] = []
    for number in numbers(root):
        try:
            change = read(root, number)
        except HostError as error:
            entries.append(Damaged(number, error.what, error.hint or access.aside(root, path_of(number))))
        else:
            if change is not None:
                entries.append(change)
    return tuple(entries)


def unfinished(root: Root) -> Change | None:
    """The change that was cut short or is on trial, if there is one. Only the last can be: it is mended first.

    HostError if the last journal is damaged.
    """
    changes = (read(root, number) for number in reversed(numbers(root)))
    last = next((change for change in changes if change is not None), None)
    if last is None or last.state == UNDONE:
        return None
    aside = any(isinstance(step, RemoveGeneration) and root.lstat(step.aside) is not None for step in last.steps)
    leaves = last.leave_nothing or aside or pending.has_litter(root, tried(last))
    return last if last.state != COMPLETE or leaves else None


def notice(root: Root) -> str | None:
    """What a command that changes nothing has to say of a change that is not finished; None if there is none.

    Silent for who may not read the journals.
    """
    try:
        change = unfinished(root)
        number = at_work(root, change) if change is not None else None
    except HostError as error:
        if isinstance(error.__cause__, PermissionError):
            return None
        return f"{error.where or CHANGES}: {error.what}; {error.hint}" if error.hint else str(error)
    if change is None or change.state == TRIAL:
        return None  # a trial has words of its own
    if number is not None:
        who = f" (process {number})" if number else ""
        return f"change {change.number} ({change.what}) is under way{who}; what is told may be of before it or after it"
    return f"change {change.number} ({change.what}), begun {change.started}, {'; '.join(why_unfinished(change))}"


def why_unfinished(change: Change) -> tuple[str, str]:
    """What is the matter with a change that nobody is at work on any more, and what to type."""
    if change.state == EXPIRED:
        return (
            "was tried and not confirmed in time, so the former configuration is in force again",
            "memproxy-sol uninstall takes the rest of it back, memproxy-sol install --try SECONDS tries again",
        )
    if change.state == STAGED:
        return (
            "waits for the first boot, and nothing of it is in force",
            "the service tries it, memproxy-sol uninstall takes it back",
        )
    return "was cut short", "the next install, uninstall or rollback takes it back"


def maker(change: Change) -> int | None:
    """The other process that is still carrying the change out; it has lost its lock where `lock.holder` knows none."""
    number = change.process.split(" ")[0]
    if change.state != OPEN or not number.isdigit() or int(number) == os.getpid():
        return None
    return int(number) if actor.process(int(number)) == change.process else None


def at_work(root: Root, change: Change) -> int | None:
    """The process that is changing the host, or still carries this change out; as `lock.holder`."""
    holder = lock.holder(root)
    return maker(change) if holder is None else holder


def tried(change: Change) -> list[TryFile]:
    """The steps that put a file on trial."""
    return [step for step in change.steps if isinstance(step, TryFile)]


def read(root: Root, number: int) -> Change | None:
    """The change of that number, None where its journal was cut short before anything was done.

    HostError if it is damaged or cannot be read.
    """
    path = path_of(number)
    state = root.read(path, limit=MAX_JOURNAL)
    if state is None:
        return None
    try:
        return parse(state.data, number)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise HostError(f"is damaged: {error!r}", where=path, hint=access.aside(root, path)) from error


def parse(data: bytes, number: int) -> Change | None:
    """The change that a journal's content tells, None where nothing had been done.

    ValueError, KeyError, TypeError or AttributeError for damage, HostError for a newer format.
    """
    pieces = data.split(b"\n")
    lines = [_value(line) for line in pieces if line]
    if not lines or lines == [None]:
        return None  # cut short before the first line was whole
    first, rest = lines[0], lines[1:]
    if first is None:
        raise ValueError("line 1")
    if first.get("format", FORMAT) != FORMAT:
        raise HostError(
            f"has format {first['format']!r}, this program knows {FORMAT}",
            where=path_of(number),
            hint="use the newer memproxy-sol that wrote it",
        )
    steps = tuple(step_values.from_json(value) for value in first["steps"])
    begun, told, torn = 0, [], False
    for place, value in enumerate(rest, 2):
        if value is None:
            # The last piece is torn for sure. Any other may once have been whole.
            torn = torn or place < len(lines) or not pieces[-1]
            continue
        # Of a staged change no step is left to be begun: what was torn behind that can only have been a state.
        if torn and STAGED not in told and value.get("state") not in (EXPIRED, UNDONE):
            raise ValueError(f"a line before line {place}")
        if "begin" in value:
            if type(value["begin"]) is not int or not begun <= value["begin"] < len(steps):
                raise ValueError(f"line {place}")
            begun = value["begin"] + 1
        elif "from" in value:
            if value["from"] != begun:
                raise ValueError(f"line {place}")
            steps = (*steps[:begun], *(step_values.from_json(step) for step in value["steps"]))
        elif value.get("state") in STATES:
            told.append(value["state"])
        else:
            raise ValueError(f"line {place}")
    return Change(
        number=number,
        what=str(first["what"]),
        started=str(first["started"]),
        steps=steps,
        # Undoing looks at what is there, so that it may be told of steps which were not begun, but of all that were.
        begun=len(steps) if torn else begun,
        state=_state(told),
        directories=tuple(checked_path(value) for value in first["directories"]),
        leave_nothing=first["leave_nothing"] is True,
        cleanup=tuple(checked_path(value) for value in first["cleanup"]),
        user=str(first.get("user", "")),
        origin=str(first.get("origin", "")),
        process=str(first.get("process", "")),
    )


def _state(told: Sequence[str]) -> str:
    """What the lines of a journal come to. Of the guard's words the first holds: it says nothing after a verdict.

    `staged` and `trial` are no verdicts.
    """
    if UNDONE in told:
        return UNDONE
    return next((state for state in told if state not in (STAGED, TRIAL)), told[-1] if told else OPEN)


def opening(change: Change) -> dict[str, Any]:
    """The first line of a journal."""
    return {
        "format": FORMAT,
        "change": change.number,
        "what": change.what,
        "started": change.started,
        "user": change.user,
        "origin": change.origin,
        "process": change.process,
        "steps": [step_values.to_json(step) for step in change.steps],
        "directories": list(change.directories),
        "leave_nothing": change.leave_nothing,
        "cleanup": list(change.cleanup),
    }


def amendment(begun: int, left: Sequence[Step]) -> dict[str, Any]:
    """The line that says what the steps after the first `begun` ones have become."""
    return {"from": begun, "steps": [step_values.to_json(step) for step in left]}


def line(value: dict[str, Any]) -> bytes:
    """`value` as a line of a journal."""
    text = json.dumps(value, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def append(host: str, value: dict[str, Any]) -> None:
    """Put `value` behind the journal `host` (a path of this machine), on the disk when it returns; OSError on failure.

    What a full disk lets through of a line is taken away again, as far as the disk obeys.
    """
    new = not os.path.lexists(host)
    descriptor = os.open(host, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # A torn line must not swallow the one that follows it.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        try:
            files.write_all(descriptor, (b"\n" if torn else b"") + line(value))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        files.sync_directory(os.path.dirname(host))


def _value(text: bytes) -> dict[str, Any] | None:
    """The value of a line, None for one that is not whole."""
    checksum, _, body = text.partition(b" ")
    try:
        value = json.loads(body) if int(checksum, 16) == zlib.crc32(body) else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

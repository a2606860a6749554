"""History: the changes of a host as people and programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memproxy_sol import steps, systemd_unit
from memproxy_sol.changes import OPEN, Change, Entry
from memproxy_sol.record import RECORD_PATH
from memproxy_sol.steps import ChangeService, MakeDirectory, MendMember, PlaceGeneration, RemoveGeneration, Step

COLUMNS = ("number", "when", "who", "what", "state", "changed")


def rows(entries: Sequence[Entry], holder: int | None) -> list[tuple[str, ...]]:
    """A row of COLUMNS for each change; `holder` is the process that is changing the host, if one is (lock.holder)."""
    return [_row(entry, holder) for entry in entries]


def _row(entry: Entry, holder: int | None) -> tuple[str, ...]:
    if not isinstance(entry, Change):
        return (str(entry.number), "", "", "", entry.state, f"{entry.path}: {entry.problem}")
    who = entry.user + (f" from {entry.origin}" if entry.origin else "")
    return (str(entry.number), entry.started, who, entry.what, _state(entry, holder), changed(entry))


def _state(change: Change, holder: int | None) -> str:
    if change.state != OPEN:
        return change.state
    if holder is None:
        return "cut short"
    return f"under way (process {holder})" if holder else "under way"


def changed(change: Change) -> str:
    """What it changed, in words; a file that has been undone was changed, too."""
    return "; ".join(dict.fromkeys(filter(None, map(_what, change.steps)))) or "nothing that is still ours"


def _what(step: Step) -> str:
    if isinstance(step, MakeDirectory) or getattr(step, "path", "") == RECORD_PATH:
        return ""
    if isinstance(step, PlaceGeneration):
        return f"new generation {step.directory}"
    if isinstance(step, RemoveGeneration):
        return f"generation {step.directory} removed"
    if isinstance(step, MendMember):
        return f"{step.path} mended"
    if isinstance(step, ChangeService):
        return systemd_unit.PURPOSE if step.path == systemd_unit.PATH else "SMF service"
    return f"{step.purpose}{' removed' if step.after is None else ''}"


def to_json(entries: Sequence[Entry], holder: int | None) -> dict[str, Any]:
    """What `history --json` prints."""
    return {"changing": holder, "changes": [_entry_json(entry) for entry in entries]}


def _entry_json(entry: Entry) -> dict[str, Any]:
    known: dict[str, Any] = {"number": entry.number, "state": entry.state, "journal": entry.path}
    if not isinstance(entry, Change):
        return {**known, "problem": entry.problem, "hint": entry.hint}
    return {
        **known,
        "what": entry.what,
        "started": entry.started,
        "user": entry.user,
        "origin": entry.origin,
        "begun": entry.begun,
        "steps": [steps.summary(step) for step in entry.steps],
    }

"""Steps: the plain values a plan is made of. What carries them out, and takes them back, is journal.py.

A step knows the state before and after it, so that an interrupted change can be undone from its journal alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Union

from memproxy_sol import smf_manifest, systemd_unit
from memproxy_sol.abi import CONFIGURATIONS
from memproxy_sol.generation import PLACE, Generation
from memproxy_sol.record import (
    RUN_DIRECTORY,
    STATE_DIRECTORY,
    checked_path,
    digest,
    file_from_json,
    file_to_json,
)
from memproxy_sol.root import FileState

_NAME = r"[-.A-Za-z0-9_]+"
_FILES = re.compile(
    rf"/var/ld/(64/)?{_NAME}"
    r"|/etc/memproxy\.conf(\.damaged)?"
    rf"|/etc/ld\.so\.preload(\.{_NAME})?|/etc/memproxy-rescue\.txt"
    rf"|/etc/ld\.so\.conf\.d/memproxy\.conf"
    rf"|/etc/systemd/system/memproxy\.service|/etc/systemd/system/[^/]+\.service\.d/memproxy\.conf"
    r"|/(lib|var)/svc/manifest/site/memproxy\.xml|/etc/svc/profile/site/memproxy\.xml"
    rf"|{re.escape(STATE_DIRECTORY)}/installed\.json(\.damaged)?"
    rf"|{re.escape(RUN_DIRECTORY)}/({_NAME}/)?{_NAME}"
)
"""Every file that a change ever writes, beside the generations. What a journal says of others is not believed."""
_MEMBER = re.compile(rf"{PLACE.pattern}/([^/]+/){{0,3}}[^/]+")


@dataclass(frozen=True)
class MakeDirectory:
    """Make a directory that does not exist, owned by root."""

    path: str
    mode: int = 0o755

    def __str__(self) -> str:
        return f"make directory {self.path}"


@dataclass(frozen=True)
class PlaceGeneration:
    """Write a generation complete under another name, then rename it into place."""

    directory: str
    digests: dict[str, str]
    """SHA-256 by member name."""
    generation: Generation | None = None
    """The content; None in a step that was read back from a journal, which can only be undone."""

    def __str__(self) -> str:
        return f"place generation {self.directory} ({', '.join(sorted(self.digests))})"


@dataclass(frozen=True)
class ReplaceFile:
    """Bring a file from one state to another in one rename; None is its absence."""

    path: str
    before: FileState | None
    after: FileState | None
    purpose: str
    """What the file is, in words: `32-bit runtime linker configuration`."""

    def __str__(self) -> str:
        verb = "remove" if self.after is None else "write" if self.before is None else "replace"
        return f"{verb} {self.path} ({self.purpose})"


@dataclass(frozen=True)
class RemoveGeneration:
    """Take a generation out of its place; it is deleted when the change is complete."""

    directory: str

    def __str__(self) -> str:
        return f"remove generation {self.directory}"

    @property
    def aside(self) -> str:
        """Where it waits for the change to be complete."""
        parent, _, name = self.directory.rpartition("/")
        return f"{parent}/.{name}.removed"


@dataclass(frozen=True)
class MendMember:
    """Give a damaged file of a generation the content that the generation's name stands for; there is no way back."""

    path: str
    after: FileState | None = None
    """None in a step that was read back from a journal."""

    def __str__(self) -> str:
        return f"replace {self.path} (damaged member of the generation)"


TRIAL_DIRECTORY = f"{RUN_DIRECTORY}/trial"
"""Where a configuration on trial lies: gone after a reboot, so that a name that leads there leads to nothing then."""


@dataclass(frozen=True)
class TryFile:
    """Let a configuration file be another for a time: its name becomes a link to a copy in TRIAL_DIRECTORY.

    Beside it lie what it is to become and, as a hard link, what it was (`pending.py`).
    """

    path: str
    """The configuration file of one ABI."""
    before: FileState | None
    after: FileState
    purpose: str

    def __str__(self) -> str:
        return f"try {self.path} ({self.purpose})"

    @property
    def candidate(self) -> str:
        """The copy that the name leads to while the trial is pending."""
        return f"{TRIAL_DIRECTORY}/{'-'.join(map(str, CONFIGURATIONS[self.path]))}"

    @property
    def new(self) -> str:
        """The file that takes the name when the trial is confirmed."""
        return f"{self.path}.memproxy-new"

    @property
    def former(self) -> str:
        """The file that had the name before, if there was one; the same inode."""
        return f"{self.path}.memproxy-former"

    @property
    def link(self) -> str:
        """The link to the candidate, before it takes the name."""
        return f"{self.path}.memproxy-link"

    @property
    def tried(self) -> str:
        """Where the link is put when the trial is taken back and there was no file before."""
        return f"{self.path}.memproxy-tried"


@dataclass(frozen=True)
class Service:
    """What SMF or systemd is to know of the service, and the file that tells it: a manifest, a unit."""

    manifest: FileState | None
    """None where no file is."""
    imported: bool
    """Whether it is known to them."""
    enabled: bool
    """Whether it is started at each boot."""


@dataclass(frozen=True)
class ChangeService:
    """Deliver the service, or retire it: its file, and what SMF or systemd makes of that.

    Both belong into one step, since the way there and the way back need the file at opposite ends: a service is
    imported after its file is in place, and deleted before its file goes.
    """

    path: str
    """The manifest's, or the unit's."""
    before: Service
    after: Service
    by_import: bool
    """Whether manifest-import does it all (Solaris 11), rather than svccfg import and delete."""

    @property
    def purpose(self) -> str:
        """What the file is, in words."""
        return systemd_unit.PURPOSE if self.path == systemd_unit.PATH else "SMF manifest"

    def __str__(self) -> str:
        if self.path == systemd_unit.PATH:
            if not self.after.imported:
                return f"retire the systemd unit ({self.path}): stop, disable, remove"
            verb = "deliver" if not self.before.imported else "bring up to date"
            return f"{verb} the systemd unit ({self.path})" + (": enable, start" if self.after.enabled else "")
        if not self.after.imported:
            return f"retire the SMF service ({self.path}): disable, delete"
        verb = "deliver" if not self.before.imported else "bring up to date"
        then = "enable, wait until it is online" if self.after.enabled else "leave it disabled"
        return f"{verb} the SMF service ({self.path}): import, {then}"


Step = Union[MakeDirectory, PlaceGeneration, ReplaceFile, RemoveGeneration, MendMember, TryFile, ChangeService]


def to_json(step: Step) -> dict[str, Any]:
    """The step as a journal keeps it: enough to undo it."""
    if isinstance(step, MakeDirectory):
        return {"do": "make-directory", "path": step.path, "mode": oct(step.mode)}
    if isinstance(step, PlaceGeneration):
        return {"do": "place-generation", "path": step.directory, "digests": step.digests}
    if isinstance(step, RemoveGeneration):
        return {"do": "remove-generation", "path": step.directory}
    if isinstance(step, MendMember):
        return {"do": "mend-member", "path": step.path}
    if isinstance(step, ChangeService):
        return {
            "do": "change-service",
            "path": step.path,
            "before": _service_to_json(step.before),
            "after": _service_to_json(step.after),
            "by_import": step.by_import,
        }
    return {
        "do": "try-file" if isinstance(step, TryFile) else "replace-file",
        "path": step.path,
        "purpose": step.purpose,
        "before": file_to_json(step.before),
        "after": file_to_json(step.after),
    }


def from_json(value: dict[str, Any]) -> Step:
    """The inverse of `to_json`; KeyError, ValueError or TypeError for anything else."""
    kind, path = value["do"], checked_path(value["path"])
    if kind == "make-directory":
        return MakeDirectory(path, int(value["mode"], 8))
    if kind in ("place-generation", "remove-generation") and not PLACE.fullmatch(path):
        raise ValueError(f"{path!r} is no place for a generation")
    if kind == "place-generation":
        return PlaceGeneration(path, {str(n): str(d) for n, d in value["digests"].items()})
    if kind == "remove-generation":
        return RemoveGeneration(path)
    if kind == "mend-member":
        if not _MEMBER.fullmatch(path):
            raise ValueError(f"{path!r} is no member of a generation")
        return MendMember(path)
    if kind == "replace-file":
        if not _FILES.fullmatch(path):
            raise ValueError(f"{path!r} is no file that a change writes")
        before, after = file_from_json(value["before"]), file_from_json(value["after"])
        return ReplaceFile(path, before, after, str(value["purpose"]))
    if kind == "try-file":
        before, after = file_from_json(value["before"]), file_from_json(value["after"])
        if after is None or path not in CONFIGURATIONS:
            raise ValueError(f"{path!r} cannot be tried")
        return TryFile(path, before, after, str(value["purpose"]))
    if kind == "change-service":
        if not smf_manifest.is_place(path) and path != systemd_unit.PATH:
            raise ValueError(f"{path!r} is no place for the service")
        was, becomes = _service_from_json(value["before"]), _service_from_json(value["after"])
        return ChangeService(path, was, becomes, bool(value["by_import"]))
    raise ValueError(f"unknown step {kind!r}")


def _service_to_json(service: Service) -> dict[str, Any]:
    return {
        "manifest": file_to_json(service.manifest),
        "imported": service.imported,
        "enabled": service.enabled,
    }


def _service_from_json(value: dict[str, Any]) -> Service:
    return Service(file_from_json(value["manifest"]), bool(value["imported"]), bool(value["enabled"]))


def summary(step: Step) -> dict[str, Any]:
    """The step as `plan --json` prints it: digests instead of contents."""
    value = to_json(step)
    if isinstance(step, (ReplaceFile, TryFile)):
        value["before"] = _attributes(step.before)
        value["after"] = _attributes(step.after)
    if isinstance(step, ChangeService):
        value["before"]["manifest"] = _attributes(step.before.manifest)
        value["after"]["manifest"] = _attributes(step.after.manifest)
    return value


def _attributes(state: FileState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {
        "sha256": digest(state.data),
        "size": len(state.data),
        "mode": oct(state.mode),
        "uid": state.uid,
        "gid": state.gid,
    }


def on_trial(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps of a plan with its runtime linker configurations tried instead of replaced."""
    return tuple(
        TryFile(step.path, step.before, step.after, step.purpose)
        if isinstance(step, ReplaceFile) and step.path in CONFIGURATIONS and step.after is not None
        else step
        for step in steps
    )

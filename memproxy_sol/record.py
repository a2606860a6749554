"""Record: what is installed on a host, and what was there before; verify, upgrade and uninstall go by it.

It is one JSON object in STATE_DIRECTORY/installed.json, checksummed, replaced atomically like every other file
of a change, and holds no time but that of others' files: installing the same again leaves the same bytes.
Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from memproxy_sol import generation
from memproxy_sol.abi import MACHINES
from memproxy_sol.errors import HostError
from memproxy_sol.root import FileState, Root

STATE_DIRECTORY = "/var/opt/memproxy"
RECORD_PATH = f"{STATE_DIRECTORY}/installed.json"
RUN_DIRECTORY = "/var/run/memproxy"
"""Candidates, a trial that is under way, the lock: what must not survive a reboot."""
FORMAT = 1


@dataclass(frozen=True)
class AbiRecord:
    """What one ABI's configuration was made to say."""

    generation: str
    """The generation's directory (without `/64`)."""
    files: tuple[str, ...]
    """The preload files in their order."""
    replaceable: bool
    trusted: bool
    library_path: tuple[str, ...]
    """Library directories that we added."""
    written: str
    """SHA-256 of the configuration file as we wrote it."""
    original: FileState | None
    """The configuration file before the first install, None if there was none."""
    adopted: tuple[str, ...] = ()
    """Others' preload items that ours stands in for."""
    scope: str = "all"
    """Whose processes get it: everybody's, or (Linux) `root`'s alone."""


@dataclass(frozen=True)
class Record:
    """Everything that memproxy-sol placed on a host."""

    release: str = ""
    machine: str = ""
    """Release and machine that were configured: an image without /etc/release or libc.so.1 does not tell again."""
    abis: dict[int, AbiRecord] = field(default_factory=dict)
    generations: dict[str, dict[str, str]] = field(default_factory=dict)
    """Directory of each generation that was placed, to the SHA-256 of its members by name."""
    files: dict[str, str] = field(default_factory=dict)
    """Other files that we created (exclusion list, manifest, profile), to their SHA-256."""
    directories: tuple[str, ...] = ()
    """Directories that we created, parents first."""


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def encode(record: Record) -> bytes:
    """The file's content for `record`."""
    body = {
        "format": FORMAT,
        "release": record.release,
        "machine": record.machine,
        "abis": {str(bits): _abi_to_json(abi) for bits, abi in sorted(record.abis.items())},
        "generations": {d: dict(sorted(m.items())) for d, m in sorted(record.generations.items())},
        "files": dict(sorted(record.files.items())),
        "directories": list(record.directories),
    }
    return json.dumps({"sha256": digest(_canonical(body)), **body}, indent=1).encode("ascii") + b"\n"


def decode(data: bytes) -> Record:
    """The record in `data`; HostError if it is damaged or of a newer format."""
    try:
        body = json.loads(data.decode("ascii"))
        checksum = body.pop("sha256")
        if body["format"] != FORMAT:
            raise HostError(
                f"has format {body['format']}, this program knows {FORMAT}",
                where=RECORD_PATH,
                hint="use the newer memproxy-sol that wrote it",
            )
        if checksum != digest(_canonical(body)):
            raise ValueError("the checksum does not fit")
        for name in body["generations"]:
            if not generation.PLACE.fullmatch(checked_path(name)):
                raise ValueError(f"{name!r} is no place for a generation")
        if body["machine"] not in MACHINES:
            raise ValueError(f"unknown machine {body['machine']!r}")
        return Record(
            release=str(body["release"]),
            machine=str(body["machine"]),
            abis={int(bits): _abi_from_json(abi) for bits, abi in body["abis"].items()},
            generations={str(d): {str(n): str(h) for n, h in m.items()} for d, m in body["generations"].items()},
            files={checked_path(path): str(value) for path, value in body["files"].items()},
            directories=tuple(checked_path(path) for path in body["directories"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HostError(f"is damaged: {error}", where=RECORD_PATH) from error


def read(root: Root) -> Record | None:
    """The record of the host, None if nothing was installed; HostError if it cannot be read or is damaged."""
    state = root.read(RECORD_PATH)
    return None if state is None else decode(state.data)


def file_to_json(state: FileState | None) -> dict[str, Any] | None:
    """A file's state as JSON, its content in base64, its times in nanoseconds where they are known."""
    if state is None:
        return None
    data = base64.b64encode(state.data).decode("ascii")
    value = {"data": data, "mode": oct(state.mode), "uid": state.uid, "gid": state.gid}
    times = {"mtime_ns": state.mtime_ns, "atime_ns": state.atime_ns}
    return {**value, **{name: time for name, time in times.items() if time is not None}}


def file_from_json(value: dict[str, Any] | None) -> FileState | None:
    """The inverse of `file_to_json`; ValueError, KeyError or TypeError for anything else."""
    if value is None:
        return None
    try:
        data = base64.b64decode(value["data"], validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    times = [value.get(name) for name in ("mtime_ns", "atime_ns")]
    if any(time is not None and (type(time) is not int or abs(time) >= 2**63) for time in times):
        raise ValueError("an impossible time")
    state = FileState(data, int(value["mode"], 8), int(value["uid"]), int(value["gid"]), *times)
    if not (0 <= state.mode <= 0o7777 and 0 <= state.uid < 2**32 and 0 <= state.gid < 2**32):
        raise ValueError("an impossible mode or owner")
    return state


def checked_path(value: Any) -> str:
    """`value`, if it is a plain absolute path of something below `/`; ValueError otherwise.

    Records and journals lie in images that others may have written: what they name is never taken unseen.
    """
    if not isinstance(value, str) or "\0" in value or not value.startswith("/"):
        raise ValueError(f"{value!r} is not a path")
    if any(part in ("", ".", "..") for part in value[1:].split("/")):
        raise ValueError(f"{value!r} is not a plain path")
    return value


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode("ascii")


def _abi_to_json(abi: AbiRecord) -> dict[str, Any]:
    return {
        "generation": abi.generation,
        "files": list(abi.files),
        "replaceable": abi.replaceable,
        "trusted": abi.trusted,
        "library_path": list(abi.library_path),
        "written": abi.written,
        "original": file_to_json(abi.original),
        "adopted": list(abi.adopted),
        **({} if abi.scope == "all" else {"scope": abi.scope}),
    }


def _abi_from_json(value: dict[str, Any]) -> AbiRecord:
    return AbiRecord(
        generation=str(value["generation"]),
        files=tuple(str(name) for name in value["files"]),
        replaceable=bool(value["replaceable"]),
        trusted=bool(value["trusted"]),
        library_path=tuple(str(name) for name in value["library_path"]),
        written=str(value["written"]),
        original=file_from_json(value["original"]),
        adopted=tuple(str(name) for name in value["adopted"]),
        scope=str(value.get("scope", "all")),
    )

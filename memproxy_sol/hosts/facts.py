"""Facts: what plan and verify have to know of any host, whatever its kind; solaris.py and linux.py have the rest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memproxy_sol import record
from memproxy_sol.abi import Machine
from memproxy_sol.exclusions import LIST_PATH
from memproxy_sol.root import FileState, Root

if TYPE_CHECKING:
    from memproxy_sol.hosts.solaris_live import LiveFacts


@dataclass(frozen=True)
class Facts:
    """What every host has."""

    root: Root
    release: str
    """What differs in what we write or where: one of `hosts.solaris.RELEASES`, or `linux`."""
    distribution: str
    """What the host calls itself, or how the release was chosen."""
    machine: Machine
    sources: dict[str, str]
    """Where `release` and `machine` come from: a file of the image, an option or the default."""
    libc: dict[int, str | None]
    """Path of the C library by bits, None where the host has none."""
    exclusion_list: FileState | None
    manifest_path: str
    """The file that delivers the service."""
    profile_path: str | None
    record: record.Record | None

    @property
    def live(self) -> LiveFacts | None:
        """What a running Solaris says by command; None for an image, and where no commands were run."""
        return None

    @property
    def config_directory(self) -> str:
        """Where the runtime linker's configuration lies."""
        raise NotImplementedError

    @property
    def written_directories(self) -> tuple[str, ...]:
        """The directories that a change writes to, beside those of the generations."""
        above = tuple(map(os.path.dirname, (LIST_PATH, self.manifest_path)))
        return (self.config_directory, record.STATE_DIRECTORY, *above)

    def member(self, bits: int, file: str) -> str:
        """Where `file` of an ABI lies in a generation."""
        raise NotImplementedError

    def mounted_later(self, directory: str) -> str | None:
        """The mount point over `directory` that is not mounted when the first process starts, None if there is none."""
        raise NotImplementedError

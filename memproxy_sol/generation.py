"""Generation: one immutable directory with libmemproxy and the allocators of all ABIs, named by its content.

Upgrade, rollback and install are the same act with it: one rename of a configuration file that names
another generation. Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

LIBRARY = "libmemproxy.so"
DEFAULT_PREFIX = "/usr/local"
"""Generations go to PREFIX/lib/memproxy."""
PLACE = re.compile(r"(?:/[^/:\s]+)*/lib/memproxy/[0-9a-f]{16}")
"""What the directory of a generation looks like; nothing else is ever removed as one."""
NAMED = re.compile(rb"(?:/[^/:\s\0]+)*/lib/memproxy/[0-9a-f]{16}")
"""The same in the bytes of a configuration file."""
DIRECTORY_MODE = 0o755
FILE_MODE = 0o644


@dataclass(frozen=True)
class Member:
    """One file of a generation."""

    name: str
    """Relative to the generation's directory: `libmemproxy.so`, `64/libjemalloc.so.2`."""
    data: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Generation:
    """The files of one generation, sorted by name."""

    members: tuple[Member, ...]

    @property
    def name(self) -> str:
        """The directory's name: 16 hexadecimal digits over names and contents."""
        return name_of(self.digests)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 by member name."""
        return {member.name: member.digest for member in self.members}

    def directory(self, prefix: str) -> str:
        """Where it is placed on the target."""
        return f"{prefix}/lib/memproxy/{self.name}"

    @property
    def subdirectories(self) -> tuple[str, ...]:
        """The directories inside, parents first: `64` if there is anything for 64 bit; on Linux `$LIB`."""
        parts = [member.name.split("/")[:-1] for member in self.members]
        return tuple(sorted({"/".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)}))


def name_of(digests: Mapping[str, str]) -> str:
    """The name of the generation whose members have these SHA-256 digests."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def member_name(bits: int, file: str) -> str:
    """Where `file` of the ABI lies in a generation on Solaris."""
    return f"64/{file}" if bits == 64 else file


def make(members: Mapping[str, bytes]) -> Generation:
    """The generation of these files, by name."""
    return Generation(tuple(Member(name, data) for name, data in sorted(members.items())))


def files_for(bits: int, allocator: str | None) -> tuple[str, ...]:
    """The preload files of one ABI in their order: the proxy, then the allocator if there is one."""
    return (LIBRARY,) if allocator is None else (LIBRARY, allocator)

"""The first bytes of an ELF object: class, byte order, type and machine, without any library.

For what runs at boot and for facts of an image; `elf.py` tells the rest with pyelftools.
Source: the ELF header of the System V ABI, which Solaris and Linux share.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from memproxy_sol.errors import ElfError

ET_EXEC = 2
ET_DYN = 3
SIZE = 20
"""Bytes that `parse` needs."""


@dataclass(frozen=True)
class ElfHeader:
    """What the runtime linker compares before it maps an object."""

    bits: int
    byte_order: str
    """`little` or `big`."""
    kind: int
    """e_type; 3 is a shared object."""
    machine: int
    """e_machine."""


def parse(data: bytes) -> ElfHeader:
    """The header of the object that begins with `data`; ElfError if it is none."""
    if data[:4] != b"\x7fELF":
        raise ElfError("is not an ELF object")
    if len(data) < SIZE:
        raise ElfError(f"is cut off in the ELF header ({len(data)} bytes)")
    bits = {1: 32, 2: 64}.get(data[4])
    order = {1: "little", 2: "big"}.get(data[5])
    if bits is None or order is None:
        raise ElfError(f"has an impossible ELF class or byte order ({data[4]}, {data[5]})")
    kind, machine = struct.unpack("<HH" if order == "little" else ">HH", data[16:20])
    return ElfHeader(bits, order, kind, machine)

"""A program that only ends, for an ABI of which the host has libraries but no program that could be tried.

It is a member of the generation, and started by the runtime linker itself (`/lib/ld-linux.so.2 PROGRAM`), so that it
needs no permission to be executed. It needs the C library, as every program does, and no compiler made it.

Source of the layout: the ELF specification; of the calls, the kernel's tables of system calls (exit_group).
Standard library only.
"""

from __future__ import annotations

import struct

from memproxy_sol.errors import HostError

NAME = "memproxy-probe"

_ET_DYN = 3
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_EXECUTE, _WRITE, _READ = 1, 2, 4
_DT_NULL, _DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT = 0, 1, 4, 5, 6, 10, 11
_C_LIBRARY = "libc.so.6"

# By class and e_machine: the alignment of segments (the largest page of its Linux), and exit_group(0).
_MACHINES = {
    (32, 3): (0x1000, "f30f1efb 31db b8fc000000 cd80"),  # endbr32; xor ebx, ebx; mov eax, 252; int 0x80
    (64, 62): (0x1000, "f30f1efa 31ff b8e7000000 0f05"),  # endbr64; xor edi, edi; mov eax, 231; syscall
    (64, 183): (0x10000, "5f2403d5 000080d2 c80b80d2 010000d4"),  # bti c; mov x0, 0; mov x8, 94; svc 0
}


def program(bits: int, machine: int) -> bytes:
    """The program for one ABI: `bits` is 32 or 64, `machine` the e_machine of i386 (3), x86-64 (62) or AArch64 (183).

    Raises HostError for any other ABI.
    """
    if (bits, machine) not in _MACHINES:
        raise HostError(f"there is no program to try for {bits}-bit objects of ELF machine {machine}")
    alignment, digits = _MACHINES[bits, machine]
    code = bytes.fromhex(digits)
    wide = bits == 64
    header_size, segment_size, symbol_size, word = (64, 56, 24, 8) if wide else (52, 32, 16, 4)
    strings = b"\0" + _C_LIBRARY.encode() + b"\0"
    segments, entries = 4, 7
    dynamic_at = header_size + segments * segment_size
    symbols_at = dynamic_at + entries * 2 * word
    table_at = symbols_at + symbol_size
    strings_at = table_at + 16
    size = strings_at + len(strings)
    dynamic = b"".join(
        struct.pack("<2Q" if wide else "<2I", tag, number)
        for tag, number in (
            (_DT_NEEDED, 1),
            (_DT_HASH, table_at),
            (_DT_STRTAB, strings_at),
            (_DT_SYMTAB, symbols_at),
            (_DT_STRSZ, len(strings)),
            (_DT_SYMENT, symbol_size),
            (_DT_NULL, 0),
        )
    )

    def segment(kind: int, flags: int, offset: int, length: int, align: int) -> bytes:
        if wide:
            return struct.pack("<2I6Q", kind, flags, offset, offset, offset, length, length, align)
        return struct.pack("<8I", kind, offset, offset, offset, length, length, flags, align)

    # Data and code apart: what may be written is not executed.
    headers = (
        segment(_PT_LOAD, _READ | _WRITE, 0, size, alignment)
        + segment(_PT_LOAD, _READ | _EXECUTE, alignment, len(code), alignment)
        + segment(_PT_DYNAMIC, _READ | _WRITE, dynamic_at, len(dynamic), word)
        + segment(_PT_GNU_STACK, _READ | _WRITE, 0, 0, 16)
    )
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQI6H" if wide else "<HHIIIII6H",
        _ET_DYN, machine, 1, alignment, header_size, 0, 0, header_size, segment_size, segments, 0, 0, 0,
    )  # fmt: skip
    # The null symbol alone: an empty chain, whatever is looked up.
    data = header + headers + dynamic + bytes(symbol_size) + struct.pack("<4I", 1, 1, 0, 0) + strings
    return data.ljust(alignment, b"\0") + code

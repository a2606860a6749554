"""A shared object with nothing in it, for the place where an ABI gets no library.

On Linux one line of /etc/ld.so.preload is for both ABIs: `$LIB` leads the runtime linker of each to a file of its own,
and it complains at every start of a program if there is none. This object defines nothing, needs nothing and holds no
code.

Source of the layout: the ELF specification, the psABI of each machine for its properties, and elf/dl-load.c of glibc.
Standard library only.
"""

from __future__ import annotations

import struct

from memproxy_sol.errors import HostError

SONAME = "libmemproxy-nothing.so"

_ET_DYN = 3
_PT_LOAD, _PT_DYNAMIC, _PT_NOTE = 1, 2, 4
_PT_GNU_STACK, _PT_GNU_PROPERTY = 0x6474E551, 0x6474E553
_READ, _WRITE = 4, 2
_DT_NULL, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 0, 4, 5, 6, 10, 11, 14
_NT_GNU_PROPERTY_TYPE_0 = 5

# By class and e_machine: the alignment of segments (the largest page of its Linux), and the property that names the
# protections under which the object may run, with all of them: where one object lacks shadow stacks or landing pads,
# the runtime linker takes them from the whole process, and code that is not there keeps every rule.
_MACHINES = {
    (32, 3): (0x1000, 0xC0000002, 0b11),
    (64, 62): (0x1000, 0xC0000002, 0b11),
    (64, 183): (0x10000, 0xC0000000, 0b111),
}


def shared_object(bits: int, machine: int) -> bytes:
    """The object for one ABI: `bits` is 32 or 64, `machine` the e_machine of i386 (3), x86-64 (62) or AArch64 (183).

    Raises HostError for any other ABI.
    """
    if (bits, machine) not in _MACHINES:
        raise HostError(f"there is no empty library for {bits}-bit objects of ELF machine {machine}")
    alignment, property_type, property_value = _MACHINES[bits, machine]
    wide = bits == 64
    header_size, segment_size, symbol_size, word = (64, 56, 24, 8) if wide else (52, 32, 16, 4)

    # The null symbol alone: an empty chain, whatever is looked up.
    symbols = bytes(symbol_size)
    table = struct.pack("<4I", 1, 1, 0, 0)
    strings = b"\0" + SONAME.encode() + b"\0"
    value = struct.pack("<III", property_type, 4, property_value)
    value = value.ljust(-(-len(value) // word) * word, b"\0")
    note = struct.pack("<III4s", 4, len(value), _NT_GNU_PROPERTY_TYPE_0, b"GNU") + value

    segments = 5
    note_at = header_size + segments * segment_size
    note_at += -note_at % word
    dynamic_at = note_at + len(note)
    entries = 7
    symbols_at = dynamic_at + entries * 2 * word
    table_at = symbols_at + len(symbols)
    strings_at = table_at + len(table)
    size = strings_at + len(strings)

    dynamic = b"".join(
        struct.pack("<2Q" if wide else "<2I", tag, number)
        for tag, number in (
            (_DT_SONAME, 1),
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

    # All of the file is one writable segment: older C libraries write addresses into the dynamic section.
    headers = (
        segment(_PT_LOAD, _READ | _WRITE, 0, size, alignment)
        + segment(_PT_DYNAMIC, _READ | _WRITE, dynamic_at, len(dynamic), word)
        + segment(_PT_NOTE, _READ, note_at, len(note), word)
        + segment(_PT_GNU_PROPERTY, _READ, note_at, len(note), word)
        + segment(_PT_GNU_STACK, _READ | _WRITE, 0, 0, 16)
    )
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQI6H" if wide else "<HHIIIII6H",
        _ET_DYN, machine, 1, 0, header_size, 0, 0, header_size, segment_size, segments, 0, 0, 0,
    )  # fmt: skip
    return (header + headers).ljust(note_at, b"\0") + note + dynamic + symbols + table + strings

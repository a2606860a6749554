"""A program that is tried on Linux for each ABI, whatever the host has: it allocates, forks, and ends with 0.

It is a member of the generation, and started by the runtime linker itself (`/lib/ld-linux.so.2 PROGRAM`), so that it
needs no permission to be executed. It needs the C library, as every program does, and no compiler made it: LISTINGS has
the source of its code, and a test assembles that again.

Source of the layout: the ELF specification and the psABI of each machine.
Standard library only.
"""

from __future__ import annotations

import struct

from memproxy_sol.errors import HostError

NAME = "memproxy-probe"

_ET_EXEC = 2
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_EXECUTE, _WRITE, _READ = 1, 2, 4
_DT_NULL, _DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT = 0, 1, 4, 5, 6, 10, 11
_DT_RELA, _DT_RELASZ, _DT_RELAENT, _DT_REL, _DT_RELSZ, _DT_RELENT = 7, 8, 9, 17, 18, 19
_C_LIBRARY = "libc.so.6"

BASE = 0x10000000
"""Where it is loaded: high enough for every vm.mmap_min_addr."""
TABLE = 0x400
"""Where the addresses of FUNCTIONS lie from there on, in their order, a word each."""
FUNCTIONS = ("malloc", "calloc", "realloc", "free", "fork", "waitpid", "exit")

LISTINGS = {
    32: """\
        endbr32
        sub     $32, %esp
        movl    $100000, (%esp)
        call    *MALLOC
        test    %eax, %eax
        je      bad
        movb    $1, (%eax)
        mov     %eax, (%esp)
        movl    $300000, 4(%esp)
        call    *REALLOC
        test    %eax, %eax
        je      bad
        mov     %eax, (%esp)
        call    *FREE
        movl    $10, (%esp)
        movl    $24, 4(%esp)
        call    *CALLOC
        test    %eax, %eax
        je      bad
        cmpb    $0, (%eax)
        jne     bad
        mov     %eax, (%esp)
        call    *FREE
        call    *FORK
        test    %eax, %eax
        js      bad
        jne     parent
        movl    $5000, (%esp)
        call    *MALLOC
        test    %eax, %eax
        je      bad
        mov     %eax, (%esp)
        call    *FREE
        movl    $0, (%esp)
        call    *EXIT
parent: mov     %eax, (%esp)
        lea     16(%esp), %eax
        mov     %eax, 4(%esp)
        movl    $0, 8(%esp)
        call    *WAITPID
        cmpl    $0, 16(%esp)
        movl    $0, (%esp)
        je      done
bad:    movl    $1, (%esp)
done:   call    *EXIT
""",
    64: """\
        endbr64
        mov     $100000, %edi
        call    *MALLOC
        test    %rax, %rax
        je      bad
        movb    $1, (%rax)
        mov     %rax, %rdi
        mov     $300000, %esi
        call    *REALLOC
        test    %rax, %rax
        je      bad
        mov     %rax, %rdi
        call    *FREE
        mov     $10, %edi
        mov     $24, %esi
        call    *CALLOC
        test    %rax, %rax
        je      bad
        cmpb    $0, (%rax)
        jne     bad
        mov     %rax, %rdi
        call    *FREE
        call    *FORK
        test    %eax, %eax
        js      bad
        jne     parent
        mov     $5000, %edi
        call    *MALLOC
        test    %rax, %rax
        je      bad
        mov     %rax, %rdi
        call    *FREE
        xor     %edi, %edi
        call    *EXIT
parent: sub     $16, %rsp
        mov     %eax, %edi
        mov     %rsp, %rsi
        xor     %edx, %edx
        call    *WAITPID
        xor     %edi, %edi
        cmpl    $0, (%rsp)
        je      done
bad:    mov     $1, %edi
done:   call    *EXIT
""",
}
"""What CODE says, for the GNU assembler; a function's name, in capitals, is the address of its place in the table."""

CODE = {
    3: (
        "f30f1efb83ec20c70424a0860100ff150004001085c00f84a6000000c60001890424c7442404e0930400ff1508040010"
        "85c00f848a000000890424ff150c040010c704240a000000c744240418000000ff150404001085c07468803800756389"
        "0424ff150c040010ff151004001085c078507527c7042488130000ff150004001085c0743d890424ff150c040010c704"
        "2400000000ff15180400108904248d44241089442404c744240800000000ff1514040010837c241000c7042400000000"
        "7407c7042401000000ff1518040010"
    ),
    62: (
        "f30f1efabfa0860100ff1425000400104885c00f8491000000c600014889c7bee0930400ff1425100400104885c0747a"
        "4889c7ff142518040010bf0a000000be18000000ff1425080400104885c0745a80380075554889c7ff142518040010ff"
        "14252004001085c078407524bf88130000ff1425000400104885c0742d4889c7ff14251804001031ffff142530040010"
        "4883ec1089c74889e631d2ff14252804001031ff833c24007405bf01000000ff142530040010"
    ),
    183: "5f2403d5 000080d2 c80b80d2 010000d4",  # bti c; mov x0, 0; mov x8, 94 (exit_group); svc 0
}
"""The code by e_machine, in hexadecimal digits. That for AArch64 has not been run, and only ends."""

# By class and e_machine: the alignment of segments (the largest page of its Linux), and the type of the relocation
# that puts a function's address into a word.
_MACHINES = {(32, 3): (0x1000, 6), (64, 62): (0x1000, 6), (64, 183): (0x10000, 1025)}


def program(bits: int, machine: int) -> bytes:
    """The program for one ABI: `bits` is 32 or 64, `machine` the e_machine of i386 (3), x86-64 (62) or AArch64 (183).

    Raises HostError for any other ABI.
    """
    if (bits, machine) not in _MACHINES:
        raise HostError(f"there is no program to try for {bits}-bit objects of ELF machine {machine}")
    alignment, relocation = _MACHINES[bits, machine]
    code = bytes.fromhex(CODE[machine])
    wide = bits == 64
    header_size, segment_size, symbol_size, word = (64, 56, 24, 8) if wide else (52, 32, 16, 4)
    relocation_size = 24 if wide else 8

    strings = b"\0" + b"".join(name.encode() + b"\0" for name in (_C_LIBRARY, *FUNCTIONS))
    names = [strings.index(b"\0" + name.encode() + b"\0") + 1 for name in FUNCTIONS]
    symbols = bytes(symbol_size)
    relocations = b""
    for number, name in enumerate(names, 1):
        # Global, a function, undefined.
        symbols += (
            struct.pack("<IBBHQQ", name, 0x12, 0, 0, 0, 0) if wide else struct.pack("<3IBBH", name, 0, 0, 0x12, 0, 0)
        )
        place = BASE + TABLE + (number - 1) * word
        if wide:
            relocations += struct.pack("<3Q", place, number << 32 | relocation, 0)
        else:
            relocations += struct.pack("<2I", place, number << 8 | relocation)
    # Of one chain, which is empty: nothing is defined here.
    table = struct.pack("<4I", 1, len(names) + 1, 0, 0) + bytes(4 * len(names))

    segments, entries = 4, 10
    dynamic_at = header_size + segments * segment_size
    strings_at = dynamic_at + entries * 2 * word
    symbols_at = TABLE + len(FUNCTIONS) * word
    relocations_at = symbols_at + len(symbols)
    table_at = relocations_at + len(relocations)
    size = table_at + len(table)
    kinds = (_DT_RELA, _DT_RELASZ, _DT_RELAENT) if wide else (_DT_REL, _DT_RELSZ, _DT_RELENT)
    dynamic = b"".join(
        struct.pack("<2Q" if wide else "<2I", tag, number)
        for tag, number in (
            (_DT_NEEDED, 1),
            (_DT_HASH, BASE + table_at),
            (_DT_STRTAB, BASE + strings_at),
            (_DT_SYMTAB, BASE + symbols_at),
            (_DT_STRSZ, len(strings)),
            (_DT_SYMENT, symbol_size),
            (kinds[0], BASE + relocations_at),
            (kinds[1], len(relocations)),
            (kinds[2], relocation_size),
            (_DT_NULL, 0),
        )
    )

    def segment(kind: int, flags: int, offset: int, length: int, align: int) -> bytes:
        address = BASE + offset if length else 0
        if wide:
            return struct.pack("<2I6Q", kind, flags, offset, address, address, length, length, align)
        return struct.pack("<8I", kind, offset, address, address, length, length, flags, align)

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
        _ET_EXEC, machine, 1, BASE + alignment, header_size, 0, 0, header_size, segment_size, segments, 0, 0, 0,
    )  # fmt: skip
    data = header + headers + dynamic + strings
    assert len(data) <= TABLE, "the strings do not reach into the table"
    data = data.ljust(symbols_at, b"\0") + symbols + relocations + table
    return data.ljust(alignment, b"\0") + code

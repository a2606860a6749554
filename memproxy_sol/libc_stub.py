"""A stand-in for Solaris 10's libc.so.1, to link against: its names and symbol versions without any code.

What is left out cannot be linked with, which is the point: a name or version that Solaris 10 lacks would keep every
process of such a machine from starting ("version not found"). Source of the list: native/sysroot/solaris/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from memproxy_sol.errors import BuildError

SONAME = "libc.so.1"

ARCHITECTURES = {32: frozenset({"all", "x86", "elf32", "i386"}), 64: frozenset({"all", "x86", "elf64", "amd64"})}
"""The words of the list's architecture column that mean x86, by bits."""

NEWEST = (1, 22)
"""The newest SUNW_ version of Solaris 10 as first released; its updates added SUNW_1.22.1 to SUNW_1.22.7."""


@dataclass(frozen=True)
class StubSymbol:
    """One name that libc.so.1 exports, with the version it has there."""

    name: str
    is_function: bool
    version: str


def in_solaris_10(version: str) -> bool:
    """Whether libc.so.1 of Solaris 10 as first released has `version`, as a public one."""
    if version in ("SYSVABI_1.3", "SISCD_2.3"):
        return True
    match = re.fullmatch(r"SUNW_(\d+(?:\.\d+)*)", version)
    return match is not None and tuple(map(int, match.group(1).split("."))) <= NEWEST


def read_symbols(table: Path, bits: int) -> tuple[StubSymbol, ...]:
    """What libc.so.1 of Solaris 10 on x86 exports in `bits` bit, from `libc-symbols.tsv`, sorted by name.

    Raises BuildError naming the line that cannot be understood.
    """
    symbols = {}
    try:
        lines = table.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError) as error:
        raise BuildError(f"cannot be read: {error}", where=str(table)) from None
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        if len(fields) != 5 or fields[1] not in ("FUNCTION", "DATA"):
            raise BuildError(f"line {number} is not a symbol", where=str(table))
        name, kind, version, architectures, _ = fields
        if ARCHITECTURES[bits].intersection(architectures.split(",")) and in_solaris_10(version):
            if name in symbols:
                raise BuildError(f"line {number} gives {name} a second version", where=str(table))
            symbols[name] = StubSymbol(name, kind == "FUNCTION", version)
    return tuple(symbols[name] for name in sorted(symbols))


def assembly(symbols: Iterable[StubSymbol]) -> str:
    """Assembler source that defines every name, in GNU syntax for any machine."""
    lines = [".text"]
    for symbol in symbols:
        kind = "@function" if symbol.is_function else "@object"
        lines += [f'.globl "{symbol.name}"', f'.type "{symbol.name}", {kind}', f'"{symbol.name}":']
    return "\n".join([*lines, ".byte 0", ""])


def version_script(symbols: Iterable[StubSymbol]) -> str:
    """A linker's version script that gives every name its version."""
    names: dict[str, list[str]] = {}
    for symbol in symbols:
        names.setdefault(symbol.version, []).append(symbol.name)
    return "\n".join(
        f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names[version]))} }};"
        for version in sorted(names)
    )

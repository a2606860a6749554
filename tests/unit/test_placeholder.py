"""The shared object with nothing in it: sound for every reader, and empty."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from memproxy_sol import elf, elf_header, placeholder
from memproxy_sol.errors import HostError

ABIS = pytest.mark.parametrize(
    ("bits", "machine"), [(32, 3), (64, 62), (64, 183)], ids=["i386", "x86-64", "AArch64"]
)  # fmt: skip
PT_GNU_STACK = 0x6474E551


@pytest.fixture
def path(bits: int, machine: int, tmp_path: Path) -> Path:
    made = tmp_path / "nothing.so"
    made.write_bytes(placeholder.shared_object(bits, machine))
    return made


@ABIS
def test_it_defines_needs_and_does_nothing(bits: int, machine: int, path: Path) -> None:
    library = elf.read(path)
    assert (library.bits, library.machine, library.kind) == (bits, machine, "shared")
    assert library.soname == placeholder.SONAME
    assert (library.defined, library.imports, library.needed, library.interpreter) == ((), (), (), None)
    assert not library.text_relocations
    assert not library.tls
    assert not library.writable_and_executable
    assert PT_GNU_STACK in library.segments
    header = elf_header.parse(path.read_bytes())
    assert (header.bits, header.byte_order, header.kind, header.machine) == (bits, "little", 3, machine)
    assert path.stat().st_size < 600


@ABIS
def test_readelf_understands_all_of_it(bits: int, machine: int, path: Path) -> None:
    shown = subprocess.run(["readelf", "-aW", str(path)], capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    # A readelf that is older than guarded control stacks (GCS) does not know their bit.
    assert not re.search("(?i)warning|error|corrupt|unknown|<", shown.stdout.replace(", <unknown: 4>", ""))
    segments = re.findall(r"^ +([A-Z_]+) +0x.* ([R ][W ][E ]) +0x", shown.stdout, re.MULTILINE)
    assert segments == [
        ("LOAD", "RW "), ("DYNAMIC", "RW "), ("NOTE", "R  "), ("GNU_PROPERTY", "R  "), ("GNU_STACK", "RW ")
    ]  # fmt: skip
    # Linkers before glibc 2.35 refuse a segment that is not aligned to their page; AArch64 may have pages of 64 KiB.
    assert re.search(r"^ +LOAD .* (0x\w+)$", shown.stdout, re.MULTILINE)[1] == (
        "0x10000" if machine == 183 else "0x1000"
    )
    assert "Histogram for bucket list length (total of 1 bucket)" in shown.stdout
    tags = re.findall(r"^ 0x[0-9a-f]+ \(([A-Z]+)\)", shown.stdout, re.MULTILINE)
    assert tags == ["SONAME", "HASH", "STRTAB", "SYMTAB", "STRSZ", "SYMENT", "NULL"]
    assert re.search(r"Properties: .*(IBT, SHSTK|BTI, PAC)", shown.stdout)


@ABIS
def test_it_is_the_same_each_time(bits: int, machine: int) -> None:
    assert placeholder.shared_object(bits, machine) == placeholder.shared_object(bits, machine)


@pytest.mark.parametrize(("bits", "machine"), [(64, 3), (32, 62), (32, 183), (64, 43), (0, 0)])
def test_no_other_machine_has_one(bits: int, machine: int) -> None:
    with pytest.raises(HostError, match="there is no empty library"):
        placeholder.shared_object(bits, machine)

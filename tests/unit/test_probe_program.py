"""The program that a generation brings along for Linux: read by the tools of the system, and run by its linkers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from memproxy_sol import elf_header, probe_program
from memproxy_sol.errors import HostError
from memproxy_sol.hosts.linux_loader import Loader
from tests import needs

MACHINES = {(32, 3): "Intel 80386", (64, 62): "Advanced Micro Devices X86-64", (64, 183): "AArch64"}


@pytest.mark.parametrize(("bits", "machine"), MACHINES)
def test_readelf_takes_it_for_a_program_that_needs_the_c_library(tmp_path: Path, bits: int, machine: int) -> None:
    path = tmp_path / "probe"
    path.write_bytes(probe_program.program(bits, machine))
    said = subprocess.run(["readelf", "-aW", path], capture_output=True, text=True, check=True)
    assert MACHINES[bits, machine] in said.stdout
    assert "Shared library: [libc.so.6]" in said.stdout
    assert " RWE " not in said.stdout
    assert said.stderr == ""
    assert elf_header.parse(path.read_bytes()).bits == bits


@pytest.mark.parametrize("bits", [32, 64])
def test_the_runtime_linker_starts_it_and_it_ends_with_0(tmp_path: Path, bits: int) -> None:
    loader: Loader = needs.loader(bits)
    path = tmp_path / "probe"
    path.write_bytes(probe_program.program(bits, loader.machine))
    path.chmod(0o644)
    said = subprocess.run([loader.path, path], capture_output=True, env={}, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
    assert subprocess.run([loader.path, path], env={"LD_PRELOAD": "/no/such.so"}, capture_output=True).stderr


def test_another_machine() -> None:
    with pytest.raises(HostError, match="there is no program to try for 64-bit objects of ELF machine 22"):
        probe_program.program(64, 22)


@pytest.mark.parametrize(("bits", "machine"), [(32, 3), (64, 62)])
def test_the_code_is_what_the_listing_says(tmp_path: Path, bits: int, machine: int) -> None:
    table = range(probe_program.BASE + probe_program.TABLE, 1 << 30, bits // 8)
    places = dict(zip(probe_program.FUNCTIONS, table))
    symbols = [text for name, place in places.items() for text in ("--defsym", f"{name.upper()}={place}")]
    source, made, code = tmp_path / "probe.s", tmp_path / "probe.o", tmp_path / "probe.bin"
    source.write_text(probe_program.LISTINGS[bits])
    subprocess.run(["as", f"--{bits}", *symbols, "-o", made, source], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", made, code], check=True)
    assert code.read_bytes() == bytes.fromhex(probe_program.CODE[machine])


BROKEN = {
    "at its first call": "void *malloc(size_t n) { abort(); }",
    "in a child": "static pid_t own; void *malloc(size_t n) { if (!own) own = getpid(); if (own != getpid()) abort();"
    " static char heap[1 << 22]; static size_t used; char *p = heap + used; used += (n + 63) & ~63; return p; }",
    "when it is to free": "void free(void *block) { if (block) abort(); }",
    "by giving nothing": "void *realloc(void *block, size_t n) { return 0; }",
    "by memory that is not zero": "void *calloc(size_t n, size_t m) { return memset(malloc(n * m), 7, n * m); }",
}


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("case", BROKEN)
def test_an_allocator_that_fails(tmp_path: Path, bits: int, case: str) -> None:
    loader: Loader = needs.loader(bits)
    source, library, path = tmp_path / "bad.c", tmp_path / "bad.so", tmp_path / "probe"
    headers = "#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
    source.write_text(headers + BROKEN[case] + "\n")
    needs.compile_program(source, bits, library, "-shared", "-fPIC", "-O1", "-fno-builtin")
    path.write_bytes(probe_program.program(bits, loader.machine))
    said = subprocess.run([loader.path, path], env={"LD_PRELOAD": str(library)}, capture_output=True, check=False)
    assert said.returncode != 0

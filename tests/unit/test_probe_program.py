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

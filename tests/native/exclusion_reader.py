"""The native exclusion list reader as a program that answers questions, and the Python reader's answer to the same."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from memproxy_sol import exclusions

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
TABLE = ROOT / "tests/data/exclusions.toml"
DRIVER = ROOT / "tests/native/programs/exclusions_driver.cc"

Question = tuple[bytes, Sequence[bytes]]
"""A list, and the names to look up in it."""


def compile_driver(output: Path, bits: int, *flags: str) -> Path:
    """programs/exclusions_driver.cc with the reader in it."""
    sources = [NATIVE / "exclusions.cc", DRIVER]
    subprocess.run(
        ["g++", f"-m{bits}", "-O2", "-fno-exceptions", "-fno-rtti", f"-I{NATIVE}", *flags, *sources, "-o", output],
        check=True,
    )
    return output


def ask_all(driver: Path, directory: Path, questions: Sequence[Question]) -> list[str]:
    """The answers for every name of every list, from one process that runs in `directory`."""
    parts = []
    for data, names in questions:
        parts += [struct.pack("<I", len(data)), data, struct.pack("<I", len(names))]
        parts += [struct.pack("<I", len(name)) + name for name in names]
    done = subprocess.run(
        [driver, directory / "list"], input=b"".join(parts), stdout=subprocess.PIPE, cwd=directory, timeout=300
    )
    assert done.returncode == 0
    return done.stdout.decode().splitlines()


def expected(lines: Sequence[exclusions.Line], name: bytes, directory: Path) -> str:
    """The Python reader's answer; a relative name is completed, as the native reader does."""
    decision = exclusions.decide(lines, exclusions.to_text(_completed(name, os.fsencode(directory))))
    return "-" if decision.line is None else f"{decision.route} {decision.line.number}"


def _completed(name: bytes, directory: bytes) -> bytes:
    if not name or name.startswith(b"/"):
        return name
    while name.startswith((b"./", b"../")):
        first, _, name = name.partition(b"/")
        name = name.lstrip(b"/")
        if first == b"..":
            directory = os.path.dirname(directory)
    return directory.rstrip(b"/") + b"/" + name

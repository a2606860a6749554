"""By which name a process goes: which line of the list matches it, and what it is told of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proxied import Installed, Outcome, both_abis

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]


@both_abis
def test_program_that_serves_itself_is_told_its_path(library: Library, compile: Compile, run: Run, bits: int) -> None:
    program = compile("own_malloc_path.c", bits)
    assert run([program], [library(bits).path]).output == f"{program}\n"

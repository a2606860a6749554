"""The soak's census: what it reads in a living process is what that process says of itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Callable

import pytest
from proxied import Installed, allocators, both_abis, clean_environment

from soak.census import BARE, look


def tell(program: Path, preload: list[Path]) -> str | None:
    environment = {**clean_environment(), "LD_PRELOAD": ":".join(map(str, preload))}
    process = subprocess.Popen([program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.read(1) == b"+"
        return look(process.pid)
    finally:
        process.stdin.close()
        process.stdout.close()
        assert process.wait() == 0


@both_abis
@pytest.mark.parametrize("excluded", [False, True])
def test_the_census_tells_route_reason_and_server(
    bits: int, excluded: bool, library: Callable[[int], Installed], compile: Callable[..., Path]
) -> None:
    installed = library(bits)
    jemalloc = allocators(bits)["jemalloc"]
    if excluded:
        installed.exclude("# a comment", "waits")
    found = tell(compile("waits.c", bits), [installed.path, jemalloc])
    assert found == ("waits: system (list 2), libc.so.6" if excluded else "waits: custom (default), libjemalloc.so.2")


@both_abis
def test_the_census_sees_a_process_without_the_library(bits: int, compile: Callable[..., Path]) -> None:
    assert tell(compile("waits.c", bits), []) == f"waits: {BARE}"

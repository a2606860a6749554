"""Probes of real programs with the real library: there or not, on which route, dead or alive."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import Installed, allocators, both_abis

from memproxy_sol.probe import DEBUG, Outcome, Probe, Prober
from tests import needs

Library = Callable[..., Installed]


@pytest.fixture
def true(tmp_path: Path) -> Callable[[int], Path]:
    source = tmp_path / "true.c"
    source.write_text("int main(void) { return 0; }\n")
    return lambda bits: needs.compile_program(source, bits, tmp_path / f"true{bits}")


def run(program: Path, bits: int, *preload: object) -> Outcome:
    environment = {**DEBUG, "LD_PRELOAD": ":".join(map(str, preload))}
    return Prober().run(Probe("true", (os.fspath(program),), bits), environment, 300.0)


@both_abis
def test_the_route_is_the_one_that_the_process_took(library: Library, true: Callable[[int], Path], bits: int) -> None:
    proxy, allocator = library(bits), allocators(bits)["jemalloc"]
    outcome = run(true(bits), bits, proxy.path, allocator)
    assert outcome.wrong("custom") is None, outcome.err
    assert "is on route custom, not system" in str(outcome.wrong("system"))
    proxy.list_path.write_text(f"true{bits}\n")
    excluded = run(true(bits), bits, proxy.path, allocator)
    assert excluded.wrong("system") is None, excluded.err
    assert "is on route system, not custom" in str(excluded.wrong("custom"))


@both_abis
def test_an_allocator_that_is_not_loaded_is_noticed(library: Library, true: Callable[[int], Path], bits: int) -> None:
    outcome = run(true(bits), bits, library(bits).path)
    assert "no custom allocator is loaded" in str(outcome.wrong("custom"))


@both_abis
def test_a_program_that_merely_runs_is_not_good(true: Callable[[int], Path], bits: int) -> None:
    outcome = run(true(bits), bits, "/no/such/libmemproxy.so")
    assert outcome.started is None
    assert outcome.route is None
    assert outcome.wrong(None) is not None

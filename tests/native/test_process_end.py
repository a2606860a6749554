"""After main, and after a thread's end: whatever still runs then has the memory that it had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proxied import Installed, Outcome, allocators, each_allocator

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]


@each_allocator
def test_what_runs_behind_main_allocates_and_frees(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str
) -> None:
    late = compile("late_library.c", bits, "-shared", "-Wl,-soname,liblate.so", name="liblate.so")
    program = compile("ending.cc", bits, "-Wl,--no-as-needed", str(late), f"-Wl,-rpath,{late.parent}")
    preload = [library(bits).path, allocators(bits)[allocator]]
    for route in ("custom", "system"):
        assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output == "last\nvery last\n"

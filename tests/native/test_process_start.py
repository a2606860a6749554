"""Before main: on what stacks, with what environment and descriptors the decision may have to be made."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import NATIVE, Installed, Outcome, allocators, both_abis, each_allocator, each_common_allocator

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]

NOT_YET = 0  # MEMPROXY_STATE_START


@both_abis
@pytest.mark.parametrize("debug", ["0", "1"])
def test_first_request_on_a_small_stack(library: Library, compile: Compile, run: Run, bits: int, debug: str) -> None:
    """A signal's stack has 8 KiB, a thread's at least 16 KiB, of which the kernel and libc take half."""
    early = compile("small_stack.c", bits, "-shared", f"-I{NATIVE}", "-Wl,-soname,libsmall.so", name="libsmall.so")
    program = compile("early_main.c", bits, str(early), f"-Wl,-rpath,{early.parent}")
    proxy = library(bits)
    proxy.exclude(*["/some/where/[a-z]*"] * 500, "early_main")
    # Lazy binding, which is the linker's doing, would need several kilobytes more on some processors.
    environment = {"LD_BIND_NOW": "1", "MEMPROXY_DEBUG": debug}
    outcome = run([program], [proxy.path], environment=environment)
    state, needed = map(int, outcome.output.split())
    assert state == NOT_YET
    assert needed < 3000
    assert ("line 501 of" in outcome.errors) == (debug == "1")


@each_allocator
@pytest.mark.parametrize("route", ["custom", "system"])
def test_first_request_is_a_signal_handler_s(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    early = compile("interrupted.c", bits, "-shared", "-DEARLY", "-Wl,-soname,libearlysig.so", name="libearlysig.so")
    program = compile("early_main.c", bits, str(early), f"-Wl,-rpath,{early.parent}")
    run([program], [library(bits).path, allocators(bits)[allocator]], environment={"MEMPROXY_ROUTE": route})


@both_abis
def test_descriptors_0_to_2_closed(library: Library, compile: Compile, run: Run, bits: int, tmp_path: Path) -> None:
    """They are the program's to open, and what is written to them is the program's alone."""
    program = compile("reopens.c", bits)
    proxy = library(bits)
    proxy.exclude("something", "reopens")
    for debug in ("0", "1"):
        file = tmp_path / "opened"
        file.write_text("")
        command = ["/bin/sh", "-c", 'exec "$0" "$1" <&- >&- 2>&-', program, file]
        run(command, [proxy.path], environment={"MEMPROXY_DEBUG": debug})
        told = file.read_text()
        assert told == "mine\n", told


@both_abis
@pytest.mark.parametrize("route", ["custom", "system"])
def test_auditing_library(library: Library, compile: Compile, run: Run, bits: int, route: str) -> None:
    """It has a libc of its own, calls that one's malloc, and sees every binding."""
    audit = compile("audit.c", bits, "-shared")
    for name in (None, "mimalloc", "tcmalloc_minimal"):
        preload = [library(bits).path, *([allocators(bits)[name]] if name else [])]
        outcome = run(
            [compile("tell_route.c", bits, f"-I{NATIVE}")], preload,
            environment={"MEMPROXY_ROUTE": route, "LD_AUDIT": str(audit)},
        )  # fmt: skip
        assert outcome.output.split()[0] == (route if name else "system")


@each_allocator
def test_without_a_limit_to_the_stack_objects_lie_elsewhere(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str
) -> None:
    """32-bit processes have their libraries at other addresses then, growing upwards."""
    preload = [library(bits).path, allocators(bits)[allocator]]
    output = run(
        [compile("tell_route.c", bits, f"-I{NATIVE}")], preload,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
    ).output  # fmt: skip
    assert output == "custom default\n"


@each_common_allocator
@pytest.mark.parametrize("route", ["custom", "system"])
def test_a_thousand_threads_ask_for_the_first_time_at_once(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    preload = [library(bits).path, allocators(bits)[allocator]]
    run([compile("many_threads.c", bits), 1000], preload, environment={"MEMPROXY_ROUTE": route})

"""Before main: on what stacks, with what environment and descriptors the decision may have to be made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import NATIVE, Installed, Outcome, both_abis

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

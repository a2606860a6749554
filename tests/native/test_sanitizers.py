"""Programs built with a sanitizer, or run by memcheck, under libmemproxy; and libmemproxy's own threads under one.

The runtime of gcc's sanitizers is a library that the program is linked with, clang's lies in the program itself. The
whole suite against a library built with UndefinedBehaviorSanitizer is `make analyse`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import NATIVE, PROGRAMS, Installed, Outcome, allocators, clean_environment, must

from tests import needs

Library = Callable[..., Installed]
Run = Callable[..., Outcome]

WRONG = {
    "address": ("overflow", "AddressSanitizer: heap-buffer-overflow"),
    "leak": ("leak", "LeakSanitizer: 10 byte(s) leaked in 1 allocation(s)."),
    "thread": ("race", "ThreadSanitizer: data race"),
    "memory": ("uninitialised", "MemorySanitizer: use-of-uninitialized-value"),
    "undefined": ("undefined", "runtime error: signed integer overflow"),
}
"""What the program does wrong, and what the sanitizer says of it."""

IN_A_LIBRARY = "system sanitizer\n"
IN_THE_PROGRAM = "system not-owner\n"
NO_MALLOC = "custom default\n"

BUILDS = [
    ("gcc", 64, "address", (), IN_A_LIBRARY),
    ("gcc", 32, "address", (), IN_A_LIBRARY),
    ("gcc", 64, "leak", (), IN_A_LIBRARY),
    ("gcc", 64, "thread", (), IN_A_LIBRARY),
    ("gcc", 64, "undefined", (), NO_MALLOC),
    ("gcc", 32, "undefined", (), NO_MALLOC),
    ("clang", 64, "address", ("-shared-libasan",), IN_A_LIBRARY),
    ("clang", 64, "address", (), IN_THE_PROGRAM),
    ("clang", 32, "address", (), IN_THE_PROGRAM),
    ("clang", 64, "leak", (), IN_THE_PROGRAM),
    ("clang", 32, "leak", (), IN_THE_PROGRAM),
    ("clang", 64, "thread", (), IN_THE_PROGRAM),
    ("clang", 64, "memory", (), IN_THE_PROGRAM),
    ("clang", 64, "undefined", (), NO_MALLOC),
    ("clang", 32, "undefined", (), NO_MALLOC),
]


@pytest.mark.parametrize(("compiler", "bits", "sanitizer", "options", "route"), BUILDS)
def test_a_sanitized_program_runs_and_finds_its_mistake(
    library: Library,
    run: Run,
    tmp_path: Path,
    compiler: str,
    bits: int,
    sanitizer: str,
    options: tuple[str, ...],
    route: str,
) -> None:
    program = tmp_path / "sanitized"
    flags = [f"-m{bits}", "-O1", "-g", "-w", "-fno-builtin", "-pthread", f"-fsanitize={sanitizer}", *options]
    done = subprocess.run(
        [compiler, *flags, PROGRAMS / "sanitized.c", "-o", program, "-ldl"], text=True, capture_output=True, check=False
    )
    if "libclang_rt" in done.stderr:
        needs.missing("clang's sanitizers", "libclang-rt-14-dev")
    assert done.returncode == 0, done.stderr
    environment = {}
    if "-shared-libasan" in options:
        runtime = must([compiler, "-print-file-name=libclang_rt.asan-x86_64.so"]).stdout.strip()
        environment["LD_LIBRARY_PATH"] = str(Path(runtime).parent)
    preload = [library(bits).path, allocators(bits)["mimalloc"]]
    mistake, complaint = WRONG[sanitizer]
    for wanted in ("", "custom", "system"):
        outcome = run([program], preload, environment={**environment, "MEMPROXY_ROUTE": wanted})
        expected = "system environment\n" if wanted == "system" and "owner" not in route else route
        if wanted == "custom" and route == NO_MALLOC:
            expected = "custom environment\n"
        assert (outcome.output, outcome.errors) == (expected, "")
    outcome = run([program, mistake], preload, environment=environment, expect=None)
    assert outcome.output.startswith(route)
    assert complaint in outcome.errors


def test_memcheck_finds_a_mistake(library: Library, run: Run, compile: Callable[..., Path]) -> None:
    """It puts itself in the place of our malloc too."""
    if shutil.which("valgrind") is None:
        needs.missing("valgrind", "valgrind")
    command = ["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", compile("sanitized.c", 64, "-O0")]
    preload = [library(64).path, allocators(64)["mimalloc"]]
    assert run(command, preload).output == NO_MALLOC
    outcome = run([*command, "overflow"], preload, expect=9)
    assert "0 bytes after a block of size 10 alloc'd" in outcome.errors


LEFT_OUT = ("exports", "operators")
"""Malloc must stay ThreadSanitizer's."""


def test_threads_that_make_the_first_requests_do_not_race(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("".join(f"no-program-{number}\n" for number in range(30_000)))
    general = ["g++", "-std=c++17", "-g", "-O1", "-fno-exceptions", "-fno-rtti", "-fno-builtin", "-fsanitize=thread"]
    general += ["-D_REENTRANT", f'-DMEMPROXY_LIST="{tmp_path}/list"', f"-I{NATIVE}", "-c"]
    sources = [source for source in NATIVE.glob("*.cc") if source.stem not in LEFT_OUT]
    sources.append(PROGRAMS / "first_calls.cc")
    must([*general, *sources], cwd=tmp_path, env=clean_environment())
    # Without its constructor, which would decide before there are threads.
    must(["objcopy", "--remove-section=.init_array", "--remove-section=.rela.init_array", "memproxy.o"], cwd=tmp_path)
    must(["g++", "-fsanitize=thread", "-pthread", *tmp_path.glob("*.o"), "-o", "first_calls"], cwd=tmp_path)
    early = 0
    for _ in range(6):
        done = must([tmp_path / "first_calls"], env=clean_environment())
        words = done.stdout.split()
        assert words[:2] == ["system", "sanitizer,"], done.stdout
        early += int(words[2])
    assert early > 0, "no thread came in the middle of the decision"

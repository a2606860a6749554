"""Requests before the decision, in the middle of it, and from several threads at once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import NATIVE, Installed, Outcome, allocators, both_abis, each_allocator

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]


def dependencies(path: Path) -> list[Path]:
    """What the loader would load with it, itself included."""
    output = subprocess.run(["ldd", str(path)], check=True, text=True, stdout=subprocess.PIPE).stdout
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", output)]


each_route = pytest.mark.parametrize("route", ["custom", "system"])


@each_allocator
@each_route
def test_constructor_of_an_earlier_object(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    early = compile("early_object.c", bits, "-shared", "-Wl,-soname,libearly.so", name="libearly.so")
    program = compile("early_main.c", bits, str(early), f"-Wl,-rpath,{early.parent}")
    preload = [library(bits).path, allocators(bits)[allocator]]
    run([program], preload, environment={"MEMPROXY_ROUTE": route})


@each_allocator
@each_route
def test_before_any_initialiser(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    program = compile("halfway_main.c", bits, "-DPREINIT")
    preload = [library(bits).path, allocators(bits)[allocator]]
    # The environment cannot be read then; what it says still counts.
    assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output.split() == [route]


@each_allocator
@each_route
def test_in_the_middle_of_the_decision(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    preload = [compile("halfway.c", bits, "-shared"), library(bits).path, allocators(bits)[allocator]]
    run([compile("halfway_main.c", bits)], preload, environment={"MEMPROXY_ROUTE": route})


@both_abis
@each_route
def test_many_blocks_from_many_threads_in_the_middle_of_the_decision(
    library: Library, compile: Compile, run: Run, bits: int, route: str
) -> None:
    halfway = compile("halfway.c", bits, "-shared", "-DTHREADS=6", "-DBLOCKS=2500")
    for name in ("jemalloc", "tcmalloc_minimal"):
        preload = [halfway, library(bits).path, allocators(bits)[name]]
        run([compile("halfway_main.c", bits)], preload, environment={"MEMPROXY_ROUTE": route})


@both_abis
def test_in_the_middle_of_the_decision_without_an_allocator(
    library: Library, compile: Compile, run: Run, bits: int
) -> None:
    preload = [compile("halfway.c", bits, "-shared"), library(bits).path]
    assert run([compile("halfway_main.c", bits)], preload).output == "system\n"


@both_abis
@each_route
def test_main_finds_nothing_changed(library: Library, compile: Compile, run: Run, bits: int, route: str) -> None:
    program = compile("errno_main.c", bits)
    plain = run([program]).output
    assert plain.startswith("errno 0, descriptor 3,")
    for listed in (False, True):
        proxy = library(bits)
        if listed:
            proxy.exclude("x", "y")
        preload = [proxy.path, allocators(bits)["mimalloc"]]
        assert run([program], preload, environment={"MEMPROXY_ROUTE": route}).output == plain


@both_abis
def test_linker_tells_nothing_of_its_objects(library: Library, compile: Compile, run: Run, bits: int) -> None:
    """Then memory comes from libc by dlsym; and what went wrong is not left in errno."""
    blind = compile("no_object_list.c", bits, "-shared")
    preload = [blind, library(bits).path, allocators(bits)["mimalloc"]]
    report = run([compile(NATIVE / "served.c", bits)], preload).json
    assert (report["route"], report["reason"]) == ("system", "no-allocator")
    assert set(report["each"].values()) == {"glibc"}
    assert run([compile("errno_main.c", bits)], preload).output.startswith("errno 0, descriptor 3, dlerror none,")


@both_abis
def test_chroot_without_proc(library: Library, compile: Compile, run: Run, bits: int, tmp_path: Path) -> None:
    """The program's name comes from the kernel's auxiliary vector then."""
    if os.geteuid() != 0:
        pytest.skip("only root can chroot")
    program = compile("tell_route.c", bits, f"-I{NATIVE}")
    proxy = library(bits)
    preload = [proxy.path, allocators(bits)["mimalloc"]]
    root = tmp_path / "root"
    for path in {program, *preload, *dependencies(program), *dependencies(allocators(bits)["mimalloc"])}:
        inside = root / path.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, inside)
    list_inside = root / proxy.list_path.relative_to("/")
    list_inside.write_text("something\ntell_route\n")
    outcome = run([program], preload, preexec_fn=lambda: os.chroot(root))
    assert outcome.output == "system list\n"
    list_inside.write_text("tell_rout\n")
    assert run([program], preload, preexec_fn=lambda: os.chroot(root)).output == "custom default\n"


@each_allocator
@each_route
def test_fork_and_vfork_of_a_process_with_threads(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    preload = [library(bits).path, allocators(bits)[allocator]]
    run([compile("forks.c", bits)], preload, environment={"MEMPROXY_ROUTE": route})

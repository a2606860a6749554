"""processes.py on real processes of this machine: both ABIs under the real library, and each way to be without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from proxied import clean_environment

from memproxy_sol import build, process_linux, processes
from memproxy_sol.process import Process
from memproxy_sol.processes import LINUX, Configured
from memproxy_sol.root import Root
from tests import needs

WAITS = Path(__file__).parents[1] / "native" / "programs" / "waits.c"
both_abis = pytest.mark.parametrize("bits", [64, 32])


@pytest.fixture(scope="module")
def libraries() -> dict[int, Path]:
    """The real libmemproxy.so of this machine, by bits."""
    for bits in (64, 32):
        needs.loader(bits)
    return build.cached("native", (64, 32))


@pytest.fixture(scope="module")
def waits(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A program that says that it runs, and waits."""
    directory = tmp_path_factory.mktemp("waits")
    return {bits: needs.compile_program(WAITS, bits, directory / f"waits{bits}") for bits in (64, 32)}


@contextmanager
def running(
    command: Sequence[object], preload: Sequence[object] = (), environment: Mapping[str, str] | None = None, **more: Any
) -> Iterator[int]:
    """The number of a process that has said that it waits; it ends with the block."""
    variables = {**clean_environment(), **(environment or {})}
    if preload:
        variables["LD_PRELOAD"] = ":".join(map(str, preload))
    with subprocess.Popen(
        list(map(str, command)), env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.read(1) == b"+"
            yield process.pid
        finally:
            process.kill()


def look(pid: int, libraries: Mapping[int, Path], since: float = 0.0) -> Process:
    """What is said of process `pid`, on a machine on which these libraries are configured."""
    expected = {bits: Configured(str(path), since) for bits, path in libraries.items()}
    (found,) = (one for one in processes.look(Root("/"), expected, proc="/proc", kernel=LINUX) if one.pid == pid)
    return found


@both_abis
def test_loaded(libraries: dict[int, Path], waits: dict[int, Path], bits: int) -> None:
    allocator = needs.allocator("jemalloc", bits)
    before = time.time()
    with running([waits[bits]], [libraries[bits], allocator]) as pid:
        found = look(pid, libraries)
    assert (found.state, found.bits, found.current, found.route) == ("loaded", bits, True, "custom")
    assert (found.name, found.program, found.uid) == (f"waits{bits}", str(waits[bits]), os.getuid())
    assert found.record is not None
    assert found.record.allocator == allocator
    assert found.started is not None
    assert abs(found.started - before) < 3600  # btime has whole seconds, and follows the clock


@both_abis
def test_route_by_its_own_environment(libraries: dict[int, Path], waits: dict[int, Path], bits: int) -> None:
    variables = {"MEMPROXY_ROUTE": "system"}
    with running([waits[bits]], [libraries[bits], needs.allocator("jemalloc", bits)], variables) as pid:
        found = look(pid, libraries)
    assert found.record is not None
    assert (found.route, found.record.reason) == ("system", "environment")


def test_of_a_generation_that_was_removed(libraries: dict[int, Path], waits: dict[int, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(libraries[64], tmp_path / "libmemproxy.so"))
    with running([waits[64]], [copy]) as pid:
        copy.unlink()
        found = look(pid, libraries)
    assert (found.state, found.current, found.library) == ("loaded", False, str(copy))
    assert found.record is not None
    assert found.record.reason == "no-allocator"


@both_abis
def test_static(libraries: dict[int, Path], tmp_path: Path, bits: int) -> None:
    program = needs.compile_program(WAITS, bits, tmp_path / "static", "-static")
    with running([program]) as pid:
        found = look(pid, libraries, since=0.0)
    assert (found.state, found.bits) == ("static", bits)


def test_position_independent_and_static(libraries: dict[int, Path], tmp_path: Path) -> None:
    program = needs.compile_program(WAITS, 64, tmp_path / "static", "-static-pie")
    with running([program]) as pid:
        assert look(pid, libraries).state == "static"


@both_abis
def test_earlier_and_unexplained(libraries: dict[int, Path], waits: dict[int, Path], bits: int) -> None:
    with running([waits[bits]]) as pid:
        assert look(pid, libraries, since=2.0**40).state == "earlier"
        assert look(pid, libraries, since=1.0).state == "unexplained"
        assert look(pid, {}).state == "not-configured"


def test_kernel(libraries: dict[int, Path]) -> None:
    found = [one for one in processes.look(Root("/"), {}, proc="/proc", kernel=LINUX) if one.name == "kthreadd"]
    if not found:
        pytest.skip("a container that does not show the kernel's processes")
    assert found[0].state == "kernel"


def test_zombie(libraries: dict[int, Path]) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert look(process.pid, libraries).state == "zombie"
    finally:
        process.wait()


def test_gone_between_listing_and_looking(waits: dict[int, Path]) -> None:
    with running([waits[64]]) as pid:
        reading = process_linux.processes("/proc")
        next(reading)
    assert [one.state for one in reading if one.pid == pid] == ["gone"]


def test_of_another_user(libraries: dict[int, Path], waits: dict[int, Path], tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    code = (
        "import json, os, sys; from memproxy_sol import processes; from memproxy_sol.root import Root\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(json.dumps([p.to_json() for p in processes.look(Root('/'), {}, proc='/proc', kernel='Linux')]))"
    )
    with running([waits[64]], [libraries[64]]) as pid:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, cwd=Path(__file__).parents[2], text=True
        )
    (found,) = (one for one in json.loads(done.stdout) if one["pid"] == pid)
    assert (found["state"], found["detail"], found["name"]) == ("unreadable", "Permission denied", "waits64")


def test_other_mount_namespace(libraries: dict[int, Path], waits: dict[int, Path]) -> None:
    unshare = shutil.which("unshare")
    if os.getuid() != 0 or unshare is None:
        pytest.skip("only root can make a mount namespace, with unshare")
    allocator = needs.allocator("jemalloc", 64)
    with running([unshare, "-m", waits[64]], [libraries[64], allocator]) as pid:
        found = look(pid, libraries)
    assert (found.state, found.route) == ("other-zone", "custom")
    assert found.zone.startswith("mnt:[")


@pytest.mark.parametrize(
    "name", [b"a) R 1 2 3", b"\xff\x1b[2J", b"new\nline", b" libmemproxy.so", b"(((", b"x (deleted)"], ids=ascii
)
def test_hostile_names(libraries: dict[int, Path], waits: dict[int, Path], tmp_path: Path, name: bytes) -> None:
    program = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    shutil.copy(waits[64], program)
    with running([program], [libraries[64]]) as pid:
        found = look(pid, libraries)
    assert found.name == os.fsdecode(name[:15])
    assert found.program in (program, process_linux.without_suffix(program))
    assert (found.state, found.bits) == ("loaded", 64)


def test_forked_by_an_earlier_one(libraries: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child starts later than the configuration, and never calls exec."""
    source = tmp_path / "forks.c"
    source.write_text(
        "#include <unistd.h>\n"
        'int main(void) { char b; read(0, &b, 1); if (fork()) pause(); write(1, "+", 1); pause(); return 0; }\n'
    )
    program = needs.compile_program(source, 64, tmp_path / "forks")
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            parent = look(process.pid, libraries)
            assert parent.started is not None
            process.stdin.write(b"x")
            process.stdin.flush()
            assert process.stdout.read(1) == b"+"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            child = int(children[0])
            # As if the configuration had come between the two, however quick the machine is.
            seen = {one.pid: one for one in process_linux.processes("/proc")}
            later = {**seen, child: _later(seen[child], parent.started + 10)}
            monkeypatch.setattr(process_linux, "processes", lambda directory: iter(later.values()))
            found = look(child, libraries, since=parent.started + 5)
            assert (found.state, found.detail) == ("earlier", f"forked by process {process.pid}")
        finally:
            # Asked first: a zombie has no children any more.
            for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(number), 9)
            process.kill()


def _later(seen: Any, started: float) -> Any:
    return type(seen)(**{**seen.__dict__, "started": started})

"""Which route a process takes, by list and by environment, and who then serves it, by the allocators' own account."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from proxied import NATIVE, PROGRAMS, Installed, Outcome, allocators, both_abis, each_allocator, kind

Library = Callable[..., Installed]
Served = Callable[..., dict[str, Any]]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]


def assert_all_served_by(report: dict[str, Any], owner: str) -> None:
    assert report["served_by"] == owner
    assert set(report["each"].values()) == {owner}, report["each"]
    assert len(report["each"]) >= 11


@each_allocator
def test_unlisted_program_is_served_by_it(library: Library, served: Served, bits: int, allocator: str) -> None:
    path = allocators(bits)[allocator]
    proxy = library(bits)
    proxy.exclude("some-other-program")
    report = served(bits, [proxy.path, path])
    assert (report["bits"], report["route"], report["reason"]) == (bits, "custom", "default")
    assert report["allocator"] == str(path)
    assert_all_served_by(report, kind(allocator))


@each_allocator
def test_listed_program_is_served_by_libc(library: Library, served: Served, bits: int, allocator: str) -> None:
    proxy = library(bits)
    proxy.exclude("# what stays as it is", "some-other-program", "served")
    report = served(bits, [proxy.path, allocators(bits)[allocator]])
    assert (report["route"], report["reason"]) == ("system", "list")
    assert report["allocator"].endswith("/libc.so.6")
    assert_all_served_by(report, "glibc")


@each_allocator
def test_environment_says_system(library: Library, served: Served, bits: int, allocator: str) -> None:
    proxy = library(bits)
    report = served(bits, [proxy.path, allocators(bits)[allocator]], environment={"MEMPROXY_ROUTE": "system"})
    assert (report["route"], report["reason"]) == ("system", "environment")
    assert_all_served_by(report, "glibc")


@each_allocator
def test_environment_beats_the_list(library: Library, served: Served, bits: int, allocator: str) -> None:
    proxy = library(bits)
    proxy.exclude("served")
    report = served(bits, [proxy.path, allocators(bits)[allocator]], environment={"MEMPROXY_ROUTE": "custom"})
    assert (report["route"], report["reason"]) == ("custom", "environment")
    assert_all_served_by(report, kind(allocator))


@both_abis
@pytest.mark.parametrize("word", ["", "System", "system ", "none", "systemcustom"])
def test_unknown_word_in_the_environment_is_no_order(library: Library, served: Served, bits: int, word: str) -> None:
    proxy = library(bits)
    proxy.exclude("served")
    report = served(bits, [proxy.path, allocators(bits)["jemalloc"]], environment={"MEMPROXY_ROUTE": word})
    assert (report["route"], report["reason"]) == ("system", "list")


@both_abis
@pytest.mark.parametrize("listed", [False, True])
def test_no_allocator_at_all_is_libc(library: Library, served: Served, bits: int, listed: bool) -> None:
    proxy = library(bits)
    if listed:
        proxy.exclude("served")
    report = served(bits, [proxy.path])
    assert (report["route"], report["reason"]) == ("system", "list" if listed else "no-allocator")
    assert_all_served_by(report, "glibc")


@both_abis
def test_order_for_custom_without_an_allocator_is_libc(library: Library, served: Served, bits: int) -> None:
    report = served(bits, [library(bits).path], environment={"MEMPROXY_ROUTE": "custom"})
    assert (report["route"], report["reason"]) == ("system", "no-allocator")


@each_allocator
@pytest.mark.parametrize("route", ["custom", "system"])
def test_cxx_program_with_exceptions_and_threads(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    owner = compile("owner.c", bits, "-c", f"-I{NATIVE}", name="owner.o")
    program = compile("operators.cc", bits, "-std=c++17", str(owner))
    preload = [library(bits).path, allocators(bits)[allocator]]
    report = run([program], preload, environment={"MEMPROXY_ROUTE": route}).json
    assert len(report) == 9
    assert set(report.values()) == {kind(allocator) if route == "custom" else "glibc"}, report


@each_allocator
def test_listed_cxx_program_takes_new_from_libc(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str
) -> None:
    owner = compile("owner.c", bits, "-c", f"-I{NATIVE}", name="owner.o")
    program = compile("operators.cc", bits, "-std=c++17", str(owner))
    proxy = library(bits)
    proxy.exclude(program.name)
    report = run([program], [proxy.path, allocators(bits)[allocator]]).json
    assert set(report.values()) == {"glibc"}, report


@pytest.mark.parametrize("allocator", [None, *allocators(64)])
@pytest.mark.parametrize("route", ["custom", "system"])
def test_python_runs(library: Library, run: Run, allocator: str | None, route: str) -> None:
    script = (
        "import json, re, threading, ctypes, subprocess\n"
        "made = []\n"
        "threads = [threading.Thread(target=lambda: made.extend(str(n) * 50 for n in range(2000))) for _ in range(8)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "assert len(json.loads(json.dumps(made))) == 16000\n"
        "assert subprocess.run(['/bin/echo', 'child'], capture_output=True).stdout == b'child\\n'\n"
        "route = ctypes.CDLL(None).memproxy_route; route.restype = ctypes.c_char_p\n"
        "print(route().decode())\n"
    )
    preload = [library(64).path, *([allocators(64)[allocator]] if allocator else [])]
    environment = {"MEMPROXY_ROUTE": route, "PYTHONMALLOC": "malloc"}
    outcome = run([os.path.realpath(sys.executable), "-S", "-c", script], preload, environment=environment)
    assert outcome.output.split() == [route if allocator else "system"]


@pytest.mark.parametrize("route", ["custom", "system"])
def test_shell_of_one_abi_starts_programs_of_the_other(
    library: Library, compile: Compile, run: Run, route: str
) -> None:
    programs = [compile(NATIVE / "served.c", bits) for bits in (64, 32)]
    preload = [item for bits in (64, 32) for item in (library(bits).path, allocators(bits)["mimalloc"])]
    command = ["/bin/sh", "-c", " && ".join(str(program) for program in programs)]
    output = run(command, preload, environment={"MEMPROXY_ROUTE": route}).output.splitlines()
    owner = "mimalloc" if route == "custom" else "glibc"
    assert [
        f'"bits": {bits}' in line and f'"served_by": "{owner}"' in line for bits, line in zip((64, 32), output)
    ] == [
        True,
        True,
    ]


@both_abis
def test_debug_says_route_and_reason_in_one_line(library: Library, compile: Compile, run: Run, bits: int) -> None:
    program = compile("early_main.c", bits, str(PROGRAMS / "nothing_early.c"))
    proxy = library(bits)
    proxy.exclude("nothing", program.name)
    jemalloc = allocators(bits)["jemalloc"]
    told = run([program], [proxy.path, jemalloc], environment={"MEMPROXY_DEBUG": "1"}).errors
    assert told.count("\n") == 1
    assert told.startswith(f"memproxy: {program}: route system, served by ")
    assert ": line 2 of /" in told
    assert told.endswith(f"{proxy.list_path}\n")
    proxy.list_path.unlink()
    told = run([program], [proxy.path, jemalloc], environment={"MEMPROXY_DEBUG": "1"}).errors
    assert f"route custom, served by {jemalloc}: no line of " in told
    told = run([program], [proxy.path], environment={"MEMPROXY_DEBUG": "1"}).errors
    assert "no custom allocator is loaded" in told
    for other in ("0", "yes", ""):
        assert run([program], [proxy.path, jemalloc], environment={"MEMPROXY_DEBUG": other}).errors == ""


@both_abis
@pytest.mark.parametrize("listed", [False, True])
def test_record_says_what_the_functions_say(
    library: Library, compile: Compile, run: Run, bits: int, listed: bool
) -> None:
    proxy = library(bits)
    if listed:
        proxy.exclude("# comment", "", "tell_route")
    preload = [proxy.path, allocators(bits)["jemalloc"]]
    output = run([compile("tell_route.c", bits, f"-I{NATIVE}"), "record"], preload).output.splitlines()
    assert output[0] == ("system list" if listed else "custom default")
    magic, version, size_is_right, state, route, reason, line, path = output[1].split()
    assert (magic, version, size_is_right, state) == ("memproxy", "1", "1", "2")
    assert (route, reason, line) == (("0", "2", "3") if listed else ("1", "1", "0"))
    assert Path(path).name == ("libc.so.6" if listed else "libjemalloc.so.2")


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that every user can search, which the test's own one is not."""
    directory = Path(tempfile.mkdtemp(prefix="memproxy-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@both_abis
def test_set_uid_program_takes_nothing_from_the_environment(
    library: Library, compile: Compile, run: Run, public_directory: Path, bits: int
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a set-user-ID program of another user")
    proxy = library(bits, public_directory)
    allocator = public_directory / "libjemalloc.so.2"
    shutil.copy(allocators(bits)["jemalloc"], allocator)
    # glibc preloads into secure processes from system directories alone; a dependency by absolute path is as good here.
    built = compile(
        NATIVE / "served.c", bits, "-Wl,--no-as-needed", str(proxy.path), str(allocator),
        f"-Wl,-rpath,{public_directory}", name="secure",
    )  # fmt: skip
    program = public_directory / "secure"
    shutil.copy(built, program)
    nobody = pwd.getpwnam("nobody").pw_uid
    orders = {"MEMPROXY_ROUTE": "system", "MEMPROXY_DEBUG": "1"}

    program.chmod(0o755)
    ordinary = run([program], environment=orders, user=nobody, cwd="/")
    assert ordinary.json["route"] == "system"
    assert ordinary.errors.startswith("memproxy: ")

    os.chown(program, pwd.getpwnam("daemon").pw_uid, 0)
    program.chmod(0o4755)
    secure = run([program], environment=orders, user=nobody, cwd="/")
    assert (secure.json["route"], secure.json["reason"]) == ("custom", "default")
    assert secure.json["served_by"] == "jemalloc"
    assert secure.errors == ""

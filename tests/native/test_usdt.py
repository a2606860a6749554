"""The static probes: notes that readelf and gdb read, and breakpoints at which gdb shows what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from proxied import NATIVE, Installed, allocators, both_abis, clean_environment, must

from tests import needs

Library = Callable[..., Installed]
Compile = Callable[..., Path]

ARGUMENTS = {"decide": 0, "route": 5, "bootstrap": 3}


@both_abis
def test_notes_name_the_probes_and_their_arguments(built: dict[int, Path], bits: int) -> None:
    notes = must(["readelf", "-nW", built[bits]]).stdout
    if "stapsdt" not in notes and not Path("/usr/include/x86_64-linux-gnu/sys/sdt.h").exists():
        needs.missing("sys/sdt.h", "systemtap-sdt-dev")
    found = re.findall(r"Provider: (\w+)\n\s+Name: (\w+)\n.*Semaphore: (\w+)\n\s+Arguments: ?(.*)\n", notes)
    assert {(provider, name, len(arguments.split())) for provider, name, _, arguments in found} == {
        ("memproxy", name, count) for name, count in ARGUMENTS.items()
    }
    assert {int(semaphore, 16) for _, _, semaphore, _ in found} == {0}


def gdb(commands: list[str], program: Path, preload: list[Path], environment: dict[str, str]) -> str:
    """What gdb prints; `commands` come after the preload was set for the program alone."""
    if shutil.which("gdb") is None:
        needs.missing("gdb", "gdb")
    before = ["set confirm off", "set breakpoint pending on", "set debuginfod enabled off", "set width 0"]
    before += ["set startup-with-shell off", "set disable-randomization off"]
    for name, value in {**environment, "LD_PRELOAD": ":".join(map(str, preload))}.items():
        before.append(f"set environment {name}={value}")
    words = ["gdb", "-nx", "-batch"]
    for command in [*before, *commands]:
        words += ["-ex", command]
    done = subprocess.run(
        [*words, str(program)], env=clean_environment(), text=True, capture_output=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


@both_abis
@pytest.mark.parametrize("listed", [False, True])
def test_gdb_stops_at_the_decision_and_reads_it(library: Library, compile: Compile, bits: int, listed: bool) -> None:
    proxy = library(bits)
    allocator = allocators(bits)["jemalloc"]
    proxy.exclude("other", *(["serv?d"] if listed else []))
    program = compile(NATIVE / "served.c", bits)
    said = "route=%s reason=%s program=%s line=%d allocator=%s\\n"
    arguments = "(char *)$_probe_arg0, (char *)$_probe_arg1, (char *)$_probe_arg2, $_probe_arg3, (char *)$_probe_arg4"
    commands = ["break -probe-stap memproxy:decide", "break -probe-stap memproxy:route", "run"]
    commands += ["info probes stap memproxy", "continue", f'printf "{said}", {arguments}', "continue"]
    output = gdb(commands, program, [proxy.path, allocator], {})
    assert re.search(r"^stap +memproxy +route +0x", output, re.M), output
    server = r"\S*/libc\.so\.6" if listed else re.escape(str(allocator))
    route, reason, number = ("system", "list", 2) if listed else ("custom", "default", 0)
    path = re.escape(str(program.resolve()))
    line = f"^route={route} reason={reason} program={path} line={number} allocator={server}$"
    assert re.search(line, output, re.M), output
    assert f'"route": "{route}"' in output
    assert "exited normally" in output


@both_abis
def test_gdb_stops_at_bootstrap_memory(library: Library, compile: Compile, bits: int) -> None:
    halfway = compile("halfway.c", bits, "-shared")
    commands = ["break -probe-stap memproxy:bootstrap", "run"]
    commands += ['printf "size=%d alignment=%d\\n", $_probe_arg1, $_probe_arg2', "print *(char *)$_probe_arg0"]
    commands += ["delete", "continue"]
    output = gdb(commands, compile("halfway_main.c", bits), [halfway, library(bits).path], {})
    assert re.search(r"^size=[1-9]\d* alignment=[1-9]\d*$", output, re.M), output
    assert re.search(r"^\$1 = 0 ", output, re.M), output
    assert "exited normally" in output


def test_dtrace_builds_the_probes_by_its_own_step(built: dict[int, Path], tmp_path: Path) -> None:
    """By SystemTap's stand-in for Solaris' command: the rules run, and the object is whole."""
    if shutil.which("dtrace") is None:
        needs.missing("dtrace", "systemtap-sdt-dev")
    script = built[64].parents[2] / "source" / "configure"
    must([script, "CXXFLAGS=-m64 -O0", "--enable-usdt=dtrace"], cwd=tmp_path, env=clean_environment())
    must(["make", "-j2"], cwd=tmp_path, env=clean_environment())
    notes = must(["readelf", "-nW", tmp_path / ".libs" / "libmemproxy.so"]).stdout
    assert set(re.findall(r"Name: (\w+)", notes)) == set(ARGUMENTS)

"""What libmemproxy asks of the kernel: nothing once main runs, and of files the compiled-in list alone."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from proxied import NATIVE, Installed, Outcome, allocators, both_abis, each_allocator, each_common_allocator

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]


@each_allocator
@pytest.mark.parametrize("route", ["custom", "system"])
def test_signals_while_memory_is_asked_for(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    run(
        [compile("interrupted.c", bits)], [library(bits).path, allocators(bits)[allocator]],
        environment={"MEMPROXY_ROUTE": route},
    )  # fmt: skip


@each_common_allocator
@pytest.mark.parametrize("route", ["custom", "system"])
def test_program_that_may_make_no_system_call(
    library: Library, compile: Compile, run: Run, bits: int, allocator: str, route: str
) -> None:
    """Strict seccomp kills at the first one; what the allocator has at hand it gives all the same."""
    preload = [library(bits).path, allocators(bits)[allocator]]
    assert run([compile("sandboxed.c", bits)], preload, environment={"MEMPROXY_ROUTE": route}).output == "ok\n"


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that every user can search, which the test's own one is not."""
    directory = Path(tempfile.mkdtemp(prefix="memproxy-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


# VFS_CAP_REVISION_2, effective; CAP_NET_BIND_SERVICE permitted; nothing inheritable.
ONE_CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


@both_abis
@pytest.mark.parametrize("right", ["set-user-ID", "set-group-ID", "capability"])
def test_secure_process_opens_the_compiled_in_list_and_nothing_else(
    library: Library, compile: Compile, public_directory: Path, bits: int, right: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a program rights")
    proxy = library(bits, public_directory)
    allocator = public_directory / "libmimalloc.so.2"
    shutil.copy(allocators(bits)["mimalloc"], allocator)
    # glibc preloads into secure processes from system directories alone; a dependency by absolute path is as good here.
    built = compile(
        "tell_route.c", bits, f"-I{NATIVE}", "-Wl,--no-as-needed", str(proxy.path), str(allocator),
        f"-Wl,-rpath,{public_directory}", name="secure",
    )  # fmt: skip
    program = public_directory / "secure"
    shutil.copy(built, program)
    program.chmod(0o755)
    daemon = pwd.getpwnam("daemon")
    if right == "set-user-ID":
        os.chown(program, daemon.pw_uid, 0)
        program.chmod(0o4755)
    elif right == "set-group-ID":
        os.chown(program, 0, daemon.pw_gid)
        program.chmod(0o2755)
    else:
        os.setxattr(program, "security.capability", ONE_CAPABILITY)
    trace = public_directory / "trace"
    command = ["strace", "-u", "nobody", "-e", "trace=file,write,read", "-o", str(trace), str(program)]
    variables = {"PATH": os.environ["PATH"], "MEMPROXY_ROUTE": "system", "MEMPROXY_DEBUG": "1"}
    done = subprocess.run(command, env=variables, cwd="/", text=True, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == ("custom default\n", "")
    opened = re.findall(r'^open(?:at\([^,]+, |\()"([^"]+)"', trace.read_text(), re.M)
    libraries = [path for path in opened if re.search(r"\.so(\.|$)|/glibc-hwcaps/", path)]
    by_mimalloc = [path for path in opened if path.startswith(("/proc/", "/sys/"))]
    rest = [path for path in opened if path not in libraries + by_mimalloc]
    assert rest == [path for path in rest if path.endswith(str(proxy.list_path))], opened
    assert len(rest) == 1, opened
    assert proxy.path.name in {Path(path).name for path in libraries}

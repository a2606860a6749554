"""The real command killed (SIGKILL, by strace) at calls that change something: no configuration ever names a missing
object, and the next command leads to one of the two intended states. A fixed sample; every call is a later hunt."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memproxy_sol import abi, preloads
from memproxy_sol.ld_config import encode, layout_for, new
from tests.images import CONFIG, Image

LAYOUTS = {bits: layout_for(abi.X86, bits) for bits in (32, 64)}
SAMPLE = [
    *(("install", "rename", count) for count in (1, 2, 3, 4, 5, 6, 7, 8)),
    *(("install", "mkdir", count) for count in (2, 5)),
    *(("install", "fsync", count) for count in (1, 9, 21, 33)),
    ("install", "fchmod", 3),
    *(("uninstall", "rename", count) for count in (1, 2, 3)),
    *(("uninstall", "unlink", count) for count in (1, 2, 3, 5)),
    *(("uninstall", "rmdir", count) for count in (1, 2, 3)),
    *(("uninstall", "fsync", count) for count in (1, 5, 9)),
]


def run(image: Image, arguments: list[str], kill: tuple[str, int] | None = None) -> int:
    """The command as a process of its own; with `kill`, dead at the n-th such call that changes the image."""
    command = [sys.executable, "-m", "memproxy_sol", *arguments, "--root", str(image.path)]
    if kill is not None:
        name, count = kill
        # Only calls of our own: the interpreter makes none of these with bytecode writing switched off.
        command = ["strace", "-qq", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={count}", *command]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120).returncode


def no_process_would_die(image: Image) -> None:
    """Every object that a configuration names is there, whole, for the right class."""
    for bits in (32, 64):
        path = image / CONFIG[bits]
        if not path.exists():
            continue
        effective = preloads.effective(path.read_bytes(), LAYOUTS[bits])
        for item in effective.preloads:
            sub = "64/" if bits == 64 else ""
            assert (image / item.name[1:]).read_bytes() == (image.objects / sub / Path(item.name).name).read_bytes()


@pytest.mark.parametrize(("command", "call", "count"), SAMPLE)
def test_killed_at(image: Image, command: str, call: str, count: int) -> None:
    kill = (call, count)
    if shutil.which("strace") is None:
        pytest.fail("strace is missing: install strace, or run make setup", pytrace=False)
    image.write(CONFIG[32], encode(dataclasses.replace(new(LAYOUTS[32]), library_path=("/lib", "/usr/lib", "/opt"))))
    before = image.snapshot()
    allocators = [f"--allocator={image.objects / name}" for name in ("liballoc.so", "64/liballoc.so")]
    install = ["install", "--libraries", str(image.objects), *allocators]
    if command == "uninstall":
        assert run(image, install) == 0
        status = run(image, ["uninstall", "--purge"], kill)
    else:
        status = run(image, install, kill)
    assert status in (-9, 137), f"{command} makes fewer calls of {call}"
    no_process_would_die(image)
    assert image.run("verify") in (0, 3)
    assert image.install() == 0, image.err
    assert image.run("verify") == 0, image.out
    assert image.run("uninstall", "--purge") == 0
    assert image.snapshot() == before

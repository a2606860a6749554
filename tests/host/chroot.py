"""Chroot: a laboratory that is the running system of real processes, whose `/` it is.

Its programs are ELF files, which the kernel starts; the runtime linker that they name (chrooted/ld.so.1.c) gives each
process to chrooted/main.py, which is that process of the laboratory from there on, with its user, environment, input,
output and end. memproxy-sol runs there as it is: it starts commands through plumbum, probes as other users, its guard.

What the kernel and Python need of this machine lies below /laboratory and, for the runtime linker of that Python, in
directories that no Solaris has; all of it is mounted in a mount namespace of its own, in which nothing else is changed.
A process namespace of its own ends with the laboratory. There is no /proc but the laboratory's.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import needs
from tests.host.laboratory import Laboratory, Program
from tests.host.laboratory.commands import true
from tests.host.laboratory.elf import LINKERS
from tests.host.live import RELEASES
from tests.images import Image, furnish

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = CHECKOUT / "tests/host/chrooted"
OURS = "/usr/local/bin/memproxy-sol"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
FOREIGN = ("/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu")
"""Where this machine's runtime linker looks for itself and for what Python needs."""
SECONDS = 60.0
"""How long a command of ours may take before the test fails."""

_ADDRESS = "0x70000000"
"""Where ld.so.1 is mapped: out of the way of every program."""
_FLAGS = ("-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector", "-O1", "-s")


@dataclass(frozen=True)
class Started:
    """A process of the laboratory, as it saw itself when it began."""

    path: str
    argv: list[str]
    environment: list[str]
    pid: int
    ids: list[int]
    """Real, effective, saved user; the same of the group."""
    groups: list[int]
    directory: str
    session: bool
    """Whether it leads a session."""


class Chroot(Image):
    """A furnished laboratory; `run` is memproxy-sol on it, as root types it."""

    def __init__(self, top: Path, objects: Path) -> None:
        """`top` becomes it, or is what another `keep` has made."""
        super().__init__(top, Path("/laboratory/objects"), None)  # type: ignore[arg-type]
        self._objects = objects
        self._tracer: Sequence[str] = ()
        self._init: subprocess.Popen[str] | None = None
        if not top.exists():
            before = os.umask(0o022)
            try:
                self._furnish()
            finally:
                os.umask(before)

    def keep(self, top: Path) -> None:
        """A copy of the stopped machine, to begin with."""
        subprocess.run(["cp", "-a", self.path, top], check=True)

    def _furnish(self) -> None:
        self.path.mkdir()
        furnish(self.path, self._objects, RELEASES["illumos"])
        with (self / "etc/passwd").open("a") as stream:
            stream.write("nobody:x:60001:60001:NFS Anonymous Access User:/:\n")
        (self / OURS[1:]).unlink()
        lab = self.laboratory()
        lab.install_program(OURS, Program(64, true))
        for bits, path in LINKERS.items():
            source = SOURCES / "ld.so.1.c"
            needs.compile_program(source, bits, self / path[1:], *_FLAGS, f"-Wl,-Ttext-segment={_ADDRESS}")
        for directory in (*FOREIGN, "/dev", "/laboratory/bin", "/laboratory/checkout", "/laboratory/objects"):
            (self / directory[1:]).mkdir(parents=True, exist_ok=True)
        for directory in ("lib", f"lib/{_library().name}", "site"):
            (self / "laboratory" / directory).mkdir()
        self.write("laboratory/bin/python3", b"")
        for source in SOURCES.glob("*.py"):
            self.write(f"laboratory/{source.name}", source.read_bytes())
        self.write("laboratory/processes", b"", 0o666)

    def laboratory(self) -> Laboratory:
        """The laboratory, for a look at it from outside."""
        return Laboratory(self.path)

    # The machine

    def start(self) -> None:
        """Mount what is needed, in a namespace, and start its first process."""
        script = ["set -e"]
        for source, target in self._mounts():
            place = f"{self.path}{target}"
            script.append(f"mount --bind '{source}' '{place}'")
            if target != "/dev":
                script.append(f"mount -o remount,bind,ro '{place}'")
        script += [
            "ulimit -n 256",
            f"exec {_tool('chroot')} '{self.path}' /laboratory/bin/python3 -I /laboratory/init.py",
        ]
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        self._init = subprocess.Popen(
            [*unshare, "/bin/sh", "-c", "\n".join(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._init.stdout is not None
        said = self._init.stdout.readline()
        if said != "up\n":
            said += self._init.stdout.read()
            self.stop()
            pytest.fail(f"the laboratory does not come up: {said}", pytrace=False)

    def _mounts(self) -> list[tuple[str, str]]:
        import plumbum

        executable = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        site = Path(plumbum.__file__).parents[1]
        ours = [
            (executable, "/laboratory/bin/python3"),
            (os.fspath(_library()), f"/laboratory/lib/{_library().name}"),
            (os.fspath(site), "/laboratory/site"),
            (os.fspath(CHECKOUT), "/laboratory/checkout"),
            (os.fspath(self._objects), "/laboratory/objects"),
            ("/dev", "/dev"),
        ]
        return [*((path, path) for path in FOREIGN if os.path.isdir(path)), *ours]

    def _first(self) -> str:
        """The number of the first process, as this machine counts."""
        assert self._init is not None, "not started"
        return Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().strip()

    def orphans(self) -> list[int]:
        """The processes that nobody waits for, a guard above all, as this machine counts."""
        first = self._first()
        return [int(pid) for pid in Path(f"/proc/{first}/task/{first}/children").read_text().split()]

    def alone(self) -> bool:
        """Whether no process is left that nobody waits for."""
        return not self.orphans()

    def stop(self) -> None:
        """End every process, as a reboot does."""
        if self._init is not None:
            self._init.kill()
            self._init.wait()
            assert self._init.stdout is not None
            self._init.stdout.close()
            self._init = None

    def boot(self) -> str:
        """Reboot; what kept it from coming up, empty if nothing did."""
        self.stop()
        self.start()
        ran = self._enter(["/laboratory/bin/python3", "-I", "/laboratory/main.py", "boot"], {})
        return ran.stderr if ran.returncode else ""

    # What runs there

    def popen(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] = ENVIRONMENT,
        tracer: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Start a command as root, of groups root and sys, under a tracer of this machine if need be."""
        enter = [
            _tool("nsenter"),
            "--target",
            self._first(),
            "--mount",
            "--pid",
            *tracer,
            _tool("chroot"),
            "--groups=0,3",
        ]
        return subprocess.Popen(
            [*enter, os.fspath(self.path), *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
        )

    def _enter(
        self, command: Sequence[str], environment: Mapping[str, str] = ENVIRONMENT, tracer: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        process = self.popen(command, environment, tracer)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"{command} has not ended: {out}{err}", pytrace=False)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def command(self, *command: str, environment: Mapping[str, str] = ENVIRONMENT) -> subprocess.CompletedProcess[str]:
        """A command of the laboratory."""
        return self._enter(command, environment)

    def install(self, *arguments: str, allocator: str = "liballoc.so", tracer: Sequence[str] = ()) -> int:
        """As `Image.install`, under a tracer of this machine if need be."""
        self._tracer = tracer
        try:
            return super().install(*arguments, allocator=allocator)
        finally:
            self._tracer = ()

    def run(self, command: str, *arguments: str) -> int:
        """`memproxy-sol COMMAND ARGUMENTS` on the running system; what it printed is in `out` and `err`."""
        ran = self._enter([OURS, command, *arguments], tracer=self._tracer)
        self.out, self.err = ran.stdout, ran.stderr
        return ran.returncode

    def started(self) -> list[Started]:
        """Every process so far whose program is the laboratory's."""
        return [Started(**json.loads(line)) for line in (self / "laboratory/processes").read_text().splitlines()]

    def fault(self, text: str) -> None:
        """Make commands fail or lie: Python, in which `lab`, `Fault` and `Result` are known."""
        self.write("laboratory/faults.py", text.encode())

    def mend(self) -> None:
        """No more faults."""
        (self / "laboratory/faults.py").unlink()

    def snapshot(self, inodes: bool = False) -> dict[str, tuple[Any, ...]]:
        """As `Image.snapshot`, without what the laboratory itself or SMF keeps there."""
        own = ("laboratory", "etc/svc", "var/svc/log", "var/run", "var/log", "proc")
        return {
            name: entry
            for name, entry in super().snapshot(inodes).items()
            if not any(name == one or name.startswith(f"{one}/") for one in own)
        }


def eventually(what: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until it is so; the test fails if it has not become so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it has not come to that"
        time.sleep(0.02)


@functools.cache
def obstacle() -> str | None:
    """What keeps this machine from having such a laboratory; None if nothing does."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "the laboratory's programs are for x86 and started by Linux"
    if os.geteuid() != 0:
        return "only root can have namespaces and a root directory of his own"
    probe = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "mount", "--bind", "/dev", "/dev"]
    try:
        ran = subprocess.run(probe, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"unshare cannot be started: {error.strerror}"
    return f"namespaces or mounts are forbidden here: {ran.stderr.strip()}" if ran.returncode else None


def _tool(name: str) -> str:
    """A program of this machine, whatever PATH the environment that it passes on has."""
    return shutil.which(name) or name


def _library() -> Path:
    """The standard library of this Python."""
    return Path(os.__file__).parent

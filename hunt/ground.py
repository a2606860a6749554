"""Ground: a laboratory that can be put back to where it was, and in which commands run as processes of their own."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import pkgutil
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

import memproxy_sol
from hunt.calls import Calls
from memproxy_sol import elf, smf_method
from memproxy_sol.cli import main
from memproxy_sol.elf import Library
from memproxy_sol.smf import Smf
from memproxy_sol.smf_manifest import FMRI
from tests.host import live as lives
from tests.host.laboratory import Bricked, Fault

OWN = ("/var/opt/memproxy/changes", "/var/run/memproxy", "/var/svc/log", "/etc/svc", "/var/log", "/proc")
"""What may differ between equal states: journals, what does not survive a boot, what SMF writes for itself."""


_MARK = "-- calls --"
METHOD = ("verify", "--smf")
"""What the boot service runs."""


class Ground:
    """One laboratory below `top`, with memproxy-sol as its running system's."""

    def __init__(self, top: Path, objects: Path, patch: pytest.MonkeyPatch, release: str = "illumos") -> None:
        """`patch` puts it in the place of the running system, until it is undone."""
        self.objects = objects
        self.live = lives.build(top, objects, _Unread(), patch, release)  # type: ignore[arg-type]
        # Nobody waits: SMF of the laboratory goes on whenever it is asked.
        patch.setattr(Smf.__init__, "__defaults__", (None, time.monotonic, lambda seconds: None))
        import_all()
        self.lab = self.live.lab
        self.top = top
        self.struck = top.with_name("struck")
        places = (self.objects, self.top / "lib")
        self.remember_objects(patch, (path for place in places for path in place.rglob("*.so*")))

    @staticmethod
    def remember_objects(patch: pytest.MonkeyPatch, objects: Iterable[Path]) -> None:
        """Objects are taken apart once, and not in each child: what they are depends on their content alone."""
        known: dict[bytes, Library] = {}
        take_apart = elf.read

        def read(path: str) -> Library:
            try:
                found = known.get(hashlib.sha256(Path(path).read_bytes()).digest())
            except OSError:
                found = None
            return take_apart(path) if found is None else replace(found, path=path)

        for path in objects:
            known[hashlib.sha256(path.read_bytes()).digest()] = take_apart(os.fspath(path))
        patch.setattr(elf, "read", read)

    def keep(self, name: str) -> None:
        """Remember the tree as it is, under a name."""
        subprocess.run(["cp", "-a", self.top, self._kept(name)], check=True)

    def put_back(self, name: str) -> None:
        """Make the tree what it was."""
        shutil.rmtree(self.top)
        subprocess.run(["cp", "-a", self._kept(name), self.top], check=True)

    def discard(self, name: str) -> None:
        """Forget what was kept under a name."""
        shutil.rmtree(self._kept(name), ignore_errors=True)

    def _kept(self, name: str) -> Path:
        return self.top.with_name(f"{self.top.name}.{name}")

    def concerns(self, argument: object) -> bool:
        """Whether a path or a descriptor is of this tree."""
        try:
            where = os.readlink(f"/proc/self/fd/{argument}") if isinstance(argument, int) else os.fspath(argument)  # type: ignore[call-overload]
        except (OSError, TypeError):
            return False
        # A name without a directory is one beside a descriptor (dir_fd), which shutil and we use for nothing else.
        return not where.startswith("/") or where.startswith(f"{self.top}/")

    def run(self, arguments: Sequence[str], calls: Calls | None = None) -> tuple[int, str]:
        """`memproxy-sol ARGUMENTS` as a process of its own; its status (137: killed) and what it said."""

        def work() -> int:
            if calls is None:
                return _command(arguments)
            self.set_aside(calls)
            with calls.watching():
                status = _command(arguments)
            print("\n".join((_MARK, *calls.seen)), end="")
            return status

        result = lives.forked(work, {"PATH": os.environ["PATH"]})
        self.said, _, seen = result.out.decode("utf-8", "replace").partition(_MARK + "\n")
        self.seen = seen.split("\n")
        return result.status, self.said + result.err.decode("utf-8", "replace")

    def set_aside(self, calls: Calls) -> None:
        """Count nothing while a command of the host runs: it is a process of its own, which outlives us."""
        execute = self.lab.execute

        def aside(*words: Any, **options: Any) -> Any:
            calls.paused = True
            try:
                return execute(*words, **options)
            finally:
                calls.paused = False

        self.lab.execute = aside  # type: ignore[method-assign]

    def let_fail(self, fails: bool) -> None:
        """Let a program fail where the configurations are on trial, or no more."""
        self.lab.faults.clear()
        if fails:
            live = self.top / "var/ld/ld.config"
            said = b"ld.so.1: a program: fatal: relocation error\n"
            fault = Fault(status=-9, works=False, err=said, when=lambda argv: live.is_symlink())
            self.lab.faults.update(dict.fromkeys(("/usr/bin/ls", "/usr/bin/true"), fault))

    def brick(self) -> str | None:
        """Which program of which ABI, as root or another user, does not start; None if all do."""
        return self.lab.brick()

    def boot(self) -> str | None:
        """Reboot; what is wrong with that."""
        try:
            self.lab.boot()
        except Bricked as error:
            return f"it does not boot: {error}"
        return None

    def looked_at(self) -> str | None:
        """What is wrong with what our commands say that change nothing."""
        return None

    def identity(self) -> dict[str, tuple[int, int]]:
        """Of each file that has to be the very one again after an undo, what tells it from another."""
        return {}

    def run_here(self, arguments: Sequence[str]) -> tuple[int, str]:
        """`run` without a process of its own, which takes half as long; nothing can be struck."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                status = main(list(arguments))
            except Exception:
                said.write(traceback.format_exc())
                status = 120
        return status, said.getvalue()

    def count(self, arguments: Sequence[str]) -> list[str]:
        """The names of the calls that the command makes, in order."""
        status, said = self.run(arguments, Calls(concerns=self.concerns))
        if status not in (0, 1, 3, smf_method.ERR_CONFIG):
            raise RuntimeError(f"{arguments} ended with {status}: {said}")
        return self.seen

    def in_child(self, work: Callable[[], str | None]) -> str | None:
        """What `work` answers in a child of its own, so that nothing of it stays in memory."""

        def told() -> int:
            try:
                print(work() or "", end="")
            except Exception:
                traceback.print_exc()
                sys.stderr.flush()
                raise
            return 0

        result = lives.forked(told, {"PATH": os.environ["PATH"]})
        if result.status:
            return f"ended with {result.status}: {result.err.decode('utf-8', 'replace')[-600:]}"
        return result.out.decode("utf-8", "replace") or None

    def snapshot(self) -> dict[str, str]:
        """Every path of the tree that counts, with kind, mode, owner and content."""
        found = {}
        for directory, directories, names in os.walk(self.top):
            for name in (*directories, *names):
                path = os.path.join(directory, name)
                target = path[len(str(self.top)) :]
                if any(target == own or target.startswith(f"{own}/") for own in OWN):
                    continue
                found[target] = told(path)
        return found

    def guards(self) -> list[int]:
        """The processes that guard a trial of this tree."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                held = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
            except OSError:
                continue
            if int(pid) != os.getpid() and any(name.startswith(f"{self.top}/") for name in held):
                found.append(int(pid))
        return found

    def end_guards(self) -> None:
        """End whatever still guards a trial of this tree."""
        for pid in self.guards():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            while _lives(pid):
                time.sleep(0.005)

    def wait_for_guards(self) -> None:
        """Until whatever guards a trial has come to its end."""
        while self.guards():
            time.sleep(0.05)


def import_all() -> None:
    """Import the package once, and not in each child."""
    for module in pkgutil.walk_packages(memproxy_sol.__path__, "memproxy_sol."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _command(arguments: Sequence[str]) -> int:
    """`memproxy-sol ARGUMENTS`; METHOD without the process that only waits for it."""
    if tuple(arguments) != METHOD:
        return main(list(arguments))
    answer = smf_method._verify("/")
    print(answer.line(FMRI))
    return answer.status


class _Unread:
    def readouterr(self) -> tuple[str, str]:
        return "", ""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def told(path: str) -> str:
    status = os.lstat(path)
    head = f"{stat.filemode(status.st_mode)} {status.st_uid} {status.st_gid}"
    if stat.S_ISLNK(status.st_mode):
        return f"{head} -> {os.readlink(path)}"
    if stat.S_ISREG(status.st_mode):
        return f"{head} {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}"
    return head

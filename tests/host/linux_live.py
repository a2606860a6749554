"""A running Linux of its own: this machine's root under an overlay in memory, in mount and process namespaces.

`Sandbox` starts this file below unshare(1) as process 1 of it; that agent starts programs when it is told to. What they
write stays in memory and goes with it. Files of the sandbox are reached through /proc/PID/root, from outside, so that
a test can look at them and change them while no program starts in there any more. Bytes travel as base64.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
PRELOAD = "/etc/ld.so.preload"
NOBODY = 65534


@dataclass(frozen=True)
class Ended:
    """What became of a command; the exit status as subprocess has it."""

    status: int
    out: str
    err: str


class Sandbox:
    """One running system of its own."""

    def __init__(self, *options: str) -> None:
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", *options]
        self._process = subprocess.Popen(
            [*unshare, sys.executable, "-I", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._root = ""
        try:
            ready = self._answer()
        except BaseException:
            self.close()
            raise
        self._root = f"/proc/{self._child()}/root"
        assert ready == "ready"

    def _child(self) -> int:
        """The agent's number out here."""
        number = self._process.pid
        (child,) = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        return int(child)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, with all that runs in it."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(10)  # the end of its input is the agent's end, and that of all that it has started
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __truediv__(self, path: str) -> Path:
        """A file of it, by its absolute path in there; what a link there leads to is somebody else's."""
        return Path(self._root + path)

    def run(self, *command: str, user: int = 0, environment: dict[str, str] | None = None) -> Ended:
        """Start a program in there and wait for its end."""
        status, out, err = self._ask(command=command, user=user, environment=environment or {})
        texts = [base64.b64decode(data).decode(errors="replace") for data in (out, err)]
        return Ended(status, *texts)

    def memproxy(self, *arguments: str, before: tuple[str, ...] = (), **environment: str) -> Ended:
        """The command, as a process of its own; `before` is put in front of it."""
        known = {
            "PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": os.environ.get("HOME", "/"), **environment,
        }  # fmt: skip
        return self.run(*before, sys.executable, "-m", "memproxy_sol", *arguments, environment=known)

    def empty(self, directory: str) -> None:
        """Mount an empty file system in memory over a directory, as a reboot leaves /run."""
        assert self._ask(empty=directory) is None

    def kill_others(self) -> None:
        """Kill all that runs in it but the agent, as the power does."""
        assert self._ask(kill=True) is None

    def namespace(self) -> str:
        """The name of its mount namespace."""
        return os.readlink(f"{os.path.dirname(self._root)}/ns/mnt")

    def _ask(self, **task: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError("the sandbox has ended")
        return json.loads(line)


@cache
def obstacle() -> str | None:
    """What keeps this machine from a sandbox in which a trial can be made; None if nothing does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root can have a system of his own, on Linux"
    try:
        with Sandbox() as sandbox:
            # A trial lays one more overlay over /etc.
            done = sandbox.run("/bin/mount", "-t", "overlay", "-o", "ro,lowerdir=/var:/etc", "overlay", "/etc")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"namespaces or mounts are forbidden here: {error}"
    return None if done.status == 0 else f"no overlay over an overlay here: {done.err}"


def needed() -> None:
    """Skip the test where there can be no sandbox."""
    reason = obstacle()
    if reason:
        pytest.skip(reason)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what has to come."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"{what} has not come")


class Watch:
    """What happens to the names of a directory meanwhile (inotify(7)): made, removed, renamed, written, changed."""

    _EVENTS = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if libc.inotify_add_watch(self._descriptor, os.fsencode(directory), self._EVENTS) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self._descriptor)

    def names(self) -> set[str]:
        """The names to which something happened."""
        found = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                data = os.read(self._descriptor, 1 << 16)
                while data:
                    length = int.from_bytes(data[12:16], sys.byteorder)
                    found.add(data[16 : 16 + length].rstrip(b"\0").decode())
                    data = data[16 + length :]
        return found


_MS_NOSUID, _MS_BIND, _MS_REC = 0x2, 0x1000, 0x4000


def _mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: {target}")


def _main() -> None:
    os.umask(0o022)
    top = "/mnt"
    _mount("sandbox", top, "tmpfs", options="mode=755")
    for name in ("up", "work", "root"):
        os.mkdir(f"{top}/{name}", 0o755)
    _mount("sandbox", f"{top}/root", "overlay", options=f"lowerdir=/,upperdir={top}/up,workdir={top}/work")
    for name in ("dev", "sys"):
        _mount(f"/{name}", f"{top}/root/{name}", "none", _MS_BIND | _MS_REC)
    _mount("proc", f"{top}/root/proc", "proc")
    _mount("run", f"{top}/root/run", "tmpfs", options="mode=755")
    os.mkdir(f"{top}/root/run/lock")
    os.chroot(f"{top}/root")
    os.chdir("/")
    for path in (PRELOAD, "/etc/memproxy.conf", "/etc/memproxy.toml"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    _say("ready")
    for line in sys.stdin:
        task = json.loads(line)
        if "empty" in task:
            _mount("run", task["empty"], "tmpfs", options="mode=755")
            _say(None)
        elif "kill" in task:
            os.kill(-1, signal.SIGKILL)
            _say(None)
        else:
            _say(_run(task))
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _run(task: dict[str, Any]) -> tuple[int, str, str]:
    user = task["user"]
    try:
        done = subprocess.run(
            task["command"], env=task["environment"], stdin=subprocess.DEVNULL, capture_output=True, check=False,
            preexec_fn=(lambda: os.setresuid(user, user, user)) if user else None,
        )  # fmt: skip
    except OSError as error:
        return 127, "", base64.b64encode(str(error).encode()).decode()
    return done.returncode, base64.b64encode(done.stdout).decode(), base64.b64encode(done.stderr).decode()


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _main()

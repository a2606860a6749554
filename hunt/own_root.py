"""Own root: a small Linux of its own in memory, of which a process and its children see nothing but that.

Mount and process namespaces and pivot_root(2): the programs, libraries and runtime linkers are this machine's, read
only; whatever a change writes is in memory. The process that works there is number 1, so that all others end with it
(mount_namespaces(7), pid_namespaces(7)).
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

CHECKOUT = Path(__file__).resolve().parents[1]
COPIED = (
    *("passwd", "group", "nsswitch.conf", "os-release", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "shells"),
    *("debian_version", "login.defs", "localtime"),
)
"""What programs want to find in /etc."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_NEW_MOUNTS, _NEW_PROCESSES = 0x00020000, 0x20000000
_DIE_WITH_PARENT = 1


class NoNamespaces(Exception):
    """This machine, or this user, can have no such root; the reason in words."""


def obstacle() -> str | None:
    """Why no such root can be had here; None if it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "only root can have a root file system of his own, on Linux"
    try:
        inside(lambda: None)
    except (NoNamespaces, RuntimeError) as error:
        return f"namespaces or mounts are forbidden here: {error}"
    return None


def inside(work: Callable[[], Any], copies: Iterable[tuple[Path, str, int]] = ()) -> Any:
    """What `work` answers (as JSON has it) as process 1 of such a root.

    `copies` are files of this machine, where they shall lie in it, and their modes. NoNamespaces where it cannot be
    had, RuntimeError with what was said for whatever else goes wrong.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="memproxy-root-") as top:
        outer = os.fork()
        if outer == 0:
            os.close(reader)
            _outer(work, tuple(copies), writer, top)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            told = stream.read()
        os.waitpid(outer, 0)
    answer = json.loads(told) if told else {"error": "it ended without a word"}
    if "obstacle" in answer:
        raise NoNamespaces(answer["obstacle"])
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["answer"]


def die_with_parent() -> None:
    """Have this process end when the one that has started it does (prctl(2))."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def _outer(work: Callable[[], Any], copies: tuple[tuple[Path, str, int], ...], writer: int, top: str) -> NoReturn:
    """Make the namespaces, and wait for process 1 of them."""
    try:
        die_with_parent()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEW_MOUNTS | _NEW_PROCESSES) != 0:
            _tell(writer, {"obstacle": os.strerror(ctypes.get_errno())})
            os._exit(1)
        first = os.fork()
        if first == 0:
            die_with_parent()
            _first(work, copies, writer, top)
        os.close(writer)
        os.waitpid(first, 0)
    finally:
        os._exit(0)


def _first(work: Callable[[], Any], copies: tuple[tuple[Path, str, int], ...], writer: int, top: str) -> NoReturn:
    """What process 1 does."""
    try:
        try:
            _furnish(Path(top), copies)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or b""
            _tell(writer, {"obstacle": f"{error} {said.decode(errors='replace')}"})
            os._exit(1)
        _tell(writer, {"answer": work()})
    except BaseException:
        _tell(writer, {"error": traceback.format_exc()})
    finally:
        os._exit(0)


def _tell(writer: int, answer: dict[str, Any]) -> None:
    with os.fdopen(os.dup(writer), "w") as stream:
        json.dump(answer, stream)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _furnish(top: Path, copies: tuple[tuple[Path, str, int], ...]) -> None:
    """Make the tree and put it in the place of `/`."""
    _run("mount", "--make-rprivate", "/")
    # The record keeps the times of a former list, which every start of a program reads.
    _run("mount", "-t", "tmpfs", "-o", "mode=755,noatime", "memproxy-root", str(top))
    for name in ("etc", "proc", "dev", "run", "usr", "var", "local", "old", "root", "sys"):
        (top / name).mkdir(mode=0o755)
    (top / "tmp").mkdir(mode=0o755)
    (top / "tmp").chmod(0o1777)
    for name in ("opt", "log", "tmp", "lib"):
        (top / "var" / name).mkdir(mode=0o755)
    (top / "var/run").symlink_to("/run")
    for name in ("bin", "lib", "sbin", "share"):
        (top / "local" / name).mkdir(mode=0o755)
    for entry in os.scandir("/"):
        if entry.is_symlink() and os.readlink(entry.path).startswith("usr/"):
            (top / entry.name).symlink_to(os.readlink(entry.path))
        elif entry.name.startswith("lib") or entry.name in ("bin", "sbin"):
            _bind(entry.path, top / entry.name)
    _bind("/usr", top / "usr")
    _run("mount", "--bind", str(top / "local"), str(top / "usr/local"))
    (top / "etc").chmod(0o755)
    for name in COPIED:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, top / "etc" / name)
        elif source.exists():
            shutil.copy(source, top / "etc" / name)
    for name in DEVICES:
        (top / "dev" / name).touch()
        _run("mount", "--bind", f"/dev/{name}", str(top / "dev" / name))
    # Python may want a module that nobody has wanted yet.
    for place in dict.fromkeys((str(CHECKOUT), sys.prefix, sys.base_prefix)):
        if not place.startswith("/usr"):
            _bind(place, top / place[1:])
    for source, place, mode in copies:
        target = top / ("local" + place[10:] if place.startswith("/usr/local/") else place[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)
    _run("mount", "-t", "proc", "proc", str(top / "proc"))
    _run("pivot_root", str(top), str(top / "old"))
    os.chdir("/")
    _run("umount", "-l", "/old")
    os.rmdir("/old")


def _bind(source: str, target: Path) -> None:
    """Let a directory of this machine be there, read-only."""
    target.mkdir(parents=True, exist_ok=True)
    _run("mount", "--rbind", source, str(target))
    _run("mount", "-o", "remount,bind,ro", str(target))


def copy(source: str, target: str, links: dict[tuple[int, int], str] | None = None) -> None:
    """Make `target`, which does not exist, what `source` is: content, owner, mode, time, links among its files."""
    links = {} if links is None else links
    status = os.lstat(source)
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(target)
        for name in os.listdir(source):
            copy(f"{source}/{name}", f"{target}/{name}", links)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        identity = (status.st_dev, status.st_ino)
        if identity in links:
            os.link(links[identity], target)
            return
        links[identity] = target
        shutil.copyfile(source, target)
    else:
        return  # the socket of a guard that does not live any more
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def empty(directory: str) -> None:
    """Remove everything in a directory."""
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)

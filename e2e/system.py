"""The whole system in which a workload runs, with memproxy-sol installed on it globally, or without.

An install is made by `memproxy-sol install` itself, on the running system; what it changed is kept below build/e2e, so
that each workload starts on the system as it is after the next boot. Each run has mount and process namespaces of its
own, and what it changes is in memory (soak/room.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.image import PLACE, System
from memproxy_sol.errors import MemproxyError
from soak import room
from soak.room import Ran

CHECKOUT = Path(__file__).resolve().parents[1]
PRELOAD, LIST = "etc/ld.so.preload", "etc/memproxy.conf"

COMMAND = """#!/bin/sh
PYTHONPATH=/mnt/checkout PYTHONDONTWRITEBYTECODE=1 exec python3 -m memproxy_sol "$@"
"""

ENTER = """
mount -t tmpfs -o mode=755 run run
mkdir -m 1777 run/lock
mount -t tmpfs -o mode=755 e2e mnt
mkdir mnt/checkout mnt/libraries mnt/bin
mount --bind -o ro {checkout} mnt/checkout
mount --bind -o ro {libraries} mnt/libraries
cp {result}/command mnt/bin/memproxy-sol
chmod 755 mnt/bin/memproxy-sol
mount --bind {result} result
{more}
cd /
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/mnt/bin HOME=/root
hostname whole
ip link set lo up
exec chroot {mount}/root /bin/bash /result/start
"""


INSTALL = """
memproxy-sol install --libraries /mnt/libraries {allocators} > /result/install 2>&1
echo $? > /result/install.status
memproxy-sol status > /result/status 2>&1
memproxy-sol verify > /result/verify 2>&1; echo $? > /result/verify.status
"""

UNINSTALL = """
memproxy-sol uninstall --purge > /result/uninstall 2>&1; echo $? > /result/uninstall.status
"""


@dataclass(frozen=True)
class Session:
    """One run of a script in the system."""

    ran: Ran
    result: Path


class Host:
    """The systems that are made of an image and the libraries of a checkout."""

    def __init__(self, image: System, libraries: Path, place: Path = PLACE) -> None:
        self._image, self._libraries, self._place = image, libraries, place
        self._runs = place / "runs"

    def key(self, allocator: str) -> str:
        """Names what an install depends on: the image, the libraries, the tool."""
        digest = hashlib.sha256(repr((self._image.identity, INSTALL)).encode())
        sources = sorted((CHECKOUT / "memproxy_sol").rglob("*.py"))
        for path in [*sources, *(path for path in sorted(self._libraries.rglob("*")) if path.is_file())]:
            digest.update(path.name.encode() + path.read_bytes())
        return f"{allocator}-{digest.hexdigest()[:12]}"

    def installed(self, allocator: str) -> Path:
        """What `memproxy-sol install` changes on the running system, as a layer over the image; kept.

        MemproxyError with its words if it fails, or if verify finds an error afterwards.
        """
        place = self._place / "installed" / self.key(allocator)
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            (place / "upper").mkdir(parents=True)
            files = [self._image.allocator(allocator, bits) for bits in (64, 32)]
            words = " ".join(f"--allocator {shlex.quote(file)}" for file in files)
            session = self._session(f"install-{allocator}", INSTALL.format(allocators=words), place, 300)
            for name in ("install", "verify"):
                status = _text(session.result / f"{name}.status")
                if status != "0":
                    said = _text(session.result / name) + _text(session.result / "output")
                    raise MemproxyError(f"{name} with {allocator} ended with {status or 'nothing'}:\n{said[-3000:]}")
            shutil.copytree(session.result, place / "said")
            (place / "complete").write_text("")
        return place

    def uninstalled(self, allocator: str) -> list[str]:
        """What is not as the image has it when memproxy-sol is uninstalled again, in a copy of the installed system.

        Processes map the libraries, so that the first uninstall leaves them, and one after the next boot removes them.
        """
        place = self._place / "uninstalled" / allocator
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.installed(allocator) / "upper", place / "upper", symlinks=True)
        left = []
        for boot in ("first", "second"):
            session = self._session(f"uninstall-{allocator}-{boot}", UNINSTALL, place, 300)
            status = _text(session.result / "uninstall.status")
            if status != "0":
                left.append(f"{boot} uninstall ended with {status}: {_text(session.result / 'uninstall')}")
            if (place / "upper" / PRELOAD).exists():
                left.append(f"/{PRELOAD} is there after the {boot} uninstall")
        left += differences(place / "upper", self._image.root)
        when = time.strftime("%Y-%m-%d %H:%M")
        (self._place / f"uninstalled-{self.key(allocator)}.json").write_text(json.dumps([when, left]))
        return left

    def undone(self, allocator: str) -> tuple[str, list[str]] | None:
        """What the last `uninstalled` of these sources said, and when; None if there was none."""
        try:
            when, left = json.loads((self._place / f"uninstalled-{self.key(allocator)}.json").read_text())
        except FileNotFoundError:
            return None
        return when, left

    def run(
        self, name: str, script: str, seconds: float, *,
        installed: Path | None, preload: Sequence[str], conf: str, serves: str,
    ) -> Session:  # fmt: skip
        """Run a workload: on the installed system, or on the image with `preload` in /etc/ld.so.preload.

        `serves` is the allocator that the workload's programs are to be served by.
        """
        root = str(self._image.root)
        lower = root if installed is None else f"{(installed / 'upper').resolve()}:{root}"
        more = [
            "mkdir -p home/soak",
            "chown 4242:4242 home/soak",
            "echo 127.0.0.1 localhost whole > etc/hosts",
            f"cp {{result}}/conf {LIST}" if installed is not None else "",
            f"cp {{result}}/preload {PRELOAD}" if preload else "",
        ]
        watched = installed is not None
        lines = [
            f"export SERVES={serves}",
            "mkdir -p /result/out; chmod 1777 /result/out; cd /tmp; ulimit -c unlimited",
            "python3 -I /mnt/checkout/e2e/observer.py & observer=$!" if watched else "observer=",
            "bash /result/workload > /result/log 2>&1 < /dev/null; echo $? > /result/status",
            "cp /tmp/core* /result/ 2>/dev/null",
            "touch /run/end; [ -z $observer ] || wait $observer",
        ]
        files = {"workload": script, "conf": conf, "preload": "".join(f"{file}\n" for file in preload)}
        return self._start(name, lower, "\n".join(more), "\n".join(lines) + "\n", files, seconds, watched=watched)

    def _session(self, name: str, script: str, place: Path, seconds: float) -> Session:
        """Run a script as root with `place` for what it changes."""
        work = place / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        upper = {"upper": str((place / "upper").resolve()), "work": str(work.resolve())}
        return self._start(name, str(self._image.root), "", script, {}, seconds, watched=False, **upper)

    def _start(
        self, name: str, lower: str, more: str, script: str, files: dict[str, str], seconds: float, *, watched: bool,
        **upper: str,
    ) -> Session:  # fmt: skip
        result = (self._runs / name).resolve()
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir(parents=True)
        for file, text in {**files, "start": script, "command": COMMAND}.items():
            (result / file).write_text(text)
        names = {
            "checkout": shlex.quote(str(CHECKOUT)),
            "libraries": shlex.quote(str(self._libraries.resolve())),
            "result": shlex.quote(str(result)),
        }
        enter = ENTER.replace("{more}", more)
        for word, value in names.items():
            enter = enter.replace("{" + word + "}", value)
        return Session(
            room.contained(lower, enter, result, seconds, watched=watched, namespaces=["--net"], **upper), result
        )


def differences(upper: Path, image: Path) -> Iterator[str]:
    """What of a layer over the image is not as the image has it: content, type, mode, owner, time of files."""
    for directory, directories, files in os.walk(upper):
        for name in [*directories, *files]:
            path = Path(directory, name)
            inside = path.relative_to(upper)
            here = path.lstat()
            try:
                there = (image / inside).lstat()
            except OSError:
                if not stat.S_ISCHR(here.st_mode) or here.st_rdev:  # a whiteout over nothing
                    yield f"/{inside} is there"
                continue
            if (here.st_mode, here.st_uid, here.st_gid) != (there.st_mode, there.st_uid, there.st_gid):
                yield f"/{inside} has another type, mode or owner"
            elif stat.S_ISREG(here.st_mode):
                if here.st_mtime_ns != there.st_mtime_ns or path.read_bytes() != (image / inside).read_bytes():
                    yield f"/{inside} has another content or time"
            elif stat.S_ISLNK(here.st_mode) and os.readlink(path) != os.readlink(image / inside):
                yield f"/{inside} leads elsewhere"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""

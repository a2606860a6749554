"""One run: an image, never written to, with a real /etc/ld.so.preload and /etc/memproxy.conf laid over it.

Mounts and processes live in namespaces of the run's own, and end with it however it ends. What lies over the image is
in memory. The preload list is written last, so that every process inside is under it, the first shell included.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from soak.census import Census
from soak.image import PLACE, USER, Image

LIBRARY = "/usr/local/lib/memproxy/libmemproxy.so"

MOUNTS = """
set -e
mount -t tmpfs -o size=6g,mode=755 soak {mount}
cd {mount}
mkdir upper work root
mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} root
cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
"""
"""What makes a system of an image, before anything of it is started."""

ENTER = """
mkdir -p result home/soak
chown {user}:{user} home/soak
mount --bind {result} result
mkdir -p .{directory}
cp {library} .{directory}
chmod 755 .{directory} .{directory}/*
echo 127.0.0.1 localhost > etc/hosts
cp {result}/conf etc/memproxy.conf
cp {result}/preload etc/ld.so.preload
cd /
exec chroot --userspec={user}:{user} --groups={user} {mount}/root /bin/bash /result/start
"""


@dataclass
class Ran:
    """What a run did."""

    status: int | None
    """None: it had to be ended."""
    seconds: float
    routes: Counter[str] = field(default_factory=Counter)
    """How often a living process was seen with which program, route, reason and allocator (census.py)."""


def run(
    image: Image,
    result: Path,
    script: str,
    preload: Sequence[str],
    conf: str,
    library: Path | None,
    seconds: float,
) -> Ran:
    """Run a shell script in the image; /result inside is the directory `result`, which is emptied first.

    `preload` are the files of /etc/ld.so.preload; `library` is placed at LIBRARY. After `seconds` all is killed.
    """
    if result.exists():
        shutil.rmtree(result)
    result.mkdir(parents=True)
    os.chown(result, USER, USER)
    (result / "preload").write_text("".join(file + "\n" for file in preload))
    (result / "conf").write_text(conf)
    (result / "start").write_text(script)
    enter = ENTER.format(
        mount="{mount}",
        result=shlex.quote(str(result.resolve())),
        library=shlex.quote(str(library.resolve())) if library else "/dev/null",
        directory=os.path.dirname(LIBRARY),
        user=USER,
    )
    return contained(str(image.root), enter, result, seconds, watched=library is not None)


def contained(
    lower: str,
    enter: str,
    result: Path,
    seconds: float,
    *,
    watched: bool,
    upper: str = "upper",
    work: str = "work",
    namespaces: Sequence[str] = (),
) -> Ran:
    """Run `enter` where MOUNTS has made a system of `lower`; what it prints goes to the file `output` of `result`.

    `{mount}` in it is where the system is mounted, and its directory `root` the working directory. `upper` and `work`
    are directories for what is changed; in memory if they are not given. `namespaces` are further ones, as unshare(1)
    calls them. After `seconds` all is killed.
    """
    mount = PLACE.resolve() / "mounts" / result.name
    mount.mkdir(parents=True, exist_ok=True)
    names = {"mount": shlex.quote(str(mount)), "lower": shlex.quote(lower), "upper": upper, "work": work}
    # Whatever ends this process ends unshare, and that the first process of the namespace, and that all others.
    # Of a command in the background a shell has the interrupt ignored, which tests of python's would find out.
    words = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "env",
        "--default-signal",
        "unshare",
        "--mount",
        "--pid",
        "--ipc",
        "--uts",
        *namespaces,
        "--fork",
        "--kill-child",
        "bash",
        "-c",
        MOUNTS.format(**names) + enter.replace("{mount}", names["mount"]),
    ]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    started = time.monotonic()
    with (result / "output").open("w") as output:
        process = subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with Census(process.pid) if watched else contextlib.nullcontext() as census:
                status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            mount.rmdir()
    return Ran(status, time.monotonic() - started, census.seen if census else Counter())

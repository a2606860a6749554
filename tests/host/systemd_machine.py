"""A machine that the real systemd boots: this machine's files below an overlay in memory, in namespaces of its own.

What is changed there, by whomever, is kept from boot to boot and ends with the test. systemd is its process 1, and
systemctl the real one; it has no network, may load no module and set no clock, and /proc/sys is read-only.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

TOP = Path(__file__).parents[2]
SYSTEMD = ("/lib/systemd/systemd", "/usr/lib/systemd/systemd")
PROGRAM = "/usr/local/bin/memproxy-sol"
PATIENCE = 120.0
"""Seconds after which a boot, or a command, is given up."""
BOUNDING = "-sys_module,-sys_time,-sys_boot,-sys_rawio,-mknod,-syslog"

BOOT = """
set -e
cd "$1"
mkdir -p up work root
mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work root
mount -t proc proc root/proc
mount --bind -o ro root/proc/sys root/proc/sys
mount -t tmpfs -o mode=755 run root/run
mount -t tmpfs tmp root/tmp
mount -t tmpfs -o mode=755 dev root/dev
for name in null zero full random urandom tty; do
    touch root/dev/$name
    mount --bind /dev/$name root/dev/$name
done
mkdir root/dev/pts root/dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
ln -s /proc/self/fd root/dev/fd
mount -t sysfs -o ro sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
shift
for shown in "$@"; do
    mkdir -p "root$shown"
    mount --bind -o ro "$shown" "root$shown"
done
exec setpriv --bounding-set=$BOUNDING chroot root /usr/bin/env -i container=other $SYSTEMD --unit=$UNIT
"""


class Machine:
    """One machine; its disk is a file system in memory that a process of ours holds."""

    def __init__(self, shown: tuple[Path, ...] = (), unit: str = "sysinit.target") -> None:
        """`shown` are directories of this machine that it has, too, to be read; `unit` is what it boots."""
        here = (TOP, Path(sys.prefix), Path(sys.base_prefix))
        self._shown = tuple(dict.fromkeys(str(path.resolve()) for path in (*here, *shown)))
        self._unit = unit
        self._disk = "/mnt"
        hold = "mount -t tmpfs -o mode=755 disk /mnt && mkdir /mnt/cgroup && mount -t cgroup2 cgroup2 /mnt/cgroup && "
        hold += "echo held && exec sleep infinity"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", hold], stdout=subprocess.PIPE
        )
        self._boot: subprocess.Popen[bytes] | None = None
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"held\n":
            self._holder.wait()
            raise OSError("no file system in memory, or none of cgroups, can be mounted")
        self._cgroup = Path(f"/proc/{self._holder.pid}/root/mnt/cgroup/memproxy-test-{os.getpid()}-{self._holder.pid}")
        self._cgroup.mkdir()

    @property
    def root(self) -> Path:
        """Its `/`, while it runs."""
        return Path(f"/proc/{self._init}/root")

    @property
    def _init(self) -> int:
        assert self._boot is not None
        return int(Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children").read_text().split()[0])

    def boot(self) -> None:
        """Start it, and wait until systemd has done all that it had to."""
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "BOUNDING": BOUNDING,
            "SYSTEMD": next(path for path in SYSTEMD if os.path.exists(path)),
            "UNIT": self._unit,
        }
        boot = ["unshare", "--fork", "--kill-child", "-p", "-m", "-i", "-u", "-n", "-C", "--propagation", "private"]
        words = shlex.join([*boot, "sh", "-c", BOOT, "boot", self._disk, *self._shown])
        enter = f"echo $$ > /mnt/cgroup/{self._cgroup.name}/cgroup.procs; exec {words}"
        self._boot = subprocess.Popen(
            ["nsenter", f"--target={self._holder.pid}", "--mount", "sh", "-c", enter],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._boot.poll() is not None:
                assert self._boot.stdout is not None
                raise OSError(f"does not boot: {self._boot.stdout.read().decode(errors='replace')[-500:]}")
            if time.monotonic() > deadline:
                raise OSError("systemd does not come up")
            time.sleep(0.05)
        self.run("systemctl", "is-system-running", "--wait")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, IndexError, ValueError):
            return (
                Path(f"/proc/{self._init}/comm").read_text() == "systemd\n"
                and (self.root / "run/systemd/private").exists()
            )
        return False

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command on it; whatever its status."""
        flags = ["--mount", "--uts", "--ipc", "--pid", "--net", "--cgroup"]
        words = ["nsenter", f"--target={self._init}", *flags, "--root", "--", "env", "-i", "--chdir=/"]
        given = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin", **environment}
        pairs = [f"{name}={value}" for name, value in given.items()]
        return subprocess.run(
            [*words, *pairs, *command], cwd="/", stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def do(self, *command: str) -> str:
        """What a command on it says, which has to end with 0."""
        done = self.run(*command)
        assert done.returncode == 0, f"{shlex.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.do("systemctl", "show", f"--property={name}", "--value", unit).strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file on its disk."""
        place = self.root / path[1:]
        place.write_text(text)
        place.chmod(mode)

    def cut_power(self) -> None:
        """End it at once; what is in its memory is lost, /run included."""
        if self._boot is not None:
            with contextlib.suppress(OSError, IndexError, ValueError):
                os.kill(self._init, signal.SIGKILL)
            self._boot.wait(PATIENCE)
            assert self._boot.stdout is not None
            self._boot.stdout.close()
            self._boot = None

    def close(self) -> None:
        """End it, and everything of it."""
        self.cut_power()
        if self._holder.poll() is None:
            for directory, _, _ in os.walk(self._cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            self._holder.kill()
            self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


def place_program(machine: Machine) -> None:
    """memproxy-sol of this checkout as a program of the machine."""
    python = shlex.quote(sys.executable)
    text = f"#!/bin/sh\nPYTHONDONTWRITEBYTECODE=1 PYTHONPATH={shlex.quote(str(TOP))} exec {python} -m memproxy_sol "
    machine.write(PROGRAM, text + '"$@"\n', 0o755)


@cache
def obstacle() -> str | None:
    """What keeps this machine from booting systemd in namespaces; None if nothing does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root can boot a systemd of his own, on Linux"
    if not any(map(os.path.exists, SYSTEMD)) or not os.path.exists("/usr/bin/systemctl"):
        return "systemd is not installed"
    machine = None
    try:
        machine = Machine()
        machine.boot()
        return None if machine.run("systemctl", "show").returncode == 0 else "systemctl does not answer"
    except (OSError, subprocess.SubprocessError) as error:
        return f"systemd cannot be booted in namespaces here: {error}"
    finally:
        if machine is not None:
            machine.close()

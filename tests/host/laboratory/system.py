"""system: the laboratory itself: a scratch Solaris whose processes start, run, die and do not survive a reboot."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from tests.host.laboratory import elf, proxy
from tests.host.laboratory.ldso import MACHINES, Linker, Start
from tests.host.laboratory.tree import Tree

RELEASES = {
    "10": "                    Oracle Solaris 10 1/13 s10x_u11wos_24a X86\n",
    "11": "                            Oracle Solaris 11.3 X86\n",
    "11.4": "                            Oracle Solaris 11.4 X86\n",
    "illumos": "             OpenIndiana Hipster 2024.04 (powered by illumos)\n",
}
"""The first line of /etc/release."""

DIRECTORIES = (
    *("/etc/svc/profile/site", "/etc/svc/volatile", "/lib/64", "/lib/secure/64", "/lib/svc/manifest/site"),
    *("/lib/svc/method", "/proc", "/root", "/sbin", "/tmp", "/usr/bin", "/usr/lib/64", "/usr/lib/secure/64"),
    *("/usr/local/bin", "/usr/local/lib", "/usr/sbin", "/var/adm", "/var/ld/64", "/var/opt", "/var/run"),
    *("/var/svc/log", "/var/svc/manifest/site", "/var/tmp"),
)
EMPTIED = ("/etc/svc/volatile", "/tmp", "/var/run", "/proc")
"""What lies in memory and is gone after a reboot."""

FILES = {
    "/etc/passwd": "root:x:0:0:Super-User:/root:/bin/sh\nadm:x:4:4:Admin:/var/adm:\njoe:x:100:10::/:\n",
    "/etc/group": "root::0:\nother::1:root\nbin::2:root,daemon\nsys::3:root,bin,adm\nstaff::10:\n",
    "/etc/vfstab": "#device\n/dev/dsk/x\t-\t/\tzfs\t-\tno\t-\nswap\t-\t/tmp\ttmpfs\t-\tyes\t-\n",
}
FAMILY = ("malloc", "calloc", "realloc", "free", "memalign", "posix_memalign", "aligned_alloc", "valloc")
USER = 100
"""The ordinary user of /etc/passwd: joe."""


@dataclass(frozen=True)
class Result:
    """How a process ended."""

    status: int
    """Exit status; negative: the number of the signal."""
    out: bytes = b""
    err: bytes = b""


Implementation = Callable[["Laboratory", Sequence[str], Mapping[str, str], int, bytes], Result]
"""What a program does: laboratory, argv, environment, real user, standard input."""


@dataclass(frozen=True)
class Program:
    """An executable of the laboratory."""

    bits: int
    implementation: Implementation
    set_id: bool = False
    """Set-uid root."""
    needed: tuple[str, ...] = ("libc.so.1",)
    runpath: tuple[str, ...] = ()
    static: bool = False
    """Without the runtime linker: starts whatever the configuration says."""
    own_malloc: bool = False


@dataclass
class Fault:
    """How a command fails or lies."""

    missing: bool = False
    seconds: float = 0.0
    """How long it takes; a shell with a lower limit kills it."""
    works: bool = True
    """Whether it does its work, before it lies or is killed."""
    status: int | None = None
    """What it ends with instead; negative: a signal."""
    out: bytes | None = None
    err: bytes | None = None
    instead: Implementation | None = None
    """What it does instead of its work."""
    when: Callable[[Sequence[str]], bool] = field(default=lambda argv: True)
    """Which calls it strikes, by argv."""
    times: int | None = None
    """How many calls it strikes; None: all."""

    def strikes(self, argv: Sequence[str]) -> bool:
        """Whether this call is struck; counts it."""
        if self.times == 0 or not self.when(argv):
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True)
class Process:
    """A process that goes on living until the next reboot."""

    pid: int
    path: str
    argv: tuple[str, ...]
    bits: int
    uid: int
    environment: Mapping[str, str]
    started: Start
    secure: bool = False

    @property
    def objects(self) -> tuple[str, ...]:
        """Paths of what it has mapped, the program first."""
        return tuple(one.path for one in self.started.loaded)


class Bricked(Exception):
    """The machine does not boot; the text says why."""


class Laboratory:
    """A scratch Solaris below `top`; what is already there is left as it is."""

    def __init__(self, top: Path | str, release: str = "illumos", machine: str = "x86") -> None:
        from tests.host.laboratory import beadm, commands, crle
        from tests.host.laboratory.smf import Smf

        self.top = Path(top)
        self.release = release
        self.tree = Tree(os.fspath(top))
        self.machine = MACHINES[machine]
        self.linker = Linker(self.tree, self.machine, identifies=release != "10")
        self.programs: dict[str, Program] = {}
        self.faults: dict[str, Fault] = {}
        """By the path of the program."""
        self.processes: dict[int, Process] = {}
        self.calls: list[tuple[str, ...]] = []
        """argv of every process that was tried, the dead ones included."""
        self.zone = "global"
        self.late_mounts: set[str] = set()
        """Mount points of what is mounted after the first processes have started."""
        self.boots = 0
        self.mounts: list[tuple[str, str, str, str]] = []
        """Device, mount point, type, options."""
        self.memory = EMPTIED
        """Directories that lie in memory."""
        self._next_pid = 100
        self._furnish()
        self.mounts = [("rpool/ROOT/openindiana", "/", "zfs", "dev=4350002"), ("proc", "/proc", "proc", "dev=42c0000")]
        self.mounts += [("swap", path, "tmpfs", "xattr,dev=4440001") for path in EMPTIED[:3]]
        self._write_mnttab()
        commands.register(self)
        crle.register(self)
        self.environments = beadm.Environments(self)
        self.smf = Smf(self)
        """The service management; a fresh tree has been booted once by it."""
        self.calls.clear()

    @property
    def config_version(self) -> int:
        """The newest configuration file version; a Solaris 11.4 may have a higher one (reference "crle", section 6)."""
        return self.linker.newest_version

    @config_version.setter
    def config_version(self, version: int) -> None:
        self.linker.newest_version = version

    @property
    def var_mounted_late(self) -> bool:
        """Whether /var is a file system of its own, mounted after the first processes have started."""
        return "/var" in self.late_mounts

    @var_mounted_late.setter
    def var_mounted_late(self, late: bool) -> None:
        if late and not self.var_mounted_late:
            self.mount("rpool/var", "/var", "zfs", "dev=4350003", late=True)
        elif not late and self.var_mounted_late:
            self.unmount("/var")

    def mount(self, device: str, point: str, kind: str, options: str = "", late: bool = False) -> None:
        """A line of the mount table; `late`: not yet there when the first processes start."""
        self.mounts.append((device, point, kind, options))
        if late:
            self.late_mounts.add(point)
        self._write_mnttab()

    def unmount(self, point: str) -> None:
        """The line is gone; the files stay where they are, since nothing is really mounted here."""
        self.mounts = [mount for mount in self.mounts if mount[1] != point]
        self.late_mounts.discard(point)
        self._write_mnttab()

    def _write_mnttab(self) -> None:
        lines = ["\t".join((*mount[:3], mount[3] or "rw", "1700000000")) + "\n" for mount in self.mounts]
        table, text = self.top / "etc/mnttab", "".join(lines)
        if not table.exists() or table.read_bytes() != text.encode():
            table.write_text(text)

    @contextlib.contextmanager
    def early(self) -> Iterator[None]:
        """The time of a boot in which the late file systems are not mounted yet."""
        before = set(self.tree.hidden)
        self.tree.hidden |= self.late_mounts
        try:
            yield
        finally:
            self.tree.hidden = before

    # The tree

    def path(self, target: str) -> Path:
        """Where a target path lies on this machine, its links resolved inside the tree."""
        return Path(self.tree.host(target, follow=False))

    def write(self, target: str, data: bytes, mode: int = 0o644) -> Path:
        """A file of the laboratory, its directories made."""
        path = self.top / target.lstrip("/")
        self._directory(path.parent)
        if path.is_symlink():
            path = self.path(self.tree.resolve(target))
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def install_program(self, path: str, program: Program) -> None:
        """Put a program into the tree and into `programs`; an ELF file of its class, unless a file is there."""
        self.programs[path] = program
        host = self.top / path.lstrip("/")
        if not host.exists():
            self._directory(host.parent)
            number = self.machine.numbers.get(program.bits, 0)
            data = elf.write(program.bits, number, order=self.machine.order, type=elf.EXECUTABLE, needed=program.needed)
            host.write_bytes(data)
            host.chmod(0o4555 if program.set_id else 0o555)

    @staticmethod
    def _directory(path: Path) -> None:
        """The directory and those above it, with modes that no umask decides."""
        for one in (*reversed(path.parents), path):
            if not one.exists():
                one.mkdir()
                one.chmod(0o755)

    @staticmethod
    def _mode(path: Path, mode: int) -> None:
        """Who is not root may open a laboratory in which there is nothing left to do."""
        if path.stat().st_mode & 0o7777 != mode:
            path.chmod(mode)

    def _furnish(self) -> None:
        self.top.mkdir(parents=True, exist_ok=True)
        self._mode(self.top, 0o755)
        subdirectory = {"x86": "amd64", "sparc": "sparcv9", "aarch64": "."}[self.machine.name]
        for parent in ("lib", "lib/secure", "usr/lib", "usr/lib/secure"):
            self._directory(self.top / parent / subdirectory)
            if not os.path.lexists(self.top / parent / "64"):
                (self.top / parent / "64").symlink_to(subdirectory)
        for directory in DIRECTORIES:
            self._directory(self.top / directory[1:])
        for directory in ("/tmp", "/var/tmp"):
            self._mode(self.top / directory[1:], 0o1777)
        for path, text in {"/etc/release": RELEASES[self.release], **FILES}.items():
            if not (self.top / path[1:]).exists():
                self.write(path, text.encode())
        if not (self.top / "bin").is_symlink():
            (self.top / "bin").symlink_to("./usr/bin")
        for bits, number in self.machine.numbers.items():
            for name, exports in (("libc.so.1", FAMILY), ("libstdc++.so.6", ("_Znwm", "_ZdlPv"))):
                path = f"/{'lib' if name == 'libc.so.1' else 'usr/lib'}{'/64' if bits == 64 else ''}/{name}"
                if not self.tree.exists(path):
                    needed = () if name == "libc.so.1" else ("libc.so.1",)
                    data = elf.write(
                        bits, number, order=self.machine.order, soname=name, needed=needed, exports=exports
                    )
                    self.write(path, data, 0o755)

    def user(self, name: str) -> int | None:
        """The uid of this user of /etc/passwd, None if there is none."""
        for line in self.tree.read("/etc/passwd").decode("latin-1").splitlines():
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2])
        return None

    # Processes

    def execute(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, uid: int = 0, stdin: bytes = b""
    ) -> Result:
        """exec(2) of `argv[0]` (a target path), the runtime linker's part, and the program to its end.

        Raises OSError where exec itself fails: no such program, or no right to execute it.
        """
        env = {} if env is None else env
        self.calls.append(tuple(argv))
        path, program, argv = self._executable(argv, uid)
        started = self._started(path, program, env, uid)
        said = self._said(path, program, started, env, program.set_id and uid != 0)
        if started is not None and started.status is not None:
            return Result(started.status, err=said)
        fault = self.faults.get(path)
        if fault is not None and fault.strikes(argv):
            result = self._struck(fault, program, argv, env, uid, stdin)
        else:
            result = program.implementation(self, argv, env, uid, stdin)
        return Result(result.status, result.out, said + result.err) if said else result

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None, uid: int = 0) -> Start | None:
        """What ld.so.1 would do for this process, of which nothing is run; None for a static program."""
        path, program, _ = self._executable(argv, uid)
        return self._started(path, program, {} if env is None else env, uid)

    def spawn(self, argv: Sequence[str], env: Mapping[str, str] | None = None, uid: int = 0) -> Process | Result:
        """A process that stays (a daemon, whose work is not modelled), or its death. Raises OSError as `execute`."""
        env = {} if env is None else env
        self.calls.append(tuple(argv))
        path, program, argv = self._executable(argv, uid)
        started = self._started(path, program, env, uid)
        if started is None or started.status is not None:
            status = 0 if started is None or started.status is None else started.status
            return Result(status, err=self._said(path, program, started, env, program.set_id and uid != 0))
        self._next_pid += 1
        process = Process(self._next_pid, path, tuple(argv), program.bits, uid, dict(env), started, program.set_id)
        self.processes[process.pid] = process
        links = self.top / "proc" / str(process.pid) / "path"
        links.mkdir(parents=True)
        (links / "a.out").symlink_to(process.path)
        for place, mapped in enumerate(process.objects[1:], 1):
            (links / f"zfs.1.{process.pid}.{place}").symlink_to(mapped)
        return process

    def end(self, pid: int) -> None:
        """The process is gone."""
        del self.processes[pid]
        shutil.rmtree(self.top / "proc" / str(pid), ignore_errors=True)

    def _executable(self, argv: Sequence[str], uid: int) -> tuple[str, Program, Sequence[str]]:
        """The program that exec would run, with scripts led to their interpreter."""
        path = self.tree.resolve(argv[0], uid)
        fault = self.faults.get(path)
        if fault is not None and fault.missing and fault.when(argv):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
        status = self.tree.stat(path, uid)
        if not self.tree.may(path, uid, 1):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), argv[0])
        program = self.programs.get(path)
        if program is not None:
            return path, program, argv
        with open(self.tree.top + path, "rb") as stream:
            first = stream.readline(256)
        if not first.startswith(b"#!") or not status.st_size:
            raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC), argv[0])
        words = first[2:].split(None, 1)
        return self._executable([*(word.decode().strip() for word in words), argv[0], *argv[1:]], uid)

    def _started(self, path: str, program: Program, env: Mapping[str, str], uid: int) -> Start | None:
        """What ld.so.1 did; None for a static program."""
        if program.static:
            return None
        return self.linker.start(
            path,
            [f"{name}={value}" for name, value in env.items()],
            program.bits,
            needed=program.needed,
            runpath=program.runpath,
            secure=program.set_id and uid != 0,
            uid=0 if program.set_id else uid,
        )

    def _said(self, path: str, program: Program, started: Start | None, env: Mapping[str, str], secure: bool) -> bytes:
        """What a process writes to standard error before its first instruction."""
        if started is None:
            return b""
        lines = list(started.messages)
        if env.get("MEMPROXY_DEBUG") == "1" and started.status is None and len(started.loaded) > 1:
            try:
                exclusions: bytes | None = self.tree.read(proxy.LIST)
            except OSError:
                exclusions = None
            decision = proxy.decide(started.loaded, env, exclusions, own_malloc=program.own_malloc)
            if decision is not None and not secure:
                lines.append(proxy.line(path, decision))
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")

    def _struck(
        self, fault: Fault, program: Program, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes
    ) -> Result:
        result = Result(0)
        if fault.instead is not None:
            result = fault.instead(self, argv, env, uid, stdin)
        elif fault.works:
            result = program.implementation(self, argv, env, uid, stdin)
        return Result(
            result.status if fault.status is None else fault.status,
            result.out if fault.out is None else fault.out,
            result.err if fault.err is None else fault.err,
        )

    # The machine

    def brick(self) -> str | None:
        """Why a new process of some ABI would not start, as root, as a user or set-id; None if all do."""
        for name in ("true", "true32"):
            path = f"/usr/bin/{name}"
            for uid in (0, USER):
                words = self._death([path], {}, uid)
                if words is not None:
                    return f"{self.programs[path].bits}-bit, uid {uid}: {words}"
        return self._death(["/usr/bin/su"], {}, USER)

    def _death(self, argv: Sequence[str], env: Mapping[str, str], uid: int) -> str | None:
        """Why this program does not start, None if it does; nothing of it is run."""
        try:
            path, program, _ = self._executable(argv, uid)
        except OSError as error:
            return f"{argv[0]}: {error.strerror}"
        started = self._started(path, program, env, uid)
        if started is None or started.status is None:
            return None
        return f"{path} ended with {started.status}: {' / '.join(started.messages)}"

    def boot(self, environment: str | None = None) -> None:
        """Reboot: the processes end, memory file systems are empty, init and what it starts come up.

        `environment` is the boot environment chosen at the console. Raises Bricked where one of the first processes
        does not start.
        """
        self.boots += 1
        self.processes.clear()
        self.environments.boot(environment)  # first: it unmounts what is mounted in a directory that is to be emptied
        for directory in self.memory:
            self._empty(self.top / directory[1:])
        self._write_mnttab()
        with self.early():
            self._start_up()
        self.smf.boot()

    def _start_up(self) -> None:
        for argv, env, stays in BOOT:
            try:
                started = self.spawn(argv, env) if stays else self.execute(argv, env)
            except OSError as error:
                raise Bricked(f"{argv[0]}: {error.strerror}") from None
            if isinstance(started, Result) and started.status != 0:
                words = started.err.decode("utf-8", "replace").strip()
                raise Bricked(f"{argv[0]} ended with {started.status}: {words}")

    @staticmethod
    def _empty(directory: Path) -> None:
        if not directory.is_dir():
            return
        for entry in directory.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


EARLY = {"PATH": "/usr/sbin:/usr/bin:/sbin", "SMF_RESTARTER": "svc:/system/svc/restarter:default"}
BOOT: tuple[tuple[tuple[str, ...], Mapping[str, str], bool], ...] = (
    (("/sbin/init",), {}, True),
    (("/lib/svc/bin/svc.startd",), {"PATH": EARLY["PATH"]}, True),
    (("/lib/svc/bin/svc.configd",), {"PATH": EARLY["PATH"]}, True),
    (("/sbin/sh", "-c", ":"), EARLY, False),
    (("/usr/bin/true",), EARLY, False),
    (("/usr/bin/true32",), EARLY, False),
    (("/lib/svc/method/early-import",), EARLY, False),
)
"""The first processes: argv, environment, whether it stays."""

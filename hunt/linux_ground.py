"""Linux ground: a small Linux of its own (own_root.py) that can be put back to where it was; everything in it is real.

The runtime linkers of this machine read its /etc/ld.so.preload, and its programs are started with what that names.
Only process 1 of an own root may have one: to end a guard is to end every other process.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from hunt import own_root
from hunt.calls import Calls
from hunt.ground import OWN, Ground, import_all, told
from memproxy_sol import build, elf, probe, probe_list
from memproxy_sol.abi import ABIS, LD_SO_PRELOAD
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_FAILED, EXIT_OK, HostError
from memproxy_sol.generation import LIBRARY, member_name
from memproxy_sol.hosts.linux_loader import Loader, allocators, loaders
from memproxy_sol.policy import POLICY_PATH
from memproxy_sol.root import Root
from tests.needs import compile_program

LIBRARIES = "/tmp/libraries"
OTHERS = "/usr/local/lib/others/$LIB"
"""Where the objects of others lie that the list names, too."""
FIRST, LAST = f"{OTHERS}/first.so", f"{OTHERS}/last.so"
FOR_ROOT, FOR_SERVICES = "/tmp/for-root.toml", "/tmp/for-services.toml"
POLICIES = {
    POLICY_PATH: (),
    FOR_ROOT: ('scope = "root"',),
    FOR_SERVICES: ('scope = "services"', 'services = ["cron.service"]', 'library_path = ["/usr/local/lib/others"]'),
}
"""Policies by path, with the lines in which each differs."""
FAILS = "/tmp/fails"
WITNESS = "/usr/local/bin/fails-on-trial"
NOBODY = 65534

_KEPT = "/tmp/kept"
_CHANGED = ("/etc", "/usr/local", "/var", "/run")
"""What a change may write to."""
_APART = ("/proc", "/dev", "/sys", "/tmp", "/usr/bin", "/usr/lib")


def ingredients(scratch: Path) -> list[tuple[Path, str, int]]:
    """The files that are made for such a root, for `own_root.inside`; of all ABIs that this machine has.

    HostError where it lacks an allocator.
    """
    found = []
    own = build.cached("native", [loader.bits for loader in loaders()])
    for loader in loaders():
        bits = loader.bits
        program = compile_program(own_root.CHECKOUT / "tests/host/loaded.c", bits, scratch / f"loaded-{bits}")
        found += [(program, f"/usr/local/bin/loaded-{bits}", 0o755), (program, f"/usr/local/bin/set-id-{bits}", 0o4755)]
        found.append((own[bits], f"{LIBRARIES}/{member_name(bits, LIBRARY)}", 0o644))
        nothing = scratch / f"nothing-{bits}.so"
        compiler = ["gcc", f"-m{bits}", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-o", str(nothing)]
        subprocess.run(compiler, input=b"int memproxy_nothing;\n", check=True)
        found += [(nothing, path.replace("$LIB", loader.lib), 0o644) for path in (FIRST, LAST)]
    witness = compile_program(Path(__file__).with_name("fails_on_trial.c"), 64, scratch / "fails-on-trial")
    found.append((witness, WITNESS, 0o755))
    program = scratch / "memproxy-sol"
    python = f'PYTHONPATH={own_root.CHECKOUT} exec {sys.executable} -m memproxy_sol "$@"'
    program.write_text(f"#!/bin/sh\n{python}\n")
    found.append((program, "/usr/local/bin/memproxy-sol", 0o755))
    for path, lines in POLICIES.items():
        policy = scratch / os.path.basename(path)
        policy.write_text("\n".join((f'probes = ["{WITNESS} {FAILS}"]', *lines, "")))
        found.append((policy, path, 0o644))
    return found


class LinuxGround(Ground):
    """The root that this process, its number 1, has for itself; memproxy-sol's running system."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        if os.getpid() != 1:
            raise HostError("is not process 1 of a root of its own", where=f"process {os.getpid()}")
        self.loaders: tuple[Loader, ...] = loaders()
        self.struck = Path("/tmp/struck")
        self.boots = 0
        self.others: list[str] = []
        self.first, self.second = self._allocators("jemalloc"), self._allocators("mimalloc")
        os.mkdir(_KEPT, 0o700)
        import_all()
        patch.setattr(probe, "_GLANCE", 0.001)
        needed = {*self.first, *self.second}
        needed |= {f"{LIBRARIES}/{member_name(loader.bits, LIBRARY)}" for loader in self.loaders}
        for loader in self.loaders:
            for name in {name for path in tuple(needed) for name in elf.read(path).needed}:
                needed |= {
                    path for path in (f"/{loader.lib}/{name}", f"/usr/{loader.lib}/{name}") if os.path.exists(path)
                }
        probes = probe_list.default_probes(Root("/"), list(ABIS.values())).probes
        needed |= {os.path.realpath(probe.command[0]) for probe in probes}
        self.remember_objects(patch, [Path(path) for path in sorted(needed)])
        for words in (("verify",), ("plan", *self.install(self.first)[1:])):
            self.run_here(words)  # whatever these import late is there from now on

    def _allocators(self, family: str) -> list[str]:
        found = [allocators(loader).get(family) for loader in self.loaders]
        missing = [loader.path for loader, path in zip(self.loaders, found) if path is None]
        if missing:
            raise HostError(f"finds no {family}", where=missing[0], hint="type make setup")
        return [path for path in found if path is not None]

    @staticmethod
    def install(files: Sequence[str]) -> tuple[str, ...]:
        """The command that installs these allocators."""
        return ("install", "--libraries", LIBRARIES, *(f"--allocator={path}" for path in files))

    def run(self, arguments: Sequence[str], calls: Calls | None = None) -> tuple[int, str]:
        """As `Ground.run`; `others WHERE` is an edit of somebody else's, and `;` stands between two commands."""
        if arguments[0] == "others":
            _edit(arguments[1])
            return 0, ""
        words = list(arguments)
        if ";" in words:
            place = words.index(";")
            status, said = self.run(words[:place], calls)
            if status not in (0, 3):
                return status, said
            return super().run(words[place + 1 :])
        return super().run(arguments, calls)

    def keep(self, name: str) -> None:
        """As `Ground.keep`; nobody else lives afterwards."""
        self.end_guards()
        os.mkdir(f"{_KEPT}/{name}")
        for directory in _CHANGED:
            own_root.copy(directory, f"{_KEPT}/{name}/{directory.replace('/', '-')}")

    def put_back(self, name: str) -> None:
        """As `Ground.put_back`; nobody else lives afterwards."""
        self.end_guards()
        for directory in _CHANGED:
            own_root.empty(directory)
            kept = f"{_KEPT}/{name}/{directory.replace('/', '-')}"
            links: dict[tuple[int, int], str] = {}
            for entry in os.listdir(kept):
                own_root.copy(f"{kept}/{entry}", f"{directory}/{entry}", links)
        self.others = _others()

    def discard(self, name: str) -> None:
        """As `Ground.discard`."""
        own_root.empty(f"{_KEPT}/{name}")
        os.rmdir(f"{_KEPT}/{name}")

    def concerns(self, argument: object) -> bool:
        """As `Ground.concerns`: whether a path or a descriptor is of a file that a change may write."""
        try:
            where = os.readlink(f"/proc/self/fd/{argument}") if isinstance(argument, int) else os.fspath(argument)  # type: ignore[call-overload]
        except (OSError, TypeError):
            return False
        if not where.startswith("/"):
            return not isinstance(argument, int)  # a name beside a descriptor of a directory; no pipe, no socket
        return not where.startswith(tuple(f"{place}/" for place in _APART))

    def set_aside(self, calls: Calls) -> None:
        """As `Ground.set_aside`: what is real is another process already."""

    def let_fail(self, fails: bool) -> None:
        """As `Ground.let_fail`."""
        Path(FAILS).unlink(missing_ok=True)
        if fails:
            Path(FAILS).touch()

    def snapshot(self) -> dict[str, str]:
        """As `Ground.snapshot`."""
        found = {}
        for top in _CHANGED[:3]:
            for directory, directories, names in os.walk(top):
                for name in (*directories, *names):
                    path = f"{directory}/{name}"
                    if not any(path == own or path.startswith(f"{own}/") for own in OWN):
                        found[path] = told(path)
        return found

    def identity(self) -> dict[str, tuple[int, int]]:
        """As `Ground.identity`: inode and time of the list of preloads, of the former one while another is tried."""
        path = f"{LD_SO_PRELOAD}.memproxy-former" if os.path.islink(LD_SO_PRELOAD) else LD_SO_PRELOAD
        with suppress(FileNotFoundError):
            status = os.lstat(path)
            return {LD_SO_PRELOAD: (status.st_ino, status.st_mtime_ns)}
        return {}

    def brick(self) -> str | None:
        """As `Ground.brick`: programs of each ABI, as root, as a user, and set-id, start without a word.

        What they load is all of one generation, libmemproxy first, or nothing of ours; and what others had in the list
        before the command, in its order.
        """
        for_root = os.path.exists(LD_SO_PRELOAD) and not os.stat(LD_SO_PRELOAD).st_mode & 0o004
        forgotten = os.path.islink(LD_SO_PRELOAD) and not os.path.exists(LD_SO_PRELOAD)
        wanted = None if forgotten else self.others
        for loader in self.loaders:
            for name, user in (("loaded", 0), ("loaded", NOBODY), ("set-id", NOBODY)):
                problem = self._start(loader, name, user, [] if user and for_root and wanted else wanted)
                if problem:
                    return f"/usr/local/bin/{name}-{loader.bits} as {user} {problem}"
        for command in (["/bin/sh", "-c", "exit 0"], ["/usr/bin/id", "-u"]):
            for user in (0, NOBODY):
                done = _started(command, user)
                if done.returncode != 0 or done.stderr:
                    return f"{' '.join(command)} as {user} ended with {done.returncode}: {done.stderr!r}"
        return None

    def _start(self, loader: Loader, name: str, user: int, wanted: list[str] | None) -> str | None:
        done = _started([f"/usr/local/bin/{name}-{loader.bits}"], user)
        if done.returncode != 0 or done.stderr:
            return f"ended with {done.returncode}: {done.stderr.decode('utf-8', 'replace')}"
        objects = done.stdout.decode().splitlines()
        ours = [path for path in objects if "/lib/memproxy/" in path]
        if ours and (len({path.split("/")[5] for path in ours}) > 1 or not ours[0].endswith(f"/{LIBRARY}")):
            return f"has loaded {ours}"
        if ours and len(ours) != 2:
            return f"has loaded {ours} alone"
        others = [path for path in objects if path.startswith("/usr/local/lib/others/")]
        if wanted is not None and others != [path.replace("$LIB", loader.lib) for path in wanted]:
            return f"has loaded {others} of others, not {wanted}"
        return None

    def boot(self) -> str | None:
        """As `Ground.boot`: every process ends, and nothing of /run is left.

        What the unit starts runs at every second boot: a system may do without it.
        """
        self.end_guards()
        own_root.empty("/run")
        self.boots += 1
        dead = self.brick()
        if dead or self.boots % 2:
            return dead
        status, said = self.run(("verify", "--boot"))
        if status not in (EXIT_OK, EXIT_DIFFERENCES) or "Traceback" in said:
            return f"verify --boot ended with {status}: {said[-600:]}"
        return None

    def looked_at(self) -> str | None:
        """As `Ground.looked_at`: `verify`, as root and as a user, judges and never fails to."""
        for user in (0, NOBODY):
            problem = self.in_child(lambda user=user: self._verified(user))  # type: ignore[misc]
            if problem:
                return f"VERIFY as {user}: {problem}"
        return None

    def _verified(self, user: int) -> str | None:
        if user:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        status, said = self.run_here(("verify",))
        if status not in (EXIT_OK, EXIT_DIFFERENCES, EXIT_FAILED) or "Traceback" in said:
            return f"ended with {status}: {said[-600:]}"
        return None

    def guards(self) -> list[int]:
        """As `Ground.guards`: every process but this one."""
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]

    def end_guards(self) -> None:
        """As `Ground.end_guards`."""
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # all but process 1, which we are, of our own namespace
        with suppress(ChildProcessError):
            while True:
                os.wait()


def _started(command: list[str], user: int) -> subprocess.CompletedProcess[bytes]:
    ids = {"user": user, "group": user, "extra_groups": []} if user else {}
    return subprocess.run(command, env={}, stdin=subprocess.DEVNULL, capture_output=True, cwd="/", check=False, **ids)  # type: ignore[call-overload, no-any-return]


def _others() -> list[str]:
    """Others' items in the list, as it is in force."""
    try:
        return re.findall(f"{re.escape(FIRST)}|{re.escape(LAST)}", Path(LD_SO_PRELOAD).read_text())
    except FileNotFoundError:
        return []


def _edit(where: str) -> None:
    """What somebody else does to the list: an item of theirs first (`before`) or last (`after`), by their editor."""
    path = Path(LD_SO_PRELOAD)
    former = path.read_text() if path.exists() else ""
    if where == "before":
        path.write_text(f"# theirs\n{FIRST}\n{former}")
        os.chown(path, 0, 4)
    else:
        path.write_text(f"{former.rstrip()}\n{LAST}\n")

"""SMF of the laboratory: the repository, svc.startd and the commands svccfg, svcadm, svcs, svcprop over a scratch tree.

Written from the reference page "smf", whose sections are cited; test_laboratory_smf.py holds it to the recordings.
All that svc.configd and svc.startd know lies in /etc/svc/repository.db of the tree and is replaced in one rename
after each command, so that a killed process loses nothing that it has told them; `boot` forgets what a reboot does.

Time is virtual. Requests are asynchronous: after one, the first `svcs` or `svcprop` still sees the old state, the
next ones a method under way, and the one after `polls_until_settled` the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Callable

from tests.host.laboratory import smf_boot, smf_svcadm, smf_svccfg, smf_svcprop, smf_svcs
from tests.host.laboratory.smf_call import Call, NeverReturns
from tests.host.laboratory.smf_repository import Instance, Repository
from tests.host.laboratory.smf_restarter import Restarter
from tests.host.laboratory.system import Laboratory, Program, Result

__all__ = ["NeverReturns", "Smf"]

_DATABASE = "/etc/svc/repository.db"
_DOOR = "/etc/svc/volatile/repository_door"
_FACTS = ("now", "polls", "pid", "contract", "init_environment", "applied_early")
_FIRST_MOMENT = 1795200843.0
"""Fri Nov 20 18:54:03 2026 UTC: when the virtual clock of a new tree starts."""

COMMANDS: dict[str, Callable[[Smf, Call], int]] = {
    "/usr/sbin/svccfg": smf_svccfg.main,
    "/usr/sbin/svcadm": smf_svcadm.main,
    "/usr/bin/svcs": smf_svcs.main,
    "/usr/bin/svcprop": smf_svcprop.main,
    "/lib/svc/method/manifest-import": smf_boot.manifest_import,
}
"""What each program of SMF does, by path."""


class Smf:
    """The service management of the laboratory `lab`, whose programs and `boot()` it takes part in."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab
        self.polls_until_settled = 2
        """How many `svcs` and `svcprop` see an unfinished state after a request; 0: requests are done at once."""
        self.restarter = Restarter(self)
        self.repository = Repository()
        self.now = _FIRST_MOMENT
        self.polls = 0
        self.pid = 1000
        self.contract = 100
        self.init_environment: dict[str, str] = {}
        self.applied_early: set[str] = set()
        self.early = False
        """The early import is running: svc.startd has taken over no instance yet."""
        self._depth = 0
        for path in COMMANDS:
            bits = 32 if 32 in lab.machine.numbers else 64
            lab.install_program(path, Program(bits, self._run))
        if not self.host(_DATABASE).exists():
            smf_boot.furnish(self)
            self.boot()

    # The laboratory

    @property
    def release(self) -> str:
        """The laboratory's: 10, 11, 11.4 or illumos."""
        return self.lab.release

    @property
    def zone(self) -> str:
        """The name of the zone."""
        return self.lab.zone

    def host(self, path: str) -> Path:
        """Where a target path lies on this machine."""
        return Path(self.lab.top, path.lstrip("/"))

    def _run(self, lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        """The implementation of the programs. Raises NeverReturns."""
        path = lab.tree.resolve(argv[0])
        call = Call(path.rpartition("/")[2], list(argv[1:]), dict(env), uid, stdin)
        with self._session():
            self.now += 0.05
            try:
                status = COMMANDS[path](self, call)
            except NeverReturns as never:
                never.out, never.err = call.output()
                raise
        return Result(status, *call.output())

    def boot(self, settle: bool = True) -> None:
        """What svc.startd and svc.configd do after a reboot; without `settle` the services are still starting.

        The caller has emptied /etc/svc/volatile, /var/run and /tmp, and has seen init, svc.startd and svc.configd
        start.
        """
        self._depth = 0
        self.append(_DOOR, "")
        with self._session():
            self.repository.forget()
            smf_boot.boot(self)
            if settle:
                self.restarter.settle()

    def stop_configd(self) -> None:
        """From now on the repository is not reachable, until the next boot."""
        self.host(_DOOR).unlink()

    @property
    def reachable(self) -> bool:
        """Whether svc.configd answers."""
        return self.host(_DOOR).exists()

    def settle(self) -> None:
        """Wait, by the virtual clock, until nothing is under way."""
        with self._session():
            self.restarter.settle()

    def begin(self) -> None:
        """Wait until a method is under way."""
        with self._session():
            self.restarter.begin()

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass; in a method it counts against its timeout."""
        if self.restarter.method is not None:
            self.restarter.slept += seconds
            return
        with self._session():
            self.now += seconds

    def state(self, fmri: str) -> str | None:
        """The state of an instance without waiting and without a command; None if there is no such instance."""
        with self._session():
            found = self.repository.instance(fmri)
            return None if found is None else found.state

    # For the rooms of this package

    def observe(self) -> None:
        """A command looks at the states: the more of them since the last request, the more has happened."""
        if self._depth > 1 or not self.restarter.busy():
            return
        self.polls += 1
        if self.polls > self.polls_until_settled:
            self.restarter.settle()
        elif self.polls > 1:
            self.restarter.begin()

    def timestamp(self) -> str:
        """Now, as a value of type time."""
        return f"{self.now:.9f}"

    @property
    def validates(self) -> bool:
        """Whether templates are looked at: not before the early import is over."""
        return not self.early

    @property
    def var_is_writable(self) -> bool:
        """Whether logs go below /var: once filesystem/minimal is online."""
        minimal = self.repository.instance("svc:/system/filesystem/minimal:default")
        return not self.early and (minimal is None or minimal.state == "online")

    def log_path(self, instance: Instance) -> str:
        """Its log file below /var."""
        return f"/var/svc/log/{instance.service.name.replace('/', '-')}:{instance.name}.log"

    def append_log(self, instance: Instance, text: str) -> None:
        path = self.log_path(instance)
        if not self.var_is_writable:
            path = f"/etc/svc/volatile/{path.rpartition('/')[2]}"
        self.append(path, text)

    def append(self, path: str, text: str) -> None:
        """Append to a file of the tree, mode 0644."""
        host = self.host(path)
        host.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(host, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        with open(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))

    def account(self, database: str, name: str) -> list[str] | None:
        """The fields of a user or group, by name or number, from the tree's /etc/passwd or /etc/group."""
        for fields in self._accounts(database):
            if name in (fields[0], fields[2]):
                return fields
        return None

    def groups_of(self, user: str) -> list[int]:
        """The groups whose members name the user."""
        return [int(fields[2]) for fields in self._accounts("group") if user in fields[3].split(",")]

    def _accounts(self, database: str) -> Iterator[list[str]]:
        try:
            text = self.host(f"/etc/{database}").read_text("utf-8")
        except OSError:
            text = {"passwd": "root:x:0:0::/root:/sbin/sh\n", "group": "root::0:\n"}[database]
        for line in text.splitlines():
            fields = line.split(":")
            if len(fields) == (7 if database == "passwd" else 4):
                yield fields

    # Keeping

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        """The state of the tree, loaded and kept again; the outermost of nested ones does that, one at a time."""
        if self._depth or not self.reachable:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        lock = self.host("/etc/svc/.repository.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._load()
            self._depth = 1
            try:
                yield
            finally:
                self._depth = 0
                self._save()

    def _load(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.repository, facts = pickle.loads(self.host(_DATABASE).read_bytes())
            vars(self).update(facts)

    def _save(self) -> None:
        facts = {name: getattr(self, name) for name in _FACTS}
        host = self.host(_DATABASE)
        new = host.with_name(f"{host.name}.new")
        new.write_bytes(pickle.dumps((self.repository, facts)))
        new.replace(host)


def date(seconds: float) -> str:
    """A date as `svcs -l` prints it in the C locale."""
    return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(seconds))

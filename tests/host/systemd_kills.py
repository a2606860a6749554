"""Run on a machine that systemd runs: the service's step, killed before every command that it has systemctl do,
and taken back by the next process, which is killed once, too. Prints JSON: each case that ended otherwise.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

import plumbum  # noqa: F401 - once, rather than in each process that is killed

from memproxy_sol import journal, lock, systemd_unit
from memproxy_sol.commands import ENVIRONMENT, SECONDS, Ran, Shell
from memproxy_sol.root import FileState, Root
from memproxy_sol.services import SystemdServices
from memproxy_sol.steps import ChangeService, Service
from memproxy_sol.systemd import Systemd

ROOT = Root("/")
OLD, NEW = (FileState(systemd_unit.unit_with(program), 0o644, 0, 0) for program in ("/bin/true", "/usr/bin/true"))
ABSENT = Service(None, False, False)
CHANGES = {
    "first install": (ABSENT, Service(NEW, True, True)),
    "upgrade": (Service(OLD, True, True), Service(NEW, True, True)),
    "uninstall": (Service(NEW, True, True), ABSENT),
    "switched off": (Service(OLD, True, True), Service(NEW, True, False)),
}


class Deadly(Shell):
    """Kills its process before a command: all that was to be done since the one before is done by then."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at, self.commands = kill_at, 0

    def run(
        self, command: Sequence[str], *, seconds: float = SECONDS, environment: Mapping[str, str] = ENVIRONMENT
    ) -> Ran:
        if self.commands == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.commands += 1
        return super().run(command, seconds=seconds, environment=environment)


def services(kill_at: int = -1) -> SystemdServices:
    return SystemdServices(Systemd(Deadly(kill_at), ROOT))


def forked(act: Callable[[], None]) -> bool:
    """Whether a process that does so lives to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with lock.locked(ROOT):
                act()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == 0


def recover(kill_at: int = -1) -> None:
    left = journal.unfinished(ROOT)
    if left is not None:
        ours = services(kill_at)
        journal.recover(ROOT, left, ours)
        assert ours.findings == [], ours.findings


def now() -> Service:
    state = services().state()
    links = bool(systemd_unit.links(ROOT))
    assert links == (state is not None and state.enabled), (state, links)
    assert state is None or state.is_running == state.enabled, state
    return Service(ROOT.read(systemd_unit.PATH), state is not None, links)


def main() -> None:
    wrong: list[str] = []
    killed = 0
    for name, (before, after) in CHANGES.items():
        step = ChangeService(systemd_unit.PATH, before, after, False)
        for kill_at in range(1000):
            services().undo(step)
            if now() != before:
                wrong.append(f"{name}: the state before cannot be made")

            def apply(kill_at: int = kill_at, step: ChangeService = step) -> None:
                journal.apply(ROOT, "install", "2026-01-01T00:00:00Z", [step], services=services(kill_at))

            if forked(apply):
                if now() != after:
                    wrong.append(f"{name}: {now()} is not what it leads to")
                break
            killed += 1
            forked(lambda kill_at=kill_at: recover(3 * kill_at % 7))  # type: ignore[misc]
            forked(recover)
            if journal.unfinished(ROOT) is not None or now() != before:
                wrong.append(f"{name}, killed at {kill_at}: {now()}")
    json.dump({"killed": killed, "wrong": wrong}, sys.stdout)


if __name__ == "__main__":
    main()

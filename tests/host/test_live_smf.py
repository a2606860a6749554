"""The service on a running system: delivered, looked at, broken in each way, retired; through the laboratory's SMF."""

from __future__ import annotations

import functools
import re

import pytest

from memproxy_sol import change, journal, lock, removal, steps
from memproxy_sol.policy import Policy
from memproxy_sol.services import Services
from memproxy_sol.smf import Smf, State
from memproxy_sol.smf_manifest import FMRI
from tests.host.live import Live
from tests.host.test_findings import CASES, HARMLESS

MANIFEST = "lib/svc/manifest/site/memproxy.xml"
STARTED = "2026-01-01T00:00:00Z"


class Host:
    """A running system and its SMF; changes as `install` and `uninstall` make them."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.lab = live.lab
        self.root = live.root
        self.system = live.lab.smf
        self.smf = Smf(live.shell, live.root, sleep=self.system.sleep)
        self.services = Services(self.smf)

    def wishes(self, policy: Policy, allocator: str = "liballoc.so") -> change.Wishes:
        objects = self.live.objects
        allocators = tuple(str(top / allocator) for top in (objects, objects / "64"))
        return change.Wishes(policy, allocators, libraries=str(objects))

    def plan(self, policy: Policy | None = None, allocator: str = "liballoc.so") -> change.Plan:
        with pytest.MonkeyPatch.context() as patch:
            service = self.smf.state(FMRI)
            patch.setattr(change.plans, "install", functools.partial(change.plans.install, service=service))
            return change.plan_install(change.Target(self.root), self.wishes(policy or Policy(), allocator))

    def install(self, policy: Policy | None = None, allocator: str = "liballoc.so") -> State:
        plan = self.plan(policy, allocator)
        with lock.locked(self.root):
            journal.apply(self.root, "install", STARTED, plan.steps, services=self.services)
            return self.services.look_again()

    def uninstall(self) -> None:
        facts = change.Target(self.root).facts(tolerant=True)
        plan = removal.uninstall(facts, facts.machine.abis(), False, service=self.smf.state(FMRI))
        with lock.locked(self.root):
            journal.apply(self.root, "uninstall", STARTED, plan.steps, services=self.services)

    def svcadm(self, *words: str) -> str:
        """`svcadm WORDS` as an administrator types it; the state that comes of it."""
        ran = self.live.shell.run(("/usr/sbin/svcadm", *words))
        assert ran.status == 0, ran
        self.system.settle()
        state = self.system.state(FMRI)
        assert state is not None
        return state

    def log(self) -> list[str]:
        """The log that `svcs -x` names."""
        words = self.live.shell.run(("/usr/bin/svcs", "-x", FMRI)).out.splitlines()
        (path,) = (line.split()[1] for line in words if "/var/svc/log/" in line)
        return self.lab.tree.read(path).decode().splitlines()


@pytest.fixture
def host(live: Live) -> Host:
    return Host(live)


@pytest.fixture
def installed(host: Host) -> Host:
    assert host.install().state == "online"
    return host


def test_install_delivers_the_service_and_it_looks_again_when_all_is_done(host: Host) -> None:
    assert host.smf.state(FMRI) is None
    assert host.install().state == "online"
    lines = [line for line in host.log() if not line.startswith("[")]
    assert any("is being carried out by process" in line for line in lines)
    assert "nothing wrong below" in lines[-1]
    assert host.services.findings == []
    assert not (host.lab.top / "etc/svc/profile/site/memproxy.xml").exists()
    assert any(
        isinstance(step, steps.ChangeService) for change_ in journal.history(host.root) for step in change_.steps
    )


SKIPPED = {
    "profile removed": "a running system gets no profile",
    "profile changed": "a running system gets no profile",
    "program of the service removed": "then the method itself cannot start: below",
    "line that is a link": "the same finding as another case, and /usr/bin is there",
    "line written for a tool that cut names": "the same, and /usr/bin is there",
}
BROKEN = sorted(case for case in CASES if case not in SKIPPED)


@pytest.mark.parametrize("case", BROKEN)
def test_enabling_it_tells_what_is_broken(installed: Host, case: str) -> None:
    """`svcadm enable memproxy`, on a system where something has happened since it was switched off."""
    identifier, act = CASES[case]
    assert installed.svcadm("disable", "memproxy") == "disabled"
    act(installed.live)
    state = installed.svcadm("enable", "memproxy")
    lines = [line for line in installed.log() if not line.startswith("[ ")]
    finding = next(line for line in reversed(lines) if f" {identifier}: " in line)
    if identifier in HARMLESS:
        assert state == "online"
        assert lines[-1].startswith("memproxy-sol: SMF_EXIT_OK (0): nothing wrong below")
        return
    assert state == "maintenance"
    assert finding.startswith("error: ")
    assert re.fullmatch(rf"memproxy-sol: SMF_EXIT_ERR_CONFIG \(96\): /.*; .+; then svcadm clear {FMRI}", lines[-1])
    assert installed.log()[-1].endswith('Method "start" exited with status 96. ]')
    # At the first failure: a retry would only say the same again.
    log = installed.log()
    last = max(place for place, line in enumerate(log) if line.endswith(" Enabled. ]"))
    assert sum("Executing start method" in line for line in log[last:]) == 1

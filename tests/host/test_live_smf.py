"""The service on a running system: delivered, looked at, broken in each way, retired; through the laboratory's SMF."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from memproxy_sol import actor, change, guard, journal, lock, pending, smf_manifest, steps
from memproxy_sol.errors import ChangeError, SmfError
from memproxy_sol.findings import Finding
from memproxy_sol.policy import Policy
from memproxy_sol.root import FileState, Root
from memproxy_sol.service_preflight import check_method
from memproxy_sol.services import SmfServices
from memproxy_sol.smf import Smf
from memproxy_sol.smf_manifest import FMRI
from tests.host import live as lives
from tests.host.laboratory import Fault, Laboratory, Result
from tests.host.live import Live
from tests.host.test_findings import CASES, HARMLESS, remove
from tests.images import CONFIG

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
        self.services = SmfServices(self.smf)
        self.target = change.Target(self.root)
        self.findings: tuple[Finding, ...] = ()

    def wishes(self, policy: Policy, allocator: str = "liballoc.so") -> change.Wishes:
        objects = self.live.objects
        allocators = tuple(str(top / allocator) for top in (objects, objects / "64"))
        return change.Wishes(policy, allocators, libraries=str(objects))

    def plan(self, policy: Policy | None = None, allocator: str = "liballoc.so") -> change.Plan:
        return change.plan_install(self.target, self.wishes(policy or Policy(), allocator))

    def carry_out(self, plan: change.Plan, policy: Policy | None = None) -> None:
        """As the commands do it; what has to be told afterwards is in `findings`."""
        with lock.locked(self.root):
            self.findings = change.carry_out(self.target, plan, policy).findings

    def install(self, policy: Policy | None = None, allocator: str = "liballoc.so") -> str | None:
        """The state of the service after it."""
        self.carry_out(self.plan(policy, allocator), policy)
        return self.system.state(FMRI)

    def uninstall(self) -> None:
        self.carry_out(change.plan_uninstall(self.target, None, False))

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
    assert host.install() == "online"
    return host


def test_install_delivers_the_service_and_it_looks_again_when_all_is_done(host: Host) -> None:
    assert host.smf.state(FMRI) is None
    assert host.install() == "online"
    lines = [line for line in host.log() if not line.startswith("[")]
    assert any("is being carried out by process" in line for line in lines)
    assert "nothing wrong below" in lines[-1]
    assert host.findings == ()
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


# What breaks without a file being wrong.


def text(host: Host) -> str:
    """The method's last line."""
    return [line for line in host.log() if not line.startswith("[ ")][-1]


def test_a_new_process_that_does_not_start_is_found_though_the_files_are_right(installed: Host) -> None:
    installed.lab.faults["/usr/bin/ls"] = Fault(status=-9, err=b"ld.so.1: ls: fatal: relocation error\n")
    assert installed.svcadm("restart", FMRI) == "maintenance"
    words = r"\(96\): /usr/bin/ls: a new process does not run: .*signal 9.* \(32-bit\); memproxy-sol uninstall; then "
    assert re.search(f"{words}svcadm clear {FMRI}", text(installed))
    del installed.lab.faults["/usr/bin/ls"]
    assert installed.svcadm("clear", "memproxy") == "online"


def test_a_new_process_without_memproxy_is_found_though_the_files_are_right(installed: Host) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(installed.lab), "_said", lambda *arguments: b"")
        assert installed.svcadm("restart", FMRI) == "maintenance"
    assert "a new process does without memproxy: started, but libmemproxy is not in it" in text(installed)
    assert "; memproxy-sol install --bits 32; then svcadm clear" in text(installed)


def test_the_probe_goes_through_the_configuration_and_the_method_does_not(installed: Host) -> None:
    def look(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        return Result(1, err=repr(dict(env)).encode())

    installed.lab.faults["/usr/bin/true"] = Fault(instead=look)
    assert installed.svcadm("restart", FMRI) == "maintenance"
    assert "'MEMPROXY_DEBUG': '1'" in text(installed)
    assert "LD_NOCONFIG" not in text(installed)
    assert "SMF_FMRI" not in text(installed)


@pytest.mark.parametrize(("mode", "status"), [(None, 127), (0o444, 126)], ids=["missing", "not executable"])
def test_a_program_that_is_not_there_is_tried_three_times_and_preflight_knows(
    installed: Host, mode: int | None, status: int
) -> None:
    program = installed.lab.top / "usr/local/bin/memproxy-sol"
    check = functools.partial(check_method, installed.live.shell, "/usr/local/bin/memproxy-sol", installed.root)
    assert check() is None
    program.unlink() if mode is None else program.chmod(mode)
    assert installed.svcadm("restart", FMRI) == "maintenance"
    assert [line for line in installed.log() if f"exited with status {status}. ]" in line][2:]
    finding = check()
    assert finding is not None
    assert (finding.identifier, finding.severity) == ("service-method", "error")
    assert f"ends with status {status}: " in finding.text


def test_a_service_that_lost_its_environment_dies_of_the_preload_that_it_is_to_report(installed: Host) -> None:
    command = ("/usr/sbin/svccfg", "-s", "svc:/site/memproxy", "setprop", "method_context/environment")
    ran = installed.live.shell.run((*command, "=", "astring:", '"OTHER=1"'))
    assert (ran.status, ran.err) == (0, "")
    installed.live.shell.run(("/usr/sbin/svcadm", "refresh", FMRI))
    installed.system.settle()
    remove("GEN/64/libmemproxy.so")(installed.live)
    remove("GEN/libmemproxy.so")(installed.live)
    assert installed.svcadm("restart", FMRI) == "maintenance"
    assert "ld.so.1: sh: fatal: " in text(installed)
    # The hint of docs/smf.md: import the manifest again. What was customised is kept, so that it has to be set back.
    installed.live.shell.run((*command, "=", "astring:", '"LD_NOCONFIG=yes"'))
    installed.live.shell.run(("/usr/sbin/svcadm", "refresh", FMRI))
    installed.system.settle()
    assert installed.svcadm("clear", FMRI) == "maintenance"
    assert "libmemproxy.so: does not exist" in text(installed)


# A change that is cut short, or on trial.


def test_a_change_that_was_cut_short_is_told_with_the_command_that_mends_it(installed: Host) -> None:
    plan = installed.plan(allocator="libother.so")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_undo", lambda *arguments: None)
        patch.setattr(journal, "_finish", lambda *arguments: None)
        patch.setattr(actor, "process", lambda pid: f"{1 << 30} ended")  # who was cut short does not live any more
        real = journal._do

        def cut(root: Root, step: steps.Step, services: object = None) -> None:
            if isinstance(step, steps.ReplaceFile) and "linker configuration" in step.purpose:
                raise KeyboardInterrupt
            real(root, step, services)  # type: ignore[arg-type]

        patch.setattr(journal, "_do", cut)
        with pytest.raises(KeyboardInterrupt):
            journal.apply(installed.root, "install", STARTED, plan.steps, services=installed.services)
    assert installed.svcadm("restart", FMRI) == "maintenance"
    assert re.search(r"\(96\): .*was cut short; .*(install|uninstall|rollback).*; then svcadm clear", text(installed))


@contextlib.contextmanager
def on_trial(host: Host, allocator: str = "liballoc.so") -> Iterator[int]:
    """An install on trial, guarded by a real process, whose number this gives; it is ended afterwards."""
    watch = guard.Watch(host.root, 600.0)
    tried = steps.on_trial(host.plan(allocator=allocator).steps)
    with lock.locked(host.root):
        journal.apply(host.root, "install", STARTED, tried, services=host.services, keeper=watch)
    trial = pending.read(host.root)
    assert trial is not None
    try:
        yield trial.guard
    finally:
        watch.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(trial.guard, signal.SIGKILL)


def end(host: Host, process: int) -> None:
    os.kill(process, signal.SIGKILL)
    while pending.is_guarded(host.root):
        pass


def configurations(host: Host) -> list[FileState | None]:
    return [host.root.read(f"/{name}") for name in CONFIG.values()]


def test_a_trial_that_is_guarded_is_no_failure(installed: Host) -> None:
    with on_trial(installed, "libother.so"):
        assert installed.svcadm("restart", FMRI) == "online"
        assert "is on trial, and is taken back unless it is confirmed; memproxy-sol confirm keeps it" in text(installed)


@pytest.mark.parametrize("reboot", [False, True], ids=["guard killed", "reboot"])
@pytest.mark.parametrize("upgrade", [False, True], ids=["first install", "upgrade"])
def test_a_forgotten_trial_is_ended(host: Host, upgrade: bool, reboot: bool) -> None:
    if upgrade:
        assert host.install() == "online"
    before = configurations(host)
    with on_trial(host, "libother.so") as process:
        assert configurations(host) != before
        end(host, process)
        if reboot:
            host.lab.boot()
            assert host.system.state(FMRI) == "online"
        else:
            assert host.svcadm("restart", FMRI) == "online"
        assert configurations(host) == before
        assert "was on trial and is not confirmed and has been taken back" in text(host)
        assert text(host).endswith("nothing else is wrong" if upgrade else "memproxy is not installed, as before")
        assert journal.unfinished(host.root) is None
        assert host.lab.brick() is None
        host.lab.boot()
        assert host.system.state(FMRI) == ("online" if upgrade else None)


# Delivering and retiring.


def test_install_again_has_nothing_to_do_with_the_service(installed: Host) -> None:
    assert not any(isinstance(step, steps.ChangeService) for step in installed.plan().steps)


def test_a_service_that_the_administrator_switched_off_stays_off(installed: Host) -> None:
    assert installed.svcadm("disable", "memproxy") == "disabled"
    plan = installed.plan(Policy(program="/usr/local/bin/../bin/memproxy-sol"))
    assert "service-disabled" in {finding.identifier for finding in plan.findings}
    installed.carry_out(plan)
    assert installed.system.state(FMRI) == "disabled"
    assert installed.services.look_again() is None
    installed.lab.boot()
    assert installed.system.state(FMRI) == "disabled"


def test_install_brings_it_out_of_maintenance(installed: Host) -> None:
    CASES["library removed"][1](installed.live)
    assert installed.svcadm("restart", FMRI) == "maintenance"
    assert installed.install() == "online"


@pytest.mark.parametrize("release", ["illumos", "11.4", "10"])
def test_it_comes_and_goes_on_every_release(
    release: str, tmp_path: Path, objects: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = lives.build(tmp_path / "live", objects, capsys, monkeypatch, release)
    if release == "10":
        (live / "lib/svc/manifest/site").rmdir()  # as it is there
    host = Host(live)
    place = "var" if release == "10" else "lib"
    manifest = host.lab.top / place / "svc/manifest/site/memproxy.xml"
    for _ in range(2):  # the second time nothing of the first may stand in the way
        assert host.install() == "online"
        assert manifest.exists()
        host.lab.boot()
        assert host.system.state(FMRI) == "online"
        host.uninstall()
        assert host.findings == ()
        assert host.system.state(FMRI) is None
        assert not manifest.exists()
        host.lab.boot()
        assert host.system.state(FMRI) is None
    known = host.live.shell.run(("/usr/bin/svcprop", "svc:/smf/manifest")).out
    assert "memproxy" not in known, "the hash of a manifest that comes again would keep it from being imported"


def test_a_method_that_fails_takes_the_install_back(host: Host) -> None:
    plan = host.plan()
    host.lab.faults["/usr/local/bin/memproxy-sol"] = Fault(status=1, out=b"", err=b"Traceback: no module\n")
    with pytest.raises(ChangeError, match=r"is in maintenance \(fault_threshold_reached\): Traceback: no module; the "):
        host.carry_out(plan)
    assert host.system.state(FMRI) is None
    assert configurations(host) == [None, None]
    assert journal.unfinished(host.root) is None
    assert not (host.lab.top / MANIFEST).exists()


def test_a_repository_that_is_gone_stops_an_install_and_no_uninstall(installed: Host) -> None:
    installed.system.stop_configd()
    with pytest.raises(SmfError, match=r"svc\.configd does not answer"):
        installed.install(allocator="libother.so")
    installed.uninstall()
    assert [finding.identifier for finding in installed.findings] == ["service-left"]
    assert not (installed.lab.top / MANIFEST).exists()
    installed.lab.boot()
    assert installed.system.state(FMRI) is None, "the import at boot deletes what has no manifest"


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("what", ["install", "uninstall"])
def test_killed_at_any_command_of_smf_the_next_one_finds_its_way_back(host: Host, what: str) -> None:
    place = f"/{MANIFEST}"
    data = FileState(smf_manifest.manifest_with("/usr/local/bin/memproxy-sol"), 0o444, 0, 3)
    absent, there = steps.Service(None, False, False), steps.Service(data, True, True)
    step = steps.ChangeService(place, *((absent, there) if what == "install" else (there, absent)), False)
    if what == "uninstall":
        # Nothing is installed but the service, which is therefore in maintenance, as its last check says.
        host.lab.faults["/usr/local/bin/memproxy-sol"] = Fault(status=0)
        journal.apply(
            host.root, "install", STARTED, [steps.ChangeService(place, absent, there, False)], services=host.services
        )
    host.lab.faults["/usr/local/bin/memproxy-sol"] = Fault(status=0)
    real = type(host.live.shell).run
    for kill_at in range(100):
        left = kill_at

        def dying(self: object, command: Sequence[str], **options: object) -> object:
            nonlocal left
            left -= 1
            if left == -1:
                raise Killed
            ran = real(self, command, **options)  # type: ignore[arg-type]
            left -= 1
            if left == -1:
                raise Killed
            return ran

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(host.live.shell), "run", dying)
            patch.setattr(journal, "_undo", lambda *arguments: None)
            try:
                journal.apply(host.root, what, STARTED, [step], services=host.services)
                break
            except Killed:
                pass
        change_ = journal.unfinished(host.root)
        assert change_ is not None
        journal.recover(host.root, change_, host.services)
        assert host.system.state(FMRI) == (None if what == "install" else "online"), kill_at
        assert host.root.read(place) == step.before.manifest
        assert host.services.findings == []
    assert kill_at > 10

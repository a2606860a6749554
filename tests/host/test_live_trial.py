"""The trial in the laboratory: candidates on its programs, the change on trial under a real guard, confirmed or not."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from memproxy_sol import abi, candidate, change, guard, journal, pending, probe_list, record, steps, trial
from memproxy_sol.abi import ABI32, ABI64, ABIS
from memproxy_sol.change import Target, Wishes
from memproxy_sol.errors import ChangeError, Interrupted
from memproxy_sol.findings import errors_in
from memproxy_sol.ld_config import decode, encode, layout_for, new
from memproxy_sol.pending import Keeper
from memproxy_sol.plan import Plan
from memproxy_sol.policy import Policy
from memproxy_sol.probe import Probe
from memproxy_sol.trial import Attempt, TrialError, Tried
from tests.host.laboratory import Program, Result
from tests.host.laboratory.commands import true
from tests.host.live import Live
from tests.images import CONFIG
from tests.usual_signals import usual_signals

BOTH = (32, 64)
HOURS = 36000.0


@pytest.fixture(params=[True, False], ids=["with former files", "without"])
def host(request: pytest.FixtureRequest, live: Live) -> Live:
    live.lab.install_program("/usr/bin/uptime", Program(32, true, set_id=True))
    live.lab.install_program(
        "/usr/bin/groff", Program(64, true, needed=("libstdc++.so.6", "libc.so.1"), runpath=("/usr/lib/64",))
    )
    if request.param:
        for bits in BOTH:
            layout = layout_for(abi.X86, bits)
            live.write(
                CONFIG[bits], encode(replace(new(layout), library_path=(*ABIS[bits].default_library_path, "/opt/lib")))
            )
    return live


def planned(host: Live) -> Plan:
    allocators = tuple(str(host.objects / directory / "liballoc.so") for directory in ("", "64"))
    wishes = Wishes(Policy(service=False), allocators, libraries=str(host.objects))
    return change.plan_install(Target(host.root, release="illumos"), wishes)


def probes(host: Live, commands: Sequence[tuple[str, ...]] = ()) -> probe_list.ProbeList:
    return probe_list.default_probes(host.root, [ABI32, ABI64], commands)


def attempted(
    host: Live,
    seconds: float = HOURS,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> Attempt:
    """The change on trial; `before` and `after` happen when the probes with and without candidates are about to run."""
    root, plan = host.root, planned(host)
    made = candidate.candidates(host.shell, plan)
    paths = {bits: one.path for one in made.values() for bits in one.bits}
    expected = probe_list.expectation(root, BOTH)

    def apply(keeper: Keeper) -> None:
        journal.apply(root, plan.what, "now", steps.on_trial(plan.steps), keeper=keeper)

    def with_candidates() -> Tried:
        before()
        return trial.run(host.prober, probes(host).probes, paths, expected)

    def in_force(good: Sequence[Probe]) -> Tried:
        after()
        return trial.run(host.prober, good, None, expected)

    try:
        return trial.attempt(root, seconds, apply, with_candidates, in_force)
    finally:
        candidate.discard(root)


def guarded_until(host: Live) -> None:
    """Wait for the guard's end."""
    while pending.is_guarded(host.root):
        time.sleep(0.01)


def configurations(host: Live) -> dict[str, object]:
    """The configurations and what a trial puts beside them: every name with inode, times and content."""
    found: dict[str, object] = {}
    for path in sorted((host.path / "var/ld").rglob("ld.config*")):
        if path.name.endswith(".before-memproxy"):
            continue  # a copy for the rescue, which stays
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes()
        found[str(path)] = (status.st_mode, content, status.st_ino, status.st_mtime_ns)
    return found


def everything(host: Live) -> dict[str, object]:
    """The whole tree but the journal, the run directory and the processes' traces."""
    outside = ("var/opt", "var/run", "proc", "var/adm", ".")
    return {name: value for name, value in host.snapshot().items() if not name.startswith(outside)}


def kill_guard(host: Live) -> None:
    found = pending.read(host.root)
    assert found is not None
    os.kill(found.guard, signal.SIGKILL)
    guarded_until(host)


@pytest.fixture(autouse=True)
def no_guard_is_left(host: Live) -> object:
    yield
    pending.end_guard(host.root)


# ---- The list of probes.


def test_the_list_has_each_abi_each_user_a_shell_python_cplusplus_and_a_set_id_program(host: Live) -> None:
    found = probes(host)
    assert found.findings == ()
    asked = {(probe.name, probe.bits, probe.user, probe.secure) for probe in found.probes}
    for user in (None, "joe"):
        for name, bits in (
            *(("/usr/bin/true", 64), ("/usr/bin/ls", 32), ("login shell /bin/sh", 64)),
            *(("python /usr/bin/python3", 64), ("/usr/bin/groff", 64)),
        ):
            assert (name, bits, user, False) in asked
    assert ("set-id /usr/bin/uptime", 32, "joe", True) in asked
    assert ("set-id /usr/bin/amd64/w", 64, "joe", True) in asked
    assert len(asked) == 12


def test_an_abi_without_a_program_is_an_error(host: Live) -> None:
    for path in (*host.path.rglob("usr/bin/*"), *host.path.glob("sbin/*")):
        if path.is_file() and path.name not in ("true", "sh", "python3"):
            path.unlink()
    (finding,) = trial.check_coverage(probes(host).probes, BOTH)
    assert (finding.identifier, finding.where) == ("trial-impossible", "32-bit programs")
    assert "--bits 64" in finding.hint


def test_commands_of_the_policy(host: Live) -> None:
    found = probes(host, [("/usr/bin/true32", "-x"), ("/no/such", "a")])
    assert Probe("/usr/bin/true32 -x", ("/usr/bin/true32", "-x"), 32, "joe") in found.probes
    (finding,) = found.findings
    assert (finding.identifier, finding.where) == ("trial-not-tried", "/no/such")


def test_the_exclusion_list_says_which_route_is_expected(host: Live) -> None:
    host.write("etc/memproxy.conf", b"ls\n/usr/bin/groff = system\n")
    expected = probe_list.expectation(host.root, {32, 64})
    routes = {probe.command[0]: expected(probe) for probe in probes(host).probes}
    assert routes["/usr/bin/ls"] == routes["/usr/bin/groff"] == "system"
    assert routes["/usr/bin/true"] == "custom"
    assert set(map(probe_list.expectation(host.root, ()), probes(host).probes)) == {"system"}


# ---- On trial.


def test_on_trial_programs_have_it_and_a_reboot_is_without_it(host: Live) -> None:
    before = configurations(host)
    made = attempted(host)
    assert made.seconds is not None
    assert 0 < made.seconds <= HOURS
    assert not errors_in(made.findings)
    for bits in BOTH:
        assert os.readlink(host / CONFIG[bits]) == f"/var/run/memproxy/trial/{bits}"
    assert b"route custom" in host.lab.execute(["/usr/bin/true"], {"MEMPROXY_DEBUG": "1"}).err
    assert host.lab.brick() is None
    made.leave()
    kill_guard(host)  # as a reboot does
    host.lab.boot()
    assert host.lab.execute(["/usr/bin/true"], {"MEMPROXY_DEBUG": "1"}).err == b""
    assert host.lab.brick() is None
    assert guard.forgotten(host.root) is not None
    assert "on trial" in str(guard.take_back(host.root))
    assert configurations(host) == before
    assert guard.take_back(host.root) is None


def test_without_a_confirmation_everything_comes_back_though_every_program_dies(host: Live) -> None:
    before = configurations(host)
    seconds = 0.5
    while True:
        attempted(host, seconds).leave()
        for library in host.path.glob("usr/local/lib/memproxy/*/libmemproxy.so"):
            library.unlink()
        if host.lab.brick() is not None and pending.is_guarded(host.root):
            break  # on a slow machine it may have run out before: then once more, with more time
        guarded_until(host)
        change.mend_unfinished(change.Target(host.root))
        seconds *= 2
    guarded_until(host)
    after = {name: value for name, value in configurations(host).items() if ".memproxy-" not in name}
    assert after == before
    assert host.lab.brick() is None
    host.lab.boot()
    assert host.run("confirm") == 1
    assert "is too late: change 1 (install)" in host.err
    assert configurations(host) == before
    assert host.run("confirm") == 1
    assert "no trial is pending" in host.err


def test_confirmed_it_is_there_for_good(host: Live) -> None:
    attempted(host).leave()
    assert host.run("confirm") == 0, host.err
    assert "change 1 (install) is permanent" in host.err
    assert not pending.is_guarded(host.root)
    for bits in BOTH:
        path = host / CONFIG[bits]
        assert path.is_file()
        assert not path.is_symlink()
    assert set(configurations(host)) == {str(host / CONFIG[bits]) for bits in BOTH}
    assert journal.unfinished(host.root) is None
    host.lab.boot()
    assert host.lab.brick() is None
    assert b"route custom" in host.lab.execute(["/usr/bin/true32"], {"MEMPROXY_DEBUG": "1"}, 100).err
    assert host.run("confirm") == 1
    assert "no trial is pending" in host.err


def test_kept_at_once_where_no_trial_was_asked_for(host: Live) -> None:
    attempted(host).keep()
    assert journal.unfinished(host.root) is None
    assert host.lab.brick() is None
    assert not (host / CONFIG[32]).is_symlink()
    assert record.read(host.root) is not None


def test_a_confirmation_that_sees_programs_die_takes_it_back_at_once(host: Live) -> None:
    before = configurations(host)
    attempted(host).leave()
    for library in host.path.glob("usr/local/lib/memproxy/*/64/libmemproxy.so"):
        library.unlink()
    assert host.run("confirm") == 1
    assert "trial-failed" in host.err
    assert "so the change was taken back" in host.err
    assert configurations(host) == before
    assert host.lab.brick() is None
    assert not pending.is_guarded(host.root)


def test_a_confirmation_without_a_guard_within_time_puts_the_files_in_place(host: Live) -> None:
    attempted(host).leave()
    kill_guard(host)
    assert host.run("confirm") == 0, host.err
    assert "its guard was gone" in host.err
    assert not (host / CONFIG[64]).is_symlink()
    assert host.lab.brick() is None
    assert journal.unfinished(host.root) is None


def test_a_confirmation_without_a_guard_after_its_time_takes_it_back(host: Live) -> None:
    before = configurations(host)
    attempted(host).leave()
    kill_guard(host)
    found = pending.read(host.root)
    assert found is not None
    over = replace(found, armed=0.0, deadline=pending.now())
    Path(host.root.host_path(pending.STATE)).write_bytes(over.encode())
    assert host.run("confirm") == 1
    assert "its guard is gone" in host.err
    assert configurations(host) == before


def test_what_an_administrator_wrote_meanwhile_is_not_confirmed_over(host: Live) -> None:
    attempted(host).leave()
    config = host / CONFIG[64]
    config.unlink()
    config.write_bytes(b"another's")
    assert host.run("confirm") == 1
    assert config.read_bytes() == b"another's"
    assert "libmemproxy is not in it" in host.err


def test_another_change_waits_for_the_trial(host: Live) -> None:
    attempted(host).leave()
    change_now = journal.unfinished(host.root)
    assert change_now is not None
    with pytest.raises(Exception, match="type memproxy-sol confirm"):
        change.mend_unfinished(change.Target(host.root))
    assert pending.is_guarded(host.root)


# ---- Where programs do not start.


def test_a_candidate_with_which_programs_die_never_goes_live(host: Live) -> None:
    before, whole = configurations(host), everything(host)

    def lose_a_library() -> None:
        assert configurations(host) == before, "the live files are untouched"
        for library in host.path.glob("usr/local/lib/memproxy/*/64/libmemproxy.so"):
            library.unlink()

    with pytest.raises(TrialError, match="so nothing is changed") as failure:
        attempted(host, before=lose_a_library)
    wrong = errors_in(failure.value.findings)
    assert {finding.identifier for finding in wrong} == {"trial-failed"}
    assert all("64-bit" in finding.where and "fatal" in finding.text for finding in wrong)
    assert len(wrong) == 8, "true, shell, python and groff, as root and as joe"
    assert configurations(host) == before
    assert everything(host) == whole


def test_a_library_that_users_cannot_read_is_noticed_as_one_of_them(host: Live) -> None:
    def hide() -> None:
        for library in host.path.glob("usr/local/lib/memproxy/*/libmemproxy.so"):
            library.chmod(0o600)

    with pytest.raises(TrialError) as failure:
        attempted(host, before=hide)
    assert {finding.where for finding in errors_in(failure.value.findings)} == {"/usr/bin/ls (32-bit, as joe)"}


def test_a_candidate_that_is_silently_none_is_noticed(host: Live) -> None:
    def empty() -> None:
        for name in (host / "var/run/memproxy/candidate").iterdir():
            name.write_bytes(b"")

    with pytest.raises(TrialError, match="libmemproxy is not in it"):
        attempted(host, before=empty)


def test_an_allocator_that_is_lost_is_noticed_by_the_route(host: Live) -> None:
    plan = planned(host)
    with pytest.raises(TrialError, match="is on route custom, not system"):
        trial.attempt(
            host.root,
            HOURS,
            lambda keeper: journal.apply(host.root, "install", "now", steps.on_trial(plan.steps), keeper=keeper),
            lambda: Tried((), probes(host).probes),
            lambda good: trial.run(host.prober, good, None, lambda probe: "system"),
        )
    assert host.lab.brick() is None


def test_a_set_id_program_is_tried_when_the_change_is_in_force(host: Live) -> None:
    """A directory that is not trusted is fatal for nobody: only the set-id program's warning tells of it."""
    before = configurations(host)

    def distrust() -> None:
        for bits in BOTH:
            place = host / f"var/run/memproxy/trial/{bits}"
            layout = layout_for(abi.X86, bits)
            config = decode(place.read_bytes(), layout=layout)
            place.write_bytes(encode(replace(config, trusted_directories=None)))

    with pytest.raises(TrialError, match="illegal insecure pathname") as failure:
        attempted(host, after=distrust)
    assert {finding.where for finding in errors_in(failure.value.findings)} == {
        "set-id /usr/bin/uptime (32-bit, as joe)",
        "set-id /usr/bin/amd64/w (64-bit, as joe)",
    }
    assert configurations(host) == before


def test_an_interruption_in_the_middle_of_the_probes_takes_it_back(host: Live) -> None:
    before = configurations(host)

    def interrupt() -> None:
        assert (host / CONFIG[32]).is_symlink()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempted(host, after=interrupt)
    assert configurations(host) == before
    assert not pending.is_guarded(host.root)


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_hangup_in_the_middle_of_the_probes_takes_it_back(host: Live, place: str) -> None:
    before = configurations(host)

    def hang_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    with usual_signals(), pytest.raises(Interrupted, match=r"interrupted by SIGHUP; .*taken back"):
        attempted(host, **{place: hang_up})
    assert configurations(host) == before
    assert not pending.is_guarded(host.root)
    assert journal.unfinished(host.root) is None


def test_probes_that_outlast_the_guard_find_everything_taken_back(host: Live) -> None:
    before = configurations(host)

    def undo() -> None:
        assert guard.ask(host.root, "undo") == "undone"

    with pytest.raises(ChangeError, match="has ended before the probes had"):
        attempted(host, after=undo)
    assert configurations(host) == before
    assert journal.unfinished(host.root) is None


def test_a_program_that_fails_by_itself_proves_nothing(host: Live) -> None:
    host.lab.install_program("/opt/broken", Program(64, lambda *arguments: Result(3, err=b"no licence\n")))
    tried = trial.run(host.prober, probes(host, [("/opt/broken",)]).probes, None, lambda probe: None)
    assert [finding.identifier for finding in errors_in(tried.findings)], "nothing is installed"
    attempted(host).keep()
    tried = trial.run(host.prober, probes(host, [("/opt/broken",)]).probes, None, lambda probe: None)
    assert errors_in(tried.findings) == ()
    assert Probe("/opt/broken", ("/opt/broken",), 64, "joe") in tried.good, "it fails as it always does, on its route"


def test_an_abi_whose_programs_all_fail_by_themselves_was_not_tried(host: Live) -> None:
    host.lab.install_program("/opt/broken", Program(64, lambda *arguments: Result(3, err=b"no licence\n")))
    only = [Probe("broken", ("/opt/broken",), 64, user) for user in (None, "joe")]
    tried = trial.run(host.prober, only, None, lambda probe: None)
    assert [finding.identifier for finding in errors_in(tried.findings)] == ["trial-impossible"] * 2
    assert {finding.identifier for finding in tried.findings} == {"trial-impossible", "trial-not-tried"}


def test_proven_by_the_record(host: Live) -> None:
    attempted(host).keep()
    assert trial.prove(host.root, host.prober, BOTH) == ()
    host.write("etc/memproxy.conf", b"true\n")
    assert trial.prove(host.root, host.prober, BOTH) == (), "the list as it is now"
    (host / CONFIG[32]).unlink()
    assert {f.identifier for f in errors_in(trial.prove(host.root, host.prober, BOTH))} == {"trial-failed"}
    assert trial.prove(host.root, host.prober, [64]) == ()


# ---- By the commands.


def state_of(host: Live) -> list[bytes]:
    return host.lab.execute(["/usr/bin/svcs", "-H", "-o", "state", "svc:/site/memproxy:default"], {}).out.split()


def test_installed_on_trial_and_confirmed(host: Live) -> None:
    assert host.install("--try", "36000") == 0, host.err + host.out
    assert "on trial: taken back at" in host.out
    assert "log in once more, and type there: memproxy-sol confirm" in host.out
    assert (host / CONFIG[32]).is_symlink()
    assert host.install("--try", "60") == 1
    assert "is on trial for another" in host.err
    assert host.run("confirm") == 0, host.err
    assert host.run("verify") == 0, host.out
    assert state_of(host) == [b"online"]
    host.lab.boot()
    assert host.lab.brick() is None
    assert state_of(host) == [b"online"]
    assert not (host / CONFIG[32]).is_symlink()


def test_installed_on_trial_and_rebooted(host: Live) -> None:
    before = configurations(host)
    assert host.install("--try", "36000") == 0, host.err + host.out
    kill_guard(host)
    host.lab.boot()
    assert host.lab.brick() is None
    assert configurations(host) == before, "the service has taken it back"
    assert host.run("confirm") == 1
    assert "no trial is pending" in host.err


def test_installed_on_trial_and_dead_on_confirmation_the_service_goes_too(host: Live) -> None:
    before = configurations(host)
    assert host.install("--try", "36000") == 0, host.err + host.out
    for library in host.path.glob("usr/local/lib/memproxy/*/64/libmemproxy.so"):
        library.unlink()
    assert host.run("confirm") == 1
    assert "so the change was taken back" in host.err
    assert configurations(host) == before
    assert host.lab.brick() is None
    assert state_of(host) == []


def test_a_trial_that_the_guard_has_ended_is_told_to_be_over(host: Live) -> None:
    """Nothing was cut short, and the former configuration is there already."""
    before = configurations(host)
    assert host.install("--try", "36000") == 0, host.err + host.out
    assert guard.ask(host.root, "undo") == "undone"
    guarded_until(host)
    assert host.run("verify") == 3
    told = "was tried and not confirmed in time, so the former configuration is in force again"
    assert told in host.out
    assert "memproxy-sol uninstall takes the rest of it back" in host.out
    assert "cut short" not in host.out + host.err
    assert host.run("status") == 0
    assert told in host.out
    assert host.run("history") == 0
    assert host.uninstall() == 0, host.err
    assert {name: value for name, value in configurations(host).items() if ".memproxy-" not in name} == before


def test_what_others_can_change_is_not_started_as_root(host: Live) -> None:
    """Whoever may write where pkgsrc has its programs would else have root start one of them."""
    place = host / "opt/local/bin"
    place.mkdir(parents=True)
    shutil.copy(host / "usr/bin/groff", place / "groff")
    (host / "usr/bin/groff").unlink()
    named = "/opt/local/bin/groff"
    assert named in {probe.command[0] for probe in probes(host).probes}
    for path, uid, mode in ((place, 100, 0o755), (place, 0, 0o777), (place / "groff", 0, 0o757)):
        os.chown(path, uid, 0)
        path.chmod(mode)
        found = probes(host)
        assert named not in {probe.command[0] for probe in found.probes}
        (finding,) = (one for one in found.findings if one.where == named)
        assert (finding.identifier, finding.severity) == ("trial-not-tried", "note")
        os.chown(path, 0, 0)
        path.chmod(0o755)
    assert named in {probe.command[0] for probe in probes(host).probes}


def test_without_a_trial_confirm_leaves_nothing_behind(host: Live) -> None:
    before = sorted(os.listdir(host / "var/run"))
    assert host.run("confirm") == 1
    assert "no trial is pending" in host.err
    assert sorted(os.listdir(host / "var/run")) == before

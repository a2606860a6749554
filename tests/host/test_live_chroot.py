"""memproxy-sol on the running system from end to end: real processes, users, environments and kills."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memproxy_sol.commands import ENVIRONMENT
from tests import needs
from tests.host import chroot
from tests.host.chroot import Chroot, eventually
from tests.images import CONFIG

NOBODY = 60001
DEBUG = {"MEMPROXY_DEBUG": "1"}
Starter = Callable[..., Chroot]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory, objects: Path) -> Path:
    """A machine that nobody has started yet."""
    reason = chroot.obstacle()
    if reason is not None:
        pytest.skip(reason)
    return Chroot(tmp_path_factory.mktemp("furnished") / "machine", objects).path


@pytest.fixture(scope="module")
def configured(furnished: Path, objects: Path) -> Path:
    """A machine with memproxy for both ABIs, without the service."""
    machine = Chroot(furnished, objects)
    top = furnished.with_name("configured")
    machine.keep(top)
    machine = Chroot(top, objects)
    machine.write("etc/memproxy.toml", b"service = false\n")
    machine.start()
    try:
        assert machine.install() == 0, machine.err
    finally:
        machine.stop()
    return top


@pytest.fixture
def begin(tmp_path: Path, objects: Path) -> Iterator[Starter]:
    """Start a copy of a machine."""
    started = []

    def start(model: Path) -> Chroot:
        top = tmp_path / "machine"
        Chroot(model, objects).keep(top)
        started.append(Chroot(top, objects))
        started[-1].start()
        return started[-1]

    yield start
    for machine in started:
        machine.stop()
        shutil.rmtree(machine.path)


def test_install_and_uninstall(begin: Starter, furnished: Path) -> None:
    machine = begin(furnished)
    before = machine.snapshot()
    assert machine.install() == 0, machine.err + machine.out
    assert machine.run("verify") == 0, machine.out
    assert machine.command("/usr/bin/svcs", "-H", "-o", "state", "memproxy").stdout == "online\n"
    for name, bits in (("true", 64), ("true32", 32)):
        ran = machine.command(f"/usr/bin/{name}", environment=DEBUG)
        assert (ran.returncode, ran.stdout) == (0, "")
        assert "route custom" in ran.stderr, bits
    assert machine.boot() == ""
    assert machine.run("verify") == 0, machine.out
    assert machine.run("uninstall", "--purge") == 0, machine.err
    assert machine.command("/usr/bin/true", environment=DEBUG).stderr == ""
    assert "generation-in-use" in machine.out + machine.err  # by what has been started at the boot
    assert machine.boot() == ""
    assert machine.run("uninstall", "--purge") == 0, machine.err
    assert machine.snapshot() == before


def test_try_is_taken_back_though_every_exec_dies(begin: Starter, configured: Path) -> None:
    machine = begin(configured)
    before = {bits: (machine / path).read_bytes() for bits, path in CONFIG.items()}
    generations = set((machine / "usr/local/lib/memproxy").iterdir())
    assert machine.install("--try", "2", allocator="libother.so") == 0, machine.err
    (guard,) = machine.orphans()
    os.kill(guard, signal.SIGSTOP)  # its time goes on, so that it comes to its end whatever the following takes
    (pending,) = set((machine / "usr/local/lib/memproxy").iterdir()) - generations
    for library in pending.rglob("libmemproxy.so"):
        library.unlink()
    for program in ("true", "true32"):
        assert machine.command(f"/usr/bin/{program}", environment={}).returncode == -9
    assert machine.run("status") == -9
    os.kill(guard, signal.SIGCONT)
    eventually(machine.alone)
    for bits, path in CONFIG.items():
        assert not (machine / path).is_symlink()
        assert (machine / path).read_bytes() == before[bits]
    for program in ("true", "true32"):
        assert "liballoc.so" in machine.command(f"/usr/bin/{program}", environment=DEBUG).stderr
    assert machine.run("verify") == 3
    assert "change-unfinished" in machine.out
    assert machine.run("uninstall", "--purge") == 0, machine.err
    assert not (machine / "usr/local/lib/memproxy").exists()


def test_probes_are_other_users_and_confirm_is_another_process(begin: Starter, configured: Path) -> None:
    machine = begin(configured)
    count = len(machine.started())
    assert machine.install("--try", "3000", allocator="libother.so") == 0, machine.err
    started = machine.started()[count:]
    assert not machine.alone()
    assert machine.run("confirm") == 0, machine.err
    assert machine.alone()
    assert machine.boot() == ""
    assert "libother.so" in machine.command("/usr/bin/true", environment=DEBUG).stderr

    root, nobody = [0] * 6, [NOBODY] * 6
    for program in ("/usr/bin/ls", "/usr/bin/true", "/usr/bin/groff"):  # before the change, and in force
        mine = [one for one in started if one.path == program and one.environment[:1] == ["MEMPROXY_DEBUG=1"]]
        assert [one.ids for one in mine] == [root, nobody, root, nobody], program
        for one in mine[:2]:
            names = [text.partition("=")[0] for text in one.environment]
            assert sorted(names) == ["LD_CONFIG_32", "LD_CONFIG_64", "MEMPROXY_DEBUG"]
        assert [one.environment for one in mine[2:]] == [["MEMPROXY_DEBUG=1"]] * 2
        assert [one.groups for one in mine] == [[0, 3], [], [0, 3], []]
        assert all(one.directory == "/" for one in mine)
    for program in ("/usr/bin/uptime", "/usr/bin/amd64/w"):
        (one,) = (one for one in started if one.path == program)
        assert one.ids == [NOBODY, 0, 0, *[NOBODY] * 3]
    for program in ("/usr/bin/crle", "/usr/bin/isainfo", "/usr/bin/zonename"):
        for one in (one for one in started if one.path == program):
            assert one.environment == [f"{name}={value}" for name, value in ENVIRONMENT.items()]


@pytest.mark.parametrize("call", ["rename:when=2", "symlink:when=2"])
def test_killed(begin: Starter, configured: Path, call: str) -> None:
    machine = begin(configured)
    strace = shutil.which("strace")
    if strace is None:
        needs.missing("strace", "strace")
        raise AssertionError
    name, _, when = call.partition(":")
    tracer = (strace, "-qq", "-o", "/dev/null", "-e", f"inject={name}:signal=SIGKILL:{when}")
    assert machine.install(allocator="libother.so", tracer=tracer) == -9, machine.err
    for program in ("true", "true32"):
        assert "route custom" in machine.command(f"/usr/bin/{program}", environment=DEBUG).stderr
    assert machine.laboratory().brick() is None
    assert machine.run("uninstall", "--purge") == 0, machine.err
    assert machine.alone()
    assert machine.laboratory().brick() is None
    assert not any((machine / path).exists() for path in CONFIG.values())
    assert not (machine / "usr/local/lib/memproxy").exists()


def test_commands_that_lie_or_are_missing(begin: Starter, furnished: Path) -> None:
    machine = begin(furnished)
    before = machine.snapshot()
    machine.fault("""lab.faults["/usr/sbin/svccfg"] = Fault(err=b"svccfg: Could not import.\\n", status=0)""")
    assert machine.install() == 1
    assert "svccfg: Could not import." in machine.err
    assert machine.snapshot() == before
    machine.mend()
    (machine / "usr/sbin/svcadm").chmod(0o444)
    assert machine.install() == 1
    assert "/usr/sbin/svcadm enable svc:/site/memproxy:default: cannot be started: Permission denied" in machine.err
    (machine / "usr/sbin/svcadm").chmod(0o555)
    assert machine.snapshot() == before

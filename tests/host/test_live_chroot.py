"""memproxy-sol on the running system from end to end: real processes, users, environments and kills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import chroot
from tests.host.chroot import Chroot

NOBODY = 60001


@pytest.fixture
def machine(tmp_path: Path, objects: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Chroot]:
    reason = chroot.obstacle()
    if reason is not None:
        pytest.skip(reason)
    made = Chroot(tmp_path / "machine", objects, capsys)
    made.start()
    yield made
    made.stop()


def test_install_and_uninstall(machine: Chroot) -> None:
    before = machine.snapshot()
    assert machine.install() == 0, machine.err + machine.out
    assert machine.run("verify") == 0, machine.out
    assert machine.command("/usr/bin/svcs", "-H", "-o", "state", "memproxy").stdout == "online\n"
    for name, bits in (("true", 64), ("true32", 32)):
        ran = machine.command(f"/usr/bin/{name}", environment={"MEMPROXY_DEBUG": "1"})
        assert (ran.returncode, ran.stdout) == (0, "")
        assert "route custom" in ran.stderr, bits
    assert machine.boot() == ""
    assert machine.run("verify") == 0, machine.out
    assert machine.run("uninstall", "--purge") == 0, machine.err
    assert machine.command("/usr/bin/true", environment={"MEMPROXY_DEBUG": "1"}).stderr == ""
    assert "generation-in-use" in machine.out + machine.err  # by what has been started at the boot
    assert machine.boot() == ""
    assert machine.run("uninstall", "--purge") == 0, machine.err
    assert machine.snapshot() == before

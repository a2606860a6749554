"""memproxy.service under the real systemd, which boots this machine's files in namespaces of its own (root only)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.host import systemd_machine
from tests.host.systemd_machine import PROGRAM, Machine

UNIT = "memproxy.service"
PATH = "/etc/systemd/system/memproxy.service"
LINK = "/etc/systemd/system/sysinit.target.wants/memproxy.service"
LIST = "/etc/ld.so.preload"


class Host:
    """A booted machine with memproxy-sol on it."""

    def __init__(self, machine: Machine, libraries: Path) -> None:
        self.machine = machine
        words = [word for bits in (32, 64) for word in ("--allocator", needs.allocator("mimalloc", bits))]
        self._install = ("memproxy-sol", "install", "--libraries", str(libraries), *words)
        self.status, self.out = 0, ""

    def run(self, *command: str) -> int:
        """The exit status of a command; what it says is `out`."""
        done = self.machine.run(*command)
        self.status, self.out = done.returncode, done.stdout + done.stderr
        return self.status

    def install(self, *more: str) -> int:
        return self.run(*self._install, *more)

    def reboot(self) -> None:
        self.machine.cut_power()
        self.machine.boot()

    def exists(self, path: str) -> bool:
        return self.run("test", "-e", path, "-o", "-L", path) == 0

    def read(self, path: str) -> str:
        return self.machine.do("cat", path)

    def log(self) -> list[str]:
        """What the unit's program wrote when it was last started since the boot."""
        number = self.machine.show(UNIT, "InvocationID")
        words = ("journalctl", "--quiet", "-o", "cat", "-t", "memproxy-sol", f"_SYSTEMD_INVOCATION_ID={number}")
        return self.machine.do(*words).splitlines() if number else []

    def is_enabled(self) -> bool:
        return self.run("systemctl", "is-enabled", UNIT) == 0

    def active(self) -> str:
        return self.machine.show(UNIT, "ActiveState")

    def is_gone(self) -> bool:
        """Whether nothing of the service is left, in systemd or on the disk."""
        loaded = self.machine.show(UNIT, "LoadState")
        return loaded == "not-found" and self.active() == "inactive" and not self.exists(PATH) and not self.exists(LINK)


@pytest.fixture
def host(linux_libraries: Path) -> Iterator[Host]:
    obstacle = systemd_machine.obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    machine = Machine((linux_libraries,))
    try:
        machine.boot()
        systemd_machine.place_program(machine)
        yield Host(machine, linux_libraries)
    finally:
        machine.close()


@pytest.fixture
def installed(host: Host) -> Host:
    assert host.install() == 0, host.out
    return host


def test_it_is_enabled_verifies_at_each_boot_and_leaves_nothing(host: Host) -> None:
    wants = host.machine.do("ls", "-A", "/etc/systemd/system")
    assert host.install() == 0, host.out
    assert (host.active(), host.is_enabled()) == ("active", True)
    assert host.log()[-1].startswith("memproxy-sol: ok (0): nothing wrong below /")
    host.reboot()
    assert (host.active(), host.is_enabled()) == ("active", True)
    assert [line for line in host.log() if line.startswith("memproxy-sol: ")] == [host.log()[-1]]
    assert host.log()[-1].startswith("memproxy-sol: ok (0)")
    assert host.machine.do("systemctl", "is-system-running").strip() == "running"
    assert "service:       active, enabled" in host.machine.do("memproxy-sol", "status")
    assert host.run("memproxy-sol", "verify") == 0, host.out
    assert host.install() == 0
    assert "nothing to do" in host.out
    assert host.run("memproxy-sol", "uninstall", "--purge") == 0, host.out
    assert host.is_gone()
    assert host.machine.do("ls", "-A", "/etc/systemd/system") == wants
    assert host.machine.do("systemctl", "--failed", "--quiet", "--no-legend") == ""


def test_it_waits_for_the_local_file_systems_and_nothing_waits_for_it(installed: Host) -> None:
    machine = installed.machine
    assert machine.show(UNIT, "After").split().count("local-fs.target") == 1
    ours = {"sysinit.target", "basic.target", "multi-user.target"}
    assert not ours & set(machine.show(UNIT, "After").split())
    assert set(machine.show(UNIT, "Before").split()) == {"shutdown.target"}
    assert machine.show(UNIT, "WantedBy") == "sysinit.target"
    assert machine.show(UNIT, "Requires") in ("", "system.slice")
    assert machine.show(UNIT, "RequiredBy") == ""
    done = machine.run("systemd-analyze", "verify", "--man=no", PATH)
    assert (done.returncode, UNIT in done.stdout + done.stderr) == (0, False), done.stderr


def test_a_trial_that_nobody_confirms_ends_with_the_next_boot(host: Host) -> None:
    host.machine.write(LIST, "# nothing yet\n")
    assert host.install("--try", "600") == 0, host.out
    assert "libmemproxy.so" in host.read(LIST)
    assert host.active() == "active"
    host.reboot()
    assert host.read(LIST) == "# nothing yet\n"
    said = "\n".join(host.log())
    assert "taken back" in said
    assert "memproxy is not installed, as before" in host.log()[-1]
    assert not host.exists(PATH)
    assert not host.exists(LINK)
    assert "on trial" not in host.machine.do("memproxy-sol", "status")
    host.reboot()
    assert host.is_gone()
    assert host.log() == []


def test_a_trial_of_a_change_ends_with_what_was_there_before(installed: Host) -> None:
    before, unit = installed.read(LIST), installed.read(PATH)
    assert installed.run("memproxy-sol", "install", "--try", "600", "--without-allocator") == 0, installed.out
    assert installed.read(LIST) != before
    installed.reboot()
    assert (installed.read(LIST), installed.read(PATH)) == (before, unit)
    assert (installed.active(), installed.is_enabled()) == ("active", True)
    assert "taken back" in installed.log()[-1]
    assert "nothing else is wrong" in installed.log()[-1]


def test_who_disables_it_has_disabled_it(installed: Host) -> None:
    installed.machine.do("systemctl", "disable", UNIT)
    for reboot in (False, True):
        if reboot:
            installed.reboot()
        assert installed.install() == 0, installed.out
        assert "service-disabled" in installed.out
        assert "nothing to do" in installed.out
        assert not installed.is_enabled()
    assert installed.active() == "inactive"
    assert installed.log() == []
    assert "note: unit-disabled" in installed.machine.do("memproxy-sol", "verify")


def test_an_edited_unit_is_kept(installed: Host) -> None:
    edited = installed.read(PATH).replace("TimeoutStartSec=60", "TimeoutStartSec=50")
    installed.machine.write(PATH, edited)
    assert installed.install() == 0, installed.out
    assert "note: file-changed" in installed.out
    assert installed.read(PATH) == edited
    assert "note: unit-changed" in installed.machine.do("memproxy-sol", "verify")
    assert installed.run("memproxy-sol", "uninstall") == 0, installed.out
    assert "file-changed" in installed.out
    assert installed.read(PATH) == edited


@pytest.mark.parametrize("place", [PATH, "/usr/lib/systemd/system/memproxy.service"])
def test_somebody_else_s_unit_is_refused(host: Host, place: str) -> None:
    theirs = "[Service]\nExecStart=/bin/true\n"
    host.machine.write(place, theirs)
    assert host.install() == 1
    assert "somebody else's unit" in host.out
    assert host.read(place) == theirs
    assert not host.exists(LIST)
    host.machine.write("/etc/memproxy.toml", "service = false\n")
    assert host.install() == 0, host.out
    assert host.read(place) == theirs


def test_a_masked_unit_is_left_masked(host: Host) -> None:
    host.machine.do("systemctl", "mask", UNIT)
    assert host.install() == 1
    assert "is masked" in host.out
    assert host.machine.do("readlink", PATH) == "/dev/null\n"
    host.machine.do("systemctl", "unmask", UNIT)
    assert host.install() == 0, host.out
    host.machine.do("sh", "-c", f"systemctl disable {UNIT}; rm {PATH}; systemctl mask {UNIT}")
    assert host.install() == 0, host.out
    assert "service-disabled" in host.out
    assert "masked" in host.machine.do("memproxy-sol", "status")
    assert "note: unit-disabled" in host.machine.do("memproxy-sol", "verify")
    assert host.run("memproxy-sol", "uninstall") == 0, host.out
    assert host.machine.do("readlink", PATH) == "/dev/null\n"


def test_the_policy_without_a_service_retires_it_and_a_rollback_brings_it_back(installed: Host) -> None:
    unit = installed.read(PATH)
    installed.machine.write("/etc/memproxy.toml", "service = false\n")
    assert installed.install() == 0, installed.out
    assert installed.is_gone()
    assert installed.run("memproxy-sol", "rollback") == 0, installed.out
    assert installed.read(PATH) == unit
    assert (installed.active(), installed.is_enabled()) == ("active", True)
    assert installed.run("memproxy-sol", "rollback", "1") == 0, installed.out
    assert installed.is_gone()
    assert not installed.exists(LIST)


def test_what_is_wrong_fails_the_unit_and_not_the_boot(installed: Host) -> None:
    installed.machine.do("sh", "-c", "rm /usr/local/lib/memproxy/*/lib/x86_64-linux-gnu/libmemproxy.so")
    installed.reboot()
    assert installed.active() == "failed"
    assert installed.machine.show(UNIT, "ExecMainStatus") == "3"
    last = installed.log()[-1]
    assert last.startswith("memproxy-sol: wrong (3): /usr/local/lib/memproxy/")
    assert "memproxy-sol install" in last
    assert installed.machine.show("sysinit.target", "ActiveState") == "active"
    assert "service:       failed (exit-code), enabled" in installed.machine.run("memproxy-sol", "status").stdout
    assert installed.install() == 0, installed.out
    assert installed.active() == "active"


def test_a_program_with_an_odd_name(host: Host) -> None:
    odd = "/opt/100%h{ü}*?#~/memproxy-sol"
    host.machine.do("mkdir", "-p", odd.rpartition("/")[0])
    host.machine.do("cp", PROGRAM, odd)
    host.machine.write("/etc/memproxy.toml", "program = '''" + odd + "'''\n")
    assert host.install() == 0, host.out
    assert (host.active(), host.is_enabled()) == ("active", True)
    assert host.log()[-1].startswith("memproxy-sol: ok (0)")
    assert host.run("memproxy-sol", "verify") == 0, host.out
    assert "service-program-missing" not in host.out


@pytest.mark.parametrize(
    ("program", "why"), [("/bin/false", "is another program"), ("/bin/true", "is another program")]
)
def test_a_program_that_is_not_memproxy_sol_is_refused(host: Host, program: str, why: str) -> None:
    host.machine.write("/etc/memproxy.toml", f'program = "{program}"\n')
    assert host.install() == 1
    assert "error: service-method" in host.out
    assert why in host.out
    assert host.is_gone()
    assert not host.exists("/var/opt/memproxy")


def test_a_program_that_does_not_start_under_systemd_takes_the_change_back(host: Host) -> None:
    script = 'test -z "$INVOCATION_ID" || exit 7\nexec /usr/local/bin/memproxy-sol "$@"\n'
    host.machine.write("/opt/memproxy-sol", f"#!/bin/sh\n{script}", 0o755)
    host.machine.write("/etc/memproxy.toml", 'program = "/opt/memproxy-sol"\n')
    assert host.install() == 1
    assert "memproxy.service: is failed (exit-code), enabled; the install was taken back" in host.out
    assert host.is_gone()
    assert not host.exists(LIST)


def test_without_its_program_it_is_delivered_disabled_and_enabled_later(host: Host) -> None:
    host.machine.write("/etc/memproxy.toml", 'program = "/opt/memproxy-sol"\n')
    assert host.install() == 0, host.out
    assert "service-program-missing" in host.out
    assert (host.active(), host.is_enabled()) == ("inactive", False)
    host.machine.do("cp", PROGRAM, "/opt/memproxy-sol")
    assert host.install() == 0, host.out
    assert (host.active(), host.is_enabled()) == ("active", True)


@pytest.mark.parametrize("character", ['"', "'", "\\"])
def test_a_program_that_systemd_cannot_start_is_refused(host: Host, character: str) -> None:
    odd = f"/opt/a{character}b/memproxy-sol"
    host.machine.do("mkdir", "-p", odd.rpartition("/")[0])
    host.machine.do("cp", PROGRAM, odd)
    escaped = odd.replace("\\", "\\\\").replace('"', '\\"')
    host.machine.write("/etc/memproxy.toml", f'program = "{escaped}"\n')
    assert host.install() == 1
    assert "cannot be the program of the service" in host.out
    assert host.is_gone()


def test_what_it_finds_after_a_change_is_told_with_its_last_words(host: Host) -> None:
    assert host.install("--try", "600") == 0, host.out
    host.machine.do("chmod", "0600", "/etc/memproxy.conf")
    assert host.run("memproxy-sol", "confirm") == 0, host.out
    failed = "error: service-failed: memproxy.service: is failed (exit-code), enabled: memproxy-sol: wrong (3): "
    assert f"{failed}/etc/memproxy.conf" in host.out


def test_killed_at_any_command_it_is_taken_back_by_the_next(host: Host) -> None:
    script = Path(systemd_machine.__file__).with_name("systemd_kills.py")
    done = host.machine.run(sys.executable, "-B", str(script), PYTHONPATH=str(systemd_machine.TOP))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["wrong"] == []
    assert result["killed"] > 15, result

"""memproxy.service in an image, where systemd does not run, and its command with the standard library alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from memproxy_sol import boot_method, systemd_unit
from memproxy_sol.root import Root
from tests.host.test_smf_service import install_program, interpreters
from tests.linux_images import PRELOAD, LinuxImage

UNIT = "etc/systemd/system/memproxy.service"
LINK = "etc/systemd/system/sysinit.target.wants/memproxy.service"


@pytest.fixture
def image(linux_image: LinuxImage) -> LinuxImage:
    """An image with systemd and memproxy-sol in it."""
    for path in ("usr/lib/systemd/systemd", "usr/local/bin/memproxy-sol"):
        linux_image.write(path, b"#!/bin/sh\n", 0o755)
    return linux_image


def systemctl(image: LinuxImage, *words: str) -> subprocess.CompletedProcess[str]:
    """The real systemctl, offline; skipped where there is none."""
    if shutil.which("systemctl") is None:
        pytest.skip("systemctl is not installed")
    return subprocess.run(["systemctl", f"--root={image.path}", *words], capture_output=True, text=True, check=False)


def test_it_is_put_in_place_and_not_enabled(image: LinuxImage) -> None:
    before = image.snapshot()
    assert image.install() == 0, image.err
    assert "note: service-disabled" in image.out + image.err
    assert (image / UNIT).read_bytes() == systemd_unit.unit_with("/usr/local/bin/memproxy-sol")
    assert (image / UNIT).stat().st_mode & 0o7777 == 0o644
    assert not os.path.lexists(image / LINK)
    assert image.run("verify") == 0, image.out
    assert "note: unit-disabled" in image.out
    assert image.install() == 0
    assert "nothing to do" in image.out
    assert image.run("uninstall", "--purge") == 0, image.err
    assert image.snapshot() == before


def test_enabled_offline_it_stays_so_and_goes_whole(image: LinuxImage) -> None:
    before = image.snapshot()
    assert image.install() == 0, image.err
    assert systemctl(image, "is-enabled", "memproxy.service").stdout == "disabled\n"
    done = systemctl(image, "enable", "memproxy.service")
    assert done.returncode == 0, done.stderr
    assert os.readlink(image / LINK) == "/" + UNIT
    assert systemctl(image, "is-enabled", "memproxy.service").stdout == "enabled\n"
    assert image.run("verify") == 0, image.out
    assert "unit-disabled" not in image.out
    assert image.install("--without-allocator", allocator="") == 0, image.err
    assert os.path.lexists(image / LINK)
    assert image.run("rollback", "1") == 0, image.err
    assert not os.path.lexists(image / LINK)
    assert not (image / UNIT).exists()
    assert image.install() == 0, image.err
    assert systemctl(image, "enable", "memproxy.service").returncode == 0
    assert image.run("uninstall", "--purge") == 0, image.err
    assert image.snapshot() == before


def test_what_systemctl_enables_is_what_we_enable(image: LinuxImage) -> None:
    assert image.install() == 0, image.err
    root = Root(str(image.path))
    systemd_unit.enable(root)
    ours = (os.readlink(image / LINK), (image / LINK).parent.stat().st_mode)
    assert systemctl(image, "is-enabled", "memproxy.service").stdout == "enabled\n"
    systemd_unit.disable(root)
    assert not (image / LINK).parent.exists()
    assert systemctl(image, "enable", "memproxy.service").returncode == 0
    assert (os.readlink(image / LINK), (image / LINK).parent.stat().st_mode) == ours


def test_the_policy_may_do_without(image: LinuxImage) -> None:
    image.write("etc/memproxy.toml", b"service = false\n")
    assert image.install() == 0, image.err
    assert not (image / UNIT).exists()
    assert "service-" not in image.out + image.err


def test_without_systemd_there_is_no_unit(linux_image: LinuxImage) -> None:
    assert linux_image.install() == 0, linux_image.err
    assert not (linux_image / UNIT).exists()
    assert "note: service-none" in linux_image.out + linux_image.err


def test_a_program_of_the_policy(image: LinuxImage) -> None:
    image.write("etc/memproxy.toml", b'program = "/opt/100%/memproxy-sol"\n')
    assert image.install() == 0, image.err
    assert b'\nExecStart="/opt/100%%/memproxy-sol" verify --boot\n' in (image / UNIT).read_bytes()
    assert "note: service-program-missing: /opt/100%/memproxy-sol" in image.out + image.err
    assert image.run("verify") == 0
    assert "note: service-program-missing: /opt/100%/memproxy-sol" in image.out


@pytest.mark.parametrize("interpreter", interpreters())
def test_the_standard_library_is_enough_at_boot(interpreter: str, image: LinuxImage, tmp_path: Path) -> None:
    install_program(tmp_path / "memproxy-sol", interpreter)

    def start() -> tuple[int, str]:
        words = [str(tmp_path / "memproxy-sol"), "verify", "--boot", "--root", str(image.path)]
        done = subprocess.run(words, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=False)
        return done.returncode, (done.stdout + done.stderr).splitlines()[-1]

    status, last = start()
    assert (status, "memproxy is not installed" in last) == (3, True), last
    assert image.install() == 0, image.err
    assert start() == (0, f"memproxy-sol: ok (0): nothing wrong below {image.path}, 1 remarks above")
    (image / PRELOAD).write_bytes(b"")
    status, last = start()
    assert status == 3
    assert last.startswith("memproxy-sol: wrong (3): /etc/ld.so.preload: ")
    assert last.endswith(f"; memproxy-sol install --root {image.path}")


@pytest.mark.parametrize("arguments", [["--boot", "--json"], ["--boot", "--root"], ["--boot", "--root="]])
def test_arguments_that_it_does_not_know(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert boot_method.main(arguments) == 2
    assert capfd.readouterr().out.startswith("memproxy-sol: usage (2): ")


def test_a_check_that_hangs_is_ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert boot_method.main(["--boot", f"--root={tmp_path}"], limit=0.0) == 1
    assert "took longer than 0 seconds" in capfd.readouterr().out.splitlines()[-1]

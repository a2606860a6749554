"""The SMF service: the method started as svc.startd starts it, on real images, and the files that install delivers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import memproxy_sol
from memproxy_sol import smf_manifest
from memproxy_sol.errors import SmfError
from tests.images import Image, furnish

FMRI = "svc:/site/memproxy:default"
CHECKOUT = Path(memproxy_sol.__file__).parent.parent
MANIFEST = "lib/svc/manifest/site/memproxy.xml"
PROFILE = "etc/svc/profile/site/memproxy.xml"


def interpreters() -> list[str]:
    """Every Python from 3.9 on that can be started here by its name; this one, in any case."""
    names = [f"python3.{minor}" for minor in range(9, 16)]
    found = [path for path in map(shutil.which, names) if path is not None]
    works = [path for path in found if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0]
    return [sys.executable, *(path for path in works if not os.path.samefile(path, sys.executable))]


def install_program(path: Path, interpreter: str) -> None:
    """memproxy-sol at `path`, with no package in reach but our own: isolated, without site-packages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    main = path.parent / "main.py"
    main.write_text(
        f"""\
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
try:
    import plumbum
except ImportError:
    pass
else:
    raise SystemExit("plumbum is in reach")
from memproxy_sol.cli import main
sys.exit(main())
"""
    )
    path.write_text(f"#!/bin/sh\nexec '{interpreter}' -I -S -B '{main}' \"$@\"\n")
    path.chmod(0o755)


def start(
    program: str, arguments: str = "", shell: str = "/bin/sh", **options: object
) -> subprocess.CompletedProcess[str]:
    """The start method as the restarter runs it: token expanded and escaped, its environment and nothing else."""
    manifest = smf_manifest.manifest_with(program)
    value = smf_manifest.parse_manifest(manifest).program
    assert value is not None
    escaped = "".join("\\" + c if c in ";&()|^<>\n \t\\\"'`" else c for c in value)
    match = re.search(rb'name="start" exec="([^"]*)"', manifest)
    assert match is not None
    command = match[1].decode().replace("%{memproxy/program}", escaped) + arguments
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        [shell, "-c", f"exec {command}"],
        cwd="/",
        stdin=subprocess.DEVNULL,
        text=True,
        env={
            "PATH": "/usr/sbin:/usr/bin",
            "SMF_FMRI": FMRI,
            "SMF_METHOD": "start",
            "SMF_RESTARTER": "svc:/system/svc/restarter:default",
            "SMF_ZONENAME": "global",
            "LD_NOCONFIG": "yes",
        },
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("interpreter", interpreters())
def test_the_standard_library_is_enough(interpreter: str, tmp_path: Path) -> None:
    install_program(tmp_path / "memproxy-sol", interpreter)
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/release").write_text("  OpenIndiana Hipster 2021.04 (powered by illumos)\n")
    result = start(str(tmp_path / "memproxy-sol"), f" --root {tmp_path}/root", stderr=subprocess.STDOUT)
    assert result.returncode == 96
    last = result.stdout.splitlines()[-1]
    assert last == (
        f"memproxy-sol: SMF_EXIT_ERR_CONFIG (96): {tmp_path}/root: memproxy is not installed: no runtime linker "
        f"configuration names it; memproxy-sol install --root {tmp_path}/root; then svcadm clear {FMRI}"
    )


def test_without_root_it_judges_this_machine(tmp_path: Path) -> None:
    """Wherever the tests run, memproxy-sol is not installed: there is no configuration of ours."""
    install_program(tmp_path / "memproxy-sol", sys.executable)
    assert start(str(tmp_path / "memproxy-sol")).returncode == 96


@pytest.mark.parametrize("output", ["closed", "full"])
def test_a_log_that_cannot_be_written_changes_nothing(output: str, tmp_path: Path) -> None:
    install_program(tmp_path / "memproxy-sol", sys.executable)
    closing = " >&- 2>&-" if output == "closed" else " >/dev/full 2>&1"
    assert start(str(tmp_path / "memproxy-sol"), f" --root {tmp_path}{closing}").returncode == 96


def test_every_program_path_that_is_accepted_passes_the_shell(tmp_path: Path) -> None:
    """The characters that check_program_path lets through, each inside and at the start of a component."""
    accepted = []
    for character in map(chr, range(0x20, 0x7F)):
        for name in (f"a{character}b", f"{character}b"):
            program = f"{tmp_path}/{name}/memproxy-sol"
            try:
                smf_manifest.check_program_path(program)
            except SmfError:
                continue
            target = Path(program)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text('#!/bin/sh\nprintf "%s\\n" "$0 $*"\n')
            target.chmod(0o755)
            accepted.append(character)
            for shell in ("/bin/sh", "/bin/bash"):
                assert start(program, shell=shell).stdout == f"{program} verify --smf\n"
    assert set(accepted) >= set("aZ09 ;&()|^<>\\\"'`=!:,@+-_.]")


@pytest.fixture
def method(tmp_path: Path) -> Callable[[Image], tuple[int, list[str]]]:
    """Runs the start method on an image; its status and its lines."""
    install_program(tmp_path / "bin/memproxy-sol", sys.executable)

    def run(image: Image) -> tuple[int, list[str]]:
        begin = time.monotonic()
        result = start(str(tmp_path / "bin/memproxy-sol"), f" --root {image.path}", stderr=subprocess.STDOUT)
        assert time.monotonic() - begin < 60
        return result.returncode, result.stdout.splitlines()

    return run


Method = Callable[[Image], "tuple[int, list[str]]"]


@pytest.mark.parametrize("interpreter", interpreters())
def test_an_installed_image_is_online(interpreter: str, installed: Image, tmp_path: Path) -> None:
    install_program(tmp_path / "memproxy-sol", interpreter)
    result = start(str(tmp_path / "memproxy-sol"), f" --root {installed.path}", stderr=subprocess.STDOUT)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1].startswith("memproxy-sol: SMF_EXIT_OK (0): nothing wrong below ")


def remove_library(image: Image) -> None:
    (image.generation() / "64/libmemproxy.so").unlink()


def damage_configuration(image: Image) -> None:
    (image / "var/ld/ld.config").write_bytes(b"\x7fELF damaged")


def fifo_for_configuration(image: Image) -> None:
    (image / "var/ld/64/ld.config").unlink()
    os.mkfifo(image / "var/ld/64/ld.config")


def damage_record(image: Image) -> None:
    (image / "var/opt/memproxy/installed.json").write_text("{}")


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        (remove_library, "64/libmemproxy.so"),
        (damage_configuration, "/var/ld/ld.config"),
        (fifo_for_configuration, "/var/ld/64/ld.config"),
        (damage_record, "/var/opt/memproxy/installed.json"),
    ],
)
def test_a_broken_image_is_misconfigured(
    fault: Callable[[Image], None], where: str, installed: Image, method: Method
) -> None:
    fault(installed)
    status, lines = method(installed)
    assert status == 96
    assert lines[-1].startswith("memproxy-sol: SMF_EXIT_ERR_CONFIG (96): ")
    assert where in lines[-1]
    assert f"; then svcadm clear {FMRI}" in lines[-1]
    assert installed.run("verify") == 3
    findings = [line for line in lines[:-1] if line.startswith("error: ")]
    assert len(findings) >= 1


def test_the_command_of_the_last_line_mends(installed: Image, method: Method) -> None:
    remove_library(installed)
    _, lines = method(installed)
    assert f"; memproxy-sol install --root {installed.path} --bits 64; then svcadm" in lines[-1]
    assert installed.install("--bits", "64") == 0
    assert method(installed)[0] == 0


def test_a_warning_keeps_it_online(installed: Image, method: Method) -> None:
    (installed / "etc/memproxy.conf").unlink()
    status, lines = method(installed)
    assert status == 0
    assert [line.split(": ")[:2] for line in lines[:-1]] == [["warning", "exclusions-missing"]]


def test_an_uninstalled_image_is_misconfigured(installed: Image, method: Method) -> None:
    assert installed.run("uninstall", "--purge") == 0
    status, lines = method(installed)
    assert status == 96
    assert "memproxy is not installed" in lines[-1]
    assert not (installed / MANIFEST).exists()
    assert not (installed / PROFILE).exists()


@pytest.mark.parametrize("name", [MANIFEST, PROFILE])
def test_delivered_files(name: str, image: Image) -> None:
    begin = time.time()
    assert image.install() == 0, image.err
    status = (image / name).stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o444, 0, 3)
    assert begin - 1 <= status.st_mtime <= time.time() + 1
    wanted = smf_manifest.manifest_with("/usr/local/bin/memproxy-sol") if name == MANIFEST else smf_manifest.profile()
    assert (image / name).read_bytes() == wanted


def test_a_manifest_of_equal_length_is_noticed_by_its_time(installed: Image) -> None:
    """The import at boot does not read a file of the same owner, group, size and time (reference, fact 16)."""
    path = installed / MANIFEST
    os.utime(path, (1_000_000_000, 1_000_000_000))
    before = path.read_bytes()
    shutil.copytree(installed / "usr/local/bin", installed / "opt/other/bin")
    installed.write("etc/memproxy.toml", b'program = "/opt/other/bin/memproxy-sol"\n')
    assert installed.install() == 0, installed.err
    assert path.read_bytes() != before
    assert len(path.read_bytes()) == len(before)
    assert path.stat().st_mtime > 1_000_000_000


def test_a_program_that_the_shell_would_misread_is_refused_before_any_change(image: Image) -> None:
    image.write("etc/memproxy.toml", b'program = "/opt/[x]/memproxy-sol"\n')
    before = image.snapshot()
    assert image.install() == 1
    assert "svc.startd does not protect [" in image.err
    assert image.snapshot() == before


@pytest.mark.parametrize(
    "release", ["SmartOS 20240101T000000Z x86_64\n", "                    Oracle Solaris 10 1/13 s10x_u11wos_24a X86\n"]
)
def test_where_only_var_is_kept_the_service_waits_for_the_administrator(
    release: str, tmp_path: Path, objects: Path, capsys: pytest.CaptureFixture[str], method: Method
) -> None:
    path = tmp_path / "image"
    path.mkdir(mode=0o755)
    furnish(path, objects, release)
    if "Solaris 10" in release:
        shutil.rmtree(path / "lib/svc")
    image = Image(path, objects, capsys)
    assert image.install() == 0, image.err
    assert (path / "var/svc/manifest/site/memproxy.xml").read_bytes() == smf_manifest.manifest_with(
        "/usr/local/bin/memproxy-sol"
    )
    assert not (path / MANIFEST).exists()
    assert not (path / PROFILE).exists()
    assert "service-disabled" in image.out
    assert method(image)[0] == 0

"""`verify` of a running system: its processes, its zones, the files for monitoring."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import prometheus, smf_method
from memproxy_sol.cli import main
from memproxy_sol.crle import PROGRAM as CRLE
from memproxy_sol.hosts.solaris_live import ISAINFO, UNAME, ZONENAME
from memproxy_sol.live_probe import program_of
from tests.host.laboratory import Fault, Laboratory, Process, Program, Result
from tests.host.live import Live
from tests.host.live_processes import draw
from tests.solaris_proc import record


@pytest.fixture
def installed(live: Live) -> Live:
    """A running system on which memproxy is installed for both ABIs, and that runs nothing yet."""
    assert main(["install", "--root", str(live.lab.top), "--libraries", str(live.objects), *allocators(live)]) == 0
    live.capsys.readouterr()
    for bits in (32, 64):
        for kind, set_id in (("daemon", False), ("setid", True)):
            live.lab.install_program(f"/opt/{kind}{bits}", Program(bits, nothing, set_id=set_id))
    live.lab.install_program("/opt/static", Program(64, nothing, static=True))
    return live


def nothing(*arguments: Any) -> Result:
    return Result(0)


def allocators(live: Live) -> list[str]:
    words = []
    for directory in (live.objects, live.objects / "64"):
        words += ["--allocator", str(directory / "liballoc.so")]
    return words


def start(live: Live, *argv: str, uid: int = 0, **environment: str) -> int:
    process = live.lab.spawn(list(argv), environment, uid)
    assert isinstance(process, Process), process
    return process.pid


def verify(live: Live, *arguments: str, status: int = 0) -> dict[str, Any]:
    assert live.run("verify", "--json", *arguments) == status, live.out + live.err
    value: dict[str, Any] = json.loads(live.out)
    return value


def identifiers(value: dict[str, Any]) -> dict[str, str]:
    return {finding["id"]: finding["severity"] for finding in value["findings"]}


def test_every_new_process_has_it(installed: Live) -> None:
    for bits in (32, 64):
        start(installed, f"/opt/daemon{bits}")
        start(installed, f"/opt/setid{bits}", uid=100)
    draw(installed)
    value = verify(installed)
    assert value["ok"]
    assert value["processes"]["states"] == {"loaded": 4, "kernel": 1}
    assert value["processes"]["routes"] == {"custom": 4}
    assert value["processes"]["abis"] == {"32": 2, "64": 2}
    assert {finding["id"] for finding in value["findings"] if finding["where"] == "processes"} == set()
    (one,) = (one for one in value["processes"]["list"] if one["name"] == "daemon64")
    assert re.fullmatch(r"/usr/local/lib/memproxy/[0-9a-f]{16}/64/libmemproxy\.so", one["library"])
    assert one["allocator"] == one["library"].replace("libmemproxy", "liballoc")
    assert one["current"] is True


def test_excluded_program(installed: Live) -> None:
    assert installed.run("exclude", "add", "/opt/daemon64") == 0, installed.err
    pid = start(installed, "/opt/daemon64")
    draw(installed)
    (one,) = (one for one in verify(installed)["processes"]["list"] if one["pid"] == pid)
    assert (one["route"], one["reason"]) == ("system", "list")
    text = (installed / "etc/memproxy.conf").read_text().splitlines()
    assert text[one["line"] - 1] == "/opt/daemon64"


def test_long_lived_daemons_are_no_error(installed: Live) -> None:
    pid = start(installed, "/opt/daemon64", LD_NOCONFIG="1")
    live_environment = start(installed, "/opt/daemon32", LD_NOCONFIG="1")
    drawn = draw(installed, {pid: -5.0})
    # Older than the configuration and without a variable of its own.
    shutil.rmtree(drawn.path / str(pid))
    drawn.add(pid, "daemon64", started=1.0)
    value = verify(installed)
    assert identifiers(value)["processes-earlier"] == "note"
    assert identifiers(value)["processes-own-environment"] == "note"
    states = {one["pid"]: (one["state"], one["detail"]) for one in value["processes"]["list"]}
    assert states[pid] == ("earlier", "")
    assert states[live_environment] == ("no-config", "LD_NOCONFIG")


def test_process_that_nothing_explains(installed: Live) -> None:
    drawn = draw(installed)
    drawn.add(4711, "odd", started=time.time() + 1e7)
    value = verify(installed)
    assert value["ok"]
    assert identifiers(value)["processes-unexplained"] == "warning"
    (finding,) = (one for one in value["findings"] if one["id"] == "processes-unexplained")
    assert "1 process (4711 (odd))" in finding["text"]


def test_allocator_that_was_not_loaded(installed: Live) -> None:
    start(installed, "/opt/daemon64")
    drawn = draw(installed)
    library = next(iter((installed / "usr/local/lib/memproxy").iterdir())) / "64/libmemproxy.so"
    target = "/" + os.path.relpath(library, installed.path)
    drawn.add(4711, "odd", library=target, library_record=record(0, 4), started=1e12)
    assert identifiers(verify(installed))["processes-no-allocator"] == "warning"


def test_static_program(installed: Live) -> None:
    draw(installed).add(55, "static", linker="", program="/opt/static", started=1e10)
    value = verify(installed)
    assert value["processes"]["states"]["static"] == 1
    assert not [one for one in value["findings"] if one["where"] == "processes"]


def test_set_id_without_trust(live: Live) -> None:
    live.write("etc/memproxy.toml", b'secure = "system"\n')
    words = ["install", "--root", str(live.lab.top), "--libraries", str(live.objects), *allocators(live)]
    assert main(words) == 0
    live.capsys.readouterr()
    live.lab.install_program("/opt/setid64", Program(64, nothing, set_id=True))
    pid = start(live, "/opt/setid64", uid=100)
    draw(live)
    value = verify(live)
    assert {one["pid"]: one["state"] for one in value["processes"]["list"]}[pid] == "set-id"
    assert identifiers(value)["processes-set-id"] == "note"


def test_table(installed: Live) -> None:
    for _ in range(5):
        start(installed, "/opt/daemon64")
    start(installed, "/opt/daemon32")
    draw(installed)
    assert installed.run("verify") == 0
    lines = installed.out.splitlines()
    assert "state\tabi\troute\tprocesses\tamong them" in lines
    (line,) = (line for line in lines if line.startswith("loaded\t64"))
    assert re.fullmatch(r"loaded\t64\tcustom\t5\t\d+ daemon64, \d+ daemon64, \d+ daemon64, …", line)
    assert installed.run("verify", "--processes") == 0
    assert sum("\tdaemon64\t64\tloaded\tcustom\tdefault\t" in line for line in installed.out.splitlines()) == 5


def test_hostile_names_do_not_reach_the_terminal(installed: Live) -> None:
    draw(installed).add(66, b"\x1b[2J\n\xff", started=1e10, program="/x\udcff\n")
    assert installed.run("verify", "--processes") == 0
    assert "\x1b" not in installed.out
    assert "66\t\\x1b[2J\\n\\udcff\t64\tunexplained" in installed.out


def test_no_proc(installed: Live) -> None:
    shutil.rmtree(installed / "proc")
    value = verify(installed)
    assert value["processes"] is None
    assert identifiers(value)["processes-unlisted"] == "warning"


def test_nothing_installed(live: Live) -> None:
    start(live, "/usr/bin/true")
    draw(live)
    value = verify(live, status=3)
    assert identifiers(value) == {"not-installed": "error"}
    assert value["processes"]["states"] == {"not-configured": 1, "kernel": 1}


def test_the_boot_service_looks_at_no_process(installed: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(installed).add(4711, "odd", started=1e10)
    monkeypatch.setenv("SMF_FMRI", "svc:/site/memproxy:default")
    assert smf_method.main(["--smf"]) == 0
    assert "processes" not in installed.capsys.readouterr().out


# ---- What the system says by command.


def test_crle_that_reads_the_file_otherwise_than_we(installed: Live) -> None:
    draw(installed)
    shown = installed.lab.execute([CRLE, "-64"]).out.replace(b"libmemproxy.so", b"libother.so")
    installed.lab.faults[CRLE] = Fault(out=shown, when=lambda argv: "-64" in argv)
    value = verify(installed, status=3)
    assert {name for name, severity in identifiers(value).items() if severity == "error"} == {"crle-disagrees"}
    assert installed.run("status", "--json") == 0
    assert json.loads(installed.out)["errors"] == 1


def test_a_system_that_cannot_be_changed_now_can_be_as_it_was_installed(installed: Live) -> None:
    draw(installed)
    installed.write("etc/mnttab", b"swap\t/var/run\ttmpfs\trw\t0\nrpool/x\t/\tzfs\tro\t0\n")
    value = verify(installed)
    assert identifiers(value)["read-only"] == "note"
    (one,) = {finding["text"] for finding in value["findings"] if finding["id"] == "read-only"}
    assert one == "lies on a file system that is read-only: nothing could be changed or taken back now"


def test_libraries_that_the_next_boot_loses(installed: Live) -> None:
    draw(installed)
    installed.write(
        "etc/mnttab",
        b"/devices/ramdisk:a\t/\tufs\trw\t0\nzones/var\t/var\tzfs\trw\t0\nswap\t/var/run\ttmpfs\trw\t0\n",
    )
    assert identifiers(verify(installed, status=3))["prefix-volatile"] == "error"


@pytest.mark.parametrize("command", [UNAME, ISAINFO, ZONENAME, CRLE])
@pytest.mark.parametrize("fault", [Fault(status=1, out=b"", err=b"no\n"), Fault(seconds=3600), Fault(missing=True)])
def test_a_command_that_does_not_answer_is_a_warning(command: str, fault: Fault, installed: Live) -> None:
    draw(installed)
    installed.lab.faults[command] = fault
    value = verify(installed)
    asked = {"host-command", "crle-unreadable", "crle-missing"}
    assert {identifiers(value)[name] for name in asked & set(identifiers(value))} == {"warning"}


def test_the_boot_service_asks_no_command(installed: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMF_FMRI", "svc:/site/memproxy:default")
    asked = installed / "tmp/asked"
    asked.parent.mkdir(exist_ok=True)

    def instead(lab: Laboratory, argv: Sequence[str], *others: Any) -> Result:
        with asked.open("a") as stream:  # a child of the method writes it
            stream.write(f"{argv[0]}\n")
        return Result(1)

    for command in list(installed.lab.programs):
        installed.lab.faults[command] = Fault(instead=instead)
    probes = [program_of(installed.root, bits) for bits in (32, 64)]
    for path in {probe[0] for probe in probes if probe is not None}:
        del installed.lab.faults[path]
    assert smf_method.main(["--smf"]) == 0, installed.capsys.readouterr().out
    assert not asked.exists()
    installed.run("verify")
    assert CRLE in asked.read_text().splitlines()


# ---- Zones.


@pytest.fixture
def zoned(installed: Live) -> Live:
    """With the zones `web` (running, with memproxy of its own), `old` (not running) and `gone` (no directory)."""
    installed.write(
        "etc/zones/index",
        b"# names, states, paths\nglobal:installed:/\nweb:installed:/zones/web:0000\n"
        b"old:installed:/zones/old:\ngone:configured:/zones/gone\n",
    )
    for name in ("web", "old"):
        for top in ("etc", "lib"):
            shutil.copytree(installed / top, installed / f"zones/{name}/root" / top, symlinks=top == "lib")
    shutil.copytree(installed / "usr", installed / "zones/web/root/usr", symlinks=True)
    shutil.copytree(installed / "var", installed / "zones/web/root/var", symlinks=True)
    drawn = draw(installed)
    inside = os.path.relpath(installed.generation(), installed.path)
    root = "/zones/web/root"
    drawn.add(900, "httpd", zone=2, root=root, library=f"{root}/{inside}/64/libmemproxy.so", started=1e10)
    drawn.add(902, "other", zone=2, root=root, library="/x/libmemproxy.so", library_record=record(0, 4), started=1e10)
    drawn.add(901, "zinit", zone=2, root=root, started=1.0)
    return installed


def test_zones_are_named_and_not_judged(zoned: Live) -> None:
    before = zoned.snapshot(inodes=True)
    value = verify(zoned)
    assert [(zone["name"], zone["state"], zone["processes"], zone["loaded"]) for zone in value["zones"]] == [
        ("web", "installed", 3, 2),
        ("old", "installed", 0, 0),
        ("gone", "configured", 0, 0),
    ]
    assert identifiers(value)["zones-not-judged"] == "note"
    assert identifiers(value)["zones-untouched"] == "note"
    assert not [finding for finding in value["findings"] if finding["where"] == "processes"]
    assert zoned.snapshot(inodes=True) == before


def test_a_zone_that_is_asked_about(zoned: Live) -> None:
    value = verify(zoned, "--zone", "web")
    assert (value["zone"], value["root"]) == ("web", str(zoned / "zones/web/root"))
    states = {one["pid"]: (one["state"], one["zone"], one["current"]) for one in value["processes"]["list"]}
    assert states[900] == ("loaded", "", True)
    assert states[901] == ("earlier", "", False)
    assert states[0] == ("kernel", "global", False)
    assert identifiers(value)["processes-earlier"] == "note"
    assert value["zones"] == []


def test_a_zone_without_memproxy(zoned: Live) -> None:
    assert identifiers(verify(zoned, "--zone", "old", status=3)) == {"not-installed": "error"}


def test_no_such_zone(zoned: Live) -> None:
    assert zoned.run("verify", "--zone", "nosuch") == 1
    assert zoned.err == (
        "memproxy-sol: /etc/zones/index: there is no zone nosuch, the zones are: web, old, gone; correct --zone\n"
    )
    assert zoned.run("verify", "--zone", "gone") == 1
    assert "zone gone (configured) has no root directory" in zoned.err


def test_zone_of_an_image(zoned: Live, tmp_path: Path) -> None:
    assert zoned.run("verify", "--root", str(tmp_path), "--zone", "web") == 2
    assert "--zone is for the running system" in zoned.err


def test_a_zone_whose_links_lead_out(zoned: Live) -> None:
    """An absolute link of a zone means its own root, not the global zone's."""
    config = zoned / "zones/web/root/var/ld/64/ld.config"
    config.unlink()
    config.symlink_to("/var/ld/64/ld.config.elsewhere")
    (zoned / "var/ld/64/ld.config.elsewhere").write_bytes((zoned / "var/ld/64/ld.config").read_bytes())
    assert "config-missing" in identifiers(verify(zoned, "--zone", "web", status=3))


# ---- The file for monitoring.


def test_prometheus(installed: Live, tmp_path: Path) -> None:
    for bits in (32, 64):
        start(installed, f"/opt/daemon{bits}")
    draw(installed)
    file = tmp_path / "memproxy.prom"
    assert installed.run("verify", "--prometheus", str(file)) == 0, installed.err
    lines = file.read_text().splitlines()
    assert "memproxy_ok 1" in lines
    assert 'memproxy_findings{severity="error"} 0' in lines
    assert 'memproxy_configured{abi="64"} 1' in lines
    assert 'memproxy_processes{state="loaded",abi="32",route="custom"} 1' in lines
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".memproxy")]
    for line in lines:
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? \d+', line), line
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_prometheus_of_a_broken_host(installed: Live, tmp_path: Path) -> None:
    (installed / "var/ld/ld.config").unlink()
    draw(installed)
    file = tmp_path / "memproxy.prom"
    assert installed.run("verify", "--prometheus", str(file)) == 3
    assert "memproxy_ok 0" in file.read_text().splitlines()


def test_prometheus_replaces_in_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "memproxy.prom"
    file.write_text("former\n")
    seen = []
    real = os.rename

    def rename(old: str, new: str) -> None:
        seen.append((file.read_text(), Path(old).read_text(), Path(old).name.endswith(".prom")))
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    prometheus.write(str(file), "new\n")
    assert seen == [("former\n", "new\n", False)]
    assert file.read_text() == "new\n"


@pytest.mark.parametrize("where", ["nosuch/file.prom", "directory"])
def test_prometheus_cannot_be_written(installed: Live, tmp_path: Path, where: str) -> None:
    (tmp_path / "directory/inside").mkdir(parents=True)
    draw(installed)
    assert installed.run("verify", "--prometheus", str(tmp_path / where)) == 1
    assert installed.err.startswith(f"memproxy-sol: {tmp_path / where}: cannot be written: ")
    assert os.listdir(tmp_path / "directory") == ["inside"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".memproxy")]

"""processes.py on synthetic /proc trees of Solaris: both data models and byte orders, every reason, hostile files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import abi, process_solaris, processes
from memproxy_sol.errors import HostError
from memproxy_sol.ld_config import Variable, encode, layout_for, new
from memproxy_sol.process import Process
from memproxy_sol.processes import Configured
from memproxy_sol.root import Root
from tests.solaris_proc import STACK, SolarisProc, record

GENERATION = "/usr/local/lib/memproxy/0123456789abcdef"
LIBRARY = {32: f"{GENERATION}/libmemproxy.so", 64: f"{GENERATION}/64/libmemproxy.so"}
SINCE = 5000.0


def configuration(bits: int, trusted: bool = True, late: bool = False, machine: abi.Machine = abi.X86) -> Configured:
    """As install leaves it: a replaceable preload entry, its directory trusted."""
    layout = layout_for(machine, bits)
    variable = Variable(f"LD_PRELOAD_{bits}={LIBRARY[bits]}")
    defaults = abi.ABIS[bits].default_trusted_directories
    directories = (*defaults, os.path.dirname(LIBRARY[bits])) if trusted else defaults
    config = new(layout)
    data = encode(type(config)(**{**config.__dict__, "environment": (variable,), "trusted_directories": directories}))
    return Configured(LIBRARY[bits], SINCE, late, data, layout)


class Machine:
    """A root with a /proc, and what is configured on it."""

    def __init__(self, path: Path, bits: int = 64, order: str = "<", zone: int = 0) -> None:
        self.root = Root(str(path), live=True)
        self.proc = SolarisProc(path / "proc", bits, order, zone)
        self.expected = {bits: configuration(bits) for bits in (32, 64)}

    def add(self, pid: int, *arguments: Any, **options: Any) -> Path:
        return self.proc.add(pid, *arguments, **options)

    def look(self, **options: Any) -> tuple[Process, ...]:
        return processes.look(self.root, self.expected, **options)

    def one(self, **options: Any) -> Process:
        (found,) = self.look(**options)
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(params=[(64, "<"), (32, "<"), (64, ">"), (32, ">")], ids=["64-LE", "32-LE", "64-BE", "32-BE"])
def any_machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    """Seen by a reader of either data model on a machine of either byte order."""
    return Machine(tmp_path, *request.param)


@pytest.mark.parametrize("bits", [32, 64])
def test_loaded(any_machine: Machine, bits: int) -> None:
    order = any_machine.proc.order
    what = record(1, 2, 17, b"/x/libjemalloc.so.2", order=order)
    any_machine.add(4711, "postgres", bits=bits, library=LIBRARY[bits], library_record=what, started=6000.25)
    found = any_machine.one()
    assert (found.pid, found.name, found.bits, found.state, found.current) == (4711, "postgres", bits, "loaded", True)
    assert (found.program, found.library, found.started) == ("/usr/bin/postgres", LIBRARY[bits], 6000.25)
    assert found.record is not None
    assert (found.route, found.record.reason, found.record.line) == ("custom", "list", 17)
    assert found.record.allocator == "/x/libjemalloc.so.2"
    assert found.to_json()["route"] == "custom"


def test_older_generation(machine: Machine) -> None:
    machine.add(10, library="/usr/local/lib/memproxy/ffffffffffffffff/64/libmemproxy.so")
    found = machine.one()
    assert (found.state, found.current) == ("loaded", False)


def test_library_without_a_name(machine: Machine) -> None:
    machine.add(10, nameless=record(0, 1))
    found = machine.one()
    assert (found.state, found.library, found.current, found.route) == ("loaded", "", False, "system")


def test_object_without_a_name_that_is_another(machine: Machine) -> None:
    machine.add(10, nameless=b"memproxy, but this is a text" * 10, started=6000.0)
    assert machine.one().state == "unexplained"


def test_nobody_has_asked_for_memory_yet(machine: Machine) -> None:
    machine.add(10, library=LIBRARY[64], library_record=record(0, 0, state=0, allocator=b""))
    assert machine.one().route == "undecided"


def test_the_serving_copy_of_two(machine: Machine) -> None:
    place = machine.add(10, library=LIBRARY[64], library_record=record(0, 5))
    assert machine.one().route == "system"
    with (place / "as").open("r+b") as memory:
        memory.seek(0x8090000 + 2 * 0x10000 + 64 + 1056)
        memory.write(record(1, 1))
    assert machine.one().route == "custom"


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(
    ("environment", "state", "detail"),
    [
        (["LD_PRELOAD_{bits}=/x.so"], "own-preload", "LD_PRELOAD_{bits}"),
        (["LD_PRELOAD=/x.so"], "unexplained", ""),
        (["LD_PRELOAD_{bits}="], "own-preload", "LD_PRELOAD_{bits}"),
        (["LD_PRELOAD_{other}=/x.so"], "unexplained", ""),
        (["LD_NOCONFIG=1"], "no-config", "LD_NOCONFIG"),
        (["LD_NOCONFIG_{bits}=yes"], "no-config", "LD_NOCONFIG_{bits}"),
        (["LD_NOCONFIG="], "unexplained", ""),
        (["LD_NOENVCONFIG=1"], "no-config", "LD_NOENVCONFIG"),
        (["LD_FLAGS=noconfig"], "no-config", "LD_FLAGS"),
        (["LD_CONFIG_{bits}=/tmp/mine"], "own-config", "LD_CONFIG_{bits}"),
        (["LD_CONFIG=/tmp/mine"], "own-config", "LD_CONFIG"),
    ],
)
def test_own_environment(any_machine: Machine, bits: int, environment: list[str], state: str, detail: str) -> None:
    words = {"bits": bits, "other": 96 - bits}
    texts = [text.format(**words) for text in environment]
    any_machine.add(10, bits=bits, environment=texts, started=6000.0)
    found = any_machine.one()
    assert (found.state, found.detail) == (state, detail.format(**words))


def test_what_lasts_comes_before_what_a_restart_mends(machine: Machine) -> None:
    machine.add(10, environment=["LD_NOCONFIG=1"], started=1.0)
    machine.add(11, linker="", started=1.0)
    assert [found.state for found in machine.look()] == ["no-config", "static"]


def test_started_before_the_configuration(any_machine: Machine) -> None:
    any_machine.add(10, started=SINCE - 0.5)
    any_machine.add(11, started=SINCE + 0.5)
    assert [found.state for found in any_machine.look()] == ["earlier", "unexplained"]


@pytest.mark.parametrize("relation", ["ppid", "pgid", "sid"])
def test_forked_later_by_one_that_started_earlier(machine: Machine, relation: str) -> None:
    machine.add(10, "httpd", started=SINCE - 10)
    machine.add(11, "httpd", started=SINCE + 10, **{relation: 10})
    machine.add(12, "other", started=SINCE + 10, **{relation: 10})
    found = machine.look()
    assert [one.state for one in found] == ["earlier", "earlier", "unexplained"]
    assert found[1].detail == "forked by process 10"


def test_forked_from_a_loaded_one_is_no_excuse(machine: Machine) -> None:
    machine.add(10, "httpd", started=SINCE - 10, library=LIBRARY[64])
    machine.add(11, "httpd", started=SINCE + 10, ppid=10)
    assert machine.look()[1].state == "unexplained"


def test_before_a_separate_var_is_mounted(machine: Machine) -> None:
    machine.expected = {bits: configuration(bits, late=True) for bits in (32, 64)}
    machine.add(1, "init", started=6000.0)
    machine.add(8, "svc.startd", started=6001.0)
    machine.add(50, "syslogd", started=6010.0, library=LIBRARY[64])
    machine.add(60, "odd", started=6020.0)
    assert [one.state for one in machine.look()] == ["boot", "boot", "loaded", "unexplained"]


def test_init_with_var_on_the_root_file_system(machine: Machine) -> None:
    machine.add(1, "init", started=6000.0)
    machine.add(50, "syslogd", started=6010.0, library=LIBRARY[64])
    assert machine.look()[0].state == "unexplained"


def test_set_id(machine: Machine) -> None:
    machine.expected = {64: configuration(64, trusted=False)}
    machine.add(10, auxflags=1, started=6000.0)  # told by the kernel
    machine.add(11, auxflags=None, ids=(100, 0, 1, 1), started=6000.0)  # as the ids look
    machine.add(12, auxflags=0, ids=(100, 0, 1, 1), started=6000.0)
    machine.add(13, auxflags=1, environment=["LD_CONFIG=/mine"], started=6000.0)  # of no effect in it
    assert [one.state for one in machine.look()] == ["set-id", "set-id", "unexplained", "set-id"]


def test_set_id_with_a_trusted_directory(machine: Machine) -> None:
    machine.add(10, auxflags=1, started=6000.0)
    assert machine.one().state == "unexplained"


def test_abi_that_is_not_configured(machine: Machine) -> None:
    del machine.expected[32]
    machine.add(10, bits=32)
    machine.add(11, bits=64)
    assert [one.state for one in machine.look()] == ["not-configured", "earlier"]


def test_kernel_and_zombie(machine: Machine) -> None:
    machine.add(0, "sched", size=0)
    machine.add(2, "pageout", size=0)
    machine.add(9, "defunct", threads=0)
    assert [(one.pid, one.state) for one in machine.look()] == [(0, "kernel"), (2, "kernel"), (9, "zombie")]


def test_other_zone(tmp_path: Path) -> None:
    machine = Machine(tmp_path, zone=3)
    machine.add(10, zone=3, library=LIBRARY[64])
    machine.add(11, zone=4, root="/zones/web/root", library="/zones/web/root/x/libmemproxy.so")
    machine.add(12, zone=5)
    found = machine.look(zones={"/zones/web/root": "web"})
    assert [(one.state, one.zone) for one in found] == [("loaded", ""), ("other-zone", "web"), ("other-zone", "5")]
    assert found[1].route == "custom"


def test_asked_about_another_zone(machine: Machine) -> None:
    machine.add(10, library=LIBRARY[64])
    machine.add(11, zone=4, root="/zones/web/root", library=f"/zones/web/root{LIBRARY[64]}")
    machine.add(12, zone=4, root="/zones/web/root", started=SINCE - 1)
    found = machine.look(zones={"/zones/web/root": "web"}, zone="web")
    assert [(one.state, one.zone, one.current) for one in found] == [
        ("other-zone", "global", True),
        ("loaded", "", True),
        ("earlier", "", False),
    ]


@pytest.mark.parametrize("size", [0, 1, 335, 337, 415, 417, 4096])
def test_psinfo_of_an_unknown_size(machine: Machine, size: int) -> None:
    place = machine.add(10)
    (place / "psinfo").write_bytes(((place / "psinfo").read_bytes() * 11)[:size])
    found = machine.one()
    assert found.state == "unreadable"
    assert found.detail == f"psinfo of {size} bytes is not understood"


def test_psinfo_of_another_process(machine: Machine) -> None:
    machine.add(10, fields={"pr_pid": 12})
    assert machine.one().state == "unreadable"


@pytest.mark.parametrize("cut", [1, 103, 105])
def test_map_of_an_unknown_size(machine: Machine, cut: int) -> None:
    place = machine.add(10)
    (place / "map").write_bytes((place / "map").read_bytes()[:-cut])
    assert (machine.one().state, machine.one().detail) == ("unreadable", "its map is not understood")


def test_empty_map(machine: Machine) -> None:
    (machine.add(10) / "map").write_bytes(b"")
    assert machine.one().state == "unreadable"


@pytest.mark.parametrize("file", ["psinfo", "map"])
def test_ended_meanwhile(machine: Machine, file: str) -> None:
    (machine.add(10) / file).unlink()
    assert machine.one().state == "gone"


def test_processes_that_end_between_two_looks(machine: Machine) -> None:
    for pid in (10, 11, 12):
        machine.add(pid, library=LIBRARY[64])
    reading = process_solaris.processes(str(machine.proc.path))
    next(reading)
    shutil.rmtree(machine.proc.path / "11")
    assert [(one.pid, one.state) for one in reading] == [(11, "gone"), (12, "")]


@pytest.mark.parametrize("file", ["as", "auxv"])
def test_memory_that_cannot_be_read(machine: Machine, file: str) -> None:
    (machine.add(10, library=LIBRARY[64]) / file).unlink()
    found = machine.one()
    assert found.state == "loaded"
    assert (found.record is None) == (file == "as")


@pytest.mark.parametrize("envp", [0, 1, STACK + 1, 1 << 40, (1 << 64) - 8])
def test_environment_that_is_not_where_it_was(machine: Machine, envp: int) -> None:
    machine.add(10, environment=["LD_NOCONFIG=1"], started=6000.0, fields={"pr_envp": envp})
    assert machine.one().state == "unexplained"


def test_upper_half_of_the_address_space() -> None:
    assert process_solaris.file_offset(0xFFFFFC7FFFDFF000) == 0xFFFFFC7FFFDFF000 - 2**64
    assert process_solaris.file_offset(0x7FFFFFFFFFFFFFFF) == 2**63 - 1


def test_hostile_names(machine: Machine) -> None:
    machine.add(10, b"\x1b[31m\xff\n", program="/tmp/\udcff\n", started=6000.0)
    machine.add(11, objects=["/x\udcff/libmemproxy.so"])
    first, second = machine.look()
    assert (first.name, first.program) == ("\x1b[31m\udcff\n", "/tmp/\udcff\n")
    assert (second.state, second.library) == ("loaded", "/x\udcff/libmemproxy.so")


def test_entries_that_are_no_processes(machine: Machine) -> None:
    for name in ("lost", "12x", "\u0663", "-5"):
        (machine.proc.path / name).mkdir()
    (machine.proc.path / "13").write_text("a file")
    found = machine.one()
    assert (found.pid, found.state, found.detail) == (13, "unreadable", "Not a directory")


def test_no_proc(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be listed: No such file or directory"):
        processes.look(Root(str(tmp_path), live=True), {})


def test_ten_thousand_processes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    model = machine.add(10, "cat", library=LIBRARY[64])
    stopped = machine.add(11, threads=0)
    psinfo = (stopped / "psinfo").read_bytes()
    for pid in range(12, 10_010):
        place = machine.proc.path / str(pid)
        place.mkdir()
        (place / "psinfo").write_bytes(psinfo[:8] + pid.to_bytes(4, "little") + psinfo[12:])
    opened = 0
    real = os.open

    def counting(*arguments: Any, **options: Any) -> int:
        nonlocal opened
        opened += 1
        return real(*arguments, **options)

    monkeypatch.setattr(os, "open", counting)
    found = machine.look()
    assert len(found) == 10_000
    assert processes.counts(found)["states"] == {"zombie": 9_999, "loaded": 1}
    assert opened < 10_020  # one each, and a few for the one that lives
    assert model.exists()


def test_counts_and_json(machine: Machine) -> None:
    machine.add(10, library=LIBRARY[64])
    machine.add(11, bits=32, library=LIBRARY[32], library_record=record(0, 4))
    machine.add(12)
    value = processes.to_json(machine.look())
    assert (value["total"], value["states"]) == (3, {"loaded": 2, "earlier": 1})
    assert (value["routes"], value["abis"]) == ({"custom": 1, "system": 1}, {"32": 1, "64": 1})
    assert [one["pid"] for one in value["list"]] == [10, 11, 12]
    assert value["list"][1]["reason"] == "no-allocator"


def test_who_maps_a_generation(machine: Machine) -> None:
    machine.add(10, library=LIBRARY[64])
    machine.add(11, library="/usr/local/lib/memproxy/0123456789abcdef0/64/libmemproxy.so")
    machine.add(2, "pageout", size=0)
    assert processes.processes_that_map(machine.root, GENERATION) == (10,)
    assert processes.processes_that_map(Root(machine.root.path, live=False), GENERATION) == ()


def test_who_maps_a_generation_cannot_be_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.add(10)
    real = os.listdir

    def denied(path: str) -> list[str]:
        if path.endswith("/10/path"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "listdir", denied)
    assert processes.processes_that_map(machine.root, GENERATION) is None


@pytest.fixture(autouse=True)
def no_real_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may look at this machine's own processes."""
    real = os.listdir

    def listdir(path: str = ".") -> list[str]:
        assert not str(path).startswith("/proc"), path
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)

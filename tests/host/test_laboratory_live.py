"""The package on the laboratory: real cross-built libraries in its processes, its own program as one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memproxy_sol import elf as package_elf
from memproxy_sol import probe_list, resources
from memproxy_sol.abi import ABIS
from memproxy_sol.probe import DEBUG, Probe
from tests.host.laboratory import elf, proxy
from tests.host.live import Live

PROGRAM = {32: "/usr/bin/true32", 64: "/usr/bin/true"}


def put(live: Live, bits: int, *, secure: bool = False) -> str:
    """libmemproxy and the allocator in a directory that the live configuration names; returns the directory."""
    directory = f"/usr/local/lib/memproxy/{bits}"
    for name in ("libmemproxy.so", "liballoc.so"):
        source = live.objects / ("64" if bits == 64 else "") / name
        live.write(f"{directory[1:]}/{name}", source.read_bytes(), 0o755)
    options = ["-64"] if bits == 64 else []
    if secure:
        options += ["-s", directory]
    variable = f"LD_PRELOAD_{bits}={directory}/libmemproxy.so:{directory}/liballoc.so"
    assert live.shell.run(["/usr/bin/crle", *options, "-E", variable]).status == 0
    return directory


@pytest.mark.parametrize("bits", [32, 64])
def test_the_real_libraries_are_loaded_and_the_probe_knows_their_line(live: Live, bits: int) -> None:
    directory = put(live, bits)
    for user in (None, "joe"):
        outcome = live.prober.run(Probe("true", (PROGRAM[bits],), bits, user), DEBUG)
        assert (outcome.status, outcome.route) == (0, "custom")
        assert outcome.err.decode() == (
            f"memproxy: {PROGRAM[bits]}: route custom, served by {directory}/liballoc.so: "
            "no line of /etc/memproxy.conf matches\n"
        )
        assert outcome.wrong("custom") is None
        assert outcome.wrong("system") is not None
    started = live.lab.start([PROGRAM[bits]])
    assert started is not None
    assert started.loaded[1].path == f"{directory}/libmemproxy.so"


def test_the_list_the_environment_and_the_lack_of_an_allocator_decide(live: Live) -> None:
    directory = put(live, 64)
    libc = "/lib/64/libc.so.1"

    def line(**environment: str) -> str:
        err = live.lab.execute(["/usr/bin/true"], {**DEBUG, **environment}).err.decode()
        return err.partition(": route ")[2]

    live.write("etc/memproxy.conf", b"# mine\n/usr/sbin/\ntrue\n")
    assert line() == f"system, served by {libc}: line 3 of /etc/memproxy.conf\n"
    assert line(MEMPROXY_ROUTE="custom") == f"custom, served by {directory}/liballoc.so: MEMPROXY_ROUTE says so\n"
    (live / "etc/memproxy.conf").unlink()
    assert live.shell.run(["/usr/bin/crle", "-64", "-E", f"LD_PRELOAD_64={directory}/libmemproxy.so"]).status == 0
    assert line() == f"system, served by {libc}: no custom allocator is loaded\n"
    other = f"LD_PRELOAD_64={directory}/liballoc.so:{directory}/libmemproxy.so"
    assert live.shell.run(["/usr/bin/crle", "-64", "-E", other]).status == 0
    ahead = "malloc of this process is defined ahead of libmemproxy.so"
    assert line() == f"system, served by {directory}/liballoc.so: {ahead}\n"


def test_an_allocator_counts_that_lies_beside_libmemproxy_or_comes_next(live: Live) -> None:
    directory = put(live, 64)
    live.write("opt/libfar.so", (live.objects / "64/libother.so").read_bytes())
    live.write("opt/libplain.so", (live.objects / "64/libplain.so").read_bytes())

    def serves(*behind: str) -> str:
        variable = ":".join((f"LD_PRELOAD_64={directory}/libmemproxy.so", *behind))
        assert live.shell.run(["/usr/bin/crle", "-64", "-E", variable]).status == 0
        err = live.lab.execute(["/usr/bin/true"], DEBUG).err.decode()
        return err.partition(", served by ")[2].partition(":")[0]

    assert serves("/opt/libfar.so") == "/opt/libfar.so"
    assert serves("/opt/libplain.so", "/opt/libfar.so") == "/lib/64/libc.so.1"
    assert serves("/opt/libfar.so", f"{directory}/liballoc.so") == f"{directory}/liballoc.so"
    assert serves("/opt/libplain.so", f"{directory}/liballoc.so") == f"{directory}/liballoc.so"


def test_a_set_id_process_loads_it_from_a_trusted_directory_and_is_silent(live: Live) -> None:
    put(live, 32, secure=True)
    assert live.lab.execute(["/usr/bin/su"], DEBUG, uid=100).err == b""
    started = live.lab.start(["/usr/bin/su"], DEBUG, uid=100)
    assert started is not None
    assert [one.path.rpartition("/")[2] for one in started.loaded][1:3] == ["libmemproxy.so", "liballoc.so"]


def test_the_words_of_the_line_are_those_of_the_native_library() -> None:
    source = (resources.native_sources() / "debug.cc").read_text()
    words = re.findall(r'"((?:[^"\\]|\\.)*)"', source)
    decisions = Path(proxy.__file__).read_text()
    for text in ("no custom allocator is loaded", "malloc of this process is defined ahead of libmemproxy.so"):
        assert text in words
        assert text in decisions
    shown = proxy.line("P", proxy.Decision("custom", "A", "no line of L matches"))
    for piece in ("memproxy: ", ": route ", ", served by ", "no line of ", " matches"):
        assert piece in words
        assert piece in shown


@pytest.mark.parametrize("name", ["libmemproxy.so", "liballoc.so", "libplain.so", "libc.so.1"])
@pytest.mark.parametrize("directory", ["", "64"])
def test_both_readers_of_elf_agree_on_the_real_objects(objects: Path, directory: str, name: str) -> None:
    path = objects / directory / name
    ours, theirs = elf.read(path.read_bytes()), package_elf.read(str(path))
    assert (ours.header.bits, ours.header.machine, ours.soname) == (theirs.bits, theirs.machine, theirs.soname)
    assert ours.needed == tuple(theirs.needed)
    assert ours.exports == theirs.exports


def test_the_program_itself_runs_in_the_laboratory(live: Live) -> None:
    ran = live.lab.execute(["/usr/local/bin/memproxy-sol", "--version"], {"PATH": "/usr/bin"})
    assert ran.status == 0
    assert ran.out.startswith(b"memproxy-sol ")
    smf = {"SMF_FMRI": "svc:/site/memproxy:default", "LD_NOCONFIG": "yes"}
    ran = live.lab.execute(["/sbin/sh", "-c", "exec /usr/local/bin/memproxy-sol verify --smf"], smf)
    assert ran.status in (0, 95, 96)
    assert b"memproxy-sol: SMF_EXIT_" in ran.out.splitlines()[-1]


def test_programs_of_the_laboratory_are_elf_files_that_the_package_reads(live: Live) -> None:
    groff = package_elf.read(str(live / "usr/bin/groff"))
    assert (groff.bits, groff.needed) == (64, ("libstdc++.so.6", "libc.so.1"))
    assert package_elf.read(str(live / "usr/bin/su")).bits == 32
    assert (live / "usr/bin/su").stat().st_mode & 0o4000


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [32, 64])
def test_objects_of_the_laboratory_are_read_alike_by_both(tmp_path: Path, bits: int, order: str) -> None:
    path = tmp_path / "x.so"
    needed, exports = ("libc.so.1", "libm.so.2"), ("malloc", "free")
    data = elf.write(bits, 2, order=order, soname="x.so", needed=needed, runpath="/a:/b", exports=exports)
    path.write_bytes(data)
    ours, theirs = elf.read(data), package_elf.read(str(path))
    assert (ours.soname, ours.needed, ours.exports, ours.runpath) == ("x.so", needed, set(exports), ("/a", "/b"))
    assert (theirs.soname, theirs.needed, theirs.runpath) == ("x.so", needed, "/a:/b")


def test_the_usual_probes_are_found_and_start(live: Live) -> None:
    probes = probe_list.default_probes(live.root, (ABIS[32], ABIS[64])).probes
    names = {probe.name for probe in probes}
    assert {"/usr/bin/true", "/usr/bin/groff", "set-id /usr/bin/uptime", "set-id /usr/bin/amd64/w"} <= names
    put(live, 32, secure=True)
    put(live, 64, secure=True)
    for probe in probes:
        assert live.prober.run(probe, DEBUG).wrong("custom") is None, probe

"""`exclude scan` on real programs, compiled and the distribution's, on hostile trees, and on live processes."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import carried, elf, exclusions, scan, scan_files, scan_running, workers
from memproxy_sol.cli import main
from memproxy_sol.root import Root
from tests.needs import allocator, missing

MALLOC = """
#include <stddef.h>
static char room[1 << 20]; static size_t used;
{0} void *malloc(size_t size) {{ size_t at = used; used += (size + 63) & ~(size_t)63; return room + at; }}
{0} void free(void *block) {{ (void)block; }}
"""
MAIN = "int main(int count, char **words) { (void)words; char *p = malloc(count); free(p); return 0; }\n"
HIDDEN = '__attribute__((visibility("hidden")))'


def built(path: Path, source: str, *flags: str, bits: int = 64) -> Path:
    """A program or library at `path`, whose directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", f"-m{bits}", "-x", "c", "-", "-x", "none", "-o", str(path), "-fno-builtin", *flags]
    done = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    return root


def rows(image: Path, *tops: str, lines: bytes = b"") -> dict[str, scan.Row]:
    found = scan.scan(Root(str(image)), tops or scan_files.DIRECTORIES, exclusions.parse(lines))
    return {row.path: row for row in found.rows}


PLAIN = "#include <stdlib.h>\n" + MAIN


@pytest.mark.parametrize("bits", [32, 64])
def test_a_malloc_that_a_program_exports_is_found_and_one_of_libc_is_not(image: Path, bits: int) -> None:
    built(image / "usr/bin/own", MALLOC.format("") + MAIN, "-rdynamic", bits=bits)
    built(image / "usr/bin/plain", PLAIN, bits=bits)
    found = rows(image)
    assert list(found) == ["/usr/bin/own"]
    row = found["/usr/bin/own"]
    assert (row.state, row.bits, row.pattern) == ("proposed", bits, "/usr/bin/own")
    assert row.evidence[0].startswith("exports malloc and free")


@pytest.mark.parametrize("bits", [32, 64])
def test_a_malloc_that_is_kept_inside_is_found_as_long_as_a_symbol_table_is_left(image: Path, bits: int) -> None:
    program = built(image / "usr/bin/own", MALLOC.format(HIDDEN) + MAIN, bits=bits)
    assert rows(image)["/usr/bin/own"].evidence == (
        "its symbol table defines malloc and free, which it keeps to itself",
    )
    subprocess.run(["strip", program], check=True)
    assert rows(image) == {}


def test_only_one_of_malloc_and_free_is_no_allocator(image: Path) -> None:
    built(image / "usr/bin/half", "void free(void *p) { (void)p; } int main(void) { return 0; }", "-rdynamic")
    assert rows(image) == {}


def static_jemalloc() -> str:
    found = glob.glob("/usr/lib/x86_64-linux-gnu/libjemalloc.a")
    if not found:
        missing("libjemalloc.a", "libjemalloc-dev")
    return found[0]


def test_an_embedded_jemalloc_is_known_by_its_symbols_and_stripped_by_its_messages(image: Path) -> None:
    program = built(image / "usr/bin/fast", PLAIN, static_jemalloc(), "-lm", "-pthread", "-static-libgcc")
    row = rows(image)["/usr/bin/fast"]
    assert row.carries == "jemalloc"
    assert any("its symbol table has je_arena" in one for one in row.evidence)
    hidden = built(image / "usr/bin/hidden", PLAIN, static_jemalloc(), "-lm", "-pthread", "-Wl,--exclude-libs,ALL")
    assert elf.read(hidden).exports.isdisjoint(carried.PLAIN)
    for one in (program, hidden):
        subprocess.run(["strip", one], check=True)
    row = rows(image)["/usr/bin/hidden"]
    assert (row.state, row.carries, row.evidence) == ("proposed", "jemalloc", ('text "<jemalloc>:"',))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("family", ["jemalloc", "mimalloc", "tcmalloc"])
def test_a_program_linked_with_an_allocator_has_chosen_it(image: Path, family: str, bits: int) -> None:
    library = Path(os.path.realpath(allocator(family, bits)))
    place = image / "usr/lib" / library.name
    place.parent.mkdir(parents=True)
    shutil.copy(library, place)
    built(image / "usr/bin/user", PLAIN, "-Wl,--no-as-needed", str(place), bits=bits)
    name = elf.read(library).soname or ""
    between = "libbetween.so"
    built(image / "usr/lib" / between, "int x;", "-shared", f"-Wl,-soname,{between}", "-Wl,--no-as-needed", str(place),
          bits=bits)  # fmt: skip
    flags = ("-Wl,--no-as-needed", "-Wl,--unresolved-symbols=ignore-all", str(image / "usr/lib" / between))
    built(image / "usr/bin/indirect", PLAIN, *flags, bits=bits)
    found = rows(image)
    assert found["/usr/bin/user"].carries == family
    assert found["/usr/bin/user"].evidence == (f"needs {name}, which exports malloc and free",)
    assert found["/usr/bin/indirect"].evidence == (f"needs {between} → {name}, which exports malloc and free",)
    assert found[f"/usr/lib/{library.name}"].state == "library"
    assert found[f"/usr/lib/{library.name}"].pattern == ""
    assert f"/usr/lib/{between}" not in found


def test_a_library_of_the_other_abi_is_not_what_a_program_needs(image: Path) -> None:
    flags = ("-shared", "-fPIC", "-Wl,-soname,libown.so")
    built(image / "usr/lib/libown.so", MALLOC.format(""), *flags)
    other = built(image / "usr/lib32/libown.so", "int x;", *flags, bits=32)
    built(image / "usr/bin/user", PLAIN, "-Wl,--no-as-needed", str(other), bits=32)
    assert list(rows(image)) == ["/usr/lib/libown.so"]


def test_private_names_of_an_allocator_choose_it(image: Path, tmp_path: Path) -> None:
    stub = built(tmp_path / "libstub.so", "void *scalable_malloc(unsigned long n) { return (void *)n; }", "-shared")
    source = "{} void *scalable_malloc(unsigned long); int main(void) {{ return {} scalable_malloc(1) != 0; }}"
    built(image / "usr/bin/calls", source.format("", ""), str(stub))
    built(image / "usr/bin/asks", source.format("__attribute__((weak))", "scalable_malloc &&"), str(stub))
    assert {symbol.name for symbol in elf.read(image / "usr/bin/asks").imports} >= {"scalable_malloc"}
    found = rows(image)
    assert found["/usr/bin/calls"].evidence == ("calls scalable_malloc",)
    assert found["/usr/bin/calls"].carries == "TBB malloc"
    assert "/usr/bin/asks" not in found  # weak: it looks whether somebody else has it


@pytest.mark.parametrize("flags", [("-static",), ("-static-pie",)])
def test_a_static_program_is_named_as_not_reachable(image: Path, flags: tuple[str, ...]) -> None:
    built(image / "usr/bin/alone", PLAIN, *flags)
    row = rows(image)["/usr/bin/alone"]
    assert (row.state, row.pattern) == ("unreachable", "")


def test_a_program_with_a_sanitizer_needs_no_line(image: Path) -> None:
    (image / "usr/lib").mkdir(parents=True)
    program = built(image / "usr/bin/checked", PLAIN, "-fsanitize=address")
    library = next(iter(glob.glob("/usr/lib/x86_64-linux-gnu/libasan.so.*")))
    shutil.copy(os.path.realpath(library), image / "usr/lib")
    assert "libasan" in " ".join(elf.read(program).needed)
    assert rows(image)["/usr/bin/checked"].state == "unneeded"


def test_what_the_list_says_already_is_told(image: Path) -> None:
    for name in ("one", "two", "three"):
        built(image / "opt" / name, MALLOC.format("") + MAIN, "-rdynamic")
    found = rows(image, lines=b"# list\none\n/opt/tw* = custom\n")
    assert [(row.state, row.line) for _, row in sorted(found.items())] == [
        ("listed", 2), ("proposed", 0), ("custom", 3)]  # fmt: skip


def test_every_name_that_the_kernel_may_report_is_a_program(image: Path) -> None:
    built(image / "opt/real/own", MALLOC.format("") + MAIN, "-rdynamic")
    (image / "usr/bin").mkdir(parents=True)
    (image / "usr/bin/alias").symlink_to("/opt/real/own")
    os.link(image / "opt/real/own", image / "usr/bin/hard")
    assert set(rows(image, "/usr/bin")) == {"/opt/real/own", "/usr/bin/hard"}


# ---- Other byte orders and damage


def foreign_malloc(bits: int, order: str, table_type: int = 2, symbol_type: int = 2) -> bytes:
    """An executable of another machine with a symbol table that defines malloc (with free in its tail-merged name)."""
    wide = bits == 64
    head, section, symbol = (64, 64, 24) if wide else (52, 40, 16)
    strings = b"\0my_malloc\0xfree\0"

    def entry(name: int, kind: int) -> bytes:
        if wide:
            return struct.pack(order + "IBBHQQ", name, kind, 0, 1, 0x1000, 8)
        return struct.pack(order + "IIIBBH", name, 0x1000, 8, kind, 0, 1)

    table = bytes(symbol) + entry(4, symbol_type) + entry(12, symbol_type)
    at = head + len(strings)
    sections = bytes(section)
    for kind, offset, size, link in ((table_type, at, len(table), 2), (3, head, len(strings), 0)):
        layout = "IIQQQQIIQQ" if wide else "10I"
        sections += struct.pack(order + layout, 0, kind, 0, 0, offset, size, link, 0, 1, 0)
    ident = b"\x7fELF" + bytes((bits // 32, 1 if order == "<" else 2, 1)) + bytes(9)
    fields = (2, 43 if wide else 2, 1, 0, 0, at + len(table), 0, head, 0, 0, section, 3, 0)
    return (
        ident
        + struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *fields)
        + strings
        + table
        + sections
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [32, 64])
def test_either_class_and_byte_order_is_read(image: Path, bits: int, order: str) -> None:
    (image / "opt").mkdir()
    (image / "opt/own").write_bytes(foreign_malloc(bits, order))
    row = rows(image)["/opt/own"]
    assert (row.bits, row.state) == (bits, "unreachable")  # it has no interpreter
    assert row.evidence == ("its symbol table defines malloc and free, which it keeps to itself",)


def test_local_functions_that_solaris_keeps_in_stripped_files_count_and_data_do_not(tmp_path: Path) -> None:
    def local(*types: int) -> tuple[str, ...]:
        (tmp_path / "own").write_bytes(foreign_malloc(32, ">", *types))
        one = carried.look(str(tmp_path / "own"))
        assert one is not None
        return one.local

    assert local(0x6FFFFFF3) == carried.PLAIN
    assert local(2, 1) == ()
    assert local(11) == ()


def test_a_text_is_found_behind_a_hole_and_over_the_border_of_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carried, "_CHUNK", 1 << 16)
    monkeypatch.setattr(carried, "_MOST_SEARCHED", 1 << 20)
    path = tmp_path / "own"
    for at in (1 << 34, (1 << 16) - 5):
        path.write_bytes(foreign_malloc(64, "<", symbol_type=1))
        with path.open("r+b") as stream:
            stream.truncate(max(at, 1 << 17) + 100)
            if at < 1 << 20:
                stream.write(foreign_malloc(64, "<", symbol_type=1).ljust(1 << 17, b"x"))
            stream.seek(at)
            stream.write(b"<jemalloc>: no")
        one = carried.look(str(path))
        assert one is not None
        assert [family for family, _ in one.families] == ["jemalloc"], at


def test_the_c_library_and_its_linker_carry_nothing_that_matters(image: Path) -> None:
    (image / "lib").mkdir()
    for path in ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"):
        shutil.copy(path, image / "lib")
    assert rows(image) == {}
    source = 'const char i[] __attribute__((section(".interp"))) = "/lib64/ld-linux-x86-64.so.2";'
    own = built(image / "lib/libstarts.so", source + MALLOC.format(""), "-shared", "-fPIC", "-Wl,-soname,libstarts.so")
    assert elf.read(own).interpreter
    assert rows(image)["/lib/libstarts.so"].state == "library"  # as libc.so.6 one can start it; it is a library


def test_a_symbol_table_that_is_no_longer_whole_is_no_reason_to_stop(tmp_path: Path) -> None:
    data = foreign_malloc(64, ">")
    for length in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        try:
            one = carried.look(str(tmp_path / "cut"))
        except carried.ElfError:
            continue
        assert one is None or one.local == ()


def test_hostile_files_are_told_and_stop_nothing(image: Path) -> None:
    good = built(image / "opt/own", MALLOC.format("") + MAIN, "-rdynamic")
    data = good.read_bytes()
    (image / "opt/cut").write_bytes(data[:200])
    (image / "opt/head").write_bytes(b"\x7fELF")
    (image / "opt/huge").write_bytes(b"\x7fELF" + b"\2\1\1" + bytes(9) + b"\2\0")
    os.truncate(image / "opt/huge", 1 << 40)  # a hole of a terabyte
    (image / "opt/text").write_text("no program")
    os.mkfifo(image / "opt/fifo")
    (image / "opt/loop").symlink_to("loop")
    (image / "opt/up").symlink_to("..")
    (image / "opt/lost").symlink_to("nowhere")
    (image / "opt/out").symlink_to("/etc/../../../usr/bin/python3")  # stays inside
    odd = image / "opt" / os.fsdecode(b"a\n\x1b[31m\xff")
    shutil.copy(good, odd)
    found = scan.scan(Root(str(image)), ("/opt",), ())
    assert {row.path for row in found.rows} >= {"/opt/own", f"/opt/{odd.name}"}
    assert {(one.path, one.kind) for one in found.problems} >= {
        ("/opt/cut", "damaged"), ("/opt/head", "damaged"), ("/opt/loop", "link")}  # fmt: skip
    assert found.special == 1
    assert not found.incomplete


def test_what_goes_between_listing_and_reading_is_vanished(image: Path) -> None:
    found, problems = scan_files.look({"/a": str(image / "gone")})
    assert (found, [one.kind for one in problems]) == ({}, ["vanished"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_what_may_not_be_read_makes_the_scan_incomplete(image: Path) -> None:
    built(image / "opt/own", MALLOC.format("") + MAIN, "-rdynamic").chmod(0o111)
    (image / "opt/closed").mkdir(mode=0o700)
    for directory in (image, *list(image.parents)[:4]):
        if directory.stat().st_uid == os.geteuid():
            directory.chmod(directory.stat().st_mode | 0o055)
    assert not scan.scan(Root(str(image)), ("/opt",), ()).incomplete  # as root, who may read the modules, too
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.setuid(65534)
            found = scan.scan(Root(str(image)), ("/opt",), ())
            denied = {one.path for one in found.problems if one.kind == "denied"}
            os._exit(0 if denied == {"/opt/own", "/opt/closed"} and found.incomplete else 1)
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


# ---- Workers


def _deadly(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 2


def test_a_worker_that_dies_costs_only_what_it_was_at() -> None:
    things = list(range(3 * workers.BATCH))
    found = dict(workers.each(_deadly, things, 2))
    assert isinstance(found.pop(5), workers.Lost)
    assert found == {number: number * 2 for number in things if number != 5}


def children(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_closing_early_leaves_no_worker() -> None:
    before = children(os.getpid())
    results = workers.each(_deadly, list(range(10, 1000)), 3)
    next(results)
    assert len(children(os.getpid()) - before) == 3
    results.close()
    assert children(os.getpid()) == before


SLOW = """
import sys, time
from memproxy_sol import signals, workers
def slow(number):
    time.sleep(0.01)
with signals.caught():
    for _ in workers.each(slow, list(range(1000000)), 3):
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_no_worker(number: int) -> None:
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], stderr=subprocess.DEVNULL, start_new_session=True, pass_fds=[theirs]
    )
    os.close(theirs)
    try:
        while len(workers_of(process.pid)) < 3:
            assert process.poll() is None
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        process.wait()
        # The other end is open in whoever of them lives.
        assert select.select([ours], [], [], 60)[0], "a worker lives on"
        assert os.read(ours, 1) == b""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)


def workers_of(pid: int) -> set[int]:
    """The children that have settled their signals: SIGINT is ignored."""
    found = set()
    for child in children(pid):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{child}/status").read_text()
            ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
            if ignored >> (signal.SIGINT - 1) & 1:
                found.add(child)
    return found


# ---- Live processes


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment}
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.read(1) == b"!"  # it is past its start, with all that it maps
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


WAITS = """
#include <stdlib.h>
#include <unistd.h>
#include <dlfcn.h>
int main(int count, char **words) {
    char c;
    if (count > 1 && !dlopen(words[1], RTLD_NOW)) return 1;
    return write(1, "!", 1) != 1 || read(0, &c, 1) < 0;
}
"""


def test_a_library_that_a_process_has_opened_is_seen(tmp_path: Path, started: Any) -> None:
    program = built(tmp_path / "opens", WAITS, "-ldl")
    library = os.path.realpath(allocator("jemalloc", 64))
    built(tmp_path / "libown.so", MALLOC.format(""), "-shared", "-fPIC")
    process = started(str(program), str(tmp_path / "libown.so"))
    preloaded = started(str(shutil.copy(program, tmp_path / "preloaded")), LD_PRELOAD=library)
    running = scan_running.read()
    assert running.programs[str(program)] == [process.pid]
    assert running.programs[str(tmp_path / "preloaded")] == [preloaded.pid]
    found = {row.path: row for row in scan.scan(Root("/"), (), (), running=running).rows}
    assert found[str(program)].evidence == (
        f"a process of it has mapped {tmp_path}/libown.so, which exports malloc and free",
    )
    assert found[str(program)].processes == (process.pid,)
    assert str(tmp_path / "preloaded") not in found  # the preload was nobody's choice who wrote the program


def test_a_program_that_was_replaced_is_read_all_the_same(tmp_path: Path, started: Any) -> None:
    source = MALLOC.format("") + WAITS.replace("#include <stdlib.h>", "")
    program = built(tmp_path / "own", source, "-rdynamic", "-ldl")
    process = started(str(program))
    program.unlink()
    running = scan_running.read()
    found = {row.path: row for row in scan.scan(Root("/"), (), (), running=running).rows}
    assert found[str(program)].processes == (process.pid,)
    assert found[str(program)].state == "proposed"


def test_the_risk_of_dlopen_is_told_as_far_as_it_is_known(image: Path) -> None:
    built(image / "usr/bin/opens", WAITS, "-ldl")
    built(image / "usr/bin/deep", WAITS.replace("char c;", 'char c; puts("NO_DEEPBIND");').replace(
        "#include <stdlib.h>", "#include <stdio.h>"), "-ldl")  # fmt: skip
    source = "#define _GNU_SOURCE\n" + WAITS.replace("dlopen(", "dlmopen(LM_ID_NEWLM, ")
    built(image / "usr/bin/apart", source, "-ldl")
    found = scan.scan(Root(str(image)), ("/usr/bin",), ())
    assert found.opening == ("/usr/bin/apart", "/usr/bin/deep", "/usr/bin/opens")
    assert {risk.path: risk.text.split()[1] for risk in found.risks} == {
        "/usr/bin/apart": "dlmopen:", "/usr/bin/deep": "dlopen"}  # fmt: skip


# ---- The command


def test_proposals_are_added_once(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built(image / "opt/a [b]", MALLOC.format("") + MAIN, "-rdynamic")
    built(image / "opt/plain", PLAIN)
    arguments = ["exclude", "scan", "--root", str(image), "/opt"]
    assert main(arguments) == 3
    out = capsys.readouterr().out
    assert "/opt/a [b]\ta malloc of its own\texports malloc and free\t/opt/a [[]b]\n" in out
    assert "1 line proposed for /etc/memproxy.conf; --add writes them there" in out
    assert not (image / "etc/memproxy.conf").exists()
    assert main([*arguments, "--add"]) == 0
    assert "added line 20: /opt/a [[]b]" in capsys.readouterr().out
    data = (image / "etc/memproxy.conf").read_bytes()
    assert data == exclusions.TEMPLATE + b"/opt/a [[]b]\n"
    assert main([*arguments, "--add", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["added"] == []
    assert [(row["state"], row["line"]) for row in value["programs"]] == [("listed", 20)]
    assert (image / "etc/memproxy.conf").read_bytes() == data


def test_what_cannot_be_scanned_is_an_error(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exclude", "scan", "--root", str(image), "/none"]) == 1
    assert "/none: no such file or directory" in capsys.readouterr().err
    os.mkfifo(image / "fifo")
    assert main(["exclude", "scan", "--root", str(image), "/fifo"]) == 1
    assert "is a FIFO, not a directory or a program" in capsys.readouterr().err
    assert main(["exclude", "scan", "--root", str(image), "--running"]) == 2
    assert main(["exclude", "scan", "--root", str(image), "opt"]) == 2


def test_progress_is_drawn_on_a_terminal_and_nowhere_else(image: Path) -> None:
    built(image / "opt/own", PLAIN)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "memproxy_sol", "exclude", "scan", "--root", str(image), "/opt"]
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, check=True)
    os.set_blocking(ours, False)
    assert b"looked at" in os.read(ours, 1 << 16)
    assert b"1 files looked at, 1 programs" in done.stdout
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    os.close(ours)
    os.close(theirs)


def test_processes_of_solaris_are_read_by_their_links(tmp_path: Path) -> None:
    place = tmp_path / "proc/7"
    for directory in ("object", "path"):
        (place / directory).mkdir(parents=True)
    for name, target in (("a.out", "/opt/own"), ("ufs.1.2.3", "/opt/libown.so"), ("4", "/var/log/open")):
        (place / "path" / name).symlink_to(target)
    for name in ("a.out", "ufs.1.2.3", "ufs.4.5.6"):  # the last has no name any more
        (place / "object" / name).touch()
    (tmp_path / "proc/8").mkdir()  # it has ended
    running = scan_running.read(str(tmp_path / "proc"), "SunOS")
    assert running.programs == {"/opt/own": [7]}
    assert running.mapped == {"/opt/own": {"/opt/libown.so"}}
    assert running.unreadable == 0

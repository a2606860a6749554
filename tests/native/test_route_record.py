"""What a tool outside reads of libmemproxy in live processes and cores of both ABIs, sound and hostile ones."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from proxied import NATIVE, Installed, allocators, both_abis, clean_environment, must

from memproxy_sol import route_record
from memproxy_sol.errors import ProcessDeniedError, ProcessGoneError, RouteRecordError
from memproxy_sol.route_record import RouteRecord
from tests import needs

Library = Callable[..., Installed]
Compile = Callable[..., Path]


@contextmanager
def running(
    command: Sequence[object], preload: Sequence[object] = (), environment: Mapping[str, str] | None = None, **more: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said that it waits; it ends with the block."""
    variables = {**clean_environment(), **(environment or {})}
    if preload:
        variables["LD_PRELOAD"] = ":".join(map(str, preload))
    with subprocess.Popen(
        list(map(str, command)), env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.read(1) == b"+"
            yield process
        finally:
            process.kill()


@pytest.fixture
def waits(compile: Compile) -> Callable[[int], Path]:
    return lambda bits: compile("waits.c", bits)


# ---- Live processes.


@both_abis
def test_unlisted(library: Library, waits: Callable[[int], Path], bits: int) -> None:
    allocator = allocators(bits)["jemalloc"]
    with running([waits(bits)], [library(bits).path, allocator]) as process:
        record = route_record.of_process(process.pid)
    assert record == RouteRecord(1, "ready", "custom", "default", 0, str(allocator))


@both_abis
def test_listed(library: Library, waits: Callable[[int], Path], bits: int) -> None:
    proxy = library(bits)
    proxy.exclude("# a comment", "other", "waits")
    with running([waits(bits)], [proxy.path, allocators(bits)["jemalloc"]]) as process:
        record = route_record.of_process(process.pid)
    assert record is not None
    assert (record.state, record.route, record.reason, record.line) == ("ready", "system", "list", 3)
    assert record.allocator.endswith("/libc.so.6")


@both_abis
def test_by_environment(library: Library, waits: Callable[[int], Path], bits: int) -> None:
    proxy = library(bits)
    variables = {"MEMPROXY_ROUTE": "system"}
    with running([waits(bits)], [proxy.path, allocators(bits)["mimalloc"]], variables) as process:
        record = route_record.of_process(process.pid)
    assert record is not None
    assert (record.route, record.reason, record.line) == ("system", "environment", 0)


@both_abis
def test_no_allocator(library: Library, waits: Callable[[int], Path], bits: int) -> None:
    with running([waits(bits)], [library(bits).path]) as process:
        record = route_record.of_process(process.pid)
    assert record is not None
    assert (record.route, record.reason) == ("system", "no-allocator")


@both_abis
def test_program_with_its_own_malloc(library: Library, compile: Compile, bits: int) -> None:
    program = compile("waits.c", bits, "-DOWN_MALLOC")
    with running([program], [library(bits).path, allocators(bits)["jemalloc"]]) as process:
        record = route_record.of_process(process.pid)
    assert record is not None
    assert (record.route, record.reason, record.allocator) == ("system", "not-owner", str(program))


@both_abis
def test_nobody_has_asked_for_memory_yet(
    library: Library, compile: Compile, waits: Callable[[int], Path], bits: int
) -> None:
    early = compile("waits.c", bits, "-DEARLY", "-shared")
    with running([waits(bits)], [library(bits).path, early]) as process:
        record = route_record.of_process(process.pid)
    assert record == RouteRecord(1, "start", None, "undecided", 0, "")


@both_abis
def test_a_second_copy_is_not_the_one_that_serves(
    library: Library, waits: Callable[[int], Path], tmp_path: Path, bits: int
) -> None:
    (tmp_path / "own").mkdir()
    own, other = library(bits, tmp_path / "own"), library(bits)
    allocator = allocators(bits)["jemalloc"]
    for preload in ([own.path, other.path, allocator], [other.path, own.path, allocator]):
        with running([waits(bits)], preload) as process:
            record = route_record.of_process(process.pid)
        assert record == RouteRecord(1, "ready", "custom", "default", 0, str(allocator))


@both_abis
@pytest.mark.parametrize("fate", ["removed", "replaced"])
def test_the_file_of_the_library_is_gone(library: Library, waits: Callable[[int], Path], bits: int, fate: str) -> None:
    proxy = library(bits)
    with running([waits(bits)], [proxy.path]) as process:
        if fate == "removed":
            proxy.path.unlink()
        else:
            other = proxy.path.with_name("other")
            other.write_bytes(b"something else")
            other.rename(proxy.path)
        record = route_record.of_process(process.pid)
    assert record is not None
    assert record.reason == "no-allocator"


@both_abis
def test_the_process_is_not_disturbed(library: Library, waits: Callable[[int], Path], bits: int) -> None:
    with running([waits(bits)], [library(bits).path]) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert route_record.of_process(process.pid) is not None
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^State:\tT", status, re.M)
        assert re.search(r"^TracerPid:\t0$", status, re.M)


def test_a_process_without_the_library(waits: Callable[[int], Path]) -> None:
    with running([waits(64)]) as process:
        assert route_record.of_process(process.pid) is None


def test_a_zombie_has_none(library: Library, waits: Callable[[int], Path]) -> None:
    with running([waits(64)], [library(64).path]) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert route_record.of_process(process.pid) is None


def test_the_first_thread_has_ended(library: Library) -> None:
    script = (
        "import ctypes, threading, time, os\n"
        "def wait():\n"
        "    while open(f'/proc/{os.getpid()}/maps').read(1): pass\n"
        "    os.write(1, b'+'); os.read(0, 1)\n"
        "threading.Thread(target=wait).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"
    )
    with running([sys.executable, "-c", script], [library(64).path]) as process:
        record = route_record.of_process(process.pid)
    assert record is not None
    assert record.state == "ready"


def test_a_kernel_thread_has_none() -> None:
    threads = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_kernel_thread(pid)]
    if not threads:
        pytest.skip("no kernel thread is seen from this container")
    try:
        assert route_record.of_process(threads[0]) is None
    except ProcessDeniedError:
        assert os.geteuid() != 0


def _is_kernel_thread(pid: int) -> bool:
    try:
        return bool(int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[6]) & 0x200000)  # PF_KTHREAD
    except OSError:
        return False


def test_no_such_process() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(ProcessGoneError) as error:
        route_record.of_process(process.pid)
    assert str(error.value) == f"process {process.pid}: there is no such process"


def test_a_process_that_calls_exec_and_ends_all_the_time(library: Library) -> None:
    """Whatever instant it is caught in: its record, none yet, or that it is gone. It ends when its record was seen."""
    proxy = library(64)
    variables = {**clean_environment(), "LD_PRELOAD": str(proxy.path)}
    seen = set()
    for _ in range(30):
        with (
            subprocess.Popen(["sh", "-c", "exec sh -c 'exec cat'"], env=variables, stdin=subprocess.PIPE) as process,
            contextlib.suppress(BrokenPipeError),
        ):
            while process.poll() is None:
                try:
                    record = route_record.of_process(process.pid)
                    seen.add("none" if record is None else record.state)
                except ProcessGoneError:
                    seen.add("gone")
                if "ready" in seen and process.stdin is not None:
                    process.stdin.close()
    assert "ready" in seen
    assert seen <= {"none", "start", "resolving", "ready", "gone"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_process(library: Library, waits: Callable[[int], Path]) -> None:
    with running([waits(64)], [library(64).path]) as process:
        child = os.fork()
        if child == 0:
            status = 3
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                route_record.of_process(process.pid)
            except ProcessDeniedError as error:
                status = 0 if str(error).endswith("may not be read by this user; try as root") else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a mount namespace")
def test_another_mount_namespace(library: Library, waits: Callable[[int], Path], tmp_path: Path) -> None:
    proxy = library(64)
    script = f"mount -t tmpfs none {proxy.path.parent} && exec {waits(64)}"
    moved = tmp_path / "libmemproxy.so"
    shutil.copy(proxy.path, moved)
    with running(["unshare", "-m", "sh", "-c", script], [moved]) as process:
        record = route_record.of_process(process.pid)
    assert record is not None
    assert record.state == "ready"


# ---- Hostile memory.

LIAR = """
import mmap, os, sys
content = {content}
with open(sys.argv[1] + "/libmemproxy.so", "w+b") as file:
    file.truncate({size})
    protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    maps = [mmap.mmap(file.fileno(), {size}, mmap.MAP_PRIVATE, protection) for _ in range({count})]
    for one in maps:
        one[:len(content)] = content
    {then}
os.write(1, b"+")
os.read(0, 1)
"""
GOOD = struct.pack("<8s6I", b"memproxy", 1, 1056, 2, 1, 1, 7)


@pytest.mark.parametrize(
    ("content", "size", "count", "then"),
    [
        ("b'memproxy' * 131072", 1 << 20, 200, "pass"),
        (b"\0" * 100, 1 << 30, 1, "pass"),
        (b"memproxy" + b"\xff" * 2000, 4096, 1, "pass"),
        (b"memproxy" + struct.pack("<II", 0, 1056), 4096, 1, "pass"),
        (b"memproxy" + struct.pack("<II", 1, 1055), 4096, 1, "pass"),
        (b"\0" + GOOD, 4096, 1, "pass"),
        (b"\0" * 3072 + GOOD, 4096, 1, "pass"),
        (GOOD, 1 << 16, 1, "file.truncate(0)"),
    ],
    ids=["magic everywhere", "huge", "numbers", "version 0", "short", "not aligned", "at the end", "no memory behind"],
)
def test_a_process_that_lies(tmp_path: Path, content: bytes | str, size: int, count: int, then: str) -> None:
    script = LIAR.format(content=content, size=size, count=count, then=then)
    sentence = "has libmemproxy.so, but no record in its writable memory"
    with running([sys.executable, "-c", script, tmp_path]) as process, pytest.raises(RouteRecordError, match=sentence):
        route_record.of_process(process.pid)


def test_a_later_version_and_unknown_numbers(tmp_path: Path) -> None:
    content = struct.pack("<8s6I", b"memproxy", 9, 2000, 2, 5, 77, 4000000000) + b"/x\xff" * 400
    script = LIAR.format(content=content, size=4096, count=1, then="pass")
    with running([sys.executable, "-c", script, tmp_path]) as process:
        record = route_record.of_process(process.pid)
    path = (b"/x\xff" * 400)[:1024].decode("utf-8", "surrogateescape")
    assert record == RouteRecord(9, "ready", "5", "77", 4000000000, path)


def test_a_process_that_has_mapped_the_file_only_to_read_it(library: Library) -> None:
    script = (
        "import mmap, os, sys\n"
        "file = open(sys.argv[1], 'rb')\n"
        "data = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)\n"
        "os.write(1, b'+'); os.read(0, 1)\n"
    )
    with running([sys.executable, "-c", script, library(64).path]) as process:
        assert route_record.of_process(process.pid) is None


# ---- Cores.


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """`dump(pid)`: a core of a live process by gdb's gcore."""
    if shutil.which("gcore") is None:
        needs.missing("gcore", "gdb")
    place = tmp_path_factory.mktemp("cores")

    def make(pid: int) -> Path:
        must(["gcore", "-o", place / "core", pid], env=clean_environment())
        return place / f"core.{pid}"

    return make


@both_abis
def test_a_core_by_gcore(
    library: Library, waits: Callable[[int], Path], dump: Callable[[int], Path], bits: int
) -> None:
    proxy = library(bits)
    proxy.exclude("x", "waits = custom")
    allocator = allocators(bits)["jemalloc"]
    with running([waits(bits)], [proxy.path, allocator]) as process:
        core = dump(process.pid)
    assert route_record.of_core(core) == RouteRecord(1, "ready", "custom", "list", 2, str(allocator))


def test_a_core_of_a_process_without_the_library(waits: Callable[[int], Path], dump: Callable[[int], Path]) -> None:
    with running([waits(64)]) as process:
        core = dump(process.pid)
    assert route_record.of_core(core) is None


@both_abis
def test_a_core_by_the_kernel(library: Library, waits: Callable[[int], Path], tmp_path: Path, bits: int) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern != "core":
        pytest.skip(f"the kernel of this machine writes cores elsewhere ({pattern})")
    place = tmp_path / "place"
    place.mkdir()

    def unlimited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY and os.geteuid() != 0:
        pytest.skip("cores are limited here")
    with running([waits(bits)], [library(bits).path], cwd=place, preexec_fn=unlimited) as process:
        process.send_signal(signal.SIGABRT)
        assert process.wait() == -signal.SIGABRT
    (core,) = place.iterdir()
    record = route_record.of_core(core)
    assert record is not None
    assert (record.state, record.route, record.reason) == ("ready", "system", "no-allocator")


@pytest.fixture(scope="module")
def sound() -> bytes:
    """A small core as the kernel writes one, made here to be damaged: 32 bit, a note and one segment with a record."""
    return made_core()


def made_core(wide: bool = False, order: str = "<", note: bool = True, copies: int = 1) -> bytes:
    word = "Q" if wide else "I"
    names = b"/usr/lib/libmemproxy.so\0"
    files = struct.pack(order + word * 5, 1, 1, 0x1000, 0x3000, 0) + names
    notes = struct.pack(order + "III", 5, len(files), 0x46494C45) + b"CORE\0\0\0\0" + files
    records = [struct.pack(order + "8s6I", b"memproxy", 1, 1056, 2, copy, 1, 3) for copy in range(copies)]
    memory = b"".join(b"\0" * 32 + record + b"/a\0" + b"\0" * 1021 for record in records)
    head_size, entry = (64, 56) if wide else (52, 32)
    at = head_size + 2 * entry
    layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    head = bytes([*b"\x7fELF", 2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    head += struct.pack(layout, 4, 3, 1, 0, head_size, 0, 0, head_size, entry, 2, 0, 0, 0)

    def segment(kind: int, flags: int, offset: int, address: int, size: int) -> bytes:
        if wide:
            return struct.pack(order + "IIQQQQQQ", kind, flags, offset, address, 0, size, size, 1)
        return struct.pack(order + "IIIIIIII", kind, offset, address, 0, size, size, flags, 1)

    table = segment(4 if note else 0, 4, at, 0, len(notes)) + segment(1, 6, at + len(notes), 0x2000, len(memory))
    return head + table + notes + memory


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("note", [True, False])
def test_a_core_of_either_class_and_byte_order(tmp_path: Path, wide: bool, order: str, note: bool) -> None:
    """Without the note too, as Solaris writes cores."""
    path = tmp_path / "core"
    path.write_bytes(made_core(wide, order, note))
    assert route_record.of_core(path) == RouteRecord(1, "ready", "system", "default", 3, "/a")


def test_a_core_that_does_not_say_which_of_two_records_counts(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(made_core(note=False, copies=2))
    with pytest.raises(RouteRecordError, match="more than one record"):
        route_record.of_core(path)


def test_a_core_cut_off_anywhere_is_never_misread(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "core"
    for size in range(len(sound)):
        path.write_bytes(sound[:size])
        with pytest.raises(RouteRecordError):
            route_record.of_core(path)


def test_a_core_with_any_byte_damaged_ends_in_a_record_or_an_error(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "core"
    errors = 0
    for at in range(len(sound) - 1000):
        for value in (0, 0x7F, 0xFF):
            path.write_bytes(sound[:at] + bytes([value]) + sound[at + 1 :])
            try:
                route_record.of_core(path)
            except RouteRecordError:
                errors += 1
    assert errors > 100


def test_a_core_that_would_take_for_ever(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "core"
    with path.open("wb") as stream:
        stream.write(sound)
        stream.truncate(1 << 40)  # sparse
    wild = bytearray(sound)
    struct.pack_into("<I", wild, 52 + 32 + 16, 0xFFFFFFFF)  # the segment
    with path.open("r+b") as stream:
        stream.write(wild)
    record = route_record.of_core(path)  # of a segment of the library no more is read than the library may have
    assert record is not None
    assert record.line == 3
    struct.pack_into("<I", wild, 52, 0)  # no note: all segments are searched
    struct.pack_into("<I", wild, 52 + 32 + 4, len(sound))
    struct.pack_into("<H", wild, 44, 65)
    table = wild[52 + 32 : 52 + 64]
    with path.open("r+b") as stream:
        stream.truncate(1 << 24)
        stream.write(wild[:52] + bytes(table) * 65)
    with pytest.raises(RouteRecordError, match="overlap"):
        route_record.of_core(path)


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "device", "empty", "text", "library"])
def test_what_is_no_core(tmp_path: Path, built: dict[int, Path], kind: str) -> None:
    path = tmp_path / "core"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind in ("empty", "text"):
        path.write_bytes(b"" if kind == "empty" else b"no core " * 100)
    elif kind == "library":
        path = built[64]
    with pytest.raises(RouteRecordError) as error:
        route_record.of_core(path)
    assert error.value.where == str(path)


# ---- The words.


def test_the_words_and_the_layout_are_those_of_the_header() -> None:
    header = (NATIVE / "memproxy.h").read_text()
    for prefix, words in (
        ("STATE", route_record.STATES),
        ("ROUTE", route_record.ROUTES),
        ("REASON", route_record.REASONS),
    ):
        numbers = re.findall(rf"MEMPROXY_{prefix}_(\w+) = (\d+)", header)
        assert {int(number): name.lower().replace("_", "-") for name, number in numbers} == dict(enumerate(words))
    fields = re.search(r"struct memproxy_record \{(.*?)\n\};", header, re.S)
    assert fields is not None
    assert re.findall(r"(\w+)[\[;]", re.sub(r"\[.*?\]|/\*.*?\*/", "", fields[1])) == [
        "magic", "version", "size", "state", "route", "reason", "line", "allocator",
    ]  # fmt: skip
    assert "MEMPROXY_RECORD_PATH 1024" in header

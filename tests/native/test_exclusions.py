"""The exclusion list reader inside every process, in both ABIs, against the table of cases and the Python reader."""

from __future__ import annotations

import fcntl
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import exclusion_fuzz
import pytest
import tomli
from exclusion_reader import NATIVE, TABLE, ask_all, compile_driver, expected

from memproxy_sol import exclusions

CASES = tomli.loads(TABLE.read_text(encoding="utf-8"))["case"]
RANDOM_LISTS = 2500
"""Per ABI, with eight names each; `make fuzz` tries more."""
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-pedantic", "-std=c++11"]


@pytest.fixture(scope="module")
def workshop() -> Iterator[Path]:
    """A directory that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module", params=[32, 64], ids=["32-bit", "64-bit"])
def bits(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def driver(workshop: Path, bits: int) -> Path:
    flags = ["-fsanitize=undefined,bounds-strict", "-fno-sanitize-recover"]
    return compile_driver(workshop / f"driver{bits}", bits, *flags)


@pytest.fixture(scope="module")
def plain_driver(workshop: Path, bits: int) -> Path:
    return compile_driver(workshop / f"plain{bits}", bits)


def ask(driver: Path, path: str | Path, name: str | bytes, **options: object) -> str:
    done = subprocess.run([driver, path, name], stdout=subprocess.PIPE, timeout=20, **options)  # type: ignore[call-overload]
    assert done.returncode == 0
    return done.stdout.decode().strip()


# ---- What it answers.


def test_every_case_of_the_table(driver: Path, tmp_path: Path) -> None:
    questions = []
    wanted = []
    for case in CASES:
        encoding = case.get("encoding", "utf-8")
        questions.append((case["list"].encode(encoding), [name.encode(encoding) for name in case["decides"]]))
        wanted += [(case["situation"], name, answer) for name, answer in case["decides"].items()]
    answers = ask_all(driver, tmp_path, questions)
    wrong = [(*want, got) for want, got in zip(wanted, answers) if want[2] != got]
    assert len(answers) == len(wanted) > 250
    assert not wrong


def test_agrees_with_the_python_reader_on_random_lists(driver: Path, tmp_path: Path, bits: int) -> None:
    rng = random.Random(bits)
    questions = list(exclusion_fuzz.random_questions(rng, exclusion_fuzz.seeds(), RANDOM_LISTS))
    wrong, matched = exclusion_fuzz.differences(driver, tmp_path, questions)
    assert not wrong
    assert matched > RANDOM_LISTS  # else the lists and names have nothing to do with each other


def test_agrees_with_the_python_reader_on_what_fuzzing_found(driver: Path, tmp_path: Path) -> None:
    questions = exclusion_fuzz.seeds()
    assert len(questions) > 300
    assert exclusion_fuzz.differences(driver, tmp_path, questions)[0] == []


def test_the_python_reader_agrees_with_fnmatch() -> None:
    wrong, compared, matched = exclusion_fuzz.fnmatch_differences(random.Random(1), 20_000)
    assert not wrong
    assert compared > 10_000
    assert matched > 2_000


@pytest.mark.parametrize("target", ["engine", "file", "faults"])
def test_a_fuzz_target_accepts_the_table_and_its_corpus(workshop: Path, bits: int, target: str) -> None:
    """With ASan and UBSan; `make fuzz` looks for more."""
    program = workshop / f"replay-{target}{bits}"
    sources = [NATIVE / f"fuzz/exclusions_{target}.cc", NATIVE / "fuzz/replay.cc"]
    sanitizers = ["-fsanitize=address,undefined,bounds-strict", "-fno-sanitize-recover"]
    subprocess.run(["g++", f"-m{bits}", "-O1", "-g", "-std=c++17", *sanitizers, *sources, "-o", program], check=True)
    inputs = exclusion_fuzz.inputs()
    packed = workshop / "inputs"
    packed.write_text(exclusion_fuzz.packed(inputs))
    done = subprocess.run([program, packed], stdout=subprocess.PIPE, timeout=120)
    assert done.returncode == 0
    assert done.stdout == b"%d inputs\n" % len(inputs)
    assert len(inputs) > 800


@pytest.mark.parametrize("length", [4094, 4095, 4096, 4097, 8191, 8192, 8193, 1_000_003])
def test_lines_longer_than_any_buffer(driver: Path, tmp_path: Path, length: int) -> None:
    stars = b"*" * length
    blanks = b" " * length
    lists = [
        stars + b"foo = custom\n",
        blanks + b"foo" + blanks + b"=" + blanks + b"custom" + blanks + b"\n",
        b"#" + b"x" * length + b"\nfoo = custom\n",
        b"x" * length + b"\nfoo = custom",
        b"[" + b"a" * length + b"f]oo = custom",
        b"foo" + b"x" * length + b"\n" + b"f" * length + b"\nfoo = customary\n*foo" + blanks + b"= custom\r\n",
        b"foo " + b"=" * length + b" custom\nfoo = custom",
    ]
    names = [b"/usr/bin/foo", b"/usr/bin/fooo"]
    answers = ask_all(driver, tmp_path, [(data, names) for data in lists])
    assert answers == [expected(exclusions.parse(data), name, tmp_path) for data in lists for name in names]
    assert answers[::2] == ["custom 1", "custom 1", "custom 2", "custom 2", "custom 1", "custom 4", "custom 2"]


def test_every_position_of_a_line_at_the_end_of_a_buffer(driver: Path, tmp_path: Path) -> None:
    """The bytes of a line, and of a byte order mark, fall on either side of the reader's 4096 bytes."""
    line = b"b[a-c]r x = custom\r\n"
    questions = [
        (b"\xef\xbb\xbf#" + b"x" * (4090 - shift) + b"\n" + line, [b"/usr/bin/bar x", b"/usr/bin/bar"])
        for shift in range(len(line) + 8)
    ]
    assert ask_all(driver, tmp_path, questions) == ["custom 2", "-"] * len(questions)


def test_a_byte_order_mark_counts_at_the_start_of_the_file_only_not_of_a_buffer(driver: Path, tmp_path: Path) -> None:
    data = b"#" * 4095 + b"\n\xef\xbb\xbffoo\n"
    assert ask_all(driver, tmp_path, [(data, [b"/b/foo", b"/b/\xef\xbb\xbffoo"])]) == ["-", "system 2"]


def test_names_as_long_as_the_system_allows(driver: Path, tmp_path: Path) -> None:
    base = b"n" * 255
    path = b"/" + b"/".join([b"d" * 255] * 15) + b"/" + b"e" * 254
    assert len(path) == 4095
    too_long = b"/" + b"x" * 5000 + b"/foo"
    questions = [
        (base + b"\n", [b"/usr/bin/" + base, b"/usr/bin/" + base + b"n", b"/usr/bin/" + base[1:]]),
        (path + b" = custom\n", [path, path[:-1], path + b"e"]),
        (b"/" + b"d" * 255 + b"/*/\n", [path]),
        (b"e" * 254 + b"\n", [path]),
        (b"foo\n/\n", [too_long]),
        (b"/\n", [too_long]),
    ]
    answers = ask_all(driver, tmp_path, questions)
    # Of a name beyond the longest possible path only the last component is known.
    assert answers == ["system 1", "-", "-", "custom 1", "-", "-", "system 1", "system 1", "system 1", "-"]


def test_line_numbers_beyond_16_bits(driver: Path, tmp_path: Path) -> None:
    answers = ask_all(driver, tmp_path, [(b"#\n" * 70_000 + b"foo\n", [b"/x/foo"])])
    assert answers == ["system 70001"]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("app", "system 1"),
        ("./app", "system 1"),
        ("././/app", "system 1"),
        ("../deep/app", "system 1"),
        ("../../top/deep/app", "system 1"),
        ("sub/app", "system 2"),
        ("../other/app", "-"),
        ("../../../../../../../../../../../../../../../bin/app", "custom 3"),
    ],
)
def test_a_relative_name_lies_in_the_working_directory(driver: Path, workshop: Path, name: str, answer: str) -> None:
    top = workshop / "top"
    (top / "deep").mkdir(parents=True, exist_ok=True)
    path = workshop / "relative.conf"
    path.write_text(f"{top}/deep/app\n{top}/deep/sub/\n/bin/app = custom\n")
    assert ask(driver, path, name, cwd=top / "deep") == answer


@pytest.mark.parametrize("name", ["bin/app", "./bin/app", "../bin/app"])
def test_a_relative_name_in_the_root_directory(driver: Path, workshop: Path, name: str) -> None:
    path = workshop / "root.conf"
    path.write_text("/bin/app = custom\n")
    assert ask(driver, path, name, cwd="/") == "custom 1"


def test_a_relative_name_in_a_directory_that_is_gone_has_its_last_component(driver: Path, workshop: Path) -> None:
    gone = workshop / "gone"
    gone.mkdir()
    path = workshop / "gone.conf"
    path.write_text("/\napp = custom\n")
    script = f"cd {gone} && rmdir {gone} && exec {driver} {path} ./app"
    assert subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, timeout=20).stdout == b"custom 2\n"


# ---- What a list may be.


@pytest.mark.parametrize(
    "kind", ["missing", "directory", "fifo", "socket", "dangling", "loop", "below a file", "empty name"]
)
def test_a_list_that_is_no_file_excludes_nothing(driver: Path, workshop: Path, kind: str, bits: int) -> None:
    path = workshop / f"{kind.replace(' ', '-')}{bits}"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "dangling":
        path.symlink_to(workshop / "nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "below a file":
        path.write_text("*\n")
        path = path / "list"
    assert ask(driver, "" if kind == "empty name" else path, "/usr/bin/foo") == "-"


def test_a_fifo_with_a_writer_is_not_read(driver: Path, workshop: Path, bits: int) -> None:
    path = workshop / f"written{bits}"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.write(descriptor, b"*\n")
        assert ask(driver, path, "/usr/bin/foo") == "-"
        assert os.read(descriptor, 10) == b"*\n"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/full", "/dev/random", "/dev/tty"])
def test_a_device_is_not_read(driver: Path, device: str) -> None:
    assert ask(driver, device, "") == "-"


def test_a_link_to_a_list_is_followed(driver: Path, workshop: Path, bits: int) -> None:
    (workshop / "real").write_text("foo\n")
    link = workshop / f"link{bits}"
    link.symlink_to("real")
    assert ask(driver, link, "/usr/bin/foo") == "system 1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_list_that_its_user_may_not_read_excludes_nothing(plain_driver: Path, workshop: Path) -> None:
    path = workshop / "private"
    path.write_text("*\n")
    path.chmod(0o600)
    assert ask(plain_driver, path, "/usr/bin/foo") == "system 1"
    assert ask(plain_driver, path, "/usr/bin/foo", user=65534) == "-"


def test_a_list_that_keeps_growing_is_read_as_far_as_it_was(plain_driver: Path, workshop: Path, bits: int) -> None:
    path = workshop / f"growing{bits}"
    path.write_bytes(b"x\n" * 1000)
    stop = threading.Event()

    def grow() -> None:
        with open(path, "ab") as stream:
            while not stop.is_set() and stream.tell() < 300 << 20:
                stream.write(b"y" * (1 << 20))
                stream.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for _ in range(5):
            assert ask(plain_driver, path, "/usr/bin/foo") == "-"
    finally:
        stop.set()
        writer.join()
        path.unlink()


def test_a_list_that_is_large_and_has_a_hole(plain_driver: Path, workshop: Path, bits: int) -> None:
    """More than 2 GB, which a 32-bit process opens and judges only with the large-file interface."""
    path = workshop / f"large{bits}"
    with open(path, "wb") as stream:
        stream.write(b"foo = custom\n")
        stream.truncate(5 << 30)
    assert ask(plain_driver, path, "/usr/bin/foo") == "custom 1"
    path.unlink()


@pytest.mark.parametrize(("size", "behind"), [(1 << 40, False), (1 << 40, True), (5 << 30, True), (10_000, True)])
def test_holes_cost_nothing_and_lines_behind_them_count(
    plain_driver: Path, workshop: Path, bits: int, size: int, behind: bool
) -> None:
    path = workshop / f"sparse{bits}"
    with open(path, "wb") as stream:
        stream.write(b"bar\nfo")
        stream.truncate(size)
        if behind:
            stream.seek(size)
            stream.write(b"foo\nfoo = custom\n")
        stream.flush()
        if os.lseek(stream.fileno(), 0, os.SEEK_HOLE) >= size:
            path.unlink()
            pytest.skip("this file system does not tell where a file has holes")
    calls = trace(plain_driver, path, "/usr/bin/foo")
    assert len(calls) < 15
    assert "lseek" in calls or "_llseek" in calls
    assert ask(plain_driver, path, "/usr/bin/foo") == ("custom 3" if behind else "-")
    path.unlink()


@pytest.mark.parametrize(
    "path", ["/proc/self/status", "/proc/self/mem", "/proc/self/environ", "/proc/kmsg", "/sys/power/state"]
)
def test_a_file_of_the_kernel_excludes_nothing(plain_driver: Path, path: str) -> None:
    """It has no size, or not the size that it tells."""
    assert ask(plain_driver, path, "Name:") == "-"


def test_a_list_that_another_process_has_leased_is_not_waited_for(
    plain_driver: Path, workshop: Path, bits: int
) -> None:
    path = workshop / f"leased{bits}"
    path.write_bytes(b"*\n")
    with open(path, "r+b") as stream:
        former = signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        try:
            assert ask(plain_driver, path, "/usr/bin/foo") == "-"
        finally:
            fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, former)


def test_a_line_of_a_hundred_megabytes(plain_driver: Path, workshop: Path, bits: int) -> None:
    path = workshop / f"line{bits}"
    with open(path, "wb") as stream:
        stream.write(b"bar ")
        for _ in range(100):
            stream.write(b"x" * 1_000_000)
        stream.write(b"\nfoo = custom\n")
    assert ask(plain_driver, path, "/usr/bin/foo") == "custom 2"
    path.unlink()


# ---- How it behaves in a process.


def trace(driver: Path, path: Path, name: str) -> list[str]:
    """The system calls that the reader made: from the working directory or the opening of the list on to its end."""
    log = path.with_suffix(".trace")
    subprocess.run(["strace", "-o", log, driver, path, name], check=True, stdout=subprocess.DEVNULL, timeout=120)
    calls = [line.split("(")[0] for line in log.read_text().splitlines()]
    text = log.read_text().splitlines()
    first = next(i for i, line in enumerate(text) if "getcwd(" in line or (f'"{path}"' in line and "openat(" in line))
    last = max(i for i, call in enumerate(calls) if call == "close")
    return calls[first : last + 1]


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "last line not ended"])
def test_few_system_calls_for_a_small_list(plain_driver: Path, workshop: Path, bits: int, ended: bool) -> None:
    path = workshop / f"small{bits}.conf"
    path.write_bytes(b"x" * 4000 + (b"\n" if ended else b""))
    stat = "fstat64" if bits == 32 else "fstat"
    reads = ["read"] if ended else ["read", "read"]
    assert trace(plain_driver, path, "/usr/bin/foo") == ["openat", stat, *reads, "close"]
    assert trace(plain_driver, path, "foo") == ["getcwd", "openat", stat, *reads, "close"]
    path.write_bytes(b"foo\n" + b"x" * 4000)
    assert trace(plain_driver, path, "/usr/bin/foo") == ["openat", stat, "read", "close"]


def test_what_is_no_regular_file_is_closed_unread(plain_driver: Path, workshop: Path, bits: int) -> None:
    stat = "fstat64" if bits == 32 else "fstat"
    directory = workshop / f"unread{bits}"
    directory.mkdir()
    assert trace(plain_driver, directory, "/usr/bin/foo") == ["openat", stat, "close"]


def test_no_memory_is_asked_for_whatever_the_list(plain_driver: Path, workshop: Path, bits: int) -> None:
    path = workshop / f"huge{bits}.conf"
    path.write_bytes(
        b"".join(b"name-of-program-%d\n*pattern[%d]*\n" % (i, i) for i in range(50_000)) + b"*" * 1_000_000
    )
    assert set(trace(plain_driver, path, "/usr/bin/foo")) <= {"openat", "fstat", "fstat64", "read", "close"}


def test_descriptors_0_to_2_closed(plain_driver: Path, workshop: Path, bits: int) -> None:
    path, answer = workshop / f"closed{bits}.conf", workshop / f"answer{bits}"
    path.write_text("foo\n")
    script = f"exec {plain_driver} {path} /usr/bin/foo 3>&1 >{answer} <&- 2>&- 3>&-"
    assert subprocess.run(["sh", "-c", script], timeout=20).returncode == 0
    assert answer.read_text() == "system 1\n"
    assert path.read_text() == "foo\n"


def test_no_descriptor_left_to_open_one(workshop: Path, bits: int) -> None:
    path = workshop / f"limit{bits}.conf"
    path.write_text("*\n")
    static = compile_driver(workshop / f"static{bits}", bits, "-static")  # the loader would need a descriptor, too
    for limit, answer in ((4, "system 1"), (3, "-")):
        command = f"ulimit -n {limit}; exec {static} {path} /usr/bin/foo"
        done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, timeout=20)
        assert (done.returncode, done.stdout.decode().strip()) == (0, answer)


def test_a_program_with_functions_of_the_names_of_system_calls(workshop: Path, bits: int) -> None:
    own = compile_driver(workshop / f"own{bits}", bits, "-DOWN_CALLS", "-rdynamic")
    path = workshop / f"own{bits}.conf"
    path.write_text(f"{workshop}/foo\n")
    assert ask(own, path, f"{workshop}/foo") == "system 1"
    assert ask(own, path, "foo", cwd=workshop) == "system 1"


@pytest.mark.parametrize("compiler", ["g++", "clang++-14"])
@pytest.mark.parametrize("optimization", ["-O0", "-Os", "-O2"])
def test_the_object_needs_no_more_than_libc_and_nothing_that_allocates(
    workshop: Path, bits: int, compiler: str, optimization: str
) -> None:
    output = workshop / "exclusions.o"
    flags = [f"-m{bits}", optimization, "-fPIC", "-fno-exceptions", "-fno-rtti", "-ffreestanding", *WARNINGS]
    subprocess.run([compiler, *flags, "-c", NATIVE / "exclusions.cc", "-o", output], check=True)
    symbols = subprocess.run(["nm", "-u", output], check=True, stdout=subprocess.PIPE).stdout.decode().split()
    allowed = {
        "syscall",
        "memchr",
        "memcmp",
        "memcpy",
        "memset",
        "strlen",
        "__errno_location",
        "_GLOBAL_OFFSET_TABLE_",
        "memmove",
    }
    assert set(symbols) - {"U"} <= allowed
    data = subprocess.run(["size", "-A", output], check=True, stdout=subprocess.PIPE).stdout.decode()
    assert not re.search(r"^\.(data|tdata|tbss|init_array)\S*\s+[1-9]", data, re.M)
    # What is read is not on the stack, which may be a signal's.
    assert sum(map(int, re.findall(r"^\.bss\S*\s+(\d+)", data, re.M))) <= 8224


def test_compiled_for_solaris_it_uses_what_solaris_10_has(workshop: Path, bits: int) -> None:
    output = workshop / f"solaris{bits}.o"
    machine = "i386" if bits == 32 else "x86_64"
    include = NATIVE / "sysroot/solaris/include"
    flags = [f"--target={machine}-pc-solaris2.11", "-O2", "-fPIC", "-fno-exceptions", "-fno-rtti", *WARNINGS]
    subprocess.run(
        ["clang++-14", *flags, "-nostdlibinc", "-isystem", include, "-c", NATIVE / "exclusions.cc", "-o", output],
        check=True,
    )
    symbols = set(subprocess.run(["nm", "-u", output], check=True, stdout=subprocess.PIPE).stdout.decode().split())
    large = {"open64", "fstat64", "_GLOBAL_OFFSET_TABLE_"} if bits == 32 else {"open", "fstat"}
    common = {"read", "close", "getcwd", "memchr", "memcmp", "memcpy", "memset", "strlen", "___errno"}
    assert symbols - {"U"} <= large | common
    assert large <= symbols | {"_GLOBAL_OFFSET_TABLE_"}


def test_the_words_for_the_routes_are_those_of_the_python_reader() -> None:
    words = re.search(r"kRouteNames\[\]\[\d+\] = \{([^}]*)\}", (NATIVE / "route_name.h").read_text())
    assert words is not None
    assert tuple(re.findall(r'"(\w+)"', words[1])) == exclusions.ROUTES

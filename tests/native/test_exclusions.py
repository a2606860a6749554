"""The exclusion list reader inside every process, in both ABIs, against the table of cases and the Python reader."""

from __future__ import annotations

import os
import random
import re
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import tomli

from memproxy_sol import exclusions

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
DRIVER = ROOT / "tests/native/programs/exclusions_driver.cc"
CASES = tomli.loads((ROOT / "tests/data/exclusions.toml").read_text(encoding="utf-8"))["case"]
FUZZ_CASES = int(os.environ.get("MEMPROXY_FUZZ_CASES", "6000"))
"""Random lists, eight names each, per ABI."""
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-pedantic", "-std=c++11"]


def compile_driver(output: Path, bits: int, *flags: str) -> Path:
    sources = [NATIVE / "exclusions.cc", DRIVER]
    subprocess.run(
        ["g++", f"-m{bits}", "-O2", "-fno-exceptions", "-fno-rtti", f"-I{NATIVE}", *flags, *sources, "-o", output],
        check=True,
    )
    return output


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
    return compile_driver(workshop / f"driver{bits}", bits, "-fsanitize=undefined", "-fno-sanitize-recover")


@pytest.fixture(scope="module")
def plain_driver(workshop: Path, bits: int) -> Path:
    return compile_driver(workshop / f"plain{bits}", bits)


def ask(driver: Path, path: str | Path, name: str | bytes, **options: object) -> str:
    done = subprocess.run([driver, path, name], stdout=subprocess.PIPE, timeout=20, **options)  # type: ignore[call-overload]
    assert done.returncode == 0
    return done.stdout.decode().strip()


def ask_all(driver: Path, directory: Path, questions: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[str]:
    """The answers for every name of every list, from one process that runs in `directory`."""
    parts = []
    for data, names in questions:
        parts += [struct.pack("<I", len(data)), data, struct.pack("<I", len(names))]
        parts += [struct.pack("<I", len(name)) + name for name in names]
    done = subprocess.run(
        [driver, directory / "list"],
        input=b"".join(parts),
        stdout=subprocess.PIPE,
        cwd=directory,
        timeout=max(300, FUZZ_CASES / 50),
    )
    assert done.returncode == 0
    return done.stdout.decode().splitlines()


def expected(lines: Sequence[exclusions.Line], name: bytes, directory: Path) -> str:
    """The Python reader's answer; a relative name is completed, as the native reader does."""
    executable = exclusions.to_text(name)
    if name and not name.startswith(b"/"):
        executable = os.path.join(str(directory), executable)
    decision = exclusions.decide(lines, executable)
    return "-" if decision.line is None else f"{decision.route} {decision.line.number}"


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


def random_list(rng: random.Random) -> bytes:
    lines = []
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        pieces = rng.choices(
            [
                "a",
                "b",
                "/",
                "*",
                "?",
                "[",
                "]",
                "!",
                "-",
                "=",
                " ",
                " = ",
                "system",
                "custom",
                "\t",
                "\r",
                "#",
                ";",
                "\0",
                "é",
            ],
            [9, 9, 9, 6, 3, 5, 5, 2, 3, 1, 2, 2, 1, 1, 1, 1, 1, 1, 0.3, 1],
            k=rng.choice([1, 2, 3, 4, 6, 9, 14]),
        )
        start = rng.choice(["", "", "/", "/a/", "/b*/", " ", "a"])
        end = rng.choice(["", "", "", "/", " = system", " = custom ", " =", " = a", "\r", "  "])
        lines.append(start + "".join(pieces) + end)
    data = ("\n".join(lines) + rng.choice(["", "\n"])).encode()
    return rng.choice([b"", b"", b"", b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\n"]) + data


def random_name(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.7:  # something that may well match: a piece of the list with its stars filled in
        rows = [row for row in data.split(b"\n") if row and b"\0" not in row]
        text = rng.choice(rows).strip() if rows else b"a"
        text = re.sub(rb"\s+=\s+\w+$", b"", text)
        text = re.sub(rb"\*", rng.choice([b"", b"a", b"b", b"ab"]), text).replace(b"?", b"b")
        text = re.sub(rb"\[!?(.)[^]/]*\]", rb"\1", text)
        text = re.sub(rb"\s+$", b"", text)
        front = rng.choice([b"", b"", b"/a"]) if text.startswith(b"/") else rng.choice([b"", b"/", b"/a/"])
        name = front + text + rng.choice([b"", b"", b"", b"a", b"/a"])
    else:
        name = "".join(rng.choices("aabb//[]!-= é", k=rng.randint(0, 8))).encode()
        name = rng.choice([b"/", b"/", b""]) + name
    return name.replace(b"\0", b"a").replace(b"\n", b"a")


def test_agrees_with_the_python_reader_on_random_lists(driver: Path, tmp_path: Path, bits: int) -> None:
    rng = random.Random(bits)
    questions = []
    for _ in range(FUZZ_CASES):
        data = random_list(rng)
        questions.append((data, [random_name(rng, data) for _ in range(8)]))
    answers = iter(ask_all(driver, tmp_path, questions))
    matched = 0
    for data, names in questions:
        lines = exclusions.parse(data)
        for name in names:
            answer = next(answers)
            matched += answer != "-"
            assert answer == expected(lines, name, tmp_path), (data, name)
    assert matched > FUZZ_CASES  # else the lists and names have nothing to do with each other


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
    common = {"read", "close", "getcwd", "memcmp", "memcpy", "memset", "strlen", "___errno"}
    assert symbols - {"U"} <= large | common
    assert large <= symbols | {"_GLOBAL_OFFSET_TABLE_"}


def test_the_words_for_the_routes_are_those_of_the_python_reader() -> None:
    words = re.search(r"kRouteNames\[\]\[\d+\] = \{([^}]*)\}", (NATIVE / "route_name.h").read_text())
    assert words is not None
    assert tuple(re.findall(r'"(\w+)"', words[1])) == exclusions.ROUTES

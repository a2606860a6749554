"""build.py, its cache and how it runs its tools, with sources that build in a second (see also tests/native)."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memproxy_sol import build, cache, elf, resources, tools
from memproxy_sol.errors import BuildError, UsageError

ROOT = Path(__file__).resolve().parents[2]

CONFIGURE = r"""#!/bin/sh
# What stands in for autoconf's: the same arguments, the same targets.
for argument do
    case $argument in
    CC=* | CFLAGS=*) eval "${argument%%=*}='${argument#*=}'" ;;
    --sysconfdir=*) echo "${argument#*=}" > sysconfdir ;;
    esac
done
env > environment
source=$(dirname "$0")
cat > Makefile <<END
all: libmemproxy.so
libmemproxy.so: $source/memproxy.c
	${CC-cc} $CFLAGS -shared -fPIC -Wl,-soname,libmemproxy.so -o libmemproxy.so $source/memproxy.c
install install-strip: all
	mkdir -p \$(DESTDIR)/usr/local/lib
	cp libmemproxy.so \$(DESTDIR)/usr/local/lib
END
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of sources with a `configure` of its own."""
    directory = tmp_path / "native"
    directory.mkdir()
    (directory / "memproxy.c").write_text("void *malloc(unsigned long n) { return (char *)0 + (n ? 16 : 32); }\n")
    for name in ("configure.ac", "Makefile.am", "Makefile.in"):
        (directory / name).write_text("")
    (directory / "configure").write_text(CONFIGURE)
    monkeypatch.setattr(resources, "native_sources", lambda: directory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return directory


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- build


def test_the_layout_is_that_of_a_generation(sources: Path, tmp_path: Path) -> None:
    made = build.build("native", [64, 32], tmp_path / "out")
    assert made == {32: tmp_path / "out/libmemproxy.so", 64: tmp_path / "out/64/libmemproxy.so"}
    assert {bits: elf.read(path).bits for bits, path in made.items()} == {32: 32, 64: 64}
    assert [path.stat().st_mode & 0o7777 for path in made.values()] == [0o755, 0o755]


def test_the_mode_does_not_depend_on_umask(sources: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        made = build.build("native", [64], tmp_path / "out")
    finally:
        os.umask(before)
    assert made[64].stat().st_mode & 0o7777 == 0o755


def test_one_abi_leaves_the_other_alone(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/libmemproxy.so").write_text("other")
    assert set(build.build("native", [64], tmp_path / "out")) == {64}
    assert (tmp_path / "out/libmemproxy.so").read_text() == "other"


def test_the_sources_are_not_touched(sources: Path, tmp_path: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in sources.rglob("*")}

    before = state()
    build.build("native", [64], tmp_path / "out")
    assert state() == before


def test_the_directory_and_what_was_built_in_it_by_hand_make_no_difference(sources: Path, tmp_path: Path) -> None:
    first = build.build("native", [64], tmp_path / "one")[64]
    subprocess.run(["sh", "./configure"], cwd=sources, check=True)
    (sources / "memproxy.o").write_text("not an object")
    (sources / "config.status").write_text("configured by hand")
    moved = sources.rename(tmp_path / "elsewhere with a blank")
    resources.native_sources = lambda: moved  # type: ignore[assignment]  # undone by the fixture
    second = build.build("native", [64], tmp_path / "two")[64]
    assert digest(first) == digest(second)


@pytest.mark.parametrize(
    ("target", "bits"), [("linux", [64]), ("native", []), ("native", [16]), ("solaris", [32, 128])]
)
def test_what_does_not_exist_is_a_usage_error(sources: Path, tmp_path: Path, target: str, bits: list[int]) -> None:
    with pytest.raises(UsageError):
        build.build(target, bits, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_environment_does_not_get_in(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the caller's reaches configure but what finds programs."""
    for name in (
        "CFLAGS",
        "CXXFLAGS",
        "LDFLAGS",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "MAKEFLAGS",
        "DESTDIR",
        "POSIXLY_CORRECT",
    ):
        monkeypatch.setenv(name, "-sausage")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    text = (sources / "configure").read_text()
    (sources / "configure").write_text(text.replace("> environment", f"> {tmp_path}/environment"))
    build.build("native", [64], tmp_path / "out")
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "environment").read_text().splitlines())
    assert "-sausage" not in seen.values()
    assert seen["LC_ALL"] == "C"
    assert set(seen) <= {*tools.environment(), "CC", "CXX", "PWD", "SHLVL", "OLDPWD", "_"}
    assert "sausage" not in capfd.readouterr().err


def test_a_compiler_can_be_named(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    with pytest.raises(BuildError, match="no-such-compiler"):
        build.build("native", [64], tmp_path / "out")


def test_sources_that_do_not_compile_show_the_log(sources: Path, tmp_path: Path) -> None:
    (sources / "memproxy.c").write_text("int missing_semicolon\n")
    with pytest.raises(BuildError) as caught:
        build.build("native", [64], tmp_path / "out")
    message = str(caught.value)
    assert "make for 64 bit" in message
    assert "missing_semicolon" in message
    log = Path(message.rpartition(" ")[2])
    assert log.is_file()
    assert log.is_relative_to(tmp_path / "cache")
    assert "missing_semicolon" in log.read_text()
    assert not (tmp_path / "out").exists()


def test_a_failing_configure_keeps_its_config_log(sources: Path, tmp_path: Path) -> None:
    (sources / "configure").write_text("#!/bin/sh\necho the reason > config.log\necho failed\nexit 77\n")
    with pytest.raises(BuildError, match=r"exit status 77(?s:.*)\| failed") as caught:
        build.build("native", [64], tmp_path / "out")
    assert "the reason" in Path(str(caught.value).rpartition(" ")[2]).read_text()


def test_a_library_for_another_abi_is_refused(sources: Path, tmp_path: Path) -> None:
    text = (sources / "configure").read_text()
    (sources / "configure").write_text(text.replace("$CFLAGS", "-m64"))
    with pytest.raises(BuildError, match="64-bit library"):
        build.build("native", [32], tmp_path / "out")


def test_an_output_that_cannot_be_written(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BuildError, match=r"out/64/libmemproxy\.so: cannot be written"):
        build.build("native", [64], tmp_path / "out")


@pytest.mark.parametrize(
    ("target", "without", "package"),
    [
        ("solaris", "clang", "clang lld"),
        ("solaris", "ld.lld", "clang lld"),
        ("solaris", "make", "make"),
        ("native", "make", "make"),
        ("native", "ar", "binutils"),
    ],
)
def test_a_missing_tool_is_named_with_its_package(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, without: str, package: str
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("clang", "clang++", "ld.lld", "make", "ar", "sh", "g++", "cc"):
        if name != without:
            (programs / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is missing"))
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(BuildError) as caught:
        build.build(target, [64], tmp_path / "out")
    assert f"apt-get install {package}" in str(caught.value)


def test_without_a_configure_the_tools_that_make_it_are_named(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sources / "configure").unlink()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("make", "ar", "g++"):
        (programs / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is missing"))
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(BuildError, match=r"autoconf is not installed; .* apt-get install autoconf automake libtool"):
        build.build("native", [64], tmp_path / "out")


def test_a_configure_older_than_its_source_is_made_anew(sources: Path, tmp_path: Path) -> None:
    os.utime(sources / "configure", (1, 1))
    with pytest.raises(BuildError, match="autoreconf"):  # the empty configure.ac is no good
        build.build("native", [64], tmp_path / "out")


# -- the cache


def steps_of(bits: list[int], target: str = "native") -> tuple[dict[int, Path], list[str]]:
    steps: list[str] = []
    return build.cached(target, bits, steps.append), steps


def test_built_once(sources: Path) -> None:
    first, steps = steps_of([32, 64])
    assert steps
    assert {bits: elf.read(path).bits for bits, path in first.items()} == {32: 32, 64: 64}
    assert steps_of([32, 64]) == (first, [])
    assert steps_of([64]) == ({64: first[64]}, [])


def test_only_the_missing_abi_is_built(sources: Path) -> None:
    steps_of([64])
    _, steps = steps_of([32, 64])
    assert steps
    assert not [step for step in steps if "64" in step]


def test_changed_sources_are_built_and_the_old_result_stays(sources: Path) -> None:
    old, _ = steps_of([64])
    (sources / "memproxy.c").write_text("void *malloc(unsigned long n) { return 0; }\n")
    new, steps = steps_of([64])
    assert steps
    assert new != old
    assert digest(new[64]) != digest(old[64])


def test_a_new_source_file_counts(sources: Path) -> None:
    old, _ = steps_of([64])
    (sources / "more.h").write_text("")
    assert steps_of([64])[0] != old


def test_what_autoreconf_and_make_leave_does_not_count(sources: Path) -> None:
    old, _ = steps_of([64])
    (sources / "build-aux").mkdir()
    for name in ("Makefile", "memproxy.o", "config.log", "build-aux/missing", "configure~"):
        (sources / name).write_text("left")
    assert steps_of([64]) == (old, [])


def test_another_compiler_counts(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, _ = steps_of([64])
    monkeypatch.setenv("CXX", "clang++")
    assert steps_of([64])[0] != old


@pytest.mark.parametrize("damage", ["changed", "empty", "no library", "no digest", "no directory", "a file"])
def test_a_damaged_entry_is_built_again(sources: Path, damage: str) -> None:
    made, _ = steps_of([64])
    library = made[64]
    if damage == "changed":
        library.write_bytes(library.read_bytes()[:-1] + b"\xff")
    elif damage == "empty":
        library.write_bytes(b"")
    elif damage == "no library":
        library.unlink()
    elif damage == "no digest":
        (library.parent / "sha256").unlink()
    else:
        shutil.rmtree(library.parent)
        if damage == "a file":
            library.parent.write_text("")
    again, steps = steps_of([64])
    assert steps
    assert again == made
    assert elf.read(library).bits == 64


def test_nothing_but_entries_is_left(sources: Path, tmp_path: Path) -> None:
    made, _ = steps_of([64])
    assert list((tmp_path / "cache/memproxy-sol/build").iterdir()) == [made[64].parent]
    (sources / "memproxy.c").write_text("error\n")
    with pytest.raises(BuildError):
        steps_of([64])
    assert list((tmp_path / "cache/memproxy-sol/build").iterdir()) == [made[64].parent]


def test_two_at_once_agree(sources: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from memproxy_sol import build, resources;"
        "resources.native_sources = lambda: Path(sys.argv[1]); print(build.cached('native', [64])[64])"
    )
    command = [sys.executable, "-c", program, str(sources)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(answers) == 1
    assert elf.read(answers.pop()).bits == 64


def test_the_cache_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache.root() == tmp_path / "x/memproxy-sol"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.root() == tmp_path / "home/.cache/memproxy-sol"
    assert (tmp_path / "home/.cache/memproxy-sol").stat().st_mode & 0o777 == 0o700


def test_a_relative_xdg_directory_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.root() == tmp_path / ".cache/memproxy-sol"


def test_a_cache_that_others_can_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "x/memproxy-sol").mkdir(parents=True)
    (tmp_path / "x/memproxy-sol").chmod(0o777)
    assert cache.root() == tmp_path / "home/.cache/memproxy-sol"


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a directory to another user")
def test_the_cache_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo may leave HOME as it was; what that user can write must not be installed."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache.root() == tmp_path / "x/memproxy-sol"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    assert not str(cache.root()).startswith(str(home))
    assert list(home.iterdir()) == []


def test_old_logs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "log").write_text("text")
    kept = [cache.keep_log(tmp_path / "log", "build") for _ in range(30)]
    assert kept[-1].read_text() == "text"
    assert len(list((tmp_path / "memproxy-sol/log").iterdir())) <= 21


# -- how tools are run


def runner(tmp_path: Path) -> tools.Runner:
    return tools.Runner(tmp_path / "log", tools.environment(), tools.silent, "test")


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "sh").write_text(f"sleep 100 & echo $! > {tmp_path}/child; wait\n")
    started = time.monotonic()
    with pytest.raises(BuildError, match=r"sleeping: sh took longer than 0\.5 s"):
        runner(tmp_path).run("sleeping", ["sh", str(tmp_path / "sh")], cwd=tmp_path, seconds=0.5)
    assert time.monotonic() - started < 10
    assert not alive(int((tmp_path / "child").read_text()))


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_command_ended_by_a_signal_says_so(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="was ended by signal 9"):
        runner(tmp_path).run("dying", ["sh", "-c", "kill -9 $$"], cwd=tmp_path, seconds=10)


def test_standard_input_is_empty(tmp_path: Path) -> None:
    runner(tmp_path).run("reading", ["cat"], cwd=tmp_path, seconds=10)


def test_a_library_is_never_half_there(tmp_path: Path) -> None:
    """Who reads the name while it is replaced sees the old bytes or the new ones."""
    old, new, name = tmp_path / "old", tmp_path / "new", tmp_path / "lib/name"
    old.write_bytes(b"o" * 1_000_000)
    new.write_bytes(b"n" * 2_000_000)
    tools.place(old, name)
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(name.read_bytes())

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(20):
        tools.place(new, name)
        tools.place(old, name)
    done.set()
    thread.join()
    assert seen <= {old.read_bytes(), new.read_bytes()}
    assert list(name.parent.iterdir()) == [name]


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_an_interrupted_build_leaves_nothing(sources: Path, tmp_path: Path, number: int) -> None:
    """Ctrl-C in the middle of configure: no scratch directory, no process, no entry, status 130 without a traceback."""
    (sources / "configure").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/configuring\nsleep 100\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    program = (
        "import sys; from pathlib import Path; from memproxy_sol import resources; from memproxy_sol.cli import main;"
        "resources.native_sources = lambda: Path(sys.argv[1]);"
        "sys.exit(main(['build', '--bits', '64', '--output', sys.argv[2]]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(sources), str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run in the background of a shell has SIGINT ignored, which is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "configuring").exists() or not (tmp_path / "configuring").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(scratch.iterdir())
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "out").exists()
    assert not alive(int((tmp_path / "configuring").read_text()))


# -- the command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memproxy_sol", "build", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [("--bits", "16"), ("--bits", ""), ("--bits", "32;64"), ("--target", "linux"), ("--jobs", "0"), ("extra",)],
)
def test_usage_errors_are_one_line(arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_help_teaches() -> None:
    done = command("--help")
    assert done.returncode == 0
    for word in ("--target", "--bits", "--output", "--jobs", "clang", "64/libmemproxy.so"):
        assert word in done.stdout
    assert "%(" not in done.stdout


def test_an_installed_package_needs_no_autotools(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installer writes the files in any order: there a configure older than its source is as good as new."""
    os.utime(sources / "configure", (1, 1))
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path)
    assert build.build("native", [64], tmp_path / "out")[64].is_file()

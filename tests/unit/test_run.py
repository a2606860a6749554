"""`memproxy-sol run`: real commands of both ABIs, and which heap serves each, asked of the heaps themselves."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memproxy_sol import build, elf, resources, runner
from memproxy_sol.cli.run import Run, _separated
from memproxy_sol.errors import CommandLineError
from tests import needs

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="starts Linux processes"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache of our own, in which the libraries are built already."""
    directory = tmp_path_factory.mktemp("cache")
    for library in build.cached("native", (32, 64)).values():
        entry = library.parent
        shutil.copytree(entry, directory / "memproxy-sol" / "build" / entry.name)
    (directory / "memproxy-sol").chmod(0o700)
    return str(directory)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The program that says which heap serves it, by ABI."""
    directory = tmp_path_factory.mktemp("served")
    source = resources.native_sources() / "served.c"
    return {bits: str(needs.compile_program(source, bits, directory / f"served{bits}", "-ldl")) for bits in (32, 64)}


@pytest.fixture
def environ(cache: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEMPROXY", "LD_"))}
    return {**kept, "XDG_CACHE_HOME": cache}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "memproxy_sol", "run", *arguments]


def run(environ: dict[str, str], *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def heap(line: str) -> str:
    """The heap that serves every function of the program that printed `line`."""
    answer = json.loads(line)
    assert set(answer["each"].values()) == {answer["served_by"]}, line
    return str(answer["served_by"])


def answers(output: str) -> dict[int, str]:
    """The heaps that serve, by bits, from the lines of both programs."""
    return {json.loads(line)["bits"]: heap(line) for line in output.splitlines()}


def test_the_probe_tells_heaps_apart_without_the_proxy(served: dict[int, str], environ: dict[str, str]) -> None:
    for bits, program in served.items():
        plain = subprocess.run([program], env=environ, capture_output=True, text=True, check=True)
        assert heap(plain.stdout) == "glibc"
        for family in ("mimalloc", "tcmalloc"):  # jemalloc has no pvalloc, and would be given glibc's block to free
            preload = {**environ, "LD_PRELOAD": needs.allocator(family, bits)}
            assert heap(subprocess.check_output([program], env=preload, text=True)) == family


@pytest.mark.parametrize("family", needs.FAMILIES)
def test_a_64_bit_shell_starts_programs_of_both_abis_on_the_allocator(
    family: str, served: dict[int, str], environ: dict[str, str]
) -> None:
    allocators = [f"--allocator={needs.allocator(family, bits)}" for bits in (32, 64)]
    done = run(environ, *allocators, "--route", "custom", "--", "sh", "-c", f"{served[64]}; {served[32]}")
    assert answers(done.stdout) == {64: family, 32: family}
    assert done.stderr == ""


def test_a_32_bit_program_starts_a_64_bit_one(served: dict[int, str], environ: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "start.c"
    source.write_text("#include <unistd.h>\nint main(int c, char **v) { (void)c; return execv(v[1], v + 1); }\n")
    start = needs.compile_program(source, 32, tmp_path / "start")
    done = run(environ, "--route", "custom", "--", str(start), served[64])
    assert heap(done.stdout) == "jemalloc"


def test_route_system_leaves_every_program_on_libc(served: dict[int, str], environ: dict[str, str]) -> None:
    done = run(environ, "--route", "system", "--", "sh", "-c", f"{served[64]}; {served[32]}")
    assert answers(done.stdout) == {64: "glibc", 32: "glibc"}
    assert '"route": "system"' in done.stdout
    assert done.stderr == ""


def test_without_allocator_the_distributions_jemalloc_is_found(served: dict[int, str], environ: dict[str, str]) -> None:
    for bits in (32, 64):
        needs.allocator("jemalloc", bits)
    done = run(environ, "-v", "--route", "custom", "--", "sh", "-c", f"{served[64]}; {served[32]}")
    assert answers(done.stdout) == {64: "jemalloc", 32: "jemalloc"}
    assert f"64-bit programs: {needs.allocator('jemalloc', 64)}" in done.stderr


def test_each_abi_can_have_its_own_allocator(served: dict[int, str], environ: dict[str, str]) -> None:
    done = run(
        environ, "--allocator", needs.allocator("mimalloc", 32), "--allocator", needs.allocator("tcmalloc", 64),
        "--route", "custom", "sh", "-c", f"{served[64]}; {served[32]}",
    )  # fmt: skip
    assert answers(done.stdout) == {64: "tcmalloc", 32: "mimalloc"}


def test_an_abi_without_allocator_stays_on_libc_and_its_loader_is_silent(
    served: dict[int, str], environ: dict[str, str]
) -> None:
    done = run(
        environ, "--route", "custom", "--allocator", needs.allocator("jemalloc", 64), "--", "sh", "-c",
        f"{served[64]}; {served[32]}",
    )  # fmt: skip
    assert answers(done.stdout) == {64: "jemalloc", 32: "glibc"}
    assert done.stderr == ""


def test_an_abi_that_cannot_be_compiled_runs_without_the_proxy_and_its_loader_is_silent(
    served: dict[int, str], environ: dict[str, str], tmp_path: Path
) -> None:
    # The 64-bit library is there already; nothing more can be built.
    run(environ, "--route", "system", "--", "true")
    for built in Path(environ["XDG_CACHE_HOME"], "memproxy-sol", "build").glob("native-64-*"):
        shutil.copytree(built, tmp_path / "cache" / "memproxy-sol" / "build" / built.name)
    (tmp_path / "cache" / "memproxy-sol").chmod(0o700)
    for tool in ("autoreconf", "make", "gmake"):
        (tmp_path / tool).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / tool).chmod(0o755)
    crippled = {**environ, "PATH": f"{tmp_path}:{environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run(crippled, "--route", "custom", "--", "sh", "-c", f"{served[64]}; {served[32]}")
    assert answers(done.stdout) == {64: "jemalloc", 32: "glibc"}
    assert "warning: 32-bit programs run without the proxy" in done.stderr
    assert "ld.so" not in done.stderr


def test_a_run_inside_a_run_replaces_it(served: dict[int, str], environ: dict[str, str]) -> None:
    outer = ["--route", "custom", "--allocator", needs.allocator("jemalloc", 64)]
    inner = command("--route", "custom", "--allocator", needs.allocator("mimalloc", 64), "--", served[64])
    done = run(environ, *outer, "--", *inner)
    assert heap(done.stdout) == "mimalloc"
    assert done.stderr == ""


def test_the_users_own_preload_stays_in_front(environ: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "mine.c"
    source.write_text(
        "#include <unistd.h>\n"
        '__attribute__((constructor)) static void hello(void) { if (write(1, "mine\\n", 5) < 0) _exit(9); }\n'
    )
    mine = needs.compile_program(source, 64, tmp_path / "mine.so", "-shared", "-fPIC")
    done = run({**environ, "LD_PRELOAD": str(mine)}, "--route=custom", "--", "sh", "-c", "echo $LD_PRELOAD")
    assert "mine\n" in done.stdout
    entries = done.stdout.splitlines()[-1].split(":")
    assert entries[0] == str(mine)
    assert [os.path.basename(entry) for entry in entries[1:]] == ["libmemproxy.so", "allocator.so"]
    assert "warning" not in done.stderr


def test_a_preloaded_allocator_ahead_is_said(served: dict[int, str], environ: dict[str, str]) -> None:
    theirs = {**environ, "LD_PRELOAD": needs.allocator("tcmalloc", 64)}
    done = run(theirs, "--allocator", needs.allocator("jemalloc", 64), "--route", "custom", "--", served[64])
    assert heap(done.stdout) == "tcmalloc"
    assert "has a malloc of its own: 64-bit programs will use that one" in done.stderr


def test_a_second_run_uses_the_same_directory_and_writes_nothing(environ: dict[str, str], cache: str) -> None:
    def preload() -> str:
        return run(environ, "--route", "custom", "--", "sh", "-c", "echo $LD_PRELOAD").stdout

    def state() -> list[tuple[str, int, int]]:
        return sorted((str(path), path.lstat().st_ino, path.lstat().st_mtime_ns) for path in Path(cache).rglob("*"))

    first, before = preload(), state()
    assert (preload(), state()) == (first, before)


def test_another_allocator_means_another_directory(environ: dict[str, str]) -> None:
    values = {
        run(environ, "--allocator", needs.allocator(family, 64), "--", "sh", "-c", "echo $LD_PRELOAD").stdout
        for family in needs.FAMILIES
    }
    assert len(values) == 3


def test_nobody_else_can_write_to_the_directory(environ: dict[str, str]) -> None:
    run(environ, "--route", "system", "--", "true")
    other = Path(environ["XDG_CACHE_HOME"], "umask")
    shutil.copytree(
        Path(environ["XDG_CACHE_HOME"], "memproxy-sol", "build"), other / "memproxy-sol" / "build", dirs_exist_ok=True
    )
    (other / "memproxy-sol").chmod(0o700)
    permissive = [sys.executable, "-c", "import os, sys; os.umask(0); os.execv(sys.argv[1], sys.argv[1:])"]
    value = subprocess.check_output(
        [*permissive, *command("--allocator", needs.allocator("mimalloc", 32), "--", "sh", "-c", "echo $LD_PRELOAD")],
        env={**environ, "XDG_CACHE_HOME": str(other)},
        text=True,
    )
    directory = Path(value.split("/$LIB/")[0])
    for path in [*directory.rglob("*"), directory, directory.parent, directory.parent.parent]:
        assert path.is_symlink() or not path.stat().st_mode & 0o022, path


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 3", 3), ("exit 125", 125)])
def test_the_status_is_the_commands(environ: dict[str, str], script: str, status: int) -> None:
    run(environ, "--route", "system", "--", "sh", "-c", script, status=status)


def test_a_command_killed_by_a_signal_is_reported_as_such(environ: dict[str, str]) -> None:
    run(environ, "--route", "system", "--", "sh", "-c", "kill -TERM $$", status=-signal.SIGTERM)


def test_the_command_becomes_this_process(environ: dict[str, str]) -> None:
    with subprocess.Popen(
        command("--route", "system", "--", "sh", "-c", "echo $$"), env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        output, _ = process.communicate()
    assert int(output) == process.pid


def test_a_broken_pipe_ends_the_command_as_without_us(environ: dict[str, str]) -> None:
    # Python ignores SIGPIPE; a command that inherited that would complain of a write error instead.
    script = " ".join(command("--route", "system", "--", "seq", "1", "1000000")) + ' | true; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (str(128 + signal.SIGPIPE), "")


def test_the_command_has_the_terminal(environ: dict[str, str]) -> None:
    controller, terminal = pty.openpty()
    done = subprocess.run(
        command("--route", "system", "--", "sh", "-c", "test -t 0 && test -t 1"),
        env=environ, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(terminal)
    os.close(controller)
    assert done.returncode == 0


def test_only_our_variables_are_added_to_the_environment(environ: dict[str, str]) -> None:
    plain = {name: value for name, value in environ.items() if not name.startswith("LC_") and name != "LANG"}
    direct = subprocess.check_output(["env", "-0"], env=plain).split(b"\0")
    done = subprocess.check_output(command("--route", "custom", "--", "env", "-0"), env=plain).split(b"\0")
    added = {entry.split(b"=")[0] for entry in set(done) - set(direct)}
    assert (added, set(direct) - set(done)) == ({b"LD_PRELOAD", b"MEMPROXY_ROUTE"}, set())


def test_without_route_the_exclusion_list_decides(environ: dict[str, str]) -> None:
    done = run(environ, "--", "env")
    assert "MEMPROXY_ROUTE" not in done.stdout


def test_switches_of_the_command_are_the_commands(environ: dict[str, str]) -> None:
    assert run(environ, "--route", "system", "echo", "-v", "--route", "x").stdout == "-v --route x\n"


@pytest.mark.parametrize(
    ("given", "separated"),
    [
        (["ls", "-l"], ["--", "ls", "-l"]),
        (["--route", "custom", "ls", "--"], ["--route", "custom", "--", "ls", "--"]),
        (["--route=custom", "-v", "ls"], ["--route=custom", "-v", "--", "ls"]),
        (["--allocator", "x", "--", "-odd"], ["--allocator", "x", "--", "-odd"]),
        (["--help"], ["--help", "--"]),
        ([], ["--"]),
    ],
)
def test_where_the_command_begins(given: list[str], separated: list[str]) -> None:
    assert _separated(given, Run.VALUED) == separated


@pytest.mark.parametrize(
    ("name", "content", "mode", "status"),
    [
        ("absent", None, 0, 127),
        ("not-executable", "#!/bin/sh\n", 0o644, 126),
        ("no-interpreter", "#!/nowhere/sh\n", 0o755, 127),
    ],
)
def test_a_command_that_cannot_start(
    environ: dict[str, str], tmp_path: Path, name: str, content: str | None, mode: int, status: int
) -> None:
    program = tmp_path / name
    if content is not None:
        program.write_text(content)
        program.chmod(mode)
    done = run(environ, "--route", "system", "--", str(program), status=status)
    assert done.stderr.startswith(f"memproxy-sol: {program}: ")
    assert subprocess.run(["env", str(program)], capture_output=True, check=False).returncode == status


def test_a_script_without_interpreter_line_is_run_by_the_shell(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "plain").write_text('echo "plain $1"; exit 7\n')
    (tmp_path / "plain").chmod(0o755)
    on_path = {**environ, "PATH": f"{tmp_path}:{environ['PATH']}"}
    assert run(on_path, "--route", "system", "--", "plain", "-x", status=7).stdout == "plain -x\n"
    assert subprocess.check_output(["env", "sh", "-c", "plain -x; true"], env=on_path, text=True) == "plain -x\n"


def test_a_command_on_no_path_is_127(environ: dict[str, str]) -> None:
    run(environ, "--route", "system", "--", "no-such-command", status=127)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no command given"),
        (["--route", "sideways", "--", "true"], "sideways"),
        (["--no-such-switch", "--", "true"], "no-such-switch"),
        (["--allocator", "/no/such/file", "--", "true"], "/no/such/file: cannot be read"),
        (["--allocator", "/etc/passwd", "--", "true"], "/etc/passwd: is not an ELF file"),
        (["--allocator", "/etc", "--", "true"], "/etc: is a directory"),
    ],
)
def test_what_we_cannot_do_is_125_in_one_line(environ: dict[str, str], arguments: list[str], says: str) -> None:
    done = run(environ, *arguments, status=125)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_library_that_is_no_allocator_is_refused(environ: dict[str, str]) -> None:
    libc = os.path.join(os.path.dirname(os.path.realpath(needs.loader(64).path)), "libm.so.6")
    assert "does not export malloc" in run(environ, "--allocator", libc, "--", "true", status=125).stderr


def test_two_allocators_of_one_abi_are_refused(environ: dict[str, str]) -> None:
    two = [f"--allocator={needs.allocator(family, 64)}" for family in ("jemalloc", "mimalloc")]
    assert "second 64-bit allocator" in run(environ, *two, "--", "true", status=125).stderr


def test_an_allocator_for_another_machine_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    data = bytearray(Path(needs.allocator("mimalloc", 64)).read_bytes())
    data[18:20] = (183).to_bytes(2, "little")  # e_machine: aarch64
    (tmp_path / "foreign.so").write_bytes(data)
    done = run(environ, "--allocator", str(tmp_path / "foreign.so"), "--", "true", status=125)
    assert "is for another machine" in done.stderr


def test_an_allocator_whose_dependency_is_missing_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "none.c").write_text("int none;\n")
    needs.compile_program(tmp_path / "none.c", 64, tmp_path / "libnone.so", "-shared", "-fPIC")
    source = tmp_path / "allocator.c"
    source.write_text(
        "extern int none; void *malloc(unsigned long n) { return (void *)(n + none); }\n"
        "void *realloc(void *p, unsigned long n) { return p ? p : malloc(n); } void free(void *p) {}\n"
    )
    allocator = needs.compile_program(
        source, 64, tmp_path / "allocator.so", "-shared", "-fPIC", "-fno-builtin", "-w", f"-L{tmp_path}", "-lnone"
    )
    done = run(environ, "--allocator", str(allocator), "--", "true", status=125)
    assert "allocator.so: cannot be loaded: libnone.so: cannot open shared object file" in done.stderr


@pytest.mark.parametrize("name", ["with blank", "with:colon", "with$dollar"])
def test_a_cache_that_a_preload_cannot_name_is_refused(environ: dict[str, str], cache: str, name: str) -> None:
    odd = Path(cache, name)
    odd.mkdir(exist_ok=True)
    done = run({**environ, "XDG_CACHE_HOME": str(odd)}, "--route", "system", "--", "true", status=125)
    assert "set XDG_CACHE_HOME to a directory without them" in done.stderr


def test_lib_of_each_loader_is_what_the_loader_says(tmp_path: Path) -> None:
    """The oracle is the loader itself: it loads an object that lies only where we expect it to look."""
    source = tmp_path / "here.c"
    source.write_text('#include <stdio.h>\n__attribute__((constructor)) static void hello(void) { puts("here"); }\n')
    (tmp_path / "true.c").write_text("int main(void) { return 0; }\n")
    for bits in (32, 64):
        program = needs.compile_program(tmp_path / "true.c", bits, tmp_path / f"true{bits}")
        directory = tmp_path / needs.loader(bits).lib
        directory.mkdir(parents=True)
        needs.compile_program(source, bits, directory / "here.so", "-shared", "-fPIC")
        done = subprocess.run(
            [str(program)], env={"LD_PRELOAD": f"{tmp_path}/$LIB/here.so"}, capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("here\n", "")


def test_found_allocators_are_of_the_abi_of_their_loader() -> None:
    for bits in (32, 64):
        for family in needs.FAMILIES:
            assert elf.read(needs.allocator(family, bits)).bits == bits


def test_a_solaris_preload_keeps_the_users_plain_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On Solaris a suffixed variable replaces LD_PRELOAD, and a preload that is missing kills; so each ABI is apart.
    Only the values are tested here: no Solaris machine has run them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = (runner.Slot(32, None, "LD_PRELOAD_32", "", ""), runner.Slot(64, None, "LD_PRELOAD_64", "64", "64"))
    libraries, chosen = {64: Path("/x/libmemproxy.so")}, {64: "/x/liba.so"}
    values = runner._variables(here, libraries, chosen, "/d", {"LD_PRELOAD": "/theirs.so"}, [])
    assert values == {"LD_PRELOAD_64": "/theirs.so:/d/64/libmemproxy.so:/d/64/allocator.so"}
    assert runner._variables(here, {32: Path("/x")}, {}, "/d", {"LD_PRELOAD_32": "", "LD_PRELOAD": "/y"}, []) == {
        "LD_PRELOAD_32": "/d/libmemproxy.so"
    }


def test_no_allocator_at_all_is_an_error_unless_the_route_is_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.linux, "ALLOCATORS", {})
    with pytest.raises(CommandLineError, match="no allocator found"):
        runner.prepare("custom", [], {}, lambda text: None)


def test_an_allocator_of_the_other_abi_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    right = {bits: needs.allocator("mimalloc", bits) for bits in (32, 64)}
    directories = [os.path.dirname(path) for path in right.values()]
    monkeypatch.setattr(runner.linux, "_directories", lambda loader: directories)
    for bits in (32, 64):
        assert runner.linux.allocators(needs.loader(bits))["mimalloc"] == right[bits]

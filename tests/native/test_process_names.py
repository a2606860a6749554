"""By which name a process goes: which line of the list matches it, and what it is told of itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from proxied import NATIVE, Installed, Outcome, allocators, both_abis

Library = Callable[..., Installed]
Run = Callable[..., Outcome]
Compile = Callable[..., Path]

LOADERS = {64: "/lib64/ld-linux-x86-64.so.2", 32: "/lib/ld-linux.so.2"}


@pytest.fixture
def told(library: Library, compile: Compile, run: Run) -> Callable[..., str]:
    """`told(bits, command, *lines)`: route and reason, as the command prints them, of a process under this list."""

    def ask(bits: int, command: Sequence[object], *lines: str, **options: object) -> str:
        proxy = library(bits)
        proxy.list_path.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in lines))
        return str(run(command, [proxy.path, allocators(bits)["mimalloc"]], **options).output)

    return ask


@pytest.fixture
def teller(compile: Compile) -> Callable[[int], Path]:
    """The program that tells its route and reason."""
    return lambda bits: compile("tell_route.c", bits, f"-I{NATIVE}")


LISTED, NOT_LISTED = "system list\n", "custom default\n"
Told = Callable[..., str]
Teller = Callable[[int], Path]


@both_abis
def test_program_that_serves_itself_is_told_its_path(library: Library, compile: Compile, run: Run, bits: int) -> None:
    program = compile("own_malloc_path.c", bits)
    assert run([program], [library(bits).path]).output == f"{program}\n"


@both_abis
@pytest.mark.parametrize(
    "name",
    ["x" * 255, "seventeen-letters", "drückt-größe", "with  two blanks", "back\\slash", "\udcff\udc80", "a = custom"],
    ids=["255 bytes", "17", "UTF-8", "blanks", "backslash", "no UTF-8", "looks like a route"],
)
def test_name_of_the_file(told: Told, teller: Teller, tmp_path: Path, bits: int, name: str) -> None:
    program = tmp_path / name
    shutil.copy(teller(bits), program)
    line = name.replace(" = ", " [=] ")
    assert told(bits, [program], "other", line) == LISTED
    assert told(bits, [program], f"{tmp_path}/{line}") == LISTED
    assert told(bits, [program], line[:-1], line + "x", line[1:]) == NOT_LISTED


@both_abis
def test_name_with_a_line_end(told: Told, teller: Teller, tmp_path: Path, bits: int) -> None:
    """No line can name it in full; its two halves are not it."""
    program = tmp_path / "one\ntwo"
    shutil.copy(teller(bits), program)
    assert told(bits, [program], "one", "two") == NOT_LISTED
    assert told(bits, [program], "one?two") == LISTED
    assert told(bits, [program], f"{tmp_path}/") == LISTED


@both_abis
def test_path_nearly_as_long_as_the_system_allows(told: Told, teller: Teller, tmp_path: Path, bits: int) -> None:
    where = tmp_path
    while len(str(where)) < 3850:
        where = where / ("d" * 200)
    program = where / ("p" * (4095 - len(str(where)) - 1))
    assert len(str(program)) == 4095
    where.mkdir(parents=True)
    shutil.copy(teller(bits), program)
    assert told(bits, [program], str(program)) == LISTED
    assert told(bits, [program], str(program)[:-1], program.name[1:]) == NOT_LISTED
    # One deeper, by a relative name: the kernel gives no path, but still what the program was executed as.
    deeper = where / program.name[:100]
    deeper.mkdir()
    shutil.copy(program, deeper / "x")
    inside = os.open(deeper, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rename(where / program.name, "long-name-of-it" * 10, dst_dir_fd=inside)
        command = ["./" + "long-name-of-it" * 10]
        assert told(bits, command, "long-name-of-it" * 10, preexec_fn=lambda: os.fchdir(inside)) == LISTED
        assert told(bits, command, "long-name-of-i", preexec_fn=lambda: os.fchdir(inside)) == NOT_LISTED
    finally:
        os.close(inside)


@both_abis
def test_links(told: Told, teller: Teller, tmp_path: Path, bits: int) -> None:
    program, soft, hard = (tmp_path / name for name in ("program", "soft", "hard"))
    shutil.copy(teller(bits), program)
    soft.symlink_to(program)
    os.link(program, hard)
    assert told(bits, [soft], "program") == LISTED
    assert told(bits, [soft], "soft", "hard") == NOT_LISTED
    assert told(bits, [hard], "hard") == LISTED
    assert told(bits, [hard], "program") == NOT_LISTED


@both_abis
def test_script_is_its_interpreter(told: Told, teller: Teller, tmp_path: Path, bits: int) -> None:
    interpreter, script = tmp_path / "interpreter", tmp_path / "script"
    shutil.copy(teller(bits), interpreter)
    script.write_text(f"#!{interpreter}\n")
    script.chmod(0o755)
    assert told(bits, [script], "interpreter").startswith(LISTED)
    assert told(bits, [script], "script").startswith(NOT_LISTED)


@both_abis
def test_program_given_to_the_loader_is_the_loader(told: Told, teller: Teller, bits: int) -> None:
    loader = os.path.realpath(LOADERS[bits])
    program = teller(bits)
    assert told(bits, [LOADERS[bits], program], loader) == LISTED
    assert told(bits, [LOADERS[bits], program], program.name, str(program)) == NOT_LISTED


@both_abis
def test_program_executed_by_descriptor(told: Told, teller: Teller, compile: Compile, bits: int) -> None:
    starter, program = compile("exec_memory.c", 64), teller(bits)
    assert told(bits, [starter, "fd", "-", program], str(program)) == LISTED
    memory = [starter, "memfd", "called so", program]
    assert told(bits, memory, "memfd:called so") == LISTED
    assert told(bits, memory, "/memfd:called so") == LISTED
    assert told(bits, memory, "called so", program.name) == NOT_LISTED


@both_abis
@pytest.mark.parametrize("fate", ["keep", "remove", "replace"])
@pytest.mark.parametrize("name", ["program", "program (deleted)"])
def test_program_whose_file_is_gone(
    told: Told, compile: Compile, tmp_path: Path, bits: int, fate: str, name: str
) -> None:
    program = tmp_path / name

    def ask(line: str) -> str:
        program.unlink(missing_ok=True)
        shutil.copy(compile("deleted.c", bits), program)
        return told(bits, [program, fate], line)

    assert ask(name) == ask(str(program)) == LISTED
    assert ask(name + " (deleted)") == NOT_LISTED

"""The shared object with nothing in it, preloaded by the real runtime linkers into every process of an ABI."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from memproxy_sol import placeholder
from tests import needs
from tests.host import private_preload
from tests.host.private_preload import NOBODY, Outcome, Trial
from tests.preload_files import PLACE

BITS = (32, 64)
SOURCE = Path(__file__).with_name("loaded.c")
NOTHING = f"{PLACE}/$LIB/nothing.so"
OTHER = f"{PLACE}/$LIB/other.so"
EITHER = pytest.mark.parametrize("bits", BITS)
Files = dict[str, tuple[Path, int]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """For each ABI a program, the same as a set-id program, the placeholder, and a library that has its own putchar."""
    reason = private_preload.obstacle()
    if reason:
        pytest.skip(reason)
    made = tmp_path_factory.mktemp("placeholder")
    placed: Files = {}
    for bits in BITS:
        loader = needs.loader(bits)
        program = needs.compile_program(SOURCE, bits, made / f"loaded-{bits}")
        nothing = made / f"nothing-{bits}.so"
        nothing.write_bytes(placeholder.shared_object(bits, loader.machine))
        other = made / f"other-{bits}.so"
        compiler = ["gcc", f"-m{bits}", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-o", str(other)]
        subprocess.run(compiler, input=b"int putchar(int c) { return c; }\n", check=True)
        placed[f"loaded-{bits}"] = (program, 0o755)
        placed[f"set-id-{bits}"] = (program, 0o4755)
        placed[f"g/{loader.lib}/nothing.so"] = (nothing, 0o644)
        placed[f"g/{loader.lib}/other.so"] = (other, 0o644)
    return placed


def path(bits: int, name: str = "nothing.so") -> str:
    return f"{PLACE}/{needs.loader(bits).lib}/{name}"


def one(files: Files, trial: Trial) -> Outcome:
    (outcome,) = private_preload.run(files, [trial])
    return outcome


@EITHER
@pytest.mark.parametrize(("program", "user"), [("loaded", 0), ("loaded", NOBODY), ("set-id", NOBODY)])
def test_it_is_loaded_without_a_word(bits: int, program: str, user: int, files: Files) -> None:
    outcome = one(files, Trial((f"/mnt/{program}-{bits}",), NOTHING.encode(), user=user))
    assert (outcome.status, outcome.err) == (0, b"")
    assert path(bits).encode() in outcome.out.splitlines()


@EITHER
def test_no_page_of_it_and_no_stack_is_executable(bits: int, files: Files) -> None:
    outcome = one(files, Trial((f"/mnt/loaded-{bits}", "map"), NOTHING.encode()))
    assert (outcome.status, outcome.err) == (0, b"")
    mapped = re.findall(r"^\S+ (\S{4}) \S+ \S+ \S+ +(\S+)$", outcome.out.decode(), re.MULTILINE)
    assert [permissions for permissions, name in mapped if name == path(bits)] == ["rw-p"]
    assert [permissions for permissions, name in mapped if name == "[stack]"] == ["rw-p"]


@EITHER
def test_symbols_are_bound_as_without_it(bits: int, files: Files) -> None:
    def bindings(*items: str) -> list[str]:
        outcome = one(
            files,
            Trial(
                (f"/mnt/loaded-{bits}", "map"),
                " ".join(items).encode(),
                environment=(("LD_DEBUG", "bindings"), ("LD_BIND_NOW", "1")),
            ),
        )
        assert outcome.status == 0
        return re.findall(r"binding file (.*)", outcome.err.decode())

    interposed = bindings(OTHER)
    assert any(path(bits, "other.so") in line and "`putchar'" in line for line in interposed)
    assert bindings(NOTHING, OTHER) == bindings(OTHER, NOTHING) == interposed
    assert bindings(NOTHING) == bindings() != interposed


def test_distribution_programs_of_both_kinds_start_with_it(files: Files) -> None:
    commands = [("/bin/sh", "-c", "exit 3"), ("/bin/ls", "/"), ("/usr/bin/env",)]
    with_it = private_preload.run(files, [Trial(command, NOTHING.encode()) for command in commands])
    without = private_preload.run(files, [Trial(command, kind="absent") for command in commands])
    assert with_it == without
    assert [outcome.status for outcome in with_it] == [3, 0, 0]


@EITHER
def test_it_is_opened_and_closed_at_run_time_too(bits: int, files: Files, tmp_path: Path) -> None:
    source = tmp_path / "opener.c"
    source.write_text(
        "#include <dlfcn.h>\n#include <stdio.h>\n"
        "int main(int argc, char **argv) { (void)argc; for (int i = 0; i < 3; i++) {\n"
        "    void *it = dlopen(argv[1], RTLD_NOW);\n"
        '    if (!it) { puts(dlerror()); return 1; }\n'
        '    if (dlsym(it, "malloc")) return 2;\n'
        "    if (dlclose(it)) return 3; }\n"
        "    return 0; }\n"
    )  # fmt: skip
    opener = needs.compile_program(source, bits, tmp_path / "opener", "-ldl")
    outcome = one({**files, "opener": (opener, 0o755)}, Trial(("/mnt/opener", path(bits)), kind="absent"))
    assert (outcome.status, outcome.out) == (0, b"")

"""The programs that are run: our own loops for either ABI, and real ones of the distribution."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from bench.configurations import run
from memproxy_sol.errors import MemproxyError

SOURCES = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Program:
    """A command that does the same work each time."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def compile_program(source: str, bits: int, directory: Path, *flags: str) -> Path:
    """A program of `programs/` for an ABI; once for each directory and set of flags."""
    target = directory / "-".join([Path(source).stem, str(bits), *(flag.lstrip("-D") for flag in flags)])
    if not target.exists():
        compiler = "g++" if source.endswith(".cc") else "gcc"
        options = [f"-m{bits}", "-O2", "-fno-builtin", "-pthread", *flags]
        run([compiler, *options, SOURCES / source, "-o", target])
    return target


def real_programs(scratch: Path) -> list[Program]:
    """Programs of the distribution. Raises MemproxyError, naming the package, if one is missing."""
    python, gxx, sqlite = tool("/usr/bin/python3", "python3"), tool("g++", "g++"), tool("sqlite3", "sqlite3")
    try:
        run([python, "-c", "import test.test_generators"])
    except MemproxyError:
        hint = "apt-get install libpython3-testsuite"
        raise MemproxyError("Python's own tests are not here to be run", hint=hint) from None
    sql = scratch / "fill.sql"
    sql.write_text(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value REAL);\n"
        "CREATE INDEX by_name ON t(name);\nBEGIN;\n"
        + "".join(
            f"INSERT INTO t(name, value) VALUES('name {i * 7919 % 100003} {'x' * (i % 60)}', {i}.5);\n"
            for i in range(60000)
        )
        + "COMMIT;\nSELECT count(*), sum(length(name)) FROM t GROUP BY length(name);\n"
    )
    # A module that draws no random numbers: it executes the same instructions each time.
    python_test = [python, "-m", "test", "test_generators"]
    compiled = str(SOURCES / "compiled.cc")
    return [
        Program("python3 -m test test_generators", python_test),
        Program("the same, PYTHONMALLOC=malloc", python_test, {"PYTHONMALLOC": "malloc"}),
        Program("g++ -O1 -c, a C++ file", [gxx, "-O1", "-c", compiled, "-o", "compiled.o"]),
        Program("sqlite3, 60,000 inserts", [sqlite, ":memory:", f".read {sql}"]),
    ]


def check_tools(timed: bool) -> None:
    """Raise MemproxyError, naming the package, if a tool that measures is missing; `timed`: also those of the times."""
    for name, package in (("valgrind", "valgrind"), ("strace", "strace")):
        tool(name, package)
    for name, package in (("redis-server", "redis-server"), ("redis-benchmark", "redis-tools")) if timed else ():
        tool(name, package)


def tool(name: str, package: str) -> str:
    """The path of a program that must be here."""
    found = shutil.which(name)
    if found is None:
        raise MemproxyError(f"{os.path.basename(name)} is not here to be measured", hint=f"apt-get install {package}")
    return found

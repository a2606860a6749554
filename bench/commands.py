"""How long the command line tool takes to answer, against Pythons that only start, or only import what is needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import paired
from bench.configurations import PLAIN, Configuration, Installation, run
from bench.machine import CHECKOUT
from bench.memory import idle
from bench.paired import Comparison
from bench.programs import compile_program
from bench.report import Section, Verdict
from memproxy_sol import cross, resources, tools
from memproxy_sol.abi import ABIS

VERSION_BUDGET = 3.0
VERIFY_BUDGET = 2.0
PROCESSES = 200
"""Of which a quarter is without libmemproxy, and the others run on either route, in each ABI that is here."""

_MODULES = """
import sys
before = set(sys.modules)
if sys.argv[1] == "live":
    from bench.live_verify import live
    live(sys.argv[2])
    del sys.argv[1:3]
from memproxy_sol.cli import main
import io, contextlib
with contextlib.redirect_stdout(io.StringIO()):
    status = main(sys.argv[1:])
if status not in (0, 3):
    sys.exit(1)
print(*sorted(set(sys.modules) - before - {"contextlib", "io"}))
"""


def commands_section(installation: Installation, pairs: int) -> Section:
    """`--version`, `verify` of an image, and `verify` of a host with its processes."""
    tool = [sys.executable, "-m", "memproxy_sol"]
    script = Path(sys.executable).parent / "memproxy-sol"
    if script.exists():
        tool = [str(script)]
    rows, verdicts = [], []

    version = _compare([sys.executable, "-c", "pass"], [*tool, "--version"], pairs)
    rows.append(["--version", "python -c pass", *_cells(version)])
    verdicts.append(_verdict("memproxy-sol --version against python -c pass", version, VERSION_BUDGET))

    def against_imports(what: str, name: str, command: list[str], probe: list[str]) -> None:
        words = [sys.executable, "-c", _MODULES, *probe]
        modules = subprocess.run(words, cwd=CHECKOUT, env=_environment(), text=True, capture_output=True, check=True)
        names = modules.stdout.split()
        ratio = _compare([sys.executable, "-c", f"import {', '.join(names)}"], command, pairs)
        rows.append([what, f"a Python that imports the same {len(names)} modules", *_cells(ratio)])
        verdicts.append(_verdict(f"memproxy-sol verify of {name} against its imports alone", ratio, VERIFY_BUDGET))
        plain = _compare([sys.executable, "-c", "pass"], command, pairs)
        rows.append([what, "python -c pass", *_cells(plain)])

    root = str(image(installation.scratch))
    verify = ["verify", "--root", root]
    against_imports("verify --root IMAGE", "an image", [*tool, *verify], verify)
    with _population(installation) as count:
        others = sum(name.isdigit() for name in os.listdir("/proc")) - count
        live = [sys.executable, "-m", "bench.live_verify", root]
        against_imports("verify", f"a host with {count} processes", live, ["live", root, "verify"])
    text = f"""
{pairs} pairs of runs each, by turns. What is verified is a Solaris image below a directory, both ABIs configured.
In the last two rows it is taken for the running system (bench/live_verify.py), and {count} processes are looked at,
three quarters of them with libmemproxy, beside {others} others of this machine. These are Linux processes, read by
process_linux.py: what reading Solaris' /proc takes on Solaris was not measured, nor the commands that are asked there.
"""
    columns = ("command", "against", "seconds before", "wall ratio (quartiles)", "processor ratio (quartiles)")
    return Section("The command line", text, columns, rows, verdicts)


@contextlib.contextmanager
def _population(installation: Installation) -> Iterator[int]:
    """So many processes that sleep; yields how many."""
    kinds: list[tuple[Path, Configuration]] = []
    for bits, families in installation.allocators.items():
        program = compile_program("idle.c", bits, installation.scratch)
        setting = installation.setting(bits, next(iter(families)))
        kinds += [(program, setting.routed("custom")), (program, setting.routed("custom"))]
        kinds += [(program, setting.routed("system")), (program, PLAIN)]
    copies = PROCESSES // len(kinds)
    with contextlib.ExitStack() as stack:
        for program, configuration in kinds:
            stack.enter_context(idle(program, configuration, copies))
        yield copies * len(kinds)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT)}


def image(scratch: Path) -> Path:
    """A skeleton of a Solaris root on which memproxy-sol is installed for both ABIs."""
    root = scratch / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/release").write_text("  OmniOS v11 r151046\n")
    objects = scratch / "solaris"
    allocators = []
    source = resources.native_sources() / "examples" / "bump_allocator.c"
    for bits, abi in ABIS.items():
        library = root / f"lib{abi.subdirectory}" / "libc.so.1"
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            runner = tools.Runner(Path(place, "log"), tools.environment(), tools.silent, "libc")
            cross.Toolchain(Path(place, "chain"), bits, cross.find_compiler(), runner, resources.solaris_sysroot())
            shutil.copyfile(Path(place, "chain", "libc.so"), library)
        allocator = objects / str(bits) / "libbump.so"
        cross.compile_shared([source], bits, allocator, allocator.name)
        allocators += ["--allocator", str(allocator)]
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    tool = [sys.executable, "-m", "memproxy_sol"]
    run([*tool, "install", "--root", root, "--bits", "32,64", *allocators])
    return root


def _compare(first: list[str], second: list[str], pairs: int) -> Comparison:
    environment = _environment()
    return paired.compare(
        lambda: paired.time_command(first, environment), lambda: paired.time_command(second, environment), pairs
    )


def _cells(comparison: Comparison) -> list[str]:
    return [f"{comparison.first:.3f}", str(comparison.wall), str(comparison.processor)]


def _verdict(what: str, comparison: Comparison, budget: float) -> Verdict:
    median = comparison.wall.median
    return Verdict(what, f"at most {budget:g}", f"{median:.2f}", median <= budget, exact=False)

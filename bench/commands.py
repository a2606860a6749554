"""How long the command line tool takes to answer, against Pythons that only start, or only import what is needed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench import paired
from bench.configurations import run
from bench.paired import Comparison
from bench.report import Section, Verdict
from memproxy_sol import cross, resources, tools
from memproxy_sol.abi import ABIS

VERSION_BUDGET = 3.0
VERIFY_BUDGET = 2.0

_MODULES = """
import sys
before = set(sys.modules)
from memproxy_sol.cli import main
import io, contextlib
with contextlib.redirect_stdout(io.StringIO()):
    status = main(sys.argv[1:])
if status not in (0, 3):
    sys.exit(1)
print(*sorted(set(sys.modules) - before - {"contextlib", "io"}))
"""


def commands_section(scratch: Path, pairs: int) -> Section:
    """`--version`, and `verify` of an image."""
    tool = [sys.executable, "-m", "memproxy_sol"]
    script = Path(sys.executable).parent / "memproxy-sol"
    if script.exists():
        tool = [str(script)]
    rows, verdicts = [], []

    version = _compare([sys.executable, "-c", "pass"], [*tool, "--version"], pairs)
    rows.append(["--version", "python -c pass", *_cells(version)])
    verdicts.append(_verdict("memproxy-sol --version against python -c pass", version, VERSION_BUDGET))

    verify = ["verify", "--root", str(image(scratch))]
    modules = run([sys.executable, "-c", _MODULES, *verify]).splitlines()[-1].split()
    imports = f"import {', '.join(modules)}"
    ratio = _compare([sys.executable, "-c", imports], [*tool, *verify], pairs)
    rows.append(["verify --root IMAGE", f"a Python that imports the same {len(modules)} modules", *_cells(ratio)])
    verdicts.append(_verdict("memproxy-sol verify of an image against its imports alone", ratio, VERIFY_BUDGET))
    plain = _compare([sys.executable, "-c", "pass"], [*tool, *verify], pairs)
    rows.append(["verify --root IMAGE", "python -c pass", *_cells(plain)])
    text = f"""
{pairs} pairs of runs each, by turns. What is verified is a Solaris image below a directory, both ABIs configured: two
of the three layers, configuration and libraries. The third, the live processes of a host, does not exist yet, so
nothing here says what `verify` takes with 200 processes.
"""
    columns = ("command", "against", "seconds before", "wall ratio (quartiles)", "processor ratio (quartiles)")
    return Section("The command line", text, columns, rows, verdicts)


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
    environment = dict(os.environ)
    return paired.compare(
        lambda: paired.time_command(first, environment), lambda: paired.time_command(second, environment), pairs
    )


def _cells(comparison: Comparison) -> list[str]:
    return [f"{comparison.first:.3f}", str(comparison.wall), str(comparison.processor)]


def _verdict(what: str, comparison: Comparison, budget: float) -> Verdict:
    median = comparison.wall.median
    return Verdict(what, f"at most {budget:g}", f"{median:.2f}", median <= budget, exact=False)

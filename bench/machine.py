"""The machine, the compiler and the allocators that the numbers belong to."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.configurations import Installation, run
from memproxy_sol.errors import MemproxyError

CHECKOUT = Path(__file__).resolve().parents[1]


def describe(installation: Installation, arguments: Sequence[str], load: tuple[float, float, float]) -> str:
    """The head of RESULTS.md: what was measured, where and when. `load`: the load averages before the run."""
    asked = f", with `{shlex.join(arguments)}`" if arguments else ""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    release = re.search(r'^PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text(), re.MULTILINE)
    assert memory is not None
    lines = [
        "# What libmemproxy costs",
        "",
        "Made by `make bench`; do not edit. Times vary from run to run, counts do not.",
        "",
        f"- Run: {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, commit {commit()}{asked}",
        f"- Machine: {model.group(1) if model else platform.machine()}, {os.cpu_count()} processors,"
        f" {int(memory.group(1)) / 2**20:.0f} GiB; load before the run {load[0]:.1f}",
        f"- System: {release.group(1) if release else platform.system()}, kernel {platform.release()},"
        f" {platform.libc_ver()[0]} {platform.libc_ver()[1]}",
        f"- Compiler: {run(['g++', '--version']).splitlines()[0]}; {run(['valgrind', '--version']).strip()}",
    ]
    for bits, families in installation.allocators.items():
        found = [f"{family} ({version(file)})" for family, file in families.items()]
        lines.append(f"- Allocators, {bits} bit: {', '.join(found)}")
    lines.append("")
    lines.append(
        "*plain*: nothing preloaded. *alone*: the allocator preloaded. *custom*, *system*: libmemproxy and the\n"
        "allocator, on that route. *A against B*: A's number over, or minus, B's."
    )
    return "\n".join(lines) + "\n"


def commit() -> str:
    """The checkout's commit, marked if files that are measured differ from it."""
    try:
        name = run(["git", "rev-parse", "--short=12", "HEAD"], CHECKOUT).strip()
        measured = ["native", "memproxy_sol", "bench/*.py", "bench/programs"]
        changed = run(["git", "status", "--porcelain", "--untracked-files=no", "--", *measured], CHECKOUT)
    except (MemproxyError, OSError):
        return "unknown"
    return f"{name}, with changes" if changed else name


def version(file: str) -> str:
    """The Debian package and version that a file is of, or its real name."""
    real = os.path.realpath(file)
    for path in (file, real, real.replace("/usr/lib", "/lib", 1)):
        done = subprocess.run(["dpkg", "-S", path], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            package = done.stdout.partition(": ")[0]
            shown = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False
            )
            return f"{package} {shown.stdout}"
    return os.path.basename(real)

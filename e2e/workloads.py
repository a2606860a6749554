"""The workloads: what a shell types on the system as root, and what is observed of it afterwards.

Each command's output and exit status is an observation, with what is different each time (numbers of processes, times)
taken out by rules that are listed here. What is typed is in scripts/.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from soak.workloads import Observations, Workload

SCRIPTS = Path(__file__).parent / "scripts"
Rules = tuple[tuple[str, str], ...]


def workloads(length: str = "full") -> dict[str, Workload]:
    """All of them by name, in the order in which they are run."""
    made = [
        _workload("shell", length, ("bash", "dash"), "the shells: loops, pipes, subshells, traps, here documents"),
        _workload(
            "coreutils", length, COREUTILS, "sort, tar, find, sed, mawk, gzip, xz and others on the files of /usr"
        ),
        _workload("perl", length, ("perl",), "perl: hashes, regular expressions, fork, threads, Storable, JSON::PP"),
        _workload("sqlite3", length, ("sqlite3",), "sqlite3: 200,000 rows, index, join, full text, vacuum, check"),
        _workload("cxx", length, ("cc1plus", "xlat*"), "g++ -O2 of a C++ program, both ABIs, which then runs; LTO"),
    ]
    return {one.name: one for one in made}


def excluded(workload: Workload) -> tuple[str, ...]:
    """Base names of the programs that a workload's list excludes."""
    return tuple(line for line in workload.lines.splitlines() if line and not line.startswith("#"))


COREUTILS = (
    *("ls", "cp", "sort", "tar", "find", "sed", "mawk", "gzip", "bzip2", "xz", "sha256sum", "grep", "xargs", "du"),
    *("wc", "uniq", "cut", "join", "comm", "tsort", "shuf", "factor", "od", "tail", "head", "stat", "split", "cmp"),
)


def _workload(
    name: str, length: str, programs: tuple[str, ...], what: str,
    *, rules: Rules = (), seconds: float = 300, met: tuple[str, ...] = (),
) -> Workload:  # fmt: skip
    """`programs` are those that are excluded, and `met` those that have to be seen alive."""
    lines = "# what runs here\n" + "".join(f"{program}\n" for program in programs)
    script = (SCRIPTS / "common.sh").read_text() + (SCRIPTS / f"{name}.sh").read_text()
    # A result is that of the whole script (soak/matrix.py), so what else it depends on is said there.
    script += f"# {length}; excluded: {' '.join(programs)}; not compared: {rules}\n"
    return Workload(name, length, script, _observe(rules), met, lines, seconds, what)


def _observe(rules: Rules) -> Callable[[Path], Observations]:
    def observe(result: Path) -> Observations:
        seen = {"exit status": _read(result / "status"), "core files": str(len(list(result.glob("core*"))))}
        seen["beside"] = _said(_read(result / "log"), rules)
        for path in sorted((result / "out").iterdir()):
            if path.is_file():
                seen[path.name] = _said(_read(path), rules)
        return seen

    return observe


def _said(text: str, rules: Rules) -> str:
    for pattern, to in rules:
        text = re.sub(pattern, to, text, flags=re.MULTILINE)
    if len(text) <= 200:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{digest} ({text.count(chr(10))} lines) … {text[-100:]}"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return "none"

"""The workloads: what a shell types inside the image, and what is observed of it afterwards.

An observation is a name and a word; two runs are alike if all their observations are. Times and addresses are none.
"""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Observations = dict[str, str]

LENGTHS = ("quick", "full")


@dataclass(frozen=True)
class Workload:
    """One workload at one length."""

    name: str
    length: str
    script: str
    observe: Callable[[Path], Observations]
    programs: tuple[str, ...]
    """Those that the census must have met (a pattern each)."""
    lines: str
    """What the exclusion list says where they are to be on the system's route."""
    seconds: float
    """After which a run has hung."""
    what: str


def workloads(length: str) -> dict[str, Workload]:
    """All of them, by name."""
    made = [_stress(length), _compile(length), _python(length, ""), _python(length, "malloc")]
    return {workload.name: workload for workload in made}


# ---- stress-ng


def _stress(length: str) -> Workload:
    seconds = {"quick": 10, "full": 60}[length]
    return Workload(
        "stress-ng",
        length,
        "ulimit -c unlimited; cd /tmp && stress-ng --malloc 1 --malloc-bytes 512k --malloc-max 2000 --vm 1"
        f" --vm-bytes 96m --fork 1 --verify --temp-path /tmp --timeout {seconds}s --no-rand-seed"
        " > /result/log 2>&1; echo $? > /result/status\n"
        "cp /tmp/core* /result/ 2>/dev/null; true\n",
        _observe_stress,
        ("stress-ng",),
        "# what runs here\nstress-ng\n",
        seconds + 240,
        f"stress-ng --malloc 1 --vm 1 --fork 1 --verify, {seconds} s",
    )


def _observe_stress(result: Path) -> Observations:
    log = (result / "log").read_text(errors="replace")
    seen = {"exit status": _word(result / "status"), "core files": str(len(list(result.glob("core*"))))}
    for verdict, names in re.findall(r"(failed|passed|skipped|bad metrics): \d+: (.*)", log):
        for name in re.findall(r"(\w[\w-]*) \(\d+\)", names):
            seen[name] = verdict
    for line in log.splitlines():
        if re.search(r"\b(fail|error|unexpected|terminated on signal|corrupt|SIG[A-Z]{3,})", line):
            seen[re.sub(r"\d+", "N", line)] = "said"
    return seen


# ---- gcc

# The sources of execute/ are programs: they are linked, about half of them with the link-time optimiser, and run.
MAKEFILE = r""".SUFFIXES:
FILES := $(shell head -n FILES_WANTED /soak/files)
all: $(addprefix /result/out/,$(addsuffix .o,$(FILES)))
FLAGS = -O2 -w -pipe -fdiagnostics-color=never -frandom-seed=$< \
	-Igcc/testsuite/gcc.dg/tree-ssa -Ilibstdc++-v3/testsuite/util
/result/out/%.o: %
	@mkdir -p $(@D)
	@case $< in \
	*.c) gcc $(FLAGS) -c $< -o $@ ;; \
	*.C) g++ -std=gnu++20 $(FLAGS) -c $< -o $@ ;; \
	*) g++ -std=gnu++17 $(FLAGS) -c $< -o $@ ;; \
	esac > $@.said 2>&1; echo $$? > $@.status
	@case $< in *[02468].c) lto=-flto=1 ;; *) lto= ;; esac; \
	case $< in */execute/*) \
		gcc $(FLAGS) $$lto $< -o $@.program -lm > $@.linked 2>&1; echo $$? >> $@.status; \
		if test -f $@.program; then (cd /tmp && exec timeout 20 $@.program) > $@.ran 2>&1 < /dev/null; \
			echo $$? >> $@.status; fi ;; esac
"""


def _compile(length: str) -> Workload:
    files = {"quick": 80, "full": 2000}[length]
    makefile = MAKEFILE.replace("FILES_WANTED", str(files))
    return Workload(
        "compile",
        length,
        "ulimit -c unlimited; mkdir /result/out; cd /soak || exit 1\n"
        f"cat > /tmp/Makefile <<'EOF'\n{makefile}EOF\n"
        "SOURCE_DATE_EPOCH=0 make -k -j2 -f /tmp/Makefile > /result/log 2>&1; echo $? > /result/status\n"
        "find /result/out -name '*.o' | sort | head -n 1000 | xargs ar rcD /result/out/all.a; "
        "echo $? > /result/out/all.status; cp /tmp/core* /result/ 2>/dev/null; true\n",
        _observe_compile,
        ("cc1", "cc1plus", "make"),
        "# the compilers by directory, the rest by name\n/usr/lib/gcc/\n*-linux-gnu-*\nmake\n",
        {"quick": 900, "full": 5400}[length],
        f"gcc and g++ -O2 of {files} files, those that are programs (a quarter) linked and run",
    )


def _observe_compile(result: Path) -> Observations:
    seen = {"exit status": _word(result / "status"), "core files": str(len(list(result.glob("core*"))))}
    out = result / "out"
    for path in sorted(out.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(out))
            if name.endswith(".status"):
                seen[name] = " ".join(path.read_text().split())
            else:
                data = path.read_bytes()
                # gcc names its own temporary files in messages about the link.
                if not name.endswith((".o", ".program", ".a")):
                    data = re.sub(rb"/tmp/cc\w+", b"/tmp/ccXXXXXX", data)
                seen[name] = hashlib.sha256(data).hexdigest()[:16]
    return seen


# ---- python3 -m test


def _python(length: str, pythonmalloc: str) -> Workload:
    modules = {
        "quick": "test_json test_gc test_re test_ctypes test_threading",
        "full": "test_threading test_subprocess test_json test_ctypes test_multiprocessing_fork test_gc test_re",
    }[length]
    assignment = f"PYTHONMALLOC={pythonmalloc} " if pythonmalloc else ""
    return Workload(
        "python-malloc" if pythonmalloc else "python",
        length,
        f"ulimit -c unlimited; cd /tmp && HOME=/home/soak {assignment}python3 -m test -j2 --timeout 900"
        f" --junit-xml /result/junit.xml {modules} > /result/log 2>&1; echo $? > /result/status\n",
        observe_python,
        ("python3.11",),
        "# what runs here\npython3*\n",
        {"quick": 600, "full": 2400}[length],
        f"{assignment}python3 -m test {modules}",
    )


def observe_python(result: Path) -> Observations:
    """What each test of python's said, from junit.xml."""
    seen = {"exit status": _word(result / "status")}
    try:
        root = ElementTree.parse(result / "junit.xml").getroot()
    except (OSError, ElementTree.ParseError):
        return {**seen, "junit.xml": "there is none"}
    for case in root.iter("testcase"):
        children = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        name = case.get("name", "?")
        while name in seen:  # a name is used again by tests of some module
            name += "'"
        seen[name] = children[0] if children else "ok"
    log = result / "log"
    for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
        module = re.match(r".*\] (test_\w+) (crashed|failed|timed out|worker)", line)
        if module:
            seen[module[1]] = module[2]
    return seen


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "none"

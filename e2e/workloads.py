"""The workloads: what a shell types on the system as root, and what is observed of it afterwards.

Each command's output and exit status is an observation, with what is different each time (numbers of processes, times)
taken out by rules that are listed here. What is typed is in scripts/.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from soak.workloads import Observations, Workload, observe_python

SCRIPTS = Path(__file__).parent / "scripts"
PYTHON_TESTS = {
    "quick": "test_json test_ctypes",
    "full": "test_json test_threading test_subprocess test_ctypes",
}

Rules = tuple[tuple[str, str], ...]


def workloads(length: str = "full") -> dict[str, Workload]:
    """All of them by name, in the order in which they are run."""
    made = [
        _workload("shell", length, ("bash", "dash"), "the shells: loops, pipes, subshells, traps, here documents"),
        _workload("coreutils", length, COREUTILS, "sort, tar, find, sed, mawk, gzip, xz and others on /usr"),
        _workload("perl", length, ("perl",), "perl: hashes, regular expressions, fork, threads, Storable, JSON::PP"),
        _python(length),
        _workload("sqlite3", length, ("sqlite3",), "sqlite3: 200,000 rows, index, join, full text, vacuum, check"),
        _workload("postgresql", length, ("postgres", "initdb", "psql", "pgbench", "pg_*"),
                  "PostgreSQL: initdb, pgbench, SQL with sorting, hashing, jsonb, plpgsql, pg_dump",
                  met=("postgres",)),
        _workload("redis", length, ("redis-*",),
                  "redis-server with redis-benchmark, Lua, background save, restart; digest of the data",
                  rules=((r"\[offset \d+\]", ""), (r"^.*AUX FIELD (ctime|used-mem).*$", "")), met=("redis-*",)),
        _workload("nginx", length, ("nginx", "curl"), "nginx: files, gzip, proxy, ranges, in parallel, reload; curl",
                  met=("nginx",)),
        _workload("git", length, ("git", "git-*"),
                  "git: 15 commits of libstdc++'s headers, gc, fsck, clone, merge, rebase, am"),
        _workload("java", length, ("java", "javac", "javap", "jar", "jshell", "keytool", "jspawnhelper"),
                  "a JVM: javac, three collectors, threads, direct buffers, deflate, exhausted heap, jshell",
                  rules=((r"build [^ )]*", "build"), (r"^[A-Z][a-z][a-z] \d+, 20\d\d .*$", "")), met=("java",)),
        _workload("node", length, ("node",), "node: workers, crypto, zlib, http, WebAssembly, garbage collection",
                  met=("node",)),
        _workload("go", length, ("go", "all", "compile", "link", "cgo", "vet", "asm", "gofmt"),
                  "go build with cgo, a program of goroutines that calls malloc, vet, gofmt"),
        _workload("rust", length, ("rustc", "all", "debug", "t"), "rustc -O, a program of threads, tests and panics",
                  met=("rustc",)),
        _workload("systemd", length, ("systemd*", "systemctl", "journalctl", "loginctl", "busctl"),
                  "systemd's tools: analyze, systemctl --root, tmpfiles, sysusers, delta; not as first process",
                  rules=((r"'@[0-9]+'", ""), (r"(?m)^.*memproxy.*\n", ""))),
        _workload("setid", length, ("su", "sudo", "passwd", "chsh", "newgrp", "mount", "umount", "chage", "expiry"),
                  "set-id programs as an ordinary user: su, sudo, passwd, chsh, newgrp, mount, umount, chage"),
        _workload("cxx", length, ("cc1plus", "xlat*"), "g++ -O2 of a C++ program, both ABIs, which then runs"),
        _workload("cxx32", length, ("lzip*", "plzip*"), "32-bit programs in C++ of Debian for i386: lzip, plzip",
                  met=("*lzip*",)),
        _workload("make", length, ("make", "cc1", "as", "x86_64-linux-gnu-*", "dash"),
                  "make -j 8: 300 compilations with 20 pipes each; make in make, 40 deep"),
        _workload("exec", length, ("true", "one32", "xargs", "perl"),
                  "/bin/true exec'd 10,000 times, a program of each ABI 2,000 times, a script that execs itself"),
        _workload("owner", length, ("served*", "operators*", "real*", "cc1plus", "lzip*", "plzip*", "node"),
                  "whose is each block, by malloc and by new (programs of this repository); what both heaps got in real"
                  " C++ programs (cc1plus, node, lzip and plzip for i386), by the accounts of libc and the allocator"),
    ]  # fmt: skip
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


def _python(length: str) -> Workload:
    tests = PYTHON_TESTS[length]
    script = "cd /tmp && setpriv --reuid 4242 --regid 4242 --clear-groups env HOME=/home/soak "
    script += f"python3 -m test -j2 --timeout 300 --junit-xml /result/out/junit.xml {tests}\n"

    def observe(result: Path) -> Observations:
        return {**observe_python(result / "out"), "exit status": _read(result / "status")}

    what = f"python3 -m test {tests}, each test's outcome"
    return Workload("python", length, script, observe, ("python3.11",), "# what runs here\npython3*\n", 600, what)


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

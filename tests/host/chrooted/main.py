"""What runs in each process of a laboratory that one has chrooted into: the runtime linker's part, then the program.

Arguments: the path that was executed, the number of arguments, these, the environment. /laboratory/processes gets a
line for each process; /laboratory/faults.py, if there, says how commands fail or lie (`lab`, `Fault`).
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, "/laboratory/checkout")

from tests.host.laboratory import Bricked, Fault, Laboratory, Program, Result
from tests.host.laboratory.smf import NeverReturns

OURS = "/usr/local/bin/memproxy-sol"
TOOL = ("/laboratory/bin/python3", "-I", "/laboratory/tool.py")


def tool(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """memproxy-sol started by a program of the laboratory."""
    ran = subprocess.run([*TOOL, *argv[1:]], env=dict(env), input=stdin, capture_output=True, check=False)
    return Result(ran.returncode, ran.stdout, ran.stderr)


def opened() -> Laboratory:
    """The laboratory that is this process's `/`."""
    lab = Laboratory(Path("/"))
    lab.install_program(OURS, Program(64, tool))
    faults = Path("/laboratory/faults.py")
    if faults.exists():
        exec(compile(faults.read_bytes(), faults, "exec"), {"lab": lab, "Fault": Fault, "Result": Result})
    return lab


def note(path: str, argv: Sequence[str], environment: Sequence[str]) -> None:
    """A line of /laboratory/processes."""
    line = {
        "path": path,
        "argv": argv,
        "environment": environment,
        "pid": os.getpid(),
        "ids": [*os.getresuid(), *os.getresgid()],
        "groups": os.getgroups(),
        "directory": os.getcwd(),
        "session": os.getsid(0) == os.getpid(),
    }
    descriptor = os.open("/laboratory/processes", os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, json.dumps(line).encode() + b"\n")
    os.close(descriptor)


def write(result: Result) -> None:
    for descriptor, data in ((1, result.out), (2, result.err)):
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]


def run(lab: Laboratory, path: str, argv: Sequence[str], env: Mapping[str, str]) -> int:
    """The process to its end, -N for signal N."""
    uid = os.getuid()
    if path == OURS:
        start = lab.start([path], env, uid)
        write(Result(0, err="".join(f"{line}\n" for line in start.messages).encode()))
        if start.status is not None:
            return start.status
        os.execve(TOOL[0], [*TOOL, *argv[1:]], env)
    stdin = sys.stdin.buffer.read() if not stat.S_ISCHR(os.fstat(0).st_mode) else b""
    fault = lab.faults.get(lab.tree.resolve(path))
    try:
        result = lab.execute(argv, env, uid, stdin)
    except NeverReturns as never:
        write(Result(0, never.out, never.err))
        while True:
            signal.pause()
    if fault is not None and fault.seconds and fault.when(argv):
        time.sleep(fault.seconds)
    write(result)
    return result.status


def main() -> None:
    if sys.argv[1] == "boot":
        try:
            opened().boot()
        except Bricked as bricked:
            sys.exit(str(bricked))
        return
    path, count = sys.argv[1], int(sys.argv[2])
    argv, variables = sys.argv[3 : 3 + count], sys.argv[3 + count :]
    env = {name: value for name, _, value in (text.partition("=") for text in variables)}
    note(path, argv, variables)
    lab = opened()
    if lab.tree.resolve(path) in lab.programs:  # else it is a script, and argv begins with its interpreter
        argv = [path, *argv[1:]]
    status = run(lab, path, argv, env)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


main()

"""This machine's own system with memproxy-sol installed on it, for as long as a namespace lives: see test_e2e.py.

`run` gives this file to a Python below unshare(1). There /etc, /var and /usr/local are covered by overlays in memory,
and /run by an empty file system; /mnt has the files of the task. Programs of this machine are run without memproxy-sol,
then it is installed globally by its own command, they are run again on both routes and looked at while they live,
and it is uninstalled.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
PRELOAD, LIST = Path("/etc/ld.so.preload"), Path("/etc/memproxy.conf")
COVERED = ("etc", "var", "usr/local")
NOBODY = 65534
TOP = Path("/mnt")
LIMIT = 60


def run(task: dict[str, Any]) -> dict[str, Any]:
    """What happened, as `main` has it. `task`: see test_e2e.py."""
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--mount-proc"]
    done = subprocess.run(
        [*words, sys.executable, __file__], input=json.dumps(task), stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def main(task: dict[str, Any]) -> dict[str, Any]:
    """The outputs of `programs` by route, what the processes of `waiting` say, what the commands said, what is left."""
    sys.path.insert(0, str(CHECKOUT))
    from e2e.system import differences

    cover()
    for name, path in task["files"].items():
        shutil.copy(path, TOP / name)
        (TOP / name).chmod(0o755)
    found: dict[str, Any] = {"plain": outputs(task), "outputs": {}, "alive": {}, "served": {}, "commands": []}
    install = [word for path in task["allocators"] for word in ("--allocator", path)]
    found["commands"].append(tool(task, "install", "--libraries", task["libraries"], *install))
    written = LIST.read_bytes()
    for route, text in (("custom", "# nothing is excluded\n"), ("system", "".join(f"{x}\n" for x in task["excluded"]))):
        LIST.write_text(text)
        found["outputs"][route] = outputs(task)
        found["alive"][route] = alive(task)
        served = {
            bits: subprocess.run([path], env=environment(), stdout=subprocess.PIPE)
            for bits, path in task["served"].items()
        }
        found["served"][route] = {bits: json.loads(done.stdout) for bits, done in served.items()}
    LIST.write_bytes(written)  # uninstall leaves a list that somebody has changed
    found["preload"] = PRELOAD.read_text()
    # The first is a process that has the libraries mapped.
    for _ in range(2):
        found["commands"].append(tool(task, "uninstall", "--purge"))
    found["left"] = [
        f"/{part}{left}" for part in COVERED for left in differences(TOP / part / "upper", TOP / part / "lower")
    ]
    found["afterwards"] = outputs(task)
    return found


def cover() -> None:
    """Lay something in memory over whatever an install changes."""
    mount("-t", "tmpfs", "-o", "mode=755", "private", str(TOP))
    for part in COVERED:
        for name in ("lower", "upper", "work"):
            (TOP / part / name).mkdir(parents=True)
        place = TOP / part
        mount("--bind", f"/{part}", str(place / "lower"))
        layers = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
        mount("-t", "overlay", "-o", layers, "private", f"/{part}")
        os.chmod(place / "upper", 0o755)
    for place in ("/run", "/var/log"):  # su keeps a log of wrong passwords
        mount("-t", "tmpfs", "-o", "mode=755", "private", place)


def mount(*words: str) -> None:
    """mount(8)."""
    subprocess.run(["mount", *words], check=True, stdout=sys.stderr)


def tool(task: dict[str, Any], *words: str) -> tuple[int, str]:
    """A command of ours: its exit status and its words."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "HOME": str(TOP)}
    done = subprocess.run([*task["tool"], *words], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def environment() -> dict[str, str]:
    """Of each program."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"}


def ids(user: int | None) -> dict[str, Any]:
    """The parameters of Popen that make a process this user's."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def outputs(task: dict[str, Any]) -> dict[str, Any]:
    """Exit status and all words of each program."""
    found = {}
    for name, (words, user) in task["programs"].items():
        done = subprocess.run(
            words, env=environment(), input="wrong\n", capture_output=True, text=True, check=False, timeout=LIMIT,
            cwd="/", **ids(user),
        )  # fmt: skip
        found[name] = [done.returncode, done.stdout, done.stderr]
    return found


def alive(task: dict[str, Any]) -> dict[str, Any]:
    """What programs that wait for their standard input say of themselves, and what verify's table says of them."""
    from e2e.observer import compare, look

    started = {}
    for name, (words, user) in task["waiting"].items():
        started[name] = subprocess.Popen(
            words, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd="/", **ids(user),
        )  # fmt: skip
    for process in started.values():
        assert process.stdout is not None
        process.stdout.read(1)  # it says something before it waits
    before = look()
    status, said = tool(task, "verify", "--processes", "--json")
    after = look()
    table = json.loads(said)["processes"]["list"] if status == 0 else []
    rows = {row["pid"]: row for row in table}
    found: dict[str, Any] = {"verify": [status, "" if status == 0 else said]}
    found["itself"] = rows.get(os.getpid())
    del before[os.getpid()]  # the one process that is older than the install
    found["agreed"] = {seen: count for seen, count in compare(before, after, table).items() if status == 0}
    found["own"] = {name: vars(before[p.pid]) if p.pid in before else None for name, p in started.items()}
    found["rows"] = {name: rows.get(process.pid) for name, process in started.items()}
    found["ends"] = {
        name: process.communicate(b"wrong\n", LIMIT) and process.returncode for name, process in started.items()
    }
    return found


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)

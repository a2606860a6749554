"""Programs of this machine started under an /etc/ld.so.preload that only they see, in a private mount namespace.

`run` gives this file to a Python below unshare(1): it covers /etc with an overlay and /mnt with a file system in
memory, puts the objects of a test there, and for each trial puts the file in place, starts one program, and takes the
file away. This machine's own /etc is never written to. Bytes travel as base64.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

PRELOAD = "/etc/ld.so.preload"
NOBODY = 65534


@dataclass(frozen=True)
class Trial:
    """One start of a program."""

    command: tuple[str, ...]
    data: bytes = b""
    kind: str = "file"
    """`file`, `directory`, `fifo`, `absent`, or `link` (then `data` is where it leads)."""
    mode: int = 0o644
    user: int = 0
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of it; the exit status as subprocess has it."""

    status: int
    out: bytes
    err: bytes
    waited: bool
    """Whether it had opened the FIFO and waited there, until the other end was opened and closed."""


@cache
def obstacle() -> str | None:
    """What keeps this machine from such a namespace; None if nothing does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root can have an /etc/ld.so.preload of his own, on Linux"
    try:
        outcome = run({}, [Trial(("/bin/true",), kind="absent")])
    except (OSError, subprocess.CalledProcessError) as error:
        return f"namespaces or mounts are forbidden here: {error}"
    return None if outcome[0].status == 0 else "no program starts in a private mount namespace"


def run(files: Mapping[str, tuple[Path, int]], trials: Iterable[Trial]) -> list[Outcome]:
    """The outcome of each trial, with `files` (path below /mnt: original and mode) in their places."""
    task = {
        "files": {place: (str(original), mode) for place, (original, mode) in files.items()},
        "trials": [{**asdict(trial), "data": base64.b64encode(trial.data).decode()} for trial in trials],
    }
    unshare = ["unshare", "--mount", "--propagation", "private", sys.executable, "-I", __file__]
    done = subprocess.run(unshare, input=json.dumps(task).encode(), stdout=subprocess.PIPE, check=True)
    return [
        Outcome(status, base64.b64decode(out), base64.b64decode(err), waited)
        for status, out, err, waited in json.loads(done.stdout)
    ]


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, stdout=sys.stderr)


def _main() -> None:
    task = json.load(sys.stdin)
    originals = {place: (Path(original).read_bytes(), mode) for place, (original, mode) in task["files"].items()}
    _mount("-t", "tmpfs", "-o", "mode=755,suid,exec,dev", "private", "/mnt")
    for name in ("upper", "work"):
        os.mkdir(f"/mnt/.{name}", 0o755)
    _mount("-t", "overlay", "-o", "lowerdir=/etc,upperdir=/mnt/.upper,workdir=/mnt/.work", "private", "/etc")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(PRELOAD)
    for place, (data, mode) in originals.items():
        path = Path("/mnt") / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    os.chdir("/mnt")
    json.dump([_one(trial) for trial in task["trials"]], sys.stdout)


def _one(trial: Mapping[str, Any]) -> tuple[int, str, str, bool]:
    kind, data = trial["kind"], base64.b64decode(trial["data"])
    if kind == "file":
        Path(PRELOAD).write_bytes(data)
    elif kind == "directory":
        os.mkdir(PRELOAD)
    elif kind == "fifo":
        os.mkfifo(PRELOAD)
    elif kind == "link":
        os.symlink(data, PRELOAD)
    if kind in ("file", "directory", "fifo"):
        os.chmod(PRELOAD, trial["mode"])
    user = trial["user"]
    try:
        process = subprocess.Popen(
            trial["command"], env=dict(trial["environment"]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=(lambda: os.setresuid(user, user, user)) if user else None,
        )  # fmt: skip
        waited = kind == "fifo" and _release(process)
        out, err = process.communicate()
    finally:
        if kind == "directory":
            os.rmdir(PRELOAD)
        elif kind != "absent":
            os.unlink(PRELOAD)
    return process.returncode, base64.b64encode(out).decode(), base64.b64encode(err).decode(), waited


def _release(process: subprocess.Popen[bytes]) -> bool:
    """Open the other end of the FIFO as soon as the process has its own open; False if it ends without that."""
    while process.poll() is None:
        try:
            os.close(os.open(PRELOAD, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(0.01)
        else:
            return True
    return False


if __name__ == "__main__":
    _main()

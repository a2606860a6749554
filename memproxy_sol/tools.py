"""Finding the compilers and their like, and running them: with a log, a time limit and an environment of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from memproxy_sol import cache
from memproxy_sol.errors import BuildError

Progress = Callable[[str], None]
"""Called with one line of text as each step begins."""

TAIL = 15
"""How many lines of a log an error message shows."""

_MORE_PATH = ("/usr/ccs/bin", "/usr/gnu/bin", "/usr/sfw/bin", "/opt/csw/bin")


def silent(_: str) -> None:
    """The progress callback that says nothing."""


def environment(*keep: str) -> dict[str, str]:
    """The environment of every command: what finds programs and scratch space, `keep`, and nothing else.

    CFLAGS, LDFLAGS, LD_PRELOAD, MAKEFLAGS, CONFIG_SITE and their like would make the result depend on who builds it.
    """
    ours = {name: os.environ[name] for name in ("HOME", "TMPDIR", *keep) if name in os.environ}
    path = os.environ.get("PATH", os.defpath)
    more = [directory for directory in _MORE_PATH if os.path.isdir(directory)]
    return {
        **ours,
        "PATH": os.pathsep.join([path, *more]),
        "LC_ALL": "C",
        "LANG": "C",
        "CONFIG_SITE": os.devnull,
        "SOURCE_DATE_EPOCH": "0",
    }


def find(names: Iterable[str], package: str) -> str:
    """The path of the first of `names` that is a program.

    Raises BuildError, naming the Debian `package` that has it, if none is.
    """
    wanted = list(names)
    path = environment()["PATH"]
    for name in wanted:
        found = shutil.which(name, path=path)
        if found is not None:
            return os.path.abspath(found)
    raise BuildError(f"{wanted[0]} is not installed", hint=f"on Debian: apt-get install {package}")


def first_line(command: Sequence[str]) -> str:
    """The first line that `command` prints within 30 seconds (a version, mostly); empty if it fails."""
    try:
        with _only(environment()) as local:
            _, output, _ = local[command[0]][list(command[1:])].run(timeout=30, retcode=None)
    except Exception:  # the many errors of plumbum and subprocess all mean: it did not say
        return ""
    return str(output).partition("\n")[0].strip()


def place(made: Path, output: Path) -> None:
    """Copy the library `made` to `output`, mode 0755, so that the name never stands for half a file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    descriptor, sibling = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    try:
        with open(descriptor, "wb") as copy, made.open("rb") as original:
            shutil.copyfileobj(original, copy)
            os.fchmod(copy.fileno(), 0o755)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(sibling, output)
    except BaseException:
        os.unlink(sibling)
        raise


class Runner:
    """Runs the steps of one build, one after the other, and writes what they print to one log."""

    def __init__(self, log: Path, env: dict[str, str], progress: Progress, name: str) -> None:
        """`log` is a file in scratch space, kept under `name` when a step fails; `env` is the whole environment."""
        self.log = log
        self.env = env
        self.progress = progress
        self.name = name

    def run(
        self,
        what: str,
        command: Sequence[str],
        *,
        cwd: Path,
        seconds: float,
        more_log: Path | None = None,
    ) -> None:
        """Run `command` in `cwd` for at most `seconds`; `what` says what it does, to the user.

        Raises BuildError with the end of the log if it fails; `more_log` is a file that then belongs to the log.
        Interrupted or too late, all of the command's processes are ended.
        """
        self.progress(what)
        with self.log.open("ab") as log, _only(self.env) as local:
            log.write(f"\n== {what}\n$ {' '.join(command)}\n".encode("utf-8", "surrogateescape"))
            log.flush()
            process: Any = local[command[0]].popen(
                list(command[1:]),
                cwd=str(cwd),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                new_session=True,
            )
            try:
                status = process.wait(timeout=seconds)
                outcome = f"failed with exit status {status}" if status > 0 else f"was ended by signal {-status}"
            except subprocess.TimeoutExpired:
                _end_group(process)
                status, outcome = -1, f"took longer than {seconds:g} s"
            except BaseException:
                _end_group(process)
                raise
        if status != 0:
            lines = self.log.read_text("utf-8", "replace").rstrip().splitlines()
            tail = "\n".join(f"  | {line}" for line in lines[-TAIL:])
            if more_log is not None and more_log.is_file():
                with self.log.open("ab") as log:
                    log.write(b"\n== " + more_log.name.encode() + b"\n" + more_log.read_bytes())
            name = Path(command[0]).name
            raise BuildError(
                f"{what}: {name} {outcome}:\n{tail}\nThe whole log is in {cache.keep_log(self.log, self.name)}"
            )


@contextlib.contextmanager
def _only(env: dict[str, str]) -> Iterator[Any]:
    """plumbum's `local`, with `env` as the whole environment of its commands: its own `env=` adds to the caller's."""
    from plumbum import local

    with local.env():
        local.env.clear()
        local.env.update(env)
        yield local


def _end_group(process: Any) -> None:
    """End `process`, not yet waited for, and all of its group (a compiler below make, say)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        time.sleep(0.05)
    process.wait()

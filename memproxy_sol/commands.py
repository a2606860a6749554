"""Commands: running one command of the host, with a time limit, in a known environment, and nothing believed unread.

Only crle.py, smf.py and hosts/ run commands of the host through this room; a probe (probe.py) is no command of the
administrator's and has an environment of its own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memproxy_sol import signals
from memproxy_sol.errors import CommandError, Interrupted, printable

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin", "LC_ALL": "C", "LD_NOCONFIG": "yes"}
"""All that a command gets. LD_NOCONFIG: it has to start even where the present configuration kills every program."""

SECONDS = 30.0
"""How long a command may take that is not said to take longer."""

_GRACE = 5.0
"""Seconds that a killed command is waited for."""


@dataclass(frozen=True)
class Ran:
    """What a command did. Output is text as the C locale has it, odd bytes as surrogates."""

    command: tuple[str, ...]
    status: int
    """Its exit status; negative: the number of the signal that ended it."""
    out: str
    err: str

    @property
    def words(self) -> str:
        """What it said, on a line: standard error, else standard output, else that it said nothing."""
        said = " / ".join(line.strip() for line in (self.err or self.out).splitlines() if line.strip())
        return printable(said[:500]) or "it said nothing"

    def failure(self, hint: str | None = None) -> CommandError:
        """The error that shows the command, its status and its words."""
        ended = f"ended with status {self.status}" if self.status >= 0 else f"was ended by signal {-self.status}"
        return CommandError(f"{ended}: {self.words}", where=shlex.join(self.command), hint=hint)


class Shell:
    """Runs commands of the running system."""

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float = SECONDS,
        environment: Mapping[str, str] = ENVIRONMENT,
    ) -> Ran:
        """Run `command` (an absolute path, then its arguments) with standard input empty and `environment` alone.

        Whatever its status, it is the caller's to judge. Raises CommandError if it cannot be started, or has not
        ended, output and all, after `seconds`; it is killed then, with all of its session that it has started.
        """
        from plumbum import local
        from plumbum.commands.processes import CommandNotFound

        shown = shlex.join(command)
        process: Any = None
        try:
            # A signal waits until there is a process that can be ended for it.
            with signals.deferred(), local.env():
                local.env.clear()
                local.env.update(environment)
                process = local[command[0]][list(command[1:])].popen(
                    stdin=subprocess.DEVNULL, cwd="/", new_session=True
                )
        except Interrupted:
            if process is not None:
                _end(process)
            raise
        except (CommandNotFound, FileNotFoundError) as error:
            raise CommandError("is not on this system", where=command[0]) from error
        except OSError as error:
            raise CommandError(f"cannot be started: {error.strerror or error}", where=shown) from error
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            _end(process)
            raise CommandError(f"has not ended after {seconds:g} seconds and was killed", where=shown) from error
        except BaseException:
            _end(process)
            raise
        return Ran(tuple(command), process.returncode, _text(out), _text(err))

    def has(self, program: str) -> bool:
        """Whether the system has `program` (an absolute path)."""
        return os.access(program, os.X_OK)


def _end(process: Any) -> None:
    """Kill the process and its group; what has left that, or hangs in the kernel, is not waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        process.stdout.close()
        process.stderr.close()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")

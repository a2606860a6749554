"""Every exception of the package, each with its exit status, and the one place that words them.

The exit statuses are those of docs/cli.md: 0 done, 1 failed or could not be determined, 2 usage,
3 there are differences. An error is one sentence: where, what, and what to type next.

Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TextIO

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DIFFERENCES = 3
EXIT_INTERRUPTED = 130
"""What a shell reports for a command ended by SIGINT (128 + 2)."""


class MemproxyError(Exception):
    """A failure that the user can act on.

    `what` says what is wrong, `where` names the file (or command, or option) it is wrong in, and
    `hint` says what to type next. All are fragments without a final full stop.
    """

    exit_status = EXIT_FAILED

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.hint is None else f"{text}; {self.hint}"


class UsageError(MemproxyError):
    """The command line, or a combination of its switches, makes no sense."""

    exit_status = EXIT_USAGE


class CommandLineError(MemproxyError):
    """`run`, `bypass` and their like failed before the command was started (125, as env(1))."""

    exit_status = 125


class LdConfigError(MemproxyError):
    """A runtime linker configuration file cannot be decoded or encoded.

    `field` is the field's name in `ld_config.py`, `offset` the file offset in bytes at which it
    lies or to which it points; either is None where the file as a whole is at fault.
    """

    def __init__(
        self,
        what: str,
        *,
        field: str | None = None,
        offset: int | None = None,
        where: str | None = None,
        hint: str | None = None,
    ) -> None:
        place = "" if field is None else f"{field}: " if offset is None else f"{field} at offset {offset}: "
        super().__init__(place + what, where=where, hint=hint)
        self.field = field
        self.offset = offset


class CommandError(MemproxyError):
    """A command of the host is missing, took too long, or failed; `where` is the command as one would type it."""


class CrleError(MemproxyError):
    """The crle command failed, or its display cannot be understood."""


class CrleOptionsError(CrleError):
    """A configuration's value cannot be told to crle; nothing was run."""


class ServiceError(MemproxyError):
    """What runs the system's services cannot be asked, or does not do what it is told."""


class SmfError(ServiceError):
    """An SMF command failed, or an SMF file cannot be understood."""


class SystemdError(ServiceError):
    """systemctl failed, or a unit cannot be written."""


class ElfError(MemproxyError):
    """A file is not an ELF object, or not a readable one."""


class PreloadFileError(MemproxyError):
    """/etc/ld.so.preload cannot be changed so that our items are loaded and others' stay as they are."""


class PolicyError(MemproxyError):
    """The policy file memproxy.toml holds something that it must not."""


class ExclusionError(MemproxyError):
    """The exclusion list cannot be read or changed."""


class RouteRecordError(MemproxyError):
    """What libmemproxy says of itself in a process or a core file cannot be read."""


class ProcessGoneError(RouteRecordError):
    """The process does not exist, or ended while it was looked at."""


class ProcessDeniedError(RouteRecordError):
    """The process is another user's, or protects its memory."""


class BuildError(MemproxyError):
    """The native library cannot be built."""


class BootEnvironmentError(MemproxyError):
    """The change cannot be made in a boot environment of its own."""


class HostError(MemproxyError):
    """The machine or image cannot be read, or is of a kind that is not supported."""


class RefusedError(MemproxyError):
    """Preflight or the plan refuses the change; nothing has been changed."""


class ChangeError(MemproxyError):
    """A step of a change failed; the message says what state was left behind."""


class Interrupted(MemproxyError):
    """A signal ended the command; `number` is the signal's, the exit status what a shell reports for it."""

    def __init__(self, number: int, what: str = "") -> None:
        name = signal.Signals(number).name
        super().__init__(f"interrupted by {name}" + (f"; {what}" if what else ""))
        self.number = number
        self.exit_status = 128 + number


def printable(text: str, *, keep: str = "") -> str:
    """`text` with whatever a terminal would obey or cannot show escaped, the characters of `keep` excepted."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in text
    )


def report(error: MemproxyError, stream: TextIO | None = None) -> int:
    """Write `error` as one sentence to `stream` (standard error) and return its exit status."""
    # The terminal may be what is gone.
    with contextlib.suppress(OSError, ValueError):
        print(f"memproxy-sol: {printable(str(error), keep=chr(10))}", file=stream if stream is not None else sys.stderr)
    return error.exit_status

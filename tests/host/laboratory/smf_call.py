"""One start of an SMF command: its arguments, its environment, what it has said so far."""

from __future__ import annotations

import getopt
import os
from dataclasses import dataclass, field


class NeverReturns(Exception):
    """The command does not come back; only its caller's limit ends it. `out` and `err` are what it had said."""

    out = b""
    err = b""


class UsageError(Exception):
    """A wrong option or number of arguments; the text is the line before the usage, or empty."""


@dataclass
class Call:
    """A start of the program `name`."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    uid: int
    stdin: bytes
    _out: list[str] = field(default_factory=list)
    _err: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """A line on standard output."""
        self._out.append(f"{line}\n")

    def put(self, text: str) -> None:
        """Text on standard error, as it is."""
        self._err.append(text)

    def warn(self, message: str) -> None:
        """A message on standard error, behind the program's name."""
        self._err.append(f"{self.name}: {message}\n")

    def output(self) -> tuple[bytes, bytes]:
        """Standard output and standard error so far."""
        out, err = "".join(self._out), "".join(self._err)
        return out.encode("utf-8", "surrogateescape"), err.encode("utf-8", "surrogateescape")

    def options(self, arguments: list[str], letters: str) -> tuple[list[tuple[str, str]], list[str]]:
        """As getopt(3C) finds them. Raises UsageError."""
        try:
            return getopt.getopt(arguments, letters)
        except getopt.GetoptError as error:
            what = "illegal option" if "not recognized" in error.msg else "option requires an argument"
            raise UsageError(f"{self.name}: {what} -- {error.opt}") from None

    def path(self, name: str) -> str:
        """A file name as an absolute path, by the directory that PWD names."""
        return os.path.normpath(os.path.join(self.environment.get("PWD", "/"), name))

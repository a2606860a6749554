"""Policy: what the administrator wants, read from memproxy.toml. Every key is declared once, in KEYS."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import Any, Callable

import tomli

from memproxy_sol.errors import PolicyError
from memproxy_sol.generation import DEFAULT_PREFIX

POLICY_PATH = "/etc/memproxy.toml"


@dataclass(frozen=True)
class Policy:
    """The wishes of the administrator; the defaults are those of an absent file."""

    bits: tuple[int, ...] | None = None
    """ABIs to configure; None is all that the host has."""
    prefix: str = DEFAULT_PREFIX
    """Generations go to PREFIX/lib/memproxy."""
    allocators: tuple[str, ...] = ()
    """The custom allocator's shared object for each ABI, as paths on the target."""
    secure: str = "custom"
    """`custom`: set-id programs get the allocator, too; `system`: they do not (see docs/policy.md)."""
    replaceable: bool = False
    """False: a permanent entry (crle -E), which adds to users' own LD_PRELOAD; True: crle -e."""
    library_path: tuple[str, ...] = ()
    """Directories to add to the default library path; it is left alone if there are none."""
    service: bool = True
    """Whether the SMF service is delivered."""
    program: str | None = None
    """memproxy-sol on the target, for the service; None is PREFIX/bin/memproxy-sol."""
    probes: tuple[tuple[str, ...], ...] = ()
    """Commands that are started to try the change, beside the usual ones: an absolute path, then arguments."""

    scope: str = "all"
    """Linux: `all`; `root`: the list of preloads is for root's processes alone; `services`: no list, but LD_PRELOAD of
    the named services of systemd."""
    services: tuple[str, ...] = ()
    """The services of scope `services`."""

    @property
    def program_path(self) -> str:
        """The program that the SMF service starts."""
        return self.program if self.program is not None else f"{self.prefix}/bin/memproxy-sol"


_PLAIN_PATH = re.compile(r"/[^\s:;$\x00-\x1f\x7f]*")
"""The runtime linker splits lists at colon, semicolon and blank and expands what begins with a dollar sign."""


_UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]{1,200}\.service")
"""Names of services (systemd.unit(5))."""


def _path(value: Any) -> str:
    if not isinstance(value, str) or not _PLAIN_PATH.fullmatch(value):
        raise ValueError
    if value != "/" and (value.endswith("/") or any(part in ("", ".", "..") for part in value[1:].split("/"))):
        raise ValueError
    return value


def _paths(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(_path(item) for item in value)


def _bits(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or any(type(item) is not int for item in value):
        raise ValueError
    if any(item not in (32, 64) for item in value) or len(set(value)) != len(value):
        raise ValueError
    return tuple(sorted(value))


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _secure(value: Any) -> str:
    if value not in ("custom", "system"):
        raise ValueError
    return str(value)


def _scope(value: Any) -> str:
    if value not in ("all", "root", "services"):
        raise ValueError
    return str(value)


def _services(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or any(not isinstance(item, str) or not _UNIT.fullmatch(item) for item in value):
        raise ValueError
    return tuple(dict.fromkeys(value))


def _directory(value: Any) -> str:
    if value == "/":
        raise ValueError
    return _path(value)


def _commands(value: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list) or any(not isinstance(item, str) or "\0" in item for item in value):
        raise ValueError
    commands = tuple(tuple(shlex.split(item)) for item in value)
    if any(not command or not command[0].startswith("/") for command in commands):
        raise ValueError
    return commands


_PATH_RULE = 'an absolute path without "//", ".", "..", a final slash, blanks, ":", ";" or "$"'

KEYS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "bits": (_bits, "[32], [64] or [32, 64]"),
    "prefix": (_directory, f"a directory below /: {_PATH_RULE}"),
    "allocators": (_paths, f"a list of files, each {_PATH_RULE}"),
    "secure": (_secure, '"custom" or "system"'),
    "replaceable": (_boolean, "true or false"),
    "library_path": (_paths, f"a list of directories, each {_PATH_RULE}"),
    "service": (_boolean, "true or false"),
    "program": (_path, _PATH_RULE),
    "probes": (_commands, "a list of commands, each one string that begins with an absolute path"),
    "scope": (_scope, '"all", "root" or "services"'),
    "services": (_services, 'a list of names of systemd services, for instance ["nginx.service"]'),
}
"""Key to its check (which returns the value or raises ValueError) and the allowed values in words."""


def parse(data: bytes, where: str) -> Policy:
    """The policy in `data`, the content of the file `where`.

    Raises PolicyError, which names the file, the line where it can be told, the key and the allowed values.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError("is not UTF-8, as TOML must be", where=f"{where}, line {line}") from error
    try:
        table = tomli.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"is not valid TOML: {error}", where=where) from error
    policy = Policy()
    for key, value in table.items():
        place = _place(text, key, where)
        if key not in KEYS:
            raise PolicyError(f"unknown key {key!r}", where=place, hint=f"the keys are {', '.join(KEYS)}")
        check, allowed = KEYS[key]
        try:
            policy = replace(policy, **{key: check(value)})
        except ValueError:
            raise PolicyError(
                f"{key} = {_shown(value)} is not allowed", where=place, hint=f"it takes {allowed}"
            ) from None
    return policy


def check(key: str, value: Any, option: str) -> Any:
    """`value` judged by the rule of `key`, for the command line switch `option`; PolicyError if it is out of range."""
    rule, allowed = KEYS[key]
    try:
        return rule(value)
    except ValueError:
        raise PolicyError(f"{_shown(value)} is not allowed", where=option, hint=f"it takes {allowed}") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _place(text: str, key: str, where: str) -> str:
    """`where`, with the line at which `key` is defined if one can be found."""
    pattern = re.compile(rf"""^\s*\[*\s*(?:"{re.escape(key)}"|'{re.escape(key)}'|{re.escape(key)})\s*[=.\]]""")
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.match(line):
            return f"{where}, line {number}"
    return where

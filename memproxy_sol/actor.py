"""Actor: who changes a host and from where, for the journal and the system's log.

Standard library only: journal.py is imported at boot.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from memproxy_sol import pending, process_solaris
from memproxy_sol.errors import printable

LONGEST = 200
"""Characters that are kept: the environment may hold anything."""


@dataclass(frozen=True)
class Actor:
    """Who, and from where."""

    user: str
    """`root`, or `joe as root` where the login was another's."""
    origin: str
    """`192.0.2.7 on /dev/pts/3`, `/dev/console`, the FMRI of a service, or `no terminal`."""


def current(environment: Mapping[str, str] = os.environ) -> Actor:
    """The actor of this process: sudo's user or the terminal's login, and ssh's peer, the terminal, or the service."""
    name = _name(os.getuid())
    login = environment.get("SUDO_USER") or _login() or name
    user = name if login == name else f"{login} as {name}"
    connection = environment.get("SSH_CONNECTION") or environment.get("SSH_CLIENT") or ""
    places = [*connection.split()[:1], *_terminal()] or [environment.get("SMF_FMRI") or "no terminal"]
    return Actor(_plain(user), _plain(" on ".join(places)))


def process(pid: int) -> str | None:
    """What tells a living process from any other that has, had or will have its number; None if it has ended.

    The number, when it was started, and on Linux, where that counts from the boot, which boot it was.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else f"{pid} {fields[19].decode()} {pending.boot_id()}"
    except (OSError, IndexError):
        pass
    try:
        with open(f"/proc/{pid}/psinfo", "rb") as stream:
            known = process_solaris.parse_psinfo(stream.read(4096), pid)
    except OSError:
        return None
    return None if known is None or known.threads == 0 else f"{pid} {known.started!r}"


def log(text: str) -> None:
    """One line of the system's log (daemon.notice: /var/adm/messages as Solaris is delivered); never fails."""
    try:
        import syslog
    except ImportError:  # pragma: no cover - a Python built without it
        return
    syslog.openlog("memproxy-sol", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_NOTICE, printable(text))


def _plain(text: str) -> str:
    return printable(text)[:LONGEST]


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)


def _login() -> str:
    try:
        return os.getlogin()
    except OSError:
        return ""


def _terminal() -> list[str]:
    for descriptor in (0, 2, 1):
        try:
            return [os.ttyname(descriptor)]
        except OSError:
            continue
    return []

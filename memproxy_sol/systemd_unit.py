"""Systemd unit: memproxy.service as bytes, where it lies, and the links that have it started at boot.

Nothing here runs a command. Standard library only: the boot-time verification imports this module.
Sources: systemd.unit(5), systemd.service(5), systemd.exec(5), bootup(7), sd_booted(3).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass

from memproxy_sol import files
from memproxy_sol.errors import HostError, SystemdError
from memproxy_sol.root import Root

NAME = "memproxy.service"
DIRECTORY = "/etc/systemd/system"
PATH = f"{DIRECTORY}/{NAME}"
TARGET = "sysinit.target"
"""What pulls it in: every way to boot but the emergency shell's."""
LINK = f"{DIRECTORY}/{TARGET}.wants/{NAME}"
MODE = 0o644
PURPOSE = "systemd unit"

OTHER_DIRECTORIES = ("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
"""Where others have units, which one of the same name in DIRECTORY would hide."""
PROGRAMS = ("/lib/systemd/systemd", "/usr/lib/systemd/systemd")
"""systemd itself."""
_PULLS = re.compile(r".+\.(wants|requires|upholds)")
_START = re.compile(rb'^ExecStart="([^"\\\n]*)" verify --boot$', re.MULTILINE)
_UNSAFE = frozenset("\"'\\")
"""What systemd refuses in the path of a program, however it is quoted."""


def runs(root: Root) -> bool:
    """Whether systemd runs the system, which is the running one (sd_booted(3))."""
    status = root.lstat("/run/systemd/system") if root.is_live else None
    return status is not None and stat.S_ISDIR(status.st_mode)


def unit_with(program: str) -> bytes:
    """The unit that starts `program`, an absolute path on the target; SystemdError for one that no unit can name."""
    if not program.startswith("/") or program.endswith("/") or not program.isprintable() or _UNSAFE & set(program):
        text = "cannot be the program of the service: it is not the plain absolute path of a file"
        hint = "install memproxy-sol under such a path and name that"
        raise SystemdError(text, where=ascii(program)[1:-1][:80], hint=hint)
    word = program.replace("%", "%%")
    return f"""\
# Written by memproxy-sol, which keeps it if it is edited. A drop-in changes it, too: systemctl edit {NAME}
[Unit]
Description=Verification of the memory allocator preload
Documentation=man:memproxy-sol(8)
# Nothing waits for it, and it waits for the local file systems alone: no default dependencies, or its target
# would wait for it. What it verifies is no dependency: without that it would never say so.
DefaultDependencies=no
After=local-fs.target
Conflicts=shutdown.target
Before=shutdown.target
# Each install has it look again, however often that is.
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart="{word}" verify --boot
# The program limits itself to 20 seconds; 60 covers an interpreter that is slow to start at boot.
TimeoutStartSec=60
# It starts programs of both ABIs with whatever allocator is installed, so that nothing here concerns system calls
# in general, memory, or the mounts that it judges.
UMask=0022
LimitCORE=0
NoNewPrivileges=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX
LockPersonality=yes
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_ADMIN CAP_MKNOD
CapabilityBoundingSet=~CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE

[Install]
WantedBy={TARGET}
""".encode()


def is_masked(root: Root) -> bool:
    """Whether somebody has forbidden the unit by a link to nothing in its place."""
    status = root.lstat(PATH)
    is_link = status is not None and stat.S_ISLNK(status.st_mode)
    return is_link and os.readlink(root.host_path(PATH)) == os.devnull


def others(root: Root, is_ours: bool) -> tuple[str, ...]:
    """Where somebody else has a unit of our name; `is_ours` is whether the file at PATH is ours."""
    places = [f"{directory}/{NAME}" for directory in OTHER_DIRECTORIES]
    return tuple(path for path in (*([] if is_ours else [PATH]), *places) if root.lstat(path) is not None)


def program_in(data: bytes) -> str | None:
    """The program of a unit that `unit_with` has made, None for another unit."""
    found = _START.search(data)
    return None if found is None else found[1].decode("utf-8", "surrogateescape").replace("%%", "%")


# Whether it is started at boot, as the files tell: what systemctl does offline.


@dataclass(frozen=True)
class OnDisk:
    """What the files tell of the service where systemd does not run."""

    enabled: bool
    """Whether it will be started at the next boot."""
    is_running: bool = True
    """That it does not run is no reason to change anything there."""
    ever_ran: bool = False


def on_disk(root: Root) -> OnDisk | None:
    """What the files tell of the service; None where there is neither a unit nor a link to one."""
    enabled = bool(links(root))
    return OnDisk(enabled) if enabled or root.lstat(PATH) is not None else None


def links(root: Root) -> tuple[str, ...]:
    """The links that have it started with a target, whether they lead anywhere or not."""
    found = []
    for name in root.names(DIRECTORY) if root.exists(DIRECTORY) else ():
        path = f"{DIRECTORY}/{name}/{NAME}"
        if _PULLS.fullmatch(name):
            with contextlib.suppress(HostError):
                status = root.lstat(path)
                found += [path] if status is not None and stat.S_ISLNK(status.st_mode) else []
    return tuple(found)


def enable(root: Root) -> None:
    """Have it started at the next boot, without systemctl."""
    if links(root):
        return
    directory = os.path.dirname(LINK)
    if not root.exists(directory):
        files.make_directory(root, directory, 0o755)
    host = root.host_path(LINK)
    os.symlink(PATH, host)
    files.sync_directory(os.path.dirname(host))


def disable(root: Root) -> None:
    """Have it not started at the next boot, without systemctl; a directory that is empty then goes, as it came.

    So does one that was made for a link by who was killed before he made that.
    """
    found = links(root)
    for path in found:
        files.remove(root, path)
    files.remove_empty(root, dict.fromkeys(os.path.dirname(path) for path in (*found, LINK)))

"""Boot environment: the change made in a clone of the running system, which is then booted once.

Where beadm can activate an environment for one boot only, a clone that does not come up costs a reset: the boot after
it is the present environment's again. Where it cannot, `manual` says what to type. That it can is read from what beadm
says of itself, and each step is believed only once `beadm list` shows it.

Sources: beadm(8) of illumos, beadm(1M) of Solaris 11, lucreate(1M) of Solaris 10.
Reading is `BootEnvironments`, changing is `clone`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable

from memproxy_sol import files, signals
from memproxy_sol.commands import Ran, Shell
from memproxy_sol.errors import BootEnvironmentError, MemproxyError
from memproxy_sol.record import RUN_DIRECTORY
from memproxy_sol.root import Root

PROGRAM = "/usr/sbin/beadm"
LIVE_UPGRADE = "/usr/sbin/lucreate"
"""What Solaris 10 has instead, if its packages are installed; nothing of it boots an environment just once."""
MOUNT_POINT = f"{RUN_DIRECTORY}/environment"
"""Where a clone is mounted while it is changed."""
SECONDS = 300.0
"""How long beadm may take: a clone is quick, but the boot archive of it may be made anew."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_ONCE = re.compile(r"\bactivate\b[^\n]*\s\[?-t\b")
"""A line of the usage text that offers `activate -t`."""


@dataclass(frozen=True)
class Environment:
    """One line of `beadm list -H`."""

    name: str
    active: str
    """Letters: N is running now, R is booted from now on, T is booted next time only."""
    mount_point: str | None

    @property
    def running(self) -> bool:
        return "N" in self.active

    @property
    def permanent(self) -> bool:
        """Whether it is booted unless something else is said."""
        return "R" in self.active

    @property
    def once(self) -> bool:
        """Whether it is booted next time, and only then."""
        return "T" in self.active.upper() and not self.permanent


class BootEnvironments:
    """The boot environments of a running system."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    @property
    def present(self) -> bool:
        """Whether the system has beadm: not Solaris 10, not SmartOS, not a zone of some brands."""
        return self.shell.has(PROGRAM)

    def list(self) -> tuple[Environment, ...]:
        """All of them; BootEnvironmentError if beadm fails, or shows no line that can be understood."""
        ran = self._run("list", "-H")
        lines = [line.split(";") for line in ran.out.splitlines() if line.strip()]
        found = tuple(Environment(f[0], f[2], f[3] if f[3].startswith("/") else None) for f in lines if len(f) >= 6)
        if len(found) != len(lines) or sum(environment.running for environment in found) != 1:
            raise BootEnvironmentError("does not show which boot environments there are", where=f"{PROGRAM} list -H")
        return found

    def find(self, name: str) -> Environment | None:
        """The environment of that name."""
        return next((environment for environment in self.list() if environment.name == name), None)

    def once_is_possible(self) -> bool:
        """Whether beadm says that it can activate for one boot only."""
        ran = self.shell.run((PROGRAM, "activate"), seconds=SECONDS)  # without a name: it explains itself and fails
        return ran.status != 0 and _ONCE.search(f"{ran.out}\n{ran.err}") is not None

    def free_name(self) -> str:
        """A name that no environment has: `memproxy-1` and so on."""
        taken = {environment.name for environment in self.list()}
        return next(name for name in (f"memproxy-{number}" for number in range(1, len(taken) + 2)) if name not in taken)

    def create(self, name: str) -> None:
        """Clone the running environment."""
        self._run("create", name)
        self._expect(self.find(name) is not None, "create", name, "is not listed")

    def destroy(self, name: str) -> None:
        """Destroy an environment that is not running."""
        self._run("destroy", "-F", name)

    def mount(self, name: str, point: str) -> None:
        """Mount an environment with all its file systems on an empty directory."""
        self._run("mount", name, point)
        found = self.find(name)
        self._expect(found is not None and found.mount_point == point, "mount", name, f"is not on {point}")

    def unmount(self, name: str) -> None:
        """Unmount it."""
        self._run("unmount", name)
        found = self.find(name)
        self._expect(found is not None and found.mount_point is None, "unmount", name, "is still mounted")

    def activate_once(self, name: str) -> None:
        """Make the next boot, and that alone, one of `name`."""
        self._run("activate", "-t", name)
        found, now = self.find(name), next(e for e in self.list() if e.running)
        one_boot = found is not None and found.once and not found.permanent
        self._expect(one_boot and not now.once, "activate -t", name, "would not be booted just once")

    def _run(self, *words: str) -> Ran:
        with signals.deferred():  # a signal waits for its end: what it has made has to be known to be destroyed
            ran = self.shell.run((PROGRAM, *words), seconds=SECONDS)
        if ran.status:
            failure = ran.failure()
            raise BootEnvironmentError(failure.what, where=failure.where)
        return ran

    def _expect(self, true: bool, verb: str, name: str, otherwise: str) -> None:
        if not true:
            command = f"{PROGRAM} {verb} {shlex.quote(name)}"
            raise BootEnvironmentError(f"ended with status 0, and {name} {otherwise}", where=command)


def clone(
    shell: Shell,
    root: Root,
    change: Callable[[Root], None],
    name: str | None = None,
    options: Sequence[str] = (),
) -> str:
    """Make `change` in a clone of the running system, activate it for one boot, and return its name.

    `change` gets the clone's tree, which is no live one. Whatever fails, `change` included: the clone is unmounted and
    destroyed, nothing is activated, and the error is the caller's; so it is for HUP, INT, QUIT and TERM.
    BootEnvironmentError where beadm is missing, or does not offer to activate for one boot, before anything is done;
    its hint says what to type instead, with these `options` of install.
    """
    environments = BootEnvironments(shell)
    if name is not None and not _NAME.fullmatch(name):
        raise BootEnvironmentError(f"{name!r} is no name for a boot environment", where="--boot-env")
    if not environments.present:
        hint = "install without --boot-env, for instance on trial: --try 300"
        if shell.has(LIVE_UPGRADE):
            hint = _typed(by_live_upgrade(name or "memproxy-1", options))
        raise BootEnvironmentError("is not on this system", where=PROGRAM, hint=hint)
    chosen = name or environments.free_name()
    by_hand = _typed(manual(chosen, options))
    if environments.find(chosen) is not None:
        raise BootEnvironmentError("is the name of a boot environment already", where=chosen, hint="choose another")
    if not environments.once_is_possible():
        text = "cannot activate an environment for one boot only here"
        raise BootEnvironmentError(text, where=PROGRAM, hint=by_hand)
    created = False
    with signals.caught():
        try:
            with signals.deferred():
                environments.create(chosen)
                created = True  # what a create that failed has left may be somebody else's of the same name
            with _mounted(environments, root, chosen):
                change(Root(root.host_path(MOUNT_POINT), live=False))
            try:
                environments.activate_once(chosen)
            except BootEnvironmentError as error:
                raise BootEnvironmentError(error.what, where=error.where, hint=by_hand) from error
        except BaseException as error:
            if not created:
                raise
            with signals.deferred():
                left = _destroyed(environments, chosen)
                if left is not None and isinstance(error, MemproxyError):
                    raise BootEnvironmentError(f"{error}; and {chosen} could not be destroyed: {left}") from error
                raise
    return chosen


@contextlib.contextmanager
def _mounted(environments: BootEnvironments, root: Root, name: str) -> Iterator[None]:
    for directory in (RUN_DIRECTORY, MOUNT_POINT):
        if root.lstat(directory) is None:
            files.make_directory(root, directory, 0o755)
    if root.names(MOUNT_POINT):
        raise BootEnvironmentError("is not empty", where=MOUNT_POINT, hint=f"{PROGRAM} unmount what is mounted there")
    environments.mount(name, MOUNT_POINT)
    try:
        yield
    finally:
        with signals.deferred():
            environments.unmount(name)
            with contextlib.suppress(OSError):
                os.rmdir(root.host_path(MOUNT_POINT))


def _destroyed(environments: BootEnvironments, name: str) -> str | None:
    """Destroy the clone that we made; what it said if it could not be."""
    try:
        found = environments.find(name)
        if found is None:
            return None
        if found.mount_point is not None:
            environments.unmount(name)
        environments.destroy(name)
    except MemproxyError as error:
        return str(error)
    return None


def _typed(lines: Sequence[str]) -> str:
    return "type yourself:\n" + "\n".join(f"    {line}" for line in lines)


def manual(name: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    """What to type where beadm cannot activate for one boot: the way back is the boot menu then."""
    quoted = shlex.quote(name)
    return (
        f"beadm create {quoted}",
        "mkdir -p /a",
        f"beadm mount {quoted} /a",
        shlex.join(("memproxy-sol", "install", "--root", "/a", *options)),
        f"beadm unmount {quoted}",
        f"beadm activate {quoted}",
        "reboot",
    )


def by_live_upgrade(name: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    """The same on Solaris 10; luactivate prints the way back. Environments are switched by init(1M) alone there."""
    quoted = shlex.quote(name)
    return (
        f"lucreate -n {quoted}",
        "mkdir -p /a",
        f"lumount {quoted} /a",
        shlex.join(("memproxy-sol", "install", "--root", "/a", *options)),
        f"luumount {quoted}",
        f"luactivate {quoted}",
        "init 6",
    )

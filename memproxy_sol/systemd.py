"""Systemd: one unit of the running system asked about, and told what to do, by systemctl.

The command lies in known ways (seen with systemd 252), and this room knows them:

  exit 0 in a chroot                "Running in chroot, ignoring": nothing was done
  enable, disable, is-enabled       work on the files where systemd does not run; the others fail
  show exits 0                      for a unit that does not exist; LoadState tells it
  show, UnitFileState               is what it was when the unit was loaded; is-enabled looks at the links
  show, a unit without its file     stays loaded and active until it is stopped and everything is read again
  start of what is active           does nothing; a check is repeated by restart
  disable without the unit's file   removes nothing that is no link to it, and fails: the file goes last
  a killed systemctl                leaves its job running
"""

from __future__ import annotations

from dataclasses import dataclass

from memproxy_sol.commands import Ran, Shell
from memproxy_sol.errors import CommandError, SystemdError, printable
from memproxy_sol.root import Root

SYSTEMCTL = ("/usr/bin/systemctl", "/bin/systemctl")
JOURNALCTL = ("/usr/bin/journalctl", "/bin/journalctl")

LIMIT = 90.0
"""Seconds for a start: the unit's own limit is 60."""

_PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result", "ExecMainStartTimestamp")
_NOT_ENABLED = frozenset(
    {"disabled", "enabled-runtime", "static", "indirect", "linked", "linked-runtime", "masked", "masked-runtime"}
    | {"alias", "generated", "transient", "bad", "not-found"}
)
_WITHOUT = "without systemctl, set service = false in the policy"


@dataclass(frozen=True)
class State:
    """What systemd says of a unit."""

    active: str
    """`active`, `inactive`, `failed`, `activating`…"""
    result: str
    """`success`, `exit-code`, `timeout`…, of its last start."""
    enabled: bool
    """Whether it is started at each boot."""
    started: bool = False
    """Whether it was started since the boot."""
    masked: bool = False
    """Whether somebody has forbidden it."""

    @property
    def is_running(self) -> bool:
        """Whether its last check found nothing wrong."""
        return self.active == "active"

    @property
    def ever_ran(self) -> bool:
        """Whether it was started since the boot; systemd knows nothing of the time before."""
        return self.started

    def __str__(self) -> str:
        why = f" ({self.result})" if self.result not in ("", "success") else ""
        word = "masked" if self.masked else "enabled" if self.enabled else "disabled"
        return f"{self.active}{why}, {word}"


class Systemd:
    """The systemd of the system whose commands `shell` runs and whose files `root` has; raises SystemdError."""

    def __init__(self, shell: Shell, root: Root | None = None) -> None:
        self.shell = shell
        self.root = Root("/") if root is None else root

    def state(self, unit: str) -> State | None:
        """What the unit is doing; None if there is none, and none is left loaded."""
        ran = self._run("show", f"--property={','.join(_PROPERTIES)}", "--", unit)
        _expect_success(ran)
        known = dict(line.split("=", 1) for line in ran.out.splitlines() if "=" in line)
        if "LoadState" not in known or "ActiveState" not in known:
            raise SystemdError(f"does not say in which state it is: {ran.words}", where=unit, hint="systemctl status")
        if known["LoadState"] in ("bad-setting", "error"):
            text = f"cannot be used by systemd ({known['LoadState']})"
            raise SystemdError(text, where=unit, hint=f"systemctl status {unit} says why")
        if known["LoadState"] == "not-found" and known["ActiveState"] == "inactive":
            return None
        started = bool(known.get("ExecMainStartTimestamp"))
        is_masked = known["LoadState"] == "masked"
        return State(known["ActiveState"], known.get("Result", ""), self.is_enabled(unit), started, is_masked)

    def is_enabled(self, unit: str) -> bool:
        """Whether links have it started at each boot."""
        ran = self._run("is-enabled", "--", unit)
        word = ran.out.strip()
        if ran.status == 0 and word == "enabled":
            return True
        if word in _NOT_ENABLED or (not word and "No such file or directory" in ran.err):
            return False
        raise _failed(ran)

    def reload(self) -> None:
        """Have all unit files read again."""
        _expect_success(self._run("daemon-reload"))

    def enable(self, unit: str) -> None:
        """Have it started at each boot."""
        _expect_success(self._run("enable", "--no-ask-password", "--", unit))
        if not self.is_enabled(unit):
            hint = f"systemctl cat {unit} shows what others have made of it"
            raise SystemdError("is not enabled, though systemctl says so", where=unit, hint=hint)

    def disable(self, unit: str) -> None:
        """Have it started at no boot; whether it runs now stays."""
        _expect_success(self._run("disable", "--no-ask-password", "--", unit))

    def start(self, unit: str, limit: float = LIMIT) -> State:
        """Start it, even if it was started before, and wait for its end; SystemdError with its last words."""
        ran = self._run("restart", "--no-ask-password", "--", unit, seconds=limit)
        now = self.state(unit) if ran.status in (0, 1) else None
        if ran.status == 0 and now is not None and now.is_running and not _is_ignored(ran):
            return now
        if now is None or now.active != "failed":
            raise _failed(ran)
        said = self.last_words(unit)
        text = f"is {now}" + (f": {said}" if said else "")
        raise SystemdError(text, where=unit, hint=f"systemctl status {unit} shows its log")

    def stop(self, unit: str, limit: float = LIMIT) -> None:
        """Have it count as not started, and forget that it failed."""
        _expect_success(self._run("stop", "--no-ask-password", "--", unit, seconds=limit))
        self._run("reset-failed", "--no-ask-password", "--", unit)  # which fails where nothing is to be forgotten

    def last_words(self, unit: str) -> str:
        """The last line that its program wrote, if there is a journal that has it."""
        program = next((path for path in JOURNALCTL if self.shell.has(path)), None)
        if program is None:
            return ""
        options = ("--no-pager", "--quiet", "--output=cat", "--lines=20")
        try:
            shown = self._run("show", "--property=InvocationID", "--value", "--", unit)
            ran = self.shell.run((program, *options, f"_SYSTEMD_INVOCATION_ID={shown.out.strip()}"))
        except (CommandError, SystemdError):
            return ""
        lines = [line for line in ran.out.splitlines() if line.startswith("memproxy-sol: ")]
        return printable(lines[-1]) if lines and ran.status == 0 else ""

    def _run(self, verb: str, *operands: str, seconds: float = 30.0) -> Ran:
        program = next((path for path in SYSTEMCTL if self.shell.has(path)), SYSTEMCTL[0])
        try:
            return self.shell.run((program, verb, *operands), seconds=seconds)
        except CommandError as error:
            hint = "look whether systemd answers: systemctl status" if self.shell.has(program) else _WITHOUT
            raise SystemdError(error.what, where=error.where, hint=error.hint or hint) from error


def _is_ignored(ran: Ran) -> bool:
    return "ignoring" in ran.err and "chroot" in ran.err


def _expect_success(ran: Ran) -> None:
    """SystemdError unless the command did what was asked; it reports on standard error what it did, too."""
    if ran.status != 0 or _is_ignored(ran):
        raise _failed(ran)


def _failed(ran: Ran) -> SystemdError:
    hint = "memproxy-sol is run as root" if "ccess denied" in ran.err else None
    if "not been booted with systemd" in ran.err or _is_ignored(ran):
        hint = "set service = false in the policy, or do it where systemd runs"
    failure = ran.failure(hint)
    return SystemdError(failure.what, where=failure.where, hint=failure.hint)

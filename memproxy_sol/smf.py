"""SMF: one instance of the running system asked about, and told what to do, by svcprop, svcadm and svccfg.

These commands lie in known ways (reference "smf", sections 1, 3, 10 to 13), and this room knows them all:

  exit 0 with words on stderr       a failure, unless the words are known to be harmless
  svcadm exits 0                    a request was stored, nothing more: `wait` says what became of it
  svccfg joins and lexes arguments  an operand that would not arrive as one word is refused before
  several -p, printed last first    one property, or one group, a command
  a name matches by its first place full names of instances only, never an abbreviation
  general/enabled as of the last    asked for with -c
      refresh
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass

from memproxy_sol.commands import Ran, Shell
from memproxy_sol.errors import CommandError, SmfError, printable
from memproxy_sol.root import Root

SVCCFG = "/usr/sbin/svccfg"
SVCADM = "/usr/sbin/svcadm"
SVCS = "/usr/bin/svcs"
SVCPROP = "/usr/bin/svcprop"

MANIFEST_IMPORT = "svc:/system/manifest-import:default"

RUNNING = ("online", "degraded")
STOPPED = ("disabled",)

LIMIT = 120.0
"""Seconds until an instance has to be where it was asked to go: the check ends within 5, its start may wait."""

IMPORT_LIMIT = 600.0
"""Seconds for a run of manifest-import, which looks at every manifest of the system."""

_INSTANCE = re.compile(r"svc:/[A-Za-z][\w,.-]*(?:/[A-Za-z][\w,.-]*)*:[A-Za-z][\w,.-]*", re.ASCII)
_TOKENS = frozenset(' \t\n"\\=()><')
_LINE_LIMIT = 2047
"""Bytes of a command line that svccfg reads; it cuts the rest off without a word (section 12)."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_TAIL = 64 * 1024
_BRACKETED = re.compile(r"\[ .* \]")


@dataclass(frozen=True)
class State:
    """What the repository says of an instance, and the restarter of its state."""

    state: str
    """`uninitialized`, `disabled`, `offline`, `online`, `degraded` or `maintenance`."""
    next_state: str
    """Where it is going; `none` when nothing is under way."""
    auxiliary: str
    """Why it is there: `method_failed`, `fault_threshold_reached`…; empty where the release does not say."""
    stamp: str
    """When it came there, as the repository writes it: only ever compared."""
    enabled: bool
    """Whether it is to run: the temporary setting if there is one, else the permanent one."""
    logfile: str | None
    """Where its methods write, None before the first has run."""

    @property
    def settled(self) -> bool:
        """Whether no transition is under way."""
        return self.next_state == "none"

    @property
    def is_running(self) -> bool:
        """Whether its last check found nothing wrong."""
        return self.state in RUNNING

    @property
    def ever_ran(self) -> bool:
        """Whether a method of it was ever started."""
        return self.logfile is not None

    def __str__(self) -> str:
        going = "" if self.settled else f", going to {self.next_state}"
        why = f" ({self.auxiliary})" if self.auxiliary not in ("", "none") else ""
        return f"{self.state}{going}{why}"


def service_of(fmri: str) -> str:
    """The service of an instance: `svc:/site/memproxy` of `svc:/site/memproxy:default`."""
    return fmri.rpartition(":")[0]


class Smf:
    """The SMF of the system whose commands `shell` runs and whose files `root` has; raises SmfError throughout."""

    def __init__(
        self,
        shell: Shell,
        root: Root | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`clock` and `sleep` count and spend the seconds of every limit."""
        self.shell = shell
        self.root = Root("/") if root is None else root
        self._clock = clock
        self._sleep = sleep

    # What there is.

    def state(self, fmri: str) -> State | None:
        """What the instance is doing; None if there is no such instance."""
        properties = self._restarter(fmri)
        if properties is None:
            return None
        temporary = self._property(fmri, "general_ovr/enabled")
        permanent = self._property(fmri, "general/enabled", "-c")
        return _state(properties, (temporary or permanent) == "true")

    def _restarter(self, fmri: str) -> dict[str, str] | None:
        """The restarter's properties; empty before it has taken the instance over, None without an instance."""
        ran = self._run(SVCPROP, "-p", "restarter", _instance(fmri))
        if ran.status == 1 and "doesn't match any entities" in ran.err:
            return None
        if ran.status == 1 and "Couldn't find property" in ran.err:
            return {}
        _expect_success(ran, words=True)
        found = {}
        for line in ran.out.splitlines():
            name, _, rest = line.partition(" ")
            found[name] = _plain(rest.partition(" ")[2])
        return found

    def _property(self, fmri: str, name: str, *options: str) -> str | None:
        ran = self._run(SVCPROP, *options, "-p", name, _instance(fmri))
        if ran.status == 1 and ("Couldn't find property" in ran.err or "doesn't match any entities" in ran.err):
            return None
        _expect_success(ran, words=True)
        return _plain(ran.out.rstrip("\n"))

    def short_name(self, fmri: str) -> str:
        """What a person may type for `fmri`: the service's last name, or all of it where that means others, too."""
        short = service_of(_instance(fmri)).rpartition("/")[2]
        ran = self._run(SVCS, "-H", "-o", "fmri", short)
        return short if ran.status == 0 and ran.out.split() == [fmri] else fmri

    # What is asked for: exit 0 of these says that the request is stored.

    def enable(self, fmri: str) -> None:
        """Ask for the instance to run, now and after each boot."""
        self._ask("enable", fmri)

    def disable(self, fmri: str) -> None:
        """Ask for it not to run, now and after each boot; it leaves maintenance by that, too."""
        self._ask("disable", fmri)

    def refresh(self, fmri: str) -> None:
        """Ask for its properties to be read again; the refresh method runs only while it is online or degraded."""
        self._ask("refresh", fmri)

    def clear(self, fmri: str) -> None:
        """Ask for it to leave maintenance; SmfError if it is not there."""
        self._ask("clear", fmri)

    def restart(self, fmri: str) -> None:
        """Ask for a stop and a start; SmfError where svcadm would say nothing and do nothing (section 11)."""
        now = self.state(fmri)
        if now is None:
            raise SmfError("is not in the repository", where=fmri, hint="import its manifest")
        if now.state not in RUNNING:
            verb = "clear" if now.state == "maintenance" else "enable"
            raise SmfError(
                f"is {now}, and a restart is for what runs: it would do nothing",
                where=fmri,
                hint=f"svcadm {verb} {fmri}",
            )
        self._ask("restart", fmri)

    def _ask(self, verb: str, fmri: str) -> None:
        # Releases before 2021 exit 0 though they say "Permission denied." (section 1, fact 8).
        _expect_success(self._run(SVCADM, verb, _instance(fmri)))

    # The repository.

    def validate(self, path: str) -> None:
        """Raise SmfError unless svccfg takes the file for a good manifest; it needs a running repository for that."""
        self._check_manifest(path)
        _expect_success(self._run(SVCCFG, "validate", path))

    def import_(self, path: str) -> tuple[str, ...]:
        """Import a manifest from its final place; the remarks about customised properties which were kept.

        It does not touch whether an instance that exists is enabled, and may run its refresh method.
        """
        self._check_manifest(path)
        ran = self._run(SVCCFG, "import", path)
        words = [line for line in ran.err.splitlines() if line.strip()]
        remarks = [line for line in words if "Conflict upgrading" in line]
        if ran.status != 0 or len(remarks) != len(words):
            _expect_success(ran)
        return tuple(printable(line.strip()) for line in remarks)

    def delete(self, service: str) -> None:
        """Delete a service, which must not run, from the repository; if it is not there that is fine."""
        if not re.fullmatch(_INSTANCE, f"{service}:default"):
            raise SmfError("is not the full name of a service", where=service, hint="name it svc:/category/service")
        ran = self._run(SVCCFG, "delete", service)
        if not (ran.status == 1 and "doesn't match any instances or services" in ran.err):
            _expect_success(ran)

    def forget_file(self, path: str) -> None:
        """Have the hash of a manifest forgotten, so that the file counts as new when it comes again (section 1, 11).

        A release without hashes, and a file without one, are all the same to it.
        """
        _operand(path)
        gone = () if self.root.exists(path) else ("-d",)
        self._run(SVCCFG, "delhash", *gone, path)

    def restart_import(self, limit: float = IMPORT_LIMIT) -> None:
        """Have all manifests imported by the service for it, and wait until it has ended.

        One run that is under way already is waited for first, lest its end be taken for ours.
        """
        self.wait(MANIFEST_IMPORT, RUNNING, limit)
        before = self.state(MANIFEST_IMPORT)
        self.restart(MANIFEST_IMPORT)
        self.wait(MANIFEST_IMPORT, RUNNING, limit, since=before)

    def _check_manifest(self, path: str) -> None:
        _operand(path)
        status = self.root.stat(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            # svccfg would take the name for a service, or import a directory and exit 0 whatever is in it.
            raise SmfError(
                "is not a file, so that it is no manifest", where=path, hint="memproxy-sol install writes it"
            )

    # What became of it.

    def wait(self, fmri: str, wanted: tuple[str, ...], limit: float = LIMIT, since: State | None = None) -> State:
        """The state once it is one of `wanted` and nothing is under way.

        With `since`, which was seen before the request, a state of the same time stamp is not an answer yet.
        Raises SmfError for maintenance, with what the log says, for an instance that is not there, and after
        `limit` seconds.
        """
        deadline = self._clock() + limit
        pause = _FIRST_PAUSE
        while True:
            properties = self._restarter(fmri)
            if properties is None:
                raise SmfError("is not in the repository", where=fmri, hint="import its manifest")
            now = _state(properties, enabled=False)
            answer = now.settled and (since is None or now.stamp != since.stamp)
            if answer and now.state in wanted:
                return now
            if answer and now.state == "maintenance":
                raise self.explained(fmri, now)
            left = deadline - self._clock()
            if left <= 0:
                raise SmfError(
                    f"is still {now} after {limit:g} seconds, not {' or '.join(wanted)}",
                    where=fmri,
                    hint=f"svcs -xv {fmri} says what it waits for",
                )
            self._sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def bring_up(self, fmri: str, limit: float = LIMIT) -> State:
        """Enable the instance, out of maintenance if it is there, and wait until it runs."""
        before = self.state(fmri)
        self.enable(fmri)
        if before is None or before.state != "maintenance":
            return self.wait(fmri, RUNNING, limit)
        self.clear(fmri)
        return self.wait(fmri, RUNNING, limit, since=before)

    def bring_down(self, fmri: str, limit: float = LIMIT) -> None:
        """Disable the instance and wait until it is; if there is none that is fine."""
        before = self.state(fmri)
        if before is None:
            return
        self.disable(fmri)
        self.wait(fmri, STOPPED, limit, since=before if before.state == "maintenance" else None)

    def look_again(self, fmri: str, limit: float = LIMIT) -> State:
        """Have the check of an instance run once more, and wait for what it says; SmfError if that is maintenance."""
        before = self.state(fmri)
        if before is not None and before.state == "maintenance":
            self.clear(fmri)
        elif before is not None and before.state in RUNNING:
            self.refresh(fmri)
        else:
            raise SmfError(f"is {before or 'not in the repository'}", where=fmri, hint=f"svcadm enable {fmri}")
        return self.wait(fmri, RUNNING, limit, since=before)

    def explained(self, fmri: str, state: State) -> SmfError:
        """The error that says in which state the instance is, and why, with the last words of its method."""
        lines = self.log_tail(fmri)
        said = [line for line in lines if not _BRACKETED.fullmatch(line)] or lines
        why = f": {said[-1]}" if said else ""
        return SmfError(f"is in {state}{why}", where=fmri, hint=f"svcs -xv {fmri} names its log")

    def log_tail(self, fmri: str) -> tuple[str, ...]:
        """The lines of the instance's log since a method was last started, printable; empty if there is no log."""
        named = (self._restarter(fmri) or {}).get("restarter/logfile")
        path = named or f"/var/svc/log/{fmri[len('svc:/') :].replace('/', '-')}.log"
        try:
            descriptor = os.open(
                self.root.host_path(self.root.resolve(path)), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError:
            return ()
        with open(descriptor, "rb") as stream:
            stream.seek(max(0, os.fstat(descriptor).st_size - _TAIL))
            data = stream.read(_TAIL)
        lines = [printable(line) for line in data.decode("utf-8", "surrogateescape").split("\n") if line]
        starts = [i for i, line in enumerate(lines) if _BRACKETED.fullmatch(line) and " Executing " in line]
        return tuple(lines[starts[-1] + 1 :] if starts else lines)

    def _run(self, program: str, *operands: str) -> Ran:
        try:
            return self.shell.run((program, *operands))
        except CommandError as error:
            hint = "look whether svc.configd and svc.startd run" if self.shell.has(program) else _WITHOUT
            raise SmfError(error.what, where=error.where, hint=error.hint or hint) from error


_WITHOUT = "SMF is part of Solaris; without it, set service = false in the policy"


def _state(properties: dict[str, str], enabled: bool) -> State:
    return State(
        state=properties.get("restarter/state", "uninitialized"),
        next_state=properties.get("restarter/next_state", "none"),
        auxiliary=properties.get("restarter/auxiliary_state", ""),
        stamp=properties.get("restarter/state_timestamp", ""),
        enabled=enabled,
        logfile=properties.get("restarter/logfile"),
    )


def _plain(value: str) -> str:
    """A value as svcprop prints it, without its quotes and backslashes."""
    return "" if value == '""' else re.sub(r"\\(.)", r"\1", value)


def _instance(fmri: str) -> str:
    """`fmri`, if it is the full name of an instance, which alone means the same to all commands (section 3)."""
    if not _INSTANCE.fullmatch(fmri):
        raise SmfError("is not the full name of an instance", where=fmri, hint="name it svc:/category/service:instance")
    return fmri


def _operand(path: str) -> str:
    """`path`, if svccfg gets it as one word (section 12)."""
    bad = sorted(_TOKENS.intersection(path))
    if bad or not path.startswith("/") or not path.isprintable():
        what = f"has {' '.join(map(ascii, bad))} in its name" if bad else "is not a plain absolute path"
        raise SmfError(f"{what}, which svccfg does not take for one word", where=path, hint="give it a plain name")
    if len(os.fsencode(path)) > _LINE_LIMIT - len("delhash -d "):
        raise SmfError("has a name that svccfg would cut off", where=path, hint="give it a shorter name")
    return path


def _expect_success(ran: Ran, words: bool = False) -> None:
    """SmfError unless the command did what was asked: status 0 and, if it has nothing to say (`words`), silence."""
    if ran.status == 0 and not ran.err.strip() and (words or not ran.out.strip()):
        return
    hint = None
    if "repository server unavailable" in ran.err:
        hint = "svc.configd does not answer: type it again when it does, or see smf(7) on a damaged repository"
    elif "ermission denied" in ran.err:
        hint = "memproxy-sol is run as root"
    failure = ran.failure(hint)
    raise SmfError(failure.what, where=failure.where, hint=failure.hint)

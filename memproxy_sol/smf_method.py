"""The SMF start and refresh method, `memproxy-sol verify --smf`: whatever happens, one of SMF's own exit codes.

A plain non-zero status is tried three times at once and explains nothing, so that neither a traceback (1) nor
argparse (2) nor a failing flush (120) may decide. The check runs in a forked child and the parent only waits:
a child that hangs, even in a read that no signal ends, that crashes or that eats all memory cannot keep the
parent from answering. Standard library and our own modules only; those of the check are imported in the child.

Sources: smf_method(5), and the exit statuses as svc.startd treats them (reference "smf", section 5).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from memproxy_sol import signals
from memproxy_sol.errors import printable

if TYPE_CHECKING:
    from memproxy_sol.changes import Change
    from memproxy_sol.root import Root

LIMIT_SECONDS = 20.0
"""For the whole check, probes included: well within the 60 seconds of the manifest, after which it would be retried."""
_GRACE = 1.0
"""Seconds that the child has to end what it has started."""

OK = 0
ERR_FATAL = 95
ERR_CONFIG = 96
ERR_NOSMF = 99
ERR_PERM = 100
NAMES = {
    OK: "SMF_EXIT_OK",
    ERR_FATAL: "SMF_EXIT_ERR_FATAL",
    ERR_CONFIG: "SMF_EXIT_ERR_CONFIG",
    ERR_NOSMF: "SMF_EXIT_ERR_NOSMF",
    ERR_PERM: "SMF_EXIT_ERR_PERM",
}
"""The statuses that are used, all of which the restarter takes as they are meant, at the first time."""


@dataclass(frozen=True)
class Answer:
    """What the restarter gets: an exit status and the last line of the log."""

    status: int
    reason: str
    """What is the matter, without a final full stop."""
    hint: str = ""
    """The command that mends it."""

    def line(self, fmri: str) -> str:
        """The last line of the log, at which `svcs -x` points; `fmri` is the instance to clear."""
        text = f"memproxy-sol: {NAMES[self.status]} ({self.status}): {self.reason}"
        if self.hint:
            text += f"; {self.hint}"
        if self.status in (OK, ERR_NOSMF):
            return text
        return f"{text}; then svcadm clear {fmri}" if self.hint else f"{text}; svcadm clear {fmri} looks again"


def main(argv: list[str], limit: float = LIMIT_SECONDS) -> int:
    """Verify as SMF's method, `argv` being what follows `verify`; return the exit status, never raise.

    `--root DIR` looks at another tree than `/`; anything else beside `--smf` is a fault of the manifest (95).
    Standard output gets each finding on a line, then the reason and the mending command on the last one.
    """
    fmri = os.environ.get("SMF_FMRI", "")
    try:
        answer = _answer(argv, fmri, limit)
    except BaseException as error:  # KeyboardInterrupt and MemoryError included: nothing else may decide
        answer = internal(error)
    write(answer.line(fmri))
    return answer.status


def _answer(argv: list[str], fmri: str, limit: float) -> Answer:
    if not fmri:
        return Answer(
            ERR_NOSMF,
            "this is the method of an SMF service, and SMF_FMRI is not in the environment",
            "type memproxy-sol verify, or svcadm enable svc:/site/memproxy:default",
        )
    path, strange = tree(argv, "--smf")
    if strange is not None:
        return Answer(
            ERR_FATAL,
            f"the method takes no argument {strange!r}",
            "import the manifest as delivered: svcadm restart svc:/system/manifest-import:default",
        )
    if not path:
        return Answer(ERR_FATAL, "--root names no directory", "name one")
    if not os.environ.get("LD_NOCONFIG"):
        write("warning: LD_NOCONFIG is not set: with a broken preload this method would die before its first line")
    return in_child(path, limit)


def tree(argv: list[str], switch: str) -> tuple[str, str | None]:
    """The tree that the arguments of a method name, `switch` being its own, and the first that it does not know."""
    path = "/"
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--root":
            path = next(arguments, "")
        elif argument.startswith("--root="):
            path = argument[len("--root=") :]
        elif argument != switch:
            return path, argument
    return path, None


def in_child(path: str, limit: float) -> Answer:
    """The answer of a child that verifies the tree `path`; without one after `limit` seconds the child is killed."""
    deadline = time.monotonic() + limit
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(path, writer)
    os.close(writer)
    data = None
    try:
        data = _read_until_closed(reader, deadline)
    finally:
        if data is None:
            _end(child, reader)
        os.close(reader)
    if data is None:
        return Answer(
            ERR_FATAL,
            f"the check took longer than {limit:g} seconds and was ended",
            "look for a file system that does not answer, with memproxy-sol verify",
        )
    _, wait_status = os.waitpid(child, 0)
    if os.WIFSIGNALED(wait_status):
        return internal(f"the check died on signal {os.WTERMSIG(wait_status)}")
    status, _, rest = data.decode("utf-8").partition("\n")
    reason, _, hint = rest.partition("\n")
    if not reason:
        return internal(f"the check ended with status {os.WEXITSTATUS(wait_status)} and without an answer")
    return Answer(int(status), reason, hint)


def _end(child: int, reader: int) -> None:
    """Have the child end, and before that what it has started: a probe has a session of its own.

    Killed but not waited for: in a read that no signal ends it would take the parent with it.
    """
    os.kill(child, signal.SIGTERM)
    try:
        _read_until_closed(reader, time.monotonic() + _GRACE)
    finally:
        os.kill(child, signal.SIGKILL)


def _read_until_closed(descriptor: int, deadline: float) -> bytes | None:
    """Everything that is written to the pipe, or None if it is not closed at `deadline`."""
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        piece = os.read(descriptor, 65536)
        if not piece:
            return data
        data += piece


def _child(path: str, writer: int) -> NoReturn:
    """Verify, print the findings, send the answer, end: no clean-up of the parent's runs twice."""
    try:
        try:
            with signals.caught():
                answer = _verify(path)
        except BaseException as error:
            answer = internal(error)
        text = "\n".join((str(answer.status), printable(answer.reason), printable(answer.hint)))
        _write_all(writer, text.encode("utf-8"))
    finally:
        os._exit(0)


def _verify(path: str) -> Answer:
    from memproxy_sol.errors import Interrupted, MemproxyError
    from memproxy_sol.root import Root

    try:
        root = Root(path)
        if not root.is_live:
            return _judge(root)
        taken_back = _end_forgotten_trial(root)
        _try_staged(root)
        return _under_way(root) or _judge(root, taken_back)
    except Interrupted:
        raise
    except (MemproxyError, PermissionError) as error:
        if not isinstance(error, MemproxyError):
            return Answer(ERR_PERM, str(error), "run memproxy-sol verify as root")
        place = "" if error.where is None else f"{error.where}: "
        return Answer(ERR_PERM if _denied(error) else ERR_CONFIG, place + error.what, error.hint or "")


def _end_forgotten_trial(root: Root) -> str | None:
    """Take back a trial whose guard is gone, as after a reboot; what was done, in words, None if there is none."""
    from memproxy_sol import guard, journal, lock
    from memproxy_sol.errors import ChangeError, HostError

    try:
        change = guard.forgotten(root)
    except HostError:
        return None  # a damaged journal is a finding of verify
    if change is None:
        return None
    try:
        with lock.locked(root):
            done = journal.recover(root, change)
    except HostError:
        if lock.holder(root) is None:
            raise
        return None  # a command was faster, and does it
    except OSError as error:
        text = f"change {change.number} ({change.what}) is on trial without a guard and cannot be taken back: {error}"
        raise ChangeError(text, hint="memproxy-sol uninstall takes it back first") from error
    write(done)
    _tell_of_service(change)
    return done


def _tell_of_service(change: Change) -> None:
    """Log what becomes of the service with a change that was taken back by its own method."""
    from memproxy_sol import smf_manifest, systemd_unit
    from memproxy_sol.steps import ChangeService, ReplaceFile

    for step in change.steps:
        if isinstance(step, ChangeService) and step.path == systemd_unit.PATH and step.before != step.after:
            write(f"the service itself is as before on the disk, too, {step.path}; systemctl daemon-reload reads that")
        if isinstance(step, (ChangeService, ReplaceFile)) and smf_manifest.is_place(step.path):
            # The file is back; a method cannot import or delete its own service while it runs.
            text = f"the service itself follows its manifest, {step.path}, at the next import of manifests"
            write(f"{text}; if it does not, memproxy-sol uninstall takes it out")


def _try_staged(root: Root) -> None:
    """Try a change that was staged for this boot, and put it into force; ChangeError with the reason if it is not."""
    from memproxy_sol import first_boot, lock
    from memproxy_sol.errors import ChangeError, HostError

    try:
        if first_boot.staged(root) is None:
            return
        with lock.locked(root):
            change = first_boot.staged(root)
            if change is None:
                return
            try:
                write(first_boot.attempt(root, change))
            except ChangeError:
                if first_boot.staged(root) is None:
                    _tell_of_service(change)
                raise
    except HostError:
        return  # a damaged journal is a finding of verify, and a command that was faster is under way


def _under_way(root: Root) -> Answer | None:
    """The answer while somebody who lives is changing the system, or guards a trial: it is not a failure yet.

    `install` enables the service before the configuration exists, and has it look again when all is done.
    """
    from memproxy_sol import changes, journal, pending
    from memproxy_sol.errors import HostError

    try:
        change = journal.unfinished(root)
    except HostError:
        return None  # as above
    if change is None or change.state == "complete":
        return None
    holder = changes.at_work(root, change)
    if holder is not None:
        by = f" by process {holder}" if holder else ""
        return Answer(OK, f"change {change.number} ({change.what}) is being carried out{by}; the check follows it")
    if pending.is_guarded(root):
        text = f"change {change.number} ({change.what}) is on trial, and is taken back unless it is confirmed"
        return Answer(OK, text, "memproxy-sol confirm keeps it")
    return None


def _judge(root: Root, taken_back: str | None = None) -> Answer:
    """Verify the tree, and on the running system, if nothing is wrong with it, new processes."""
    from memproxy_sol import live_probe
    from memproxy_sol.findings import errors_in
    from memproxy_sol.verify import verify

    report = verify(root)
    findings = report.findings
    if root.is_live and not errors_in(findings):
        findings += live_probe.findings(root, report.abis)
    for finding in findings:
        write(str(finding))
    errors = errors_in(findings)
    if taken_back is not None and all(error.identifier == "not-installed" for error in errors):
        now = "memproxy is not installed, as before" if errors else "nothing else is wrong"
        return Answer(OK, f"{taken_back}; {now}")
    if not errors:
        return Answer(OK, f"nothing wrong below {root.path}, {len(findings)} remarks above")
    wrong = [finding for finding in errors if not finding.unreadable]
    first = wrong[0] if wrong else errors[0]
    more = f" (and {len(errors) - 1} more above)" if len(errors) > 1 else ""
    return Answer(ERR_CONFIG if wrong else ERR_PERM, f"{first.where}: {first.text}{more}", first.hint)


def _denied(error: BaseException | None) -> bool:
    """Whether lack of rights is at the bottom of `error`."""
    while error is not None:
        if isinstance(error, PermissionError):
            return True
        error = error.__cause__
    return False


def internal(error: BaseException | str) -> Answer:
    """The answer for what must not happen."""
    what = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return Answer(ERR_FATAL, f"internal error: {what}", "type memproxy-sol verify, and report what it says")


def write(text: str) -> None:
    """One line to the log, which `text` can neither break nor forge.

    Not through sys.stdout, whose flush at the end could fail and decide the status.
    """
    with contextlib.suppress(OSError):
        _write_all(1, printable(text).encode("utf-8") + b"\n")


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]

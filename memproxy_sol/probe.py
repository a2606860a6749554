"""Probe: one program started to see whether new processes start, with libmemproxy in them, on the wanted route.

That a program ran proves nothing: a configuration that is missing, empty or unreadable is silently none (reference
"crle", 5.1). So a probe is good only if libmemproxy itself says that it is there: MEMPROXY_DEBUG=1 makes it write one
line to standard error (docs/native.md). Set-id programs do not obey MEMPROXY_DEBUG, and the runtime linker warns
where it would kill another (section 5.5); of them the absence of its warnings is asked.
Standard library only: this runs at boot.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from memproxy_sol import signals
from memproxy_sol.abi import ABIS
from memproxy_sol.errors import Interrupted, printable
from memproxy_sol.generation import LIBRARY, NAMED

SECONDS = 10.0
"""How long a probe may take unless it is said to take longer."""

KEPT = 64 * 1024
"""Bytes of each output stream that are kept; what comes after is read and forgotten."""

DEBUG = {"MEMPROXY_DEBUG": "1"}
"""What the environment of a probe must hold for libmemproxy to tell of itself."""

NO_CONFIGURATION = {"LD_NOCONFIG": "yes"}
"""What keeps Solaris' runtime linker from every configuration file."""

_GRACE = 5.0
"""Seconds that a killed process is waited for: one that hangs in the kernel must not hang us."""
_GLANCE = 0.02
"""Seconds between two looks whether the process has ended while it, or what it left behind, keeps its output open."""


@dataclass(frozen=True)
class Probe:
    """A program, and as whom it is started."""

    name: str
    """What it is in words: `/usr/bin/true`, `the login shell`…"""
    command: tuple[str, ...]
    """The executable's absolute path as the target sees it, then its arguments."""
    bits: int
    """The ABI of the process that it becomes."""
    user: str | None = None
    """None: as the caller, which is root; else a user's name: that user's uid and gid, and no other group."""
    secure: bool = False
    """Set-id: LD_CONFIG_* and MEMPROXY_DEBUG are ignored, and a preload that cannot be loaded is a warning. So nothing
    but its end, and that nobody complains, is asked of it; nor of a program of an ABI that gets no library."""

    def __str__(self) -> str:
        return f"{self.name} ({self.bits}-bit, as {self.user or 'root'})"


_SERVED = re.compile(r"^memproxy: .*?: route (?P<route>[a-z]+), served by .*?: (?P<reason>[^:\n]*)$", re.MULTILINE)
"""The line of native/debug.cc."""
_COMPLAINT = re.compile(
    r"^ld\.so\.1: .*(?:warning|fatal): .*$"
    r"|^ERROR: ld\.so: object .*$|^.*: error while loading shared libraries: .*$|^.*: symbol lookup error: .*$",
    re.MULTILINE,
)
_OWN_MALLOC = (
    "malloc of this process is defined ahead of libmemproxy.so",
    "the program is built with a sanitizer, which has a malloc of its own",
)
"""Reasons for the route `system` that no list and no allocator changes; native/debug.cc has the same words."""


@dataclass(frozen=True)
class Outcome:
    """What came of a probe."""

    probe: Probe
    status: int
    """Its exit status; negative: the number of the signal that ended it."""
    out: bytes = b""
    err: bytes = field(default=b"", repr=False)
    problem: str = ""
    """What kept it from being started, or from ending in time; `status` means nothing then."""

    @property
    def route(self) -> str | None:
        """The route that libmemproxy took in the process, None if it was not in it."""
        found = _SERVED.search(_text(self.err))
        return found["route"] if found else None

    @property
    def own_malloc(self) -> bool:
        """Whether the program has a malloc of its own, so that libmemproxy, which is there, stays out of its way."""
        found = _SERVED.search(_text(self.err))
        return found is not None and found["reason"] in _OWN_MALLOC

    @property
    def complaint(self) -> str | None:
        """The runtime linker's first warning or last word, None if it had none."""
        found = _COMPLAINT.search(_text(self.err))
        return None if found is None else printable(found[0])

    @property
    def _is_ignored(self) -> bool:
        """Whether the runtime linker only says, as Linux' does, which objects it does without."""
        lines = [found[0] for found in _COMPLAINT.finditer(_text(self.err))]
        return all(line.startswith("ERROR: ld.so: object ") and line.endswith(": ignored.") for line in lines)

    @property
    def complains_of_ours(self) -> bool:
        """Whether the runtime linker complains of something in a generation, and not of another's preload alone."""
        lines = [found[0] for found in _COMPLAINT.finditer(_text(self.err))]
        return any(LIBRARY in line or NAMED.search(line.encode("utf-8", "surrogateescape")) for line in lines)

    @property
    def started(self) -> str | None:
        """None if the program ran and ended with 0, else what happened instead, in words."""
        if self.problem:
            return self.problem
        if self.status < 0:
            return f"was ended by signal {-self.status}: {self.words}"
        return None if self.status == 0 else f"ended with status {self.status}: {self.words}"

    def wrong(self, route: str | None) -> str | None:
        """None for a good outcome, else what is wrong with it, in words.

        `route` is the route which libmemproxy has to report, None where any will do.
        """
        failed = self.started
        if failed is not None:
            return failed
        # Of another's preload every set-id program is warned, before the change and after it.
        if self.complaint is not None and (self.complains_of_ours or not (self.probe.secure or self._is_ignored)):
            return f"the runtime linker says: {self.complaint}"
        if self.probe.secure:
            return None
        if self.route is None:
            return "started, but libmemproxy is not in it"
        if route not in (None, self.route) and not self.own_malloc:
            return f"is on route {self.route}, not {route}: {self.words}"
        return None

    @property
    def words(self) -> str:
        """The runtime linker's complaint, else the last line that the program wrote to standard error."""
        lines = [line.strip() for line in _text(self.err).splitlines() if line.strip()]
        return (self.complaint or printable(lines[-1]))[:300] if lines else "it said nothing"


class Prober:
    """Starts probes on the running system."""

    tries_secure = False
    """Whether set-id programs can be given a candidate: on Solaris they ignore LD_CONFIG_32 and LD_CONFIG_64."""

    def trying(self, candidates: Mapping[int, str]) -> tuple[Prober, dict[str, str]]:
        """What starts probes with these files (target paths by bits) as configuration, or with none if there are none,
        and what it needs in their environment."""
        given = {ABIS[bits].suffixed("LD_CONFIG"): path for bits, path in candidates.items()}
        return self, given or dict(NO_CONFIGURATION)

    def obstacle(self, candidates: Mapping[int, str]) -> str | None:
        """Why nothing can be started with these candidates here, in words; None if it can."""
        return None

    def run(self, probe: Probe, environment: Mapping[str, str], seconds: float = SECONDS) -> Outcome:
        """Start the probe with exactly `environment`, and wait at most `seconds` for its end.

        It gets a session of its own, `/` as its directory, umask 022, no core file, an empty standard input and no
        descriptor of ours. Whatever is left of its process group at the end or at the limit is killed. Never raises
        for what the program does; a program or user that does not exist is an Outcome with a `problem`.
        """
        ids: tuple[int, int] | None = None
        if probe.user is not None:
            try:
                known = pwd.getpwnam(probe.user)
            except KeyError:
                return Outcome(probe, -1, problem=f"there is no user {probe.user}")
            ids = (known.pw_uid, known.pw_gid)
        deadline = time.monotonic() + seconds
        process: subprocess.Popen[bytes] | None = None
        try:
            # A signal waits until there is a process that can be ended for it.
            with signals.deferred(), _no_core():
                process = subprocess.Popen(
                    probe.command,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    umask=0o022,
                    start_new_session=True,
                    close_fds=True,
                    **self.becoming(ids),  # type: ignore[call-overload]
                )
        except Interrupted:
            if process is not None:
                _end(process)
            raise
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return Outcome(probe, -1, problem=f"cannot be started: {text}")
        return _attend(probe, process, deadline, seconds)

    def becoming(self, ids: tuple[int, int] | None) -> dict[str, object]:
        """What makes subprocess start a probe as a user and group and no other, or, for None, as the caller."""
        return {} if ids is None else {"user": ids[0], "group": ids[1], "extra_groups": []}


def _attend(probe: Probe, process: subprocess.Popen[bytes], deadline: float, seconds: float) -> Outcome:
    out, err = bytearray(), bytearray()
    ended = False
    try:
        with selectors.DefaultSelector() as selector:
            for stream, kept in ((process.stdout, out), (process.stderr, err)):
                assert stream is not None
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, kept)
            while not ended and time.monotonic() < deadline:
                # Its end is not the end of its output: a daemon that it left may hold that open for ever.
                ended = _has_ended(process)
                _collect(selector, 0.0 if ended else min(_GLANCE, max(0.0, deadline - time.monotonic())))
            ended = ended or _has_ended(process)
            _collect(selector, 0.0)
    finally:
        _end(process)
    problem = "" if ended else f"had not ended after {seconds:g} seconds and was killed"
    status = process.returncode
    return Outcome(probe, -int(signal.SIGKILL) if status is None else status, bytes(out), bytes(err), problem)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; it stays a zombie, so that its number cannot be another group's when that is killed."""
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # somebody else has waited for it
        return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of its group, and wait for it, but not for ever."""
    _kill_group(process)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _collect(selector: selectors.BaseSelector, seconds: float) -> None:
    """Wait at most `seconds` for output, and read what is there; a stream at its end is looked at no more."""
    if not selector.get_map():
        time.sleep(seconds)
        return
    for _ in range(64):  # bounded: a program that never stops to write must not keep us from the limit
        ready = selector.select(seconds)
        if not ready:
            return
        seconds = 0.0
        for key, _events in ready:
            try:
                piece = os.read(key.fd, 65536)
            except BlockingIOError:
                continue
            if not piece:
                selector.unregister(key.fileobj)
                continue
            kept = cast(bytearray, key.data)
            kept += piece[: max(0, KEPT - len(kept))]
        if not selector.get_map():
            return


@contextlib.contextmanager
def _no_core() -> Iterator[None]:
    """Without the right to a core file, which a child inherits: its directory would be `/`."""
    before: tuple[int, int] | None = None
    with contextlib.suppress(OSError, ValueError):
        before = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_CORE, before)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")

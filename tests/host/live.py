"""Live: a laboratory seen as the running system, and the commands on it, through the real code in this process."""

from __future__ import annotations

import os
import selectors
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from memproxy_sol.cli import main
from memproxy_sol.commands import ENVIRONMENT, SECONDS, Ran, Shell
from memproxy_sol.errors import CommandError
from memproxy_sol.probe import SECONDS as PROBE_SECONDS
from memproxy_sol.probe import Outcome, Probe, Prober
from memproxy_sol.root import Root
from tests.host.laboratory import Laboratory, Program, Result
from tests.host.laboratory.smf import NeverReturns
from tests.images import Image, furnish

RELEASES = {
    "10": "                    Oracle Solaris 10 1/13 s10x_u11wos_24a X86\n",
    "11.4": "                            Oracle Solaris 11.4 X86\n",
    "illumos": "  OpenIndiana Hipster 2024.04 X86\n",
}


class LaboratoryShell(Shell):
    """Runs commands of a laboratory."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float = SECONDS,
        environment: Mapping[str, str] = ENVIRONMENT,
    ) -> Ran:
        """As `Shell.run`; nobody waits: a command whose fault says that it takes longer has been killed."""
        shown = " ".join(command)
        late = _late(self.lab, command, seconds)
        try:
            result = self.lab.execute(list(command), environment)
        except NeverReturns:
            late = True
        except FileNotFoundError as error:
            raise CommandError("is not on this system", where=command[0]) from error
        except OSError as error:
            raise CommandError(f"cannot be started: {error.strerror or error}", where=shown) from error
        if late:
            raise CommandError(f"has not ended after {seconds:g} seconds and was killed", where=shown)
        out, err = (data.decode("utf-8", "surrogateescape") for data in (result.out, result.err))
        return Ran(tuple(command), result.status, out, err)

    def has(self, program: str) -> bool:
        """Whether the laboratory has `program`."""
        fault = self.lab.faults.get(program)
        return not (fault is not None and fault.missing) and self.lab.tree.may(program, 0, 1)


class LaboratoryProber(Prober):
    """Starts probes in a laboratory."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab

    def run(self, probe: Probe, environment: Mapping[str, str], seconds: float = PROBE_SECONDS) -> Outcome:
        """As `Prober.run`."""
        uid = 0
        if probe.user is not None:
            known = self.lab.user(probe.user)
            if known is None:
                return Outcome(probe, -1, problem=f"there is no user {probe.user}")
            uid = known
        late = _late(self.lab, probe.command, seconds)
        try:
            result = self.lab.execute(probe.command, environment, uid)
        except OSError as error:
            return Outcome(probe, -1, problem=f"cannot be started: {error.strerror}")
        problem = f"had not ended after {seconds:g} seconds and was killed" if late else ""
        return Outcome(probe, -9 if late else result.status, result.out, result.err, problem)


def _late(lab: Laboratory, command: Sequence[str], seconds: float) -> bool:
    """Whether a fault makes the command take longer than this."""
    fault = lab.faults.get(command[0])
    return fault is not None and fault.seconds > seconds and fault.times != 0 and fault.when(command)


class Live(Image):
    """A furnished laboratory as the running system; `run` is the command line without --root."""

    def __init__(self, lab: Laboratory, objects: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(lab.top, objects, capsys)
        self.lab = lab
        self.shell = LaboratoryShell(lab)
        self.prober = LaboratoryProber(lab)
        self.root = Root(os.fspath(lab.top), live=True)

    def run(self, command: str, *arguments: str) -> int:
        """`memproxy-sol COMMAND ARGUMENTS` on the running system; what it printed is in `out` and `err`."""
        status = main([command, *arguments])
        self.out, self.err = self.capsys.readouterr()
        return status

    def uninstall(self, *arguments: str) -> int:
        """`memproxy-sol uninstall`."""
        return self.run("uninstall", *arguments)


def build(
    top: Path,
    objects: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    release: str = "illumos",
) -> Live:
    """A laboratory below `top` with real objects in it, put in the place of the running system."""
    before = os.umask(0o022)
    try:
        top.mkdir()
        furnish(top, objects, RELEASES[release])
    finally:
        os.umask(before)
    lab = Laboratory(top, release)
    lab.install_program("/usr/local/bin/memproxy-sol", Program(64, memproxy_sol))
    live = Live(lab, objects, capsys)
    put_in_place(live, monkeypatch)
    return live


def put_in_place(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package take the laboratory for the running system: `/` and every command of it."""
    original = Root.__init__
    top = os.fspath(live.lab.top)

    def initialise(self: Root, path: str, live: bool | None = None) -> None:
        if path == "/":
            original(self, top, True if live is None else live)
        else:
            original(self, path, live)

    monkeypatch.setattr(Root, "__init__", initialise)
    for kind, stand_in, names in ((Shell, live.shell, ("run", "has")), (Prober, live.prober, ("run",))):
        for name in names:
            # Ours override these, so that what is patched is only what the package makes for itself.
            method = getattr(stand_in, name)
            monkeypatch.setattr(kind, name, lambda self, *words, _method=method, **options: _method(*words, **options))


def memproxy_sol(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """The real program, in a forked child with `env` alone, on the laboratory."""
    return forked(lambda: main(list(argv[1:])), env)


def forked(work: object, env: Mapping[str, str]) -> Result:
    """What `work()` wrote and returned in a child of its own; -9 and relatives where a signal ended it."""
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 120
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out_end, 1)
            os.dup2(err_end, 2)
            import sys

            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the rest of this process
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            os.environ.clear()
            os.environ.update(env)
            status = work()  # type: ignore[operator]
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(out_end)
    os.close(err_end)
    data = {out: b"", err: b""}
    with selectors.DefaultSelector() as selector:
        for descriptor in data:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                piece = os.read(key.fd, 65536)
                data[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    _, ended = os.waitpid(child, 0)
    status = -os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)
    return Result(status, data[out], data[err])

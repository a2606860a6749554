"""systemd.py: the ways in which systemctl lies; what it says is recorded from systemd 252."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from memproxy_sol import systemd_unit
from memproxy_sol.commands import ENVIRONMENT, SECONDS, Ran, Shell
from memproxy_sol.errors import CommandError, SystemdError
from memproxy_sol.root import FileState, Root
from memproxy_sol.services import SystemdServices
from memproxy_sol.steps import ChangeService, Service
from memproxy_sol.systemd import Systemd

UNIT = "memproxy.service"
CHROOT = "Running in chroot, ignoring command '{}'\n"
NOT_BOOTED = (
    "System has not been booted with systemd as init system (PID 1). Can't operate.\n"
    "Failed to connect to bus: Host is down\n"
)
SHOWN = "LoadState={}\nActiveState={}\nSubState=dead\nResult={}\nExecMainStartTimestamp={}\n"


class Fake(Shell):
    """systemctl with an answer for each verb; `None` hangs."""

    def __init__(self, answers: Mapping[str, tuple[int, str, str] | None], is_there: bool = True) -> None:
        self.answers, self.is_there = answers, is_there
        self.asked: list[str] = []

    def has(self, program: str) -> bool:
        return self.is_there

    def run(
        self, command: Sequence[str], *, seconds: float = SECONDS, environment: Mapping[str, str] = ENVIRONMENT
    ) -> Ran:
        assert seconds < 120
        verb = command[1] if command[0].endswith("systemctl") else "journalctl"
        self.asked.append(verb)
        if not self.is_there:
            raise CommandError("is not on this system", where=command[0])
        answer = self.answers.get(verb, (0, "", ""))
        if answer is None:
            raise CommandError(f"has not ended after {seconds:g} seconds and was killed", where="systemctl")
        return Ran(tuple(command), *answer)


def shown(load: str = "loaded", active: str = "active", result: str = "success") -> tuple[int, str, str]:
    return 0, SHOWN.format(load, active, result, ""), ""


@pytest.mark.parametrize(
    ("verb", "act"),
    [("daemon-reload", "reload"), ("enable", "enable"), ("disable", "disable"), ("restart", "start"), ("stop", "stop")],
)
def test_what_is_ignored_in_a_chroot_was_not_done(verb: str, act: str) -> None:
    systemd = Systemd(Fake({verb: (0, "", CHROOT.format(verb)), "show": shown(), "is-enabled": (0, "enabled\n", "")}))
    with pytest.raises(SystemdError, match="ignoring command"):
        getattr(systemd, act)(*([] if act == "reload" else [UNIT]))


def test_a_system_that_systemd_does_not_run() -> None:
    systemd = Systemd(Fake({"show": (1, "", NOT_BOOTED)}))
    with pytest.raises(SystemdError, match=r"not been booted with systemd.*set service = false"):
        systemd.state(UNIT)


@pytest.mark.parametrize(("is_there", "words"), [(True, "has not ended after"), (False, "is not on this system")])
def test_one_that_hangs_or_is_missing(is_there: bool, words: str) -> None:
    with pytest.raises(SystemdError, match=words):
        Systemd(Fake({"show": None}, is_there)).state(UNIT)


def test_show_exits_0_for_what_does_not_exist() -> None:
    assert Systemd(Fake({"show": shown("not-found", "inactive")})).state(UNIT) is None
    # Its file is gone, but it is loaded still.
    gone = {
        "show": shown("not-found"),
        "is-enabled": (1, "", "Failed to get unit file state: No such file or directory\n"),
    }
    state = Systemd(Fake(gone)).state(UNIT)
    assert state is not None
    assert (state.is_running, state.enabled) == (True, False)


def test_an_answer_that_says_nothing_is_none() -> None:
    with pytest.raises(SystemdError, match="does not say in which state it is"):
        Systemd(Fake({"show": (0, "", "")})).state(UNIT)
    with pytest.raises(SystemdError, match="ended with status 4"):
        Systemd(Fake({"is-enabled": (4, "", "Access denied\n")})).is_enabled(UNIT)


@pytest.mark.parametrize("load", ["bad-setting", "error"])
def test_a_unit_that_systemd_refuses(load: str) -> None:
    with pytest.raises(SystemdError, match=f"cannot be used by systemd .{load}."):
        Systemd(Fake({"show": shown(load)})).state(UNIT)


def test_an_enable_that_enables_nothing() -> None:
    with pytest.raises(SystemdError, match="is not enabled, though systemctl says so"):
        Systemd(Fake({"is-enabled": (1, "static\n", "")})).enable(UNIT)


def test_a_start_that_exits_0_and_did_not_start() -> None:
    answers = {"show": shown(active="failed", result="exit-code"), "is-enabled": (0, "enabled\n", "")}
    with pytest.raises(SystemdError, match=r"is failed .exit-code., enabled"):
        Systemd(Fake(answers)).start(UNIT)


@pytest.mark.parametrize("verb", ["show", "stop", "disable", "daemon-reload"])
@pytest.mark.parametrize("hangs", [True, False])
def test_a_systemd_that_does_not_answer_keeps_nobody_from_uninstalling(tmp_path: Path, verb: str, hangs: bool) -> None:
    root = Root(str(tmp_path), live=True)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    unit = FileState(systemd_unit.unit_with("/usr/local/bin/memproxy-sol"), 0o644, 0, 0)
    (tmp_path / systemd_unit.PATH[1:]).write_bytes(unit.data)
    systemd_unit.enable(root)
    fake = Fake({"show": shown(), "is-enabled": (0, "enabled\n", ""), verb: None if hangs else (1, "", NOT_BOOTED)})
    services = SystemdServices(Systemd(fake, root))
    services.do(ChangeService(systemd_unit.PATH, Service(unit, True, True), Service(None, False, False), False))
    assert root.read(systemd_unit.PATH) is None
    assert systemd_unit.links(root) == ()
    (finding,) = services.findings
    assert (finding.identifier, finding.severity, finding.where) == ("service-left", "warning", UNIT)
    assert finding.hint.startswith("systemctl daemon-reload")

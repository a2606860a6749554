"""services.py: the step that delivers or retires the service, killed before and after every command that it runs.

SMF is a model here that knows of the service just whether it is there, enabled, and from which text it was imported;
tests/host/test_live_smf.py has the commands that behave like the real ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from memproxy_sol import journal, smf_manifest, steps
from memproxy_sol.commands import ENVIRONMENT, SECONDS, Ran, Shell
from memproxy_sol.errors import ChangeError
from memproxy_sol.root import FileState, Root
from memproxy_sol.services import SmfServices
from memproxy_sol.smf import MANIFEST_IMPORT, Smf
from memproxy_sol.smf_manifest import FMRI
from memproxy_sol.steps import ChangeService, Service

PATH = "/lib/svc/manifest/site/memproxy.xml"
OLD = FileState(smf_manifest.manifest_with("/opt/old/memproxy-sol"), 0o444, 0, 3)
NEW = FileState(smf_manifest.manifest_with("/usr/local/bin/memproxy-sol"), 0o444, 0, 3)
ABSENT = Service(None, False, False)


class Killed(BaseException):
    """The process is gone."""


class Model(Shell):
    """An SMF with one service; `kill_at` counts half commands: even before, odd after the command had its effect."""

    def __init__(self, root: Root, maintenance: bool = False) -> None:
        self.root = root
        self.text: bytes | None = None
        self.enabled = False
        self.maintenance = maintenance
        self.stamp = 0
        self.halves = 0
        self.kill_at = -1
        self.dead: set[str] = set()
        """Subcommands that fail."""

    def half(self) -> None:
        self.halves += 1
        if self.halves - 1 == self.kill_at:
            raise Killed

    def run(
        self, command: Sequence[str], *, seconds: float = SECONDS, environment: Mapping[str, str] = ENVIRONMENT
    ) -> Ran:
        self.half()
        name, rest = command[0].rpartition("/")[2], tuple(command[1:])
        status, out, err = self.answer(name, rest)
        self.half()
        return Ran(tuple(command), status, out, err)

    def answer(self, name: str, rest: tuple[str, ...]) -> tuple[int, str, str]:
        if rest[0] in self.dead:
            return 1, "", f"{name}: repository server unavailable.\n"
        if name == "svcprop":
            return self.properties(rest)
        if name == "svccfg":
            return self.configure(*rest)
        assert name == "svcadm"
        self.stamp += 1
        if rest == ("restart", MANIFEST_IMPORT):
            state = self.root.read(PATH)
            self.text = None if state is None else state.data
            self.enabled = self.enabled and state is not None
        else:
            assert rest[1] == FMRI
            self.enabled = {"enable": True, "disable": False}.get(rest[0], self.enabled)
        return 0, "", ""

    def configure(self, verb: str, *operands: str) -> tuple[int, str, str]:
        if verb == "import":
            state = self.root.read(operands[0])
            assert state is not None
            self.text = state.data
        elif verb == "delete":
            if self.text is None:
                return 1, "", f"svccfg: Pattern '{operands[0]}' doesn't match any instances or services\n"
            if self.enabled:
                return 1, "", f"svccfg: Instance {FMRI} may be running.  Use delete -f if it is not.\n"
            self.text = None
        return 0, "", ""

    def properties(self, rest: tuple[str, ...]) -> tuple[int, str, str]:
        fmri, name = rest[-1], rest[-2]
        if fmri == FMRI and self.text is None:
            return 1, "", f"svcprop: Pattern '{fmri}' doesn't match any entities\n"
        if name == "general/enabled":
            return 0, f"{str(self.enabled).lower()}\n", ""
        if name == "general_ovr/enabled":
            return 1, "", f"svcprop: Couldn't find property group `general_ovr' for instance `{fmri}'.\n"
        up = "maintenance" if self.maintenance else "online"
        state = "online" if fmri != FMRI else up if self.enabled else "disabled"
        values = {"auxiliary_state": "none", "next_state": "none", "state": state, "state_timestamp": str(self.stamp)}
        return 0, "".join(f"restarter/{key} astring {value}\n" for key, value in values.items()), ""


class Scene:
    """A running system, its SMF, and what the step finds there."""

    def __init__(self, top: Path, before: Service, after: Service, by_import: bool) -> None:
        for directory in ("lib/svc/manifest/site", "var/opt"):
            (top / directory).mkdir(parents=True)
        self.root = Root(str(top), live=True)
        self.step = ChangeService(PATH, before, after, by_import)
        self.model = Model(self.root)
        self.services = self.restarted()
        if before.manifest is not None:
            (top / PATH[1:]).write_bytes(before.manifest.data)
            (top / PATH[1:]).chmod(before.manifest.mode)
            os.chown(top / PATH[1:], 0, 3)
        self.model.text = before.manifest.data if before.manifest is not None and before.imported else None
        self.model.enabled = before.enabled

    def restarted(self) -> SmfServices:
        clock = iter(range(10**9))
        return SmfServices(
            Smf(self.model, self.root, lambda: next(clock), lambda seconds: None), limit=20, import_limit=20
        )

    def now(self) -> Service:
        return Service(self.root.read(PATH), self.model.text is not None, self.model.enabled)

    def consistent(self) -> bool:
        state = self.root.read(PATH)
        return self.model.text == (None if state is None else state.data)

    def apply(self) -> None:
        journal.apply(self.root, "install", "2026-01-01T00:00:00Z", [self.step], services=self.services)


CHANGES = {
    "first install": (ABSENT, Service(NEW, True, True)),
    "upgrade": (Service(OLD, True, True), Service(NEW, True, True)),
    "upgrade of a disabled one": (Service(OLD, True, False), Service(NEW, True, False)),
    "a file that nobody imported": (Service(OLD, False, False), Service(NEW, True, True)),
    "uninstall": (Service(NEW, True, True), ABSENT),
    "uninstall of a disabled one": (Service(NEW, True, False), ABSENT),
}


@pytest.mark.parametrize("by_import", [False, True], ids=["svccfg", "manifest-import"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_step_leads_to_what_it_says(tmp_path: Path, change: str, by_import: bool) -> None:
    scene = Scene(tmp_path, *CHANGES[change], by_import)
    scene.apply()
    assert scene.now() == scene.step.after
    assert scene.consistent()
    assert scene.services.findings == []


@pytest.mark.parametrize("by_import", [False, True], ids=["svccfg", "manifest-import"])
@pytest.mark.parametrize("change", CHANGES)
def test_killed_at_any_command_it_is_taken_back_by_the_next(tmp_path: Path, change: str, by_import: bool) -> None:
    if change == "a file that nobody imported" and by_import:
        pytest.skip("manifest-import has imported every file that is there")
    cases = 0
    for kill_at in range(1000):
        top = tmp_path / str(kill_at)
        top.mkdir()
        scene = Scene(top, *CHANGES[change], by_import)
        scene.model.kill_at = kill_at
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal, "_undo", lambda *arguments: None)
            try:
                scene.apply()
                break
            except Killed:
                pass
        cases += 1
        for second in (3 * kill_at % 7, -1):  # and the recovery is killed once, too
            scene.model.halves, scene.model.kill_at = 0, second
            scene.services = scene.restarted()
            left = journal.unfinished(scene.root)
            if left is None:
                break
            try:
                journal.recover(scene.root, left, scene.services)
            except Killed:
                continue
        assert journal.unfinished(scene.root) is None
        assert scene.now() == scene.step.before, kill_at
        assert scene.services.findings == []
        if scene.step.before.imported or scene.step.before.manifest is None:
            assert scene.consistent(), kill_at
    assert cases > 10


def test_a_service_that_ends_in_maintenance_takes_the_change_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *CHANGES["first install"], False)
    scene.model.maintenance = True
    with pytest.raises(ChangeError, match="is in maintenance; the install was taken back and nothing is changed; svcs"):
        scene.apply()
    assert scene.now() == ABSENT
    assert journal.unfinished(scene.root) is None


@pytest.mark.parametrize("verb", ["disable", "delete", "-p"])
def test_an_smf_that_does_not_answer_keeps_nobody_from_uninstalling(tmp_path: Path, verb: str) -> None:
    scene = Scene(tmp_path, *CHANGES["uninstall"], False)
    scene.model.dead = {verb}
    scene.apply()
    assert scene.root.read(PATH) is None
    (finding,) = scene.services.findings
    assert (finding.identifier, finding.severity) == ("service-left", "warning")
    assert finding.hint == f"svcadm disable {FMRI}; svccfg delete svc:/site/memproxy"


def test_an_smf_that_does_not_answer_keeps_nobody_from_taking_a_change_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *CHANGES["upgrade"], False)
    scene.model.dead = {"import"}
    with pytest.raises(ChangeError, match=r"repository server unavailable.*was taken back"):
        scene.apply()
    assert scene.root.read(PATH) == OLD
    assert journal.unfinished(scene.root) is None
    (finding,) = scene.services.findings
    assert finding.hint == f"svccfg import {PATH}; svcadm enable {FMRI}"


def test_mended_from_another_boot_environment_only_the_file_goes_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *CHANGES["upgrade"], False)
    scene.model.kill_at = 12
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_undo", lambda *arguments: None)
        with pytest.raises(Killed):
            scene.apply()
    image = Root(str(tmp_path))
    left = journal.unfinished(image)
    assert left is not None
    journal.recover(image, left)
    assert image.read(PATH) == OLD


@pytest.mark.parametrize("change", CHANGES)
def test_the_step_comes_back_from_the_journal_as_it_was(change: str) -> None:
    step = ChangeService(PATH, *CHANGES[change], True)
    assert steps.from_json(json.loads(json.dumps(steps.to_json(step)))) == step
    assert "data" not in json.dumps(steps.summary(step))


def test_a_journal_that_names_another_file_is_refused() -> None:
    value = steps.to_json(ChangeService(PATH, *CHANGES["uninstall"], False))
    with pytest.raises(ValueError, match="no place for the service"):
        steps.from_json({**value, "path": "/lib/svc/manifest/system/other.xml"})

"""Services: what carries out, and takes back, the step that delivers the service on a running system or retires it.

Delivering has to succeed, or the change is taken back. Retiring, and every undo, must not be kept from the rest of the
change by an SMF or a systemd that does not answer: what it left undone becomes a finding, and the file is in its place
or gone in any case, so that the next import of manifests, or the next boot, does the same (reference "smf", sections 13
and 14).
"""

from __future__ import annotations

import shlex
from typing import Protocol

from memproxy_sol import files, systemd_unit
from memproxy_sol import smf as smfs
from memproxy_sol.commands import Shell
from memproxy_sol.errors import ServiceError, SmfError, SystemdError
from memproxy_sol.findings import NOTE, WARNING, Finding
from memproxy_sol.hosts import linux
from memproxy_sol.root import FileState, Root
from memproxy_sol.smf import IMPORT_LIMIT, LIMIT, Smf, service_of
from memproxy_sol.smf_manifest import FMRI
from memproxy_sol.steps import ChangeService, Service
from memproxy_sol.systemd import Systemd


class State(Protocol):
    """What is known of the service on a running system."""

    @property
    def enabled(self) -> bool:
        """Whether it is to run."""

    @property
    def is_running(self) -> bool:
        """Whether its last check found nothing wrong."""

    @property
    def ever_ran(self) -> bool:
        """Whether it is known to have been started."""


class Services:
    """Carries service steps out; `findings` has what the administrator has to know of it afterwards."""

    name = ""
    """What the service is called there."""
    explain = ""
    """The command that says why it is in its state."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self.findings: list[Finding] = []

    def state(self) -> State | None:
        """What the service is doing; None where there is none. ServiceError where it is not told."""
        raise NotImplementedError

    def do(self, step: ChangeService) -> None:
        """Bring the service to `step.after`; ServiceError if it cannot be delivered."""
        if step.after.imported:
            self._deliver(step, step.after)
        else:
            self._as_far_as_possible(step, step.after)

    def undo(self, step: ChangeService) -> None:
        """Bring the service to `step.before` as far as it can be; may be repeated."""
        self._as_far_as_possible(step, step.before)

    def look_again(self) -> None:
        """Have the service make its check after the change, unless there is none, or it is switched off.

        ServiceError if it finds something: the error has the last line of its log.
        """
        raise NotImplementedError

    def _as_far_as_possible(self, step: ChangeService, wanted: Service) -> None:
        try:
            if wanted.imported:
                self._deliver(step, wanted)
            else:
                self._retire(step, wanted)
        except ServiceError as error:
            self._put(step.path, wanted.manifest)
            self._without_commands(wanted)
            text = f"could not be brought to what it is to be: {error}"
            self.findings.append(Finding("service-left", WARNING, self.name, text, self._by_hand(step, wanted)))

    def _deliver(self, step: ChangeService, wanted: Service) -> None:
        raise NotImplementedError

    def _retire(self, step: ChangeService, wanted: Service) -> None:
        raise NotImplementedError

    def _without_commands(self, wanted: Service) -> None:
        """What can be done by files alone."""

    def _by_hand(self, step: ChangeService, wanted: Service) -> str:
        """What to type where it could not be done."""
        raise NotImplementedError

    def _put(self, path: str, manifest: FileState | None) -> None:
        files.discard(self._root.host_path(path) + files.NEW)  # what a killed process was about to put there
        # A file that is written gets the present time: an equal one would pass for unchanged (section 1, fact 16).
        if self._root.read(path) != manifest:
            files.place(self._root, path, manifest)


class SmfServices(Services):
    """The service of SMF."""

    name = FMRI
    explain = f"svcs -xv {FMRI}"

    def __init__(self, smf: Smf, limit: float = LIMIT, import_limit: float = IMPORT_LIMIT) -> None:
        """`limit` and `import_limit` are seconds, for the instance and for manifest-import."""
        super().__init__(smf.root)
        self._smf = smf
        self._limit = limit
        self._import_limit = import_limit

    def state(self) -> smfs.State | None:
        """What SMF says of the instance."""
        return self._smf.state(FMRI)

    def look_again(self) -> None:
        """As `Services.look_again`; it is in maintenance where it finds something."""
        now = self._smf.state(FMRI)
        if now is not None and now.enabled:
            self._smf.look_again(FMRI, self._limit)

    def _deliver(self, step: ChangeService, wanted: Service) -> None:
        self._put(step.path, wanted.manifest)
        if wanted.manifest is not None:
            self._smf.validate(step.path)
            if step.by_import:
                self._smf.restart_import(self._import_limit)
            else:
                for remark in self._smf.import_(step.path):
                    text = f"a property that was changed by hand is kept: {remark}"
                    hint = f"svcprop -p memproxy {FMRI} shows them"
                    self.findings.append(Finding("service-property-kept", NOTE, step.path, text, hint))
        if self._smf.state(FMRI) is None:
            raise SmfError("was imported, but there is no such instance", where=FMRI, hint=f"svccfg import {step.path}")
        if wanted.enabled:
            self._smf.bring_up(FMRI, self._limit)
        else:
            self._smf.bring_down(FMRI, self._limit)

    def _retire(self, step: ChangeService, wanted: Service) -> None:
        self._smf.bring_down(FMRI, self._limit)
        if not step.by_import:
            self._smf.delete(service_of(FMRI))
        self._put(step.path, wanted.manifest)
        if not step.by_import:
            self._smf.forget_file(step.path)
            return
        self._smf.restart_import(self._import_limit)
        if self._smf.state(FMRI) is not None:
            raise SmfError("is still there, though its manifest is gone", where=FMRI)

    def _by_hand(self, step: ChangeService, wanted: Service) -> str:
        if not wanted.imported:
            return f"svcadm disable {FMRI}; svccfg delete {service_of(FMRI)}"
        verb = "enable" if wanted.enabled else "disable"
        return f"svccfg import {shlex.quote(step.path)}; svcadm {verb} {FMRI}"


class SystemdServices(Services):
    """The unit of systemd."""

    name = systemd_unit.NAME
    explain = f"systemctl status {systemd_unit.NAME}"

    def __init__(self, systemd: Systemd) -> None:
        super().__init__(systemd.root)
        self._systemd = systemd

    def state(self) -> State | None:
        """What systemd says of the unit."""
        return self._systemd.state(self.name)

    def look_again(self) -> None:
        """As `Services.look_again`; it has failed where it finds something."""
        now = self._systemd.state(self.name)
        if now is not None and now.enabled:
            self._systemd.start(self.name)

    def _deliver(self, step: ChangeService, wanted: Service) -> None:
        self._put(step.path, wanted.manifest)
        self._systemd.reload()
        if self._systemd.state(self.name) is None:
            raise SystemdError("was put in its place, but systemd does not know it", where=step.path)
        if wanted.enabled:
            self._systemd.enable(self.name)
            self._systemd.start(self.name)
        else:
            self._systemd.disable(self.name)
            self._systemd.stop(self.name)

    def _retire(self, step: ChangeService, wanted: Service) -> None:
        if self._systemd.state(self.name) is not None:
            self._systemd.stop(self.name)
            if self._root.read(step.path) is not None:
                self._systemd.disable(self.name)
        self._put(step.path, wanted.manifest)
        systemd_unit.disable(self._root)
        self._systemd.reload()
        if self._systemd.state(self.name) is not None:
            raise SystemdError("is still there, though its file is gone", where=self.name)

    def _without_commands(self, wanted: Service) -> None:
        (systemd_unit.enable if wanted.enabled else systemd_unit.disable)(self._root)

    def _by_hand(self, step: ChangeService, wanted: Service) -> str:
        start = f"; systemctl restart {self.name}" if wanted.enabled else ""
        return f"systemctl daemon-reload{start}" if wanted.imported else f"systemctl daemon-reload; {self.explain}"


def services_of(root: Root, shell: Shell | None, is_linux: bool | None = None) -> Services | None:
    """What delivers the service on the running system; None for an image, and where nothing runs services."""
    if shell is None:
        return None
    if linux.is_linux(root) if is_linux is None else is_linux:
        return SystemdServices(Systemd(shell, root)) if systemd_unit.runs(root) else None
    return SmfServices(Smf(shell, root))

"""Services: what carries out, and takes back, the step that delivers the service on a running system or retires it.

Delivering has to succeed, or the change is taken back. Retiring, and every undo, must not be kept from the rest of the
change by an SMF that does not answer: what it left undone becomes a finding, and the manifest's file is in its place
or gone in any case, so that the next import of manifests does the same (reference "smf", sections 13 and 14).
"""

from __future__ import annotations

import shlex

from memproxy_sol import files
from memproxy_sol.errors import SmfError
from memproxy_sol.findings import NOTE, WARNING, Finding
from memproxy_sol.root import FileState
from memproxy_sol.smf import IMPORT_LIMIT, LIMIT, Smf, State, service_of
from memproxy_sol.smf_manifest import FMRI
from memproxy_sol.steps import ChangeService, Service


class Services:
    """Carries service steps out by `smf`; `findings` has what the administrator has to know of it afterwards."""

    def __init__(self, smf: Smf, limit: float = LIMIT, import_limit: float = IMPORT_LIMIT) -> None:
        """`limit` and `import_limit` are seconds, for the instance and for manifest-import."""
        self._smf = smf
        self._root = smf.root
        self._limit = limit
        self._import_limit = import_limit
        self.findings: list[Finding] = []

    def do(self, step: ChangeService) -> None:
        """Bring SMF to `step.after`; SmfError if the service cannot be delivered."""
        if step.after.imported:
            self._deliver(step, step.after)
        else:
            self._as_far_as_possible(step, step.after)

    def undo(self, step: ChangeService) -> None:
        """Bring SMF to `step.before` as far as it lets us; may be repeated."""
        self._as_far_as_possible(step, step.before)

    def look_again(self) -> State | None:
        """Have the service make its check after the change; None where there is none, or it is switched off.

        SmfError if it finds something: it is in maintenance then, and the error has the last line of its log.
        """
        now = self._smf.state(FMRI)
        return self._smf.look_again(FMRI, self._limit) if now is not None and now.enabled else None

    def _as_far_as_possible(self, step: ChangeService, wanted: Service) -> None:
        try:
            if wanted.imported:
                self._deliver(step, wanted)
            else:
                self._retire(step, wanted)
        except SmfError as error:
            self._put(step.path, wanted.manifest)
            self.findings.append(self._left(step, wanted, error))

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

    def _put(self, path: str, manifest: FileState | None) -> None:
        files.discard(self._root.host_path(path) + files.NEW)  # what a killed process was about to put there
        # A file that is written gets the present time: an equal one would pass for unchanged (section 1, fact 16).
        if self._root.read(path) != manifest:
            files.place(self._root, path, manifest)

    def _left(self, step: ChangeService, wanted: Service, error: SmfError) -> Finding:
        text = f"could not be brought to what it is to be: {error}"
        if not wanted.imported:
            hint = f"svcadm disable {FMRI}; svccfg delete {service_of(FMRI)}"
        else:
            verb = "enable" if wanted.enabled else "disable"
            hint = f"svccfg import {shlex.quote(step.path)}; svcadm {verb} {FMRI}"
        return Finding("service-left", WARNING, FMRI, text, hint)

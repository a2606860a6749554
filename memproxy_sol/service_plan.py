"""Service plan: the steps that deliver the service of SMF or systemd, or take it away.

An image gets two files, manifest and enabling profile, and its first boot does the rest. On a running system the
manifest is part of a step that speaks with SMF (services.py), and no profile is written: applied at the next boot, it
would undo an `svcadm disable` of today (reference "smf", section 14). On Linux the same step has the unit's file, and
where systemd does not run, in an image, no more than that is done: who boots it enables it, or installs again.
"""

from __future__ import annotations

import shlex
from typing import Union

from memproxy_sol import access, changes, smf_manifest, systemd_unit
from memproxy_sol.errors import RefusedError
from memproxy_sol.findings import NOTE, Finding
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.policy import Policy
from memproxy_sol.record import digest
from memproxy_sol.root import FileState
from memproxy_sol.services import State
from memproxy_sol.steps import ChangeService, ReplaceFile, Service

ServiceStep = Union[ReplaceFile, ChangeService]


def deliver(
    facts: Facts, policy: Policy, created: dict[str, str], service: State | None
) -> tuple[list[ServiceStep], list[Finding]]:
    """The steps to the service that the policy wants; `created`, our files and their digests, is brought up to date.

    Raises RefusedError where somebody else's file is in the place of ours.
    """
    if not policy.service:
        return _withdraw(facts, created, service), []
    if isinstance(facts, LinuxFacts):
        return _deliver_unit(facts, policy, created, service)
    assert isinstance(facts, SolarisFacts)
    findings = []
    dtd = facts.root.read(smf_manifest.DTD_PATH)
    manifest = smf_manifest.manifest_with(policy.program_path, dtd.data if dtd else None)
    profile = facts.profile_path
    wanted: list[tuple[str, bytes, str]] = [(facts.manifest_path, manifest, "SMF manifest")]
    has_program = facts.root.exists(policy.program_path)
    if not has_program:
        noun = "on this system" if facts.root.is_live else "in the image"
        text = f"the program of the service is not {noun}, so the service is delivered disabled"
        hint = "install memproxy-sol there, then type: svcadm enable memproxy"
        findings.append(Finding("service-program-missing", NOTE, policy.program_path, text, hint))
    elif facts.root.is_live:
        # No profile: applied at the next boot, it would undo an svcadm disable of today.
        wanted += (
            [(profile, smf_manifest.profile(), "SMF profile")] if profile is not None and profile in created else []
        )
    elif profile is None:
        text = "this release has no directory for profiles of ours, so the service is delivered disabled"
        findings.append(Finding("service-disabled", NOTE, facts.manifest_path, text, "svcadm enable memproxy"))
    else:
        wanted.append((profile, smf_manifest.profile(), "SMF profile that enables the service"))
    delivered = facts.manifest_path in created
    found: list[ServiceStep] = []
    for path, data, purpose in wanted:
        before = facts.root.read(path)
        after = FileState(data, smf_manifest.MODE, smf_manifest.OWNER, smf_manifest.GROUP)
        if before is not None and path not in created and before.data != data:
            text = "is somebody else's file where ours has to go"
            raise RefusedError(text, where=path, hint=access.aside(facts.root, path))
        created[path] = digest(data)
        if facts.root.is_live and path == facts.manifest_path:
            # What never ran was not switched off: it was delivered without its program.
            switched_off = delivered and service is not None and not service.enabled and service.ever_ran
            if switched_off:
                findings.append(_switched_off(smf_manifest.FMRI, "svcadm enable memproxy"))
            found += _change(facts, before, after, service, enabled=has_program and not switched_off)
        elif before != after:
            found.append(ReplaceFile(path, before, after, purpose))
    return found, findings


def _deliver_unit(
    facts: LinuxFacts, policy: Policy, created: dict[str, str], service: State | None
) -> tuple[list[ServiceStep], list[Finding]]:
    path, root = facts.manifest_path, facts.root
    if not facts.systemd:
        text = "is not there, so nothing verifies the configuration at boot"
        hint = f"have {policy.program_path} verify --boot started at each boot"
        return [], [Finding("service-none", NOTE, "systemd", text, hint)]
    delivered = path in created
    if systemd_unit.is_masked(root):
        if not delivered:
            text = "is masked, so that nothing can be delivered there"
            hint = f"systemctl unmask {systemd_unit.NAME}, or set service = false in the policy"
            raise RefusedError(text, where=path, hint=hint)
        return [], [_switched_off(systemd_unit.NAME, f"systemctl unmask {systemd_unit.NAME}, and install again")]
    before = root.read(path)
    after = FileState(systemd_unit.unit_with(policy.program_path), systemd_unit.MODE, 0, 0)
    findings = []
    for place in systemd_unit.others(root, delivered or (before is not None and before.data == after.data)):
        text = "is somebody else's unit of the name that ours has to have"
        raise RefusedError(text, where=place, hint=access.aside(root, place))
    if delivered and before is not None and before.data != after.data and digest(before.data) != created[path]:
        text = f"was changed since install and is kept ({systemd_unit.PURPOSE})"
        hint = f"rm {shlex.quote(root.host_path(path))}, and install again, for the delivered one"
        findings.append(Finding("file-changed", NOTE, path, text, hint))
        after = before
    else:
        created[path] = digest(after.data)
    turn_on = f"systemctl enable --now {systemd_unit.NAME}"
    enabled = service is not None and service.enabled
    if not root.exists(policy.program_path):
        text = "the program of the service is not there, so the service is delivered disabled"
        hint = f"install memproxy-sol there, then type: {turn_on}"
        findings.append(Finding("service-program-missing", NOTE, policy.program_path, text, hint))
        enabled = False
    elif not facts.systemd_runs:
        if not enabled:
            text = "systemd does not run here, so the service is delivered disabled"
            hint = f"{turn_on}, or install again, where it does"
            findings.append(Finding("service-disabled", NOTE, path, text, hint))
    elif delivered and service is not None and not enabled and (service.ever_ran or _was_enabled(facts)):
        findings.append(_switched_off(systemd_unit.NAME, turn_on))
    else:
        enabled = True
    return _change(facts, before, after, service, enabled), findings


def _switched_off(name: str, turn_on: str) -> Finding:
    return Finding(
        "service-disabled", NOTE, name, "was switched off by somebody since install, and is left so", turn_on
    )


def _was_enabled(facts: Facts) -> bool:
    """Whether a change of ours has ever enabled the service that is there: who finds it disabled leaves it so.

    Where a journal cannot be read, it may have been so.
    """
    for entry in changes.history(facts.root):
        if not isinstance(entry, changes.Change):
            return True
        enabled = any(isinstance(step, ChangeService) and step.after.enabled for step in entry.steps)
        if enabled and entry.state == changes.COMPLETE:
            return True
    return False


def takes_a_step(facts: Facts) -> bool:
    """Whether the service's file belongs to a step of its own, with what is made of it."""
    return facts.root.is_live or isinstance(facts, LinuxFacts)


def by_import(facts: Facts) -> bool:
    """Whether manifest-import does it all, see `ChangeService.by_import`."""
    return isinstance(facts, SolarisFacts) and facts.imports_by_service


def _change(
    facts: Facts, before: FileState | None, after: FileState, service: State | None, enabled: bool
) -> list[ServiceStep]:
    """The step that brings a running system to the service; none where it is there, and does what it is to do."""
    is_there = service is not None and service.enabled == enabled and (service.is_running or not enabled)
    if before == after and is_there:
        return []
    was = Service(before, service is not None, service is not None and service.enabled)
    return [ChangeService(facts.manifest_path, was, Service(after, True, enabled), by_import(facts))]


def _withdraw(facts: Facts, created: dict[str, str], service: State | None) -> list[ServiceStep]:
    removed: list[ServiceStep] = []
    for path in (facts.manifest_path, facts.profile_path):
        state = facts.root.read(path) if path else None
        if not path or path not in created or (state is not None and digest(state.data) != created[path]):
            continue
        if takes_a_step(facts) and path == facts.manifest_path:
            removed += retire(facts, state, service)
        elif state is not None:
            removed.append(ReplaceFile(path, state, None, "SMF service, which the policy does not want"))
        else:
            continue
        del created[path]
    return removed


def retire(facts: Facts, manifest: FileState | None, service: State | None) -> list[ServiceStep]:
    """The step that takes the service from a running system, with its manifest; none where neither is there."""
    if manifest is None and service is None:
        return []
    was = Service(manifest, service is not None, service is not None and service.enabled)
    return [ChangeService(facts.manifest_path, was, Service(None, False, False), by_import(facts))]

"""Service plan: the steps that deliver the SMF service, or take it away.

An image gets two files, manifest and enabling profile, and its first boot does the rest. On a running system the
manifest is part of a step that speaks with SMF (services.py), and no profile is written: applied at the next boot, it
would undo an `svcadm disable` of today (reference "smf", section 14).
"""

from __future__ import annotations

from typing import Union

from memproxy_sol import access, smf_manifest, systemd_plan
from memproxy_sol.errors import RefusedError
from memproxy_sol.findings import NOTE, Finding
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.hosts.solaris import SolarisFacts
from memproxy_sol.policy import Policy
from memproxy_sol.record import digest
from memproxy_sol.root import FileState
from memproxy_sol.smf import RUNNING, State
from memproxy_sol.steps import ChangeService, ReplaceFile, Service

ServiceStep = Union[ReplaceFile, ChangeService]


def deliver(
    facts: Facts, policy: Policy, created: dict[str, str], service: State | None
) -> tuple[list[ServiceStep], list[Finding]]:
    """The steps to the service that the policy wants; `created`, our files and their digests, is brought up to date.

    Raises RefusedError where somebody else's file is in the place of ours.
    """
    if isinstance(facts, LinuxFacts):
        return systemd_plan.deliver(facts, policy, created)
    assert isinstance(facts, SolarisFacts)
    if not policy.service:
        return _withdraw(facts, created, service), []
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
            switched_off = delivered and service is not None and not service.enabled and service.logfile is not None
            if switched_off:
                text = "was switched off by somebody since install, and is left so"
                findings.append(Finding("service-disabled", NOTE, smf_manifest.FMRI, text, "svcadm enable memproxy"))
            found += _change(facts, before, after, service, enabled=has_program and not switched_off)
        elif before != after:
            found.append(ReplaceFile(path, before, after, purpose))
    return found, findings


def _change(
    facts: SolarisFacts, before: FileState | None, after: FileState, service: State | None, enabled: bool
) -> list[ServiceStep]:
    """The step that brings a running system to the service; none where it is there, and does what it is to do."""
    is_there = service is not None and service.enabled == enabled and (service.state in RUNNING or not enabled)
    if before == after and is_there:
        return []
    was = Service(before, service is not None, service is not None and service.enabled)
    return [ChangeService(facts.manifest_path, was, Service(after, True, enabled), facts.imports_by_service)]


def _withdraw(facts: SolarisFacts, created: dict[str, str], service: State | None) -> list[ServiceStep]:
    removed: list[ServiceStep] = []
    for path in (facts.manifest_path, facts.profile_path):
        state = facts.root.read(path) if path else None
        if not path or path not in created or (state is not None and digest(state.data) != created[path]):
            continue
        if facts.root.is_live and path == facts.manifest_path:
            removed += retire(facts, state, service)
        elif state is not None:
            removed.append(ReplaceFile(path, state, None, "SMF service, which the policy does not want"))
        else:
            continue
        del created[path]
    return removed


def retire(facts: SolarisFacts, manifest: FileState | None, service: State | None) -> list[ServiceStep]:
    """The step that takes the service from a running system, with its manifest; none where neither is there."""
    if manifest is None and service is None:
        return []
    was = Service(manifest, service is not None, service is not None and service.enabled)
    return [ChangeService(facts.manifest_path, was, Service(None, False, False), facts.imports_by_service)]

"""svcs -x: why an instance is in its state, in the words of the recordings (section 9)."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.host.laboratory.smf_call import Call
from tests.host.laboratory.smf_dependencies import cited, dependents, unmet
from tests.host.laboratory.smf_repository import Instance

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

_UP = ("online", "degraded")
_SIGNALS = {
    1: "Hangup", 2: "Interrupt", 3: "Quit", 4: "Illegal Instruction", 6: "Abort", 8: "Arithmetic Exception",
    9: "Killed", 10: "Bus Error", 11: "Segmentation Fault", 15: "Terminated",
}  # fmt: skip
_BASES = {"10": "http://sun.com/msg/", "11": "http://support.oracle.com/msg/", "11.4": "http://support.oracle.com/msg/"}


@dataclass(frozen=True)
class Reason:
    """Why, and the article about it."""

    text: str
    code: str
    culprit: Instance | None = None
    """The other instance whose state is the cause."""


def explain(smf: Smf, call: Call, instances: list[Instance] | None, verbose: bool) -> None:
    """The blocks for these instances, or for what is wrong with the system."""
    if instances is None:
        instances = _wrong(smf)
    for index, instance in enumerate(instances):
        if index:
            call.say("")
        _block(smf, call, instance, verbose)


def _wrong(smf: Smf) -> list[Instance]:
    """What keeps enabled services from running; the one with most behind it first."""
    roots: dict[str, Instance] = {}
    for instance in smf.repository.instances():
        if not instance.enabled or instance.state in _UP:
            continue
        root: Instance | None = instance
        seen: set[str] = set()
        while root is not None and root.fmri not in seen:
            seen.add(root.fmri)
            roots_culprit = reason(smf, root).culprit
            if roots_culprit is None:
                break
            root = roots_culprit
        if root is not None:
            roots[root.fmri] = root
    return sorted(roots.values(), key=lambda one: (-len(_impacted(smf, one)), one.fmri))


def _impacted(smf: Smf, instance: Instance) -> list[Instance]:
    """The enabled instances that do not run because of it."""
    found: dict[str, Instance] = {}
    todo = [instance]
    while todo:
        for other, _ in dependents(smf, todo.pop()):
            if other.enabled and other.state not in _UP and other.fmri not in found and other is not instance:
                found[other.fmri] = other
                todo.append(other)
    return list(found.values())


def reason(smf: Smf, instance: Instance) -> Reason:
    """Why it does not run; an empty text if it does."""
    state = instance.state
    if state in _UP:
        return Reason("", "")
    if state == "maintenance":
        return _maintenance(instance)
    if state == "disabled":
        temporary = instance.look_up("general_ovr", "enabled")
        if temporary is not None and temporary.values == ["false"]:
            return Reason("Temporarily disabled by an administrator.", "1S")
        return Reason("Disabled by an administrator.", "05")
    if state in ("uninitialized", ""):
        return Reason("Restarter svc:/system/svc/restarter:default has not initialized service state.", "4D")
    if instance.next_state == "online":
        return Reason("Start method is running.", "C4")
    for fmri, how in unmet(smf, instance):
        if how == "absent":
            return Reason(f"Dependency {fmri} is absent.", "E2")
        others = cited(smf, fmri)
        if others:
            words = {"disabled": "is disabled", "maintenance": "is in maintenance", "offline": "is not running"}
            text = f"Service {others[0].fmri} {words.get(others[0].state, 'is not running')}."
            return Reason(text, "GE", others[0])
    return Reason("Unknown.", "AR")


def _maintenance(instance: Instance) -> Reason:
    why = instance.restarter("auxiliary_state")
    status = int(instance.restarter("start_method_waitstatus") or 0)
    others = {
        "restarting_too_quickly": Reason("Restarting too quickly.", "L5"),
        "dependency_cycle": Reason("Completes a dependency cycle.", "HP"),
        "invalid_dependency": Reason("Has invalid dependency.", "JA"),
        "administrative_request": Reason("Maintenance requested by an administrator.", "63"),
        "service_request": Reason("Maintenance requested by another service.", "63"),
    }
    if why in others:
        return others[why]
    repeatedly = why == "fault_threshold_reached"
    if status == 0:
        return Reason("Method failed repeatedly." if repeatedly else "Method failed.", "8Q")
    number, code = status & 0x7F, status >> 8
    if number:
        how = "dumped core on" if status & 0x80 else "died on"
        ending = f"{how} {_SIGNALS.get(number, signal.strsignal(number))} ({number})"
    else:
        named = {95: "$SMF_EXIT_ERR_FATAL", 96: "$SMF_EXIT_ERR_CONFIG"}
        ending = f"exited with {named.get(code, f'status {code}')}"
    text = f"Start method failed repeatedly, last {ending}." if repeatedly else f"Start method {ending}."
    return Reason(text, "KS")


def _block(smf: Smf, call: Call, instance: Instance, verbose: bool) -> None:
    from tests.host.laboratory.smf import date

    name = instance.look_up("tm_common_name", "C", "running")
    call.say(f"{instance.fmri} ({name.values[0] if name else '?'})")
    stamp = instance.restarter("state_timestamp")
    since = f" since {date(float(stamp))}" if stamp is not None else ""
    call.say(f" State: {instance.state or 'uninitialized'}{since}")
    why = reason(smf, instance)
    if why.text:
        call.say(f"Reason: {why.text}")
        call.say(f"   See: {_BASES.get(smf.release, 'http://illumos.org/msg/')}SMF-8000-{why.code}")
    if verbose and why.culprit is not None:
        call.say(f"  Path: {instance.fmri}")
        call.say(f"          {why.culprit.fmri}")
    for group in instance.levels("running")[1].values():
        if group.name.startswith("tm_man_"):
            title, section, path = (group.value(key) or "" for key in ("title", "section", "manpath"))
            where = "" if path == ":default" else f"-M {path} "
            call.say(f"   See: man {where}-s {section} {title}" if verbose else f"   See: {title}({section})")
        elif group.name.startswith("tm_doc_"):
            call.say(f"   See: {group.value('uri')}")
    log = instance.restarter("logfile")
    if log is not None:
        call.say(f"   See: {log}")
    _impact(smf, call, instance, verbose)


def _impact(smf: Smf, call: Call, instance: Instance, verbose: bool) -> None:
    if instance.state in _UP:
        call.say("Impact: None.")
        return
    others = _impacted(smf, instance)
    if not others:
        call.say("Impact: This service is not running.")
        return
    words = "1 dependent service is" if len(others) == 1 else f"{len(others)} dependent services are"
    call.say(f"Impact: {words} not running{':' if verbose else '.  (Use -v for list.)'}")
    for other in others if verbose else ():
        call.say(f"        {other.fmri}")

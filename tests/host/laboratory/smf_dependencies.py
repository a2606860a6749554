"""Dependencies between instances (section 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.host.laboratory.smf_repository import Group, Instance, Service

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

UP = ("online", "degraded")


@dataclass(frozen=True)
class Dependency:
    """A dependency group of an instance."""

    name: str
    grouping: str
    restart_on: str
    type: str
    entities: tuple[str, ...]


def dependencies(instance: Instance) -> list[Dependency]:
    """Those of the running snapshot, the instance's before the service's."""
    found: dict[str, Group] = {}
    for level in instance.levels("running"):
        for group in level.values():
            if group.type == "dependency":
                found.setdefault(group.name, group)
    return [
        Dependency(
            group.name,
            group.value("grouping") or "",
            group.value("restart_on") or "none",
            group.value("type") or "service",
            tuple(group.properties["entities"].values) if "entities" in group.properties else (),
        )
        for group in found.values()
    ]


def cited(smf: Smf, fmri: str) -> list[Instance]:
    """The instances behind a cited FMRI: one, or those of a service."""
    entity = smf.repository.find(fmri)
    return list(entity.instances.values()) if isinstance(entity, Service) else [] if entity is None else [entity]


def state_of(smf: Smf, dependency: Dependency, fmri: str) -> str:
    """The state of one cited entity as `svcs -l` shows it."""
    if dependency.type == "path":
        path = "/" + fmri.partition("//")[2].partition("/")[2]
        return "online" if smf.host(path).exists() else "absent"
    found = cited(smf, fmri)
    if len(found) > 1 and not any(one.state in UP for one in found):
        return "multiple"
    return next((one.state for one in found if one.state in UP), found[0].state if found else "absent")


def is_satisfied(smf: Smf, instance: Instance) -> bool:
    """Whether every dependency group is."""
    return all(_satisfied(smf, one) for one in dependencies(instance))


def _satisfied(smf: Smf, dependency: Dependency) -> bool:
    up = [state_of(smf, dependency, fmri) in UP for fmri in dependency.entities]
    if dependency.grouping == "require_any":
        return any(up)
    if dependency.grouping == "optional_all":
        return all(one or cannot_come_up(smf, fmri) for one, fmri in zip(up, dependency.entities))
    if dependency.grouping == "exclude_all":
        down = ("disabled", "maintenance", "absent")
        return all(state_of(smf, dependency, fmri) in down for fmri in dependency.entities)
    return all(up)


def cannot_come_up(smf: Smf, fmri: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether the cited entity needs an administrator: disabled, in maintenance, absent, or waiting for such a one."""
    for one in cited(smf, fmri):
        if one.fmri in seen or one.state in UP:
            return False
        waits = one.runtime.enabled and one.state in ("offline", "uninitialized", "")
        if waits and not any(
            cannot_come_up(smf, other, seen | {one.fmri})
            for dependency in dependencies(one)
            if dependency.grouping == "require_all" and dependency.type == "service"
            for other in dependency.entities
        ):
            return False
    return True


def unmet(smf: Smf, instance: Instance) -> Iterator[tuple[str, str]]:
    """FMRI and state of each cited entity that keeps the instance from starting."""
    for dependency in dependencies(instance):
        if dependency.grouping in ("require_all", "require_any") and not _satisfied(smf, dependency):
            for fmri in dependency.entities:
                state = state_of(smf, dependency, fmri)
                if state not in UP:
                    yield fmri, state


def dependents(smf: Smf, instance: Instance) -> list[tuple[Instance, str]]:
    """The instances that cite it, with the restart_on of the group."""
    names = {instance.fmri, instance.service.fmri}
    return [
        (other, dependency.restart_on)
        for other in sorted(smf.repository.instances(), key=lambda one: one.fmri)
        for dependency in dependencies(other)
        if names & set(dependency.entities)
    ]

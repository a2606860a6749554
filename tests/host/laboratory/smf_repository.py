"""The SMF repository: services, instances, property groups, snapshots, and what svc.startd knows of an instance.

The order in which svcprop and svccfg list properties is the repository's own: a transaction keeps what it does not
touch and puts what it writes behind, by name (seen in the recordings "import-changed" and "svcprop").
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Union


@dataclass
class Property:
    """A typed, multi-valued property."""

    type: str
    values: list[str]


@dataclass
class Group:
    """A property group. One that is not persistent is gone after a reboot."""

    name: str
    type: str
    properties: dict[str, Property] = field(default_factory=dict)
    persistent: bool = True

    def write(self, changes: Mapping[str, Property | None]) -> None:
        """One transaction: None deletes."""
        kept = {name: old for name, old in self.properties.items() if name not in changes}
        new = {name: changed for name in sorted(changes) if (changed := changes[name]) is not None}
        self.properties = {**kept, **new}

    def value(self, name: str) -> str | None:
        """The first value, or None."""
        found = self.properties.get(name)
        return found.values[0] if found is not None and found.values else None


@dataclass
class Snapshot:
    """The persistent groups of an instance and of its service at one moment."""

    instance: dict[str, Group]
    service: dict[str, Group]


@dataclass
class Running:
    """A method that was started and has not been looked after yet."""

    name: str
    after: str
    """What comes next: `online`, or the state that a stop leads to."""
    wait_status: int
    """As wait(2) gives it."""
    process: str = ""
    """Name of its process, empty where there is none."""
    pid: int = 0
    since: float = 0.0
    timed_out: bool = False
    active: bool = False
    """It is being run at this very moment."""
    executed: bool = True
    """False for `:true` and a missing method group: the log has no line about its end."""


@dataclass
class Runtime:
    """What svc.startd keeps in memory."""

    enabled: bool = False
    requests: list[str] = field(default_factory=list)
    method: Running | None = None
    failures: int = 0
    """Plain failures since the last success; `svcadm clear` does not reset it (section 1, fact 19)."""
    starts: list[float] = field(default_factory=list)


@dataclass
class Instance:
    """An instance of a service."""

    service: Service
    name: str
    groups: dict[str, Group] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    runtime: Runtime = field(default_factory=Runtime)

    @property
    def fmri(self) -> str:
        return f"{self.service.fmri}:{self.name}"

    def group(self, name: str, type: str = "framework", persistent: bool = True) -> Group:
        """The group of that name on the instance itself, made if it is not there."""
        return self.groups.setdefault(name, Group(name, type, persistent=persistent))

    def look_up(self, group: str, name: str, snapshot: str | None = None) -> Property | None:
        """A property as composed: the instance's own, else the service's."""
        levels = self.levels(snapshot)
        for level in levels:
            if group in level and name in level[group].properties:
                return level[group].properties[name]
        return None

    def levels(self, snapshot: str | None = None) -> tuple[dict[str, Group], dict[str, Group]]:
        """The groups of the instance and of the service, now or in a snapshot."""
        if snapshot is not None and snapshot in self.snapshots:
            return self.snapshots[snapshot].instance, self.snapshots[snapshot].service
        return self.groups, self.service.groups

    def take(self, name: str) -> None:
        """Take the snapshot `name`."""
        self.snapshots[name] = Snapshot(persistent(self.groups), persistent(self.service.groups))

    def restarter(self, name: str) -> str | None:
        """A value of the group `restarter`, None before svc.startd has taken the instance over."""
        group = self.groups.get("restarter")
        return None if group is None else group.value(name)

    @property
    def state(self) -> str:
        return self.restarter("state") or ""

    @property
    def next_state(self) -> str:
        return self.restarter("next_state") or "none"

    @property
    def enabled(self) -> bool:
        """Persistent setting, unless a temporary one overrides it."""
        temporary = self.look_up("general_ovr", "enabled")
        setting = temporary or self.look_up("general", "enabled")
        return setting is not None and setting.values == ["true"]


@dataclass
class Service:
    """A service and its instances."""

    name: str
    groups: dict[str, Group] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    patterns: list[object] = field(default_factory=list)
    """The pg_patterns of its template, as the bundle has them."""

    @property
    def fmri(self) -> str:
        return f"svc:/{self.name}"

    def group(self, name: str, type: str = "framework") -> Group:
        """The group of that name, made if it is not there."""
        return self.groups.setdefault(name, Group(name, type))


Entity = Union[Service, Instance]


def persistent(groups: Mapping[str, Group]) -> dict[str, Group]:
    """A copy of the persistent ones."""
    return {name: copy.deepcopy(group) for name, group in groups.items() if group.persistent}


@dataclass
class Repository:
    """Everything that svc.configd holds."""

    services: dict[str, Service] = field(default_factory=dict)

    def instances(self) -> Iterator[Instance]:
        for service in list(self.services.values()):
            yield from list(service.instances.values())

    def service(self, name: str) -> Service:
        """The service of that name, made if it is not there."""
        return self.services.setdefault(name, Service(name))

    def find(self, name: str) -> Entity | None:
        """The service or instance of exactly that name; `svc:/` may be missing."""
        service, _, instance = _stripped(name).partition(":")
        found = self.services.get(service)
        if found is None or not instance:
            return None if instance else found
        return found.instances.get(instance)

    def instance(self, fmri: str) -> Instance | None:
        found = self.find(fmri)
        return found if isinstance(found, Instance) else None

    def match(self, pattern: str) -> Match:
        """What a name given to a command stands for (section 3)."""
        exact = self.find(pattern)
        if exact is not None:
            return Match(pattern, [exact], exact=True)
        entities: list[Entity] = [*self.services.values(), *self.instances()]
        if any(sign in pattern for sign in "*?["):
            glob = pattern if pattern.startswith("*") or ":/" in pattern else f"svc:/{pattern}"
            return Match(glob, [one for one in entities if fnmatch.fnmatchcase(one.fmri, glob)], glob=True)
        return Match(pattern, [one for one in entities if _is_partial(pattern, one.fmri)])

    def forget(self) -> None:
        """What a reboot does: groups that are not persistent and the memory of svc.startd are gone."""
        for instance in self.instances():
            instance.groups = {name: group for name, group in instance.groups.items() if group.persistent}
            instance.runtime = Runtime()


@dataclass(frozen=True)
class Match:
    """The entities that a name stands for."""

    pattern: str
    """As messages show it: a glob with the prefix that was put in front."""
    entities: list[Entity]
    exact: bool = False
    glob: bool = False

    def instances(self) -> list[Instance]:
        """As svcadm and svcs want it: a matching service stands for its instances."""
        found: dict[str, Instance] = {}
        for entity in self.entities:
            for instance in entity.instances.values() if isinstance(entity, Service) else (entity,):
                found.setdefault(instance.fmri, instance)
        return list(found.values())

    def services_first(self) -> list[Entity]:
        """As svccfg wants it: a matching service displaces its instances."""
        services = [one for one in self.entities if isinstance(one, Service)]
        return [*services, *(i for i in self.entities if isinstance(i, Instance) and i.service not in services)]

    def instances_first(self) -> list[Entity]:
        """As svcprop wants it: a matching instance displaces its service."""
        if self.exact:
            return self.entities
        instances = [one for one in self.entities if isinstance(one, Instance)]
        rest = [s for s in self.entities if isinstance(s, Service) and s not in [i.service for i in instances]]
        return [*rest, *instances]


def _stripped(name: str) -> str:
    for prefix in ("svc://localhost/", "svc:/"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _is_partial(pattern: str, fmri: str) -> bool:
    """Only the first place where the text occurs is tested (section 3)."""
    at = fmri.find(pattern)
    if not pattern or at < 1:
        return False
    end = at + len(pattern)
    return fmri[at - 1] in "/:" and (end == len(fmri) or (fmri[end] == ":" and ":" in fmri[5:]))


def sorted_for_svcprop(groups: Iterable[Group]) -> list[Group]:
    """The order in which `svcprop FMRI` lists a service's groups: by type, each type in order of creation."""
    return sorted(groups, key=lambda group: group.type)

"""Templates: what svc.startd and a service's own pg_patterns demand of an instance, in svccfg's words (section 7)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.host.laboratory.smf_bundle import GroupPattern, PropertyPattern, check
from tests.host.laboratory.smf_repository import Group, Instance

_RESTARTER = "svc:/system/svc/restarter:default"
_METHOD = tuple(
    PropertyPattern(name, type, True, 1, 1, ())
    for name, type in (("exec", "astring"), ("timeout_seconds", "count"), ("type", "astring"))
)
_DURATION = PropertyPattern("duration", "astring", False, 1, 1, ("contract", "transient", "child"))
RESTARTER_PATTERNS = (
    GroupPattern(_RESTARTER, "start", "method", True, _METHOD),
    GroupPattern(_RESTARTER, "stop", "method", True, _METHOD),
    GroupPattern(_RESTARTER, "startd", "framework", False, (_DURATION,)),
)


def violations(instance: Instance) -> list[str]:
    """A line for each violation, without its line end."""
    own = [pattern for pattern in instance.service.patterns if isinstance(pattern, GroupPattern)]
    return [line for pattern in (*RESTARTER_PATTERNS, *own) for line in _violations(instance, pattern)]


def _violations(instance: Instance, pattern: GroupPattern) -> Iterator[str]:
    head = f'FMRI="{instance.fmri}"'
    tail = f'Template source="{pattern.source}"; pg_pattern name="{pattern.name}"; pg_pattern type="{pattern.type}"'
    levels = [level[pattern.name] for level in instance.levels() if pattern.name in level]
    groups = [group for group in levels if pattern.type in ("", group.type)]
    if not groups:
        if pattern.required:
            name = f'Name of missing property group="{pattern.name}"'
            kind = f'Type of missing property group="{pattern.type}"'
            yield f"Required property group missing: {head}; {name}; {kind}; {tail}"
        return
    for wanted in pattern.properties:
        yield from _property(groups, wanted, pattern.name, head, tail)


def _property(groups: list[Group], wanted: PropertyPattern, group: str, head: str, tail: str) -> Iterator[str]:
    tail = f'{tail}; prop_pattern name="{wanted.name}"; prop_pattern type="{wanted.type}"'
    head = f'{head}; Property group="{group}"'
    found = next((one.properties[wanted.name] for one in groups if wanted.name in one.properties), None)
    if found is None:
        if wanted.required:
            yield f'Required property missing: {head}; Name of missing property="{wanted.name}"; {tail}'
        return
    head = f'{head}; Property name="{wanted.name}"'
    if wanted.type and found.type != wanted.type:
        yield f'Property has bad type: {head}; Actual type="{found.type}"; {tail}'
        return
    if not wanted.minimum <= len(found.values) <= wanted.maximum:
        words = "Number of property values violates cardinality restriction"
        limits = f'Cardinality minimum="{wanted.minimum}"; Cardinality maximum="{wanted.maximum}"'
        yield f'{words}: {head}; Number of values="{len(found.values)}"; {limits}; {tail}'
    for value in found.values:
        if check(found.type, value) is not None or (wanted.allowed and value not in wanted.allowed):
            yield f'Property has illegal value: {head}; Illegal value="{value}"; {tail}'

"""svcprop: property values (section 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.host.laboratory.smf_call import Call, UsageError
from tests.host.laboratory.smf_repository import Entity, Group, Instance, Property, Service, sorted_for_svcprop

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

_USAGE = """\
Usage: svcprop [-fqtv] [-C | -c | -s snapshot] [-z zone] [-p [name/]name]... 
         {FMRI | pattern}...
       svcprop -w [-fqtv] [-z zone] [-p [name/]name] {FMRI | pattern}
"""  # noqa: W291 the blank at the end of the first line is the command's
_ESCAPED = set(" ;&()|^<>\t\n\\\"'`$")


class _Complaint(Exception):
    pass


def main(smf: Smf, call: Call) -> int:
    """The command; returns its exit status."""
    try:
        options, names = call.options(call.arguments, "Cacfp:qs:tvwz:")
        given = dict(options)
        if "-z" in given:
            call.warn(f"invalid zone '{given['-z']}'")
            return 1
        if not names:
            raise UsageError
    except UsageError as error:
        call.put(f"{error}\n" if str(error) else "")
        call.put(_USAGE)
        return 2
    quiet = "-q" in given
    if not smf.reachable:
        call.warn("Could not connect to configuration repository: repository server unavailable.")
        return 1
    smf.observe()
    status = 0
    entities: list[Entity] = []
    for name in names:
        match = smf.repository.match(name)
        if not match.entities and not quiet:
            call.warn(f"Pattern '{match.pattern}' doesn't match any entities")
        status = status or (0 if match.entities else 1)
        entities += match.instances_first()
    several = len(entities) > 1 or len(names) > 1
    wanted = [value for option, value in reversed(options) if option == "-p"]  # each is put in front of the list
    for entity in entities:
        try:
            groups = _view(entity, given)
        except _Complaint as error:
            if not quiet:
                call.warn(str(error))
            status = 1
            continue
        style = "full" if several or "-f" in given else "typed" if "-t" in given else "plain"
        for name in wanted or [""]:
            try:
                lines = _lines(entity, groups, name, style)
            except _Complaint as error:
                if not quiet:
                    call.warn(str(error))
                status = 1
                continue
            for line in lines:
                if not quiet:
                    call.say(line)
    return status


def _view(entity: Entity, given: dict[str, str]) -> list[Group]:
    """The groups that are looked at, composed, in the order in which they are listed."""
    if isinstance(entity, Service):
        if "-s" in given:
            raise _Complaint("Only instances have snapshots.")
        return list(entity.groups.values())
    if "-C" in given:
        return list(entity.groups.values())
    snapshot = given.get("-s")
    if snapshot is not None and snapshot not in entity.snapshots:
        raise _Complaint("No such snapshot.")
    if "-c" not in given and snapshot is None:
        snapshot = "running"
    own, common = entity.levels(snapshot)
    fleeting = [group for group in entity.groups.values() if not group.persistent]
    lasting = [group for group in own.values() if group.persistent]
    names = {group.name for group in lasting}
    merged = [Group(one.name, one.type, {**one.properties, **_rest(one, common)}) for one in lasting]
    merged += [group for group in sorted_for_svcprop(common.values()) if group.name not in names]
    return merged + (fleeting if "-s" not in given else [])


def _rest(group: Group, common: dict[str, Group]) -> dict[str, Property]:
    """The properties that the service's group of the same name adds."""
    other = common.get(group.name)
    return {} if other is None else {k: v for k, v in other.properties.items() if k not in group.properties}


def _lines(entity: Entity, groups: list[Group], name: str, style: str) -> list[str]:
    kind = "instance" if isinstance(entity, Instance) else "service"
    group_name, _, property_name = name.partition("/")
    if not name:
        return [_line(entity, g, key, style) for g in groups for key in g.properties]
    group = next((one for one in groups if one.name == group_name), None)
    if group is None:
        raise _Complaint(f"Couldn't find property group `{group_name}' for {kind} `{entity.fmri}'.")
    if not property_name:
        return [_line(entity, group, key, style) for key in group.properties]
    if property_name not in group.properties:
        raise _Complaint(f"Couldn't find property `{name}' for {kind} `{entity.fmri}'.")
    values = " ".join(_shown(value) for value in group.properties[property_name].values)
    return [values] if style == "plain" else [_line(entity, group, property_name, style)]


def _line(entity: Entity, group: Group, name: str, style: str) -> str:
    found = group.properties[name]
    values = " ".join(_shown(value) for value in found.values)
    prefix = f"{entity.fmri}/:properties/" if style == "full" else ""
    return f"{prefix}{group.name}/{name} {found.type} {values}"


def _shown(value: str) -> str:
    return '""' if not value else "".join(f"\\{c}" if c in _ESCAPED else c for c in value)

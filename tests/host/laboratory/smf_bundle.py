"""A service bundle: a manifest's or profile's elements turned into the property groups that an import writes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.host.laboratory import smf_dtd, smf_xml
from tests.host.laboratory.smf_repository import Group, Property
from tests.host.laboratory.smf_xml import Node

DTD_PATH = "/usr/share/lib/xml/dtd/service_bundle.dtd.1"
"""The system identifier that a DOCTYPE must have, letter by letter (section 2)."""

GROUPINGS = ("require_all", "require_any", "optional_all", "exclude_all")


class BadBundle(Exception):
    """`lines` are the parser's, printed as they are; the text is svccfg's message."""

    def __init__(self, message: str, lines: str = "") -> None:
        super().__init__(message)
        self.lines = lines


@dataclass
class PropertyPattern:
    """A prop_pattern of a template."""

    name: str
    type: str
    required: bool
    minimum: int
    maximum: int
    allowed: tuple[str, ...]


@dataclass
class GroupPattern:
    """A pg_pattern of a template."""

    source: str
    name: str
    type: str
    required: bool
    properties: tuple[PropertyPattern, ...]


@dataclass
class InstanceBundle:
    """What a bundle says of an instance."""

    name: str
    enabled: bool
    groups: dict[str, Group] = field(default_factory=dict)


@dataclass
class ServiceBundle:
    """What a bundle says of a service."""

    name: str
    groups: dict[str, Group] = field(default_factory=dict)
    instances: list[InstanceBundle] = field(default_factory=list)
    dependents: list[tuple[str, Group]] = field(default_factory=list)
    """FMRIs that get a dependency group."""
    patterns: list[GroupPattern] = field(default_factory=list)
    overrides: set[tuple[str, str]] = field(default_factory=set)
    """Properties that win over a customisation."""
    deleted: set[str] = field(default_factory=set)
    """Names of groups and dependencies with delete="true"."""


def read(data: bytes, where: str, dtd: str, kind: str) -> list[ServiceBundle]:
    """The services of the bundle `data`, the file `where`; `kind` is manifest or profile. Raises BadBundle."""
    try:
        document = smf_xml.parse(data, where)
    except smf_xml.NotWellFormed as error:
        raise BadBundle("couldn't parse document", str(error)) from None
    if document.doctype is None:
        raise BadBundle("document has no DTD")
    if document.doctype != DTD_PATH:
        raise BadBundle("document DTD unknown; not service bundle?")
    faults = smf_dtd.violations(document.root, dtd, where)
    if kind == "manifest" and faults:  # profiles are not validated: XInclude and a DTD clash (section 2)
        raise BadBundle("Document is not valid.", "".join(faults))
    if document.root.name != "service_bundle" or document.root.get("type") != kind:
        raise BadBundle(f"document is not a {kind}.")
    return [_service(node) for node in document.root.all("service")]


def _service(node: Node) -> ServiceBundle:
    bundle = ServiceBundle(node.get("name"))
    default: InstanceBundle | None = None
    for child in node.children:
        if child.name == "create_default_instance":
            default = InstanceBundle("default", child.get("enabled") == "true")
            bundle.instances.append(default)
        elif child.name == "instance":
            if any(one.name == child.get("name") for one in bundle.instances):
                raise BadBundle(f'Multiple definitions for instance "{child.get("name")}".')
            one = InstanceBundle(child.get("name"), child.get("enabled") == "true")
            bundle.instances.append(one)
            for part in child.children:
                _part(part, one.groups, bundle)
        else:
            _part(child, bundle.groups, bundle)
    return bundle


def _part(node: Node, groups: dict[str, Group], bundle: ServiceBundle) -> None:
    """One element of a service or an instance."""
    name = node.get("name")
    if node.get("delete") == "true":
        bundle.deleted.add(name)
    elif node.name == "single_instance":
        _group(groups, "general", "framework")["single_instance"] = Property("boolean", ["true"])
    elif node.name == "restarter":
        fmri = node.all("service_fmri")[0].get("value")
        _group(groups, "general", "framework")["restarter"] = _checked("fmri", [fmri])
    elif node.name == "stability":
        _group(groups, "general", "framework")["entity_stability"] = Property("astring", [node.get("value")])
    elif node.name in ("dependency", "dependent"):
        entities = [one.get("value") for one in node.all("service_fmri")]
        properties = {
            "entities": _checked("fmri", entities),
            "grouping": Property("astring", [node.get("grouping")]),
            "restart_on": Property("astring", [node.get("restart_on")]),
            "type": Property("astring", [node.get("type", "service")]),
        }
        properties.update(_properties(node, name, bundle))
        if node.name == "dependency":
            groups[name] = Group(name, "dependency", properties)
        else:
            properties["entities"] = Property("fmri", [f"svc:/{bundle.name}"])
            properties["external"] = Property("boolean", ["true"])
            bundle.dependents.append((entities[0], Group(name, "dependency", dict(sorted(properties.items())))))
    elif node.name == "method_context":
        _group(groups, "method_context", "framework").update(_context(node))
    elif node.name == "exec_method":
        seconds = node.get("timeout_seconds")
        properties = {
            "exec": Property("astring", [node.get("exec")]),
            "timeout_seconds": _checked("count", ["0" if seconds == "-1" else seconds]),
            "type": Property("astring", [node.get("type")]),
        }
        for context in node.all("method_context"):
            properties.update(_context(context))
        properties.update(_properties(node, name, bundle))
        groups[name] = Group(name, "method", dict(sorted(properties.items())))
    elif node.name == "property_group":
        if name in groups and groups[name].type != node.get("type"):
            raise BadBundle(f'Property group "{name}" is defined with two types.')
        properties = _properties(node, name, bundle)
        _group(groups, name, node.get("type")).update(sorted(properties.items()))
    elif node.name == "template":
        _template(node, groups, bundle)


def _group(groups: dict[str, Group], name: str, type: str) -> dict[str, Property]:
    return groups.setdefault(name, Group(name, type)).properties


def _properties(node: Node, group: str, bundle: ServiceBundle) -> dict[str, Property]:
    found: dict[str, Property] = {}
    for child in node.children:
        if child.name == "propval":
            values = [child.get("value")]
        elif child.name == "property":
            values = [one.get("value") for kind in child.children for one in kind.children]
            wrong = [kind.name for kind in child.children if kind.name != f"{child.get('type')}_list"]
            if wrong:
                raise BadBundle(f'property "{child.get("name")}" has a list of another type')
        elif child.name == "stability":
            found["stability"] = Property("astring", [child.get("value")])
            continue
        else:
            continue
        name = child.get("name")
        found[name] = _checked(child.get("type"), values)
        if child.get("override") == "true":
            bundle.overrides.add((group, name))
    return found


def _context(node: Node) -> dict[str, Property]:
    """The properties of a method context, sorted."""
    found: dict[str, Property] = {}
    for name in ("working_directory", "project", "resource_pool", "security_flags"):
        if name in node.attributes:
            found[name] = Property("astring", [node.get(name)])
    profile = node.first("method_profile")
    found["use_profile"] = Property("boolean", ["true" if profile else "false"])
    if profile:
        found["profile"] = Property("astring", [profile.get("name")])
    for credential in node.all("method_credential"):
        for name, value in credential.attributes.items():
            found[name] = Property("astring", [value])
    for environment in node.all("method_environment"):
        for variable in environment.all("envvar"):
            if variable.get("name").startswith("SMF_"):
                raise BadBundle(f'Invalid environment variable "{variable.get("name")}"; "SMF_" prefix is reserved.')
        found["environment"] = Property(
            "astring", [f"{one.get('name')}={one.get('value')}" for one in environment.all("envvar")]
        )
    return dict(sorted(found.items()))


def _template(node: Node, groups: dict[str, Group], bundle: ServiceBundle) -> None:
    for child in node.children:
        if child.name in ("common_name", "description"):
            texts = {one.get("xml:lang"): Property("ustring", [one.text.strip()]) for one in child.all("loctext")}
            groups[f"tm_{child.name}"] = Group(f"tm_{child.name}", "template", texts)
        elif child.name == "documentation":
            for page in child.all("manpage"):
                name = f"tm_man_{page.get('title')}{page.get('section')}"
                values = {key: Property("astring", [page.get(key)]) for key in ("manpath", "section", "title")}
                groups[name] = Group(name, "template", values)
            for link in child.all("doc_link"):
                name = "tm_doc_" + re.sub(r"\W", "_", link.get("name"))
                values = {key: Property("astring", [link.get(key)]) for key in ("name", "uri")}
                groups[name] = Group(name, "template", values)
        elif child.name == "pg_pattern":
            bundle.patterns.append(_pattern(child, f"svc:/{bundle.name}"))


def _pattern(node: Node, source: str) -> GroupPattern:
    properties = []
    for child in node.all("prop_pattern"):
        cardinality = child.first("cardinality")
        constraints = child.first("constraints")
        properties.append(
            PropertyPattern(
                child.get("name"),
                child.get("type"),
                child.get("required") == "true",
                int(cardinality.get("min", "0")) if cardinality else 0,
                int(cardinality.get("max", str(2**64 - 1))) if cardinality else 2**64 - 1,
                tuple(one.get("name") for one in constraints.all("value")) if constraints else (),
            )
        )
    required = node.get("required") == "true"
    return GroupPattern(source, node.get("name"), node.get("type"), required, tuple(properties))


_FMRI = re.compile(r"(svc:/(/[\w.-]*/)?|lrc:/|file://[\w.-]*/)?[\w,.@-]+([/:][\w,.@:-]+)*(/:properties(/[\w,.-]+)*)?")


def check(type: str, value: str) -> str | None:
    """Why `value` is no value of that type, as svccfg puts it in parentheses; None if it is one."""
    if type == "count" and not re.fullmatch(r"\d+", value):
        return "Illegal character"
    if type in ("integer", "time") and not re.fullmatch(r"-?\d+(\.\d+)?", value):
        return "Illegal character"
    if type == "boolean" and value not in ("true", "false", "0", "1"):
        return "invalid argument"
    if type == "fmri" and not value.startswith("file:") and not _FMRI.fullmatch(value):
        return "invalid argument"
    return None


def _checked(type: str, values: list[str]) -> Property:
    for value in values:
        why = check(type, value)
        if why is not None:
            raise BadBundle(f'illegal value "{value}" for {type} ({why})')
    return Property(type, values)

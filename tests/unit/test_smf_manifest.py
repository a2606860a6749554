"""The shipped manifest: every rule that the reference states, and for each a manifest that breaks just it.

`faults` is a checker of its own; svccfg would find only a part of these, and never before the import.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from memproxy_sol import resources, smf_manifest
from memproxy_sol.errors import SmfError

DTD = Path(__file__).parent.parent / "data" / "smf" / "service_bundle.dtd.1"
SHIPPED = resources.smf_manifest().read_text(encoding="utf-8")

# What Solaris 10 knows of privileges: the basic set by its name. A single unknown name fails every method.
PRIVILEGES_KNOWN_EVERYWHERE = {"basic", "zone", "all", "none", "file_dac_read", "file_dac_search", "proc_owner"}
FRAMEWORK_TYPES = {"framework", "method", "dependency", "template", "implementation"}


def faults(text: str) -> set[str]:
    """The names of the rules that the manifest breaks."""
    return set(_faults(text))


def _faults(text: str) -> Iterator[str]:
    if not re.match(
        r'<\?xml version="1\.0"\?>\n<!DOCTYPE service_bundle SYSTEM '
        r'"/usr/share/lib/xml/dtd/service_bundle\.dtd\.1">\n',
        text,
    ):
        yield "doctype"
    if not _dtd_valid(text):
        yield "dtd"
    bundle = ElementTree.fromstring(text)
    if (bundle.tag, bundle.get("type"), bundle.get("name")) != ("service_bundle", "manifest", "memproxy-sol:memproxy"):
        yield "bundle"
    services = list(bundle)
    if [service.tag for service in services] != ["service"]:
        yield "one service"
        return
    service = services[0]
    if (service.get("name"), service.get("type")) != ("site/memproxy", "service") or service.get("version") != "1":
        yield "service"
    if [e.get("enabled") for e in service.findall("create_default_instance")] != ["false"] or service.findall(
        "instance"
    ):
        yield "default instance, disabled"
    if service.find("restarter") is not None or service.find("notification_parameters") is not None:
        yield "nothing that S10 or svc.startd does not know"
    yield from _dependency_faults(service)
    yield from _context_faults(service)
    yield from _method_faults(service)
    yield from _property_faults(service)
    yield from _template_faults(service)


def _dtd_valid(text: str) -> bool:
    result = subprocess.run(
        ["xmllint", "--noout", "--nonet", "--nowarning", "--dtdvalid", str(DTD), "-"],
        input=text.encode(),
        capture_output=True,
    )
    assert result.returncode in (0, 3), result.stderr
    return result.returncode == 0


def _dependency_faults(service: ElementTree.Element) -> Iterator[str]:
    found = [
        (e.get("grouping"), e.get("restart_on"), e.get("type"), [f.get("value") for f in e.findall("service_fmri")])
        for e in service.findall("dependency")
    ]
    if found != [("require_all", "none", "service", ["svc:/system/filesystem/local:default"])]:
        yield "one dependency on filesystem/local"
    if service.findall("dependent"):
        yield "no dependent"
    cited = [str(e.get("value")) for e in service.iter("service_fmri")]
    if any(fmri.startswith("svc:/milestone/") for fmri in cited):
        yield "no milestone"
    if any(e.get("type") == "path" for e in service.findall("dependency")):
        yield "no path dependency"


def _context_faults(service: ElementTree.Element) -> Iterator[str]:
    contexts = service.findall("method_context")
    if len(contexts) != 1 or list(service.iter("method_context")) != contexts:
        yield "one context, of the service"
        return
    context = contexts[0]
    if context.attrib != {"working_directory": "/"}:
        yield "working directory /"
    credential = context.find("method_credential")
    attributes = {} if credential is None else dict(credential.attrib)
    if attributes != {"user": "root", "group": "root", "privileges": "basic"}:
        yield "credential"
    privileges = re.split("[, ]", attributes.get("privileges", "") + "," + attributes.get("limit_privileges", ""))
    if not {name.lstrip("!-") for name in privileges if name} <= PRIVILEGES_KNOWN_EVERYWHERE:
        yield "privileges known everywhere"
    if [(e.get("name"), e.get("value")) for e in service.iter("envvar")] != [("LD_NOCONFIG", "yes")]:
        yield "LD_NOCONFIG=yes"
    if any(str(e.get("name")).startswith("SMF_") for e in service.iter("envvar")):
        yield "no reserved variable"


def _method_faults(service: ElementTree.Element) -> Iterator[str]:
    methods = {str(e.get("name")): e for e in service.findall("exec_method")}
    if set(methods) != {"start", "stop", "refresh"} or len(service.findall("exec_method")) != 3:
        yield "start, stop and refresh"
        return
    check = "%{memproxy/program} verify --smf"
    if methods["start"].get("exec") != check or methods["refresh"].get("exec") != check:
        yield "start and refresh are the check"
    if methods["stop"].get("exec") != ":true":
        yield "stop is :true"
    for method in methods.values():
        command = str(method.get("exec"))
        if method.get("type") != "method":
            yield "method type"
        if method.get("timeout_seconds") != "60":
            yield "timeout 60"
        if re.search(r"[;&|<>]", command):
            yield "one simple command"
        for token in re.findall(r"%(\{[^}]*\}|.)", command):
            group, _, name = token[1:-1].partition("/")
            known = service.find(f"property_group[@name='{group}']/*[@name='{name}']") is not None if name else False
            if token not in "%mrsif" and not known:
                yield "tokens expand"


def _property_faults(service: ElementTree.Element) -> Iterator[str]:
    startd = service.findall("property_group[@name='startd']")
    if [e.get("type") for e in startd] != ["framework"] or [e.attrib for e in startd[0]] != [
        {"name": "duration", "type": "astring", "value": "transient"}
    ]:
        yield "transient"
    own = service.findall("property_group[@name='memproxy']")
    if [e.get("type") for e in own] != ["application"]:
        yield "own group"
        return
    if [e.attrib for e in own[0]] != [
        {"name": "program", "type": "astring", "value": "/usr/local/bin/memproxy-sol"},
    ]:
        yield "own properties"
    for value in own[0].findall("propval[@name='program']"):
        try:
            smf_manifest.check_program_path(str(value.get("value")))
        except SmfError:
            yield "program path"
    if [e.get("value") for e in service.findall("stability")] != ["Evolving"]:
        yield "stability"


def _loctext(element: ElementTree.Element | None) -> str:
    """The text in the fallback language, empty if it is missing or not on one line without outer blanks."""
    if element is None:
        return ""
    texts = [
        e.text or "" for e in element.findall("loctext") if e.get("{http://www.w3.org/XML/1998/namespace}lang") == "C"
    ]
    return texts[0] if len(texts) == 1 and texts[0] == " ".join(texts[0].split()) else ""


def _template_faults(service: ElementTree.Element) -> Iterator[str]:
    template = service.find("template")
    if template is None:
        yield "template"
        return
    name = _loctext(template.find("common_name"))
    if not 0 < len(name) < 40 or name.endswith("."):
        yield "common name"
    if not _loctext(template.find("description")):
        yield "description"
    pages = {(e.get("title"), e.get("section")) for e in template.findall("documentation/manpage")}
    if ("memproxy-sol", "8") not in pages:
        yield "manual pages"
    patterns = {str(e.get("name")): e for e in template.findall("pg_pattern")}
    if any(p.get("type") in FRAMEWORK_TYPES or p.get("target") != "this" for p in patterns.values()):
        yield "no pattern for the framework's groups"
    for group in service.findall("property_group[@type='application']"):
        pattern = patterns.get(str(group.get("name")))
        if pattern is None or pattern.get("type") != "application" or pattern.get("required") != "true":
            yield "a pattern for every own group"
            continue
        if not _loctext(pattern.find("common_name")) or not _loctext(pattern.find("description")):
            yield "a group is described"
        described = {(str(e.get("name")), e.get("type")): e for e in pattern.findall("prop_pattern")}
        if set(described) != {(str(e.get("name")), e.get("type")) for e in group if e.tag != "stability"}:
            yield "a pattern for every own property"
        for prop in described.values():
            cardinality = prop.find("cardinality")
            if cardinality is None or cardinality.attrib != {"min": "1", "max": "1"} or prop.get("required") != "true":
                yield "a property has one value"
            if not _loctext(prop.find("common_name")) or not _loctext(prop.find("description")):
                yield "a property is described"


def test_the_shipped_manifest_keeps_every_rule() -> None:
    assert faults(SHIPPED) == set()


def test_the_manifest_with_another_program_breaks_only_the_rule_of_its_default() -> None:
    assert faults(smf_manifest.manifest_with("/opt/a b/memproxy-sol").decode()) == {"own properties"}


CONTEXT = re.search(r"    <method_context.*?</method_context>\n", SHIPPED, re.DOTALL)
assert CONTEXT
DEPENDENCY_END = "    </dependency>\n"
DEFAULT = '<create_default_instance enabled="false"/>'
START = 'name="start" exec="%{memproxy/program} verify --smf" timeout_seconds="60"/>'

# rule, what is replaced, by what
MUTATIONS = [
    ("doctype", "service_bundle.dtd.1", "service_bundle.dtd.2"),
    ("doctype", "SYSTEM ", 'PUBLIC "x" '),
    ("dtd", DEFAULT, DEFAULT + "<single_instance/>" + DEFAULT),
    ("dtd", '<stability value="Evolving"/>', '<stability value="Someday"/>'),
    ("bundle", 'type="manifest"', 'type="profile"'),
    ("bundle", 'name="memproxy-sol:memproxy"', 'name="memproxy"'),
    ("one service", "</service_bundle>", '<service name="x" type="service" version="1"/></service_bundle>'),
    ("service", "site/memproxy", "system/memproxy"),
    ("service", "site/memproxy", "site/memproxy:default"),
    ("service", 'version="1">', 'version="1.0">'),
    ("service", 'type="service" version', 'type="milestone" version'),
    ("default instance, disabled", DEFAULT, DEFAULT.replace("false", "true")),
    ("default instance, disabled", DEFAULT, ""),
    (
        "default instance, disabled",
        '    <stability value="Evol',
        '    <instance name="default" enabled="false"/>\n    <stability value="Evol',
    ),
    (
        "nothing that S10 or svc.startd does not know",
        DEFAULT,
        DEFAULT + '<restarter><service_fmri value="svc:/network/inetd:default"/></restarter>',
    ),
    ("one dependency on filesystem/local", "filesystem/local:default", "filesystem/minimal:default"),
    ("one dependency on filesystem/local", 'restart_on="none"', 'restart_on="restart"'),
    ("one dependency on filesystem/local", 'grouping="require_all"', 'grouping="optional_all"'),
    ("no milestone", "svc:/system/filesystem/local:default", "svc:/milestone/multi-user:default"),
    ("no path dependency", 'type="service">\n      <service_f', 'type="path">\n      <service_f'),
    (
        "no dependent",
        DEPENDENCY_END,
        DEPENDENCY_END + '<dependent name="memproxy" grouping="optional_all" restart_on="none">'
        '<service_fmri value="svc:/milestone/multi-user"/></dependent>',
    ),
    ("one context, of the service", CONTEXT[0], ""),
    (
        "one context, of the service",
        START,
        START[:-2] + '><method_context><method_environment><envvar name="A" value="b"/></method_environment>'
        "</method_context></exec_method>",
    ),
    ("working directory /", ' working_directory="/"', ""),
    ("working directory /", 'working_directory="/"', 'working_directory="/" security_flags="aslr"'),
    ("credential", ' privileges="basic"', ""),
    ("credential", 'user="root"', 'user="memproxy"'),
    ("privileges known everywhere", '"basic"', '"basic,!net_access"'),
    ("LD_NOCONFIG=yes", 'name="LD_NOCONFIG" value="yes"', 'name="LD_NOCONFIG" value=""'),
    ("LD_NOCONFIG=yes", "LD_NOCONFIG\"", "LD_NOAUXFLTR\""),
    (
        "no reserved variable",
        '<envvar name="LD_NOCONFIG" value="yes"/>',
        '<envvar name="LD_NOCONFIG" value="yes"/><envvar name="SMF_FMRI" value="x"/>',
    ),
    ("start, stop and refresh", 'name="refresh"', 'name="restart"'),
    ("start and refresh are the check", "verify --smf", "verify"),
    ("start and refresh are the check", START, START.replace("%{memproxy/program}", "memproxy-sol")),
    ("stop is :true", 'exec=":true"', 'exec=":kill"'),
    ("method type", 'type="method" name="start"', 'type="monitor" name="start"'),
    ("timeout 60", 'timeout_seconds="60"', 'timeout_seconds="0"'),
    ("one simple command", "verify --smf", "verify --smf; true"),
    ("tokens expand", "%{memproxy/program}", "%{memproxy/prog}"),
    ("tokens expand", "verify --smf", "verify --smf %q"),
    ("transient", '"transient"', '"contract"'),
    ("transient", 'name="startd" type="framework"', 'name="startd" type="application"'),
    ("own group", 'name="memproxy" type="application">\n      <propval', 'name="memproxy" type="own">\n      <propval'),
    ("own properties", '"/usr/local/bin/memproxy-sol"', '"/usr/bin/memproxy-sol"'),
    ("program path", '"/usr/local/bin/memproxy-sol"', '"/usr/local/bin/$X"'),
    ("stability", '<stability value="Evolving"/>', ""),
    ("template", SHIPPED[SHIPPED.index("    <template>") : SHIPPED.index("  </service>")], ""),
    ("common name", "proxy verification<", "proxy verification, once at every single boot<"),
    ("common name", "proxy verification<", "proxy verification.<"),
    ("common name", "proxy verification<", "\n proxy verification<"),
    ("description", '<loctext xml:lang="C">Verifies', '<loctext xml:lang="de">Verifies'),
    ("manual pages", 'title="memproxy-sol"', 'title="memproxy"'),
    (
        "no pattern for the framework's groups",
        '<pg_pattern name="memproxy" type="app',
        '<pg_pattern name="startd" type="framework"/><pg_pattern name="memproxy" type="app',
    ),
    ("no pattern for the framework's groups", 'target="this"', 'target="all"'),
    ("a pattern for every own group", '<pg_pattern name="memproxy"', '<pg_pattern name="config"'),
    ("a group is described", "What the methods of this service need to know.", ""),
    ("a pattern for every own property", '<prop_pattern name="program"', '<prop_pattern name="path"'),
    (
        "a pattern for every own property",
        'prop_pattern name="program" type="astring"',
        'prop_pattern name="program" type="ustring"',
    ),
    (
        "a pattern for every own property",
        'memproxy-sol"/>\n    </pro',
        'memproxy-sol"/><propval name="n" type="count" value="1"/>\n    </pro',
    ),
    ("a property has one value", '<cardinality min="1" max="1"/>', '<cardinality min="1"/>'),
    ("a property is described", '<loctext xml:lang="C">program<', '<loctext xml:lang="C"><'),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "old", "new"), MUTATIONS)
def test_a_manifest_that_breaks_the_rule_is_found(rule: str, old: str, new: str) -> None:
    assert old in SHIPPED
    mutated = SHIPPED.replace(old, new, 1)
    assert rule in faults(mutated)


def test_every_rule_has_a_manifest_that_breaks_it() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert set(re.findall(r'^ +yield "(.*)"$', source, re.MULTILINE)) == {rule for rule, _, _ in MUTATIONS}

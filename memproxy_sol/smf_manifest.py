"""SMF: the service's manifest and its enabling profile, as bytes, and where a release looks for them.

Nothing here runs a command. Standard library only: the boot-time verification may import this module.

Sources: smf(5), service_bundle(4), smf_method(5), and what svccfg and svc.startd did with recorded manifests
(reference "smf", whose sections are cited below).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Any, Callable
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from memproxy_sol import resources
from memproxy_sol.errors import SmfError
from memproxy_sol.root import Root

SERVICE = "svc:/site/memproxy"
FMRI = "svc:/site/memproxy:default"
"""The instance. Commands get this full name: abbreviations match by the first occurrence and may be ambiguous."""

DTD_PATH = "/usr/share/lib/xml/dtd/service_bundle.dtd.1"
"""The system identifier that svccfg demands letter by letter, and where the target's own DTD lies (section 2)."""

MODE = 0o444
OWNER = 0
GROUP = 3
"""Mode, root and sys: what manifests and profiles are delivered with (section 14). Whoever writes one gives it the
present modification time: the import at boot takes a file of the same owner, group, size and time as unchanged
without reading it (section 1, fact 16)."""

SIZE_LIMIT = 256 * 1024
"""Bytes of a manifest that `parse_manifest` looks at; the largest of an operating system is a tenth of it."""
_DEPTH_LIMIT = 32

LIB_DIRECTORY = "/lib/svc/manifest/site"
VAR_DIRECTORY = "/var/svc/manifest/site"
_EARLY_IMPORT = "/lib/svc/manifest/system/early-manifest-import.xml"
_SMARTOS = re.compile(r"smartos|joyent", re.IGNORECASE)


FILE_NAME = "memproxy.xml"


def is_place(path: str) -> bool:
    """Whether a release of ours has the manifest at `path`."""
    return path in (f"{LIB_DIRECTORY}/{FILE_NAME}", f"{VAR_DIRECTORY}/{FILE_NAME}")


def manifest_directory(root: Root, release: str, distribution: str = "") -> str:
    """The directory whose manifests the target imports by itself.

    `release` is one of `hosts.solaris.RELEASES`, `distribution` the first line of its /etc/release. SmartOS is
    named because its global zone loses /lib at a reboot and its zones share it read-only, so that only /var
    keeps a file. For another system the tree decides, and for an empty tree the release: Solaris 10 imports
    nothing from /lib (section 14, 15, 19).
    """
    if _SMARTOS.search(distribution):
        return VAR_DIRECTORY
    if root.exists(LIB_DIRECTORY) or root.exists(_EARLY_IMPORT):
        return LIB_DIRECTORY
    return VAR_DIRECTORY if release == "10" else LIB_DIRECTORY


def profile_path(release: str, distribution: str = "") -> str | None:
    """Where an enabling profile goes, or None where there is no place for one; parameters as above.

    Solaris 10, and SmartOS beyond a reboot, have /var/svc/profile/site.xml alone, which belongs to the
    administrator: there the service is enabled by hand, `svcadm enable` (section 14, 15).
    """
    return None if release == "10" or _SMARTOS.search(distribution) else "/etc/svc/profile/site/memproxy.xml"


_UNSAFE = {"$", "*", "?", "[", "#", "~", "%", "{", "}"}


def check_program_path(program: str) -> None:
    """Raise SmfError unless `program` may stand in the manifest as the program of the methods.

    The restarter puts the value into a shell command. It escapes blanks, quotes and separators, but not
    `$ * ? [ # ~` (section 5), nor braces, which ksh93 expands; `%` is refused lest it be read as a token,
    control characters because a shell drops a line continuation.
    """

    def refuse(why: str) -> SmfError:
        return SmfError(
            f"cannot be the program of the service: {why}",
            where=_shown(program),
            hint="install memproxy-sol under a plain absolute path and name that",
        )

    if not program.startswith("/") or program.endswith("/"):
        raise refuse("it is not the absolute path of a file")
    unsafe = sorted(_UNSAFE.intersection(program))
    if unsafe:
        raise refuse(f"svc.startd does not protect {' '.join(unsafe)} from the shell")
    if not program.isprintable():
        raise refuse("it has control characters or is not UTF-8")
    if len(program.encode("utf-8")) >= 1024:
        raise refuse("it is longer than 1023 bytes")


_PROGRAM = re.compile(rb'(<propval name="program" type="astring" value=)"[^"<]*"')
_PATTERNS = re.compile(rb"\n[ \t]*<pg_pattern .*?</pg_pattern>", re.DOTALL)


def manifest_with(program: str, dtd: bytes | None = None) -> bytes:
    """The shipped manifest with `program` (an absolute path on the target) as the program of its methods.

    Nothing else differs from the shipped file, unless `dtd`, the target's own DTD, is given and does not know
    `pg_pattern`, as on an early Solaris 10: the descriptions of own properties are then left out, for svccfg
    validates against that DTD. Raises SmfError for a program that `check_program_path` refuses and for a
    shipped manifest that cannot be read.
    """
    check_program_path(program)
    shipped = resources.smf_manifest()
    try:
        data = shipped.read_bytes()
    except OSError as error:
        raise SmfError(error.strerror or str(error), where=str(shipped), hint="install memproxy-sol again") from error
    value = quoteattr(program).encode("utf-8")
    data = _PROGRAM.sub(lambda match: match.group(1) + value, data)
    if dtd is not None and b"pg_pattern" not in dtd:
        data = _PATTERNS.sub(b"", data)
    if parse_manifest(data, str(shipped)).program != program:
        raise SmfError("has no place for the program", where=str(shipped), hint="install memproxy-sol again")
    return data


def profile(enabled: bool = True) -> bytes:
    """A profile that enables (or disables) the instance when the target applies it, which is once (section 14)."""
    feature, value = ("enable", "true") if enabled else ("disable", "false")
    return f"""\
<?xml version="1.0"?>
<!DOCTYPE service_bundle SYSTEM "{DTD_PATH}">
<!-- Written by memproxy-sol. It is applied once; from then on svcadm decides. -->
<service_bundle type="profile" name="memproxy-sol:{feature}">
  <service name="site/memproxy" type="service" version="1">
    <instance name="default" enabled="{value}"/>
  </service>
</service_bundle>
""".encode("ascii")


@dataclass(frozen=True)
class Manifest:
    """What we need to know of a manifest that lies on the target."""

    fmri: str
    """The instance that it defines."""
    enabled: bool
    """How that instance begins when it is new."""
    program: str | None
    """The property memproxy/program, or None where there is none."""


def parse_manifest(data: bytes, where: str = "the manifest") -> Manifest:
    """The manifest in `data`, the content of the file `where`, which need not be ours.

    Raises SmfError for what svccfg refuses too (no XML, another DOCTYPE, no manifest), for anything but one
    service with one instance, and for what a manifest has no use for: an internal subset, entities, CDATA
    sections, processing instructions, more than 256 KiB.
    """
    bundle = _tree(data, where)
    services = bundle.findall("service")
    if bundle.tag != "service_bundle" or bundle.get("type") != "manifest":
        raise SmfError("is not a manifest", where=where)
    if len(services) != 1 or len(bundle) != 1 or not services[0].get("name"):
        raise SmfError("does not define exactly one service", where=where)
    service = services[0]
    instances = service.findall("create_default_instance") + service.findall("instance")
    if len(instances) != 1:
        raise SmfError("does not define exactly one instance", where=where)
    program = service.find("property_group[@name='memproxy']/propval[@name='program']")
    return Manifest(
        fmri=f"svc:/{service.get('name')}:{instances[0].get('name', 'default')}",
        enabled=instances[0].get("enabled") == "true",
        program=None if program is None else program.get("value"),
    )


class _Refused(Exception):
    """Raised inside the parser's handlers; its text says what the document must not have."""


_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FOREIGN_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9A-Fa-f]+);)")


def _tree(data: bytes, where: str) -> ElementTree.Element:
    """The elements of a service bundle. Nothing outside `data` is opened and nothing in it is expanded."""
    if len(data) > SIZE_LIMIT:
        raise SmfError(f"has {len(data)} bytes, more than the {SIZE_LIMIT} of any manifest", where=where)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SmfError(f"is not UTF-8 at offset {error.start}", where=where) from error
    if "\0" in text:  # expat would take it for UTF-16, whatever it is told
        raise SmfError("is not well-formed XML: it has zero bytes", where=where)
    builder = ElementTree.TreeBuilder()
    system_identifier: str | None = None
    depth = 0

    def doctype(name: str, system: str | None, public: str | None, has_internal_subset: int) -> None:
        nonlocal system_identifier
        if has_internal_subset:
            raise _Refused("an internal DTD subset")
        system_identifier = system

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEPTH_LIMIT:
            raise _Refused(f"elements nested more than {_DEPTH_LIMIT} deep")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(what: str) -> Callable[..., Any]:
        def handler(*_: object) -> None:
            raise _Refused(what)

        return handler

    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = doctype
    parser.ProcessingInstructionHandler = refuse("a processing instruction")
    parser.StartCdataSectionHandler = refuse("a CDATA section")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(text, True)
        root = builder.close()
    except _Refused as refused:
        raise SmfError(f"has {refused}, which no manifest needs", where=where) from None
    except expat.ExpatError as error:
        raise SmfError(f"is not well-formed XML: {error}", where=where) from error
    # A document with a DOCTYPE may use entities that only the DTD declares; expat drops them from attributes.
    if _FOREIGN_ENTITY.search(_COMMENT.sub("", text)):
        raise SmfError("has an entity reference, which no manifest needs", where=where)
    if system_identifier != DTD_PATH:
        raise SmfError(f"its DOCTYPE does not name {DTD_PATH}, so that svccfg refuses it", where=where)
    return root


def _shown(path: str) -> str:
    text = ascii(path)[1:-1]
    return text if len(text) <= 80 else text[:77] + "..."

"""Boot: the manifests and services a fresh tree has, the early import, the manifest-import program (section 14)."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.host.laboratory.smf_bundle import DTD_PATH
from tests.host.laboratory.smf_call import Call
from tests.host.laboratory.smf_import import LIB_TREE, VAR_TREE, Importer

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

EARLY = "svc:/system/early-manifest-import:default"
PROGRAM = "/lib/svc/method/manifest-import"
LATE_PROFILE = "/var/svc/profile/site.xml"
_GENERIC, _SITE, _SITES = "/etc/svc/profile/generic.xml", "/etc/svc/profile/site.xml", "/etc/svc/profile/site"
_DTD = Path(__file__).parents[2] / "data" / "smf" / "service_bundle.dtd.1"

SERVICES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("system/svc/restarter", (), ":true", "master restarter"),
    ("system/filesystem/root", (), ":true", "root file system mount"),
    ("system/filesystem/usr", ("system/filesystem/root",), ":true", "read/write root file systems mounts"),
    ("system/filesystem/minimal", ("system/filesystem/usr",), ":true", "minimal file system mounts"),
    ("system/manifest-import", ("system/filesystem/minimal",), PROGRAM, "service manifest import"),
    ("milestone/single-user", ("system/manifest-import",), ":true", "single-user milestone"),
    ("system/filesystem/local", ("milestone/single-user",), ":true", "local file system mounts"),
    ("milestone/multi-user", ("system/filesystem/local",), ":true", "multi-user milestone"),
)
"""Name, what it requires, start method, common name of the services that a fresh tree has (section 4)."""


def furnish(smf: Smf) -> None:
    """Put the DTD and the operating system's own manifests into a fresh tree."""
    if not smf.host(DTD_PATH).exists():
        _write(smf, DTD_PATH, _DTD.read_text("utf-8"))
    tree = VAR_TREE if smf.release == "10" else LIB_TREE
    _directory(smf, f"{tree}/site")
    for directory in ("/var/svc/log", f"{VAR_TREE}/site", "/var/svc/profile", "/etc/svc/profile"):
        _directory(smf, directory)
    if smf.release != "10":
        _directory(smf, _SITES)
        _write(
            smf, f"{LIB_TREE}/system/early-manifest-import.xml", manifest("system/early-manifest-import", (), ":true")
        )
    for name, required, start, common in SERVICES:
        _write(smf, f"{tree}/{name}.xml", manifest(name, required, start, common, enabled=True))
    if not smf.host("/etc/default/init").exists():
        _write(smf, "/etc/default/init", "TZ=UTC\nCMASK=022\n")


def _directory(smf: Smf, path: str) -> None:
    os.makedirs(smf.host(path), exist_ok=True)


def _write(smf: Smf, path: str, text: str) -> None:
    host = smf.host(path)
    host.parent.mkdir(parents=True, exist_ok=True)
    host.write_text(text, "utf-8")


def manifest(
    name: str,
    required: tuple[str, ...],
    start: str,
    common: str = "",
    enabled: bool = False,
    grouping: str = "require_all",
) -> str:
    """The text of a manifest of a transient service that requires others."""
    groups = "".join(
        f'    <dependency name="needs-{index}" grouping="{grouping}" restart_on="none" type="service">\n'
        f"      <service_fmri value={_quoted(f'svc:/{other}')}/>\n    </dependency>\n"
        for index, other in enumerate(required)
    )
    template = (
        f'    <template><common_name><loctext xml:lang="C">{common}</loctext></common_name></template>\n'
        if common
        else ""
    )
    return f"""\
<?xml version="1.0"?>
<!DOCTYPE service_bundle SYSTEM "{DTD_PATH}">
<service_bundle type="manifest" name="laboratory:{name.replace("/", "-")}">
  <service name="{name}" type="service" version="1">
    <create_default_instance enabled="{str(enabled).lower()}"/>
    <single_instance/>
{groups}    <exec_method type="method" name="start" exec={_quoted(start)} timeout_seconds="0"/>
    <exec_method type="method" name="stop" exec=":true" timeout_seconds="0"/>
    <property_group name="startd" type="framework">
      <propval name="duration" type="astring" value="transient"/>
    </property_group>
    <stability value="Unstable"/>
{template}  </service>
</service_bundle>
"""


def _quoted(value: str) -> str:
    """As an attribute's value. That of xml.sax would import half of the library, in each process of a laboratory."""
    return f'"{html.escape(value)}"'


def boot(smf: Smf) -> None:
    """Start svc.startd: the early import, then every instance is taken over. Nothing is started yet."""
    smf.init_environment = _init_environment(smf)
    smf.applied_early = set()
    first = not smf.repository.services
    if smf.release != "10":
        smf.early = True
        try:
            _early_import(smf)
        finally:
            smf.early = False
    elif first:
        _seed(smf)
    for instance in smf.repository.instances():
        early = instance.fmri == EARLY  # svc.startd's own: it is over
        instance.runtime.requests = [] if early else ["adopt"]
        smf.restarter.put(instance, "online" if early else "uninitialized", "none")


def _seed(smf: Smf) -> None:
    """Solaris 10 comes with a repository that has the operating system's own services."""
    call = Call("svccfg", [], {}, 0, b"")
    importer = Importer(smf, call.warn, lambda _: None)
    for name, *_ in SERVICES:
        importer.import_file(f"{VAR_TREE}/{name}.xml", strict=False)
        importer.record_hash(f"{VAR_TREE}/{name}.xml")


def _init_environment(smf: Smf) -> dict[str, str]:
    """What /etc/default/init gives every method; read when svc.startd starts (section 6)."""
    try:
        text = smf.host("/etc/default/init").read_text("utf-8")
    except OSError:
        return {}
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return {name: value.strip('"') for name, value in pairs if name != "CMASK"}


def _early_import(smf: Smf) -> None:
    """svc.startd runs the import program before any service; what it says is in the volatile log only."""
    environment = {"PATH": "/usr/sbin:/usr/bin", **smf.init_environment, "SMF_FMRI": EARLY, "SMF_METHOD": "start"}
    with smf.lab.early():
        result = smf.lab.execute([PROGRAM], environment, 0, b"")
    text = (result.out + result.err).decode("utf-8", "surrogateescape")
    smf.append("/etc/svc/volatile/system-early-manifest-import:default.log", text)


def manifest_import(smf: Smf, call: Call) -> int:
    """The program: manifests whose content changed, profiles that were never applied, the clean-up."""
    early = call.environment.get("SMF_FMRI") == EARLY
    has_lib = smf.release != "10"

    def svccfg(*arguments: str) -> int:
        environment = {**call.environment, "SVCCFG_CHECKHASH": "1"}
        result = smf.lab.execute(["/usr/sbin/svccfg", *arguments], environment, call.uid, b"")
        call.put((result.out + result.err).decode("utf-8", "surrogateescape"))
        return int(result.status)

    for tree in ([LIB_TREE] if has_lib else []) + ([] if early else [VAR_TREE]):
        _import_tree(smf, tree, svccfg)
    if has_lib:
        sites = sorted(f"{_SITES}/{host.name}" for host in smf.host(_SITES).glob("*.xml"))
        present = [path for path in (_SITE, *sites) if smf.host(path).exists()]
        for path in (_GENERIC, *present):
            _apply(smf, path, early, call, svccfg)
    if not early:
        _upgrade_script(smf, call)
        if smf.host(LATE_PROFILE).exists():
            _apply(smf, LATE_PROFILE, early, call, svccfg)
        smf.applied_early = set()
    if has_lib:
        trees = (LIB_TREE,) if early else (LIB_TREE, VAR_TREE)
        for line in Importer(smf, call.warn, lambda _: None).clean_up(trees):
            call.put(f"{line}\n")
    return 0


def _import_tree(smf: Smf, tree: str, svccfg: object) -> None:
    """The directories of a tree that hold something that changed, `site` last."""
    top = smf.host(tree)
    names = sorted((host.name for host in top.iterdir() if host.is_dir()), key=lambda name: (name == "site", name))
    importer = Importer(smf, lambda _: None, lambda _: None)
    for name in names:
        paths = [f"{tree}/{host.relative_to(top)}" for host in (top / name).rglob("*.xml")]
        if any(not importer.is_unchanged(path) for path in paths):
            svccfg("import", f"{tree}/{name}")  # type: ignore[operator]


def _apply(smf: Smf, path: str, early: bool, call: Call, svccfg: object) -> None:
    """A profile that was not applied yet, or that the early import of this boot applied (section 14)."""
    importer = Importer(smf, lambda _: None, lambda _: None)
    if importer.has_hash(path) and path not in smf.applied_early:
        return
    if svccfg("apply", path) != 0:  # type: ignore[operator]
        call.put(f"WARNING: svccfg apply {path} failed\n")
    elif early:
        smf.applied_early.add(path)


def _upgrade_script(smf: Smf, call: Call) -> None:
    """/var/svc/profile/upgrade is run once and renamed."""
    script = smf.host("/var/svc/profile/upgrade")
    if script.exists():
        smf.lab.execute(["/sbin/sh", "/var/svc/profile/upgrade"], dict(call.environment), call.uid, b"")
        script.rename(script.with_name("upgrade.app"))

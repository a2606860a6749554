"""Import: manifests and profiles into the repository, by the rules of section 13; hashes, and the clean-up."""

from __future__ import annotations

import copy
import hashlib
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.host.laboratory import smf_bundle, smf_templates
from tests.host.laboratory.smf_bundle import BadBundle, ServiceBundle
from tests.host.laboratory.smf_repository import Group, Instance, Property, Service, Snapshot

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

LIB_TREE, VAR_TREE = "/lib/svc/manifest", "/var/svc/manifest"
_HASHES = "smf/manifest"
_KEPT = {"enabled", "restarter"}
"""Of the instance's group `general`: what an import never touches."""


class SvccfgError(Exception):
    """A message of svccfg, without its prefix; `lines` are printed before, as they are."""

    def __init__(self, message: str, lines: str = "") -> None:
        super().__init__(message)
        self.lines = lines


def group_name(path: str) -> str:
    """The name under which a path is recorded."""
    return re.sub(r"[^A-Za-z0-9]", "_", path.lstrip("/"))


class Importer:
    """One run of svccfg's import or apply."""

    def __init__(self, smf: Smf, warn: Callable[[str], None], remark: Callable[[str], None]) -> None:
        self.smf = smf
        self.warn = warn
        """Prints a message behind svccfg's prefix."""
        self.remark = remark
        """The same, with -v only."""

    def manifest(self, path: str) -> list[ServiceBundle]:
        """The services of the manifest `path`. Raises SvccfgError."""
        return self._bundle(path, "manifest")

    def _bundle(self, path: str, kind: str) -> list[ServiceBundle]:
        host = self.smf.host(path)
        # A directory is read as a file, of which an old file system gives some bytes ("5 ETX" in the recording).
        data = b"5\x03" if host.is_dir() else host.read_bytes()
        try:
            dtd = self.smf.host(smf_bundle.DTD_PATH).read_text("utf-8")
        except FileNotFoundError:
            dtd = ""
        try:
            return smf_bundle.read(data, path, dtd, kind)
        except BadBundle as error:
            raise SvccfgError(str(error), error.lines) from None

    def violations(self, bundle: ServiceBundle) -> list[str]:
        """The template violations of the instances that a bundle would make."""
        service = Service(bundle.name, bundle.groups, patterns=list(bundle.patterns))
        return [
            line
            for one in bundle.instances
            for line in smf_templates.violations(Instance(service, one.name, one.groups))
        ]

    def import_file(self, path: str, strict: bool) -> None:
        """Import one manifest. Raises SvccfgError; a violation is one only if `strict`."""
        bundles = self.manifest(path)
        for bundle in bundles:
            if not self.smf.validates:
                for one in bundle.instances:
                    if self.smf.repository.instance(f"svc:/{bundle.name}:{one.name}") is None:
                        name = f"{bundle.name}:{one.name}"
                        self.warn(f"Not validating instance {name} because EMI's state is offline")
                continue
            found = self.violations(bundle)
            if found and strict:
                raise SvccfgError(f"Import of {path} failed.", "".join(f"{line}\n" for line in found))
            for line in found:
                self.warn(f"\0Warning: {line}")
        for bundle in bundles:
            self._import(bundle, path)
        self.remark("Successful import.")

    def _import(self, bundle: ServiceBundle, path: str) -> None:
        repository = self.smf.repository
        service = repository.services.get(bundle.name)
        known = service is not None
        if service is None:
            service = repository.service(bundle.name)
            service.group("manifestfiles")
        service.group("manifestfiles").write({group_name(path): Property("astring", [path])})
        service.patterns = list(bundle.patterns)
        before = next(
            (i.snapshots["last-import"] for i in service.instances.values() if "last-import" in i.snapshots), None
        )
        old = before.service if before is not None else {}
        for one in bundle.instances:
            instance = service.instances.get(one.name)
            if instance is not None and "last-import" in instance.snapshots:
                self.remark(f'Taking "previous" snapshot for {instance.fmri}.')
                instance.take("previous")
        if known:
            first = next(iter(service.instances), "default")
            self.remark(f'Upgrading properties of {service.fmri} according to instance "{first}".')
        self._upgrade(service.groups, bundle.groups, old, service.fmri, bundle)
        for one in bundle.instances:
            instance = service.instances.get(one.name)
            new = instance is None
            if instance is None:
                instance = service.instances[one.name] = Instance(service, one.name)
                instance.group("general").write({"enabled": Property("boolean", [str(one.enabled).lower()])})
            taken = instance.snapshots.get("last-import")
            self._upgrade(instance.groups, one.groups, taken.instance if taken else {}, instance.fmri, bundle)
            self.remark(f'Taking "last-import" snapshot for {instance.fmri}.')
            instance.snapshots["last-import"] = Snapshot(copy.deepcopy(one.groups), copy.deepcopy(bundle.groups))
            instance.take("running")
            if new:
                instance.take("initial")
                self.smf.restarter.request(instance, "adopt")
            self.smf.restarter.request(instance, "refresh")
            self.remark(f"Refreshed {instance.fmri}.")
        for fmri, group in bundle.dependents:
            entity = repository.find(fmri)
            if entity is not None:
                entity.groups[group.name] = copy.deepcopy(group)
                for instance in entity.instances.values() if isinstance(entity, Service) else [entity]:
                    self.smf.restarter.request(instance, "refresh")

    def _upgrade(
        self,
        groups: dict[str, Group],
        new: dict[str, Group],
        old: dict[str, Group],
        fmri: str,
        bundle: ServiceBundle,
    ) -> None:
        """Bring `groups`, the repository's, from the last import `old` to the manifest's `new`."""

        def conflict(words: str) -> None:
            self.warn(f"Conflict upgrading {fmri} ({words}).")

        for name in bundle.deleted:
            groups.pop(name, None)
        for name, wanted in new.items():
            was = old[name].properties if name in old else {}
            group = groups.setdefault(name, Group(name, wanted.type))
            changes: dict[str, Property | None] = {}
            for key, value in wanted.properties.items():
                present = group.properties.get(key)
                if value == present or (name == "general" and key in _KEPT and present is not None):
                    continue
                if (name, key) in bundle.overrides or present is None or present == was.get(key):
                    if value != was.get(key) or (name, key) in bundle.overrides:
                        changes[key] = copy.deepcopy(value)
                elif key not in was:
                    conflict(f'new property "{name}/{key}" has different values')
                elif value != was[key]:
                    conflict(f'property "{name}/{key}" has different values')
            for key in was.keys() - wanted.properties.keys():
                if group.properties.get(key) == was[key]:
                    changes[key] = None
                elif key in group.properties:
                    conflict(f'property "{name}/{key}" has different values')
            if changes:
                group.write(changes)
        for name in [gone for gone in old if gone not in new and gone in groups]:
            if groups[name].properties == old[name].properties:
                del groups[name]
            else:
                conflict(f'property group "{name}" has different values')

    def apply(self, path: str) -> None:
        """Apply a profile: enabled settings and properties of what exists. Raises SvccfgError."""
        for bundle in self._bundle(path, "profile"):
            service = self.smf.repository.services.get(bundle.name)
            if service is None:
                continue  # skipped silently (section 14)
            for name, group in bundle.groups.items():
                service.group(name, group.type).write(dict(group.properties))
            for one in bundle.instances:
                instance = service.instances.get(one.name)
                if instance is None:
                    continue
                for name, group in one.groups.items():
                    instance.group(name, group.type).write(dict(group.properties))
                self.smf.restarter.set_enabled(instance, one.enabled)
                instance.take("running")
                self.smf.restarter.request(instance, "refresh")

    # Hashes: first owner, group, size and time, then the content (section 14).

    def _fingerprint(self, path: str) -> tuple[str, str]:
        status = os.stat(self.smf.host(path))
        facts = f"{status.st_uid}:{status.st_gid}:{status.st_size}:{int(status.st_mtime)}"
        return hashlib.md5(facts.encode()).hexdigest(), hashlib.md5(self.smf.host(path).read_bytes()).hexdigest()

    def has_hash(self, path: str) -> bool:
        return group_name(path) in self.smf.repository.service(_HASHES).groups

    def is_unchanged(self, path: str) -> bool:
        """Whether the recorded hash says so; equal metadata is believed without a look at the content."""
        group = self.smf.repository.service(_HASHES).groups.get(group_name(path))
        known = "" if group is None else group.value("md5sum") or ""
        facts, content = self._fingerprint(path)
        return known[:32] == facts or known[32:] == content

    def record_hash(self, path: str) -> None:
        group = self.smf.repository.service(_HASHES).group(group_name(path))
        group.write(
            {
                "manifestfile": Property("astring", [path]),
                "md5sum": Property("opaque", ["".join(self._fingerprint(path))]),
            }
        )

    def delete_hash(self, path: str) -> None:
        """Raises SvccfgError if there is none."""
        if self.smf.repository.service(_HASHES).groups.pop(group_name(path), None) is None:
            raise SvccfgError(f'No such property group "{group_name(path)}".')

    def clean_up(self, trees: tuple[str, ...]) -> list[str]:
        """Delete the services whose manifests have all vanished; returns a line for each."""
        lines = []
        for service in list(self.smf.repository.services.values()):
            group = service.groups.get("manifestfiles")
            places = [value for found in group.properties.values() for value in found.values] if group else []
            here = all(any(place.startswith(f"{tree}/") for tree in trees) for place in places)
            if group is None or not places or not here:
                continue
            gone = [place for place in places if not self.smf.host(place).exists()]
            if not gone:
                continue
            for place in gone:
                self.smf.repository.service(_HASHES).groups.pop(group_name(place), None)
            group.write({group_name(place): None for place in gone})
            if len(gone) == len(places):
                for instance in service.instances.values():
                    self.smf.restarter.set_enabled(instance, False)
                self.smf.restarter.settle()
                del self.smf.repository.services[service.name]
                lines.append(f"Delete service {service.fmri} as there are no supporting manifests")
        return lines

"""svccfg: imports and edits. All operands are joined by blanks and lexed again (section 12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.host.laboratory import smf_templates
from tests.host.laboratory.smf_call import Call, UsageError
from tests.host.laboratory.smf_import import LIB_TREE, VAR_TREE, Importer, SvccfgError
from tests.host.laboratory.smf_repository import Entity, Instance, Service
from tests.host.laboratory.smf_svccfg_edit import Edits, Syntax, lex

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

_USAGE = """\
Usage:\tsvccfg [-v] [-s FMRI] [-f file]
\tsvccfg [-v] [-s FMRI] <command> [args]
"""
_LINE_LIMIT = 2047


def main(smf: Smf, call: Call) -> int:
    """The command; returns its exit status."""
    try:
        options, words = call.options(call.arguments, "?f:hs:v")
    except UsageError as error:
        call.put(f"{error}\n" if str(error) else "")
        call.put(_USAGE)
        return 2
    given = dict(options)
    if not smf.reachable:
        call.warn("Could not connect to repository server: repository server unavailable.")
        return 1
    run = _Run(smf, call, "-v" in given)
    if "-s" in given and not run.line(f"select {given['-s']}"):
        return 1
    if words:
        return 0 if run.line(" ".join(words)[:_LINE_LIMIT]) else 1
    if "-f" in given:
        name = given["-f"]
        try:
            text = smf.host(call.path(name)).read_text("utf-8", "surrogateescape")
        except OSError as error:
            call.warn(f"Unable to open file {name}. {error.strerror}.")
            return 1
    else:
        name, text = "<stdin>", call.stdin.decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.splitlines(), 1):
        run.prefix = f"svccfg ({name}, line {number}): "
        if not run.line(line):
            return 1
        if run.ended:
            break
    return 0


class _Run(Edits):
    """One run: the selection, and how its messages begin."""

    def __init__(self, smf: Smf, call: Call, verbose: bool) -> None:
        super().__init__(call)
        self.smf = smf
        self.ended = False
        self.importer = Importer(smf, self.warn, self.warn if verbose else lambda _: None)

    def warn(self, message: str) -> None:
        """Behind the prefix, unless the message begins with a zero: that is printed as it is."""
        self.call.put(f"{message[1:]}\n" if message.startswith("\0") else f"{self.prefix}{message}\n")

    def line(self, text: str) -> bool:
        """Run a line; whether it succeeded."""
        try:
            tokens = lex(text)
            if tokens:
                self._command(tokens)
        except SvccfgError as error:
            self.call.put(error.lines)
            self.warn(str(error))
            return False
        return True

    def _command(self, tokens: list[tuple[str, str]]) -> None:
        kind, name = tokens[0]
        commands: dict[str, Callable[[list[tuple[str, str]]], None]] = {
            "import": self._import,
            "validate": self._validate,
            "inventory": self._inventory,
            "apply": self._apply,
            "delhash": self._delhash,
            "delete": self._delete,
            "select": self._select,
            "unselect": self._unselect,
            "refresh": self._refresh,
            "list": self._list,
            "listpg": self._listpg,
            "listprop": self._listprop,
            "listsnap": self._listsnap,
            "addpg": self._addpg,
            "delpg": self._delpg,
            "setprop": self._setprop,
            "addpropvalue": self._addpropvalue,
            "delprop": self._delprop,
            "end": self._end,
            "exit": self._end,
            "quit": self._end,
        }
        if kind != "word":
            raise Syntax
        if name in ("export", "archive", "extract", "describe", "revert", "setenv", "unsetenv", "delpropvalue"):
            raise NotImplementedError(f"the laboratory's svccfg has no {name}")
        if name not in commands:
            raise SvccfgError(f'Unknown command "{name}".')
        commands[name](tokens[1:])

    # Files

    def _import(self, tokens: list[tuple[str, str]]) -> None:
        if any(kind == "sign" for kind, _ in tokens):
            raise Syntax
        words = [text for _, text in tokens]
        strict = words[:1] == ["-V"]
        paths = words[1:] if strict else words
        if not paths:
            raise Syntax
        for path in paths:
            absolute = self._existing(path)
            if self.smf.host(absolute).is_dir():
                self._import_directory(absolute)
                continue
            self._may("Could not create temporary service (permission denied).", f"Import of {path} failed.")
            if self._is_restart_of_the_import(absolute):
                continue
            if self._skipped(absolute):
                self.importer.remark("No changes were necessary")
                continue
            self.importer.import_file(absolute, strict)
            self._record(absolute)

    def _is_restart_of_the_import(self, path: str) -> bool:
        """Solaris 11: for a file of the standard trees the command merely restarts manifest-import (section 13)."""
        if (
            not self.smf.release.startswith("11")
            or self._hashing
            or not path.startswith((f"{LIB_TREE}/", f"{VAR_TREE}/"))
        ):
            return False
        service = self.smf.repository.instance("svc:/system/manifest-import:default")
        if service is not None:
            self.smf.restarter.request(service, "restart")
        return True

    def _import_directory(self, directory: str) -> None:
        """Every file is tried; the exit status is 0 even if some fail (fact 6 of section 1)."""
        self._may("Could not create temporary service (permission denied).", f"Import of {directory} failed.")
        tried = failed = 0
        top = self.smf.host(directory)
        for host in sorted(top.rglob("*.xml")):
            path = f"{directory}/{host.relative_to(top)}"
            if path.index(".xml") != len(path) - 4 or not host.is_file() or self._skipped(path):
                continue
            tried += 1
            try:
                self.importer.import_file(path, strict=False)
            except SvccfgError as error:
                self.call.put(error.lines)
                self.warn(str(error))
                failed += 1
            else:
                self._record(path)
        if self._hashing and tried == failed:
            return  # seen in the log of manifest-import: nothing but the fault itself
        self.warn(f"Loaded {tried} smf(5) service descriptions")
        if failed:
            self.warn(f"{failed} smf(5) service descriptions failed to load")

    @property
    def _hashing(self) -> bool:
        return self.call.environment.get("SVCCFG_CHECKHASH", "") != ""

    def _skipped(self, path: str) -> bool:
        return self._hashing and self.importer.is_unchanged(path)

    def _record(self, path: str) -> None:
        if self._hashing:
            self.importer.record_hash(path)

    def _existing(self, path: str) -> str:
        absolute = self.call.path(path)
        if not self.smf.host(absolute).exists():
            raise SvccfgError(f"Unable to stat file {path}.  No such file or directory")
        return absolute

    def _validate(self, tokens: list[tuple[str, str]]) -> None:
        words = self._words(tokens, 0, 1)
        if not words:
            if self.selected is None:
                raise SvccfgError("No instance selected")
            self._violations(self.selected)
            return
        path = self.call.path(words[0])
        if self.smf.host(path).exists():
            lines = [line for bundle in self.importer.manifest(path) for line in self.importer.violations(bundle)]
            if lines:
                raise SvccfgError("Validation failed.", "".join(f"{line}\n" for line in lines))
            return
        found = self.smf.repository.match(words[0])
        if not found.instances():
            name = words[0][4:] if words[0].startswith("svc:") else words[0]
            raise SvccfgError(f"Pattern '{name}' doesn't match any instances")
        for instance in found.instances():
            self._violations(instance)

    def _violations(self, entity: Entity) -> None:
        for instance in entity.instances.values() if isinstance(entity, Service) else [entity]:
            for line in smf_templates.violations(instance):
                self.call.put(f"{line}\n")

    def _inventory(self, tokens: list[tuple[str, str]]) -> None:
        (path,) = self._words(tokens, 1, 1)
        bundles = self.importer.manifest(self._existing(path))
        for bundle in bundles:
            for one in bundle.instances:
                self.call.say(f"svc:/{bundle.name}:{one.name}")
        for bundle in bundles:
            self.call.say(f"svc:/{bundle.name}")

    def _apply(self, tokens: list[tuple[str, str]]) -> None:
        (path,) = self._words(tokens, 1, 1)
        absolute = self._existing(path)
        self._may("Permission denied.")
        try:
            self.importer.apply(absolute)
        except SvccfgError as error:
            lines = f"{error.lines}{self.prefix}{error}\n"
            raise SvccfgError(f"\0WARNING: Failed to apply {path}", lines) from None
        self._record(absolute)

    def _delhash(self, tokens: list[tuple[str, str]]) -> None:
        words = self._words(tokens, 1, 2)
        gone = words[0] == "-d"
        if len(words) != (2 if gone else 1):
            raise Syntax
        path = self.call.path(words[-1]) if gone else self._existing(words[-1])
        self._may("Permission denied.")
        self.importer.delete_hash(path)

    # Entities

    def _found(self, name: str) -> Entity:
        match = self.smf.repository.match(name)
        entities = match.services_first()
        if not entities:
            raise SvccfgError(f"Pattern '{name}' doesn't match any instances or services")
        if len(entities) > 1:
            what = "instances" if isinstance(entities[0], Instance) else "services"
            listed = "".join(f"\n\t{one.fmri}" for one in entities)
            raise SvccfgError(f"Pattern '{name}' matches multiple {what}:{listed}")
        return entities[0]

    def _select(self, tokens: list[tuple[str, str]]) -> None:
        (name,) = self._words(tokens, 1, 1)
        self.selected = self._found(name)

    def _unselect(self, tokens: list[tuple[str, str]]) -> None:
        self._words(tokens, 0, 0)
        self.selected = None

    def _end(self, tokens: list[tuple[str, str]]) -> None:
        self.ended = True

    def _delete(self, tokens: list[tuple[str, str]]) -> None:
        words = self._words(tokens, 1, 2)
        forced = words[0] == "-f"
        if len(words) != (2 if forced else 1):
            raise Syntax
        entity = self._found(words[-1])
        self._may("Permission denied.")
        instances = list(entity.instances.values()) if isinstance(entity, Service) else [entity]
        for instance in instances:
            if instance.state in ("online", "degraded") and not forced:
                raise SvccfgError(f"Instance {instance.fmri} may be running.  Use delete -f if it is not.")
        if isinstance(entity, Service):
            del self.smf.repository.services[entity.name]
            self._forget_dependents(entity)
        else:
            del entity.service.instances[entity.name]

    def _forget_dependents(self, service: Service) -> None:
        """The dependency groups that its dependents had got, which are marked external, go too (section 4)."""
        entities: list[Entity] = [*self.smf.repository.services.values(), *self.smf.repository.instances()]
        for entity in entities:
            for group in list(entity.groups.values()):
                if group.value("external") == "true" and group.value("entities") == service.fmri:
                    del entity.groups[group.name]

    def _refresh(self, tokens: list[tuple[str, str]]) -> None:
        self._words(tokens, 0, 0)
        instance = self._entity()
        if isinstance(instance, Service):
            raise SvccfgError("Instance not selected.")
        if self.call.uid != 0:
            self.warn(f"Could not refresh {instance.fmri} (permission denied).")
            return  # and the exit status is 0 (fact 6 of section 1)
        instance.take("running")
        self.smf.restarter.request(instance, "refresh")
        self.importer.remark(f"Refreshed {instance.fmri}.")

    def _list(self, tokens: list[tuple[str, str]]) -> None:
        for service in self.smf.repository.services.values():
            self.call.say(service.name)

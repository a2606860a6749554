"""svccfg: imports and edits. All operands are joined by blanks and lexed again (section 12)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.host.laboratory import smf_templates
from tests.host.laboratory.smf_bundle import check
from tests.host.laboratory.smf_call import Call, UsageError
from tests.host.laboratory.smf_import import LIB_TREE, VAR_TREE, Importer, SvccfgError
from tests.host.laboratory.smf_repository import Entity, Group, Instance, Property, Service

if TYPE_CHECKING:
    from tests.host.laboratory.smf import Smf

_USAGE = """\
Usage:\tsvccfg [-v] [-s FMRI] [-f file]
\tsvccfg [-v] [-s FMRI] <command> [args]
"""
_LINE_LIMIT = 2047
_TYPES = [
    "boolean",
    "count",
    "integer",
    "time",
    "astring",
    "ustring",
    "opaque",
    "fmri",
    "uri",
    "host",
    "hostname",
    "net_address",
    "net_address_v4",
    "net_address_v6",
]
_TOKEN = re.compile(
    r'[ \t\n]*(?:(?P<comment>#[^\n]*)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<sign>[>=()])|(?P<word>[^ \t\n">=()]+))'
)


class _Syntax(SvccfgError):
    def __init__(self) -> None:
        super().__init__("Syntax error.")


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


def lex(line: str) -> list[tuple[str, str]]:
    """Pairs of kind (word, string, sign) and text, up to a comment. Raises SvccfgError."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while line[at:].strip(" \t\n"):
        found = _TOKEN.match(line, at)
        if found is None:
            raise _Syntax
        at = found.end()
        kind = str(found.lastgroup)
        if kind == "comment":
            break
        tokens.append((kind, found.group(kind)))
    return tokens


class _Run:
    """One run: the selection, and how its messages begin."""

    def __init__(self, smf: Smf, call: Call, verbose: bool) -> None:
        self.smf, self.call = smf, call
        self.prefix = "svccfg: "
        self.selected: Entity | None = None
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
            raise _Syntax
        if name in ("export", "archive", "extract", "describe", "revert", "setenv", "unsetenv", "delpropvalue"):
            raise NotImplementedError(f"the laboratory's svccfg has no {name}")
        if name not in commands:
            raise SvccfgError(f'Unknown command "{name}".')
        commands[name](tokens[1:])

    # Files

    def _import(self, tokens: list[tuple[str, str]]) -> None:
        if any(kind == "sign" for kind, _ in tokens):
            raise _Syntax
        words = [text for _, text in tokens]
        strict = words[:1] == ["-V"]
        paths = words[1:] if strict else words
        if not paths:
            raise _Syntax
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

    def _may(self, *messages: str) -> None:
        """Raise for a caller without rights."""
        if self.call.uid != 0:
            raise SvccfgError(messages[-1], "".join(f"{self.prefix}{message}\n" for message in messages[:-1]))

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
        if self._hashing and self.importer.has_hash(absolute) and absolute not in self.smf.applied_early:
            return
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
            raise _Syntax
        path = self.call.path(words[-1]) if gone else self._existing(words[-1])
        self._may("Permission denied.")
        self.importer.delete_hash(path)

    # Entities

    def _words(self, tokens: list[tuple[str, str]], least: int, most: int) -> list[str]:
        """The operands where only words are allowed."""
        if any(kind != "word" for kind, _ in tokens) or not least <= len(tokens) <= most:
            raise _Syntax
        return [text for _, text in tokens]

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

    def _entity(self) -> Entity:
        if self.selected is None:
            raise SvccfgError("Entity not selected.")
        return self.selected

    def _delete(self, tokens: list[tuple[str, str]]) -> None:
        words = self._words(tokens, 1, 2)
        forced = words[0] == "-f"
        if len(words) != (2 if forced else 1):
            raise _Syntax
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
        for entity in [*self.smf.repository.services.values(), *self.smf.repository.instances()]:
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

    # Properties

    def _listpg(self, tokens: list[tuple[str, str]]) -> None:
        groups = list(self._entity().groups.values())
        width = max((len(group.name) for group in groups), default=0)
        kinds = max((len(group.type) for group in groups), default=0)
        for group in groups:
            self.call.say(_group_line(group, width, kinds))

    def _listprop(self, tokens: list[tuple[str, str]]) -> None:
        import fnmatch

        words = self._words(tokens, 0, 1)
        pattern = words[0] if words else None
        rows: list[tuple[str, Group, Property | None]] = []
        for group in self._entity().groups.values():
            if pattern is None or fnmatch.fnmatchcase(group.name, pattern):
                rows.append((group.name, group, None))
            for name, found in group.properties.items():
                full = f"{group.name}/{name}"
                if pattern is None or fnmatch.fnmatchcase(full, pattern):
                    rows.append((full, group, found))
        width = max((len(name) for name, _, _ in rows), default=0)
        for name, group, found in rows:
            if found is None:
                self.call.say(_group_line(group, width, 0))
            else:
                values = "".join(f" {_listed(value, found)}" for value in found.values)
                self.call.say(f"{name:<{width}}  {found.type:<7} {values}")

    def _listsnap(self, tokens: list[tuple[str, str]]) -> None:
        instance = self._entity()
        if isinstance(instance, Service):
            raise SvccfgError("Instance not selected.")
        for name in instance.snapshots:
            self.call.say(name)

    def _addpg(self, tokens: list[tuple[str, str]]) -> None:
        words = self._words(tokens, 2, 3)
        entity = self._entity()
        self._may("Permission denied.")
        if words[0] in entity.groups:
            raise SvccfgError("Property group already exists.")
        entity.groups[words[0]] = Group(words[0], words[1])

    def _delpg(self, tokens: list[tuple[str, str]]) -> None:
        (name,) = self._words(tokens, 1, 1)
        entity = self._entity()
        self._may("Permission denied.")
        if entity.groups.pop(name, None) is None:
            raise SvccfgError(f'No such property group "{name}".')

    def _property(self, name: str) -> tuple[Group, str]:
        group_name, slash, property_name = name.partition("/")
        if not slash:
            raise SvccfgError("Property names must contain a `/'.")
        group = self._entity().groups.get(group_name)
        if group is None:
            raise SvccfgError(f'No such property group "{group_name}".')
        return group, property_name

    def _delprop(self, tokens: list[tuple[str, str]]) -> None:
        (name,) = self._words(tokens, 1, 1)
        group, key = self._property(name)
        self._may("Permission denied.")
        group.write({key: None})

    def _setprop(self, tokens: list[tuple[str, str]]) -> None:
        kinds = [kind for kind, _ in tokens]
        if len(tokens) < 3 or kinds[0] != "word" or tokens[1] != ("sign", "="):
            raise _Syntax
        self._write(tokens[0][1], tokens[2:], append=False)

    def _addpropvalue(self, tokens: list[tuple[str, str]]) -> None:
        if len(tokens) < 2 or tokens[0][0] != "word":
            raise _Syntax
        self._write(tokens[0][1], tokens[1:], append=True)

    def _write(self, name: str, tokens: list[tuple[str, str]], append: bool) -> None:
        group, key = self._property(name)
        old = group.properties.get(key)
        type = old.type if old is not None else ""
        if tokens[0][0] == "word" and tokens[0][1].endswith(":") and len(tokens) > 1:
            type = tokens[0][1][:-1]
            if type not in _TYPES:
                raise SvccfgError(f'Unknown type "{tokens[0][1]}".')
            tokens = tokens[1:]
        if not type:
            raise SvccfgError("Type required for new properties.")
        if tokens[0] == ("sign", "(") and tokens[-1] == ("sign", ")"):
            tokens = tokens[1:-1]
            if type in ("astring", "ustring") and any(kind != "string" for kind, _ in tokens):
                raise _Unquoted
        elif len(tokens) > 1:
            raise _Unquoted if type in ("astring", "ustring") else _Syntax
        if any(kind == "sign" for kind, _ in tokens):
            raise _Syntax
        values = [re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "string" else text for kind, text in tokens]
        for value in values:
            if check(type, value) is not None:
                raise SvccfgError(f'Invalid "{type}" value "{value}".')
        self._may("Permission denied.")
        before = old.values if append and old is not None else []
        group.write({key: Property(type, [*before, *values])})


class _UnquotedError(SvccfgError):
    def __init__(self) -> None:
        super().__init__("Multiple string values or string values with spaces must be quoted with '\"'.")


_Unquoted = _UnquotedError


def _group_line(group: Group, width: int, kinds: int) -> str:
    if group.persistent:
        return f"{group.name:<{width}}  {group.type}"
    return f"{group.name:<{width}}  {group.type:<{kinds}}\tNONPERSISTENT"


def _listed(value: str, found: Property) -> str:
    quoted = not value or re.search(r'[\s"()]', value) or (len(found.values) > 1 and found.type.endswith("string"))
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'"{escaped}"' if quoted else value

"""svccfg's edits of property groups and properties, its lexer, and its listings (section 12)."""

from __future__ import annotations

import fnmatch
import re

from tests.host.laboratory.smf_bundle import check
from tests.host.laboratory.smf_call import Call
from tests.host.laboratory.smf_import import SvccfgError
from tests.host.laboratory.smf_repository import Entity, Group, Property, Service

_TYPES = (
    *("boolean", "count", "integer", "time", "astring", "ustring", "opaque", "fmri", "uri", "host", "hostname"),
    *("net_address", "net_address_v4", "net_address_v6"),
)
_TOKEN = re.compile(
    r'[ \t\n]*(?:(?P<comment>#[^\n]*)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<sign>[>=()])|(?P<word>[^ \t\n">=()]+))'
)


class Syntax(SvccfgError):
    def __init__(self) -> None:
        super().__init__("Syntax error.")


class _UnquotedError(SvccfgError):
    def __init__(self) -> None:
        super().__init__("Multiple string values or string values with spaces must be quoted with '\"'.")


def lex(line: str) -> list[tuple[str, str]]:
    """Pairs of kind (word, string, sign) and text, up to a comment. Raises SvccfgError."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while line[at:].strip(" \t\n"):
        found = _TOKEN.match(line, at)
        if found is None:
            raise Syntax
        at = found.end()
        kind = str(found.lastgroup)
        if kind == "comment":
            break
        tokens.append((kind, found.group(kind)))
    return tokens


class Edits:
    """The commands on the selected entity's groups, and what all commands need."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.prefix = "svccfg: "
        """How its messages begin."""
        self.selected: Entity | None = None

    def _words(self, tokens: list[tuple[str, str]], least: int, most: int) -> list[str]:
        """The operands where only words are allowed."""
        if any(kind != "word" for kind, _ in tokens) or not least <= len(tokens) <= most:
            raise Syntax
        return [text for _, text in tokens]

    def _may(self, *messages: str) -> None:
        """Raise for a caller without rights."""
        if self.call.uid != 0:
            raise SvccfgError(messages[-1], "".join(f"{self.prefix}{message}\n" for message in messages[:-1]))

    def _entity(self) -> Entity:
        if self.selected is None:
            raise SvccfgError("Entity not selected.")
        return self.selected

    def _listpg(self, tokens: list[tuple[str, str]]) -> None:
        groups = list(self._entity().groups.values())
        width = max((len(group.name) for group in groups), default=0)
        kinds = max((len(group.type) for group in groups), default=0)
        for group in groups:
            self.call.say(_group_line(group, width, kinds))

    def _listprop(self, tokens: list[tuple[str, str]]) -> None:
        words = self._words(tokens, 0, 1)
        pattern = words[0] if words else None
        rows: list[tuple[str, Group, Property | None]] = []
        for group in self._entity().groups.values():
            if pattern is None or fnmatch.fnmatchcase(group.name, pattern):
                rows.append((group.name, group, None))
            for name, one in group.properties.items():
                full = f"{group.name}/{name}"
                if pattern is None or fnmatch.fnmatchcase(full, pattern):
                    rows.append((full, group, one))
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
            raise Syntax
        self._write(tokens[0][1], tokens[2:], append=False)

    def _addpropvalue(self, tokens: list[tuple[str, str]]) -> None:
        if len(tokens) < 2 or tokens[0][0] != "word":
            raise Syntax
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
                raise _UnquotedError
        elif len(tokens) > 1:
            raise _UnquotedError if type in ("astring", "ustring") else Syntax
        if any(kind == "sign" for kind, _ in tokens):
            raise Syntax
        values = [re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "string" else text for kind, text in tokens]
        for value in values:
            if check(type, value) is not None:
                raise SvccfgError(f'Invalid "{type}" value "{value}".')
        self._may("Permission denied.")
        before = old.values if append and old is not None else []
        group.write({key: Property(type, [*before, *values])})


def _group_line(group: Group, width: int, kinds: int) -> str:
    if group.persistent:
        return f"{group.name:<{width}}  {group.type}"
    return f"{group.name:<{width}}  {group.type:<{kinds}}\tNONPERSISTENT"


def _listed(value: str, found: Property) -> str:
    quoted = not value or re.search(r'[\s"()]', value) or (len(found.values) > 1 and found.type.endswith("string"))
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'"{escaped}"' if quoted else value

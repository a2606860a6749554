"""A small XML parser for service bundles, whose words about a broken document are those that libxml2 gives svccfg.

The document is parsed by expat; what libxml2 says about the few ways of being broken that were recorded is put
together here. Other faults get a line of the same form with expat's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat


@dataclass
class Node:
    """An element."""

    name: str
    attributes: dict[str, str]
    line: int
    children: list[Node] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> list[Node]:
        return [child for child in self.children if child.name == name]

    def first(self, name: str) -> Node | None:
        return next(iter(self.all(name)), None)

    def get(self, name: str, default: str = "") -> str:
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class Document:
    """A well-formed document."""

    root: Node
    doctype: str | None
    """Its system identifier; None without a DOCTYPE."""


class NotWellFormed(Exception):
    """Its text is the parser's lines."""


def parse(data: bytes, where: str) -> Document:
    """The document `data` of the file `where`; raises NotWellFormed."""
    stack: list[Node] = []
    roots: list[Node] = []
    doctype: list[str | None] = []
    parser = expat.ParserCreate()
    parser.UseForeignDTD(False)

    def start(name: str, attributes: dict[str, str]) -> None:
        node = Node(name, attributes, parser.CurrentLineNumber)
        (stack[-1].children if stack else roots).append(node)
        stack.append(node)

    def end(_: str) -> None:
        stack.pop()

    def characters(text: str) -> None:
        if stack:
            stack[-1].text += text

    def declared(_name: str, system: str | None, _public: str | None, _internal: int) -> None:
        doctype.append(system or "")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = declared
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise NotWellFormed(_words(data, where, error, stack)) from None
    return Document(roots[0], doctype[0] if doctype else None)


def _words(data: bytes, where: str, error: expat.ExpatError, stack: list[Node]) -> str:
    text = data.decode("utf-8", "replace")
    if not text:
        return _line(where, 1, "Document is empty", "", 0)
    lines = text.split("\n")
    if not stack and not text.lstrip().startswith("<"):
        return _line(where, 1, "Start tag expected, '<' not found", lines[0], 0)
    number = error.lineno
    shown = lines[number - 1] if number <= len(lines) else ""
    if error.code == expat.errors.codes[expat.errors.XML_ERROR_TAG_MISMATCH]:
        closing = re.compile(r"</([^\s>]*)\s*>?").search(shown, max(0, error.offset - 2))
        name, column = (closing.group(1), closing.end()) if closing else ("?", error.offset)
        opened = stack[-1]
        what = f"Opening and ending tag mismatch: {opened.name} line {opened.line} and {name}"
        return _line(where, number, what, shown, column)
    unfinished = re.search(r"<([\w:]+)[^<>]*?([\w:]+)\s*\Z", text)
    if unfinished and stack and error.code == expat.errors.codes[expat.errors.XML_ERROR_UNCLOSED_TOKEN]:
        number = text.rstrip("\n").count("\n") + 1
        shown = lines[number - 1]
        tag, attribute = unfinished.groups()
        whats = (
            f"Specification mandates value for attribute {attribute}",
            "attributes construct error",
            f"Couldn't find end of Start Tag {tag} line {number}",
            f"Premature end of data in tag {stack[-1].name} line {stack[-1].line}",
        )
        return "".join(_line(where, number, what, shown, len(shown)) for what in whats)
    return _line(where, number, expat.errors.messages[error.code], shown, error.offset)


def _line(where: str, number: int, what: str, shown: str, column: int) -> str:
    return f"{where}:{number}: parser error : {what}\n{shown}\n{' ' * column}^\n"

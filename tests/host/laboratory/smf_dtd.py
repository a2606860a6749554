"""Validation against a DTD, with libxml2's words: which children in which order, which attributes and values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from tests.host.laboratory.smf_xml import Node

_NAME = r"[\w:.-]+"


@dataclass
class Attribute:
    """The declaration of an attribute."""

    values: tuple[str, ...]
    """The enumerated set, empty for CDATA."""
    required: bool
    default: str | None


@dataclass
class Element:
    """The declaration of an element."""

    content: str
    """As declared, without blanks."""
    attributes: dict[str, Attribute] = field(default_factory=dict)

    @property
    def expected(self) -> str:
        """The content model as libxml2 prints it."""
        return self.content.replace(",", " , ").replace("|", " | ")

    def accepts(self, children: list[str]) -> bool:
        """Whether these names may follow each other."""
        if self.content == "ANY":
            return True
        if self.content == "EMPTY":
            return not children
        return re.fullmatch(_pattern(self.content), "".join(f"<{name}>" for name in children)) is not None


@lru_cache(maxsize=256)
def _pattern(content: str) -> str:
    return re.sub(_NAME, lambda name: f"(?:<{re.escape(name.group())}>)", content.replace("#PCDATA", "")).replace(
        ",", ""
    )


@lru_cache(maxsize=8)
def declarations(dtd: str) -> dict[str, Element]:
    """The element declarations of a DTD's text; parameter entities may switch sections only."""
    text = re.sub(r"<!--.*?-->", "", dtd, flags=re.DOTALL)
    entities = dict(re.findall(rf'<!ENTITY\s+%\s+({_NAME})\s+"([^"]*)"\s*>', text))

    def section(found: re.Match[str]) -> str:
        return found.group(2) if entities.get(found.group(1)) == "INCLUDE" else ""

    text = re.sub(rf"<!\[%({_NAME});\[(.*?)\]\]>", section, text, flags=re.DOTALL)
    elements: dict[str, Element] = {}
    for name, content in re.findall(rf"<!ELEMENT\s+({_NAME})\s+([^>]*?)\s*>", text):
        elements.setdefault(name, Element(re.sub(r"\s+", "", content)))
    for name, body in re.findall(rf"<!ATTLIST\s+({_NAME})\s*([^>]*?)\s*>", text):
        for attribute, kind, default in re.findall(
            rf'({_NAME})\s+(CDATA|\([^)]*\))\s*((?:#FIXED\s*)?"[^"]*"|#REQUIRED|#IMPLIED)', body
        ):
            values = tuple(part.strip() for part in kind.strip("()").split("|")) if kind != "CDATA" else ()
            fallback = default.partition('"')[2].rstrip('"') if '"' in default else None
            if name in elements:
                elements[name].attributes[attribute] = Attribute(values, default == "#REQUIRED", fallback)
    return elements


def violations(root: Node, dtd: str, where: str) -> list[str]:
    """One line for each fault; the defaults of attributes are put into the tree on the way."""
    return list(_violations(root, declarations(dtd), where))


def _violations(node: Node, elements: dict[str, Element], where: str) -> Iterator[str]:
    def fault(words: str) -> str:
        return f"{where}:{node.line}: element {node.name}: validity error : {words}\n"

    declared = elements.get(node.name)
    if declared is None:
        yield fault(f"No declaration for element {node.name}")
    else:
        children = [child.name for child in node.children]
        mixed = "#PCDATA" in declared.content or declared.content == "ANY"
        words = not mixed and node.text.strip() != ""
        if declared.content == "EMPTY" and (children or node.text):
            yield fault(f"Element {node.name} was declared EMPTY this one has content")
        elif words or not declared.accepts(children):
            got = "".join(f"{name} " for name in [*children, *(["CDATA"] if words else [])])
            yield fault(
                f"Element {node.name} content does not follow the DTD, expecting {declared.expected}, got ({got})"
            )
        for name, attribute in declared.attributes.items():
            if attribute.required and name not in node.attributes:
                yield fault(f"Element {node.name} does not carry attribute {name}")
    for name, value in list(node.attributes.items()):
        known = None if declared is None else declared.attributes.get(name)
        if known is None:
            yield fault(f"No declaration for attribute {name} of element {node.name}")
        elif known.values and value not in known.values:
            yield fault(f'Value "{value}" for attribute {name} of {node.name} is not among the enumerated set')
    if declared is not None:
        for name, attribute in declared.attributes.items():
            if attribute.default is not None:
                node.attributes.setdefault(name, attribute.default)
    for child in node.children:
        yield from _violations(child, elements, where)

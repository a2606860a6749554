"""The messages of the program, found in its source by ast: what docs/messages.md has to explain.

`python -m tests.messages` prints those that it does not explain yet, as rows to fill in.

A template is a message with `…` for everything that is put in. Only those modules are read that the commands on a live
host import, and only what an administrator gets to read: errors, answers of the service's method, what report.say says.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from memproxy_sol import errors

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "memproxy_sol"
PAGE = TOP / "docs" / "messages.md"
FINDINGS = TOP / "docs" / "findings.md"

COMMANDS = ("install", "plan", "verify", "status", "confirm", "rollback", "history", "rescue", "uninstall", "exclude")
ELSEWHERE = {
    "cross": "cross-builds for images, on another system",
    "libc_stub": "the same",
    "ld_config_json": "ldconfig encode",
}
"""Modules that are imported and that no command on a live host gets into, and why."""

HOLE = "…"


@dataclass(frozen=True)
class Message:
    """One place in the source."""

    template: str
    place: str
    """`module.py:line`."""


def error_names() -> set[str]:
    """The names of all classes that are errors of ours, wherever they are defined."""
    names = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.MemproxyError)
    }
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    while True:
        more = {
            node.name
            for tree in trees
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and any(_name(base) in names for base in node.bases)
        }
        if more <= names:
            return names
        names |= more


def modules() -> list[Path]:
    """The files of the package that the commands of a live host import, at whatever place."""
    found: set[Path] = set()
    waiting = [PACKAGE / "cli" / f"{command}.py" for command in COMMANDS]
    waiting += [PACKAGE / "cli" / "application.py", PACKAGE / "smf_method.py"]
    while waiting:
        path = waiting.pop()
        if path in found or not path.exists() or path.stem in ELSEWHERE:
            continue
        found.add(path)
        if path.parent.name == "cli" and path.stem == "application":
            continue  # it names every command
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memproxy_sol"):
                base = TOP / (node.module or "").replace(".", "/")
                waiting += [base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)]
    return sorted(found)


def collect() -> tuple[list[Message], list[Message]]:
    """Every message, and the places at which none can be found: a value from elsewhere is passed on."""
    messages, unknown = [], []
    names = error_names()
    for path in modules():
        module = _Module(ast.parse(path.read_text()), names)
        for scope, argument in module.arguments():
            place = f"{path.relative_to(PACKAGE)}:{argument.lineno}"
            templates = [text for text in module.templates(argument, scope) if text.strip(HOLE + " :;,.()'")]
            messages += [Message(template, place) for template in templates]
            if not templates:
                unknown.append(Message(ast.unparse(argument), place))
    return messages, unknown


Scope = Union[ast.FunctionDef, ast.Module]


class _Module:
    """One file: its calls with a message, and what an expression in it may come to."""

    def __init__(self, tree: ast.Module, errors: set[str]) -> None:
        self._tree = tree
        self._functions: dict[str, ast.FunctionDef] = {
            node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        }
        self._positions: dict[str, tuple[int, str]] = dict.fromkeys(errors, (0, "what"))
        self._positions["Answer"] = (1, "reason")
        while self._find_wrappers():
            pass

    def _find_wrappers(self) -> bool:
        """Take a function that makes its own parameter a message for one whose calls have a message."""
        for scope, argument in list(self.arguments()):
            if not isinstance(scope, ast.FunctionDef) or not isinstance(argument, ast.Name):
                continue
            parameters = [one.arg for one in scope.args.args if one.arg not in ("self", "cls")]
            if argument.id in parameters and scope.name not in self._positions and scope.name != "__init__":
                self._positions[scope.name] = (parameters.index(argument.id), argument.id)
                return True
        return False

    def arguments(self) -> Iterator[tuple[Scope, ast.expr]]:
        """The messages, with the innermost function (or the module) around each."""
        for scope, call in self._calls(self._tree, self._tree):
            name = _name(call.func)
            known = self._positions.get(name)
            if name == "say" and isinstance(call.func, ast.Attribute) and _name(call.func.value) == "report":
                known = (0, "text")
            if known is None:
                continue
            if len(call.args) > known[0]:
                yield scope, call.args[known[0]]
            else:
                yield from ((scope, word.value) for word in call.keywords if word.arg == known[1])

    def _calls(self, node: ast.AST, scope: Scope) -> Iterator[tuple[Scope, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                yield scope, child
            yield from self._calls(child, child if isinstance(child, ast.FunctionDef) else scope)

    def templates(self, node: ast.expr, scope: Scope, depth: int = 0) -> list[str]:
        """What the expression may come to, with holes for what is not written in this file."""
        found = list(dict.fromkeys(_plain(text) for text in self._resolved(node, scope, depth + 1)))
        return found or [HOLE]

    def _resolved(self, node: ast.expr, scope: Scope, depth: int) -> Iterator[str]:
        if depth > 8:
            yield HOLE
        elif isinstance(node, ast.IfExp):
            yield from self.templates(node.body, scope, depth)
            yield from self.templates(node.orelse, scope, depth)
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                yield from self.templates(value, scope, depth)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield from self._joined([self._part(part, scope, depth) for part in node.values])
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield from self._joined([self.templates(side, scope, depth) for side in (node.left, node.right)])
        elif isinstance(node, ast.Name):
            for value in self._assigned(node.id, scope):
                yield from self.templates(value, scope, depth)
        elif isinstance(node, ast.Call):
            yield from self._called(node, scope, depth)

    def _part(self, part: ast.expr, scope: Scope, depth: int) -> list[str]:
        """A piece of an f-string; a sentence that is put in is looked up, a mere word is not."""
        if isinstance(part, ast.Constant):
            return [str(part.value)]
        assert isinstance(part, ast.FormattedValue)
        found = self.templates(part.value, scope, depth)
        return found if all(text.count(" ") >= 2 for text in found) else [HOLE]

    @staticmethod
    def _joined(parts: list[list[str]]) -> Iterator[str]:
        for chosen in itertools.product(*parts):
            yield "".join(chosen)

    def _called(self, node: ast.Call, scope: Scope, depth: int) -> Iterator[str]:
        name = _name(node.func)
        if isinstance(node.func, ast.Attribute) and name == "join" and node.args:
            for value in self._gathered(node.args[0], scope):
                yield from self.templates(value, scope, depth)
        elif isinstance(node.func, ast.Attribute) and name == "get" and len(node.args) == 2:
            for value in (*self._gathered(node.func.value, scope), node.args[1]):
                yield from self.templates(value, scope, depth)
        elif name in self._functions:
            function = self._functions[name]
            for inner in ast.walk(function):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from self.templates(inner.value, function, depth)

    def _gathered(self, node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
        """The values of a dictionary, or the items of a list, that a variable holds."""
        for value in self._assigned(node.id, scope) if isinstance(node, ast.Name) else [node]:
            if isinstance(value, ast.Dict):
                yield from value.values
            elif isinstance(value, (ast.List, ast.Tuple)):
                yield from value.elts
        for inner in ast.walk(scope) if isinstance(node, ast.Name) else ():
            call = inner.func if isinstance(inner, ast.Call) else None
            if isinstance(call, ast.Attribute) and call.attr == "append" and _name(call.value) == _name(node):
                yield inner.args[0]  # type: ignore[attr-defined]

    def _assigned(self, name: str, scope: Scope) -> Iterator[ast.expr]:
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                yield node.value
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
                yield ast.BinOp(ast.Constant(HOLE), ast.Add(), node.value)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.id if isinstance(node, ast.Name) else ""


def _plain(text: str) -> str:
    return re.sub(rf"{HOLE}(\s*{HOLE})*", HOLE, " ".join(text.split()))


def documented() -> dict[str, tuple[str, str]]:
    """Cause and cure of every message (or identifier of a finding) that the page explains."""
    found: dict[str, tuple[str, str]] = {}
    for line in PAGE.read_text().splitlines():
        if not line.startswith("| `"):
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert len(cells) == 3, line
        for message in re.findall(r"`([^`]+)`", cells[0]):
            assert message not in found, f"twice: {message}"
            found[message] = (cells[1], cells[2])
    return found


def findings() -> set[str]:
    """The identifiers of docs/findings.md, which a test holds to the code."""
    rows = [line.split("|")[1] for line in FINDINGS.read_text().splitlines() if line.startswith("| `")]
    return {identifier for row in rows for identifier in re.findall(r"`([a-z0-9-]+)`", row)}


if __name__ == "__main__":
    known = documented()
    found, passed_on = collect()
    for message in dict.fromkeys(message.template for message in found):
        if message not in known:
            places = ", ".join(one.place for one in found if one.template == message)
            print(f"| `{message}` |  |  |  <!-- {places} -->")
    for identifier in sorted(findings() - set(known)):
        print(f"| `{identifier}` |  |  |")
    for one in passed_on:
        print(f"passed on: {one.place}: {one.template}")

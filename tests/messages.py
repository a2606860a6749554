"""The messages of the program, found in its source by ast: what docs/messages.md has to explain.

`python -m tests.messages` prints those that it does not explain yet, as rows to fill in.

A template is a message with `…` for everything that is put in: errors, answers of the service's method, what
report.say says. Findings go by their identifiers.
"""

from __future__ import annotations

import ast
import functools
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

ELSEWHERE = {
    "bypass": "other commands",
    "cli/build": "other commands",
    "cli/bypass": "other commands",
    "cli/explain": "other commands",
    "cli/ldconfig": "other commands",
    "cli/run": "other commands",
    "cross": "builds for images, on another system",
    "hosts/linux": "other commands",
    "ld_config_json": "ldconfig encode",
    "libc_stub": "builds for images, on another system",
    "process_linux": "Linux",
    "route_record": "it raises only for Linux' processes and for cores",
    "runner": "other commands",
}
"""Modules whose messages nobody meets who changes a live host, and why."""

SAID = {"change": "mend_unfinished", "changes": "notice", "journal": "_recover"}
"""Functions whose answer is said, by module."""

HOLE = "…"


@dataclass(frozen=True)
class Message:
    """One place in the source."""

    template: str
    place: str
    """`module.py:line`."""
    hint: str = ""
    """What the source has as its hint, for whoever writes the page."""


@functools.cache
def classes() -> tuple[ast.ClassDef, ...]:
    """All classes of the package; it is walked through once."""
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    return tuple(node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def error_names() -> set[str]:
    """The names of all classes that are errors of ours, wherever they are defined."""
    names = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.MemproxyError)
    }
    while True:
        more = {node.name for node in classes() if any(_name(base) in names for base in node.bases)}
        if more <= names:
            return names
        names |= more


def modules() -> list[Path]:
    """The files whose messages an administrator of a live host can meet."""
    names = {path: str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.rglob("*.py")}
    assert set(ELSEWHERE) <= set(names.values()), "a module that is excepted does not exist"
    return sorted(path for path, name in names.items() if name not in ELSEWHERE)


def collect() -> tuple[list[Message], list[Message]]:
    """Every message, and the places at which none can be found: a value from elsewhere is passed on."""
    messages, unknown = [], []
    names = error_names()
    for path in modules():
        module = _Module(ast.parse(path.read_text()), names)
        for scope, argument, call in module.arguments():
            place = f"{path.relative_to(PACKAGE)}:{argument.lineno}"
            templates = module.sentences(argument, scope)
            hints = [ast.unparse(word.value) for word in call.keywords if word.arg == "hint"]
            messages += [Message(template, place, "".join(hints)) for template in templates]
            if not templates and not module.is_passed_through(scope, argument):
                unknown.append(Message(ast.unparse(argument), place))
        said = module.functions.get(SAID.get(path.stem, ""))
        for node in ast.walk(said) if said else ():
            if isinstance(node, ast.Return) and node.value is not None:
                place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                messages += [Message(text, place) for text in module.sentences(node.value, said or module.tree)]
    return messages, unknown


Scope = Union[ast.FunctionDef, ast.Module]


class _Module:
    """One file: its calls with a message, and what an expression in it may come to."""

    def __init__(self, tree: ast.Module, errors: set[str]) -> None:
        self.tree = tree
        self.functions: dict[str, ast.FunctionDef] = {
            node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        }
        self._makers: list[ast.FunctionDef] = []
        self._positions: dict[str, tuple[int, str]] = dict.fromkeys(errors, (0, "what"))
        self._positions["Answer"] = (1, "reason")
        for name, initialiser in self._own_messages(errors):
            # Such a class makes its message itself, of what it is given; perhaps with a sentence somewhere.
            given = [one.arg for one in initialiser.args.args[1:]]
            self._positions.pop(name)
            if "what" in given:
                self._positions[name] = (given.index("what"), "what")
            self._makers.append(initialiser)
        while self._find_wrappers():
            pass

    @staticmethod
    def _own_messages(errors: set[str]) -> Iterator[tuple[str, ast.FunctionDef]]:
        for node in classes():
            for method in node.body if node.name in errors else ():
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    parameters = [one.arg for one in method.args.args]
                    if parameters[1:2] != ["what"]:
                        yield node.name, method

    def is_passed_through(self, scope: Scope, argument: ast.expr) -> bool:
        """Whether the message is a parameter of a function whose calls are looked at."""
        return isinstance(scope, ast.FunctionDef) and isinstance(argument, ast.Name) and scope.name in self._positions

    def _find_wrappers(self) -> bool:
        """Take a function that makes its own parameter a message for one whose calls have a message."""
        for scope, argument, _ in list(self.arguments()):
            if not isinstance(scope, ast.FunctionDef) or not isinstance(argument, ast.Name):
                continue
            parameters = [one.arg for one in scope.args.args if one.arg not in ("self", "cls")]
            if argument.id in parameters and scope.name not in self._positions and scope.name != "__init__":
                self._positions[scope.name] = (parameters.index(argument.id), argument.id)
                return True
        return False

    def arguments(self) -> Iterator[tuple[Scope, ast.expr, ast.Call]]:
        """The messages, with the innermost function (or the module) around each, and the call."""
        for scope, call in self._calls(self.tree, self.tree):
            name = _name(call.func)
            known = self._positions.get(name)
            if name == "__init__" and any(ast.dump(scope) == ast.dump(maker) for maker in self._makers):
                known = (0, "what")
            if name == "say" and isinstance(call.func, ast.Attribute) and _name(call.func.value) == "report":
                known = (0, "text")
            if known is None:
                continue
            if len(call.args) > known[0]:
                yield scope, call.args[known[0]], call
            else:
                yield from ((scope, word.value, call) for word in call.keywords if word.arg == known[1])

    def _calls(self, node: ast.AST, scope: Scope) -> Iterator[tuple[Scope, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                yield scope, child
            yield from self._calls(child, child if isinstance(child, ast.FunctionDef) else scope)

    def sentences(self, expression: ast.expr, scope: Scope) -> list[str]:
        """The templates that say something themselves."""
        return [text for text in self.templates(expression, scope) if text.strip(HOLE + " :;,.()'")]

    def templates(self, node: ast.expr, scope: Scope) -> list[str]:
        """What the expression may come to, with holes for what is not written in this file."""
        return list(dict.fromkeys(_plain(text) for text in self._texts(node, scope, 0)))

    def _texts(self, node: ast.expr, scope: Scope, depth: int) -> list[str]:
        return list(self._resolved(node, scope, depth + 1)) or [HOLE]

    def _resolved(self, node: ast.expr, scope: Scope, depth: int) -> Iterator[str]:
        if depth > 8:
            yield HOLE
        elif isinstance(node, ast.IfExp):
            yield from self._texts(node.body, scope, depth)
            yield from self._texts(node.orelse, scope, depth)
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                yield from self._texts(value, scope, depth)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield from self._joined([self._part(part, scope, depth) for part in node.values])
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield from self._joined([self._texts(side, scope, depth) for side in (node.left, node.right)])
        elif isinstance(node, ast.Name):
            for value in self._assigned(node, scope):
                yield from self._texts(value, scope, depth)
        elif isinstance(node, ast.Call):
            yield from self._called(node, scope, depth)

    def _part(self, part: ast.expr, scope: Scope, depth: int) -> list[str]:
        """A piece of an f-string; a sentence that is put in is looked up, a mere word is not."""
        if isinstance(part, ast.Constant):
            return [str(part.value)]
        assert isinstance(part, ast.FormattedValue)
        found = self._texts(part.value, scope, depth)
        return found if all(text.count(" ") >= 2 for text in found) else [HOLE]

    @staticmethod
    def _joined(parts: list[list[str]]) -> Iterator[str]:
        for chosen in itertools.product(*parts):
            yield "".join(chosen)

    def _called(self, node: ast.Call, scope: Scope, depth: int) -> Iterator[str]:
        name = _name(node.func)
        if isinstance(node.func, ast.Attribute) and name == "join" and node.args:
            for value in self._gathered(node.args[0], scope):
                yield from self._texts(value, scope, depth)
        elif isinstance(node.func, ast.Attribute) and name == "get" and len(node.args) == 2:
            for value in (*self._gathered(node.func.value, scope), node.args[1]):
                yield from self._texts(value, scope, depth)
        elif name in self.functions:
            function = self.functions[name]
            for inner in ast.walk(function):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from self._texts(inner.value, function, depth)

    def _gathered(self, node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
        """The values of a dictionary, or the items of a list, that a variable holds."""
        for value in self._assigned(node, scope) if isinstance(node, ast.Name) else [node]:
            if isinstance(value, ast.Dict):
                yield from value.values
            elif isinstance(value, (ast.List, ast.Tuple)):
                yield from value.elts
        for inner in ast.walk(scope) if isinstance(node, ast.Name) else ():
            call = inner.func if isinstance(inner, ast.Call) else None
            if isinstance(call, ast.Attribute) and call.attr == "append" and _name(call.value) == _name(node):
                yield inner.args[0]  # type: ignore[attr-defined]

    def _assigned(self, use: ast.Name, scope: Scope) -> Iterator[ast.expr]:
        """What a variable may have been given that comes to `use`: not what is used up, or replaced, before."""
        for statements in _blocks(scope):
            for place, statement in enumerate(statements):
                value = _value_for(use.id, statement)
                if value is None:
                    continue
                rest = statements[place + 1 :]
                holder = next((number for number, one in enumerate(rest) if use in ast.walk(one)), None)
                if holder is None:
                    reaches = not any(isinstance(n, ast.Name) and n.id == use.id for one in rest for n in ast.walk(one))
                else:
                    reaches = all(_value_for(use.id, one) is None for one in rest[:holder])
                if reaches:
                    yield value


def _blocks(scope: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(scope):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                yield block


def _value_for(name: str, statement: ast.stmt) -> ast.expr | None:
    """What the statement itself makes of the variable, None for nothing."""
    if isinstance(statement, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in statement.targets):
        return statement.value
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name) and statement.target.id == name:
        return ast.BinOp(ast.Constant(HOLE), ast.Add(), statement.value)
    return None


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
            same = [one for one in found if one.template == message]
            places = "; ".join(f"{one.place} {one.hint}" for one in same)
            print(f"| `{message}` |  |  |  <!-- {places} -->")
    for identifier in sorted(findings() - set(known)):
        print(f"| `{identifier}` |  |  |")
    for one in passed_on:
        print(f"passed on: {one.place}: {one.template}")

"""docs/messages.md has cause and cure of every message, and none that nobody says; and the collector misses nothing."""

from __future__ import annotations

import ast
import re

import pytest

from tests import messages
from tests.messages import HOLE, Message, _Module

FROM_ELSEWHERE = {
    "'; '.join(problems)",
    "error.strerror or str(error)",
    "error.what",
    "f'{first.where}: {first.text}{more}'",
    "f'{what}: {first}'",
    "failure.what",
    "mended",
    "notice",
    "place + error.what",
    "reason",
    "str(error)",
    "str(error).partition(':\\n')[0]",
}
"""Messages that are handed on: words of the system or of plumbum, or collected where they are made."""


def collected(source: str) -> list[str]:
    """The messages of a module of this text."""
    module = _Module(ast.parse(source), {"HostError", "ChangeError"})
    return [text for scope, argument, _ in module.arguments() for text in module.templates(argument, scope)]


@pytest.fixture(scope="module")
def found() -> tuple[list[Message], list[Message]]:
    return messages.collect()


def test_every_message_is_explained(found: tuple[list[Message], list[Message]]) -> None:
    known = messages.documented()
    missing = [f"{one.place}: {one.template}" for one in found[0] if one.template not in known]
    assert not missing, "python -m tests.messages prints the rows to fill in"
    assert messages.findings() <= set(known)


def test_nothing_is_explained_that_nobody_says(found: tuple[list[Message], list[Message]]) -> None:
    said = {one.template for one in found[0]} | messages.findings()
    assert set(messages.documented()) <= said


def test_every_entry_has_a_cause_and_a_cure() -> None:
    for message, (cause, cure) in messages.documented().items():
        assert len(cause) > 10, message
        assert len(cure) > 3, message
        assert cause != cure, message


def test_what_is_handed_on_is_known(found: tuple[list[Message], list[Message]]) -> None:
    assert {one.template for one in found[1]} <= FROM_ELSEWHERE


def test_enough_is_found(found: tuple[list[Message], list[Message]]) -> None:
    places = {one.place.partition(":")[0] for one in found[0]}
    assert {"journal.py", "smf.py", "crle.py", "root.py", "change.py", "smf_method.py", "cli/exclude.py"} <= places
    assert len({one.template for one in found[0]}) > 200


def test_links_lead_somewhere() -> None:
    text = messages.PAGE.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert (messages.PAGE.parent / target).exists(), target
    for row in re.findall(r"see `([^`]+)`", text):
        assert row in messages.documented(), row


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("raise HostError('plain words', where=x)", ["plain words"]),
        ("raise HostError(what='plain words')", ["plain words"]),
        ("raise HostError(f'is {kind}, not {len(x)} bytes')", ["is …, not … bytes"]),
        ("raise errors.HostError('a' if x else 'b')", ["a", "b"]),
        ("raise HostError(x.strerror or 'failed')", [HOLE, "failed"]),
        ("raise HostError('cannot be read: ' + x)", ["cannot be read: …"]),
        ("def f():\n text = f'first {x}'\n raise HostError(text)", ["first …"]),
        ("def f():\n if x:\n  t = 'one'\n else:\n  t = 'two'\n raise HostError(t)", ["one", "two"]),
        ("def f():\n t = 'another'\n g(t)\n t = 'mine'\n raise HostError(t)", ["mine"]),
        ("def f():\n if x:\n  t = 'used'\n  g(t)\n t = 'mine'\n raise HostError(t)", ["mine"]),
        ("def f():\n t = 'is bad'\n if x:\n  t += f': {x}'\n raise HostError(t)", ["is bad", "…: …"]),
        ("def fail(what): raise HostError(what)\ndef f(): fail('by a helper')", [HOLE, "by a helper"]),
        ("def outcome():\n return 'it was taken back'\ndef f(): raise HostError(f'{e}; {outcome()}')",
         ["…; it was taken back"]),
        ("def f():\n a = []\n a.append('first thing')\n raise HostError('; '.join(a))", ["first thing"]),
        ("def f():\n d = {1: 'is over now'}\n raise HostError(d.get(x, f'says {x}'))", ["is over now", "says …"]),
        ("Answer(96, f'it failed: {x}', 'hint')", ["it failed: …"]),
        ("report.say('for everybody')", ["for everybody"]),
        ("other.say('for nobody')", []),
        ("raise ValueError('not ours')", []),
    ],
)  # fmt: skip
def test_collector(source: str, expected: list[str]) -> None:
    assert collected(source) == expected


def test_an_error_that_words_itself(found: tuple[list[Message], list[Message]]) -> None:
    """Interrupted and Refusal are given a number or findings; their sentences are in their classes."""
    said = {one.template for one in found[0]}
    assert "interrupted by …; …" in said
    assert "… errors forbid the change; nothing has been changed" in said

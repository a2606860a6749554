"""The recordings of the real crle and ld.so.1 in tests/data/crle, taken apart for the tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from memproxy_sol.ld_config import Layout, to_text

DATA = Path(__file__).parent.parent / "data" / "crle"
VECTORS = json.loads((DATA / "vectors.json").read_text())
LDSO = json.loads((DATA / "ldso.json").read_text())
LAYOUTS = {"32": Layout(32, "little", 3), "64": Layout(64, "little", 62)}

OBJECT_CACHE = ("i-nonexistent-32", "a-nonexistent-32", "i-nonexistent-64", "a-nonexistent-64")
"""What crle writes here depends on a scan of the file system, so it cannot be foretold from the arguments alone."""


def text(recorded: str) -> str:
    """A recorded text (one character a byte) as the package carries text."""
    return to_text(recorded.encode("latin-1"))


@dataclass(frozen=True)
class Step:
    """One run of crle."""

    vector: str
    abi: str
    options: tuple[tuple[str, str], ...]
    before: bytes | None
    exit: int
    stdout: str
    stderr: str
    after: bytes | None

    @property
    def letters(self) -> set[str]:
        return {letter for letter, _ in self.options}

    @property
    def writes(self) -> bool:
        """Whether it asks for a file to be written, rather than shown (reference "crle", section 2.1)."""
        return bool(self.letters & set("lseEuaAiIgG"))

    @property
    def file(self) -> str:
        """The name that it works on."""
        named = [argument for letter, argument in self.options if letter == "c"]
        return named[-1] if named else "/var/ld/64/ld.config" if self.layout.bits == 64 else "/var/ld/ld.config"

    @property
    def layout(self) -> Layout:
        """That of the program that does the work in the end (reference "crle", section 2.7)."""
        if "6" in self.letters:
            return LAYOUTS["64"]
        base = 16 if self.before is not None and self.before[:4] == b"?RLC" else 0
        creates = self.writes and "u" not in self.letters
        if not creates and self.before is not None and self.before[base + 4 : base + 5] != b"":
            return LAYOUTS["64" if self.before[base + 4] & 4 else "32"]
        return LAYOUTS["32"]


def getopt(arguments: list[str], letters: str) -> tuple[tuple[str, str], ...]:
    """The classic option parser, for command lines which have no error."""
    found = []
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        cluster = rest.pop(0)[1:]
        while cluster:
            letter, cluster = cluster[0], cluster[1:]
            argument = ""
            if letters[letters.index(letter) + 1 :].startswith(":"):
                argument, cluster = cluster or rest.pop(0), ""
            found.append((letter, argument))
    return tuple(found)


def _steps() -> list[Step]:
    found = []
    for vector in VECTORS:
        initial = vector.get("files", {}).get(vector["config"])
        before = None if initial is None else bytes.fromhex(initial)
        for arguments, result in zip(vector["steps"], vector.get("results", [vector])):
            after = None if result["config_hex"] is None else bytes.fromhex(result["config_hex"])
            try:
                options = getopt(arguments[1:], "6:a:A:c:e:E:f:G:g:I:i:l:o:s:t:uv")
            except (ValueError, IndexError):
                assert result["exit"] == 1, vector["name"]
                options = ()
            output = text(result["stdout"]), text(result["stderr"])
            options = tuple((letter, to_text(argument.encode())) for letter, argument in options)
            found.append(Step(vector["name"], vector["abi"], options, before, result["exit"], *output, after))
            before = after
    return found


STEPS = _steps()


def _files() -> dict[bytes, tuple[str, Layout]]:
    """Every recorded file once, with the name of a vector and the layout of its ABI."""
    found: dict[bytes, tuple[str, Layout]] = {}
    for step in STEPS:
        for data in (step.before, step.after):
            if data is not None:
                found.setdefault(data, (step.vector, LAYOUTS[step.abi]))
    for record in LDSO:
        for data in record["files"].values():
            found.setdefault(bytes.fromhex(data), (record["name"], LAYOUTS[record["abi"]]))
    return found


FILES = _files()

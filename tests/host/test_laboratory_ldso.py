"""The laboratory's runtime linker, held to every recording that touches what it models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli

from tests.host.laboratory import ldso
from tests.host.laboratory.ldso import Linker
from tests.host.laboratory.tree import Tree

DATA = Path(__file__).parents[1] / "data"
LDSO = json.loads((DATA / "crle/ldso.json").read_text())
VECTORS = json.loads((DATA / "crle/vectors.json").read_text())
RUNTIME = json.loads((DATA / "ldso-runtime/ldso-runtime.json").read_text())
EXCLUSIONS = tomli.loads((DATA / "exclusions.toml").read_text())["case"]


LISTS = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_DEBUG")
"""The variables of which the recordings show both slots; of the switches they show whether they are on."""


def told(begun: ldso.Start) -> dict[str, Any]:
    """A process start in the words of the recordings."""
    if begun.configuration.result == "crash":
        return {"result": "crash"}
    found: dict[str, Any] = {
        "result": begun.configuration.result,
        "default_dirs": list(begun.library_path),
        "trusted_dirs": list(begun.trusted),
        "preload": [list(item) for item in begun.preloads],
    }
    slots = (("replaceable", begun.variables.replaceable), ("permanent", begun.variables.permanent))
    env = {f"{kind} {name}": slot[name] for kind, slot in slots for name in LISTS if name in slot}
    if any("LD_BIND_NOW" in slot for _, slot in slots):
        env["bind now"] = "1"
    if env:
        found["env"] = env
    if begun.messages:
        found["messages"] = list(begun.messages)
    return found


@pytest.mark.parametrize("record", LDSO, ids=lambda record: record["name"])
def test_every_recording_of_a_process_start(record: dict[str, Any], tmp_path: Path) -> None:
    for path, data in record["files"].items():
        file = tmp_path / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes.fromhex(data))
    begun = Linker(Tree(str(tmp_path))).configure(
        record["env"],
        int(record["abi"]),
        secure=record["secure"],
        file=None if record["config"] == "-" else record["config"],
    )
    assert told(begun) == record["expect"]


@pytest.mark.parametrize("record", [v for v in VECTORS if "ldso" in v], ids=lambda record: record["name"])
def test_every_file_that_crle_left_behind(record: dict[str, Any], tmp_path: Path) -> None:
    data = bytes.fromhex(record["config_hex"])
    (tmp_path / "f").write_bytes(data)
    for bits, expected in record["ldso"].items():
        begun = Linker(Tree(str(tmp_path))).configure([], int(bits), file="/f")
        assert told(begun) == expected, bits

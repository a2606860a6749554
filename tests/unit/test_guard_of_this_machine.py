"""The guard in tests/conftest.py notices whatever a live change would do to this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest

from tests.conftest import changed, state_of_this_machine


@pytest.mark.parametrize(
    "act",
    [
        lambda top: (top / "list").unlink(),
        lambda top: (top / "list").write_bytes(b"/a.so\n"),
        lambda top: (top / "list").chmod(0o600),
        lambda top: ((top / "new").write_bytes(b""), os.replace(top / "new", top / "list")),
        lambda top: (top / "absent").write_bytes(b""),
        lambda top: (top / "tree/below").write_bytes(b""),
        lambda top: (top / "tree/file").write_bytes(b"y"),
    ],
)
def test_each_touch_is_noticed(act: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"xx")
    watched = tuple(str(tmp_path / name) for name in ("list", "absent", "tree"))
    before = state_of_this_machine(watched)
    assert changed(before, state_of_this_machine(watched)) == []
    act(tmp_path)
    assert changed(before, state_of_this_machine(watched)) != []

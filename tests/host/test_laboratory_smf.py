"""The laboratory's SMF, held to what a running illumos said and did."""

from __future__ import annotations

from pathlib import Path

from tests.host.laboratory import Laboratory


def test_a_fresh_laboratory_has_booted(tmp_path: Path) -> None:
    """The early import, the file systems, the late import, the milestones."""
    smf = Laboratory(tmp_path / "top").smf
    for name in ("system/filesystem/local", "system/manifest-import", "milestone/multi-user"):
        assert smf.state(f"svc:/{name}:default") == "online"


def test_requests_are_asynchronous(tmp_path: Path) -> None:
    """The state right after `svcadm disable` is the old one, and some polls later the new one."""
    lab = Laboratory(tmp_path / "top")
    local = "svc:/system/filesystem/local:default"
    assert lab.execute(["/usr/sbin/svcadm", "disable", local]).status == 0
    seen = [lab.execute(["/usr/bin/svcs", "-H", "-o", "state", local]).out for _ in range(3)]
    assert seen == [b"online\n", b"online*\n", b"disabled\n"]

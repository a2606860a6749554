"""Rollback and history on the running system: through trial, guard and SMF, and when nothing starts any more."""

from __future__ import annotations

import dataclasses
import os
import shutil

import pytest

from memproxy_sol import abi, changes
from memproxy_sol.ld_config import encode, layout_for, new
from tests.host.live import Live
from tests.images import CONFIG

FMRI = "svc:/site/memproxy:default"


def service(live: Live) -> bytes:
    """The state of the service, empty where there is none."""
    return live.lab.execute(["/usr/bin/svcs", "-H", "-o", "state", FMRI], {}).out.strip()


def configs(live: Live) -> dict[int, bytes | None]:
    paths = {bits: live / name for bits, name in CONFIG.items()}
    return {bits: path.read_bytes() if path.exists() else None for bits, path in paths.items()}


def test_back_to_the_former_allocator_and_to_nothing(live: Live) -> None:
    theirs = encode(dataclasses.replace(new(layout_for(abi.X86, 32)), library_path=("/lib", "/usr/lib", "/opt/lib")))
    path = live.write(CONFIG[32], theirs)
    os.utime(path, ns=(1_500_000_000_000_000_000, 1_400_000_000_000_000_000))
    assert live.install() == 0, live.err
    first = configs(live)
    assert live.install(allocator="libother.so") == 0, live.err
    second = configs(live)
    assert live.run("rollback") == 0, live.err + live.out
    assert configs(live) == first
    assert live.lab.brick() is None
    assert live.run("verify") == 0, live.out
    assert service(live) == b"online"
    assert live.run("rollback", "1") == 0, live.err + live.out
    assert configs(live) == {32: theirs, 64: None}
    assert path.stat().st_mtime_ns == 1_400_000_000_000_000_000
    assert service(live) == b""
    assert live.lab.brick() is None
    assert live.run("rollback", "3") == 0, live.err + live.out
    assert configs(live) == second
    assert service(live) == b"online"
    assert live.run("verify") == 0, live.out
    live.lab.boot()
    assert live.lab.brick() is None
    assert live.run("history") == 0
    told = [line.split("\t")[3:5] for line in live.out.splitlines()[1:]]
    whats = ["install", "install", "rollback 2", "rollback 1", "rollback 3"]
    assert told == [[what, "complete"] for what in whats]


def test_when_nothing_starts_any_more_rollback_mends_it(live: Live) -> None:
    assert live.install() == 0, live.err
    first = live.generation()
    before = configs(live)
    assert live.install(allocator="libother.so") == 0, live.err
    second = next(path for path in first.parent.iterdir() if path != first)
    shutil.rmtree(second)
    assert live.lab.brick() is not None
    assert live.run("rollback") == 0, live.err + live.out
    assert live.lab.brick() is None
    assert configs(live) == before
    assert live.run("verify") == 0, live.out


def test_when_nothing_starts_any_more_and_no_generation_is_left(live: Live) -> None:
    assert live.install() == 0, live.err
    assert live.install(allocator="libother.so") == 0, live.err
    shutil.rmtree(live / "usr/local/lib/memproxy")
    assert live.lab.brick() is not None
    assert live.run("rollback") == 0, live.err + live.out
    assert "generation-unusable" in live.out
    assert live.lab.brick() is None
    assert configs(live) == {32: None, 64: None}


def test_a_service_that_somebody_switched_off_stays_off(live: Live) -> None:
    assert live.install() == 0, live.err
    assert live.install(allocator="libother.so") == 0, live.err
    assert live.lab.execute(["/usr/sbin/svcadm", "disable", FMRI], {}).status == 0
    assert live.run("rollback") == 0, live.err + live.out
    assert service(live) == b"disabled"


@pytest.mark.parametrize("state", ["complete", "trial"])
def test_a_cut_short_rollback_is_taken_back(live: Live, state: str) -> None:
    assert live.install() == 0, live.err
    assert live.install(allocator="libother.so") == 0, live.err
    before = configs(live)
    assert live.run("rollback") == 0, live.err + live.out
    path = live / changes.path_of(3)[1:]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"".join(line for line in lines if f'"{state}"'.encode() not in line and b'"complete"' not in line)
    )
    assert live.run("history") == 0
    assert live.out.splitlines()[-1].split("\t")[4] in ("cut short", "trial")
    assert live.install(allocator="libother.so") == 0, live.err
    assert "has been taken back" in live.err
    assert configs(live) == before
    assert live.lab.brick() is None

"""What lies on the disk of a trial on Linux, and what preflight makes of such a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memproxy_sol import pending
from memproxy_sol.abi import LD_SO_PRELOAD
from memproxy_sol.hosts import linux
from memproxy_sol.root import FileState, Root
from memproxy_sol.steps import TryFile

MOUNTS = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:20 / /run rw - tmpfs tmpfs rw
23 21 254:0 /lists/a /etc/ld.so.preload rw - ext4 /dev/vda rw
24 22 254:1 / /run/disk rw shared:5 - ext4 /dev/vdb rw
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the files of a trial belong to root")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_list_for_root_alone_is_so_on_trial(tmp_path: Path, mode: int) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "var/run").mkdir(parents=True)
    root = Root(os.fspath(tmp_path))
    step = TryFile(LD_SO_PRELOAD, None, FileState(b"/a.so\n", mode, 0, 0), "list")
    pending.prepare(root, step)
    assert (tmp_path / step.candidate[1:]).stat().st_mode & 0o777 == mode
    assert not pending.is_on_trial(root, LD_SO_PRELOAD)
    os.rename(tmp_path / step.link[1:], tmp_path / LD_SO_PRELOAD[1:])
    assert pending.is_on_trial(root, LD_SO_PRELOAD)
    assert not pending.edited(root, step)
    with open(tmp_path / step.candidate[1:], "a") as stream:
        stream.write("/theirs.so\n")
    assert pending.edited(root, step)


def test_what_is_mounted_and_where_a_reboot_takes_things_away(tmp_path: Path) -> None:
    root = Root(os.fspath(tmp_path), live=True)
    assert linux.is_volatile(root, "/run/memproxy")  # nobody tells
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTS)
    assert linux.is_mounted(root, LD_SO_PRELOAD)
    assert not linux.is_mounted(root, "/etc/ld.so.cache")
    assert linux.is_volatile(root, "/run/memproxy")
    assert not linux.is_volatile(root, "/run/disk/memproxy")
    assert not linux.is_volatile(root, "/var/run/memproxy")
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "run").mkdir()
    assert linux.is_volatile(root, "/var/run/memproxy")

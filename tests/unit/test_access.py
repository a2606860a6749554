"""Who can read and change a path: each way in which a component can be wrong, and ways in which it is right."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from memproxy_sol import access
from memproxy_sol.access import Groups
from memproxy_sol.root import Root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes files of other owners")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    top.mkdir(mode=0o755)
    (top / "etc").mkdir()
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/f").write_bytes(b"x")
    (top / "etc/group").write_text("root::0:\nsys::3:root,adm\nonly::5:root\nstaff::10:\nempty::11:\n#x\nbad\n")
    (top / "etc/passwd").write_text("root:x:0:5::/:\njoe:x:100:10::/:\n")
    return top


def judged(tree: Path, path: str = "/a/b/f", kind: str = "file") -> list[tuple[str, str]]:
    root = Root(str(tree))
    return [(f.identifier, f.where) for f in access.judge(root, path, "library", Groups(root), kind)]


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_a_good_path_has_no_finding(tree: Path) -> None:
    assert judged(tree) == []
    assert judged(tree, "/a/b", "directory") == []


def test_group_write_is_fine_where_the_group_has_nobody_but_root(tree: Path) -> None:
    for gid in (0, 5, 11):
        os.chown(tree / "a", 0, gid)
        (tree / "a").chmod(0o775)
        assert judged(tree) == [], gid


@pytest.mark.parametrize("gid", [3, 10, 4711], ids=["listed member", "primary group", "unknown group"])
def test_group_write_with_others_is_insecure(tree: Path, gid: int) -> None:
    os.chown(tree / "a/b", 0, gid)
    (tree / "a/b").chmod(0o775)
    assert judged(tree) == [("path-insecure", "/a/b")]


def test_without_a_group_file_any_group_may_have_members(tree: Path) -> None:
    (tree / "etc/group").unlink()
    os.chown(tree / "a", 0, 11)
    (tree / "a").chmod(0o775)
    assert judged(tree) == [("path-insecure", "/a")]


@pytest.mark.parametrize(
    ("name", "mode", "finding"),
    [
        ("a", 0o700, ("path-unsearchable", "/a")),
        ("a", 0o744, ("path-unsearchable", "/a")),
        ("a/b", 0o757, ("path-insecure", "/a/b")),
        ("a/b", 0o1777, ("path-insecure", "/a/b")),
        ("a/b/f", 0o600, ("library-unreadable", "/a/b/f")),
        ("a/b/f", 0o640, ("library-unreadable", "/a/b/f")),
        ("a/b/f", 0o604, ("library-unreadable", "/a/b/f")),
        ("a/b/f", 0o646, ("library-insecure", "/a/b/f")),
    ],
)
def test_modes(tree: Path, name: str, mode: int, finding: tuple[str, str]) -> None:
    (tree / name).chmod(mode)
    assert judged(tree) == [finding]


def test_the_tree_itself_counts(tree: Path) -> None:
    tree.chmod(0o700)
    assert judged(tree) == [("path-unsearchable", "/")]


def test_a_link_is_judged_by_where_it_leads(tree: Path) -> None:
    (tree / "c").mkdir()
    (tree / "c/f").write_bytes(b"x")
    (tree / "a/l").symlink_to("/c")
    assert judged(tree, "/a/l/f") == []
    os.chown(tree / "c", 100, 0)
    assert judged(tree, "/a/l/f") == [("path-insecure", "/c")]
    (tree / "c/g").symlink_to("none")
    assert ("library-missing", "/c/g") in judged(tree, "/c/g")


def test_an_access_control_list_that_lets_a_user_write_is_insecure(tree: Path) -> None:
    user, group, mask, other = (1, 6, 0xFFFFFFFF), (4, 4, 0xFFFFFFFF), (0x10, 6, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)
    try:
        os.setxattr(tree / "a/b/f", "system.posix_acl_access", acl(user, (2, 6, 100), group, mask, other))
    except OSError as error:
        pytest.skip(f"no ACL on this file system: {error}")
    assert ("library-insecure", "/a/b/f") in judged(tree)
    os.setxattr(tree / "a/b/f", "system.posix_acl_access", acl(user, (2, 4, 100), group, (0x10, 4, 0xFFFFFFFF), other))
    assert judged(tree) == []


def test_each_hint_is_a_command_that_mends(tree: Path) -> None:
    (tree / "a/b/f").chmod(0o602)
    os.chown(tree / "a/b/f", 100, 10)
    (tree / "a").chmod(0o707)
    for _ in range(8):
        root = Root(str(tree))
        findings = access.judge(root, "/a/b/f", "library", Groups(root))
        if not findings:
            return
        assert os.system(findings[0].hint) == 0
    pytest.fail(str(findings))

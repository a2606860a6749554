"""A tree seen as /: links never lead out of it, and only regular files are read, without blocking."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memproxy_sol.errors import HostError
from memproxy_sol.root import FileState, Root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/f").write_bytes(b"inside")
    (tmp_path / "f").write_bytes(b"outside")
    return top


@pytest.mark.parametrize(
    ("links", "path", "resolved"),
    [
        ({}, "/a/b/f", "/a/b/f"),
        ({}, "a//b/./f", "/a/b/f"),
        ({}, "/a/b/../b/f", "/a/b/f"),
        ({}, "/../../a/b/f", "/a/b/f"),
        ({}, "/no/such/file", "/no/such/file"),
        ({}, "/no/../a/b", "/a/b"),
        ({"l": "a/b"}, "/l/f", "/a/b/f"),
        ({"l": "/a/b"}, "/l/f", "/a/b/f"),
        ({"l": "../../../a"}, "/l/b/f", "/a/b/f"),
        ({"a/l": "../a/b/"}, "/a/l/f", "/a/b/f"),
        ({"l": "/m", "m": "n", "n": "a"}, "/l/b/f", "/a/b/f"),
        ({"l": "/no/such"}, "/l/x", "/no/such/x"),
        ({"l": "a/b/.."}, "/l/b/f", "/a/b/f"),
        ({"64": "amd64"}, "/64/x", "/amd64/x"),
    ],
)
def test_paths_resolve_as_in_a_chroot(tree: Path, links: dict[str, str], path: str, resolved: str) -> None:
    for name, target in links.items():
        (tree / name).symlink_to(target)
    assert Root(str(tree)).resolve(path) == resolved


def test_resolution_agrees_with_a_real_chroot(tree: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    for name, target in {"l": "/a/b/../b", "m": "../../../l", "a/n": "../m/f"}.items():
        (tree / name).symlink_to(target)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.chroot(tree)
        os.write(writer, "\n".join(os.path.realpath(path) for path in ("/m/f", "/a/n", "/../m")).encode())
        os._exit(0)
    os.waitpid(child, 0)
    expected = os.read(reader, 4096).decode().split("\n")
    os.close(reader)
    os.close(writer)
    assert [Root(str(tree)).resolve(path) for path in ("/m/f", "/a/n", "/../m")] == expected


def test_a_loop_is_an_error(tree: Path) -> None:
    (tree / "x").symlink_to("y")
    (tree / "y").symlink_to("x")
    with pytest.raises(HostError, match="too many symbolic links"):
        Root(str(tree)).resolve("/x/f")


def test_an_absolute_link_reads_the_file_inside(tree: Path) -> None:
    (tree / "l").symlink_to("/a/b/f")
    (tree / "out").symlink_to("../f")
    root = Root(str(tree))
    state = root.read("/l")
    assert state is not None
    assert state.data == b"inside"
    assert root.read("/out") is None, "outside of the tree there is nothing"
    assert root.host_path("/l") == str(tree / "l"), "the last component itself is not followed"


def test_read_gives_content_and_attributes(tree: Path) -> None:
    (tree / "a/b/f").chmod(0o640)
    state = Root(str(tree)).read("/a/b/f")
    assert state == FileState(b"inside", 0o640, os.getuid(), (tree / "a/b/f").stat().st_gid)
    assert Root(str(tree)).read("/a/none") is None
    assert Root(str(tree)).read("/a/b/f/none") is None


def test_nothing_but_regular_files_is_read_and_nothing_blocks(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    root = Root(str(tree))
    for path, kind in (("/fifo", "a FIFO"), ("/a", "a directory")):
        with pytest.raises(HostError, match=kind):
            root.read(path)
    with pytest.raises(HostError, match="has 6 bytes, more than the 5"):
        root.read("/a/b/f", limit=5)


def test_components_name_everything_on_the_way(tree: Path) -> None:
    (tree / "l").symlink_to("/a")
    assert [c.path for c in Root(str(tree)).components("/l/b/f")] == ["/", "/l", "/a", "/a/b", "/a/b/f"]
    assert [c.path for c in Root(str(tree)).components("/a/none/x")] == ["/", "/a"]


def test_a_root_that_is_no_directory_is_an_error(tree: Path) -> None:
    with pytest.raises(HostError, match="no such directory"):
        Root(str(tree / "a/b/f"))


def test_nothing_has_a_name_that_is_too_long(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    long = "/" + "x" * 5000
    assert root.resolve(f"{long}/y") == f"{long}/y"
    assert (root.exists(long), root.stat(long), root.read(long), root.names(long)) == (False, None, None, ())

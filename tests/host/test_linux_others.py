"""What others do to a Linux image between our commands: edits of the list, another malloc ahead, a record that is lost,
damaged or hostile. Nothing of theirs is lost, and undo always works."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from memproxy_sol import ld_so_preload, record
from memproxy_sol.ld_so_preload import is_ours
from memproxy_sol.root import Root
from tests import needs
from tests.linux_images import ALLOCATOR, PRELOAD, LinuxImage

MIMALLOC = ALLOCATOR["mimalloc"]
RECORD = "var/opt/memproxy/installed.json"
A, B = b"/usr/lib/a.so", b"/usr/lib/b.so"
Edit = Callable[[bytes], bytes]


def texts(data: bytes | None) -> list[str]:
    return [item.text for item in ld_so_preload.parse(data or b"")]


def theirs(data: bytes | None) -> list[str]:
    return [text for text in texts(data) if not is_ours(text)]


EDITS: dict[str, tuple[bytes | None, Edit, bytes | None]] = {
    # What was there before install, what an administrator makes of the file then, what has to be there after uninstall.
    "a line behind": (A + b"\n", lambda data: data + B + b"\n", A + b"\n" + B + b"\n"),
    "a line in front": (A + b"\n", lambda data: B + b"\n" + data, B + b"\n" + A + b"\n"),
    "a line behind, without a list before": (None, lambda data: data + B + b"\n", B + b"\n"),
    "a line in front, without a list before": (None, lambda data: B + b"\n" + data, B + b"\n"),
    "an item in our line": (A + b"\n", lambda data: data[:-1] + b" " + B + b"\n", A + b"\n" + B + b"\n"),
    "their line taken out": (A + b"\n", lambda data: data.replace(A + b"\n", b""), b""),
    "their line changed": (A + b"\n", lambda data: data.replace(A, B), B + b"\n"),
    "their line commented out": (A + b"\n", lambda data: b"#" + data, b"#" + A + b"\n"),
    "behind a list without a newline": (A, lambda data: data + B + b"\n", A + b"\n" + B + b"\n"),
    "our line twice": (A + b"\n", lambda data: data + data.splitlines(keepends=True)[-1], A + b"\n"),
    "our line moved to the front": (
        A + b"\n",
        lambda data: b"".join(data.splitlines(keepends=True)[::-1]),
        A + b"\n",
    ),
    "our line taken out": (A + b"\n", lambda data: A + b"\n", A + b"\n"),
    "our allocator taken out": (A + b"\n", lambda data: data.rpartition(b" ")[0] + b"\n", A + b"\n"),
    "CR/LF by an editor": (A + b"\n", lambda data: data.replace(b"\n", b"\r\n"), A + b"\r\n"),
    "a byte order mark by an editor": (
        A + b"\n",
        lambda data: b"\xef\xbb\xbf" + data,
        b"\xef\xbb\xbf" + A + b"\n",
    ),
    "everything else": (A + b"\n", lambda data: B + b"\n", B + b"\n"),
    "emptied": (A + b"\n", lambda data: b"", b""),
    "NUL": (A + b"\n", lambda data: data + b"\0\n", A + b"\n\0\n"),
    "not UTF-8": (A + b"\n", lambda data: b"/usr/lib/caf\xe9.so\n" + data, b"/usr/lib/caf\xe9.so\n" + A + b"\n"),
}


@pytest.mark.parametrize("case", sorted(EDITS))
@pytest.mark.parametrize("command", ["uninstall", "rollback", "install, then uninstall"])
def test_edits_by_an_administrator_stay(linux_image: LinuxImage, command: str, case: str) -> None:
    image, (before, edit, after) = linux_image, EDITS[case]
    if before is not None:
        image.preload(before)
    assert image.install() == 0, image.err
    edited = edit(image.preload() or b"")
    image.preload(edited)
    if command.startswith("install"):
        status = image.install()
        if case == "NUL":
            assert status == 1
            assert image.preload() == edited
        else:
            assert status == 0, image.err
            assert theirs(image.preload()) == theirs(edited)
            assert image.run("verify") == 0, image.out
        command = "uninstall"
    assert image.run(command) == 0, image.err
    # An empty list and none are the same to everybody.
    assert (image.preload() or None) == (after or None)
    assert "Traceback" not in image.err


def test_a_list_that_somebody_removed_comes_back_at_uninstall(linux_image: LinuxImage) -> None:
    image = linux_image
    image.preload(A + b"\n")
    assert image.install() == 0, image.err
    (image / PRELOAD).unlink()
    assert image.run("uninstall") == 0
    assert image.preload() == A + b"\n"
    assert "config-changed" in image.out


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["a directory", "a FIFO"])
@pytest.mark.parametrize("command", ["uninstall", "rollback"])
def test_what_is_no_file_any_more_is_left_alone(
    linux_image: LinuxImage, command: str, make: Callable[[Path], None]
) -> None:
    image = linux_image
    assert image.install() == 0, image.err
    (image / PRELOAD).unlink()
    make(image / PRELOAD)
    status = os.lstat(image / PRELOAD)
    assert image.run(command) == 0, image.err
    assert "config-unusable" in image.out
    assert os.path.samestat(os.lstat(image / PRELOAD), status)


# Another malloc ahead.


@pytest.mark.parametrize("others", [b"", A + b"\n"], ids=["alone", "behind another's"])
@pytest.mark.parametrize("edited", [False, True])
def test_another_malloc_is_adopted_and_given_back(linux_image: LinuxImage, edited: bool, others: bytes) -> None:
    image = linux_image
    former = others + f"/usr/$LIB/{ALLOCATOR['jemalloc']}\n".encode()
    image.preload(former)
    before = image.snapshot()
    assert image.install(allocator="mimalloc") == 1
    assert "interposer-ahead" in image.err
    assert image.snapshot() == before
    assert image.install(allocator="jemalloc") == 0, image.err
    ours = image.line("libmemproxy.so", ALLOCATOR["jemalloc"])
    assert image.preload() == others + ours
    assert image.run("verify") == 0, image.out
    inodes = image.snapshot(inodes=True)
    assert image.install(allocator="jemalloc") == 0, image.err
    assert image.snapshot(inodes=True) == inodes
    if edited:
        image.preload((image.preload() or b"") + B + b"\n")
        assert image.run("uninstall", "--purge") == 0
        assert sorted(texts(image.preload())) == sorted(texts(former + B))
    else:
        assert image.run("uninstall", "--purge") == 0
        assert image.snapshot() == before


def test_what_was_adopted_comes_back_after_an_upgrade_too(linux_image: LinuxImage) -> None:
    image = linux_image
    former = f"/usr/$LIB/{ALLOCATOR['jemalloc']}\n".encode()
    image.preload(former)
    assert image.install(allocator="jemalloc") == 0, image.err
    assert image.install(allocator="mimalloc") == 0, image.err
    assert theirs(image.preload()) == []
    assert image.run("rollback", "1") == 0
    assert image.preload() == former


# The record and the journal.


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 100, b"[]", b"null", b'{"format": 99}', b"\xff"])
@pytest.mark.parametrize("command", ["uninstall", "rollback"])
def test_undo_without_a_record_that_can_be_read(linux_image: LinuxImage, command: str, damage: bytes) -> None:
    image = linux_image
    image.preload(A + b"\n")
    assert image.install() == 0, image.err
    (image / RECORD).write_bytes(damage)
    assert image.run("verify") == 3
    assert "record-damaged" in image.out
    assert image.run(command) == 0, image.err
    assert image.preload() == A + b"\n"
    assert "Traceback" not in image.err


@pytest.mark.parametrize("command", ["uninstall", "rollback"])
@pytest.mark.parametrize("lost", ["the record", "everything"])
def test_undo_after_what_we_know_is_lost(linux_image: LinuxImage, lost: str, command: str) -> None:
    image = linux_image
    image.preload(A + b"\n")
    assert image.install() == 0, image.err
    (image / RECORD).unlink()
    if lost == "everything":
        shutil.rmtree(image / "var/opt/memproxy")
    status = image.run(command)
    if lost == "everything" and command == "rollback":
        assert status == 1
        assert "memproxy-sol uninstall takes our part out" in image.err
        assert image.run("uninstall") == 0
    else:
        assert status == 0, image.err
    assert image.preload() == A + b"\n"


def test_install_again_after_the_record_was_lost(linux_image: LinuxImage) -> None:
    image = linux_image
    image.preload(A + b"\n")
    assert image.install() == 0, image.err
    (image / RECORD).unlink()
    assert image.install() == 0, image.err
    assert image.run("verify") == 0, image.out
    assert image.run("uninstall", "--purge") == 0
    assert image.preload() == A + b"\n"


DAMAGE: dict[str, Edit] = {
    "empty": lambda data: b"",
    "torn in the first line": lambda data: data[:40],
    "torn in the last line": lambda data: data[:-4],
    "garbage in front": lambda data: b"0 x\n" + data,
    "a byte changed": lambda data: data.replace(b"install", b"instalk", 1),
}


@pytest.mark.parametrize("damage", sorted(DAMAGE))
@pytest.mark.parametrize("command", ["uninstall", "rollback"])
def test_undo_with_a_damaged_journal(linux_image: LinuxImage, command: str, damage: str) -> None:
    image = linux_image
    image.preload(A + b"\n")
    assert image.install() == 0, image.err
    journal = image / "var/opt/memproxy/changes/000001.jsonl"
    journal.write_bytes(DAMAGE[damage](journal.read_bytes()))
    if command == "rollback" and damage in ("empty", "torn in the first line"):
        # So it looks if a change was cut short before its first step.
        assert image.run("rollback") == 1
        assert "memproxy-sol uninstall takes our part out" in image.err
        command = "uninstall"
    assert image.run(command) == 0, image.err
    assert image.preload() == A + b"\n"
    assert "Traceback" not in image.err


def rewritten(image: LinuxImage, **values: object) -> None:
    """The record with other values for each ABI, and a checksum that fits: somebody wrote it on purpose."""
    body = json.loads((image / RECORD).read_bytes())
    body.pop("sha256")
    for known in body["abis"].values():
        known.update(values)
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode("ascii")
    (image / RECORD).write_text(json.dumps({"sha256": record.digest(canonical), **body}))
    assert record.read(Root(str(image.path))) is not None


@pytest.mark.parametrize(
    "values",
    [
        {"generation": "/etc"},
        {"generation": "/../../../../etc"},
        {"files": ["../../../../../etc/passwd"]},
        {"files": ["libmemproxy.so", "../" * 30 + "etc/shadow"]},
        {"files": []},
        {"files": ["a b:c\n#d"]},
        {"files": ["x" * 5000]},
        {"files": ["\0"]},
        {"adopted": ["/a b", "c:d", "#e", "\n", ""]},
        {"adopted": ["x" * 100_000]},
        {"written": ""},
        {"scope": "nobody"},
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["verify", "status", "install", "uninstall", "rollback", "plan"])
def test_a_hostile_record_leads_nowhere(
    linux_image: LinuxImage, command: str, values: dict[str, object], tmp_path: Path
) -> None:
    image = linux_image
    image.preload(A + b"\n")
    assert image.install() == 0, image.err
    rewritten(image, **values)
    outside = sorted(path for path in tmp_path.iterdir())
    passwd = (image / "etc/passwd").read_bytes()
    chosen = [f"--allocator={needs.allocator('mimalloc', bits)}" for bits in (32, 64)]
    extra = ["--libraries", str(image.objects), *chosen] if command in ("install", "plan") else []
    status = image.run(command, *extra)
    assert status in (0, 1, 3)
    assert "Traceback" not in image.err
    assert (image / "etc/passwd").read_bytes() == passwd
    assert sorted(path for path in tmp_path.iterdir()) == outside
    if command in ("uninstall", "rollback"):
        assert status == 0, image.err
        assert not [text for text in texts(image.preload()) if is_ours(text)]
        assert "/usr/lib/a.so" in texts(image.preload())

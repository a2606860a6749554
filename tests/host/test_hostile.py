"""What an image may hold that is not ours to obey, and what a careless hand does: nothing outside is touched, no
configuration is left naming a missing object, and every answer is one sentence."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from memproxy_sol import abi, preloads
from memproxy_sol.ld_config import encode, layout_for, new
from tests.images import CONFIG, Image

LAYOUTS = {bits: layout_for(abi.X86, bits) for bits in (32, 64)}
CHANGES = "var/opt/memproxy/changes"


def journal(image: Image, first: dict[str, object], *rest: object) -> None:
    """A journal that somebody else wrote."""
    complete = {"change": 9, "what": "install", "started": "", "directories": [], "leave_nothing": False, "cleanup": []}
    texts = [json.dumps(value).encode() for value in ({**complete, **first}, *rest)]
    data = b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in texts)
    image.write(f"{CHANGES}/000009.jsonl", data, 0o600)


def named_objects_exist(image: Image) -> None:
    for bits in (32, 64):
        if (image / CONFIG[bits]).exists():
            effective = preloads.effective((image / CONFIG[bits]).read_bytes(), LAYOUTS[bits])
            for item in effective.preloads:
                assert (image / item.name[1:]).exists(), item.name


def test_a_torn_journal_line_never_leads_to_undoing_twice(installed: Image) -> None:
    change = {
        "do": "place-generation",
        "path": "/" + str(installed.generation().relative_to(installed.path)),
        "digests": {},
    }
    journal(installed, {"steps": [change]}, {"begin": 0})
    with open(installed / CHANGES / "000009.jsonl", "ab") as stream:
        stream.write(b'67930914 {"beg')
    assert installed.install() == 0, installed.err
    named_objects_exist(installed)
    assert installed.run("uninstall", "--bits", "32") == 0
    assert "taken back" not in installed.err
    named_objects_exist(installed)
    assert installed.run("verify") == 0, installed.out


@pytest.mark.parametrize("path", ["/", "", "/..", "/../x", "/usr/../..", "x", "/a\0b", "/usr//lib", 5])
@pytest.mark.parametrize(
    "do", ["replace-file", "place-generation", "make-directory", "remove-generation", "mend-member"]
)
def test_a_hostile_journal_is_not_obeyed(installed: Image, do: str, path: object) -> None:
    beside = installed.path.parent / (installed.path.name + ".memproxy-new")
    beside.write_bytes(b"somebody's")
    step = {"do": do, "path": path, "purpose": "", "before": None, "after": None, "mode": "0o755", "digests": {}}
    journal(installed, {"steps": [step]}, {"begin": 0})
    before = installed.snapshot()
    assert installed.install() == 1
    assert "is damaged" in installed.err
    assert installed.run("verify") == 3
    assert "journal-damaged" in installed.out
    assert installed.snapshot() == before
    assert installed.run("uninstall") == 0, "it goes on without the journal"
    assert "is damaged" in installed.err
    assert "what that change did is not taken back by it" in installed.err
    after = installed.snapshot()
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    places = ("var/ld/", "var/opt/memproxy/", "lib/svc/manifest/site/", "etc/svc/profile/site/")
    assert {name for name in changed if not name.startswith(places)} == set()
    assert not any((installed / name).exists() for name in CONFIG.values())
    assert beside.read_bytes() == b"somebody's"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("directories", ["/.."]),
        ("cleanup", ["/a\0"]),
        (
            "steps",
            [
                {
                    "do": "replace-file",
                    "path": "/x",
                    "purpose": "",
                    "before": None,
                    "after": {"data": "", "mode": "0o77777777", "uid": 0, "gid": 0},
                }
            ],
        ),
    ],
)
def test_impossible_values_in_a_journal_are_told(installed: Image, key: str, value: object) -> None:
    journal(installed, {"steps": [], key: value}, {"begin": 0})
    for status, command in ((1, installed.install), (0, lambda: installed.run("uninstall"))):
        assert command() == status
        assert "is damaged" in installed.err


def test_text_of_the_image_does_not_command_the_terminal(image: Image) -> None:
    (image / "etc/release").write_text("Oracle Solaris 11.4 \x1b]0;owned\x07 [/foo] X86\n")
    assert image.install("--release", "10") == 2
    assert "\x1b" not in image.err
    journal(image, {"steps": [], "what": "[/foo]\x1b[2J"})
    assert image.install() == 0, image.err
    assert "\x1b" not in image.err + image.out
    assert "[/foo]" in image.err


@pytest.mark.parametrize("prefix", ["/opt/v1..2", "/opt/memproxy"])
def test_an_unusual_prefix_can_be_taken_out_again(image: Image, prefix: str) -> None:
    before = image.snapshot()
    assert image.install("--prefix", prefix) == 0, image.err
    (next((image / prefix[1:]).rglob("liballoc.so"))).write_bytes(b"damaged")
    assert image.run("verify", "--json") == 3
    hints = [finding["hint"] for finding in json.loads(image.out)["findings"]]
    assert any(f"--prefix {prefix}" in hint for hint in hints), hints
    assert image.install("--prefix", prefix) == 0
    assert image.run("uninstall", "--purge") == 0
    assert image.snapshot() == before


def test_the_prefix_may_not_be_the_root(image: Image) -> None:
    assert image.install("--prefix", "/") == 2
    assert image.install("--prefix", "/proc/x") == 1
    assert "prefix-not-on-root" in image.err


def test_the_installed_allocator_stays_where_none_is_named(installed: Image) -> None:
    before = installed.snapshot(inodes=True)
    assert installed.install(allocator="") == 0
    assert "nothing to do" in installed.out
    assert installed.snapshot(inodes=True) == before
    assert installed.install("--without-allocator", allocator="") == 0
    assert b"liballoc" not in (installed / CONFIG[32]).read_bytes()
    assert installed.run("uninstall", "--purge") == 0


def test_a_damaged_installed_allocator_is_not_carried_on(installed: Image) -> None:
    (installed.generation() / "liballoc.so").write_bytes(b"damaged")
    assert installed.install(allocator="") == 1
    assert "--allocator FILE" in installed.err


@pytest.mark.parametrize(
    "name", ["etc/memproxy.conf", "etc/vfstab", "etc/release", "lib/svc/manifest/site/memproxy.xml", "lib/libc.so.1"]
)
def test_uninstall_does_not_refuse_because_something_is_odd(installed: Image, name: str) -> None:
    (installed / name).unlink()
    os.mkfifo(installed / name)
    assert installed.run("uninstall") == 0, installed.err
    assert not (installed / CONFIG[32]).exists()
    assert not (installed / CONFIG[64]).exists()


def test_uninstall_with_a_damaged_record_takes_the_entries_out(installed: Image) -> None:
    (installed / "var/opt/memproxy/installed.json").write_bytes(b"{")
    assert installed.run("uninstall") == 0, installed.err
    assert "record-missing" in installed.out
    assert not (installed / CONFIG[32]).exists()


def test_a_configuration_that_was_moved_aside_is_not_forgotten(image: Image) -> None:
    former = encode(dataclasses.replace(new(LAYOUTS[32]), library_path=("/lib", "/usr/lib", "/opt/lib")))
    image.write(CONFIG[32], former)
    assert image.install() == 0
    os.rename(image / CONFIG[32], image / (CONFIG[32] + ".aside"))
    assert image.install() == 0, image.err
    assert preloads.effective((image / CONFIG[32]).read_bytes(), LAYOUTS[32]).library_path[-1] == "/opt/lib"
    (image / CONFIG[32]).unlink()
    assert image.run("uninstall", "--purge") == 0
    assert (image / CONFIG[32]).read_bytes() == former


def test_a_configuration_that_is_a_link_is_refused(image: Image) -> None:
    image.write("var/ld/real", encode(new(LAYOUTS[32])))
    (image / CONFIG[32]).symlink_to("real")
    assert image.install() == 1
    assert "config-is-link" in image.err


def test_somebodys_file_in_a_generation_is_kept(installed: Image) -> None:
    (installed.generation() / "README").write_text("mine")
    assert installed.run("uninstall", "--purge") == 0
    assert "generation-in-use" in installed.out
    assert (installed.generation() / "README").read_text() == "mine"


def test_somebodys_directory_of_our_scratch_name_is_kept(image: Image) -> None:
    image.write("var/.memproxy-sol-state/notes", b"mine")
    assert image.run("uninstall") == 0
    assert (image / "var/.memproxy-sol-state/notes").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["$ISALIST.so", "a b.so", "a:b.so", "64", ".hidden.so"])
def test_an_allocators_name_that_the_linker_would_split_or_expand_is_refused(image: Image, name: str) -> None:
    path = image.path.parent / name
    shutil.copy(image.objects / "liballoc.so", path)
    assert image.run("install", "--libraries", str(image.objects), f"--allocator={path}") == 1
    assert "allocator-name" in image.err


def test_a_large_journal_locks_nothing(installed: Image) -> None:
    with open(installed / CHANGES / "000001.jsonl", "ab") as stream:
        stream.write(b"0 x\n" * (5 << 20))
    assert installed.install() == 0, installed.err
    assert installed.run("verify") == 0


def test_a_root_without_a_name_is_a_usage_error(image: Image) -> None:
    from memproxy_sol.cli import main

    assert main(["verify", "--root", ""]) == 2


@pytest.mark.parametrize("command", ["verify", "plan", "install", "uninstall"])
def test_closed_and_full_outputs_are_no_traceback(image: Image, command: str) -> None:
    words = [sys.executable, "-m", "memproxy_sol", command, "--root", str(image.path)]
    if command in ("plan", "install"):
        words += ["--libraries", str(image.objects)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for redirection in (">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"):
        script = f'exec "$@" {redirection}'
        result = subprocess.run(["sh", "-c", script, "sh", *words], env=environment, capture_output=True, check=False)
        assert b"Traceback" not in result.stderr, result.stderr
        assert result.returncode in (0, 1, 3)
    named_objects_exist(image)

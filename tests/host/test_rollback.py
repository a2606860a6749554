"""Rollback: every state of an image that history knows can be returned to, whatever the present one is like."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol import abi, change, changes, generation, journal
from memproxy_sol.change import Target
from memproxy_sol.cli import main
from memproxy_sol.ld_config import MAX_SIZE, LdConfig, Variable, decode, encode, layout_for, new
from memproxy_sol.preloads import effective
from memproxy_sol.record import RECORD_PATH
from memproxy_sol.root import Root
from tests.images import CONFIG, Image

LAYOUTS = {bits: layout_for(abi.X86, bits) for bits in (32, 64)}
BOTH = (32, 64)
GARBAGE = b"\0garbage\xff" * 100


def made(bits: int, **fields: Any) -> bytes:
    """A configuration file of somebody else."""
    return encode(dataclasses.replace(new(LAYOUTS[bits]), **fields))


def config_of(image: Image, bits: int) -> LdConfig:
    return decode((image / CONFIG[bits]).read_bytes(), layout=LAYOUTS[bits])


def files_of(image: Image) -> dict[str, Any]:
    """Everything but generations, directories, journals and the record."""
    kept = ("usr/local/lib", "var/opt/memproxy")
    snapshot = image.snapshot()
    return {name: entry for name, entry in snapshot.items() if entry[3] is not None and not name.startswith(kept)}


def nothing_is_missing(image: Image) -> None:
    """No configuration names an object that does not exist."""
    for bits in BOTH:
        path = image / CONFIG[bits]
        if path.is_file() and path.stat().st_size > MAX_SIZE:
            named = set(generation.NAMED.findall(path.read_bytes()))
            assert all((image / os.fsdecode(directory)[1:]).is_dir() for directory in named)
        elif path.is_file():
            for item in effective(path.read_bytes(), LAYOUTS[bits]).preloads:
                assert not item.name.startswith("/") or (image / item.name[1:]).exists(), item.name


@pytest.fixture
def story(image: Image) -> list[dict[str, Any]]:
    """An image after five changes, and its files before each of them and now, from the number 1 on."""
    image.write(CONFIG[32], made(32, library_path=("/lib", "/usr/lib", "/opt/lib")))
    states = [{}, files_of(image)]
    for make in (
        lambda: image.install("--bits", "32"),
        lambda: image.install(allocator="libother.so"),
        lambda: image.run("uninstall", "--bits", "64"),
        lambda: image.run("uninstall"),
        lambda: image.install(),
    ):
        assert make() == 0, image.err
        states.append(files_of(image))
    return states


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, None])
def test_every_former_state_comes_back(image: Image, story: list[dict[str, Any]], number: int | None) -> None:
    arguments = [] if number is None else [str(number)]
    assert image.run("rollback", *arguments) == 0, image.err
    assert files_of(image) == story[number or 5]
    nothing_is_missing(image)
    installed = {1: (), 2: (32,), 3: BOTH, 4: (32,), 5: (), None: ()}[number]
    assert image.run("verify") == (0 if installed else 3), image.out
    for bits in BOTH:
        assert (f"{bits}-bit" in image.out.splitlines()[-1]) == (bits in installed)
    assert image.run("rollback") == 0, "a rollback is a change like any other"
    assert files_of(image) == story[6]
    assert image.run("verify") == 0


def test_each_rollback_can_be_taken_back_from_any_state(image: Image, story: list[dict[str, Any]]) -> None:
    for number in (2, 4, 1, 3, 5, 2):
        assert image.run("rollback", str(number)) == 0, image.err
        assert files_of(image) == story[number], number
        nothing_is_missing(image)
    assert image.run("uninstall", "--purge") == 0
    assert not (image / "var/opt").exists()
    assert not (image / "usr/local/lib").exists()


def test_after_a_rollback_of_everything_purge_leaves_the_image_as_it_was(image: Image) -> None:
    before = image.snapshot()
    assert image.install() == 0
    assert image.run("rollback") == 0
    assert image.run("uninstall", "--purge") == 0
    assert image.snapshot() == before


def test_former_files_get_owner_mode_and_times_back(image: Image) -> None:
    path = image.write(CONFIG[32], made(32, library_path=("/lib", "/opt/lib")))
    os.chown(path, 0, 3)
    path.chmod(0o744)
    os.utime(path, ns=(1_500_000_000_000_000_000, 1_400_000_000_000_000_000))
    assert image.install() == 0
    assert image.run("rollback") == 0
    status = path.stat()
    assert (status.st_mode & 0o7777, status.st_gid) == (0o744, 3)
    assert status.st_mtime_ns == 1_400_000_000_000_000_000


def test_a_dry_run_tells_and_changes_nothing(installed: Image) -> None:
    before = installed.snapshot(inodes=True)
    assert installed.run("rollback", "--dry-run", "--json") == 3
    plan = json.loads(installed.out)
    assert plan["what"] == "rollback 1"
    assert f"/{CONFIG[32]}" in [step["path"] for step in plan["steps"]]
    assert [entry["after"] for entry in plan["configurations"]] == [None, None]
    assert installed.snapshot(inodes=True) == before


def test_where_there_is_nothing_to_do_nothing_is_done(installed: Image) -> None:
    assert installed.run("rollback") == 0
    assert installed.run("rollback", "1") == 0
    assert "nothing to do" in installed.out
    assert len(changes.history(Root(str(installed.path)))) == 2
    assert installed.run("rollback", "--dry-run", "1") == 0


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["7"], 2, "there is no change 7; memproxy-sol history shows them"),
        (["0"], 2, "there is no change 0"),
        (["x"], 2, "takes the number of one change"),
        (["1", "2"], 2, "takes the number of one change"),
        (["9" * 5000], 2, "takes the number of one change"),
    ],
)
def test_a_wrong_number_is_a_usage_error(installed: Image, arguments: list[str], status: int, says: str) -> None:
    assert installed.run("rollback", *arguments) == status
    assert says in installed.err


def test_without_a_change_there_is_nothing_to_return_to(image: Image) -> None:
    assert image.run("rollback") == 1
    assert "no change is known that could be taken back; memproxy-sol uninstall takes" in image.err


# What others did since.


@pytest.mark.parametrize("bits", BOTH)
def test_what_others_changed_in_a_configuration_stays_and_our_part_returns(image: Image, bits: int) -> None:
    assert image.install() == 0
    former = config_of(image, bits)
    assert image.install(allocator="libother.so") == 0
    mine = config_of(image, bits)
    theirs = dataclasses.replace(mine, library_path=("/lib", "/usr/lib", "/opt/theirs"))
    (image / CONFIG[bits]).write_bytes(encode(theirs))
    assert image.run("rollback") == 0, image.err
    assert config_of(image, bits) == dataclasses.replace(former, library_path=("/lib", "/usr/lib", "/opt/theirs"))
    assert "config-changed" in image.out
    nothing_is_missing(image)
    assert image.run("verify") == 0
    assert image.run("rollback", "1") == 0
    assert config_of(image, bits).library_path == ("/lib", "/usr/lib", "/opt/theirs")
    assert not config_of(image, bits).environment
    assert image.run("verify") == 3
    assert image.run("uninstall", "--purge") == 0
    assert config_of(image, bits).library_path == ("/lib", "/usr/lib", "/opt/theirs")


def test_a_configuration_that_somebody_removed_comes_back(installed: Image) -> None:
    assert installed.install(allocator="libother.so") == 0
    (installed / CONFIG[32]).unlink()
    assert installed.run("rollback") == 0
    assert installed.run("verify") == 0


def test_an_edited_exclusion_list_is_kept_and_an_untouched_one_goes(image: Image) -> None:
    for is_edited in (False, True):
        assert image.install() == 0
        if is_edited:
            assert main(["exclude", "add", "--root", str(image.path), "nscd"]) == 0
            image.capsys.readouterr()
        assert image.run("rollback") == 0
        assert (image / "etc/memproxy.conf").exists() == is_edited
        assert ("file-changed: /etc/memproxy.conf" in image.out) == is_edited
    assert b"nscd" in (image / "etc/memproxy.conf").read_bytes()


def test_an_edited_manifest_is_kept(installed: Image) -> None:
    path = installed / "lib/svc/manifest/site/memproxy.xml"
    path.write_bytes(path.read_bytes() + b"<!-- theirs -->")
    assert installed.run("rollback") == 0
    assert path.exists()
    assert "file-changed: /lib/svc/manifest/site/memproxy.xml" in installed.out


def test_an_object_of_others_that_is_gone_is_not_named_again(image: Image) -> None:
    """The allocator took the place of a preload of theirs, which they have deleted since."""
    other = image / "lib/libother.so"
    shutil.copy(image.objects / "libother.so", other)
    image.write(CONFIG[32], made(32, environment=(Variable.define("LD_PRELOAD_32", "/lib/libother.so", True),)))
    arguments = ["--bits", "32", "--libraries", str(image.objects), "--allocator", str(other)]
    assert image.run("install", *arguments) == 0, image.err
    assert "/lib/libother.so" not in (config_of(image, 32).environment or ())[0].text
    other.unlink()
    assert image.run("rollback") == 0
    assert "preload-object-missing" in image.out
    nothing_is_missing(image)


# The present state is bad.


def unlink_generation(image: Image) -> None:
    shutil.rmtree(image / "usr/local/lib/memproxy")


def damage_library(image: Image) -> None:
    for path in (image / "usr/local/lib/memproxy").rglob("libmemproxy.so"):
        path.write_bytes(b"damaged")


def lock_library(image: Image) -> None:
    for path in (image / "usr/local/lib/memproxy").rglob("libmemproxy.so"):
        path.chmod(0o600)


@pytest.mark.parametrize("harm", [unlink_generation, damage_library, lock_library])
def test_a_generation_that_is_gone_or_damaged_is_never_named_again(image: Image, harm: Callable[[Image], None]) -> None:
    image.write(CONFIG[32], made(32, library_path=("/lib", "/opt/lib")))
    former = (image / CONFIG[32]).read_bytes()
    assert image.install() == 0
    assert image.run("uninstall") == 0
    harm(image)
    assert image.run("rollback") == 0, image.err
    assert "generation-unusable" in image.out
    assert (image / CONFIG[32]).read_bytes() == former
    assert not (image / CONFIG[64]).exists()
    assert image.run("uninstall") == 0
    assert image.install() == 0, image.err
    assert image.run("verify") == 0


def test_nor_into_a_configuration_that_others_changed(image: Image) -> None:
    assert image.install() == 0
    former = image.generation()
    assert image.install(allocator="libother.so") == 0
    theirs = dataclasses.replace(config_of(image, 32), library_path=("/lib", "/usr/lib", "/opt/theirs"))
    (image / CONFIG[32]).write_bytes(encode(theirs))
    shutil.rmtree(former)
    assert image.run("rollback") == 0
    assert image.out.count("generation-unusable") == 2
    assert config_of(image, 32).library_path == ("/lib", "/usr/lib", "/opt/theirs")
    assert not config_of(image, 32).environment
    assert not (image / CONFIG[64]).exists()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def garbage(path: Path) -> None:
    path.write_bytes(GARBAGE)


def huge(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(17 * 1024 * 1024)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


HARM = [garbage, fifo, directory, huge, loop]
PLACES = [
    *CONFIG.values(),
    "etc/memproxy.conf",
    RECORD_PATH[1:],
    "etc/memproxy.toml",
    "lib/svc/manifest/site/memproxy.xml",
]


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", ["rollback", "uninstall", "recover"])
def test_undo_runs_whatever_is_garbage(image: Image, command: str, place: str, harm: Callable[[Path], None]) -> None:
    former = {bits: made(bits, library_path=("/lib", "/opt/lib")) for bits in BOTH}
    for bits, data in former.items():
        image.write(CONFIG[bits], data)
    assert image.install() == 0, image.err
    image.write("etc/memproxy.toml", b"")
    if command == "recover":
        cut_short(image)
    harm(image / place)
    if command == "recover":
        assert "has been taken back" in str(change.mend_unfinished(Target(Root(str(image.path)))))
    else:
        assert image.run(command) == 0, image.err
    for bits in BOTH:
        if place == CONFIG[bits]:
            if harm is garbage and command != "recover":
                assert (image / CONFIG[bits]).read_bytes() == former[bits]
                assert (image / f"{CONFIG[bits]}.damaged").read_bytes() == GARBAGE, "nothing is lost"
        else:
            assert (image / CONFIG[bits]).read_bytes() == former[bits]
    if harm is garbage and place == RECORD_PATH[1:] and command == "rollback":
        assert (image / f"{place}.damaged").read_bytes() == GARBAGE
    nothing_is_missing(image)


def cut_short(image: Image) -> None:
    """As if the last change had been killed before it was complete."""
    (path,) = (image / changes.CHANGES[1:]).iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    assert b'"complete"' in lines[-1]
    path.write_bytes(b"".join(lines[:-1]))


def test_garbage_that_was_kept_once_is_not_put_back_into_force(installed: Image) -> None:
    (installed / CONFIG[32]).write_bytes(GARBAGE)
    assert installed.run("uninstall") == 0
    assert installed.run("rollback") == 0
    assert (installed / f"{CONFIG[32]}.damaged").read_bytes() == GARBAGE
    assert "config-undecodable" in installed.out
    assert installed.run("verify") == 0, installed.out


# Journals.


def test_a_damaged_journal_is_no_obstacle(image: Image, story: list[dict[str, Any]]) -> None:
    path = image / changes.path_of(5)[1:]
    path.write_bytes(b"damaged\ndamaged\n")
    assert image.install() == 1
    assert "is damaged" in image.err
    assert image.run("rollback") == 0, image.err
    assert "journal-damaged" in image.out
    nothing_is_missing(image)
    for bits in BOTH:
        assert not (image / CONFIG[bits]).exists() or not config_of(image, bits).environment
    assert image.run("uninstall") == 0
    assert image.install() == 0, image.err
    assert image.run("verify") == 0, image.out


@pytest.mark.parametrize("command", ["uninstall", "rollback"])
def test_undo_runs_past_a_last_journal_that_is_damaged(installed: Image, command: str) -> None:
    path = installed / changes.path_of(1)[1:]
    path.write_bytes(path.read_bytes()[:-100] + b"\n" + changes.line({"begin": 5}))
    assert installed.install() == 1
    assert "is damaged" in installed.err
    assert installed.run(command) == 0
    assert "what that change did is not taken back by it" in installed.err
    for bits in BOTH:
        assert not (installed / CONFIG[bits]).exists() or not config_of(installed, bits).environment
    assert installed.install() == 0, installed.err
    assert installed.run("verify") == 0, installed.out


def test_every_damaged_journal_alone_is_no_obstacle(image: Image, story: list[dict[str, Any]]) -> None:
    for number in (1, 2, 3, 4, 5):
        path = image / changes.path_of(number)[1:]
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 3] + b"\n" + data[len(data) // 2 :])
        for wanted in (1, 2, 3, 4, 5):
            assert image.run("rollback", "--dry-run", str(wanted)) in (0, 3), image.err
            assert ("journal-damaged" in image.out) == (number >= wanted)
        path.write_bytes(data)


def test_a_rollback_that_fails_is_taken_back(installed: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: value for name, value in installed.snapshot().items() if "/changes" not in name}
    real = journal._do
    seen = []

    def fail(*arguments: Any) -> None:
        seen.append(arguments)
        if len(seen) == 4:
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(journal, "_do", fail)
    assert installed.run("rollback") == 1
    assert "the rollback 1 was taken back and nothing is changed" in installed.err
    assert {name: value for name, value in installed.snapshot().items() if "/changes" not in name} == before

"""Each way in which a Linux image can be broken gives its own finding, with a mending command that is true."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from memproxy_sol import plan_linux
from memproxy_sol.abi import MACHINES
from memproxy_sol.hosts import linux_loader
from memproxy_sol.root import MAX_READ
from tests import needs
from tests.host.test_findings import obey
from tests.linux_images import ALLOCATOR, PRELOAD, LinuxImage

Break = Callable[[LinuxImage], object]
MIMALLOC = ALLOCATOR["mimalloc"]
OTHER = b"/usr/local/lib/memproxy/0123456789abcdef/$LIB/libmemproxy.so"
TOO_LARGE = MAX_READ + 1


def member(image: LinuxImage, name: str) -> Path:
    """A path of the image; `32/` and `64/` stand for what the generation has for these ABIs."""
    return image.member(int(name[:2]), name[3:]) if name[:3] in ("32/", "64/") else image / name


def content(name: str, function: Callable[[bytes], bytes]) -> Break:
    def act(image: LinuxImage) -> None:
        path = member(image, name)
        path.write_bytes(function(path.read_bytes()))

    return act


def items(function: Callable[[list[bytes]], list[bytes]]) -> Break:
    """Rewrite the list with a change of its items."""
    return content(PRELOAD, lambda data: b" ".join(function(data.split())) + b"\n")


def mode(name: str, bits: int) -> Break:
    return lambda image: member(image, name).chmod(bits)


def owner(name: str, uid: int, gid: int = 0) -> Break:
    return lambda image: os.chown(member(image, name), uid, gid)


def remove(name: str) -> Break:
    def act(image: LinuxImage) -> None:
        path = member(image, name)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    return act


def instead(name: str, make: Callable[[Path], object]) -> Break:
    def act(image: LinuxImage) -> None:
        remove(name)(image)
        make(member(image, name))

    return act


def swap(name: str, other: str) -> Break:
    return lambda image: shutil.copy(member(image, other), member(image, name))


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


CASES: dict[str, tuple[str, Break]] = {
    # The list.
    "list removed": ("config-missing", remove(PRELOAD)),
    "list is a dangling link": ("config-missing", instead(PRELOAD, lambda path: path.symlink_to("/no/such"))),
    "list for root alone": ("config-unreadable", mode(PRELOAD, 0o600)),
    "list writable by everybody": ("config-insecure", mode(PRELOAD, 0o666)),
    "list belongs to a user": ("config-insecure", owner(PRELOAD, 1000)),
    "list writable by a group with members": (
        "config-insecure",
        lambda image: (owner(PRELOAD, 0, 4)(image), mode(PRELOAD, 0o664)(image)),
    ),
    "list is a directory": ("config-not-a-file", instead(PRELOAD, Path.mkdir)),
    "list is a FIFO": ("config-not-a-file", instead(PRELOAD, os.mkfifo)),
    "list without an end": ("config-unusable", lambda image: os.truncate(image / PRELOAD, TOO_LARGE)),
    "list emptied": ("preload-missing", content(PRELOAD, lambda data: b"")),
    "line commented out": ("preload-missing", content(PRELOAD, lambda data: b"#" + data)),
    "NUL in front": ("preload-missing", content(PRELOAD, lambda data: b"\0" + data)),
    "allocator's item removed": ("preload-missing", items(lambda found: found[:1])),
    "only the allocator left": ("preload-missing", items(lambda found: found[1:])),
    "carriage return behind": ("preload-missing", content(PRELOAD, lambda data: data.replace(b"\n", b"\r\n"))),
    "byte order mark": ("preload-missing", content(PRELOAD, lambda data: b"\xef\xbb\xbf" + data)),
    "another generation instead": ("preload-missing", items(lambda found: [OTHER])),
    "NUL between ours": ("preload-missing", content(PRELOAD, lambda data: data.replace(b" ", b"\n\0"))),
    "order turned round": ("preload-order", items(lambda found: found[::-1])),
    "a stranger between": ("preload-order", items(lambda found: [found[0], b"/usr/lib/x.so", found[1]])),
    "second generation beside": ("preload-foreign-generation", items(lambda found: [*found, OTHER])),
    "another's object that is missing": ("preload-object-missing", items(lambda found: [*found, b"/no/such.so"])),
    "somebody added a comment": ("config-changed", content(PRELOAD, lambda data: b"# x\n" + data)),
    # The libraries.
    "generation removed": ("library-missing", remove("usr/local/lib/memproxy")),
    "library removed": ("library-missing", remove("64/libmemproxy.so")),
    "allocator removed": ("library-missing", remove(f"32/{MIMALLOC}")),
    "library is a dangling link": (
        "library-missing",
        instead(f"64/{MIMALLOC}", lambda path: path.symlink_to("/no/such")),
    ),
    "library of the other ABI": ("library-wrong-class", swap("64/libmemproxy.so", "32/libmemproxy.so")),
    "library of another machine": (
        "library-wrong-machine",
        content("64/libmemproxy.so", lambda data: data[:18] + b"\xb7\0" + data[20:]),
    ),
    "program in its place": ("library-not-shared", content("32/libmemproxy.so", lambda d: d[:16] + b"\1\0" + d[18:])),
    "library is garbage": ("library-not-elf", content("64/libmemproxy.so", lambda data: b"garbage")),
    "library is empty": ("library-not-elf", content("32/libmemproxy.so", lambda data: b"")),
    "library is truncated": ("library-changed", content(f"64/{MIMALLOC}", cut)),
    "library swapped for another": ("library-changed", swap(f"64/{MIMALLOC}", "64/libmemproxy.so")),
    "library is a directory": ("library-not-a-file", instead("64/libmemproxy.so", Path.mkdir)),
    "library for root alone": ("library-unreadable", mode("64/libmemproxy.so", 0o600)),
    "library writable by everybody": ("library-insecure", mode("32/libmemproxy.so", 0o646)),
    "library belongs to a user": ("library-insecure", owner(f"64/{MIMALLOC}", 1000)),
    "library without an end": ("library-unjudged", lambda image: os.truncate(image.member(64, MIMALLOC), TOO_LARGE)),
    "directory closed to others": ("path-unsearchable", mode("usr/local/lib", 0o750)),
    "/etc closed to others": ("path-unsearchable", mode("etc", 0o700)),
    "parent writable by everybody": ("path-insecure", mode("usr/local", 0o777)),
    "parent belongs to a user": ("path-insecure", owner("usr/local/lib", 1000)),
    "file on the way": (
        "path-not-a-directory",
        instead("usr/local/lib/memproxy", lambda path: path.write_bytes(b"")),
    ),
    "loop of links": ("path-loop", instead("usr/local/lib", lambda path: path.symlink_to("lib"))),
    "stranger in the generation": (
        "generation-foreign-file",
        lambda image: (image.generation() / "libevil.so").write_bytes(b"x"),
    ),
    "what they need is gone": ("dependency-missing", lambda image: image.library("libc.so.6", 64).unlink()),
    # The runtime linkers.
    "32-bit runtime linker removed": ("linker-gone", remove("lib/ld-linux.so.2")),
    # The exclusion list and the record.
    "exclusion list removed": ("exclusions-missing", remove("etc/memproxy.conf")),
    "exclusion list for root alone": ("exclusions-unreadable", mode("etc/memproxy.conf", 0o600)),
    "exclusion list is a FIFO": ("exclusions-not-a-file", instead("etc/memproxy.conf", os.mkfifo)),
    "record removed": ("record-missing", remove("var/opt/memproxy/installed.json")),
    "record garbage": ("record-damaged", content("var/opt/memproxy/installed.json", lambda data: b"{")),
    "record edited": (
        "record-damaged",
        content("var/opt/memproxy/installed.json", lambda data: data.replace(b"libmimalloc", b"libnimalloc", 1)),
    ),
    "record is a directory": ("record-not-a-file", instead("var/opt/memproxy/installed.json", Path.mkdir)),
    "record writable by everybody": ("record-insecure", mode("var/opt/memproxy/installed.json", 0o666)),
    "journal garbage": (
        "journal-damaged",
        content("var/opt/memproxy/changes/000001.jsonl", lambda data: b"0 x\n" + data),
    ),
    "everything of ours gone": (
        "not-installed",
        lambda image: [remove(name)(image) for name in (PRELOAD, "var/opt/memproxy")],
    ),
}
HARMLESS = {
    "preload-object-missing",
    "config-changed",
    "generation-foreign-file",
    "linker-gone",
    "exclusions-missing",
}
"""Identifiers that are warnings or notes: processes are served as wanted all the same."""
BY_A_PERSON = {"path-loop", "dependency-missing"}
"""What no command of ours can mend: a loop of links that somebody made, a C library that is gone."""
NUL_BYTES = {case for case in CASES if case.startswith("NUL")}
"""Here install refuses, and tells what has to be taken out."""
MENDED = {case for case, (identifier, _) in CASES.items() if identifier not in HARMLESS | BY_A_PERSON} - NUL_BYTES


@pytest.mark.parametrize("case", sorted(CASES))
def test_each_broken_image_gives_its_own_finding(linux_installed: LinuxImage, case: str) -> None:
    image, (identifier, act) = linux_installed, CASES[case]
    act(image)
    before = image.snapshot(inodes=True)
    status = image.run("verify", "--json")
    report = json.loads(image.out)
    found = {finding["id"]: finding for finding in report["findings"]}
    assert identifier in found, found
    assert status == (0 if identifier in HARMLESS else 3)
    finding = found[identifier]
    assert finding["text"]
    assert finding["hint"] or identifier == "linker-gone"
    assert image.snapshot(inodes=True) == before, "verify never repairs"
    assert image.run("verify") == status
    assert identifier in image.out
    assert "Traceback" not in image.err


@pytest.mark.parametrize("case", sorted(MENDED))
def test_the_hint_mends_it(linux_installed: LinuxImage, case: str) -> None:
    """What the findings tell to type is typed, as far as it is a command, until verify is content."""
    image = linux_installed
    CASES[case][1](image)
    for _ in range(6):
        if image.run("verify", "--json") == 0:
            return
        errors = [f for f in json.loads(image.out)["findings"] if f["severity"] == "error"]
        assert any(obey(image, finding) for finding in errors), (errors, image.err)
    pytest.fail(image.out)


@pytest.mark.parametrize("case", sorted(NUL_BYTES))
def test_a_nul_byte_is_left_to_its_author(linux_installed: LinuxImage, case: str) -> None:
    image = linux_installed
    CASES[case][1](image)
    before = image.snapshot()
    assert image.install() == 1
    assert "take the NUL byte out" in image.err
    assert image.snapshot() == before
    image.preload((image.preload() or b"").replace(b"\0", b""))
    assert image.install() == 0, image.err
    assert image.run("verify") == 0, image.out


def test_a_healthy_image_has_no_finding(linux_installed: LinuxImage) -> None:
    assert linux_installed.run("verify", "--json") == 0
    assert json.loads(linux_installed.out)["findings"] == []


def test_a_runtime_linker_that_comes_later_is_told_and_served(linux_image: LinuxImage) -> None:
    image = linux_image
    later = image / "lib/ld-linux.so.2"
    target = os.readlink(later)
    later.unlink()
    assert image.install("--bits", "64") == 0, image.err
    assert image.run("verify", "--json") == 0
    assert json.loads(image.out)["findings"] == []
    # Where distributions have it a generation is prepared.
    later.symlink_to(target)
    assert image.run("verify", "--json") == 0
    assert image.install() == 0, image.err
    assert image.run("verify") == 0, image.out
    assert "ok: 32-bit and 64-bit" in image.out


def test_a_runtime_linker_for_which_nothing_is_prepared_is_an_error(
    linux_image: LinuxImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = linux_image
    monkeypatch.setattr(plan_linux, "LATER", {})
    later = image / "lib/ld-linux.so.2"
    target = os.readlink(later)
    later.unlink()
    assert image.install("--bits", "64") == 0, image.err
    later.symlink_to(target)
    assert image.run("verify") == 3
    assert "error: linker-unserved:" in image.out
    assert image.install() == 0, image.err
    assert image.run("verify") == 0, image.out


# Preflight.


def refused(image: LinuxImage, *arguments: str, allocator: str = "mimalloc") -> dict[str, dict[str, str]]:
    """The errors that forbid an install, by identifier; nothing was changed."""
    before = image.snapshot(inodes=True)
    assert image.install(*arguments, "--json", allocator=allocator) == 1, image.out
    found = {finding["id"]: finding for finding in json.loads(image.out)["findings"]}
    assert any(finding["severity"] == "error" for finding in found.values())
    assert image.snapshot(inodes=True) == before
    return found


REFUSED: dict[str, tuple[str, Break]] = {
    "list is a directory": ("config-unusable", lambda image: (image / PRELOAD).mkdir()),
    "list is a FIFO": ("config-unusable", lambda image: os.mkfifo(image / PRELOAD)),
    "list without an end": (
        "config-unusable",
        lambda image: (image.preload(b""), os.truncate(image / PRELOAD, TOO_LARGE)),
    ),
    "list is a dangling link": ("config-is-link", lambda image: (image / PRELOAD).symlink_to("/no/such")),
    "list is a link to a file": (
        "config-is-link",
        lambda image: (image.write("etc/real", b""), (image / PRELOAD).symlink_to("real")),
    ),
    "list is a link of a trial": (
        "config-on-trial",
        lambda image: (image / PRELOAD).symlink_to("/var/run/memproxy/trial/32-64"),
    ),
    "others' list for root alone": (
        "config-unreadable",
        lambda image: image.write(PRELOAD, b"/usr/lib/x.so\n", 0o600),
    ),
    "list writable by everybody": ("config-insecure", lambda image: image.write(PRELOAD, b"", 0o666)),
    "list of a user": ("config-insecure", lambda image: os.chown(image.write(PRELOAD, b""), 1000, 1000)),
    "/etc closed to others": ("path-unsearchable", lambda image: (image / "etc").chmod(0o700)),
    "prefix writable by everybody": ("path-insecure", lambda image: (image / "usr/local/lib").chmod(0o777)),
    "exclusion list for root alone": (
        "exclusions-unreadable",
        lambda image: image.write("etc/memproxy.conf", b"", 0o600),
    ),
    "another malloc ahead": (
        "interposer-ahead",
        lambda image: image.preload(f"/usr/$LIB/{ALLOCATOR['jemalloc']}\n".encode()),
    ),
    "another malloc ahead, by its name": (
        "interposer-ahead",
        lambda image: image.preload(f"{ALLOCATOR['tcmalloc']}\n".encode()),
    ),
    "another malloc ahead, behind a link": (
        "interposer-ahead",
        lambda image: (
            (image / "usr/lib/alias.so").symlink_to(f"/usr/{needs.loader(64).lib}/{ALLOCATOR['jemalloc']}"),
            image.preload(b"/usr/lib/alias.so\n"),
        ),
    ),
    "no C library": (
        "library-dependency",
        lambda image: [image.library("libc.so.6", bits).unlink() for bits in (32, 64)],
    ),
    "scope that would take others' preloads from users": (
        "scope-others",
        lambda image: (image.preload(b"/usr/lib/x.so\n"), image.write("etc/memproxy.toml", b'scope = "root"\n')),
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_preflight_refuses(linux_image: LinuxImage, case: str) -> None:
    identifier, act = REFUSED[case]
    act(linux_image)
    found = refused(linux_image)
    assert identifier in found, found
    assert found[identifier]["severity"] == "error"
    assert found[identifier]["hint"]


def test_preflight_refuses_a_prefix_that_does_not_last(linux_image: LinuxImage) -> None:
    for prefix in ("/tmp/x", "/run/x", "/dev/shm/x"):
        assert "prefix-not-on-root" in refused(linux_image, "--prefix", prefix)


def test_preflight_judges_the_allocators(linux_image: LinuxImage, tmp_path: Path) -> None:
    image = linux_image
    needing = tmp_path / "libneedy.so"
    source = b"void *malloc(unsigned long n); void free(void *p); int needy(void) { return 0; }\n"
    done = ["gcc", "-m64", "-shared", "-fPIC", "-x", "c", "-", "-o", str(needing), "-Wl,--no-as-needed", "-lz"]
    plain = tmp_path / "plain.so"
    subprocess.run(["gcc", "-m64", "-shared", "-fPIC", "-x", "c", "-", "-o", str(plain)], input=source, check=True)
    assert "allocator-exports" in refused(image, "--bits", "64", f"--allocator={plain}", allocator="")
    if subprocess.run(done, input=source, check=False, capture_output=True).returncode == 0:
        found = refused(image, "--bits", "64", f"--allocator={needing}", allocator="")
        assert found["allocator-dependency"]["text"].startswith("needs libz.so.1")
    program = image.library("ld-linux-x86-64.so.2", 64)
    assert refused(image, "--bits", "64", f"--allocator={program}", allocator="")


def test_preflight_tells_what_the_compilers_libraries_are_needed_for(linux_image: LinuxImage) -> None:
    image = linux_image
    assert image.install("--json", allocator="jemalloc") == 0, image.err
    found = [finding for finding in json.loads(image.out)["findings"] if finding["id"] == "allocator-needs"]
    assert {finding["severity"] for finding in found} == {"warning"}
    assert any("libstdc++.so.6" in finding["text"] for finding in found)


def test_preflight_tells_of_others_objects_that_are_missing_or_damaged(linux_image: LinuxImage) -> None:
    image = linux_image
    image.write("usr/lib/text.so", b"text")
    image.preload(b"/no/such.so /usr/lib/text.so\n")
    assert image.install("--json") == 0, image.err
    found = {finding["id"]: finding for finding in json.loads(image.out)["findings"]}
    assert found["preload-object-missing"]["severity"] == "warning"
    assert found["preload-object-damaged"]["severity"] == "warning"


def test_preflight_tells_whose_programs_are_not_reached(linux_image: LinuxImage) -> None:
    image = linux_image
    image.write("usr/lib/ld-musl-x86_64.so.1", b"")
    assert image.install() == 0, image.err
    assert "note: linker-not-reached: /lib/ld-musl-x86_64.so.1" in image.out


def test_preflight_refuses_linkers_that_share_a_directory(
    linux_image: LinuxImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No distribution does that; two linkers that were built for one directory cannot be told apart by one line."""
    monkeypatch.setattr(linux_loader, "_compiled_in", lambda data, place: "lib")
    assert "lib-not-distinct" in refused(linux_image)


@pytest.mark.parametrize("machine", sorted(set(MACHINES) - {"x86"}))
def test_a_machine_that_contradicts_the_image_is_a_mistake(linux_image: LinuxImage, machine: str) -> None:
    assert linux_image.install("--machine", machine) == 2
    assert "contradicts" in linux_image.err


def test_an_abi_that_the_image_has_not_is_refused(linux_image: LinuxImage) -> None:
    (linux_image / "lib/ld-linux.so.2").unlink()
    assert linux_image.install("--bits", "32") == 1
    assert "has no runtime linker for 32-bit programs" in linux_image.err
    assert linux_image.install() == 0, linux_image.err
    assert linux_image.run("verify") == 0, linux_image.out

"""What install refuses, each with its own finding, and that nothing has been changed then."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from memproxy_sol import abi, cross
from memproxy_sol.ld_config import Variable, encode, layout_for, new
from tests.images import CONFIG, Image

LAYOUTS = {bits: layout_for(abi.X86, bits) for bits in (32, 64)}
Prepare = Callable[[Image], object]


def allocator(image: Image, *names: str) -> list[str]:
    return [f"--allocator={image.objects / name}" for name in names]


def config(image: Image, bits: int, data: bytes) -> None:
    image.write(CONFIG[bits], data)


def preload(value: str) -> bytes:
    return encode(dataclasses.replace(new(LAYOUTS[32]), environment=(Variable.define("LD_PRELOAD", value, True),)))


def made(image: Image, name: str, source: str) -> list[str]:
    """`--allocator` of a 32-bit object that is compiled for this case."""
    directory = image.path.parent / "made"
    directory.mkdir()
    (directory / "x.c").write_text(source)
    path = directory / name
    cross.compile_shared([directory / "x.c"], 32, path, name)
    return [f"--allocator={path}"]


def patched(image: Image, offset: int, data: bytes) -> list[str]:
    """`--allocator` of the good 32-bit allocator with bytes overwritten."""
    path = image.path.parent / "liballoc.so"
    content = bytearray((image.objects / "liballoc.so").read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(bytes(content))
    return [f"--allocator={path}"]


def needing(image: Image, name: str) -> list[str]:
    """`--allocator` of the good 32-bit allocator that needs the library `name` instead of libc.so.1."""
    path = image.path.parent / "liballoc.so"
    assert len(name) == len("libc.so.1")
    path.write_bytes((image.objects / "liballoc.so").read_bytes().replace(b"libc.so.1", name.encode()))
    return [f"--allocator={path}"]


CASES: dict[str, tuple[str, Prepare]] = {
    "allocator of another machine": ("allocator-wrong-machine", lambda i: patched(i, 18, b"\x02\x00")),
    "allocator that is an executable": ("allocator-not-shared", lambda i: patched(i, 16, b"\x02\x00")),
    "allocator without malloc": ("allocator-exports", lambda i: allocator(i, "libplain.so")),
    "allocator without free": (
        "allocator-exports",
        lambda i: made(
            i,
            "liba.so",
            "void *malloc(unsigned long n) { return 0; } void *realloc(void *p, unsigned long n) { return p; }",
        ),
    ),
    "libmemproxy as allocator": ("allocator-is-proxy", lambda i: allocator(i, "libmemproxy.so")),
    "allocator needs a library that may go": ("allocator-dependency", lambda i: needing(i, "libz.so.1")),
    "allocator needs what the target has not": ("allocator-dependency", lambda i: needing(i, "libm.so.2")),
    "libc without the version": (
        "library-version",
        lambda i: (
            (i / "lib/libc.so.1").write_bytes(
                (i / "lib/libc.so.1")
                .read_bytes()
                .replace(b"SUNW_0.7", b"SUNX_0.7")
                .replace(b"SYSVABI_1.3", b"SYSVABX_1.3")
            )
            and None
        ),
    ),
    "libc of the target is damaged": ("library-dependency", lambda i: damage(i / "lib/libc.so.1")),
    "object cache": ("config-object-cache", lambda i: config(i, 32, object_cache())),
    "newer version": (
        "config-not-in-force",
        lambda i: config(i, 32, encode(new(LAYOUTS[32])).replace(b"\4\0\0\0\x08", b"\5\0\0\0\x08")),
    ),
    "64-bit file in the 32-bit place": ("config-not-in-force", lambda i: config(i, 32, encode(new(LAYOUTS[64])))),
    "garbage": ("config-not-in-force", lambda i: config(i, 32, b"x" * 40)),
    "truncated but taken": ("config-undecodable", lambda i: config(i, 32, truncated())),
    "configuration only for root": (
        "config-unreadable",
        lambda i: os.chmod(i.write(CONFIG[32], encode(new(LAYOUTS[32]))), 0o600),
    ),
    "configuration of a user": (
        "config-insecure",
        lambda i: os.chown(i.write(CONFIG[32], encode(new(LAYOUTS[32]))), 100, 0),
    ),
    "another interposer": (
        "interposer-ahead",
        lambda i: (
            shutil.copy(i.objects / "libother.so", i / "lib/libo.so"),
            config(i, 32, preload("libo.so")),
        ),
    ),
    "libc preloaded by somebody": ("interposer-ahead", lambda i: config(i, 32, preload("/lib/libc.so.1"))),
    "another's preload is missing": ("preload-object-missing", lambda i: config(i, 32, preload("/no/such.so"))),
    "another's preload is no object": (
        "preload-object-damaged",
        lambda i: (i.write("lib/libo.so", b"x"), config(i, 32, preload("libo.so"))),
    ),
    "parent writable by everybody": ("path-insecure", lambda i: (i / "usr/local").chmod(0o777)),
    "parent of a user": ("path-insecure", lambda i: os.chown(i / "usr", 100, 0)),
    "parent closed": ("path-unsearchable", lambda i: (i / "usr/local").chmod(0o700)),
    "configuration directory writable": ("path-insecure", lambda i: (i / "var/ld").chmod(0o777)),
    "prefix on a file system of its own": (
        "prefix-not-on-root",
        lambda i: (i / "etc/vfstab").write_text("/dev/dsk/x - /usr/local ufs 2 yes -\n") and None,
    ),
    "list only for root": ("exclusions-unreadable", lambda i: os.chmod(i.write("etc/memproxy.conf", b"x\n"), 0o600)),
    "list writable": ("exclusions-insecure", lambda i: os.chmod(i.write("etc/memproxy.conf", b"x\n"), 0o666)),
}


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def object_cache() -> bytes:
    """What `crle -i /nonexistent/dir` wrote (recording i-nonexistent-32)."""
    import json

    vectors = json.loads((Path(__file__).parents[1] / "data/crle/vectors.json").read_text())
    (hexadecimal,) = (v["config_hex"] for v in vectors if v["name"] == "i-nonexistent-32")
    return bytes.fromhex(hexadecimal)


def truncated() -> bytes:
    full = encode(dataclasses.replace(new(LAYOUTS[32]), library_path=("/lib", "/usr/lib", "/opt/long/library")))
    return full[:-12]


@pytest.mark.parametrize("case", sorted(CASES))
def test_refused_with_its_finding_and_nothing_changed(image: Image, case: str) -> None:
    identifier, prepare = CASES[case]
    arguments = prepare(image)
    before = image.snapshot(inodes=True)
    chosen = arguments if isinstance(arguments, list) else allocator(image, "liballoc.so")
    status = image.run("install", "--bits", "32", "--libraries", str(image.objects), *chosen)
    assert status == 1
    assert f"error: {identifier}: " in image.err, image.err
    assert "nothing has been changed" in image.err
    assert image.snapshot(inodes=True) == before
    assert image.run("plan", "--bits", "32", "--libraries", str(image.objects), *chosen, "--json") == 1
    assert f'"id": "{identifier}"' in image.out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--bits", "16"], 2, "--bits takes 32, 64 or 32,64"),
        (["--bits", "32,32"], 2, "--bits takes 32, 64 or 32,64"),
        (["--bits"], 2, "--bits"),
        (["--colour"], 2, "--colour"),
        (["extra"], 2, "see memproxy-sol install --help"),
        (["--prefix", "relative"], 2, "--prefix: 'relative' is not allowed"),
        (["--host", "plan9"], 2, "Argument of host"),
        (["--machine", "vax"], 2, "vax"),
        (["--policy", "/no/such/policy"], 1, "no such policy file"),
        (["--allocator", "/no/such.so"], 1, "/no/such.so"),
        (["--libraries", "/no/such"], 1, "/no/such/libmemproxy.so"),
    ],
)
def test_bad_arguments_are_one_sentence_on_standard_error(
    image: Image, arguments: list[str], status: int, message: str
) -> None:
    before = image.snapshot(inodes=True)
    libraries = [] if "--libraries" in arguments else ["--libraries", str(image.objects)]
    assert image.run("install", *libraries, *arguments) == status
    assert message in image.err
    assert image.err.startswith("memproxy-sol: ")
    assert image.err.count("\n") == 1
    assert image.out == ""
    assert image.snapshot(inodes=True) == before


def test_two_allocators_of_one_class_are_refused(image: Image) -> None:
    arguments = allocator(image, "liballoc.so", "libother.so")
    assert image.run("install", "--libraries", str(image.objects), *arguments) == 1
    assert "32-bit, and so is" in image.err


def test_a_foreign_file_in_the_manifests_place_is_refused(image: Image) -> None:
    image.write("lib/svc/manifest/site/memproxy.xml", b"<somebody/>")
    assert image.install() == 1
    assert "somebody else's file" in image.err
    assert not (image / CONFIG[32]).exists()


def test_a_root_that_does_not_exist_is_said_so(image: Image) -> None:
    from memproxy_sol.cli import main

    assert main(["verify", "--root", "/no/such/directory"]) == 1
    assert "/no/such/directory: no such directory" in image.capsys.readouterr().err


def test_a_library_that_is_no_libmemproxy_or_of_the_other_class_is_refused(image: Image) -> None:
    directory = image.path.parent / "libraries"
    (directory / "64").mkdir(parents=True)
    shutil.copy(image.objects / "libplain.so", directory / "libmemproxy.so")
    shutil.copy(image.objects / "libmemproxy.so", directory / "64/libmemproxy.so")
    before = image.snapshot(inodes=True)
    assert image.run("install", "--libraries", str(directory)) == 1
    assert "error: library-exports: " in image.err
    assert "error: library-wrong-class: " in image.err
    assert image.snapshot(inodes=True) == before


def test_an_allocator_that_is_too_large_is_refused(image: Image) -> None:
    path = image.path.parent / "libbig.so"
    shutil.copy(image.objects / "liballoc.so", path)
    os.truncate(path, 20 << 20)
    assert image.run("install", "--libraries", str(image.objects), f"--allocator={path}") == 1
    assert "allocator-too-large" in image.err


def test_an_allocator_without_aligned_functions_is_warned_of(image: Image) -> None:
    family = "void *malloc(unsigned long n) { return 0; } void *realloc(void *p, unsigned long n) { return p; }"
    option = made(image, "liba.so", family + " void free(void *p) {}")
    assert image.run("install", "--libraries", str(image.objects), "--bits", "32", *option) == 0
    assert "allocator-unaligned" in image.err + image.out

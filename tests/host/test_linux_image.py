"""A Linux image configured, changed by others, and put back: /etc/ld.so.preload in every situation."""

from __future__ import annotations

import json
import mmap
import os
import signal

import pytest

from memproxy_sol import placeholder
from tests import needs
from tests.linux_images import ALLOCATOR, PRELOAD, LinuxImage

MIMALLOC = ALLOCATOR["mimalloc"]


def test_both_abis_get_one_line_and_are_verified(linux_image: LinuxImage) -> None:
    image = linux_image
    assert image.install("--bits", "32,64") == 0, image.err
    assert image.preload() == image.line("libmemproxy.so", MIMALLOC)
    for bits, sub in ((32, ""), (64, "64")):
        assert image.member(bits, MIMALLOC).read_bytes() == image.library(MIMALLOC, bits).read_bytes()
        proxy = image.member(bits, "libmemproxy.so")
        assert proxy.read_bytes() == (image.objects / sub / "libmemproxy.so").read_bytes()
        assert proxy.stat().st_mode & 0o7777 == 0o644
    assert (image / PRELOAD).stat().st_mode & 0o7777 == 0o644
    assert image.run("verify") == 0, image.out
    assert "ok: 32-bit and 64-bit" in image.out


def test_a_second_install_changes_neither_bytes_nor_inodes(linux_image: LinuxImage) -> None:
    image = linux_image
    assert image.install() == 0, image.err
    before = image.snapshot(inodes=True)
    assert image.install("--bits", "32,64") == 0
    assert "nothing to do" in image.out
    assert image.snapshot(inodes=True) == before


def test_purge_leaves_the_image_as_it_was(linux_image: LinuxImage) -> None:
    image = linux_image
    before = image.snapshot()
    assert image.install() == 0, image.err
    assert image.snapshot() != before
    assert image.run("uninstall", "--purge") == 0, image.err
    assert image.snapshot() == before


def test_a_generation_that_a_process_maps_is_kept_until_it_has_ended(linux_installed: LinuxImage) -> None:
    image, generation = linux_installed, linux_installed.generation()
    with open(image.member(64, "libmemproxy.so"), "rb") as stream:
        own = mmap.mmap(stream.fileno(), 4096, prot=mmap.PROT_READ)
    ready, child = os.pipe(), os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        signal.pause()
    os.read(ready[0], 1)
    # The names in the /proc of this image: this process, which does not count, and the other.
    (image.path.parent / f"proc/{child}").symlink_to(f"/proc/{child}")
    try:
        assert image.run("uninstall", "--purge") == 0
        assert f"is kept: process {child} still maps it" in image.out
        assert generation.exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert image.run("uninstall", "--purge") == 0
    assert not generation.exists()
    assert not (image / "var/opt/memproxy").exists()
    own.close()


@pytest.mark.parametrize("first", [32, 64])
def test_one_abi_and_then_the_other(linux_image: LinuxImage, first: int) -> None:
    image, second = linux_image, 96 - first
    assert image.install("--bits", str(first)) == 0, image.err
    assert image.preload() == image.line("libmemproxy.so", MIMALLOC)
    for name in ("libmemproxy.so", MIMALLOC):
        loader = needs.loader(second)
        assert image.member(second, name).read_bytes() == placeholder.shared_object(second, loader.machine)
    assert image.run("verify") == 0, image.out
    assert f"abi-not-configured: {second}-bit" in image.out
    before = image.snapshot(inodes=True)
    assert image.install("--bits", str(first)) == 0
    assert image.snapshot(inodes=True) == before
    assert image.install("--bits", str(second)) == 0, image.err
    assert image.run("verify") == 0, image.out
    assert "ok: 32-bit and 64-bit" in image.out
    for bits, sub in ((32, ""), (64, "64")):
        image.path_of_line(bits, "libmemproxy.so", image.objects / sub / "libmemproxy.so")
        image.path_of_line(bits, MIMALLOC, image.library(MIMALLOC, bits))


def test_another_allocator_is_another_generation(linux_installed: LinuxImage) -> None:
    image, former = linux_installed, linux_installed.preload()
    generation = image.generation()
    assert image.install(allocator="jemalloc") == 0, image.err
    assert image.preload() not in (None, former)
    assert generation.exists(), "processes still map it"
    for bits in (32, 64):
        image.path_of_line(bits, ALLOCATOR["jemalloc"], image.library(ALLOCATOR["jemalloc"], bits))
    assert image.run("verify") == 0, image.out
    assert image.run("rollback") == 0, image.err
    assert image.preload() == former
    assert image.run("verify") == 0, image.out
    assert image.run("rollback", "1") == 0, image.err
    assert image.preload() is None
    assert image.run("history") == 0
    assert [word in image.out for word in ("install", "rollback 2", "rollback 1")] == [True] * 3


def test_the_whole_way_with_different_file_names(linux_image: LinuxImage) -> None:
    image, before = linux_image, linux_image.snapshot()
    names = {32: ALLOCATOR["jemalloc"], 64: MIMALLOC}
    chosen = [f"--allocator={image.library(name, bits)}" for bits, name in names.items()]
    assert image.install(*chosen, allocator="") == 0, image.err
    assert image.preload() == image.line("libmemproxy.so", "liballocator.so")
    for bits, name in names.items():
        image.path_of_line(bits, "liballocator.so", image.library(name, bits))
    assert image.run("verify") == 0, image.out
    inodes = image.snapshot(inodes=True)
    assert image.install(*chosen, allocator="") == 0, image.err
    assert image.snapshot(inodes=True) == inodes
    # What nobody names stays the installed one.
    assert image.install(allocator="") == 0, image.err
    assert image.snapshot(inodes=True) == inodes
    assert image.run("uninstall", "--purge") == 0
    assert image.snapshot() == before


def test_without_an_allocator(linux_image: LinuxImage) -> None:
    image = linux_image
    assert image.install("--without-allocator", allocator="") == 0, image.err
    assert "no-allocator" in image.out
    assert image.preload() == image.line("libmemproxy.so")
    assert image.run("verify") == 0, image.out


def test_plan_tells_and_changes_nothing(linux_image: LinuxImage) -> None:
    image = linux_image
    image.preload(b"/opt/others.so\n")
    before = image.snapshot(inodes=True)
    arguments = [f"--allocator={image.library(MIMALLOC, bits)}" for bits in (32, 64)]
    assert image.run("plan", "--libraries", str(image.objects), *arguments, "--json") == 3
    told = json.loads(image.out)
    (configuration,) = told["configurations"]
    assert configuration["abis"] == [32, 64]
    assert configuration["before"] == {"text": "/opt/others.so\n"}
    assert configuration["after"]["text"].startswith("/opt/others.so\n/usr/local/lib/memproxy/")
    assert image.run("plan", "--libraries", str(image.objects), *arguments) == 3
    assert "\n  + /usr/local/lib/memproxy/" in image.out
    assert image.snapshot(inodes=True) == before


def test_status_and_rescue_of_an_image(linux_installed: LinuxImage) -> None:
    image = linux_installed
    assert image.run("status") == 0, image.err
    assert MIMALLOC in image.out
    assert image.run("rescue") == 0
    assert image.out.encode() == (image / "etc/memproxy-rescue.txt").read_bytes()

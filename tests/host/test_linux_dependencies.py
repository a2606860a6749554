"""What an allocator of a distribution needs: told before, and told when it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from memproxy_sol import placeholder, plan_linux
from tests import needs
from tests.linux_images import ALLOCATOR, LinuxImage


def test_a_library_that_is_removed_afterwards_is_an_error(linux_image: LinuxImage) -> None:
    image = linux_image
    assert image.install(allocator="jemalloc") == 0, image.err
    assert "warning: allocator-needs: " in image.out
    assert "needs libstdc++.so.6: without it no 32-bit program starts any more" in image.out
    assert image.run("verify") == 0, image.out
    image.library("libstdc++.so.6", 32).unlink()
    assert image.run("verify") == 3
    assert image.out.count("error: dependency-missing: ") == 1
    assert "needs libstdc++.so.6, which is not there: no 32-bit program starts" in image.out


def test_one_that_is_not_there_before_is_refused(linux_image: LinuxImage) -> None:
    image = linux_image
    image.library("libgcc_s.so.1", 64).unlink()
    assert image.install(allocator="jemalloc") == 1
    assert "error: allocator-dependency: " in image.err
    assert "needs libgcc_s.so.1, which the target has not" in image.err
    assert image.preload() is None


def without_32_bit(image: LinuxImage) -> Path:
    """Take the 32-bit runtime linker away; where it was."""
    loader = image.path / needs.loader(32).path[1:]
    loader.rename(loader.with_name("away"))
    return loader


def test_a_runtime_linker_that_comes_later_finds_something(linux_image: LinuxImage) -> None:
    image = linux_image
    loader = without_32_bit(image)
    allocator = str(image.library(ALLOCATOR["mimalloc"], 64))
    assert image.install("--allocator", allocator, allocator="") == 0, image.err
    loader.with_name("away").rename(loader)
    assert image.run("verify") == 0, image.out
    assert "note: abi-not-configured: 32-bit" in image.out
    assert image.member(32, "libmemproxy.so").read_bytes() == placeholder.shared_object(32, 3)


def test_where_it_finds_nothing_that_is_an_error(linux_image: LinuxImage, monkeypatch: pytest.MonkeyPatch) -> None:
    image = linux_image
    monkeypatch.setattr(plan_linux, "LATER", {})  # a distribution that lays its libraries out otherwise
    loader = without_32_bit(image)
    allocator = str(image.library(ALLOCATOR["mimalloc"], 64))
    assert image.install("--allocator", allocator, allocator="") == 0, image.err
    loader.with_name("away").rename(loader)
    assert image.run("verify") == 3
    assert "error: linker-unserved: " in image.out
    assert image.run("install", "--libraries", str(image.objects)) == 0, image.err
    assert image.run("verify") == 0, image.out


def test_a_runtime_linker_that_goes_takes_nothing_else_along(linux_image: LinuxImage) -> None:
    image = linux_image
    assert image.install() == 0, image.err
    without_32_bit(image)
    assert image.run("verify") == 0, image.out
    assert "note: linker-gone" in image.out
    assert image.run("status") == 0, image.err
    libraries = ("--libraries", str(image.objects))
    assert image.run("install", *libraries, "--without-allocator") == 0, image.err
    assert image.run("verify") == 0, image.out
    assert image.run("rollback") == 0, image.err
    assert image.run("verify") == 0, image.out
    assert image.run("install", *libraries) == 0, image.err
    assert image.run("uninstall") == 0, image.err
    assert image.preload() is None

"""What an allocator of a distribution needs: told before, and told when it is gone."""

from __future__ import annotations

from tests.linux_images import LinuxImage


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

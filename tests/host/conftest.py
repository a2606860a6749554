"""A Solaris image with the real cross-built objects in it, and a Linux root with this machine's own libraries."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from memproxy_sol import elf, processes
from tests.host import live as lives
from tests.host.live import Live
from tests.host.objects import build_objects
from tests.images import Image, furnish
from tests.linux_images import LinuxImage, collect_distribution, collect_libraries, read_once
from tests.linux_images import furnish as furnish_linux


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with libmemproxy.so, liballoc.so and libc.so.1 for Solaris x86, 64-bit ones in `64`."""
    top = tmp_path_factory.mktemp("objects")
    build_objects(top)
    return top


@pytest.fixture
def image(tmp_path: Path, objects: Path, capsys: pytest.CaptureFixture[str]) -> Image:
    """A furnished image of OpenIndiana."""
    path = tmp_path / "image"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    furnish(path, objects)
    return Image(path, objects, capsys)


@pytest.fixture
def empty(tmp_path: Path, objects: Path, capsys: pytest.CaptureFixture[str]) -> Image:
    """An empty directory."""
    path = tmp_path / "empty"
    path.mkdir(mode=0o755)
    return Image(path, objects, capsys)


@pytest.fixture
def installed(image: Image) -> Image:
    """A furnished image with memproxy installed for both ABIs."""
    assert image.install() == 0, image.err
    return image


@pytest.fixture
def live(tmp_path: Path, objects: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Live:
    """A furnished laboratory in the place of the running system."""
    return lives.build(tmp_path / "live", objects, capsys, monkeypatch)


@pytest.fixture(scope="session")
def linux_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libmemproxy.so of this machine for both ABIs, as `memproxy-sol build` leaves it."""
    return collect_libraries(tmp_path_factory.mktemp("libraries"))


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime linkers, C libraries and allocators of this machine."""
    return collect_distribution(tmp_path_factory.mktemp("distribution"))


@pytest.fixture
def linux_image(
    tmp_path: Path,
    distribution: Path,
    linux_libraries: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> LinuxImage:
    """A furnished Linux root.

    Whether a process maps its generations is asked of this process alone: in a container there may be others that
    nobody may look at, and then a purge rightly keeps everything.
    """
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    monkeypatch.setattr(processes, "processes_that_map", partial(processes.processes_that_map, proc=str(proc)))
    monkeypatch.setattr(elf, "read", read_once)
    path = tmp_path / "linux"
    path.mkdir(mode=0o755)
    furnish_linux(path, distribution)
    return LinuxImage(path, linux_libraries, capsys)


@pytest.fixture
def linux_installed(linux_image: LinuxImage) -> LinuxImage:
    """A furnished Linux root with memproxy installed for both ABIs."""
    assert linux_image.install() == 0, linux_image.err
    return linux_image

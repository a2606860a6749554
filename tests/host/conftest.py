"""A Solaris image as a mounted boot environment looks, with the real cross-built objects in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host import live as lives
from tests.host.live import Live
from tests.host.objects import build_objects
from tests.images import Image, furnish


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

"""A Solaris image as a mounted boot environment looks, with the real cross-built objects in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memproxy_sol import build, cross, resources, tools
from tests.host import live as lives
from tests.host.live import Live
from tests.images import Image, furnish


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with libmemproxy.so, liballoc.so and libc.so.1 for Solaris x86, 64-bit ones in `64`."""
    top = tmp_path_factory.mktemp("objects")
    proxies = build.cached("solaris", (32, 64))
    source = resources.native_sources() / "examples" / "bump_allocator.c"
    for bits, directory in ((32, top), (64, top / "64")):
        directory.mkdir(exist_ok=True)
        shutil.copy(proxies[bits], directory / "libmemproxy.so")
        cross.compile_shared([source], bits, directory / "liballoc.so", "liballoc.so")
        cross.compile_shared([source], bits, directory / "libother.so", "libother.so", flags=["-O1"])
        cross.compile_shared([Path(__file__).with_name("plain.c")], bits, directory / "libplain.so", "libplain.so")
        work = tmp_path_factory.mktemp(f"libc{bits}")
        runner = tools.Runner(work / "log", tools.environment(), tools.silent, f"libc{bits}")
        cross.Toolchain(work / "tools", bits, cross.find_compiler(), runner, resources.solaris_sysroot())
        shutil.copy(work / "tools" / "libc.so", directory / "libc.so.1")
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

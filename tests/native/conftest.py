"""The library as a user builds it by hand, for both ABIs, and what it takes to run programs under it.

`library(bits)` gives a copy of libmemproxy.so that reads its own exclusion list: the path that is compiled in is longer
than any other and is overwritten in the copy, so that tests can run side by side and never touch /etc.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import pytest
from proxied import (
    LIST_PATH,
    NATIVE,
    PROGRAMS,
    Installed,
    Outcome,
    build_by_hand,
    clean_environment,
    libraries,
    must,
    once,
    run_under,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has reports tell the ABI of each test: plants.py wants a verdict for both."""
    for item in items:
        bits = getattr(getattr(item, "callspec", None), "params", {}).get("bits")
        if bits is not None:
            item.user_properties.append(("bits", bits))


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all workers of a test run."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def built(shared_directory: Path) -> dict[int, Path]:
    """The installed libraries by bits, their list's path being LIST_PATH; or those in MEMPROXY_TEST_LIBRARIES."""
    given = os.environ.get("MEMPROXY_TEST_LIBRARIES")
    if given:
        return libraries(Path(given))

    def make(directory: Path) -> None:
        build_by_hand(directory, ["--enable-werror"])

    directory = once(shared_directory / "native-build", make)
    return libraries(directory)


@pytest.fixture
def library(built: dict[int, Path], tmp_path: Path) -> Callable[[int], Installed]:
    """`library(bits)`: a copy with its own exclusion list, which does not exist yet, alone in a directory."""

    def copy(bits: int, directory: Path | None = None) -> Installed:
        place = directory or tmp_path / f"proxy{bits}"
        place.mkdir(exist_ok=True)
        list_path = tmp_path / f"list{bits}.conf"
        text = os.fsencode(list_path)
        old = os.fsencode(LIST_PATH)
        assert len(text) <= len(old)
        data = built[bits].read_bytes()
        assert data.count(old + b"\0") == 1
        target = place / "libmemproxy.so"
        # A path may begin with any number of slashes.
        target.write_bytes(data.replace(old + b"\0", b"/" * (len(old) - len(text)) + text + b"\0"))
        target.chmod(0o755)
        return Installed(target, list_path)

    return copy


@pytest.fixture(scope="session")
def compile(shared_directory: Path) -> Callable[..., Path]:
    """`compile(source, bits, *flags, name=None)`: a program, or with -shared a library, from a file in programs/.

    Compiled once for each combination; C++ by the name's suffix.
    """
    place = shared_directory / "native-programs"
    place.mkdir(exist_ok=True)

    def run(source: str | Path, bits: int, *flags: str, name: str | None = None) -> Path:
        path = Path(source) if os.path.isabs(source) else PROGRAMS / source
        key = hashlib.sha256(repr((path.read_bytes(), bits, flags, name)).encode()).hexdigest()[:16]

        def make(directory: Path) -> None:
            compiler = "g++" if path.suffix == ".cc" else "gcc"
            target = directory / (name or (f"{path.stem}.so" if "-shared" in flags else path.stem))
            general = [f"-m{bits}", "-O1", "-g0", "-fno-builtin", "-w", "-pthread", "-fPIC"]
            must([compiler, *general, path, "-o", target, *flags], env=clean_environment())
            (directory / "target").symlink_to(target.name)

        directory = once(place / key, make)
        return directory / os.readlink(directory / "target")

    return run


@pytest.fixture
def run() -> Callable[..., Outcome]:
    """The function run_under, for tests that take everything else from fixtures."""
    return run_under


@pytest.fixture
def served(compile: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """`served(bits, preload, **options)`: the report of native/served.c."""

    def report(bits: int, preload: Sequence[object], **options: Any) -> dict[str, Any]:
        program = compile(NATIVE / "served.c", bits)
        outcome = run_under([program], preload, **options)
        assert outcome.json is not None, outcome.output
        return dict(outcome.json)

    return report

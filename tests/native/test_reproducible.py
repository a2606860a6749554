"""The tarball of `make dist`, built elsewhere and without autotools, gives the same bytes as the checkout.

Elsewhere means: another directory, time, time zone, locale, umask and number of jobs; the list's path otherwise given.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from proxied import LIST_PATH, both_abis, clean_environment, must


@pytest.fixture(scope="module")
def tarball(built: dict[int, Path]) -> Path:
    """What `make dist` makes of the fixture's build."""
    place = built[64].parents[2] / "build64"
    must(["make", "dist"], cwd=place, env=clean_environment())
    (made,) = place.glob("memproxy-*.tar.gz")
    return made


def everything(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and contents of each file below a directory."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Another user's environment, in which whoever calls a program of autotools leaves the file `called`."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    names = {name.name for directory in os.get_exec_path() for name in Path(directory).glob("a*") if os.access(name, 1)}
    names = {name for name in names if name.startswith(("auto", "aclocal"))} | {"autoconf", "automake", "aclocal", "m4"}
    for name in names:
        (stubs / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/called\nexit 1\n")
        (stubs / name).chmod(0o755)
    environment = clean_environment()
    environment |= {"PATH": f"{stubs}:{environment['PATH']}", "TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8"}
    return environment | {"SOURCE_DATE_EPOCH": "86400", "USER": "somebody", "HOME": str(tmp_path)}


@both_abis
def test_the_tarball_gives_the_same_bytes_and_can_be_taken_away_again(
    tarball: Path, built: dict[int, Path], tmp_path: Path, bits: int
) -> None:
    environment = elsewhere(tmp_path)
    with tarfile.open(tarball) as archive:
        archive.extractall(tmp_path)
    (sources,) = tmp_path.glob("memproxy-*")
    for path in [sources, *sources.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o555)
    before = everything(sources)
    place = tmp_path / "another" / "place"
    place.mkdir(parents=True)
    options = [f"CXXFLAGS=-m{bits}", f"--with-list={LIST_PATH}", "--prefix=/opt/elsewhere"]
    umask = os.umask(0o077)
    try:
        must([sources / "configure", *options], cwd=place, env=environment)
        must(["make", "-j3", "check"], cwd=place, env=environment)
        must(["make", "install-strip", f"DESTDIR={tmp_path}/stage"], cwd=place, env=environment)
    finally:
        os.umask(umask)
    library = tmp_path / "stage/opt/elsewhere/lib/libmemproxy.so"
    assert library.read_bytes() == built[bits].read_bytes()
    assert library.stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "stage/opt/elsewhere/include/memproxy.h").exists()

    must(["make", "uninstall", f"DESTDIR={tmp_path}/stage"], cwd=place, env=environment)
    assert everything(tmp_path / "stage") == {}
    must(["make", "distclean"], cwd=place, env=environment)
    assert everything(place) == {}
    assert everything(sources) == before
    assert not (tmp_path / "called").exists()


def test_the_tarball_has_what_is_needed_and_no_more(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"configure", "names.def", "memproxy.h", "check-routes.sh", "examples/bump_allocator.c"} <= names
    assert not [name for name in names if name.startswith(("fuzz", "sysroot", "autom4te")) or name.endswith(".o")]


@both_abis
def test_debugging_information_does_not_tell_the_directory(built: dict[int, Path], tmp_path: Path, bits: int) -> None:
    """It would change the build-id, which stays in the stripped object."""
    makefile = (built[bits].parents[2] / f"build{bits}" / "Makefile").read_text()
    assert "-ffile-prefix-map=$(srcdir)/= -ffile-prefix-map=$(abs_builddir)=." in makefile
    place = built[bits].parents[2] / f"build{bits}"
    for number, directory in enumerate((tmp_path / "a", tmp_path / "b" / "c")):
        directory.mkdir(parents=True)
        source = os.path.relpath(place.parent / "source", directory)
        mapped = [f"-ffile-prefix-map={source}/=", f"-ffile-prefix-map={directory}=."]
        command = ["g++", f"-m{bits}", "-g", "-O2", *mapped, "-c", f"{source}/debug.cc", "-o", tmp_path / f"{number}.o"]
        must(command, cwd=directory, env=clean_environment())
    assert (tmp_path / "0.o").read_bytes() == (tmp_path / "1.o").read_bytes()

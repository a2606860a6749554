"""Where the files that are not Python lie: in the package of an installed wheel, else beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from memproxy_sol.errors import HostError

_PACKAGE = Path(__file__).resolve().parent


def _directory(name: str) -> Path:
    for directory in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if directory.is_dir():
            return directory
    raise HostError(
        f"this installation of memproxy-sol has no {name} files", where=str(_PACKAGE), hint="install the package again"
    )


def native_sources() -> Path:
    """The directory with configure.ac, the C++ sources and `sysroot/`; HostError if the installation lacks it."""
    return _directory("native")


def installed(directory: Path) -> bool:
    """Whether `directory` lies in the installed package; then the times of its files say nothing about their order."""
    return _PACKAGE in directory.parents


def solaris_sysroot() -> Path:
    """The directory with `include/` and `libc-symbols.tsv`, for objects that Solaris loads; HostError if absent."""
    return native_sources() / "sysroot" / "solaris"


def smf_manifest() -> Path:
    """The SMF manifest `memproxy.xml`; HostError if the installation lacks it."""
    return _directory("smf") / "memproxy.xml"

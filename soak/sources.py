"""Which sources the compile workload compiles: files of gcc's own source package, chosen by a fixed seed."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """Files of one sort."""

    pattern: str
    count: int

    def matches(self, name: str) -> bool:
        """Is `name`, a path below the tree's top, one of them?"""
        # Those that ask for as much as the compiler can do would measure its limits, not ours.
        return re.fullmatch(self.pattern, name) is not None and "limits" not in name


@dataclass(frozen=True)
class Sources:
    """A tree of sources."""

    package: str
    archive: str
    """Where the package has it."""
    seed: int
    kinds: tuple[Kind, ...]
    headers: tuple[str, ...]
    """Directories and files that are unpacked whole."""


TORTURE = r"gcc/testsuite/gcc\.c-torture"
SOURCES = Sources(
    package="gcc-12-source",
    archive="usr/src/gcc-12/gcc-12*.tar.xz",
    seed=20261121,
    kinds=(
        Kind(TORTURE + r"/compile/[^/]+\.c", 700),
        Kind(TORTURE + r"/execute/[^/]+\.c", 500),
        Kind(r"gcc/testsuite/gcc\.dg/(torture|tree-ssa|vect)/[^/]+\.c", 450),
        Kind(r"gcc/testsuite/g\+\+\.dg/(template|opt|torture|cpp1y|cpp2a)/[^/]+\.C", 250),
        Kind(r"libstdc\+\+-v3/testsuite/2[0-8]_[a-z]+/.*\.cc", 100),
    ),
    headers=(
        "gcc/testsuite/gcc.dg/vect/tree-vect.h",
        "gcc/testsuite/gcc.dg/tree-ssa/",
        "libstdc++-v3/testsuite/util/",
    ),
)

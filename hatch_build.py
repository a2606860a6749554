"""Puts into a wheel or source distribution what an installed package needs beside its Python: the sources of the
native library with a generated `configure`, and the SMF manifest.

The generated files are made in a temporary copy, never in the checkout. A source distribution carries them, so
that making a wheel from it needs no autotools.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from pathspec import GitIgnoreSpec


class NativeSourcesHook(BuildHookInterface):  # type: ignore[misc, type-arg]
    """The build hook that hatchling finds in this file."""

    _scratch: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel" and version == "editable":
            return  # the package finds native/ and smf/ beside itself
        root = Path(self.root)
        self._scratch = tempfile.mkdtemp(prefix="memproxy-sol-")
        native = Path(self._scratch, "native")
        copy_sources(root, "native", native)
        sources = set(files_below(native))
        if not (root / "PKG-INFO").exists():
            generate_configure(native)
        if self.target_name == "wheel":
            smf = Path(self._scratch, "smf")
            copy_sources(root, "smf", smf)
            build_data["force_include"][str(smf)] = "memproxy_sol/_data/smf"
            build_data["force_include"][str(native)] = "memproxy_sol/_data/native"
        else:
            for file in set(files_below(native)) - sources:
                build_data["force_include"][str(file)] = f"native/{file.relative_to(native).as_posix()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def files_below(directory: Path) -> list[Path]:
    """Every file below `directory`, in a fixed order."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def copy_sources(root: Path, folder: str, destination: Path) -> None:
    """Copy `root/folder` without what git ignores: a developer may have built there by hand.

    A source distribution carries generated files, which are the ones to take; it is known by its PKG-INFO.
    """
    ignored = GitIgnoreSpec.from_lines([])
    if not (root / "PKG-INFO").exists():
        ignored = GitIgnoreSpec.from_lines((root / ".gitignore").read_text().splitlines())
    for file in files_below(root / folder):
        name = file.relative_to(root)
        if not ignored.match_file(name.as_posix()):
            target = destination / name.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)


def generate_configure(native: Path) -> None:
    """Run autoreconf in `native`; RuntimeError says what is missing.

    Twice: whether the first run sees libtool's macros, which it has just put into m4/, depends on the clock's second,
    and Makefile.in with it. The second run always gives the same.
    """
    for _ in range(2):
        try:
            done = subprocess.run(["autoreconf", "-fi"], cwd=native, capture_output=True, text=True)
        except FileNotFoundError:
            raise RuntimeError("autoreconf is missing: install autoconf, automake and libtool") from None
        if done.returncode != 0:
            raise RuntimeError(f"autoreconf -fi failed:\n{done.stdout}{done.stderr}")
        shutil.rmtree(native / "autom4te.cache", ignore_errors=True)

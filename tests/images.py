"""Image: a scratch Solaris root as a mounted boot environment looks, and the commands on it."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from memproxy_sol.cli import main

CONFIG = {32: "var/ld/ld.config", 64: "var/ld/64/ld.config"}


class Image:
    """A scratch Solaris root and the commands on it."""

    def __init__(self, path: Path, objects: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.objects = objects
        self.capsys = capsys
        self.out = ""
        self.err = ""

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def run(self, command: str, *arguments: str) -> int:
        """`memproxy-sol COMMAND --root IMAGE ARGUMENTS`; what it printed is in `out` and `err`."""
        status = main([command, "--root", str(self.path), *arguments])
        self.out, self.err = self.capsys.readouterr()
        return status

    def install(self, *arguments: str, allocator: str = "liballoc.so") -> int:
        """Install with the cross-built libraries and an allocator for both ABIs."""
        allocators: list[str] = []
        for directory in (self.objects, self.objects / "64"):
            allocators += ["--allocator", str(directory / allocator)] if allocator else []
        return self.run("install", "--libraries", str(self.objects), *allocators, *arguments)

    def write(self, name: str, data: bytes, mode: int = 0o644) -> Path:
        """A file of the image, its directories made."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def generation(self) -> Path:
        """The only generation's directory."""
        (found,) = (self.path / "usr/local/lib/memproxy").iterdir()
        return found

    def snapshot(self, inodes: bool = False) -> dict[str, tuple[Any, ...]]:
        """Everything below the image: kind, mode, owner, group, content (and inode, modification time)."""
        found: dict[str, tuple[Any, ...]] = {}
        for top, directories, files in os.walk(self.path):
            for name in (*directories, *files, "."):
                path = os.path.join(top, name)
                status = os.lstat(path)
                content: Any = None
                if stat.S_ISREG(status.st_mode):
                    content = Path(path).read_bytes()
                elif stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                entry: tuple[Any, ...] = (status.st_mode, status.st_uid, status.st_gid, content)
                if inodes:
                    entry += (status.st_ino, status.st_mtime_ns)
                found[os.path.relpath(path, self.path)] = entry
        return found


def furnish(path: Path, objects: Path, release: str = "  OpenIndiana Hipster 2024.04 X86\n") -> None:
    """What a mounted boot environment of x86 has, as far as anything here looks at it."""
    for directory in (
        "etc/svc/profile/site",
        "lib/64",
        "lib/svc/manifest/site",
        "usr/lib/64",
        "usr/local/bin",
        "var/ld/64",
    ):
        (path / directory).mkdir(parents=True)
    (path / "var/svc/manifest/site").mkdir(parents=True)
    (path / "etc/release").write_text(release)
    (path / "etc/passwd").write_text(
        "root:x:0:0:Super-User:/root:/bin/sh\nadm:x:4:4:Admin:/var/adm:\njoe:x:100:10::/:\n"
    )
    (path / "etc/group").write_text(
        "root::0:\nother::1:root\nbin::2:root,daemon\nsys::3:root,bin,adm\nstaff::10:\nalone::77:\n"
    )
    (path / "etc/vfstab").write_text("#device\n/dev/dsk/x\t-\t/\tzfs\t-\tno\t-\nswap\t-\t/tmp\ttmpfs\t-\tyes\t-\n")
    shutil.copy(objects / "libc.so.1", path / "lib/libc.so.1")
    shutil.copy(objects / "64" / "libc.so.1", path / "lib/64/libc.so.1")
    shutil.copy(objects / "libplain.so", path / "lib/libplain.so")
    shutil.copy(objects / "64" / "libplain.so", path / "lib/64/libplain.so")
    program = path / "usr/local/bin/memproxy-sol"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for top, directories, files in os.walk(path):
        for name in (*directories, *files):
            os.chown(os.path.join(top, name), 0, 0, follow_symlinks=False)

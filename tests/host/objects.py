"""The real objects of the images and laboratories: cross-built for Solaris x86, both ABIs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from memproxy_sol import build, cross, resources, tools


def build_objects(top: Path) -> None:
    """Put libmemproxy.so, liballoc.so, libother.so, libplain.so and libc.so.1 into `top`, 64-bit ones into `64`."""
    proxies = build.cached("solaris", (32, 64))
    source = resources.native_sources() / "examples" / "bump_allocator.c"
    for bits, directory in ((32, top), (64, top / "64")):
        directory.mkdir(exist_ok=True)
        shutil.copy(proxies[bits], directory / "libmemproxy.so")
        cross.compile_shared([source], bits, directory / "liballoc.so", "liballoc.so")
        cross.compile_shared([source], bits, directory / "libother.so", "libother.so", flags=["-O1"])
        cross.compile_shared([Path(__file__).with_name("plain.c")], bits, directory / "libplain.so", "libplain.so")
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            runner = tools.Runner(work / "log", tools.environment(), tools.silent, f"libc{bits}")
            cross.Toolchain(work / "tools", bits, cross.find_compiler(), runner, resources.solaris_sysroot())
            shutil.copy(work / "tools" / "libc.so", directory / "libc.so.1")

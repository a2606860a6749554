"""The images in which everything runs: a Debian 12 for each ABI, with programs, allocators and a tree to compile.

They are made once, below build/soak, by debootstrap; nothing is ever written to them afterwards (see room.py).
"""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memproxy_sol.errors import MemproxyError
from soak.sources import Sources

PLACE = Path("build/soak")
MIRROR = "http://deb.debian.org/debian"
RELEASE = "bookworm"
ARCHITECTURES = {64: "amd64", 32: "i386"}
PACKAGES = (
    "ca-certificates,gcc,g++,make,python3,libpython3.11-testsuite,stress-ng,"
    "libjemalloc2,libmimalloc2.0,libtcmalloc-minimal4,libgoogle-perftools4,libtbbmalloc2"
)
UNPACKED = "libclang-rt-14-dev"
"""Its Scudo alone is wanted, not what it depends on."""
VERSIONS = (
    "libc6",
    "gcc-12",
    "python3.11",
    "stress-ng",
    "libjemalloc2",
    "libmimalloc2.0",
    "libtcmalloc-minimal4",
    "libgoogle-perftools4",
    "libtbbmalloc2",
)
USER = 4242
"""Who runs the workloads."""

TRIPLETS = {64: "x86_64-linux-gnu", 32: "i386-linux-gnu"}
MACHINES = {64: "x86_64", 32: "i386"}
ALLOCATORS = {
    "jemalloc": "/usr/lib/{triplet}/libjemalloc.so.2",
    "mimalloc": "/usr/lib/{triplet}/libmimalloc.so.2",
    "tcmalloc": "/usr/lib/{triplet}/libtcmalloc.so.4",
    "tcmalloc_minimal": "/usr/lib/{triplet}/libtcmalloc_minimal.so.4",
    "tbbmalloc": "/usr/lib/{triplet}/libtbbmalloc_proxy.so.2",
    "scudo": "/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.scudo_standalone-{machine}.so",
}


@dataclass(frozen=True)
class Image:
    """One ABI's Debian."""

    bits: int
    root: Path
    identity: str
    """Of its packages and of the tree: what a result is the result of."""
    versions: tuple[str, ...]

    def allocator(self, name: str) -> str | None:
        """The path of an allocator inside the image; None if Debian has none of that name for this ABI."""
        path = ALLOCATORS[name].format(triplet=TRIPLETS[self.bits], machine=MACHINES[self.bits])
        return path if (self.root / path.lstrip("/")).exists() else None


def command(words: Sequence[object], **options: object) -> str:
    """Run a tool; return what it printed. MemproxyError with the end of that if it fails."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode != 0:
        raise MemproxyError(f"{' '.join(map(str, words))} failed:\n{done.stdout[-2000:]}")
    return str(done.stdout)


def image(bits: int, sources: Sources) -> Image:
    """The image of an ABI, made if it is not there yet. MemproxyError if it cannot be made."""
    root = (PLACE / f"image-{bits}").resolve()
    complete = PLACE / f"image-{bits}.complete"
    wanted = hashlib.sha256(repr((PACKAGES, UNPACKED, USER, MIRROR, RELEASE, sources)).encode()).hexdigest()
    if not complete.exists() or complete.read_text() != wanted:
        complete.unlink(missing_ok=True)
        _make(bits, root, sources)
        complete.write_text(wanted)
    packages = command(["chroot", root, "dpkg-query", "-W", "-f", "${binary:Package} ${Version}\n"])
    versions = tuple(line for line in packages.splitlines() if line.split(" ")[0].split(":")[0] in VERSIONS)
    return Image(bits, root, hashlib.sha256((wanted + packages).encode()).hexdigest()[:12], versions)


def _make(bits: int, root: Path, sources: Sources) -> None:
    if shutil.which("debootstrap") is None:
        raise MemproxyError("there is no debootstrap here", hint="install the Debian package debootstrap")
    if root.exists():
        shutil.rmtree(root)
    cache = (PLACE / "packages").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    print(f"making a Debian {RELEASE} for {ARCHITECTURES[bits]} in {root} (a few minutes)", flush=True)
    options = ["--variant=minbase", f"--arch={ARCHITECTURES[bits]}", f"--cache-dir={cache}", f"--include={PACKAGES}"]
    command(["debootstrap", *options, RELEASE, root, MIRROR])
    with (root / "etc/passwd").open("a") as users:
        users.write(f"soak:x:{USER}:{USER}::/home/soak:/bin/bash\n")
    with (root / "etc/group").open("a") as groups:
        groups.write(f"soak:x:{USER}:\n")
    _unpack(root, UNPACKED, root)
    source = PLACE / "source"
    if not source.exists():
        _unpack(root, sources.package, source)
    (archive,) = source.glob(sources.archive)
    _tree(archive, root / "soak", sources)


def _unpack(root: Path, package: str, target: Path) -> None:
    command(["chroot", root, "sh", "-c", f"cd /tmp && apt-get -q update && apt-get -q download {package}"])
    (file,) = (root / "tmp").glob(f"{package}_*.deb")
    command(["dpkg-deb", "-x", file, target])
    file.unlink()


def _tree(archive: Path, target: Path, sources: Sources) -> None:
    """Unpack the headers and the sources that the seed chooses; `files` names them in their order."""
    listed = [name for name in command(["tar", "-tf", archive]).splitlines() if not name.endswith("/")]
    top = listed[0].split("/")[0]
    chosen: list[str] = []
    for kind in sources.kinds:
        candidates = sorted(name for name in listed if kind.matches(name[len(top) + 1 :]))
        chosen += random.Random(sources.seed).sample(candidates, kind.count)
    random.Random(sources.seed).shuffle(chosen)
    headers = [name for name in listed if name[len(top) + 1 :].startswith(sources.headers)]
    target.mkdir(parents=True, exist_ok=True)
    names = PLACE / "names"
    names.write_text("".join(name + "\n" for name in sorted({*chosen, *headers})))
    command(["tar", "-xf", archive, "-C", target, "--strip-components=1", "--no-same-owner", "-T", names])
    names.unlink()
    (target / "files").write_text("".join(name[len(top) + 1 :] + "\n" for name in chosen))

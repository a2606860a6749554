"""The system that everything runs on: a Debian 12 for amd64 with i386 beside it, and the programs of the workloads.

It is made once, below build/e2e, by debootstrap and apt; nothing is ever written to it afterwards (see system.py).
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from memproxy_sol.errors import MemproxyError
from soak.image import MIRROR, RELEASE, TRIPLETS, USER, command

PLACE = Path("build/e2e")
BASE = "ca-certificates,python3,python3-plumbum,python3-rich,python3-tomli,python3-pyelftools"
"""What memproxy-sol itself needs."""
NATIVE = ("libc6", "libstdc++6", "libjemalloc2", "libmimalloc2.0", "libtcmalloc-minimal4")
"""Of both ABIs."""
PROGRAMS = (
    "perl",
    "libpython3.11-testsuite",
    "gcc",
    "g++-multilib",
    "make",
    "bc",
    "git",
    "sqlite3",
    "postgresql",
    "redis-server",
    "nginx-light",
    "curl",
    "openjdk-17-jdk-headless",
    "nodejs",
    "golang-go",
    "rustc",
    "systemd",
    "sudo",
    "passwd",
    "man-db",
    "lzip:i386",
    "plzip:i386",
)
ALLOCATORS = {
    "jemalloc": "/usr/lib/{triplet}/libjemalloc.so.2",
    "mimalloc": "/usr/lib/{triplet}/libmimalloc.so.2",
    "tcmalloc_minimal": "/usr/lib/{triplet}/libtcmalloc_minimal.so.4",
}

PREPARE = """
set -eu
cd {root}
mount -t proc proc proc
mount -t devtmpfs dev dev 2>/dev/null || mount --rbind /dev dev
mkdir -p {packages}/partial
mount --bind {packages} var/cache/apt/archives
printf '#!/bin/sh\\nexit 101\\n' > usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
mkdir -p etc/postgresql-common
echo create_main_cluster = false > etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
chroot . dpkg --add-architecture i386
chroot . apt-get -q update
have=
for package in {wanted}; do
    if chroot . apt-get -qq -s install --no-install-recommends $package > /dev/null 2>&1; then
        have="$have $package"
    else
        echo $package >> {absent}
    fi
done
chroot . apt-get -q -y install --no-install-recommends $have
rm -f usr/sbin/policy-rc.d
rm -rf var/lib/apt/lists/*
"""


@dataclass(frozen=True)
class System:
    """The image."""

    root: Path
    identity: str
    """Of its packages: what a result is the result of."""
    versions: tuple[str, ...]
    """Of the programs and the allocators."""
    absent: tuple[str, ...]
    """Packages that the mirror did not give."""

    def allocator(self, name: str, bits: int = 64) -> str:
        """The path of an allocator inside."""
        return ALLOCATORS[name].format(triplet=TRIPLETS[bits])


def system() -> System:
    """The image, made if it is not there yet. MemproxyError if it cannot be made."""
    root = (PLACE / "image").resolve()
    complete, absent = PLACE / "image.complete", (PLACE / "image.absent").resolve()
    wanted = hashlib.sha256(repr((BASE, NATIVE, PROGRAMS, PREPARE, USER, MIRROR, RELEASE)).encode()).hexdigest()
    if not complete.exists() or complete.read_text() != wanted:
        complete.unlink(missing_ok=True)
        absent.write_text("")
        _make(root, absent)
        complete.write_text(wanted)
    packages = command(["chroot", root, "dpkg-query", "-W", "-f", "${binary:Package} ${Version}\n"])
    names = {*NATIVE, *PROGRAMS, "python3.11", "postgresql-15", "systemd", "bash", "coreutils"}
    versions = tuple(line for line in packages.splitlines() if line.split(" ")[0].split(":")[0] in names)
    identity = hashlib.sha256((wanted + packages).encode()).hexdigest()[:12]
    return System(root, identity, versions, tuple(absent.read_text().split()))


def _make(root: Path, absent: Path) -> None:
    if shutil.which("debootstrap") is None:
        raise MemproxyError("there is no debootstrap here", hint="install the Debian package debootstrap")
    if root.exists():
        shutil.rmtree(root)
    packages = (PLACE / "packages").resolve()
    packages.mkdir(parents=True, exist_ok=True)
    print(f"making a Debian {RELEASE} of both ABIs in {root} (some minutes)", flush=True)
    options = ["--variant=minbase", "--arch=amd64", f"--cache-dir={packages}", f"--include={BASE}"]
    command(["debootstrap", *options, RELEASE, root, MIRROR])
    with (root / "etc/passwd").open("a") as users:
        users.write(f"soak:x:{USER}:{USER}::/home/soak:/bin/bash\n")
    with (root / "etc/group").open("a") as groups:
        groups.write(f"soak:x:{USER}:\n")
    both = [f"{name}:{architecture}" for name in NATIVE for architecture in ("amd64", "i386")]
    (root / "result").mkdir()
    script = PREPARE.format(root=root, packages=packages, absent=absent, wanted=" ".join([*both, *PROGRAMS]))
    command(["unshare", "--mount", "--propagation", "private", "bash", "-c", script])

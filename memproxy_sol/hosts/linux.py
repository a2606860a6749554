"""Facts of a Linux system with the GNU C library, read from its files; nothing here changes anything.

One file, /etc/ld.so.preload, is read by the runtime linkers of all ABIs. Sources: ld.so(8), os-release(5),
hier(7), systemd.unit(5). Standard library and own modules only, unless the running system's linkers are asked.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from memproxy_sol import ld_so_preload, record, systemd_unit
from memproxy_sol.abi import ABIS, LD_SO_PRELOAD, MACHINES, Abi, Machine, machine_of
from memproxy_sol.errors import HostError, UsageError
from memproxy_sol.exclusions import LIST_PATH
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux_loader import LOADERS, Loader, loaders, loaders_below
from memproxy_sol.root import FileState, Root

RELEASE = "linux"
RELEASE_PATHS = ("/etc/os-release", "/usr/lib/os-release")
MEMORY_FILE_SYSTEMS = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/run", "/var/tmp")
"""Where something that does not last is mounted, or may be (tmpfs, systemd-tmpfiles)."""
FOREIGN_LOADERS = ("/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-i386.so.1", "/lib/ld-musl-aarch64.so.1")
"""Runtime linkers that know no /etc/ld.so.preload."""


def _upwards(path: str) -> list[str]:
    """A path and all directories above it."""
    found = [path]
    while found[-1] != "/":
        found.append(os.path.dirname(found[-1]))
    return found


@dataclass(frozen=True)
class PreloadFile:
    """/etc/ld.so.preload as it stands."""

    state: FileState | None
    """None if there is no file, or none that can be read."""
    problem: str = ""
    """Why it cannot be read as a file."""

    @property
    def data(self) -> bytes:
        """Its content; empty without a file."""
        return b"" if self.state is None else self.state.data

    @property
    def items(self) -> tuple[str, ...]:
        """What the runtime linkers load, in their order, as it is spelled."""
        return tuple(item.text for item in ld_so_preload.parse(self.data))


@dataclass(frozen=True)
class LinuxFacts(Facts):
    """What the plan has to know of a Linux host or image."""

    loaders: tuple[Loader, ...]
    """The GNU runtime linkers, 32 bit first: one for each ABI."""
    preload: PreloadFile
    systemd: bool
    """Whether it is there to run the services."""
    systemd_runs: bool
    """Whether it does; not in an image."""
    foreign: tuple[str, ...]
    """Runtime linkers of others, whose programs are not reached."""

    @property
    def config_directory(self) -> str:
        """Where the list of preloads lies."""
        return os.path.dirname(LD_SO_PRELOAD)

    @property
    def abis(self) -> tuple[Abi, ...]:
        """The ABIs of which there is a runtime linker."""
        return tuple(ABIS[loader.bits] for loader in self.loaders)

    def loader(self, bits: int) -> Loader:
        """The runtime linker of an ABI; KeyError if there is none."""
        return {loader.bits: loader for loader in self.loaders}[bits]

    def member(self, bits: int, file: str) -> str:
        """Where `file` of an ABI lies in a generation: where `$LIB` leads its runtime linker."""
        return f"{self.loader(bits).lib}/{file}"

    def mounted_later(self, directory: str) -> str | None:
        """The mount point over `directory`, other than `/` and /usr, which are there when the first program starts."""
        for mount in MEMORY_FILE_SYSTEMS:
            if directory == mount or directory.startswith(f"{mount}/"):
                return mount
        devices: list[tuple[str, int]] = []
        early = []
        try:
            for path in _upwards(directory):
                status = self.root.stat(path)
                devices += [(path, status.st_dev)] if status is not None else []
            early = [status.st_dev for status in map(self.root.stat, ("/", "/usr")) if status is not None]
        except HostError:
            return None  # a loop of links, which whoever judges the path tells
        here = devices[0][1]
        # The uppermost directory of that file system is where it is mounted.
        return None if here in early else [path for path, device in devices if device == here][-1]


def is_linux(root: Root) -> bool:
    """Whether a tree is that of Linux with the GNU C library: it has a runtime linker, and nothing of Solaris'."""
    if any(_is_there(root, path) for path in ("/etc/release", "/lib/libc.so.1", "/lib/64/libc.so.1")):
        return False
    return any(_is_there(root, path) for path in LOADERS)


def _is_there(root: Root, path: str) -> bool:
    try:
        return root.exists(path)
    except HostError:
        return False


def read(root: Root, *, machine: str | None = None, tolerant: bool = False, ask: bool = False) -> LinuxFacts:
    """The facts of the Linux system below `root`.

    With `ask`, the runtime linkers of the running system are started and tell themselves what `$LIB` stands for.
    Raises HostError where there is none of them, where `machine` contradicts them, and for whatever cannot be read;
    `tolerant` takes the latter for absent: uninstall must not refuse because the present state is bad.
    """

    def look(path: str) -> FileState | None:
        try:
            return root.read(path)
        except HostError:
            if tolerant:
                return None
            raise

    found = loaders() if ask and root.path == "/" else loaders_below(root)
    known = _known(root, tolerant)
    kind = _machine(root, found, machine, known)
    return LinuxFacts(
        root=root,
        release=RELEASE,
        distribution=_distribution([look(path) for path in RELEASE_PATHS]),
        machine=kind,
        sources={"release": RELEASE_PATHS[0], "machine": found[0].path if found else record.RECORD_PATH},
        libc={loader.bits: _libc(root, loader) for loader in found},
        exclusion_list=look(LIST_PATH),
        manifest_path=systemd_unit.PATH,
        profile_path=None,
        record=known,
        loaders=tuple(loader for loader in found if kind.elf_machine.get(loader.bits) == loader.machine),
        preload=read_preload(root),
        systemd=any(_is_there(root, path) for path in systemd_unit.PROGRAMS),
        systemd_runs=systemd_unit.runs(root),
        foreign=tuple(path for path in FOREIGN_LOADERS if _is_there(root, path)),
    )


def read_preload(root: Root) -> PreloadFile:
    """/etc/ld.so.preload; one that cannot be read is told, not raised."""
    try:
        return PreloadFile(root.read(LD_SO_PRELOAD))
    except HostError as error:
        return PreloadFile(None, error.what)


def is_link(root: Root) -> bool:
    """Whether the name of the list leads elsewhere, as while a change is on trial."""
    status = root.lstat(LD_SO_PRELOAD)
    return status is not None and stat.S_ISLNK(status.st_mode)


def is_mounted(root: Root, path: str) -> bool:
    """Whether a file of the running system is a mount point, as containers have them."""
    return any(point == path for point, _ in _mounts(root))


def is_volatile(root: Root, path: str) -> bool:
    """Whether a path of the running system lies in memory; also where that is not known."""
    resolved = root.resolve(path)
    over = [(point, kind) for point, kind in _mounts(root) if f"{resolved}/".startswith(f"{point.rstrip('/')}/")]
    deepest = max((len(point) for point, _ in over), default=0)
    kinds = [kind for point, kind in over if len(point) == deepest]
    return not kinds or kinds[-1] in ("tmpfs", "ramfs")


def _mounts(root: Root) -> list[tuple[str, str]]:
    """The mount points of this process's namespace with their types, in their order (proc(5), mountinfo)."""
    try:
        state = root.read("/proc/self/mountinfo")
    except HostError:
        return []
    found = []
    for line in state.data.decode("utf-8", "surrogateescape").splitlines() if state is not None else ():
        words, _, rest = line.partition(" - ")
        if len(words.split()) > 4 and rest:
            found.append((words.split()[4], rest.split()[0]))
    return found


def abis_of(facts: LinuxFacts, bits: tuple[int, ...] | None) -> tuple[Abi, ...]:
    """The ABIs to configure: those of `bits`, or all that the host has. HostError for one that it has not."""
    if bits is None:
        return facts.abis
    for wanted in bits:
        if ABIS[wanted] not in facts.abis:
            names = " and ".join(abi.name for abi in facts.abis)
            text = f"has no runtime linker for {wanted}-bit programs, only for {names}"
            raise HostError(text, where=facts.root.path, hint="correct --bits")
    return tuple(ABIS[wanted] for wanted in bits)


def is_native(facts: LinuxFacts) -> bool:
    """Whether this machine's compiler makes libraries for the host: the same kernel and processor family."""
    here = os.uname()
    names = {"x86": ("x86_64", "i386", "i486", "i586", "i686"), "aarch64": ("aarch64",)}
    return here.sysname == "Linux" and here.machine in names.get(facts.machine.name, ())


def _known(root: Root, tolerant: bool) -> record.Record | None:
    try:
        return record.read(root)
    except HostError:
        if tolerant:
            return None
        raise


def _machine(root: Root, found: tuple[Loader, ...], option: str | None, known: record.Record | None) -> Machine:
    for loader in reversed(found):
        try:
            kind = machine_of(loader.machine)
        except KeyError:
            raise HostError(f"is for ELF machine {loader.machine}, which is not supported", where=loader.path) from None
        if option not in (None, kind.name):
            raise UsageError(f"--machine {option} contradicts {loader.path} ({kind.name})", hint="leave it out")
        return kind
    if known is not None:
        return MACHINES[known.machine]
    raise HostError("has no runtime linker of the GNU C library", where=root.path, hint=f"one of {', '.join(LOADERS)}")


def _libc(root: Root, loader: Loader) -> str | None:
    """The C library beside its runtime linker."""
    path = f"{os.path.dirname(root.resolve(loader.path))}/libc.so.6"
    return path if _is_there(root, path) else None


def _distribution(states: list[FileState | None]) -> str:
    for state in states:
        for line in state.data[:65536].decode("utf-8", "surrogateescape").splitlines() if state is not None else ():
            name, _, value = line.partition("=")
            if name == "PRETTY_NAME" and value.strip("\"' "):
                return value.strip("\"' ")
    return "Linux (no os-release)"

"""Facts of a Solaris or illumos system, read from its files; nothing here changes anything.

What a running system says by command is in solaris_live.py, and hangs here as `SolarisFacts.live`.
Standard library and own modules only: verify.py imports this at boot.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from memproxy_sol import elf_header, generation, record
from memproxy_sol.abi import ABIS, MACHINES, X86, Abi, Machine, machine_of
from memproxy_sol.commands import Shell
from memproxy_sol.crle import Crle
from memproxy_sol.errors import ElfError, HostError, LdConfigError, UsageError
from memproxy_sol.exclusions import LIST_PATH
from memproxy_sol.hosts import solaris_live
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.solaris_live import LiveFacts
from memproxy_sol.ld_config import Layout, LdConfig, decode, layout_for
from memproxy_sol.preloads import loader_verdict
from memproxy_sol.root import FileState, Root
from memproxy_sol.smf_manifest import manifest_directory, profile_path

RELEASES = ("10", "11", "11.4", "illumos")
"""What `--release` takes: the releases that differ in what we write or where."""

MEMORY_FILE_SYSTEMS = (
    *("/proc", "/dev", "/devices", "/system", "/tmp", "/var/run", "/etc/svc/volatile", "/etc/mnttab"),
    *("/dev/fd", "/net", "/home"),
)
"""Where every release mounts something that an image's own files lie under (filesystem(7), autofs)."""

_LIBC = {32: "/lib/libc.so.1", 64: "/lib/64/libc.so.1"}


@dataclass(frozen=True)
class ConfigFile:
    """The runtime linker configuration file of one ABI as it stands."""

    abi: Abi
    state: FileState | None
    """None if there is no file."""
    verdict: str
    """What ld.so.1 makes of it: `absent`, `accepted`, `corrupt`, `abi mismatch`, `bad version`, `ignored flag`…"""
    config: LdConfig | None
    """The decoded value; None if there is no file or it cannot be decoded."""
    problem: str = ""
    """Why it cannot be decoded."""


@dataclass(frozen=True)
class SolarisFacts(Facts):
    """What the plan has to know of a Solaris host or image."""

    configs: dict[int, ConfigFile]
    early_mounts: tuple[str, ...]
    """Directories below `/` that etc/vfstab mounts: not there yet when the first process starts."""
    live: LiveFacts | None = None
    """What the running system says by command; None for an image, and where no commands were run."""

    @property
    def identified(self) -> bool:
        """Whether this release writes and understands the identification block (not before Solaris 11)."""
        return self.release != "10"

    @property
    def config_directory(self) -> str:
        """Where the configuration files lie."""
        return solaris_live.CONFIG_DIRECTORY

    def member(self, bits: int, file: str) -> str:
        """Where `file` of an ABI lies in a generation: its part is named by LD_PRELOAD_32 or LD_PRELOAD_64."""
        return generation.member_name(bits, file)

    @property
    def imports_by_service(self) -> bool:
        """Whether manifests are left to the service manifest-import: `svccfg import` of another, and `delete`, would
        make administrative customisation there, which masks what files say (reference "smf", section 13)."""
        return self.release.startswith("11")

    def mounted_later(self, directory: str) -> str | None:
        """The mount point over `directory` that is not mounted when the first process starts, None if there is none.

        On a live host with a mount table: the first process that reads the configuration, see `LiveFacts`.
        """
        table = self.live is not None and self.live.mounts
        for mount in (*(() if table else self.early_mounts), *MEMORY_FILE_SYSTEMS):
            if directory == mount or directory.startswith(f"{mount}/"):
                return mount
        if self.live is not None and table:
            return self._mounted_later_live(self.live, directory)
        existing = directory
        try:
            while not self.root.exists(existing):
                existing = os.path.dirname(existing)
            here, top = self.root.stat(existing), self.root.stat("/")
        except HostError:
            return None  # a loop of links, which is judged with the paths
        return existing if here is not None and top is not None and here.st_dev != top.st_dev else None

    def _mounted_later_live(self, live: LiveFacts, directory: str) -> str | None:
        try:
            resolved, config = self.root.resolve(directory), self.root.resolve(solaris_live.CONFIG_DIRECTORY)
            later = live.mounted_later(resolved, config)
            over = live.mount_over(resolved)
            if later is not None or over is None:
                return later
            while not self.root.exists(resolved):
                resolved = os.path.dirname(resolved)
            here, top = self.root.stat(resolved), self.root.stat(over.point)
        except HostError:
            return None  # a loop of links, which is judged with the paths
        # Another device than the table has there: something is mounted that it does not show.
        unseen = here is not None and top is not None and here.st_dev != top.st_dev and over.kind != "lofs"
        return resolved if unseen else None

    def layout(self, abi: Abi) -> Layout:
        """The layout of this machine's configuration file."""
        return layout_for(self.machine, abi.bits)


def read(
    root: Root,
    *,
    host: str | None = None,
    release: str | None = None,
    machine: str | None = None,
    tolerant: bool = False,
    shell: Shell | None = None,
    judging: bool = False,
) -> SolarisFacts:
    """The facts of the system below `root`; `host`, `release` and `machine` are used where the image does not say.

    With a `shell`, the commands of a live host are asked, too. Raises HostError where the tree does not look like
    Solaris and `host` does not say so, where an option contradicts the image, and for whatever cannot be read.
    `tolerant` takes the latter for absent: uninstall must not refuse because the present state is bad. `judging` only
    takes a running system whose commands do not say that it is Solaris for what its files say.
    """

    def look(path: str) -> FileState | None:
        try:
            return root.read(path)
        except HostError:
            if tolerant:
                return None
            raise

    known = _known(root, tolerant)
    live = None if shell is None or not root.is_live else solaris_live.read(root, shell, tolerant or judging)
    release_line = _first_line(look("/etc/release"))
    headers = {bits: _libc_header(look(path), path, tolerant) for bits, path in _LIBC.items()}
    if release_line is None and not any(headers.values()) and host != "solaris" and known is None and not live:
        raise HostError(
            "does not look like a Solaris root: it has neither /etc/release nor /lib/libc.so.1",
            where=root.path,
            hint="mount the image there, or say --host solaris",
        )
    chosen_release, release_source = _choose_release(release_line, release, known, live)
    chosen_machine, machine_source = _choose_machine(headers, machine, known, live)
    libc = {bits: _LIBC[bits] if header else None for bits, header in headers.items()}
    manifests = manifest_directory(root, chosen_release, release_line or "")

    def config(abi: Abi) -> ConfigFile:
        return read_config(root, abi, layout_for(chosen_machine, abi.bits), chosen_release, tolerant)

    configs = {abi.bits: config(abi) for abi in chosen_machine.abis()}
    if live is not None and shell is not None:
        live = solaris_live.with_release(live, chosen_release, release_source)
        live = solaris_live.with_displays(live, Crle(shell, root, chosen_release), configs, config)
    return SolarisFacts(
        root=root,
        release=chosen_release,
        distribution=release_line or f"{chosen_release} (no /etc/release)",
        machine=chosen_machine,
        sources={"release": release_source, "machine": machine_source},
        libc=libc,
        configs=configs,
        exclusion_list=look(LIST_PATH),
        manifest_path=f"{manifests}/memproxy.xml",
        profile_path=profile_path(chosen_release, release_line or ""),
        record=known,
        early_mounts=_mounts(look("/etc/vfstab")),
        live=live,
    )


def _known(root: Root, tolerant: bool) -> record.Record | None:
    try:
        return record.read(root)
    except HostError:
        if tolerant:
            return None
        raise


def read_config(root: Root, abi: Abi, layout: Layout, release: str, tolerant: bool = False) -> ConfigFile:
    """The configuration file of `abi` as ld.so.1 of that release sees it."""
    try:
        state = root.read(abi.config_path)
    except HostError as error:
        if not tolerant:
            raise
        return ConfigFile(abi, None, "unreadable", None, error.what)
    if state is None:
        return ConfigFile(abi, None, "absent", None)
    verdict = loader_verdict(state.data, layout)
    try:
        config = decode(state.data, layout=layout)
    except LdConfigError as error:
        return ConfigFile(abi, state, verdict, None, str(error))
    if release == "10" and config.identified:
        return ConfigFile(abi, state, "bad version", config, "Solaris 10 does not know the identification block")
    return ConfigFile(abi, state, verdict, config)


def _choose_release(
    line: str | None, option: str | None, known: record.Record | None, live: LiveFacts | None
) -> tuple[str, str]:
    found = None if line is None else release_of(line)
    if found is None:
        if option:
            return option, "--release"
        if live is not None and live.release is not None:
            return live.release, solaris_live.UNAME
        return (known.release, record.RECORD_PATH) if known else ("illumos", "the default")
    if option is not None and option != found:
        raise UsageError(f"--release {option} contradicts the image, which is {found} ({line})", hint="leave it out")
    return found, "/etc/release"


def release_of(line: str) -> str | None:
    """The release that the first line of etc/release tells, None for a line of nobody we know."""
    match = re.search(r"\bSolaris\s+(\d+)(\.\d+)?", line)
    if match:
        number = int(match[1])
        if number < 10:
            raise HostError(f"Solaris {number} is not supported", where="/etc/release", hint="10 is the oldest")
        return "10" if number == 10 else "11.4" if match[2] == ".4" else "11"
    if re.search(r"OpenIndiana|OmniOS|SmartOS|illumos|Tribblix|Joyent|DilOS|Triton", line, re.IGNORECASE):
        return "illumos"
    return None


def _choose_machine(
    headers: dict[int, elf_header.ElfHeader | None],
    option: str | None,
    known: record.Record | None,
    live: LiveFacts | None,
) -> tuple[Machine, str]:
    for bits, header in headers.items():
        if header is None:
            continue
        try:
            found = machine_of(header.machine)
        except KeyError:
            raise HostError(f"is for ELF machine {header.machine}, not one of Solaris's", where=_LIBC[bits]) from None
        if option is not None and option != found.name:
            raise UsageError(
                f"--machine {option} contradicts the image's {_LIBC[bits]} ({found.name})", hint="leave it out"
            )
        return found, _LIBC[bits]
    if option:
        return MACHINES[option], "--machine"
    if live is not None and live.machine is not None:
        return MACHINES[live.machine], solaris_live.ISAINFO
    return (MACHINES[known.machine], record.RECORD_PATH) if known else (X86, "the default")


def _libc_header(state: FileState | None, path: str, tolerant: bool) -> elf_header.ElfHeader | None:
    if state is None:
        return None
    try:
        return elf_header.parse(state.data)
    except ElfError as error:
        if tolerant:
            return None
        raise HostError(error.what, where=path, hint="the image is damaged") from error


def _first_line(state: FileState | None) -> str | None:
    if state is None:
        return None
    text = state.data[:4096].decode("utf-8", "surrogateescape").strip()
    return " ".join(text.splitlines()[0].split()) if text else None


def _mounts(vfstab: FileState | None) -> tuple[str, ...]:
    if vfstab is None:
        return ()
    lines = vfstab.data.decode("utf-8", "surrogateescape").splitlines()
    fields = [line.split() for line in lines if not line.lstrip().startswith("#")]
    points = (re.sub("/+", "/", f[2]).rstrip("/") for f in fields if len(f) >= 3 and f[2].startswith("/"))
    return tuple(point for point in points if point)


def abis_of(facts: SolarisFacts, bits: tuple[int, ...] | None) -> tuple[Abi, ...]:
    """The ABIs to configure: those of `bits`, or all that the host has. HostError for one that it has not."""
    present = facts.machine.abis()
    have_libc = [bits_ for bits_, path in facts.libc.items() if path is not None]
    if have_libc:
        present = tuple(abi for abi in present if abi.bits in have_libc)
    if facts.live is not None and facts.live.bits:
        # A 32-bit kernel on a machine with 64-bit libraries: what cannot be tried is not configured.
        present = tuple(abi for abi in present if abi.bits in facts.live.bits)
    if bits is None:
        return present
    for wanted in bits:
        if ABIS[wanted] not in present:
            names = " and ".join(abi.name for abi in present)
            raise HostError(f"has no {wanted}-bit ABI, only {names}", where=facts.root.path, hint="correct --bits")
    return tuple(ABIS[wanted] for wanted in bits)

"""ldso: which configuration ld.so.1 obeys, which objects it loads, and the words with which it kills a process.

Written from the reference page "crle", sections 1, 3, 5; nothing here is shared with the package under test.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.host.laboratory import elf
from tests.host.laboratory.tree import Tree

MAGIC = b"?RLC"
NEWEST_VERSION = 4
PAGE = 4096
SIGKILL, SIGSEGV = 9, 11
PATH_MAX = 1024


@dataclass(frozen=True)
class Machine:
    """What differs between the machines that Solaris runs on."""

    name: str
    order: str
    numbers: Mapping[int, int]
    """e_machine by bits, for the ABIs that exist."""
    compares_machine: bool = True
    """False: the aarch64 port of 2021 loads objects of any machine (section 5.6)."""
    secure_subdirectory: bool = True
    """False: that port's built-in trusted directories have no /64 (section 5.6)."""

    def header_size(self, bits: int) -> int:
        """80 on i386, where a long word needs 4-byte alignment; 88 elsewhere (section 3.2)."""
        return 80 if self.numbers[bits] == 3 else 88

    def library_path(self, bits: int) -> tuple[str, ...]:
        """The built-in default library path (section 1)."""
        return ("/lib/64", "/usr/lib/64") if bits == 64 else ("/lib", "/usr/lib")

    def trusted(self, bits: int) -> tuple[str, ...]:
        """The built-in trusted directories (section 1)."""
        if bits == 64 and self.secure_subdirectory:
            return "/lib/secure/64", "/usr/lib/secure/64"
        return "/lib/secure", "/usr/lib/secure"


X86 = Machine("x86", "<", {32: 3, 64: 62})
SPARC = Machine("sparc", ">", {32: 2, 64: 43})
AARCH64 = Machine("aarch64", "<", {64: 183}, compares_machine=False, secure_subdirectory=False)
MACHINES = {machine.name: machine for machine in (X86, SPARC, AARCH64)}


def default_file(bits: int) -> str:
    """The default configuration file (section 1)."""
    return "/var/ld/64/ld.config" if bits == 64 else "/var/ld/ld.config"


@dataclass(frozen=True)
class Configuration:
    """What a configuration file amounts to."""

    result: str = "absent"
    """`accepted`, `corrupt`, `abi mismatch`, `bad version`, `ignored flag`, `cannot open`, `not read (LD_NOCONFIG)`,
    `crash`."""
    library_path: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    """Both paths are empty where the built-in default holds."""
    variables: tuple[tuple[str, bool], ...] = ()
    """Text and whether it is permanent."""
    messages: tuple[str, ...] = ()


class Crash(Exception):
    """An address outside the mapping."""


class Mapped:
    """The file as it is mapped: the rest of the last page reads as zeros, beyond it is nothing."""

    def __init__(self, data: bytes, base: int, order: str) -> None:
        self.data = data + bytes(-len(data) % PAGE)
        self.base, self.order = base, order

    def word(self, offset: int) -> int:
        place = self.base + offset
        if place + 4 > len(self.data):
            raise Crash
        return int(struct.unpack_from(f"{self.order}I", self.data, place)[0])

    def text(self, offset: int) -> str:
        place = self.base + offset
        end = self.data.find(b"\0", place)
        if place >= len(self.data) or end < 0:
            raise Crash
        return self.data[place:end].decode("latin-1")


def accept(
    data: bytes, machine: Machine, bits: int, identifies: bool = True, newest: int = NEWEST_VERSION
) -> Configuration:
    """What ld.so.1 of this ABI makes of a file's content (section 3.7).

    `identifies` is False for Solaris 10, whose linker does not know the identification block (section 6).
    """
    size = machine.header_size(bits)
    if len(data) < size:
        return Configuration("corrupt")
    base = 0
    if identifies and data[:4] == MAGIC:
        if len(data) - 16 < size:
            return Configuration("corrupt")
        if (data[4], data[5], data[6]) != (bits // 32, 1 if machine.order == "<" else 2, machine.numbers[bits]):
            return Configuration("abi mismatch")
        base = 16
    mapped = Mapped(data, base, machine.order)
    version, flags = mapped.word(0), mapped.word(4)
    if version > newest:
        return Configuration("bad version")
    if flags & 1:
        return Configuration("ignored flag")
    try:
        messages: list[str] = []
        paths = []
        for offset, builtin in ((36, machine.library_path(bits)), (44, machine.trusted(bits))):
            place = mapped.word(offset)
            path = _directories(mapped.text(place), messages) if place else ()
            if path and not flags & 8:
                path = _split_lib(path, builtin)
            paths.append(path)
        variables = []
        env = mapped.word(68 if size == 80 else 72)
        if env and version >= 3:
            for entry in range(env, 1 << 32, 8):
                place, kind = mapped.word(entry), mapped.word(entry + 4)
                if place == 0:
                    break
                variables.append((mapped.text(place), kind & 2 != 0))
    except Crash:
        return Configuration("crash")
    return Configuration("accepted", paths[0], paths[1], tuple(variables), tuple(messages))


def _directories(text: str, messages: list[str]) -> tuple[str, ...]:
    """The elements of a path; one that is too long is skipped, with a line that shows it and all behind it."""
    pieces = []
    text = text.replace(";", ":")
    place = 0
    for piece in text.split(":"):
        if len(piece) >= PATH_MAX:
            messages.append(f"{text[place:]}: path name too long")
        elif piece:
            pieces.append(piece)
        place += len(piece) + 1
    return tuple(pieces)


def _split_lib(path: tuple[str, ...], builtin: tuple[str, ...]) -> tuple[str, ...]:
    """/lib in front of the last /usr/lib of a path that was made before they were apart (sections 2.5, 3.2)."""
    new, old = builtin
    if old not in path or new in path:
        return path
    place = len(path) - 1 - path[::-1].index(old)
    return (*path[:place], new, *path[place:])


# Variables

KNOWN = frozenset((
    *("LD_AUDIT", "LD_AUDIT_ARGS", "LD_BINDINGS", "LD_BIND_LAZY", "LD_BIND_NOW", "LD_BIND_NOT", "LD_BREADTH"),
    *("LD_CAP_FILES", "LD_CONCURRENCY", "LD_CONFGEN", "LD_CONFIG", "LD_DEBUG", "LD_DEBUG_OUTPUT", "LD_DEMANGLE"),
    *("LD_FLAGS", "LD_HWCAP", "LD_INIT", "LD_LIBRARY_PATH", "LD_LOADAVAIL", "LD_LOADFLTR", "LD_MACHCAP"),
    *("LD_NOAUDIT", "LD_NOAUXFLTR", "LD_NOBAPLT", "LD_NOCONFIG", "LD_NODIRCONFIG", "LD_NODIRECT", "LD_NOENVCONFIG"),
    *("LD_NOENVIRON", "LD_NOFLTCONFIG", "LD_NOLAZYLOAD", "LD_NOOBJALTER", "LD_NOPAREXT", "LD_NOUNRESWEAK"),
    *("LD_NOVERSION", "LD_PLATCAP", "LD_PRELOAD", "LD_PROFILE", "LD_PROFILE_OUTPUT", "LD_SFCAP", "LD_SIGNAL"),
    *("LD_TRACE_LOADED_OBJECTS", "LD_TRACE_SEARCH_PATHS", "LD_UNREF", "LD_UNUSED", "LD_VERBOSE", "LD_WARN"),
))  # fmt: skip
"""The variables that ld.so.1(1) knows; entries of other names are ignored."""


@dataclass
class _Source:
    """The LD_ definitions of one source, those with this class's suffix apart."""

    suffixed: dict[str, str] = field(default_factory=dict)
    plain: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str], bits: int, last_plain: bool) -> _Source:
        source = cls()
        for text in texts:
            name, _, value = text.partition("=")
            if not name.startswith("LD_"):
                continue
            value = value.lstrip(" \t")
            if name.endswith(("_32", "_64")):
                if name.endswith(f"_{bits}") and name[:-3] in KNOWN:
                    source.suffixed.setdefault(name[:-3], value)
            elif name in KNOWN and (last_plain or name not in source.plain):
                source.plain[name] = value
        for tokens in (source.suffixed.get("LD_FLAGS", ""), source.plain.get("LD_FLAGS", "")):
            source.take_flags(tokens)
        return source

    def take_flags(self, tokens: str) -> None:
        """LD_FLAGS=preload=X,noconfig: as unsuffixed variables, behind the individual ones (section 5.2)."""
        for token in tokens.split(","):
            name, equals, value = token.partition("=")
            name = f"LD_{name.upper()}"
            if name in KNOWN:
                self.plain.setdefault(name, value if equals else "1")


@dataclass(frozen=True)
class Variables:
    """The two slots of each variable; what is switched off is not there."""

    replaceable: Mapping[str, str]
    permanent: Mapping[str, str]
    users: frozenset[str]
    """Names of the replaceable ones that come from the process's environment."""


def merge(environment: Sequence[str], configuration: Configuration, bits: int) -> Variables:
    """The variables in force (section 5.2); `environment` in its order."""
    user = _Source.of(environment, bits, False)
    texts = configuration.variables
    soft = _Source.of((text for text, permanent in texts if not permanent), bits, True)
    hard = _Source.of((text for text, permanent in texts if permanent), bits, True)
    for name, value in list(hard.plain.items()):
        if name == "LD_FLAGS":
            soft.take_flags(value)
    replaceable: dict[str, str] = {}
    users = set()
    for source in (user.suffixed, soft.suffixed, user.plain, soft.plain):
        for name, value in source.items():
            if name not in replaceable:
                replaceable[name] = value
                if source is user.suffixed or source is user.plain:
                    users.add(name)
    own = _Source.of((text for text, permanent in texts if permanent and "LD_FLAGS" not in text), bits, True)
    permanent = {**own.plain, **own.suffixed}
    return Variables(
        {name: value for name, value in replaceable.items() if value},
        {name: value for name, value in permanent.items() if value},
        frozenset(users),
    )


# A process start


@dataclass(frozen=True)
class Loaded:
    """One object of a process."""

    path: str
    """Links resolved, as dlinfo shows it."""
    object: elf.Object | None
    """None for the program, of which the laboratory knows by other means."""
    preload: bool = False
    caller_runpath: tuple[str, ...] = ()


@dataclass(frozen=True)
class Start:
    """What ld.so.1 did before a program's first instruction."""

    file: str | None
    """The configuration file that was looked for, None with LD_NOCONFIG."""
    configuration: Configuration
    library_path: tuple[str, ...]
    trusted: tuple[str, ...]
    variables: Variables
    preloads: tuple[tuple[str, str], ...]
    """Each item with `try` or `refused`."""
    loaded: tuple[Loaded, ...] = ()
    messages: tuple[str, ...] = ()
    """Lines on standard error."""
    status: int | None = None
    """None: the program runs. Negative: the signal that ended the process."""


class _Fatal(Exception):
    pass


class _Rejected(Exception):
    pass


class Linker:
    """ld.so.1 of one machine over the files of a tree."""

    def __init__(self, tree: Tree, machine: Machine = X86, identifies: bool = True) -> None:
        self.tree, self.machine, self.identifies = tree, machine, identifies
        self.newest_version = NEWEST_VERSION
        self._objects: dict[tuple[int, ...], elf.Object] = {}

    def configure(
        self,
        environment: Sequence[str],
        bits: int,
        *,
        program: str = "app",
        secure: bool = False,
        uid: int = 0,
        file: str | None = None,
    ) -> Start:
        """Everything up to the list of preloads; `file` in place of the choice of section 5.1."""
        user = _Source.of(environment, bits, False)

        def asked(name: str) -> str:
            return user.suffixed.get(name, user.plain.get(name, ""))

        if asked("LD_NOCONFIG"):
            file, configuration = None, Configuration("not read (LD_NOCONFIG)")
        else:
            if file is None:
                file = (not secure and asked("LD_CONFIG")) or default_file(bits)
            try:
                data = self.tree.read(file, uid)
                configuration = accept(data, self.machine, bits, self.identifies, self.newest_version)
            except OSError:
                configuration = Configuration("cannot open")
        if asked("LD_NOENVCONFIG"):
            configuration = Configuration(
                configuration.result,
                configuration.library_path,
                configuration.trusted,
                (),
                configuration.messages,
            )
        variables = merge(environment, configuration, bits)
        trusted = configuration.trusted or self.machine.trusted(bits)
        messages = [f"ld.so.1: {program}: fatal: {program}: {words}" for words in configuration.messages]
        preloads = []
        for slot in (variables.replaceable, variables.permanent):
            for item in slot.get("LD_PRELOAD", "").replace(" ", ":").split(":"):
                if not item:
                    continue
                directory, slash, _ = item.rpartition("/")
                if secure and slash and (directory or "/") not in trusted:
                    preloads.append((item, "refused"))
                    messages.append(f"ld.so.1: {program}: warning: {item}: open failed: illegal insecure pathname")
                else:
                    preloads.append((item, "try"))
        return Start(
            file,
            configuration,
            configuration.library_path or self.machine.library_path(bits),
            trusted,
            variables,
            tuple(preloads),
            messages=tuple(messages),
            status=-SIGSEGV if configuration.result == "crash" else None,
        )

    def start(
        self,
        path: str,
        environment: Sequence[str],
        bits: int,
        *,
        needed: Sequence[str] = ("libc.so.1",),
        runpath: Sequence[str] = (),
        secure: bool = False,
        uid: int = 0,
    ) -> Start:
        """Start the program `path` (an absolute path) up to its first instruction, or to its death.

        `uid` is the effective user, whose rights count.
        """
        program = os.path.basename(path)
        begun = self.configure(environment, bits, program=program, secure=secure, uid=uid)
        if begun.status is not None:
            return begun
        messages = [line for line in begun.messages if "illegal insecure pathname" not in line]
        loaded = [Loaded(self.tree.resolve(path), None, caller_runpath=tuple(runpath))]
        seen: set[tuple[int, int]] = set()
        status: int | None = None
        place = _Search(self, begun, bits, secure, uid)
        try:
            for item, verdict in begun.preloads:
                try:
                    if verdict == "refused":
                        raise _Rejected(f"{item}: open failed: illegal insecure pathname")
                    found = place.find(item, tuple(runpath), preload=True)
                except _Rejected as rejection:
                    if not secure:
                        raise _Fatal(str(rejection)) from None
                    messages.append(f"ld.so.1: {program}: warning: {rejection}")
                    continue
                self._add(loaded, seen, found)
            for name in needed:
                self._add(loaded, seen, place.need(name, tuple(runpath)))
            for one in loaded:  # grows while it is gone through: breadth first
                for name in one.object.needed if one.object is not None else ():
                    self._add(loaded, seen, place.need(name, one.caller_runpath))
        except _Fatal as fatal:
            messages.append(f"ld.so.1: {program}: fatal: {fatal}")
            status = self._death(begun.variables, secure)
        return Start(
            begun.file,
            begun.configuration,
            begun.library_path,
            begun.trusted,
            begun.variables,
            begun.preloads,
            tuple(loaded),
            tuple(messages),
            status,
        )

    @staticmethod
    def _death(variables: Variables, secure: bool) -> int:
        """SIGKILL, or what LD_SIGNAL says; a name is not understood and gives status 1 (section 5.6)."""
        wanted = "" if secure else variables.replaceable.get("LD_SIGNAL", "")
        if not wanted:
            return -SIGKILL
        return -int(wanted) if wanted.isdigit() else 1

    @staticmethod
    def _add(loaded: list[Loaded], seen: set[tuple[int, int]], found: tuple[Loaded, tuple[int, int]]) -> None:
        if found[1] not in seen:
            seen.add(found[1])
            loaded.append(found[0])

    def open(self, name: str, bits: int, uid: int) -> tuple[Loaded, tuple[int, int]]:
        """Open and map one file. Raises FileNotFoundError, or _Rejected with the words behind the name."""
        try:
            path = self.tree.resolve(name, uid)
            host = self.tree.top + path
            status = os.lstat(host)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise FileNotFoundError(name) from None
            raise _Rejected(f"{name}: {os.strerror(error.errno or 0)}") from None
        if stat.S_ISDIR(status.st_mode):
            raise _Rejected(f"{name}: Is a directory")
        if not self.tree.may(path, uid, 4):
            raise _Rejected(f"{name}: Permission denied")
        if not stat.S_ISREG(status.st_mode):
            raise _Rejected(f"{name}: unknown file type")
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._objects.get(key)
        try:
            if known is None:
                with open(host, "rb") as stream:
                    data = stream.read()
                self._compare(elf.header(data), bits)
                known = self._objects[key] = elf.read(data)
            self._compare(known.header, bits)
        except elf.BadObject as bad:
            raise _Rejected(f"{name}: {bad}") from None
        return Loaded(path, known, caller_runpath=known.runpath), (status.st_dev, status.st_ino)

    def _compare(self, head: elf.Header, bits: int) -> None:
        """BadObject where class, byte order or machine are not the process's."""
        if head.bits != bits:
            raise elf.BadObject(f"wrong ELF class: ELFCLASS{head.bits}")
        if head.order != self.machine.order:
            raise elf.BadObject(f"wrong ELF data format: ELFDATA2{'LSB' if head.order == '<' else 'MSB'}")
        own = self.machine.numbers[bits]
        if self.machine.compares_machine and head.machine != own and (own, head.machine) != (2, 18):
            raise elf.BadObject(f"wrong ELF machine type: {elf.MACHINE_NAMES.get(head.machine, head.machine)}")


class _Search:
    """Where one process looks for its objects (sections 5.2, 5.3, 5.5)."""

    def __init__(self, linker: Linker, begun: Start, bits: int, secure: bool, uid: int) -> None:
        self.linker, self.begun, self.bits, self.secure, self.uid = linker, begun, bits, secure, uid
        variables = begun.variables
        soft = variables.replaceable.get("LD_LIBRARY_PATH", "")
        first = _directories(soft, [])
        if secure and "LD_LIBRARY_PATH" in variables.users:  # only what is trusted
            first = tuple(directory for directory in first if directory in begun.trusted)
        self.first = (*first, *_directories(variables.permanent.get("LD_LIBRARY_PATH", ""), []))

    def find(self, name: str, runpath: tuple[str, ...], preload: bool = False) -> tuple[Loaded, tuple[int, int]]:
        """The object `name`; _Rejected with the words of the failure."""
        missing = "No such file in secure directories" if self.secure and preload else "No such file or directory"
        if "/" in name:
            try:
                return self.linker.open(name, self.bits, self.uid)
            except FileNotFoundError:
                raise _Rejected(f"{name}: open failed: {missing}") from None
        if self.secure:
            runpath = tuple(directory for directory in runpath if directory.startswith("/"))
        last = self.begun.trusted if self.secure and preload else self.begun.library_path
        first_rejection: _Rejected | None = None
        for directory in (*self.first, *runpath, *last):
            try:
                return self.linker.open(f"{directory}/{name}", self.bits, self.uid)
            except FileNotFoundError:
                continue
            except _Rejected as rejection:
                first_rejection = first_rejection or rejection
        raise first_rejection or _Rejected(f"{name}: open failed: {missing}")

    def need(self, name: str, runpath: tuple[str, ...]) -> tuple[Loaded, tuple[int, int]]:
        """A dependency; _Fatal where it cannot be had, for secure processes too (section 5.5)."""
        try:
            return self.find(name, runpath)
        except _Rejected as rejection:
            raise _Fatal(str(rejection)) from None

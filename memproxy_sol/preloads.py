"""What a configuration file and an environment amount to in a process: search path, trust, preload list.

This is ld.so.1's part of the story (reference "crle", section 5), as a pure function: `effective` takes the bytes
of a file (or a decoded one) and an environment, and says which directories are in force, which objects are
preloaded in which order, and which a secure process refuses. Two results compare with `==`, so that a change can
be judged by what it does to processes rather than to bytes.

Not modelled: tokens such as $ORIGIN are left as they are, zones with a brand, and whether an object can be loaded.

Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Union

from memproxy_sol import ld_config
from memproxy_sol.abi import ABIS, Abi
from memproxy_sol.errors import LdConfigError
from memproxy_sol.ld_config import Layout, LdConfig

ACCEPTED = "accepted"
CORRUPT = "corrupt"
ABI_MISMATCH = "abi mismatch"
BAD_VERSION = "bad version"
IGNORED = "ignored flag"
CRASH = "crash"
CANNOT_OPEN = "cannot open"
NOT_READ = "not read (LD_NOCONFIG)"

TRY = "try"
REFUSED = "refused"

MAX_DIRECTORY = 1024
"""An element of a search path of this many bytes or more is skipped with a message."""

_TEXTS = frozenset(
    "AUDIT CAP_FILES CONFIG DEBUG FLAGS HWCAP LIBRARY_PATH MACHCAP PLATCAP PRELOAD SFCAP".split()  # noqa: SIM905
)
_SWITCHES = frozenset(
    "BIND_LAZY BIND_NOT BIND_NOW DEMANGLE LOADAVAIL LOADFLTR NOAUDIT NOAUXFLTR NOBAPLT NOCONFIG NODIRCONFIG "  # noqa: SIM905
    "NODIRECT NOENVCONFIG NOFLTCONFIG NOLAZY NOOBJALTER NOVERSION".split()
)

Environment = Union[Mapping[str, str], Iterable[str]]
"""NAME to VALUE, or texts `NAME=VALUE` in the order of the process (in which a name may occur twice)."""


@dataclass(frozen=True)
class Preload:
    """One object of the preload list."""

    name: str
    verdict: str
    """`try` (ld.so.1 will open it) or `refused` (a secure process does not even try)."""
    source: str
    """`environment` or `file`: who asked for it."""


@dataclass(frozen=True)
class Effective:
    """What is in force in a process."""

    result: str
    """What ld.so.1 made of the file: `accepted`, `corrupt`, `abi mismatch`, `bad version`, `ignored flag`,
    `cannot open`, `not read (LD_NOCONFIG)`, or `crash` (every process of this ABI dies at start, so that nothing
    is in force and the other fields are empty)."""
    library_path: tuple[str, ...]
    """The default library path."""
    trusted_directories: tuple[str, ...]
    replaceable: dict[str, str] = field(default_factory=dict)
    """Values by name without suffix, `LD_PRELOAD`; from the environment or replaceable entries of the file."""
    permanent: dict[str, str] = field(default_factory=dict)
    """The same from permanent entries of the file, which add to the replaceable ones."""
    switches: frozenset[str] = frozenset()
    """Names without suffix of the switches that are on, `LD_BIND_NOW`."""
    preloads: tuple[Preload, ...] = ()
    messages: tuple[str, ...] = ()
    """Lines that ld.so.1 writes to standard error for these reasons alone."""

    @property
    def tried(self) -> tuple[str, ...]:
        """The names of the preload objects that are opened, in order."""
        return tuple(preload.name for preload in self.preloads if preload.verdict == TRY)


def loader_verdict(data: bytes, layout: Layout) -> str:
    """What ld.so.1 of a process of `layout` makes of a file: `accepted`, `corrupt`, `abi mismatch`, `bad version`,
    `ignored flag`, or `crash` (reference "crle", section 3.7).

    Raises LdConfigError for a file that ld.so.1 would accept and that is too large or too tangled to follow here.
    """
    return _read(data, layout)[0]


def _read(data: bytes, layout: Layout) -> tuple[str, LdConfig | None]:
    """The verdict, and the value as ld.so.1 reads it if the verdict is `accepted`."""
    base = ld_config.IDENTIFICATION_SIZE if data[: len(ld_config.MAGIC)] == ld_config.MAGIC else 0
    if len(data) < base + layout.header_size:
        return CORRUPT, None
    if base:
        try:
            found = ld_config.identify(data)
        except LdConfigError:
            return ABI_MISMATCH, None
        if found != layout:
            return ABI_MISMATCH, None
    order = "little" if layout.byte_order == "little" else "big"
    version, flags = (int.from_bytes(data[base + at : base + at + 4], order) for at in (0, 4))  # type: ignore[arg-type]
    if version > ld_config.VERSION:
        return BAD_VERSION, None
    if flags & ld_config.IGNORE:
        return IGNORED, None
    try:
        return ACCEPTED, ld_config.decode(data, layout=layout, mapped=True, object_cache=False)
    except ld_config.OutsideError:
        return CRASH, None


def _verdict_on(config: LdConfig, abi: Abi, layout: Layout | None) -> str:
    """As `loader_verdict`, for a value that has been decoded."""
    if config.identified and (config.layout.bits != abi.bits or (layout is not None and config.layout != layout)):
        return ABI_MISMATCH
    if config.version > ld_config.VERSION:
        return BAD_VERSION
    return IGNORED if config.ignored else ACCEPTED


def config_file(abi: Abi, environ: Environment = (), secure: bool = False, recorded: str | None = None) -> str | None:
    """The configuration file that a process reads, or None if it reads none (reference "crle", section 5.1).

    `recorded` is the name in the executable (`ld -c`). That a file named here cannot be opened does not lead to
    another one.
    """
    state = _State(abi, secure)
    state.read_environment(environ)
    if "NOCONFIG" in state.switches:
        return None
    named = state.replaceable.get("CONFIG")
    return named[0] if named and named[0] else recorded or abi.config_path


def effective(
    config: bytes | LdConfig | None,
    process: Abi | Layout,
    environ: Environment = (),
    secure: bool = False,
    *,
    program: str = "app",
) -> Effective:
    """What a process has in force with this configuration file and environment.

    `config` is the content of the file (None: it cannot be opened), `secure` means set-uid or set-gid. `process`
    is the process's ABI and machine; with an Abi alone the file's own byte order and machine are taken for those of
    the machine, and only the class is compared. `program` is the name in the messages. Raises LdConfigError as
    `loader_verdict` does.
    """
    layout = process if isinstance(process, Layout) else None
    abi = ABIS[process.bits]
    state = _State(abi, secure)
    state.read_environment(environ)
    value: LdConfig | None = None
    if "NOCONFIG" in state.switches:
        result = NOT_READ
    elif config is None:
        result = CANNOT_OPEN
    elif isinstance(config, LdConfig):
        result = _verdict_on(config, abi, layout)
        value = config if result == ACCEPTED else None
    else:
        result, value = _read(config, layout or _layout_of(config, abi))
    if result == CRASH:
        return Effective(CRASH, (), ())
    if value is not None and value.environment is not None and "NOENVCONFIG" not in state.switches:
        state.read_file(value)

    messages: list[str] = []
    library_path, trusted = abi.default_library_path, abi.default_trusted_directories
    if value is not None:
        split = bool(value.flags & ld_config.SPLIT_LIB)
        library_path = _directories(value.library_path, library_path, split, program, messages)
        trusted = _directories(value.trusted_directories, trusted, split, program, messages)

    preloads: list[Preload] = []
    for slot in (state.replaceable, state.permanent):
        text, source = slot.get("PRELOAD") or (None, "")
        for name in re.split("[: ]", text or ""):
            if not name:
                continue
            head, slash, _ = name.rpartition("/")
            refused = secure and bool(slash) and (head or "/") not in trusted
            preloads.append(Preload(name, REFUSED if refused else TRY, source))
            if refused:
                messages.append(f"ld.so.1: {program}: warning: {name}: open failed: illegal insecure pathname")
    return Effective(
        result=result,
        library_path=library_path,
        trusted_directories=trusted,
        replaceable=_visible(state.replaceable),
        permanent=_visible(state.permanent),
        switches=frozenset(f"LD_{name}" for name in state.switches),
        preloads=tuple(preloads),
        messages=tuple(messages),
    )


def _layout_of(data: bytes, abi: Abi) -> Layout:
    try:
        found = ld_config.identify(data) or ld_config.guess_layout(data)
    except LdConfigError:
        found = Layout(abi.bits, "little", 62 if abi.bits == 64 else 3)
    if found.bits == abi.bits:
        return found
    return Layout(abi.bits, found.byte_order, {3: 62, 62: 3, 2: 43, 43: 2}.get(found.machine, found.machine))


def _visible(slot: dict[str, tuple[str | None, str]]) -> dict[str, str]:
    # LD_CONFIG has done its work by the time the file is read; it is no part of what is in force.
    return {f"LD_{name}": text for name, (text, _) in sorted(slot.items()) if text and name != "CONFIG"}


def with_split_lib(path: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
    """`path` of a file without header flag 8, as readers complete it (reference "crle", section 2.5).

    `default` is the built-in one, `/lib` and `/usr/lib` of the ABI: if `path` has the second element and not the
    first, the first goes in front of the last such element.
    """
    lib, usr_lib = default
    if usr_lib not in path or lib in path:
        return path
    last = len(path) - 1 - path[::-1].index(usr_lib)
    return (*path[:last], lib, *path[last:])


def _directories(
    path: tuple[str, ...] | None, default: tuple[str, ...], split: bool, program: str, messages: list[str]
) -> tuple[str, ...]:
    """The directories that a path of the file stands for; the built-in ones if it is absent or none remains."""
    if path is None:
        return default
    text = ":".join(path if split else with_split_lib(path, default))
    found = []
    for match in re.finditer("[^:;]+", text):
        if len(ld_config.to_bytes(match.group())) >= MAX_DIRECTORY:
            messages.append(f"ld.so.1: {program}: fatal: {program}: {text[match.start() :]}: path name too long")
        else:
            found.append(match.group())
    return tuple(found) or default


class _State:
    """The variables of ld.so.1 while it reads the environment and then the file."""

    def __init__(self, abi: Abi, secure: bool) -> None:
        self.abi = abi
        self.secure = secure
        self.replaceable: dict[str, tuple[str | None, str]] = {}
        self.permanent: dict[str, tuple[str | None, str]] = {}
        self.switches: set[str] = set()
        # Which names have been seen, by (permanent, suffixed). A suffixed one rules out all later ones of its slot.
        self.seen: set[tuple[bool, bool, str]] = set()

    def read_environment(self, environ: Environment) -> None:
        texts = [f"{name}={value}" for name, value in environ.items()] if isinstance(environ, Mapping) else environ
        for text in texts:
            self._text(text, False, "environment")
        self._flags("environment")

    def read_file(self, config: LdConfig) -> None:
        for variable in config.environment or ():
            self._text(variable.text, variable.permanent, "file")
        self._flags("file")

    def _text(self, text: str, permanent: bool, source: str) -> None:
        name, _, value = text.partition("=")
        if name.startswith("LD_") and text != "LD_":
            # An empty value, unlike a blank one, switches off, as does a missing "=".
            self._define(name[3:], value.lstrip(" \t\n\v\f\r") if value else None, permanent, source)

    def _flags(self, source: str) -> None:
        """Take LD_FLAGS apart. Its tokens count as replaceable, whoever set it, and come last."""
        text, _ = self.replaceable.pop("FLAGS", (None, ""))
        for token in (text or "").split(","):
            name, equals, value = token.partition("=")
            upper = "".join(letter.upper() if "a" <= letter <= "z" else letter for letter in name)
            self._define(upper, value or None if equals else "1", False, source, bare=not equals)

    def _define(self, name: str, value: str | None, permanent: bool, source: str, bare: bool = False) -> None:
        suffixed = False
        for abi in ABIS.values():
            if name.endswith(f"_{abi.bits}"):
                if abi.bits != self.abi.bits:
                    return
                name, suffixed = name[:-3], True
        if name not in _TEXTS and name not in _SWITCHES:
            return
        if name == "CONFIG" and (self.secure or source == "file"):
            return
        if (permanent, True, name) in self.seen:
            return
        if not permanent and not suffixed and (permanent, suffixed, name) in self.seen:
            return
        self.seen.add((permanent, suffixed, name))
        if name in _SWITCHES:
            if value is None:
                self.switches.discard(name)
            else:
                self.switches.add(name)
            return
        slot = self.permanent if permanent and name != "FLAGS" else self.replaceable
        slot[name] = (None if bare else value, source)

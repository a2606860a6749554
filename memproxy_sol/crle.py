"""The crle command: what to type for a value, what crle makes of what is typed, and crle itself made to write.

`command_line` says what to type for a value, `create` and `update` foretell the value of the file that crle writes,
its oddities included; they are pure, and held to each other: what is typed makes the value. `Crle` runs the command:
it believes neither its exit status nor its words, but the file that it wrote. crle_display.py reads what it shows.

Sources: reference "crle", sections 2 (options) and 6 (other releases); crle(1).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from memproxy_sol import crle_display
from memproxy_sol.abi import ABIS, Abi
from memproxy_sol.commands import Ran, Shell
from memproxy_sol.crle_display import Display
from memproxy_sol.errors import CrleError, CrleOptionsError, LdConfigError, printable
from memproxy_sol.ld_config import decode, encode
from memproxy_sol.ld_config_value import (
    BITS_64,
    IGNORE,
    PERMANENT,
    SPLIT_LIB,
    VERSION,
    Layout,
    LdConfig,
    Path,
    Variable,
    new,
    to_bytes,
)
from memproxy_sol.preloads import with_split_lib
from memproxy_sol.record import RUN_DIRECTORY
from memproxy_sol.root import Root

FROM_FILE = 0x1000
"""Variable flag: the entry came from an older file."""


# What crle makes of its options

Option = tuple[str, str]
"""Letter and argument of one option: ("-l", "/usr/lib"). Known are -l, -s, -e, -E and -t."""

_ELF = ("library_path", "trusted_directories")
_AOUT = ("aout_library_path", "aout_trusted_directories")
_AOUT_DEFAULTS = {
    "aout_library_path": ("/usr/4lib", "/usr/lib", "/usr/local/lib"),
    "aout_trusted_directories": ("/lib/secure", "/usr/lib/secure"),
}


@dataclass(frozen=True)
class Outcome:
    """What a run of crle leaves behind."""

    config: LdConfig
    warnings: tuple[str, ...] = ()
    """What it writes to standard error, without `crle: ` in front."""


def create(options: Sequence[Option], layout: Layout) -> Outcome:
    """The file that crle writes without -u: whatever was there before is gone.

    Raises CrleError for an option that is not known here.
    """
    return _run(options, new(layout), {})


def update(old: LdConfig | None, options: Sequence[Option], layout: Layout) -> Outcome:
    """The file that `crle -u` writes over `old` (None: there is none); reference "crle", section 2.5.

    Raises CrleError for an option that is not known here, an old file of a newer version, and one with an object
    cache, which crle makes anew from the objects themselves.
    """
    written = _written(options)
    if old is None:
        return _run(options, new(layout), {name: _default(name, layout) for name in written})
    if old.version > VERSION:
        raise CrleError(f"version {old.version} is newer than crle's {VERSION}: it refuses to update the file")
    if old.has_object_cache:
        raise CrleError("what crle makes of an object cache depends on the objects and cannot be foretold")
    kept: dict[str, Path] = {}
    for name in (*_ELF, *_AOUT):
        path: Path | None = getattr(old, name)
        if path is not None:
            kept[name] = _add_directories((), ":".join(path))
            if name in _ELF and not old.flags & SPLIT_LIB:
                kept[name] = with_split_lib(kept[name], _default(name, layout))
        elif name in written:
            kept[name] = _default(name, layout)
    base = replace(new(layout, old.identified), environment=old.environment)
    # Reading the old file sets the type in force: that of the last path found (section 2.6).
    started = [name for name in (*_ELF, *_AOUT) if getattr(old, name) is not None]
    return _run(options, base, kept, aout=started[-1] in _AOUT if started else None)


def _default(name: str, layout: Layout) -> Path:
    abi = ABIS[layout.bits]
    if name in _ELF:
        return abi.default_library_path if name == "library_path" else abi.default_trusted_directories
    return _AOUT_DEFAULTS[name]


def _typed(options: Sequence[Option], aout: bool) -> Iterable[tuple[str, str, str, bool]]:
    """Each option with the name of the path that -l and -s mean at that place, and the type in force after it."""
    for letter, argument in options:
        if letter == "-t":
            if argument not in ("ELF", "AOUT"):
                raise CrleError(f"unknown object type: {argument}", where="-t")
            aout = argument == "AOUT"
        elif letter not in ("-l", "-s", "-e", "-E"):
            raise CrleError(f"option {letter} is not one of -l, -s, -e, -E, -t")
        yield letter, argument, (_AOUT if aout else _ELF)[letter == "-s"], aout


def _written(options: Sequence[Option]) -> set[str]:
    """The paths which the options mean, taking the types as they are written."""
    return {name for letter, _, name, _ in _typed(options, False) if letter in ("-l", "-s")}


def _run(options: Sequence[Option], base: LdConfig, paths: dict[str, Path], aout: bool | None = None) -> Outcome:
    if aout is None:  # the type in force at the end is in force at the start as well (section 2.6)
        aout = [False, *(aout_after for _, _, _, aout_after in _typed(options, False))][-1]
    variables: list[Variable] = []
    warnings: list[str] = []
    for old in base.environment or ():
        _add_variable(variables, Variable(old.text, old.flags | FROM_FILE), warnings)
    for letter, argument, name, _ in _typed(options, aout):
        if letter in ("-e", "-E"):
            _add_variable(variables, Variable(argument, PERMANENT if letter == "-E" else 1), warnings)
        elif letter != "-t":
            paths[name] = _add_directories(paths.get(name, ()), argument)
    config = replace(
        base,
        environment=tuple(variables) or None,
        **{name: paths.get(name) or None for name in (*_ELF, *_AOUT)},  # type: ignore[arg-type]
    )
    return Outcome(config, tuple(warnings))


def _add_directories(path: Path, argument: str) -> Path:
    """Append the pieces of `argument`, leaving out those that crle takes for duplicates (section 2.3)."""
    text = ":".join(path)
    for piece in argument.split(":"):
        if not piece:
            continue
        at = text.find(piece)
        end = at + len(piece)
        if at >= 0 and text[at - 1 : at] in ("", ":") and text[end : end + 1] in ("", ":"):
            continue
        text = f"{text}:{piece}" if text else piece
    return tuple(text.split(":")) if text else ()


def _add_variable(variables: list[Variable], added: Variable, warnings: list[str]) -> None:
    """Append, replace in place what came from an old file, or leave out with a warning (sections 2.4, 2.5)."""
    for position, old in enumerate(variables):
        # Without a `=`, only the same text again; else the same name, and none counts as the empty name.
        same = old.text == added.text if added.value is None else _name(old) == added.name
        if not same:
            continue
        if old.flags & FROM_FILE:
            variables[position] = Variable(added.text, (old.flags | added.flags) & ~FROM_FILE)
        else:
            label = added.text if added.value is None else added.name
            warnings.append(f"warning: {label}: environment variable multiply-defined, first definition taken")
        return
    variables.append(added)


def _name(variable: Variable) -> str:
    """The name as crle compares it: empty if there is no `=`."""
    return variable.name if variable.value is not None else ""


# What to type


def command_line(config: LdConfig, file: str) -> tuple[str, ...]:
    """The arguments of crle, without its own name, that write a file with this value under the name `file`.

    What crle decides by itself (identification block, version, noise in the flags of variables) is left to it.
    Raises CrleOptionsError for a value that its options cannot express.
    """
    options = _options(config)
    made = create(options, config.layout).config
    wanted = _essence(config)
    for name in ("flags", "dlflags", *_ELF, *_AOUT, "environment", "objects", "filters", "reservation"):
        if getattr(made, name) != getattr(wanted, name):
            raise CrleOptionsError(f"crle has no options for this value of {name}", where=file)
    abi = ("-64",) if config.layout.bits == 64 else ()
    return (*abi, "-c", file, *(word for option in options for word in option))


def _essence(config: LdConfig) -> LdConfig:
    """The value without what crle decides by itself."""
    environment = None
    if config.environment is not None:
        environment = tuple(Variable(v.text, PERMANENT if v.permanent else 1) for v in config.environment)
    flags = config.flags & (BITS_64 | SPLIT_LIB | IGNORE)
    return replace(config, environment=environment or None, flags=flags)


def _options(config: LdConfig) -> tuple[Option, ...]:
    options: list[Option] = []

    def add(names: tuple[str, str]) -> None:
        for letter, name in zip(("-l", "-s"), names):
            path: Path | None = getattr(config, name)
            if path is not None:
                options.append((letter, ":".join(path)))

    if config.aout_library_path is not None or config.aout_trusted_directories is not None:
        options.append(("-t", "AOUT"))
        add(_AOUT)
        options.append(("-t", "ELF"))  # also the type at the start, see section 2.6
    add(_ELF)
    for variable in config.environment or ():
        options.append(("-E" if variable.permanent else "-e", variable.text))
    return tuple(options) or (("-l", ""),)


# crle itself

PROGRAM = "/usr/bin/crle"
MODE = 0o644
"""What a configuration file must have: not readable by every user is not in force for them (section 5.6)."""

_ARGUMENT_BYTES = 100_000
"""What is typed at most; Linux takes 128 KiB in one argument, Solaris 1 MiB in all (ARG_MAX of 32-bit programs)."""
_NEWER = re.compile(r"crle: .*: file version \[-?\d+\] newer than crle\(\) version \[\d+\]\. Displayed .*")
_COMPARED = ("flags", "dlflags", *_ELF, *_AOUT, "environment", "objects", "filters", "reservation")
_OLD = ("10",)
_OTHER_FORMAT = ("11", "11.4")
"""Releases of which no file has been seen: judged by value, whatever version and identification they write."""


class Crle:
    """The crle of a running system."""

    def __init__(self, shell: Shell, root: Root, release: str = "illumos") -> None:
        """`root` is the system that `shell` runs commands on; `release` one of `hosts.solaris.RELEASES`."""
        self.shell = shell
        self.root = root
        self.release = release

    @property
    def present(self) -> bool:
        """Whether the system has the command."""
        return self.shell.has(PROGRAM)

    def display(self, abi: Abi, path: str | None = None) -> Display:
        """What crle shows of a file; None is the default file of `abi`, which need not exist.

        Raises CommandError if crle cannot be run, CrleError if it fails, says something that is not known to be
        harmless, or shows another file: without -c, its 64-bit twin shows its own default file if the 32-bit one
        calls itself 64-bit (section 2.7).
        """
        named = ("-c", path) if path is not None else ()
        ran = self.shell.run((PROGRAM, *_flag(abi), *named))
        if ran.status or any(line and not _NEWER.fullmatch(line) for line in ran.err.split("\n")):
            raise _failed(ran)
        display = crle_display.parse_display(ran.out)
        expected = abi.config_path if path is None else path
        if display.file != expected:
            raise CrleError(f"shows {display.file} where {expected} was asked for", where=PROGRAM)
        return display

    def write(self, abi: Abi, config: LdConfig, path: str) -> bytes:
        """Make crle write a file with the value of `config` at `path`, and return its bytes.

        `path` must lie in RUN_DIRECTORY, in directories that only root can change; what lies there is replaced.
        Raises CrleOptionsError where crle's options cannot express the value: nothing was run then. Raises
        CommandError if crle cannot be run, and CrleError if it fails or the file is not what was asked for; what it
        wrote is removed then. Exit status 0 is not believed: the file is read, and its value compared.
        """
        if config.layout.bits != abi.bits:
            raise CrleError(f"the value is {config.layout.class_name}, the file {abi.name}", where=path)
        arguments = self._arguments(config, path)
        host = self._place(path)
        try:
            ran = self.shell.run((PROGRAM, *arguments))
            if ran.status or ran.err:
                raise _failed(ran)
            state = self.root.read(path)
            if state is None:
                raise CrleError(f"ended with status 0 without writing {path}", where=PROGRAM)
            self._judge(abi, config, path, state.data)
            os.chmod(host, MODE)
        except BaseException:
            _discard(host)
            raise
        return state.data

    def _arguments(self, config: LdConfig, path: str) -> tuple[str, ...]:
        arguments = command_line(config, path)
        if self.release in _OTHER_FORMAT and "-t" in arguments:
            raise CrleOptionsError("crle of this release has no options for AOUT paths", where=path)
        size = sum(len(to_bytes(argument)) + 1 for argument in arguments)
        if size > _ARGUMENT_BYTES:
            raise CrleOptionsError(f"{size} bytes are more than a command can be given as arguments", where=path)
        return arguments

    def _place(self, path: str) -> str:
        """Where `path` lies on this machine, proven to be ours and empty; CrleError otherwise."""
        top, parent = self.root.resolve(RUN_DIRECTORY), self.root.resolve(os.path.dirname(path))
        if path.startswith(f"{RUN_DIRECTORY}/") and f"{parent}/".startswith(f"{top}/"):
            for component in self.root.components(parent):
                mode, owner = component.status.st_mode, component.status.st_uid
                if f"{component.path}/".startswith(f"{top}/") and (owner != os.geteuid() or mode & 0o022):
                    text = "is not a directory that only root can change, so crle is not let into it"
                    raise CrleError(text, where=component.path, hint="remove it, and try again")
            host = self.root.host_path(path)
            if self.root.lstat(parent) is not None:
                try:
                    _discard(host)
                except OSError as error:
                    raise CrleError(f"cannot be replaced: {error.strerror}", where=path) from error
                return host
        text = f"is not in {RUN_DIRECTORY}: crle removes a file before it writes it, so it is never let near a live one"
        raise CrleError(text, where=path)

    def _judge(self, abi: Abi, config: LdConfig, path: str, data: bytes) -> None:
        """CrleError unless `data` has the value of `config` and is what the release's ld.so.1 takes."""
        wanted = create(_options(config), config.layout).config
        try:
            found = decode(data, layout=config.layout)
        except LdConfigError as error:
            if self.release not in _OTHER_FORMAT:
                raise CrleError(f"wrote a file that cannot be decoded: {error}", where=PROGRAM) from error
            self._judge_display(abi, wanted, path)
            return
        essence = _essence(found)
        for name in _COMPARED:
            _compare(name, getattr(wanted, name), getattr(essence, name))
        if self.release in _OTHER_FORMAT:
            return
        if found.identified != (self.release not in _OLD):
            state = "with" if found.identified else "without"
            raise CrleError(f"wrote a file {state} identification block, not as release {self.release}", where=PROGRAM)
        if found.identified and found.version == VERSION and data != encode(wanted):
            raise CrleError("wrote a file of the right value in bytes that are not the format's", where=PROGRAM)

    def _judge_display(self, abi: Abi, wanted: LdConfig, path: str) -> None:
        """The judgement by what crle shows of a file that nobody here can decode."""
        display, expected = self.display(abi, path), crle_display.shown(wanted, path)
        for name in (*_ELF, *_AOUT, "environment", "dlflags", "reservation", "filters", "directories"):
            _compare(name, getattr(expected, name), getattr(display, name))
        if display.layout is not None and display.layout != wanted.layout:
            raise CrleError(f"wrote a file for {display.layout}, not for {wanted.layout}", where=PROGRAM)


def _flag(abi: Abi) -> tuple[str, ...]:
    return ("-64",) if abi.bits == 64 else ()


def _failed(ran: Ran) -> CrleError:
    failure = ran.failure()
    return CrleError(failure.what, where=failure.where)


def _compare(name: str, wanted: object, found: object) -> None:
    if wanted != found:
        text = f"wrote another {name} than it was told: {_words(found)} instead of {_words(wanted)}"
        raise CrleError(text, where=PROGRAM, hint="nothing has been changed")


def _words(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        value = ":".join(item.text if isinstance(item, Variable) else str(item) for item in value)
    text = printable(str(value))
    return text if len(text) <= 200 else text[:197] + "..."


def _discard(host: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(host)

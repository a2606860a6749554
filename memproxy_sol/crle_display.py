"""What crle displays of a configuration file: its text read back, and the text's value foretold from a file's.

Sources: reference "crle", sections 4 (display) and 6 (other releases); crle(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from memproxy_sol.errors import CrleError
from memproxy_sol.ld_config_value import PERMANENT, Layout, LdConfig, Path, Variable, machine_number

DUMP_FLAGS = {
    "RTLD_REL_ALL": 0xFFF,
    "RTLD_REL_RELATIVE": 0x1,
    "RTLD_REL_EXEC": 0x2,
    "RTLD_REL_DEPENDS": 0x4,
    "RTLD_REL_PRELOAD": 0x8,
    "RTLD_REL_SELF": 0x10,
    "RTLD_REL_WEAK": 0x20,
    "RTLD_MEMORY": 0x1000,
    "RTLD_STRIP": 0x2000,
    "RTLD_NOHEAP": 0x4000,
    "RTLD_CONFSET": 0x10000,
    "RTLD_CONFGEN": 0x10000,
}
"""Names of the dldump flags (reference "crle", section 2.2)."""


@dataclass(frozen=True)
class ListedDirectory:
    """One `Directory:` block of the object cache."""

    name: str
    exists: bool = True
    members: tuple[tuple[str, str | None], ...] = ()
    """Simple names of the objects in it, each with its alternative or None."""


@dataclass(frozen=True)
class Display:
    """What crle says of a file. None stands for `(system default)`, () for an empty text."""

    file: str
    version: int | None
    """None if the default file does not exist, so that all of it is the built-in default."""
    layout: Layout | None = None
    """None if there is no Platform line: a file without identification block, or Solaris 10."""
    dlflags: int = 0
    library_path: Path | None = None
    trusted_directories: Path | None = None
    aout_library_path: Path | None = None
    aout_trusted_directories: Path | None = None
    environment: tuple[Variable, ...] | None = None
    """Their flags are either replaceable or permanent: crle does not show more."""
    reservation: tuple[int, int] | None = None
    filters: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """Name, filtee string, filtees."""
    directories: tuple[ListedDirectory, ...] = ()


def shown(config: LdConfig, file: str) -> Display:
    """The display that crle gives of a file with this value, under this name."""
    environment = None
    if config.environment is not None:
        environment = tuple(Variable(v.text, PERMANENT if v.permanent else 1) for v in config.environment)
    directories = []
    cache = config.objects
    for listed in cache.directories if cache is not None else ():
        assert cache is not None
        entry = cache.objects[listed.object - 1]
        exists = entry.flags & 0x14 != 0x4  # non-existent, and no alternative exists either
        members = tuple(
            (member.name, member.alternative if member.flags & 0x10 else None)
            for member in (cache.objects[index - 1] for index in listed.files)
            if "/" not in member.name
        )
        if members or not exists:
            directories.append(ListedDirectory(entry.name, exists, members if exists else ()))
    return Display(
        file=file,
        version=config.version,
        layout=config.layout if config.identified else None,
        dlflags=config.dlflags,
        library_path=config.library_path,
        trusted_directories=config.trusted_directories,
        aout_library_path=config.aout_library_path,
        aout_trusted_directories=config.aout_trusted_directories,
        environment=environment,
        reservation=config.reservation,
        filters=tuple((f.name, f.filtees, f.resolved) for f in config.filters or ()),
        directories=tuple(directories),
    )


_LIMITED = re.compile(r".*: version \[-?\d+\] of configuration file provides limited update .*")
_ABSENT = re.compile(r"Default configuration file \((.*)\) not found")
_HEAD = re.compile(r"Configuration file \[(?:version )?(-?\d+)\]: (.*)")
_FIELD = re.compile(r"[ \t]+(Platform|Default Library Path|Trusted Directories)(?: \((ELF|AOUT)\))?:(.*)", re.DOTALL)
_PLATFORM = re.compile(r"(32|64)-bit (LSB|MSB) (\S+)")
_VARIABLE = re.compile(r"  (.*)  \((replaceable|permanent)\)", re.DOTALL)
_DIRECTORY = re.compile(r"Directory: (.*?)(\t\(non-existent\))?", re.DOTALL)
_MEMBER = re.compile(r"  (.*?)(?:\t\(alternate: (.*)\))?", re.DOTALL)
_RESERVATION = re.compile(r"Memory Reservation:[ \t]+([0-9a-f]+) - ([0-9a-f]+) \([0-9a-f]+ bytes\)")
_FILTER = re.compile(r"  (.*?)  -  (.*):", re.DOTALL)
_FILTEE = re.compile(r"    (.*)  \(filtee\)", re.DOTALL)
_DEFAULT = "(system default)"


class _Lines:
    """The lines of a display and the place in them."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.at = 0

    @property
    def line(self) -> str | None:
        return self.lines[self.at] if self.at < len(self.lines) else None

    def error(self, wanted: str) -> CrleError:
        found = "the end" if self.line is None else repr(self.line if len(self.line) < 80 else self.line[:77] + "...")
        return CrleError(f"line {self.at + 1} of its display is {found}, not {wanted}", where="crle")

    def expect(self, pattern: re.Pattern[str], wanted: str) -> re.Match[str]:
        match = pattern.fullmatch(self.line) if self.line is not None else None
        if match is None:
            raise self.error(wanted)
        self.at += 1
        return match

    def blank(self) -> None:
        if self.line != "":
            raise self.error("empty")
        self.at += 1

    def block(self) -> Iterable[str]:
        """The lines up to the next empty one."""
        while self.line:
            yield self.line
            self.at += 1


def parse_display(text: str) -> Display:
    """What crle printed on standard output when it was asked to show a file, plainly or with -v.

    Takes the variations of other releases (reference "crle", section 6): any version number, with or without the
    word, with or without `(ELF)`, tabs or blanks. Raises CrleError, with the number of the line, for anything else,
    a display that is cut off included. A value that contains a line feed cannot be told from two; read the file
    itself (`ld_config.decode`) where that matters.
    """
    lines = _Lines(text)
    if lines.line is not None and _LIMITED.fullmatch(lines.line):
        lines.at += 1
    lines.blank()
    absent = _ABSENT.fullmatch(lines.line or "")
    if absent:
        lines.at += 1
        display = Display(absent.group(1), None)
    else:
        head = lines.expect(_HEAD, "`Configuration file [version N]: NAME`")
        file, dlflags = _split_flags(head.group(2), lines)
        display = Display(file, int(head.group(1)) & 0xFFFFFFFF, dlflags=dlflags)
    display = _parse_fields(lines, display)
    if display.version is None:
        if lines.lines[lines.at :] != [""]:
            raise lines.error("the end")
        return display
    return _parse_blocks(lines, display)


def _split_flags(rest: str, lines: _Lines) -> tuple[str, int]:
    """Name and dldump flags; the line ends in two blanks and then the flags in brackets or nothing."""
    name, gap, names = rest.rpartition("  ")
    if not gap:
        return rest, 0
    if not names:
        return name, 0
    match = re.fullmatch(r"\[ (.*) \]", names)
    if match is None:
        return rest, 0
    value = 0
    for word in re.split(r"[ \t|]+", match.group(1)):
        try:
            value |= DUMP_FLAGS[word] if word in DUMP_FLAGS else int(word, 16)
        except ValueError:
            lines.at -= 1
            raise lines.error("one with known dldump flags") from None
    return name, value


def _parse_fields(lines: _Lines, display: Display) -> Display:
    names = {"Default Library Path": "library_path", "Trusted Directories": "trusted_directories"}
    found: dict[str, object] = {}
    while lines.line:
        match = _FIELD.fullmatch(lines.line)
        if match is None:
            raise lines.error("`Platform:`, `Default Library Path (ELF):` or `Trusted Directories (ELF):`")
        title, kind, value = match.groups()
        value = value.lstrip("\t") if value.startswith("\t") else value.lstrip(" \t")
        if title == "Platform":
            key = "layout"
            platform = _PLATFORM.fullmatch(value.rstrip())
            if platform is None:
                raise lines.error("a platform such as `64-bit LSB AMD64`")
            try:
                number = machine_number(platform.group(3))
            except ValueError:
                raise lines.error("one with a known machine") from None
            order = "little" if platform.group(2) == "LSB" else "big"
            found_value: object = Layout(int(platform.group(1)), order, number)
        else:
            key = names[title] if kind != "AOUT" else f"aout_{names[title]}"
            default = value.rstrip().endswith(_DEFAULT)
            found_value = None if default else tuple(value.split(":")) if value else ()
        if key in found:
            raise lines.error("one that was not there before")
        found[key] = found_value
        lines.at += 1
    for title, name in names.items():
        if name not in found and not (display.version is None and f"aout_{name}" in found):
            raise lines.error(f"`{title} (ELF):`")
    return replace(display, **found)  # type: ignore[arg-type]


def _parse_blocks(lines: _Lines, display: Display) -> Display:
    """What follows the paths: blocks with an empty line in front, the last of them the command line."""
    assert display.version is not None
    environment: list[Variable] | None = None
    directories: list[ListedDirectory] = []
    filters: list[tuple[str, str, tuple[str, ...]]] = []
    while True:
        lines.blank()
        if lines.at == len(lines.lines) - 1 and display.version <= 1:
            break  # files of version 0 and 1 have no command line part
        if lines.line == "Environment Variables:" and environment is None:
            lines.at += 1
            environment = []
            while lines.line:
                text, kind = lines.expect(_VARIABLE, "a variable with `(replaceable)` or `(permanent)`").groups()
                environment.append(Variable(text, PERMANENT if kind == "permanent" else 1))
        elif lines.line == "Filters:":
            lines.at += 1
            while lines.line:
                name, string = lines.expect(_FILTER, "a filter and its filtees").groups()
                resolved = []
                while lines.line and _FILTEE.fullmatch(lines.line):
                    resolved.append(lines.expect(_FILTEE, "a filtee").group(1))
                filters.append((name, string, tuple(resolved)))
        elif lines.line and lines.line.startswith("Memory Reservation:"):
            begin, end = lines.expect(_RESERVATION, "a memory reservation").groups()
            display = replace(display, reservation=(int(begin, 16), int(end, 16)))
        elif lines.line and lines.line.startswith("Directory: "):
            name, missing = lines.expect(_DIRECTORY, "a directory").groups()
            members = []
            while lines.line:
                member, alternative = lines.expect(_MEMBER, "a member of the directory").groups()
                if "/" not in member:  # -v shows each member a second time by its full name
                    members.append((member, alternative))
            if members or missing:  # -v shows empty ones as well
                directories.append(ListedDirectory(name, not missing, tuple(members)))
        elif lines.line == "Command line:":
            lines.at += 1
            if not lines.line or not lines.line.startswith("  crle "):
                raise lines.error("the command that makes the file")
            for _ in lines.block():
                pass
            lines.blank()
            if lines.line == "Object Entries:":
                for _ in lines.block():
                    pass
                lines.blank()
            if lines.lines[lines.at :] != [""]:
                raise lines.error("the end")
            break
        else:
            raise lines.error("`Environment Variables:` or `Command line:`")
    return replace(
        display,
        environment=None if environment is None else tuple(environment),
        filters=tuple(filters),
        directories=tuple(directories),
    )

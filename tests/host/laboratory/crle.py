"""crle: the command that writes and shows the runtime linker's configuration file, with its oddities.

Written from the reference page "crle", sections 2 to 4 and 6; nothing of it is shared with the package under test. It
is one file because its parts are one program: the options, the update of an old file, the bytes, the display.
Making an object cache (-i, -I, -a, -A, -g, -G) is not modelled: such a call fails and changes nothing.
"""

from __future__ import annotations

import errno
import os
import posixpath
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.host.laboratory import elf
from tests.host.laboratory.ldso import MAGIC, SIGSEGV, Crash, Mapped, default_file

if TYPE_CHECKING:
    from tests.host.laboratory.system import Implementation, Laboratory, Result

VERSION = 4
IGNORE, BITS_64, SPLIT_LIB = 1, 4, 8
FROM_FILE = 0x1000
MACHINES = {2: "SPARC", 3: "80386", 43: "SPARCV9", 62: "AMD64"}
FLAGS = {
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
}
OBJECT_FLAGS = (
    (0x1, "DIR"),
    (0x2, "ALL-ENTRIES"),
    (0x4, "NON-EXISTENT"),
    (0x8, "EXECUTABLE"),
    (0x10, "ALTERNATE"),
    (0x20, "DUMPED"),
    (0x40, "REALPATH"),
    (0x80, "NO-ALTERNATE"),
    (0x100, "GROUP"),
    (0x200, "APPLICATION"),
    (0x400, "COMMAND-LINE"),
    (0x800, "FILTER"),
    (0x1000, "FILTEE"),
    (0x2000, "OPTIONAL"),
)
PATHS = ("edlibpath", "adlibpath", "eslibpath", "aslibpath")
"""In the order of the header and of the string table: library path and trusted directories, ELF and AOUT."""
AOUT_DEFAULTS = {"adlibpath": "/usr/4lib:/usr/lib:/usr/local/lib", "aslibpath": "/lib/secure:/usr/lib/secure"}
USAGE = """\
usage: crle [-64] [-a name] [-A name] [-c conf] [-e env] [-E env] [-f flags] [-g name] [-G name ] [-i name] [-I name] \
[-l dir] [-o dir ] [-s dir] [-t ELF|AOUT] [-u] [-v]
	[-64]		process 64-bit objects
	[-a name]	define an alternative object name
	[-A name]	define an optional alternative object name
	[-c conf]	specify configuration file
	[-e env]	define a replaceable environment variable
	[-E env]	define a permanent environment variable
	[-f flags]	specify flags for -G and -I
	[-g name]	define a group object name
	[-G name]	define a group object name and create alternatives
	[-i name]	define an individual object name
	[-I name]	define an individual object name and create an
			alternative
	[-l dir]	define a default search directory
	[-o dir]	use directory for alternative objects
	[-s dir]	define a  trusted search directory
	[-t ELF|AOUT]	toggle object type for -l and -s
	[-u]		update existing configuration file
	[-v]		provide verbose processing information

	Note: without the -u option, the information defined by the options
	to crle() result in the replacement of any existing configuration
	file, or default search paths.  With the -u option, the information
	defined by the options to crle() is appended to any existing
	configuration file, or default search paths.

	Set the environment variable LD_NOCONFIG=yes to disable the processing
	of any configuration file information.  See ld.so.1(1).
"""
USAGE_114 = "usage: crle [-FuvV] [-64] [-a name] [-A name] [-c conf] [-e env] [-E env] [-l dir] [-o dir] [-s dir]\n"


def register(lab: Laboratory) -> None:
    """Put crle into the laboratory: the 32-bit program and its 64-bit twin, which it executes when it must."""
    from tests.host.laboratory.system import Program

    first = min(lab.machine.numbers)
    lab.install_program("/usr/bin/crle", Program(first, crle))
    if first == 32:
        lab.install_program(twin_path(lab), Program(64, crle))


def twin_path(lab: Laboratory) -> str:
    """Where the 64-bit crle lies."""
    return f"/usr/bin/{'sparcv9' if lab.machine.name == 'sparc' else 'amd64'}/crle"


class _Failed(Exception):
    """The line on standard error with which crle gives up, without its own name."""


class _Usage(Exception):
    """The line in front of the usage text, or nothing."""


@dataclass
class _Options:
    """The command line, and what has been found wrong with it on the way."""

    file: str | None = None
    sixtyfour: bool = False
    update: bool = False
    verbose: bool = False
    force: bool = False
    asks: bool = False
    """An option is there that asks for a file to be written."""
    objects: bool = False
    dldump: bool = False
    kind: str | None = None
    """The type of the last -t."""
    items: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Letter, argument, and the type of the -t before it, None if there is none."""
    errors: list[str] = field(default_factory=list)


@dataclass
class _Object:
    name: str
    directory: int
    flags: int
    alternative: str
    bucket: int = 0


@dataclass
class _Config:
    """What a file says."""

    bits: int
    order: str
    machine: int
    identified: bool = True
    class_bits: int = 0
    version: int = VERSION
    flags: int = 0
    dlflags: int = 0
    paths: dict[str, str] = field(default_factory=dict)
    """The texts that are there, by the header's names."""
    variables: list[list[Any]] | None = None
    """Text and flags; None without a table."""
    reservation: tuple[int, int] = (0, 0)
    objects: list[_Object] = field(default_factory=list)
    directories: list[tuple[int, list[int]]] = field(default_factory=list)
    filters: list[tuple[str, str]] = field(default_factory=list)


def crle(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """The program; `argv[0]` is what its messages begin with."""
    from tests.host.laboratory.system import Result

    run = _Run(lab, argv, env, uid)
    try:
        status = run.main()
    except _Usage as usage:
        if usage.args[0]:
            run.complain(usage.args[0])
        text = USAGE_114 if lab.release == "11.4" else USAGE
        run.err.append(text.replace("crle [", f"{run.name} [", 1))
        status = 1
    except _Failed as failure:
        run.complain(str(failure))
        status = 1
    except Crash:
        return Result(-SIGSEGV, b"", run.text(run.err))  # what is in the output's buffer is lost
    except _Twin as twin:
        result: Result = twin.args[0]
        return result
    return Result(status, run.text(run.out), run.text(run.err))


def removes_and_dies(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """crle, killed between the removal of the old file and the rename of the new one (section 2.8): a fault."""
    from tests.host.laboratory.system import Result

    for at, word in enumerate(argv):
        if word == "-c" and at + 1 < len(argv) and lab.tree.exists(argv[at + 1]):
            os.unlink(lab.tree.host(argv[at + 1]))
    return Result(-9)


def writes_other(data: bytes) -> Implementation:
    """A crle that writes `data` instead, and says that all is well: a fault."""

    def run(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
        from tests.host.laboratory.system import Result

        for at, word in enumerate(argv):
            if word == "-c" and at + 1 < len(argv):
                lab.write(argv[at + 1], data)
        return Result(0)

    return run


class _Twin(Exception):
    """The result of the other program, which has taken the place of this one."""


class _Run:
    """One run of the program."""

    def __init__(self, lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int) -> None:
        self.lab, self.argv, self.env, self.uid = lab, list(argv), env, uid
        self.name = posixpath.basename(argv[0])
        self.out: list[str] = []
        self.err: list[str] = []
        self.is_twin = posixpath.dirname(argv[0]).endswith(("amd64", "sparcv9")) or 32 not in lab.machine.numbers
        self.bits = 64 if self.is_twin else 32

    @staticmethod
    def text(pieces: Sequence[str]) -> bytes:
        return "".join(pieces).encode("utf-8", "surrogateescape")

    def complain(self, words: str) -> None:
        self.err.append(f"{self.name}: {words}\n")

    # The command line (section 2.2)

    def main(self) -> int:
        options = self.parse()
        writes = options.asks or options.update
        if options.errors:
            for words in options.errors:
                self.complain(words)
            if writes:
                name = options.file or default_file(64 if options.sixtyfour else 32)
                self.complain(f"configuration file: {name}: not created")
            return 1
        if options.sixtyfour and not self.is_twin and (writes and not options.update):
            self.become_twin()
        if options.file is None:
            options.file = default_file(64 if options.sixtyfour or self.is_twin else 32)
            self.named = False
        else:
            self.named = True
        if not writes:
            return self.display(options)
        return self.write(options)

    def parse(self) -> _Options:
        new = self.lab.release == "11.4"
        taking = "6aAceElos" if new else "6aAceEfgGiIlost"
        plain = "uvFV" if new else "uv"
        found = _Options()
        words = self.argv[1:]
        flags_seen = False
        while words:
            word = words[0]
            if word == "--":
                words.pop(0)
                break
            if not word.startswith("-") or word == "-":
                break
            if word.startswith("--"):
                raise _Usage(f"illegal option -- {word[2:]}")
            words.pop(0)
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter in plain:
                    found.update |= letter == "u"
                    found.verbose |= letter in "vV"
                    found.force |= letter == "F"
                    continue
                if letter not in taking:
                    raise _Usage(f"illegal option -- {letter}")
                if letters:
                    argument, letters = letters, ""
                elif words:
                    argument = words.pop(0)
                else:
                    raise _Usage(f"option requires an argument -- {letter}")
                if letter == "f":
                    if flags_seen:
                        found.errors.append("argument -f specified multiple times")
                    flags_seen = True
                self.option(found, letter, argument)
        if words:
            raise _Usage("")
        return found

    def option(self, found: _Options, letter: str, argument: str) -> None:
        if letter == "6":
            if argument[:1] == "4":
                found.sixtyfour = True
            else:
                found.errors.append(f"option -6 has illegal argument `{argument}'")
        elif letter == "c":
            if found.file is not None:
                found.errors.append("argument -c specified multiple times")
            found.file = argument
        elif letter == "t":
            if argument in ("ELF", "AOUT"):
                found.kind = argument
            else:
                found.errors.append(f"unknown object type: {argument}")
        elif letter == "f":
            if not _dldump_flags(argument):
                found.errors.append(f"unknown flags: {argument}")
        elif letter in "aAiIgG":
            found.asks = found.objects = True
        elif letter in "lseE":
            found.asks = True
            found.items.append((letter, argument, found.kind))

    def become_twin(self) -> None:
        """exec of the 64-bit program with the same arguments and the same argv[0]."""
        path = twin_path(self.lab)
        try:
            result = self.lab.execute([path, *self.argv[1:]], self.env, self.uid)
        except OSError:
            raise _Failed("This system lacks support for 64-bit configuration files") from None
        raise _Twin(result)

    # Reading (sections 2.7, 3)

    def read(self, options: _Options) -> _Config | None:
        """The file, None if the default file does not exist; the program becomes its twin where it must."""
        name = options.file
        assert name is not None
        try:
            data = self.lab.tree.read(name, self.uid)
        except OSError as error:
            if error.errno == errno.ENOENT and (options.update or not self.named):
                if options.sixtyfour and not self.is_twin:
                    self.become_twin()
                return None
            raise _Failed(f"{name}: open failed: {os.strerror(error.errno or 0)}") from None
        size = self.lab.machine.header_size(self.bits)
        if len(data) < size:
            raise _Failed(f"{name}: corrupt file, possible truncation")
        identified = data[:4] == MAGIC and self.lab.release != "10"
        base = 16 if identified else 0
        order = self.lab.machine.order
        own = self.lab.machine.numbers[self.bits]
        version, flags = struct.unpack_from(f"{order}II", data, base)
        if flags & BITS_64 and not self.is_twin:
            self.become_twin()
        if not flags & BITS_64 and (options.sixtyfour or (self.is_twin and 32 in self.lab.machine.numbers)):
            raise _Failed(f"{name}: 32-bit file is incompatible with -64 option")
        if identified and (data[5] != (1 if order == "<" else 2) or data[6] != own):
            raise _Failed(
                f"{name}: {_order(data[5])} {_machine(data[6])} file is incompatible with "
                f"{'LSB' if order == '<' else 'MSB'} {_machine(own)} version of {self.name}()"
            )
        newest = self.lab.config_version
        if version > newest:
            words = f"{name}: file version [{_signed(version)}] newer than {self.name}() version [{newest}]."
            if options.update:
                raise _Failed(f"{words}  Unable to update")
            self.complain(f"{words} Displayed information may be incomplete")
        return self.decode(data, base, size)

    def decode(self, data: bytes, base: int, size: int) -> _Config:
        machine = self.lab.machine
        at = Mapped(data, base, machine.order)
        config = _Config(self.bits, machine.order, machine.numbers[self.bits], identified=base > 0)
        if base:
            config.class_bits = data[4] * 32
        config.version, config.flags, config.dlflags = at.word(0), at.word(4), at.word(8)
        hashes, objects, strings, directories = at.word(16), at.word(20), at.word(24), at.word(32)
        for place, name in zip((36, 40, 44, 48), PATHS):
            if at.word(place):
                config.paths[name] = at.text(at.word(place))
        if size == 80:
            config.reservation = at.word(52), at.word(60)
            env, filters = at.word(68), at.word(72)
        else:
            config.reservation = at.word(56), at.word(64)
            env, filters = at.word(72), at.word(76)
        if env and config.version >= 3:
            config.variables = []
            while at.word(env):
                config.variables.append([at.text(at.word(env)), at.word(env + 4)])
                env += 8
        if hashes and objects:
            self.decode_objects(at, config, hashes, objects, strings, directories)
        while filters and at.word(filters):
            config.filters.append((at.text(strings + at.word(filters)), at.text(strings + at.word(filters + 4))))
            filters += 12
        return config

    def decode_objects(
        self, at: Mapped, config: _Config, hashes: int, objects: int, strings: int, directories: int
    ) -> None:
        buckets, chains = at.word(hashes), at.word(hashes + 4)
        for index in range(chains):
            entry = objects + 24 * index
            ids = at.word(entry + 16)
            number, flags = (ids & 0xFFFF, ids >> 16) if config.order == "<" else (ids >> 16, ids & 0xFFFF)
            name = at.text(strings + at.word(entry + 8)) if index else ""
            alternative = at.text(strings + at.word(entry + 20)) if at.word(entry + 20) else ""
            config.objects.append(_Object(name, number, flags, alternative))
        for bucket in range(buckets):
            index = at.word(hashes + 8 + 4 * bucket)
            while index:
                config.objects[index].bucket = bucket
                index = at.word(hashes + 8 + 4 * (buckets + index))
        while directories and at.word(directories):
            files, listed = at.word(directories + 4), []
            while at.word(files):
                listed.append((at.word(files) - objects) // 24)
                files += 4
            config.directories.append(((at.word(directories) - objects) // 24, listed))
            directories += 8

    # Writing (sections 2.3 to 2.5, 2.8, 3.5)

    def write(self, options: _Options) -> int:
        name = options.file
        assert name is not None
        if not options.update and self.is_twin != options.sixtyfour and 32 in self.lab.machine.numbers:
            raise AssertionError("a create without -64 is the 32-bit program's")
        old = self.read(options) if options.update else None
        if options.objects or (old is not None and old.objects):
            raise _Failed(f"{name}: an object cache is beyond this laboratory")
        self.test_access(name)
        if old is not None:
            self.limited(name, old)
        if options.verbose:
            self.out.append(f"output configuration file: {name}\n")
        config = self.made(options, old)
        data = encode(config, self.lab.machine.header_size(self.bits))
        self.replace(name, data)
        return 0

    def limited(self, name: str, old: _Config) -> None:
        """The line about a file of version 1."""
        if old.version == 1:
            self.out.append(
                f"{self.name}: {name}: version [1] of configuration file provides limited update (-u) and command-line "
                "regeneration capabilities: best effort in effect\n"
            )

    def made(self, options: _Options, old: _Config | None) -> _Config:
        """The new value, from the old one and the options."""
        machine = self.lab.machine
        config = _Config(
            self.bits,
            machine.order,
            machine.numbers[self.bits],
            identified=self.lab.release != "10" if old is None else old.identified,
            version=self.lab.config_version,
            flags=SPLIT_LIB | (BITS_64 if self.bits == 64 else 0),
        )
        builtin = {
            "edlibpath": ":".join(machine.library_path(self.bits)),
            "eslibpath": ":".join(machine.trusted(self.bits)),
            **AOUT_DEFAULTS,
        }
        if machine.name == "aarch64" and self.bits == 64:
            builtin["eslibpath"] = "/lib/secure/64:/usr/lib/secure/64"  # crle shows them so, ld.so.1 thinks otherwise
        asked = {_path_name(letter, kind or "ELF") for letter, _, kind in options.items if letter in "ls"}
        kind = options.kind or "ELF"
        variables: list[list[Any]] = []
        if old is not None:
            for name in PATHS:
                if name in old.paths:
                    kind = "AOUT" if name.startswith("a") else "ELF"
                    text = _joined("", old.paths[name])
                    if name.startswith("e") and not old.flags & SPLIT_LIB:
                        text = _split_lib(text, builtin[name])
                    config.paths[name] = text
            order = [name for name in ("edlibpath", "eslibpath", "adlibpath", "aslibpath") if name in old.paths]
            if order:
                kind = "AOUT" if order[-1].startswith("a") else "ELF"
            for text, flags in old.variables or []:
                self.define(variables, text, flags | FROM_FILE)
        if options.update:
            for name in asked - config.paths.keys():
                config.paths[name] = builtin[name]
        # The type in force at the start is the one in force at the end, or what reading the old file left (2.6).
        for letter, argument, written in options.items:
            self.apply(options, config, variables, letter, argument, written or kind)
        config.paths = {name: text for name, text in config.paths.items() if text}
        config.variables = variables or None
        return config

    def apply(
        self, options: _Options, config: _Config, variables: list[list[Any]], letter: str, argument: str, kind: str
    ) -> None:
        if letter in "eE":
            flags = 2 if letter == "E" else 1
            if self.define(variables, argument, flags) and options.verbose:
                word = "permanent" if letter == "E" else "replaceable"
                self.out.append(f" adding {word} environment variable: {argument}\n")
            return
        if options.verbose:
            word = "trusted" if letter == "s" else "default"
            self.out.append(f" adding {word} library path ({kind}): {argument}\n")
        name = _path_name(letter, kind)
        if self.lab.release == "11.4":
            argument = self.cleaned(argument, options.force)
        config.paths[name] = _joined(config.paths.get(name, ""), argument)

    def cleaned(self, argument: str, force: bool) -> str:
        """Solaris 11.4 examines directories; what it does then is not known but from its manual (section 6)."""
        kept = []
        for piece in argument.split(":"):
            text = posixpath.normpath(piece) if piece else ""
            if text and (force or self.lab.tree.exists(text)):
                kept.append(text)
        return ":".join(kept)

    def define(self, variables: list[list[Any]], text: str, flags: int) -> bool:
        """Add a variable; False, with a warning, where an earlier definition of this run stays (section 2.4)."""
        name, equals, _ = text.partition("=")
        for known in variables:
            other, other_equals, _ = known[0].partition("=")
            same = name == (other if other_equals else "") if equals else known[0] == text
            if not same:
                continue
            if known[1] & FROM_FILE:
                known[:] = [text, (known[1] | flags) & ~FROM_FILE if not flags & FROM_FILE else known[1] | flags]
                return True
            self.complain(f"warning: {name}: environment variable multiply-defined, first definition taken")
            return False
        variables.append([text, flags])
        return True

    def test_access(self, name: str) -> None:
        """Before anything is built: the file can be read and written, or made."""
        tree = self.lab.tree
        try:
            host = tree.host(name, self.uid)
            parent = posixpath.dirname(tree.resolve(name, self.uid)) or "/"
        except OSError as error:
            verb = "open" if error.errno == errno.ENOENT else "access"
            raise _Failed(f"{name}: {verb} failed: {os.strerror(error.errno or 0)}") from None
        if os.path.lexists(host):
            if not tree.may(name, self.uid, 6):
                raise _Failed(f"{name}: access failed: {os.strerror(errno.EACCES)}")
        elif not tree.may(parent, self.uid, 3):
            raise _Failed(f"{name}: open failed: {os.strerror(errno.EACCES)}")

    def replace(self, name: str, data: bytes) -> None:
        """Build in /var/tmp, remove the old file, rename."""
        tree = self.lab.tree
        temporary = tree.host(f"/var/tmp/crle.{len(self.lab.calls):06d}")
        try:
            with open(temporary, "wb") as stream:
                stream.write(data)
            os.chmod(temporary, 0o644)
            if self.uid:
                os.chown(temporary, self.uid, -1)
            # Like any program it follows a link in the directory, not one that is the file: that it removes.
            host = tree.host(name, self.uid, follow=False)
            if os.path.lexists(host):
                os.unlink(host)
            os.rename(temporary, host)
        except OSError as error:
            raise _Failed(f"{name}: open failed: {os.strerror(error.errno or 0)}") from None

    # The display (section 4)

    def display(self, options: _Options) -> int:
        name = options.file
        assert name is not None
        if options.sixtyfour and not self.is_twin and not self.lab.tree.exists(name) and not self.named:
            self.become_twin()
        config = self.read(options)
        machine = self.lab.machine
        if config is None:
            self.out.append(f"\nDefault configuration file ({name}) not found\n")
            config = _Config(self.bits, machine.order, machine.numbers[self.bits], self.lab.release != "10", self.bits)
            self.platform(config)
            self.paths(config, options.kind == "AOUT", options.kind != "AOUT")
            return 0
        self.limited(name, config)
        flags = f"[ {' '.join(_dldump_names(config.dlflags))} ]" if config.dlflags else ""
        self.out.append(f"\nConfiguration file [version {_signed(config.version)}]: {name}  {flags}\n")
        self.platform(config)
        self.paths(config, options.kind == "AOUT", True)
        items = ["-64"] if self.bits == 64 and 32 in machine.numbers else []
        items.append(f"-c {name}")
        if config.dlflags not in (0, 1):
            items.append(f'-f "{"|".join(_dldump_names(config.dlflags))}"')
        for key, option in zip(
            ("edlibpath", "eslibpath", "adlibpath", "aslibpath"), ("-l", "-s", "-t AOUT -l", "-t AOUT -s")
        ):
            if key in config.paths:
                items.append(f"{option} {config.paths[key]}")
        if config.variables is not None:
            self.out.append("\nEnvironment Variables:\n")
            for text, kind in config.variables:
                permanent = kind & 2
                self.out.append(f"  {text}  ({'permanent' if permanent else 'replaceable'})\n")
                items.append(f"-{'E' if permanent else 'e'} {text}")
        if config.filters:
            self.out.append("\nFilters:\n")
            self.out += [f"  {filter_}  -  {filtees}:\n" for filter_, filtees in config.filters]
        begin, end = config.reservation
        if begin or end:
            self.out.append(f"\nMemory Reservation:\t{begin:x} - {end:x} ({end - begin:x} bytes)\n")
        self.show_directories(config, options.verbose, items)
        if config.version <= 1 and not options.verbose:
            self.out.append("\n")
            return 0
        self.show_command_line(items, options.verbose)
        if options.verbose and config.objects:
            self.show_objects(config)
        return 0

    def platform(self, config: _Config) -> None:
        if config.identified:
            order = "LSB" if config.order == "<" else "MSB"
            self.out.append(f"  Platform:\t{config.class_bits}-bit {order} {_machine(config.machine)}\n")

    def paths(self, config: _Config, aout: bool, elf_lines: bool) -> None:
        machine = self.lab.machine
        trusted = ("/lib/secure/64", "/usr/lib/secure/64") if self.bits == 64 else machine.trusted(32)
        builtin = {"edlibpath": machine.library_path(self.bits), "eslibpath": trusted}
        for title, key, kind in (
            ("Default Library Path", "edlibpath", "ELF"),
            ("Trusted Directories", "eslibpath", "ELF"),
            ("Default Library Path", "adlibpath", "AOUT"),
            ("Trusted Directories", "aslibpath", "AOUT"),
        ):
            label = title if self.lab.release == "11.4" else f"{title} ({kind})"
            if key in config.paths:
                self.out.append(f"  {label}:\t{config.paths[key]}\n")
            elif kind == "ELF" and elf_lines:
                self.out.append(f"  {label}:\t{':'.join(builtin[key])}  (system default)\n")
            elif kind == "AOUT" and aout:
                self.out.append(f"  {label}:\t{AOUT_DEFAULTS[key]}  (system default)\n")

    def show_directories(self, config: _Config, verbose: bool, items: list[str]) -> None:
        for directory, listed in config.directories:
            entry = config.objects[directory]
            missing = entry.flags & 0x14 == 0x4
            members = []
            for index in listed:
                member = config.objects[index]
                if "/" in member.name and not verbose:
                    continue
                other = f"\t(alternate: {member.alternative})" if member.flags & 0x10 and member.alternative else ""
                members.append(f"  {member.name}{other}\n")
            if members or missing or verbose:
                self.out.append(f"\nDirectory: {entry.name}" + ("\t(non-existent)\n" if missing else "\n"))
                self.out += members
        for entry in config.objects[1:]:
            if not entry.flags & 0x400:
                continue
            if entry.flags & 0x10 and not entry.flags & 0x20:
                items.append(f"-o {posixpath.dirname(entry.alternative)}")
                items.append(f"-{'A' if entry.flags & 0x2000 else 'a'} {entry.name}")
            else:
                letter = "g" if entry.flags & 0x100 else "i"
                items.append(f"-{letter.upper() if entry.flags & 0x20 else letter} {entry.name}")

    def show_command_line(self, items: list[str], verbose: bool) -> None:
        items = [item.encode("utf-8", "surrogateescape")[:1023].decode("utf-8", "surrogateescape") for item in items]
        joint = " \\\n    " if verbose else " "
        self.out.append(f"\nCommand line:\n  crle {joint.join(items)}\n\n")

    def show_objects(self, config: _Config) -> None:
        self.out.append("Object Entries:\n   Id\tBkt\tString\n")
        for entry in sorted(config.objects[1:], key=lambda one: one.bucket):
            words = " ".join(word for bit, word in OBJECT_FLAGS if entry.flags & bit)
            self.out.append(f"{entry.directory:5d}\t[{entry.bucket}]\t{entry.name}\t[ {words} ]\n")
        self.out.append("\n")


def encode(config: _Config, size: int) -> bytes:
    """The bytes of a file without object cache (section 3.5)."""
    order = config.order
    header: dict[str, int] = dict.fromkeys((*PATHS, "str", "env"), 0)
    position = size
    variables = config.variables or []
    if variables:
        header["env"] = position
        position += 8 * (len(variables) + 1)
    strings, table = b"", b""
    for name in PATHS:
        if name in config.paths:
            header[name] = position + len(strings)
            strings += config.paths[name].encode("utf-8", "surrogateescape") + b"\0"
    for text, flags in variables:
        table += struct.pack(f"{order}II", position + len(strings), flags)
        strings += text.encode("utf-8", "surrogateescape") + b"\0"
    if variables:
        table += bytes(8)
    if strings:
        header["str"] = position
        strings += bytes(-len(strings) % 4)
    words = [config.version, config.flags, 0, 0, 0, 0, header["str"], 0, 0, *(header[name] for name in PATHS)]
    out = bytearray(struct.pack(f"{order}13I", *words))
    out += bytes(size - len(out))
    struct.pack_into(f"{order}I", out, 68 if size == 80 else 72, header["env"])
    identification = b""
    if config.identified:
        data = 1 if order == "<" else 2
        identification = MAGIC + bytes([config.bits // 32, data, config.machine]) + bytes(9)
    return bytes(identification + out + table + strings)


def _path_name(letter: str, kind: str) -> str:
    return ("e" if kind == "ELF" else "a") + ("dlibpath" if letter == "l" else "slibpath")


def _joined(text: str, argument: str) -> str:
    """`text` and the pieces of `argument` that it does not show already at their first place (section 2.3)."""
    for piece in argument.split(":"):
        if not piece:
            continue
        at = text.find(piece)
        if at >= 0:
            before, after = text[:at], text[at + len(piece) :]
            if (not before or before.endswith(":")) and (not after or after.startswith(":")):
                continue
        text = f"{text}:{piece}" if text else piece
    return text


def _split_lib(text: str, builtin: str) -> str:
    """/lib in front of the last /usr/lib of a path from before they were apart (section 2.5)."""
    new, old = builtin.split(":")
    pieces = text.split(":")
    if old not in pieces or new in pieces:
        return text
    place = len(pieces) - 1 - pieces[::-1].index(old)
    return ":".join([*pieces[:place], new, *pieces[place:]])


def _dldump_flags(text: str) -> int:
    """The value of -f; 0 for one that is not understood."""
    try:
        return int(text, 0)
    except ValueError:
        pass
    value = 0
    for word in text.replace("|", " ").replace("\t", " ").split():
        number = {**FLAGS, "RTLD_CONFGEN": 0x10000}.get(word)
        if number is None:
            return 0
        value |= number
    return value


def _dldump_names(flags: int) -> list[str]:
    names = []
    for name, bits in FLAGS.items():
        if flags & bits == bits:
            names.append(name)
            flags &= ~bits
    return names + ([f"0x{flags:x}"] if flags else [])


def _order(data: int) -> str:
    return {1: "LSB", 2: "MSB"}.get(data, f"0x{data:x}")


def _machine(number: int) -> str:
    return MACHINES.get(number) or elf.MACHINE_NAMES.get(number) or f"0x{number:x}"


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number

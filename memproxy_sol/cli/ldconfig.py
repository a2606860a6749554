"""`memproxy-sol ldconfig show|encode`: runtime linker configuration files, of any ABI, on any machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterator
from typing import Any

from plumbum import cli

from memproxy_sol import abi, crle, files, ld_config, preloads
from memproxy_sol.cli.application import Command
from memproxy_sol.errors import EXIT_OK, EXIT_USAGE, CrleError, HostError, LdConfigError, UsageError, printable
from memproxy_sol.ld_config import Layout, LdConfig
from memproxy_sol.root import FileState, Root

ABI_NAMES = {
    "i386": ld_config.layout_for(abi.X86, 32),
    "amd64": ld_config.layout_for(abi.X86, 64),
    "sparc": ld_config.layout_for(abi.SPARC, 32),
    "sparcv9": ld_config.layout_for(abi.SPARC, 64),
}
_MAX_JSON = 16 * ld_config.MAX_SIZE
_VERDICTS = {
    preloads.CORRUPT: "ld.so.1 ignores the file: it is shorter than its header",
    preloads.ABI_MISMATCH: "ld.so.1 ignores the file: it is for another machine",
    preloads.BAD_VERSION: f"ld.so.1 ignores the file: its version is above {ld_config.VERSION}",
    preloads.IGNORED: "ld.so.1 ignores the file: its header says so",
    preloads.CRASH: "ld.so.1 follows it out of the file and dies, and every program of this ABI with it; "
    "LD_NOCONFIG=yes in front of a command rescues that command",
    preloads.ACCEPTED: "ld.so.1 accepts the file all the same",
}


class Ldconfig(Command):
    """Runtime linker configuration files."""

    DESCRIPTION = "Shows or writes a runtime linker configuration file (ld.config) of any ABI"
    DESCRIPTION_MORE = """
No Solaris is needed, and nothing on the machine changes but the file named with -o. docs/ldconfig.md describes the
JSON.
"""
    SUBCOMMAND_HELPMSG = False

    def main(self, *args: str) -> int:
        if self.nested_command:
            return EXIT_OK
        if args:
            raise UsageError(f"unknown command {args[0]!r}", hint="see memproxy-sol ldconfig --help")
        self.help()
        return EXIT_USAGE


class LayoutCommand(Command):
    """A command that can be told what the file is for."""

    abi_name: Any = cli.SwitchAttr(
        ["--abi"],
        cli.Set("32", "64", *ABI_NAMES, case_sensitive=True),
        argname="ABI",
        help="32 or 64 (of --machine), or i386, amd64, sparc, sparcv9",
    )
    machine_name: Any = cli.SwitchAttr(
        ["--machine"],
        str,
        argname="MACHINE",
        help="with --abi 32 or 64: x86, sparc, aarch64, or an ELF machine number and its byte order: 243/little",
    )

    def layout(self, default: Layout | None) -> Layout | None:
        """What the switches say; `default` fills in the machine for a bare --abi 32 or 64, or all of it."""
        if self.machine_name is not None and self.abi_name not in ("32", "64"):
            raise UsageError("--machine needs --abi 32 or --abi 64 beside it")
        if self.abi_name is None:
            return default
        if self.abi_name in ABI_NAMES:
            return ABI_NAMES[self.abi_name]
        bits = int(self.abi_name)
        if self.machine_name is not None:
            return self._named(bits, self.machine_name)
        if default is None:
            return ld_config.layout_for(abi.X86, bits)
        if default.bits == bits:
            return default
        try:
            return ld_config.layout_for(abi.machine_of(default.machine), bits)
        except KeyError:
            raise UsageError(f"there is no {bits}-bit ABI of {default.machine_name}", hint="say --machine") from None

    @staticmethod
    def _named(bits: int, name: str) -> Layout:
        if name in abi.MACHINES:
            try:
                return ld_config.layout_for(abi.MACHINES[name], bits)
            except KeyError:
                raise UsageError(f"{name} has no {bits}-bit ABI", where="--machine") from None
        match = re.fullmatch(r"([1-9][0-9]{0,2})/(little|big)", name)
        if match is None or int(match.group(1)) > 255:
            raise UsageError(
                f"{name!r} is no machine",
                where="--machine",
                hint=f"say {', '.join(abi.MACHINES)} or an ELF machine number with its byte order: 243/little",
            )
        return Layout(bits, match.group(2), int(match.group(1)))


@Ldconfig.subcommand("show")
class Show(LayoutCommand):
    """What a file says, and what follows from it."""

    DESCRIPTION = "Shows what a file says, what ld.so.1 makes of it, and what is preloaded"
    DESCRIPTION_MORE = """
FILE may be - for standard input. A file that is damaged is an error, which names the field and its offset; --mapped
shows it as ld.so.1 and crle read it.

A file of the old format, without identification block, does not say which machine it is for. Its byte order and class
are then taken from its version and flags, and of the machines of that order x86 or SPARC; --abi overrides that.

    memproxy-sol ldconfig show /var/ld/64/ld.config

    memproxy-sol ldconfig show --json /mnt/be/var/ld/ld.config
"""

    json: Any = cli.Flag(["--json"], help="Print the value as JSON, which `ldconfig encode` takes")
    mapped: Any = cli.Flag(["--mapped"], help="Read as ld.so.1 does: no checks, zeros behind the end of the file")

    def _parse_args(self, argv: list[str]) -> Any:
        if "-" in argv and "--" not in argv:  # plumbum takes it for a switch without a name
            argv = [*(word for word in argv if word != "-"), "--", "-"]
        return super()._parse_args(argv)

    def main(self, file: str) -> int:
        data = _read(file)
        try:
            found = ld_config.identify(data)
            layout = self.layout(found or (None if self.abi_name in ABI_NAMES else ld_config.guess_layout(data)))
            config = ld_config.decode(data, layout=layout, mapped=bool(self.mapped))
        except LdConfigError as error:
            raise _located(error, file, self._rescue(data)) from None
        if self.json:
            print(json.dumps(ld_config.to_json(config), indent=2))
            return EXIT_OK
        for line in _describe(file, data, config, guessed=found is None and self.abi_name is None):
            print(line)
        return EXIT_OK

    def _rescue(self, data: bytes) -> str | None:
        """What ld.so.1 makes of a file that cannot be decoded: the first thing one wants to know then."""
        try:
            layout = self.layout(ld_config.identify(data) or ld_config.guess_layout(data))
            assert layout is not None
            verdict = preloads.loader_verdict(data, layout)
        except LdConfigError:
            return None
        more = "" if self.mapped or verdict not in (preloads.ACCEPTED, preloads.BAD_VERSION) else "; --mapped shows it"
        return _VERDICTS[verdict] + more


@Ldconfig.subcommand("encode")
class Encode(LayoutCommand):
    """A file from JSON."""

    DESCRIPTION = "Writes a file from the JSON that `ldconfig show --json` prints"
    DESCRIPTION_MORE = """
The layout comes from --abi and --machine; what they leave open comes from the JSON's keys abi, byte_order and machine,
and a machine that neither names is x86. Where both speak, they must agree: remove the keys to write for another ABI.

The file is written beside its place and renamed, mode 0644, so that no process ever sees half of it. One that exists is
replaced only with --force: a wrong file in /var/ld stops every program of its ABI. Write it beside the live one, look
at it with `ldconfig show`, try it with `LD_CONFIG_64=FILE ls` (LD_CONFIG_32 for the other ABI), then rename it.

    memproxy-sol ldconfig encode --from config.json --abi 64 -o /var/ld/64/ld.config.new
"""

    source: Any = cli.SwitchAttr(
        ["--from"], str, argname="JSON", mandatory=True, help="The file with the JSON, or - for standard input"
    )
    output: Any = cli.SwitchAttr(
        ["-o", "--output"], str, argname="FILE", mandatory=True, help="The file to write, or - for standard output"
    )
    force: Any = cli.Flag(["--force"], help="Replace FILE if it exists")

    def main(self) -> int:
        try:
            obj = json.loads(_read(self.source, _MAX_JSON).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise LdConfigError(f"is no JSON: {error}", where=_shown(self.source)) from None
        try:
            layout = self.layout(ld_config.layout_from_json(obj))
            if layout is None:
                raise UsageError("the JSON does not say which ABI the file is for", hint="say --abi")
            data = ld_config.encode(ld_config.from_json(obj, layout))
        except LdConfigError as error:
            raise _located(error, self.source) from None
        if self.output == "-":
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            _write(self.output, data, bool(self.force))
        return EXIT_OK


def _located(error: LdConfigError, file: str, hint: str | None = None) -> LdConfigError:
    """The error with the name of its file in front."""
    located = LdConfigError(printable(error.what), where=_shown(file), hint=hint)
    located.field, located.offset = error.field, error.offset
    return located


def _shown(file: str) -> str:
    return "standard input" if file == "-" else printable(file)


def _read(file: str, limit: int = ld_config.MAX_SIZE) -> bytes:
    """The bytes of a file, or of standard input; LdConfigError if they cannot be had."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(limit + 1)
            if len(data) > limit:
                raise LdConfigError(f"has more than the {limit} bytes that are read", where=_shown(file))
            return data
        state = Root("/").read(os.path.abspath(file), limit)
    except HostError as error:
        raise LdConfigError(error.what, where=_shown(file)) from None
    except OSError as error:
        raise LdConfigError(error.strerror or str(error), where=_shown(file)) from None
    if state is None:
        raise LdConfigError("does not exist", where=_shown(file))
    return state.data


def _write(file: str, data: bytes, force: bool) -> None:
    """Put the file in place in one rename; a link is followed, what is no regular file is left alone."""
    path = os.path.realpath(file)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise LdConfigError(error.strerror or str(error), where=_shown(file)) from None
    else:
        if not stat.S_ISREG(status.st_mode):
            raise LdConfigError("is no regular file", where=_shown(file))
        if not force:
            raise LdConfigError("exists", where=_shown(file), hint="--force replaces it")
    try:
        files.put(Root("/"), path, FileState(data, 0o644, os.geteuid(), os.getegid()))
    except OSError as error:
        raise LdConfigError(error.strerror or str(error), where=_shown(file)) from None


def _describe(file: str, data: bytes, config: LdConfig, guessed: bool) -> Iterator[str]:
    """The lines of `show`."""
    layout = config.layout
    own = abi.ABIS[layout.bits]
    guess = " (a guess from the content: it has no identification block)" if guessed else ""
    yield f"{_shown(file)}: {len(data)} bytes, version {config.version}, {layout}{guess}"
    paths = (
        ("Default library path", config.library_path, own.default_library_path),
        ("Trusted directories", config.trusted_directories, own.default_trusted_directories),
        ("AOUT library path", config.aout_library_path, None),
        ("AOUT trusted directories", config.aout_trusted_directories, None),
    )
    for title, path, default in paths:
        if path is not None:
            yield f"  {title + ':':<26}{printable(':'.join(path)) or '(empty, so the system default applies)'}"
        elif default is not None:
            yield f"  {title + ':':<26}{':'.join(default)}  (system default)"
    extra = ld_config.ALTERNATIVES | ld_config.BITS_64 | ld_config.SPLIT_LIB | ld_config.IGNORE
    if config.flags & ~extra or not config.flags & ld_config.SPLIT_LIB:
        yield f"  {'Flags:':<26}{config.flags:#x}"
    if config.dlflags:
        yield f"  {'dldump flags:':<26}{config.dlflags:#x}"
    if config.environment is not None:
        yield "Environment variables:" if config.environment else "Environment variables: none (an empty table)"
        for variable in config.environment:
            kind = "permanent" if variable.permanent else "replaceable"
            yield f"  {printable(variable.text)}  ({kind})"
    yield from _describe_cache(config)
    verdict = preloads.loader_verdict(data, layout)
    yield f"ld.so.1 of {layout} accepts the file" if verdict == preloads.ACCEPTED else _VERDICTS[verdict]
    if verdict != preloads.CRASH:
        yield from _describe_preloads("a process", preloads.effective(data, layout))
        yield from _describe_preloads("a set-user-id process", preloads.effective(data, layout, secure=True))
    try:
        command = shlex.join(["crle", *crle.command_line(config, "FILE" if file == "-" else file)])
        yield f"A crle command that says the same: {printable(command)}"
    except CrleError as error:
        yield f"No crle command says the same: {error.what}"


def _describe_cache(config: LdConfig) -> Iterator[str]:
    cache = config.objects
    if cache is not None:
        yield f"Object cache: {len(cache.objects)} objects in {len(cache.directories)} directories"
        for number, entry in enumerate(cache.objects, 1):
            other = "" if entry.alternative is None else f"  (alternative: {printable(entry.alternative)})"
            mark = "  (the application of this file)" if number == cache.application else ""
            yield f"  {printable(entry.name)}  flags {entry.flags:#x}{other}{mark}"
    if config.filters is not None:
        yield f"Filters: {len(config.filters)}"
        for item in config.filters:
            yield f"  {printable(item.name)}  {printable(item.filtees)}: {printable(' '.join(item.resolved))}"
    if config.reservation is not None:
        begin, end = config.reservation
        yield f"Memory reservation: {begin:#x} to {end:#x}"


def _describe_preloads(process: str, effective: preloads.Effective) -> Iterator[str]:
    if not effective.preloads:
        yield f"Preloads of {process}, with an empty environment: none"
        return
    yield f"Preloads of {process}, with an empty environment:"
    for preload in effective.preloads:
        refused = "  (refused: its directory is not a trusted one)" if preload.verdict == preloads.REFUSED else ""
        yield f"  {printable(preload.name)}{refused}"

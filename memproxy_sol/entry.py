"""Entry: what memproxy-sol puts into a runtime linker configuration, and how it is taken out again.

Pure functions from one configuration value to another. Rules (reference "crle", section 5.2): of permanent
definitions the first suffixed one counts, else the last unsuffixed one; of replaceable ones in the file the
suffixed one displaces the unsuffixed. An entry added carelessly would therefore switch somebody else's off;
ours is joined to the definition that is in force, behind the others' objects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Callable

from memproxy_sol.abi import Abi
from memproxy_sol.errors import LdConfigError
from memproxy_sol.ld_config import LdConfig, Variable, decode, new
from memproxy_sol.record import AbiRecord

GENERATION_NAME = re.compile(r"[0-9a-f]{16}")
_OURS = re.compile(
    r"(?P<directory>(?:/[^/:\s]+)*/lib/memproxy/(?P<generation>[0-9a-f]{16})(?:/64)?)/(?P<file>[^/:\s]+)"
)
_DIRECTORY = re.compile(r"(?:/[^/:\s]+)*/lib/memproxy/[0-9a-f]{16}(?:/64)?")
_PIECES = re.compile(r"[: ]+|[^: ]+")


@dataclass(frozen=True)
class Entry:
    """Our part of one ABI's configuration."""

    directory: str
    """The generation's directory for this ABI."""
    files: tuple[str, ...]
    """libmemproxy.so, then the allocator if there is one."""
    replaceable: bool = False
    """False: permanent (crle -E); True: replaceable (crle -e)."""
    trusted: bool = True
    """Whether secure processes may load from the directory (crle -s)."""
    library_path: tuple[str, ...] = ()
    """Directories added to the default library path."""

    @property
    def items(self) -> tuple[str, ...]:
        """The preload items, full paths, in order."""
        return tuple(f"{self.directory}/{name}" for name in self.files)


def is_ours(item: str) -> bool:
    """Whether a preload item lies in a generation directory."""
    return _OURS.fullmatch(item) is not None


def is_our_directory(directory: str) -> bool:
    """Whether a trusted directory is a generation's."""
    return _DIRECTORY.fullmatch(directory) is not None


def split_items(value: str) -> list[str]:
    """The items of an LD_PRELOAD value: separated by colon or blank, empty ones vanish."""
    return [piece for piece in re.split("[: ]+", value) if piece]


def without_items(value: str, unwanted: Callable[[str], bool]) -> str:
    """`value` less the unwanted items, each with one separator; what stays is untouched."""
    kept: list[str] = []
    for piece in _PIECES.findall(value):
        if not re.fullmatch("[: ]+", piece) and unwanted(piece):
            if kept and re.fullmatch("[: ]+", kept[-1]):
                kept.pop()
        elif kept or not re.fullmatch("[: ]+", piece) or value.startswith(piece):
            kept.append(piece)
    text = "".join(kept)
    return text if split_items(text) else ""


def generations_named(config: LdConfig) -> tuple[str, ...]:
    """The generation directories (without `/64`) that the configuration names, in preloads or trusted directories."""
    found = []
    for variable in config.environment or ():
        for item in split_items(variable.value or ""):
            match = _OURS.fullmatch(item)
            if match:
                found.append(match["directory"])
    found += [directory for directory in config.trusted_directories or () if is_our_directory(directory)]
    return tuple(dict.fromkeys(d[:-3] if d.endswith("/64") else d for d in found))


def put(config: LdConfig, abi: Abi, entry: Entry) -> LdConfig:
    """`config`, which must not hold an entry of ours, with `entry` in force behind what others have there."""
    config = _with_split_lib(config, abi)
    changed = replace(config, version=4, environment=_put_variable(config.environment or (), abi, entry))
    if entry.trusted:
        before = config.trusted_directories or abi.default_trusted_directories
        changed = replace(changed, trusted_directories=_joined(before, (entry.directory,)))
    if entry.library_path:
        before = config.library_path or abi.default_library_path
        changed = replace(changed, library_path=_joined(before, entry.library_path))
    return changed


def carried(former: LdConfig, abi: Abi) -> dict[bool, tuple[str, ...]]:
    """By kind (permanent or not) the items that our suffixed definition, if we made it, took over from the plain one.

    A kind of which `former`, the configuration before us, had a suffixed definition is not there: it was joined.
    """
    found = {}
    for permanent in (True, False):
        same_kind = [v for v in former.environment or () if v.permanent == permanent]
        if not any(v.name == abi.preload_variable for v in same_kind):
            plain = [v for v in same_kind if v.name == "LD_PRELOAD"]
            found[permanent] = tuple(split_items((plain[-1] if permanent else plain[0]).value or "")) if plain else ()
    return found


def strip(
    config: LdConfig,
    abi: Abi,
    added_directories: Sequence[str] = (),
    made: Mapping[bool, tuple[str, ...]] | None = None,
) -> LdConfig:
    """`config` less everything that is ours; `added_directories` are library directories which we added.

    `made` is what `carried` says of the configuration before us, where that is known: a suffixed definition that we
    made goes as a whole, so that what others have made of the plain one since comes into force.
    """
    variables = []
    for variable in config.environment or ():
        value = variable.value
        if value is not None and any(is_ours(item) for item in split_items(value)):
            rest = without_items(value, is_ours)
            as_made = None if made is None or variable.name != abi.preload_variable else made.get(variable.permanent)
            if as_made == tuple(split_items(rest)):
                continue
            # An emptied definition goes, unless another, which it displaces, would come into force by that.
            if rest or any(_same_slot(variable, other, abi) for other in config.environment or ()):
                variables.append(replace(variable, text=f"{variable.name}={rest}"))
        else:
            variables.append(variable)
    environment: tuple[Variable, ...] | None = tuple(variables) or None
    if config.environment == ():
        environment = ()
    return replace(
        config,
        environment=environment,
        trusted_directories=_without(config.trusted_directories, is_our_directory, abi.default_trusted_directories),
        library_path=_without(config.library_path, lambda d: d in added_directories, abi.default_library_path),
    )


def taken_out(config: LdConfig, abi: Abi, known: AbiRecord | None) -> LdConfig:
    """A configuration that others may have changed since install, less our entry; `known` is of the record."""
    if known is None:  # nobody leaves an empty suffixed definition in front of a plain one on purpose
        return strip(config, abi, (), {True: (), False: ()})
    try:
        former = decode(known.original.data, layout=config.layout) if known.original else new(config.layout)
    except LdConfigError:
        return strip(config, abi, known.library_path)
    return strip(config, abi, known.library_path, carried(former, abi))


def without_preload(config: LdConfig, abi: Abi, unwanted: Callable[[str], bool]) -> LdConfig:
    """`config` with the unwanted items gone from every LD_PRELOAD that counts for `abi` (an adopted allocator)."""
    variables = []
    for variable in config.environment or ():
        value = variable.value
        if variable.name in ("LD_PRELOAD", abi.preload_variable) and value and any(map(unwanted, split_items(value))):
            rest = without_items(value, unwanted)
            if rest:
                variables.append(replace(variable, text=f"{variable.name}={rest}"))
        else:
            variables.append(variable)
    return replace(config, environment=tuple(variables) or None)


def _put_variable(variables: tuple[Variable, ...], abi: Abi, entry: Entry) -> tuple[Variable, ...]:
    ours = ":".join(entry.items)
    permanent = not entry.replaceable
    same_kind = [v for v in variables if v.permanent == permanent]
    suffixed = next((v for v in same_kind if v.name == abi.preload_variable), None)
    if suffixed is not None:
        joined = replace(suffixed, text=f"{suffixed.name}={_behind(suffixed.value or '', ours)}")
        return tuple(joined if v is suffixed else v for v in variables)
    plain = [v for v in same_kind if v.name == "LD_PRELOAD"]
    # A suffixed definition displaces the plain one, so it has to carry what that says.
    carried = (plain[-1] if permanent else plain[0]).value if plain else ""
    return (*variables, Variable.define(abi.preload_variable, _behind(carried or "", ours), permanent))


def _same_slot(variable: Variable, other: Variable, abi: Abi) -> bool:
    """Whether `other` is a further definition of the preload list that `variable` is one of."""
    names = ("LD_PRELOAD", abi.preload_variable)
    same_kind = variable.permanent == other.permanent
    return other is not variable and same_kind and variable.name in names and other.name in names


def _behind(value: str, ours: str) -> str:
    return f"{value.rstrip(': ')}:{ours}" if split_items(value) else ours


def _joined(before: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    return before + tuple(directory for directory in added if directory not in before)


def _without(
    directories: tuple[str, ...] | None, unwanted: Callable[[str], bool], defaults: tuple[str, ...]
) -> tuple[str, ...] | None:
    if directories is None or not any(map(unwanted, directories)):
        return directories
    rest = tuple(directory for directory in directories if not unwanted(directory))
    # The defaults had to be spelt out when ours was added; alone they say what their absence says.
    return None if rest in (defaults, ()) else rest


def _with_split_lib(config: LdConfig, abi: Abi) -> LdConfig:
    """A file from before `/lib` was split from `/usr/lib` (header flag 8 absent), as crle -u and ld.so.1 read it."""
    if config.flags & 8:
        return config

    def split(directories: tuple[str, ...] | None, defaults: tuple[str, ...]) -> tuple[str, ...] | None:
        new, old = defaults
        if directories is None or old not in directories or new in directories:
            return directories
        place = len(directories) - 1 - directories[::-1].index(old)
        return (*directories[:place], new, *directories[place:])

    return replace(
        config,
        flags=config.flags | 8,
        library_path=split(config.library_path, abi.default_library_path),
        trusted_directories=split(config.trusted_directories, abi.default_trusted_directories),
    )

"""Plan for Linux: what becomes of /etc/ld.so.preload, which serves the runtime linkers of all ABIs by one line.

`PREFIX/lib/memproxy/GENERATION/$LIB/libmemproxy.so`: each linker puts its own directory for `$LIB`, so that one rename
of one file gives all ABIs another generation (ld.so(8)). A linker that finds nothing there complains at every start of
a program; so a generation holds something for each that the host has, if only an object that does nothing.
Pure: from facts to values. Standard library and own modules only: verify_linux.py imports this at boot.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memproxy_sol import access, drop_ins, ld_so_preload, placeholder, probe_program
from memproxy_sol.abi import LD_SO_PRELOAD, Abi
from memproxy_sol.errors import HostError, RefusedError
from memproxy_sol.findings import NOTE, Finding
from memproxy_sol.generation import LIBRARY
from memproxy_sol.hosts.facts import Facts
from memproxy_sol.hosts.linux import LinuxFacts
from memproxy_sol.ld_so_preload import is_ours
from memproxy_sol.record import AbiRecord, digest
from memproxy_sol.root import FileState
from memproxy_sol.steps import ReplaceFile

if TYPE_CHECKING:
    from memproxy_sol.policy import Policy

PURPOSE = "list of preloads of the runtime linker"
SEARCH_PATH = "/etc/ld.so.conf.d/memproxy.conf"
"""Where ldconfig(8) reads the directories of the policy's library_path."""
LATER = {"lib/x86_64-linux-gnu": ("lib/i386-linux-gnu", "lib32"), "lib64": ("lib",), "lib": ("lib32",)}
"""`$LIB` of 32-bit packages by that of the 64-bit C library: Debian (libc6:i386, libc6-i386), Fedora, Arch."""
ALLOCATOR = "liballocator.so"
"""What the allocators are called where those of the ABIs have different names: one line names both."""
MODES = {"all": 0o644, "root": 0o600}
"""By scope: a list that a user cannot read is not in force for processes whose real user that is."""
MODE = MODES["all"]


@dataclass(frozen=True)
class Configured:
    """What an install makes of the file."""

    before: bytes | None
    after: bytes | None
    step: ReplaceFile | None
    records: dict[int, AbiRecord]
    others: dict[str, bytes]
    """Files that are ours as a whole, by path: drop-ins that give services their LD_PRELOAD, the search path."""


def names(facts: LinuxFacts, abis: tuple[Abi, ...], allocators: Mapping[int, str]) -> dict[int, str]:
    """The file name of each ABI's allocator in a generation, one for all: those of `abis` have `allocators`, the others
    what they have now."""
    left = {abi.bits for abi in facts.abis} - {abi.bits for abi in abis}
    known = facts.record.abis if facts.record is not None else {}
    present = {bits: one.files[1] for bits, one in known.items() if bits in left and len(one.files) > 1}
    together = {**present, **allocators}
    return together if len(set(together.values())) == 1 else dict.fromkeys(together, ALLOCATOR)


def members(
    facts: LinuxFacts,
    abis: tuple[Abi, ...],
    libraries: Mapping[int, bytes],
    allocators: Mapping[int, bytes],
    files: Mapping[int, str],
) -> dict[str, bytes]:
    """The files of a generation, by name: those of `abis`, what other ABIs have now, and placeholders.

    `files` is what `names` has of them. HostError where what is there now is not what was installed.
    """
    found = {facts.member(bits, LIBRARY): data for bits, data in libraries.items()}
    found |= {facts.member(bits, files[bits]): data for bits, data in allocators.items()}
    wanted = {LIBRARY, *files.values()}
    chosen = {abi.bits for abi in abis}
    for loader in facts.loaders:
        nothing = placeholder.shared_object(loader.bits, loader.machine)
        if loader.bits not in chosen:
            found |= _kept(facts, loader.bits, files)
        for name in wanted:
            found.setdefault(facts.member(loader.bits, name), nothing)
        found[facts.member(loader.bits, probe_program.NAME)] = probe_program.program(loader.bits, loader.machine)
    for lib in _later(facts):
        for name in wanted:
            found[f"{lib}/{name}"] = placeholder.shared_object(32, facts.machine.elf_machine[32])
    return found


def _later(facts: LinuxFacts) -> tuple[str, ...]:
    """What `$LIB` will stand for in a 32-bit runtime linker that the host has not yet, as its distribution has it: its
    programs would complain at each start until the next install."""
    here = {loader.bits: loader.lib for loader in facts.loaders}
    if 32 in here or 64 not in here or 32 not in facts.machine.elf_machine:
        return ()
    return LATER.get(here[64], ())


def _kept(facts: LinuxFacts, bits: int, files: Mapping[int, str]) -> dict[str, bytes]:
    """What an ABI that is left alone has now; under the names that the line will have."""
    known = facts.record.abis.get(bits) if facts.record is not None else None
    if known is None or facts.record is None:
        return {}
    found = {}
    digests = facts.record.generations.get(known.generation, {})
    for name in known.files:
        path = f"{known.generation}/{facts.member(bits, name)}"
        state = facts.root.read(path)
        if state is None or digest(state.data) != digests.get(facts.member(bits, name)):
            raise HostError("is damaged or gone", where=path, hint=f"name the {bits}-bit ABI, too, with --bits")
        found[facts.member(bits, LIBRARY if name == LIBRARY else files[bits])] = state.data
    return found


def configure(
    facts: LinuxFacts,
    policy: Policy,
    abis: tuple[Abi, ...],
    directory: str,
    files: Mapping[int, str],
    adopted: tuple[str, ...],
) -> Configured:
    """The file with our line in it, behind what others have there.

    `files` is the name of the allocator by bits, `directory` the generation's, `adopted` are others' items that the
    allocator stands in for. RefusedError where it cannot be done without losing something.
    """
    _refuse_unknown(policy)
    known = facts.record.abis if facts.record is not None else {}
    base, original = without_ours(facts, known)
    gone = dict.fromkeys((*(item for record in known.values() for item in record.adopted), *adopted))
    stripped = ld_so_preload.strip(base, lambda item: item in adopted)
    allocator = next(iter(sorted(set(files.values()))), None)
    items = [f"{directory}/$LIB/{name}" for name in (LIBRARY, *([allocator] if allocator else []))]
    here = facts.preload.state
    if policy.scope == "services":
        after, data, is_listed = original, b"" if original is None else original.data, False
    else:
        data = ld_so_preload.put(stripped, items)
        after = FileState(data, MODES[policy.scope], here.uid if here else 0, here.gid if here else 0)
        is_listed = True
        _check_effect(stripped, data, items)
    served = {abi.bits for abi in abis} | set(known)
    records = {
        bits: AbiRecord(
            generation=directory,
            files=(LIBRARY, *([files[bits]] if bits in files else [])),
            replaceable=False,
            trusted=True,
            library_path=(),
            written=digest(data) if is_listed else "",
            original=original if is_listed else None,
            adopted=tuple(gone),
            scope=policy.scope,
        )
        for bits in sorted(served)
        if bits in {loader.bits for loader in facts.loaders}
    }
    step = None if here == after else ReplaceFile(LD_SO_PRELOAD, here, after, PURPOSE)
    services = policy.services if policy.scope == "services" else ()
    before, now = (None if state is None else state.data for state in (here, after))
    written = {drop_ins.path_of(name): drop_ins.content(items) for name in services}
    if policy.library_path:
        written[SEARCH_PATH] = "".join(f"{line}\n" for line in ("# by memproxy-sol", *policy.library_path)).encode()
    return Configured(before, now, step, records, written)


def is_other(path: str) -> bool:
    """Whether a file is one of those that are ours as a whole."""
    return path == SEARCH_PATH or drop_ins.is_drop_in(path)


def without_ours(facts: LinuxFacts, known: Mapping[int, AbiRecord]) -> tuple[bytes, FileState | None]:
    """What the file says without us, and the file to put back at uninstall."""
    here = facts.preload.state
    first = next(iter(known.values()), None)
    if here is None:
        original = first.original if first is not None else None
        return (b"" if original is None else original.data), original
    stripped = ld_so_preload.strip(here.data, is_ours)
    if first is not None and digest(here.data) == first.written:
        return stripped, first.original
    if stripped == here.data:
        return stripped, here
    # Others changed it since: what they have there now has to be there after us. A file that is empty says nothing.
    return stripped, here.with_data(stripped) if stripped.strip() else None


def restore(facts: LinuxFacts, known: Mapping[int, AbiRecord]) -> tuple[ReplaceFile | None, bool]:
    """The step that takes our line out, and whether others have changed the file since install.

    Where nobody has, it gets its former bytes back, or goes.
    """
    here = facts.preload.state
    first = next(iter(known.values()), None)
    if here is None:
        if first is None or first.original is None or facts.preload.problem:
            return None, False
        return ReplaceFile(LD_SO_PRELOAD, None, first.original, PURPOSE), True
    if first is not None and digest(here.data) == first.written:
        return ReplaceFile(LD_SO_PRELOAD, here, first.original, PURPOSE), False
    stripped = ld_so_preload.strip(here.data, is_ours)
    adopted = first.adopted if first is not None else ()
    if stripped == here.data:
        return None, False
    if adopted:
        stripped = ld_so_preload.put(stripped, list(adopted))
    original = first.original if first is not None else None
    if original is not None and original.data == stripped:
        return ReplaceFile(LD_SO_PRELOAD, here, original, PURPOSE), False
    after = here.with_data(stripped) if stripped.strip() or original is not None else None
    return ReplaceFile(LD_SO_PRELOAD, here, after, PURPOSE), after is not None


def others(data: bytes) -> list[str]:
    """The items of a list that are not ours."""
    return [item.text for item in ld_so_preload.parse(data) if not is_ours(item.text)]


def _refuse_unknown(policy: Policy) -> None:
    """RefusedError for what /etc/ld.so.preload has no word for."""
    if policy.secure == "system":
        text = "set-id programs load what /etc/ld.so.preload names like all others, so they cannot be left out"
        raise RefusedError(text, where="policy secure", hint="put those that matter on the exclusion list")
    if policy.replaceable:
        text = "a list of preloads in a file has no replaceable entries"
        raise RefusedError(text, where="policy replaceable", hint="leave it out")


def _check_effect(before: bytes, after: bytes, ours: list[str]) -> None:
    """Prove that the change adds our items and takes nothing from anybody (rule 5); RefusedError if it does not."""
    was, now = ([item.text for item in ld_so_preload.parse(data)] for data in (before, after))
    if now != [*was, *ours]:
        text = "the list of preloads would not be the present one with ours added"
        raise RefusedError(text, where=LD_SO_PRELOAD, hint="take NUL bytes and comments out of it, and try again")


def keep(facts: Facts, wanted: Mapping[str, bytes], created: dict[str, str]) -> tuple[list[ReplaceFile], list[Finding]]:
    """The steps to the files that are ours as a whole, and to no others; `created` is brought up to date.

    RefusedError where somebody else's file is in the place of ours.
    """
    found: list[ReplaceFile] = []
    for path in sorted({*wanted, *filter(is_other, created)}):
        before = facts.root.read(path)
        after = FileState(wanted[path], MODE, 0, 0) if path in wanted else None
        if before is not None and digest(before.data) != created.get(path) and before != after:
            if after is not None:
                text = "is somebody else's file where ours has to go"
                raise RefusedError(text, where=path, hint=access.aside(facts.root, path))
            created.pop(path)  # theirs by now, but for our line
            found += edited(path, before)
            continue
        if after is None:
            created.pop(path)
        else:
            created[path] = digest(after.data)
        if before != after:
            found.append(ReplaceFile(path, before, after, purpose(path)))
    return found, [_then(facts, step.path) for step in found]


def edited(path: str, state: FileState) -> list[ReplaceFile]:
    """The step that takes our line out of a drop-in that somebody has edited; none where it has no such line."""
    if not drop_ins.is_drop_in(path):
        return []
    left = drop_ins.without_ours(state.data)
    after = None if left is None else state.with_data(left)
    return [] if left == state.data else [ReplaceFile(path, state, after, purpose(path))]


def purpose(path: str) -> str:
    """What a file that is ours as a whole is, in words."""
    return "search path" if path == SEARCH_PATH else "drop-in of a service"


def _then(facts: Facts, path: str) -> Finding:
    """What is to be typed for such a file to be in force."""
    if path == SEARCH_PATH:
        hint = "ldconfig" if facts.root.is_live else f"ldconfig -r {shlex.quote(facts.root.path)}"
        return Finding("search-path", NOTE, path, "is in force when ldconfig has read it", hint)
    unit = path.split("/")[-2][: -len(".d")]
    text = "gets it, or does without, from its next start on"
    return Finding("service-restart", NOTE, unit, text, f"systemctl daemon-reload; systemctl restart {unit}")

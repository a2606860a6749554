"""Administrator: what somebody else does to a host beside memproxy-sol, and what has to be theirs at any time.

Each of their edits of a configuration is made twice: on the live file and on a shadow, which is what the file would be
if memproxy-sol had never been there. What the live file amounts to, less what is ours, has to be what the shadow
amounts to; both are read with the laboratory's runtime linker, not with the code under test.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from hunt.ground import told
from tests.host.laboratory import Laboratory
from tests.host.laboratory.ldso import X86, Configuration, accept, merge

LIBRARY_DIRECTORY = "/opt/policy/lib"
"""What policies of a sequence add to the library path; no administrator of a sequence names it."""
LIST = "/etc/memproxy.conf"
MANIFEST = "/lib/svc/manifest/site/memproxy.xml"
POLICY = "/etc/memproxy.toml"
RECORD = "/var/opt/memproxy/installed.json"
GENERATIONS = "/usr/local/lib/memproxy"
SHADOW = "/export/shadow"
CONFIG = {32: "/var/ld/ld.config", 64: "/var/ld/64/ld.config"}

_OURS = re.compile(rf"{GENERATIONS}/[0-9a-f]{{16}}(/64)?/[^/]+")
_OUR_DIRECTORY = re.compile(rf"{GENERATIONS}/[0-9a-f]{{16}}(/64)?")

Content = Optional[bytes]
"""Of a configuration file; None where there is none."""


@dataclass(frozen=True)
class Effect:
    """What a configuration amounts to in a process, ours apart."""

    result: str
    preloads: tuple[str, ...]
    """Others', in order, with the slot they are in."""
    variables: tuple[str, ...]
    """Others' definitions but those of preloads, sorted, with their kind."""
    library_path: tuple[str, ...]
    trusted: tuple[str, ...]
    ours: tuple[str, ...] = ()
    """Our preload items, in order."""

    @property
    def theirs(self) -> tuple[object, ...]:
        """What must be as if we were not there."""
        return self.result, self.preloads, self.variables, self.library_path, self.trusted


def effect(content: Content, bits: int) -> Effect:
    """What ld.so.1 of the laboratory makes of a file."""
    found = Configuration() if content is None else accept(content, X86, bits)
    slots = merge((), found, bits)
    preloads, ours = [], []
    for slot, values in (("replaceable", slots.replaceable), ("permanent", slots.permanent)):
        for item in values.get("LD_PRELOAD", "").replace(" ", ":").split(":"):
            if _OURS.fullmatch(item):
                ours.append(item)
            elif item:
                preloads.append(f"{item} ({slot})")
    library_path = found.library_path or X86.library_path(bits)
    trusted = found.trusted or X86.trusted(bits)
    return Effect(
        "crash" if found.result == "crash" else "",
        tuple(preloads),
        tuple(sorted(f"{text} {kind}" for text, kind in found.variables if not text.startswith("LD_PRELOAD"))),
        tuple(one for one in library_path if one != LIBRARY_DIRECTORY),
        tuple(one for one in trusted if not _OUR_DIRECTORY.fullmatch(one)),
        tuple(ours),
    )


def _words(content: Content, bits: int) -> list[tuple[str, str]]:
    """The options of the crle call that makes such a file, as its display ends."""
    found = Configuration() if content is None else accept(content, X86, bits)
    words = [("-l", ":".join(found.library_path))] if found.library_path else []
    words += [("-s", ":".join(found.trusted))] if found.trusted else []
    return [*words, *(("-E" if permanent else "-e", text) for text, permanent in found.variables)]


def _has_two_kinds(content: Content, bits: int) -> bool:
    found = Configuration() if content is None else accept(content, X86, bits)
    kinds = {(text.partition("=")[0], permanent) for text, permanent in found.variables}
    return any((name, not permanent) in kinds for name, permanent in kinds)


class Administrator:
    """Everybody but memproxy-sol, on one laboratory."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab
        self.wanted: dict[int, list[Content]] = {32: [None], 64: [None]}
        """What would be there without us; more than one where the file was taken away with ours in it."""
        self.former: dict[int, list[Content]] = {32: [None], 64: [None]}
        """All that ever was."""
        self.edited: set[int] = set()
        """ABIs whose file was edited while ours was in it: what is put back need not be the former bytes."""
        self.displaced: set[int] = set()
        """ABIs of which a definition of LD_PRELOAD was edited with ours in force: until the next install or uninstall
        ours may displace it, which verify tells (preload-others-displaced)."""
        self.once_displaced: set[int] = set()
        self.removed: set[int] = set()
        """ABIs whose file they took away once: a rollback may come to where there was none."""
        self.refrained = 0
        """How often crle -u was not called, since it would have lost one of two definitions."""
        self.files: dict[str, str] = {}
        """Paths of theirs, and what lies there."""
        self.lines: set[str] = set()
        """Lines of the exclusion list."""
        self.excused: set[str] = set()
        """Where something of ours may be left, since they have deleted what knew of it."""
        lab._directory(lab.top / SHADOW[1:])

    # Reading

    def path(self, target: str) -> Path:
        """Where a path of the target lies."""
        return self.lab.top / target[1:]

    def live(self, bits: int) -> Content:
        """What is in force for an ABI."""
        try:
            return self.lab.tree.read(CONFIG[bits])
        except OSError:
            return None

    def is_pending(self, bits: int) -> bool:
        """Whether the live name is a link, so that a reboot takes what is there."""
        return self.path(CONFIG[bits]).is_symlink()

    def has_ours(self, bits: int) -> bool:
        """Whether our entry is in force for an ABI."""
        return bool(effect(self.live(bits), bits).ours)

    # Configurations

    def crle(self, bits: int, file: str, words: Iterable[str]) -> bool:
        """A call of crle; whether it has worked."""
        try:
            called = ["/usr/bin/crle", *(["-64"] if bits == 64 else []), "-c", file, *words]
            return self.lab.execute(called, {}).status == 0
        except OSError:
            return False

    def add(self, bits: int, letter: str, value: str) -> None:
        """`crle -u -LETTER VALUE`."""
        name = value.partition("=")[0]
        if letter in "eE":  # crle ors the kinds of a definition that is there already; they know and keep to it
            data = self.live(bits)
            known = [
                permanent
                for text, permanent in (accept(data, X86, bits).variables if data is not None else ())
                if text.partition("=")[0] == name
            ]
            if known:
                letter = "E" if True in known else "e"
        self._both(bits, ["-u", f"-{letter}", value])

    def _both(self, bits: int, words: list[str]) -> None:
        """The same crle call on both; the live one counts if it has worked, and the shadow's must then."""
        shadow = self._shadow(bits, self._chosen(bits))
        before = self.live(bits)
        if _has_two_kinds(before, bits):
            # crle -u makes one definition of a name that is there in both kinds, and the other is lost. It is ours
            # that is the second one: with `replaceable` other than the kind of theirs. Known, and not mended.
            self.refrained += 1
            return
        if words[-1].startswith("LD_PRELOAD=") and effect(before, bits).ours:
            self.displaced.add(bits)
            self.once_displaced.add(bits)
        if not self.crle(bits, CONFIG[bits], words):
            return
        if not self.crle(bits, shadow, words):
            raise RuntimeError(f"crle works on the live file and not on the shadow: {words}")
        self._edited(bits, before, [self.path(shadow).read_bytes()])

    def _chosen(self, bits: int) -> Content:
        """Of several that may be put back, the one that is there now; as long as nothing is done all still may be."""
        return (*self._fitting(bits, self.wanted[bits]), self.wanted[bits][0])[0]

    def _fitting(self, bits: int, contents: Iterable[Content]) -> list[Content]:
        """Of contents those that amount to what is there now, the very same before others."""
        live = self.live(bits)
        now = effect(live, bits).theirs
        return sorted((one for one in contents if effect(one, bits).theirs == now), key=lambda one: one != live)

    def _shadow(self, bits: int, content: Content) -> str:
        name = f"{SHADOW}/{bits}"
        path = self.path(name)
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        return name

    def _edited(self, bits: int, before: Content, wanted: list[Content]) -> None:
        if effect(before, bits).ours or self.path(RECORD).exists():
            self.edited.add(bits)
        self.wanted[bits] = wanted
        self.former[bits] += [one for one in wanted if one not in self.former[bits]]

    def drop(self, bits: int) -> None:
        """The file made anew, as crle shows it, without the last thing that is theirs."""
        data = self.live(bits)
        mine = _words(self._chosen(bits), bits)
        if data is None or not mine:
            return
        dropped = mine[-1]
        live = [word for word in _words(data, bits) if word != dropped]
        if len(live) == len(_words(data, bits)):
            return  # it was joined to ours: nothing that is theirs alone
        shadow = self._shadow(bits, None)
        self.path(shadow).unlink(missing_ok=True)
        rest = [word for pair in mine[:-1] for word in pair]
        before = data
        if not live or not self.crle(bits, CONFIG[bits], [word for pair in live for word in pair]):
            return
        if dropped[1].startswith("LD_PRELOAD=") and effect(before, bits).ours:
            self.displaced.add(bits)
            self.once_displaced.add(bits)
        wanted = self.path(shadow).read_bytes() if rest and self.crle(bits, shadow, rest) else None
        self._edited(bits, before, [wanted])

    def replace(self, bits: int, words: list[str]) -> None:
        """A file of their own making in the place of whatever is there."""
        before = self.live(bits)
        shadow = self._shadow(bits, None)
        if not self.crle(bits, shadow, words):
            return
        data = self.path(shadow).read_bytes()
        self._put(bits, data)
        self._edited(bits, before, [data])

    def garbage(self, bits: int, data: bytes) -> None:
        """Something that is no configuration."""
        before = self.live(bits)
        self._put(bits, data)
        self._edited(bits, before, [data, *(one for one in self.former[bits] if one != data)])

    def remove(self, bits: int, aside: bool) -> None:
        """The file is deleted, or moved aside, as `rescue` says."""
        before = self.live(bits)
        if before is None:
            return
        path = self.path(CONFIG[bits])
        if aside and not path.is_symlink():
            path.rename(f"{path}.aside")
        else:
            path.unlink()
        self.removed.add(bits)
        # What was there before us is what may be put back.
        self._edited(bits, before, [None, *(one for one in self.former[bits] if one is not None)])

    def put_aside_back(self, bits: int) -> None:
        """What was moved aside is put back: with ours in it, as it was."""
        path = self.path(CONFIG[bits])
        aside = Path(f"{path}.aside")
        if aside.exists():
            before = self.live(bits)
            data = aside.read_bytes()
            aside.rename(path)
            self._edited(bits, before, self._fitting(bits, self.former[bits]) or [data])

    def _put(self, bits: int, data: bytes) -> None:
        path = self.path(CONFIG[bits])
        if path.is_symlink():
            path.unlink()
        path.write_bytes(data)
        path.chmod(0o644)

    # Files

    def write(self, target: str, data: bytes) -> None:
        """A file of theirs."""
        self.lab.write(target, data)
        self.files[target] = told(str(self.path(target)))

    def delete(self, target: str) -> None:
        """A file is gone, whoever's it was."""
        self.path(target).unlink(missing_ok=True)
        self.files.pop(target, None)

    def add_line(self, line: str) -> None:
        """A line at the end of the exclusion list, which is made if it is not there."""
        with self.path(LIST).open("ab") as stream:
            stream.write(f"{line}\n".encode())
        self.lines.add(line)

    def replace_list(self, lines: list[str]) -> None:
        """A list of their own."""
        self.lab.write(LIST, "".join(f"{line}\n" for line in lines).encode())
        self.lines = set(lines)

    def delete_list(self) -> None:
        """No list."""
        self.path(LIST).unlink(missing_ok=True)
        self.lines = set()

    # Judging

    def problem(self) -> str | None:
        """What of theirs is lost or disabled."""
        for bits in (32, 64):
            if self.is_pending(bits) and self.live(bits) is None:
                continue  # after a reboot, before the next command
            now = effect(self.live(bits), bits)
            if bits in self.displaced:
                now = dataclasses.replace(now, preloads=())
            wanted = [effect(one, bits) for one in self.wanted[bits]]
            if bits in self.displaced:
                wanted = [dataclasses.replace(one, preloads=()) for one in wanted]
            if not any(one.theirs == now.theirs for one in wanted):
                return f"LOST of {CONFIG[bits]}: it amounts to {now}, not to {effect(self.wanted[bits][0], bits)}"
        for target, was in self.files.items():
            path = str(self.path(target))
            is_now = told(path) if os.path.lexists(path) else "absent"
            if is_now != was:
                return f"LOST: {target} is {is_now}, not {was}"
        present = set(self.list_lines())
        lost = sorted(self.lines - present)
        return f"LOST: of {LIST} the lines {lost}" if lost else None

    def list_lines(self) -> list[str]:
        """The lines of the exclusion list."""
        path = self.path(LIST)
        return path.read_text("utf-8", "replace").splitlines() if path.exists() else []

    def settled(self) -> None:
        """A command of ours has ended: what it chose to put back is what is wanted from now on."""
        for bits in (32, 64):
            live = self.live(bits)
            if len(self.wanted[bits]) > 1 and not self.is_pending(bits) and live not in (None, self.wanted[bits][0]):
                self.wanted[bits] = self._fitting(bits, self.wanted[bits])[:1] or self.wanted[bits]


def wrong_object(administrator: Administrator, digests: dict[int, set[str]]) -> str | None:
    """The first object of ours that a live configuration names and that is missing or not what was installed."""
    for bits in (32, 64):
        for item in effect(administrator.live(bits), bits).ours:
            path = administrator.path(item)
            if not path.is_file():
                return f"MISSING: {CONFIG[bits]} names {item}"
            if hashlib.sha256(path.read_bytes()).hexdigest() not in digests[bits]:
                return f"WRONG: {CONFIG[bits]} names {item}, which is none of ours for {bits} bits"
    return None

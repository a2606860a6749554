"""Sequences: what administrators and memproxy-sol do to a host one after the other, drawn by a seed, and judged.

A sequence is a tuple of plain values, so that it can be printed, shrunk and played again; what an operation cannot do
where it stands does nothing. After each operation of ours, after each boot, and at the end these have to hold:

  others     what others have put there is there and in force (administrator.py)
  objects    every object of ours that a live configuration names is there and is what was installed
  starts     a process of each ABI starts, as root, as a user and set-id; a boot succeeds
  commands   a command ends with a status of its own; an uninstall that succeeds leaves nothing of ours in force
  the end    after a reboot, uninstall and uninstall --purge every other file is what it was, or what others made of it
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hunt import administrator as others
from hunt.administrator import CONFIG, GENERATIONS, LIST, MANIFEST, POLICY, RECORD, SHADOW, Administrator
from hunt.calls import DEEDS, KILLED, KILLS, Calls
from hunt.ground import Ground
from tests.host.laboratory import Bricked

Operation = tuple[Any, ...]
"""A name and its arguments, all of them texts, numbers, None or lists of them."""

KINDS = ("plain", "service", "image")
"""On the running system with `service = false`; with the service; on an image, which then boots."""

OURS = ("install", "uninstall", "confirm", "exclude", "rollback", "look")
MAXIMUM = 10
"""Operations of a sequence before its end."""

VALUES = {
    "l": ("/opt/a/lib", "/opt/b/lib"),
    "s": ("/opt/a/secure", "/usr/lib/secure{sub}"),
    "e": ("LD_LIBRARY_PATH=/opt/c/lib", "SITE=one", "LD_BIND_NOW=yes", "LD_PRELOAD=/lib{sub}/libplain.so"),
    "E": ("SITE=two", "LD_PRELOAD=/lib{sub}/libplain.so", "LD_PRELOAD_{bits}=/lib{sub}/libplain.so"),
}
"""What administrators have crle write, by its option."""

GARBAGE = (b"", b"garbage\n", b"?RLC" + bytes(96), b"\x00" * 200)


@dataclass(frozen=True)
class Violation:
    """What does not hold, and after which operation."""

    at: int
    operation: Operation
    text: str

    @property
    def sort(self) -> str:
        """What kind it is; a shorter sequence that leads to the same kind shows the same mistake."""
        return self.text.split(":")[0]


@dataclass
class Played:
    """One sequence, and what came of it."""

    kind: str
    operations: tuple[Operation, ...]
    done: Counter[str] = field(default_factory=Counter)
    """How many of which operation were carried out; of ours with their end, `install 0`."""
    violation: Violation | None = None


# Drawing


def draw(seed: int, number: int, kind: str) -> tuple[Operation, ...]:
    """The sequence of this number."""
    chance = random.Random(f"{seed}:{number}:{kind}")
    found: list[Operation] = []
    while len(found) < chance.randint(3, MAXIMUM):
        drawn = _drawn(chance, kind)
        found.append(drawn)
        if drawn[0] in ("install", "uninstall", "rollback") and drawn[-1] is not None and chance.random() < 0.6:
            found.append(("end guards",))  # else the next commands are refused
    return tuple(found)


def _drawn(chance: random.Random, kind: str) -> Operation:
    weights = {
        "install": 26,
        "uninstall": 12,
        "confirm": 3,
        "exclude": 4,
        "rollback": 6,
        "look": 2,
        "boot": 6,
        "end guards": 2,
        "policy": 9,
        "crle": 16,
        "drop": 4,
        "replace": 3,
        "garbage": 2,
        "remove": 3,
        "put back": 2,
        "line": 4,
        "list": 2,
        "manifest": 2,
        "svcadm": 3 if kind == "service" else 0,
        "record": 1,
        "file": 3,
    }
    name = chance.choices(list(weights), list(weights.values()))[0]
    bits = chance.choice((32, 64))
    if name == "install":
        return (
            name,
            chance.choice(("32", "64", "32,64", None, None)),
            chance.choice(("liballoc.so", "liballoc.so", "libother.so", "", None)),
            chance.choice((600, 600, 1)) if kind != "image" and chance.random() < 0.25 else None,
            _struck(chance, 200, kind != "image"),
        )
    if name == "uninstall":
        return name, chance.choice(("32", "64", None, None)), chance.random() < 0.4, _struck(chance, 60, False)
    if name == "rollback":
        return name, chance.choice((None, None, 1, 2, 3)), _struck(chance, 200, kind != "image")
    if name == "exclude":
        return name, chance.choice(("add", "add", "remove")), f"prog{chance.randint(1, 4)}", _struck(chance, 14, False)
    if name == "policy":
        return name, _policy(chance, kind)
    if name == "crle":
        letter = chance.choice(tuple(VALUES))
        return name, bits, letter, _value(chance, letter, bits)
    if name in ("drop", "put back"):
        return name, bits
    if name == "replace":
        letter = chance.choice("lsE")
        return name, bits, letter, _value(chance, letter, bits)
    if name == "garbage":
        return name, bits, chance.randrange(len(GARBAGE))
    if name == "remove":
        return name, bits, chance.random() < 0.5
    if name == "line":
        return name, chance.choice(("prog1", "/opt/a/bin/prog2", "# a note", "prog3 = custom", "/opt/b/bin/"))
    if name in ("list", "manifest", "record"):
        return name, chance.choice(("delete", "change"))
    if name == "svcadm":
        return name, chance.choice(("disable", "enable"))
    if name == "file":
        places = (GENERATIONS, "generation", "/var/ld", "/var/opt/memproxy", "/usr/local/lib")
        return name, chance.choice(places), f"note{chance.randint(1, 2)}"
    return (name,)


def _value(chance: random.Random, letter: str, bits: int) -> str:
    return chance.choice(VALUES[letter]).format(bits=bits, sub="/64" if bits == 64 else "")


def _struck(chance: random.Random, most: int, guarded: bool) -> list[Any] | None:
    """A deed and the call it is done at, and whether it is the guard's; mostly none."""
    if chance.random() > 0.2:
        return None
    guard = guarded and chance.random() < 0.15
    deed = chance.choice((*KILLS, *KILLS, *DEEDS))
    return [deed, chance.randint(1, 24 if guard else most), guard]


def _policy(chance: random.Random, kind: str) -> str | None:
    lines = []
    if chance.random() < 0.3:
        lines.append("replaceable = true")
    if chance.random() < 0.3:
        lines.append('secure = "system"')
    if chance.random() < 0.3:
        lines.append(f'library_path = ["{others.LIBRARY_DIRECTORY}"]')
    if kind == "plain" or chance.random() < 0.1:
        lines.append("service = false")
    return "".join(f"{line}\n" for line in lines) or None


# Playing


class Player:
    """Plays sequences on one ground."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.digests = {bits: _digests(ground.objects / ("64" if bits == 64 else ".")) for bits in (32, 64)}

    def play(self, kind: str, operations: Sequence[Operation]) -> Played:
        """The sequence from a new host to its end, in a child of its own."""
        self.ground.put_back("new")
        said = self.ground.in_child(lambda: json.dumps(_Game(self, kind).play(operations)))
        self.ground.end_guards()
        played = Played(kind, tuple(operations))
        try:
            done, violation = json.loads(said or "")
        except ValueError:
            played.violation = Violation(0, (), f"HUNT: {said}")
            return played
        played.done = Counter(done)
        if violation:
            played.violation = Violation(violation[0], tuple(violation[1]), violation[2])
        return played

    def shrink(self, played: Played) -> Played:
        """The shortest sequence found that ends in the same kind of violation."""
        assert played.violation is not None
        best = played
        place = len(best.operations) - 1
        best = self._if_same(best, best.operations[: played.violation.at + 1]) or best
        while place >= 0:
            if place < len(best.operations):
                rest = (*best.operations[:place], *best.operations[place + 1 :])
                best = self._if_same(best, rest) or best
            place -= 1
        for place in range(len(best.operations)):
            for simpler in _simpler(best.operations[place]):
                tried = (*best.operations[:place], simpler, *best.operations[place + 1 :])
                best = self._if_same(best, tried) or best
        return best

    def _if_same(self, best: Played, operations: Sequence[Operation]) -> Played | None:
        assert best.violation is not None
        tried = self.play(best.kind, operations)
        return tried if tried.violation is not None and tried.violation.sort == best.violation.sort else None


def _simpler(operation: Operation) -> list[Operation]:
    """The operation without being struck, tried or restricted."""
    if operation[0] == "install":
        changes = ((4, None), (3, None), (2, "liballoc.so"), (1, None))
        return [(*operation[:at], to, *operation[at + 1 :]) for at, to in changes if operation[at] != to]
    if operation[0] in ("uninstall", "exclude", "rollback") and operation[-1] is not None:
        return [(*operation[:-1], None)]
    return []


def _digests(directory: Path) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("*.so")}


class _Wrong(Exception):
    """A violation's text."""


class _Game:
    """One sequence under way."""

    def __init__(self, player: Player, kind: str) -> None:
        self.player, self.kind = player, kind
        self.ground = player.ground
        self.lab = self.ground.lab
        self.admin = Administrator(self.lab)
        self.done: Counter[str] = Counter()
        self.begun = self.tree()

    def play(self, operations: Sequence[Operation]) -> tuple[dict[str, int], list[Any] | None]:
        """How many of which operation, and the violation: where, which operation, what."""
        at, operation = -1, ("start",)
        try:
            if self.kind == "plain":
                self.admin.write(POLICY, b"service = false\n")
            for at, operation in enumerate(operations):  # noqa: B007 - told below
                self.one(tuple(operation))
            self.done += Counter()  # no zeros
            at, operation = len(operations), ("the end",)
            self.end()
        except _Wrong as wrong:
            return self.done, [at, list(operation), str(wrong)]
        return self.done, None

    def one(self, operation: Operation) -> None:
        """Carry one operation out, and judge."""
        name, *arguments = operation
        getattr(self, name.replace(" ", "_"))(*arguments)
        if name not in OURS:
            self.done[name] += 1
        if name in (*OURS, "boot", "end guards"):
            self.judge()
        elif self.lab.brick() is not None:
            raise _Wrong(f"THEIRS: the administrator's own edit bricked it: {self.lab.brick()}")

    def judge(self) -> None:
        """What has to hold after a command of ours, and after a boot."""
        self.admin.settled()
        problem = others.wrong_object(self.admin, self.player.digests) or self.admin.problem()
        if problem:
            raise _Wrong(problem)
        dead = self.lab.brick()
        if dead:
            raise _Wrong(f"BRICK: {dead}")

    # Commands of ours

    def command(self, name: str, words: Sequence[str], struck: Sequence[Any] | None = None) -> int:
        """`memproxy-sol NAME WORDS`, struck or not; its status."""
        place = ["--root", str(self.ground.top)] if self.kind == "image" else []
        calls = None
        if struck:
            deed, number, guard = struck
            calls = Calls(number, deed, self.ground.concerns, guard=guard)
        full = [*name.split(), *place, *words]
        status, said = self.ground.run_here(full) if calls is None else self.ground.run(full, calls)
        allowed = {0, 1, 3, *([KILLED] if struck and struck[0] in KILLS else []), *([2] if name == "rollback" else [])}
        if status not in allowed or "Traceback" in said:
            raise _Wrong(f"ENDED: {name} with {status}: {said[-1500:]}")
        self.said = said
        self.done[f"{name} {'killed' if status == KILLED else status}"] += 1
        if struck and status not in (KILLED, 0):
            self.done["struck"] += 1
        return status

    def install(self, bits: str | None, allocator: str | None, seconds: int | None, struck: list[Any] | None) -> None:
        """install; an allocator of "" is to be none, None is not named; a trial of one second is waited for."""
        here = self.ground.objects
        words = ["--libraries", str(here), *(["--bits", bits] if bits else [])]
        wanted = tuple(int(one) for one in bits.split(",")) if bits else (32, 64)
        if allocator == "":
            words.append("--without-allocator")
        elif allocator:
            words += [f"--allocator={here}/{'64/' if one == 64 else ''}{allocator}" for one in wanted]
        if seconds is not None:
            words += ["--try", str(seconds)]
        status = self.command("install", words, struck)
        if status == 0:
            if seconds is None:  # a trial that is taken back leaves what was there before, which is displaced
                self.admin.displaced -= {*wanted}
            for one in wanted:
                if not self.admin.has_ours(one) and not struck:
                    raise _Wrong(f"NOT INSTALLED: install ended with 0, and {CONFIG[one]} does not name it")
        if seconds == 1 and status == 0:
            self.ground.wait_for_guards()
            self.done["trial over"] += 1

    def uninstall(self, bits: str | None, purge: bool, struck: list[Any] | None) -> None:
        """uninstall; without --bits it leaves nothing of ours in force."""
        words = [*(["--bits", bits] if bits else []), *(["--purge"] if purge else [])]
        status = self.command("uninstall", words, struck)
        if status == 0:
            self.admin.displaced -= {int(bits)} if bits else {32, 64}
            self.nothing_of_ours((int(bits),) if bits else (32, 64))
        if status == 0 and bits is None and RECORD in self.admin.excused:
            self.done["without record"] += 1

    def nothing_of_ours(self, wanted: Sequence[int]) -> None:
        """After an uninstall that succeeded."""
        for bits in wanted:
            if self.admin.has_ours(bits):
                raise _Wrong(f"NOT UNINSTALLED: uninstall ended with 0, and {CONFIG[bits]} still names it")
            live, wanted_ = self.admin.live(bits), self.admin.wanted[bits][0]
            if live == wanted_:
                self.admin.edited.discard(bits)
            elif bits not in self.admin.edited:
                raise _Wrong(f"BYTES: {CONFIG[bits]} is not what it was: {live!r}, not {wanted_!r}")

    def rollback(self, number: int | None, struck: list[Any] | None) -> None:
        """rollback [N]."""
        status = self.command("rollback", [str(number)] if number else [], struck)
        if status == 0:  # what ours displaced before that change, it displaces again
            self.admin.displaced = {bits for bits in self.admin.once_displaced if self.admin.has_ours(bits)}
            self.admin.edited |= {32, 64}
            for bits in self.admin.removed:
                self.admin.wanted[bits] = [*self.admin.wanted[bits], None]

    def confirm(self) -> None:
        """confirm; on an image there is nothing to be confirmed."""
        if self.kind != "image":
            self.command("confirm", [])

    def exclude(self, verb: str, program: str, struck: list[Any] | None) -> None:
        """exclude add or remove; what is added is theirs from then on."""
        status = self.command(f"exclude {verb}", [program], struck)
        self.done["exclude"] += 1
        if status == 0 and verb == "add":
            self.admin.lines -= {one for one in self.admin.lines if one.split(" ")[0] == program}  # it is replaced
            self.admin.lines |= {line for line in self.admin.list_lines() if line.split(" ")[0] == program}
        elif verb == "remove" or status != 0:
            present = set(self.admin.list_lines())
            self.admin.lines -= {one for one in self.admin.lines if one.split(" ")[0] == program and one not in present}

    def look(self) -> None:
        """verify and status change nothing."""
        before = self.tree()
        self.command("verify", [])
        if self.kind != "image":
            self.command("status", [])
        if self.tree() != before:
            raise _Wrong(f"CHANGED: verify or status has changed something: {_difference(self.tree(), before)}")

    # The machine

    def boot(self) -> None:
        """A reboot, with whatever is under way."""
        self.ground.end_guards()
        try:
            self.lab.boot()
        except Bricked as dead:
            raise _Wrong(f"NO BOOT: {dead}") from None

    def end_guards(self) -> None:
        """Whatever guards a trial is killed."""
        self.ground.end_guards()

    # Others

    def policy(self, text: str | None) -> None:
        """The policy that the next install takes."""
        if text is None:
            self.admin.delete(POLICY)
        else:
            self.admin.write(POLICY, text.encode())

    def crle(self, bits: int, letter: str, value: str) -> None:
        """crle -u."""
        before = self.admin.refrained
        self.admin.add(bits, letter, value)
        self.done["crle refrained from: two kinds of one variable"] += self.admin.refrained - before

    def drop(self, bits: int) -> None:
        """The file made anew without one thing of theirs."""
        self.admin.drop(bits)

    def replace(self, bits: int, letter: str, value: str) -> None:
        """Their own file."""
        default = {"l": "/lib{0}:/usr/lib{0}:", "s": "/lib/secure{0}:"}.get(letter, "")
        self.admin.replace(bits, [f"-{letter}", default.format("/64" if bits == 64 else "") + value])

    def garbage(self, bits: int, which: int) -> None:
        """No configuration at all."""
        self.admin.garbage(bits, GARBAGE[which])

    def remove(self, bits: int, aside: bool) -> None:
        """The file is deleted or moved aside."""
        self.admin.remove(bits, aside)

    def put_back(self, bits: int) -> None:
        """What was moved aside comes back, unless what it names is gone: then they see it, and leave it."""
        kept = self.admin.wanted[bits], self.admin.live(bits)
        self.admin.put_aside_back(bits)
        if others.wrong_object(self.admin, self.player.digests) or self.lab.brick():
            path = self.admin.path(CONFIG[bits])
            path.unlink()
            if kept[1] is not None:
                path.write_bytes(kept[1])
                path.chmod(0o644)
            self.admin.wanted[bits] = kept[0]

    def line(self, text: str) -> None:
        """A line of the exclusion list."""
        self.admin.add_line(text)

    def list(self, verb: str) -> None:
        """The exclusion list as a whole."""
        if verb == "delete":
            self.admin.delete_list()
        else:
            self.admin.replace_list(["# ours", "prog9"])

    def manifest(self, verb: str) -> None:
        """The manifest, if it is there."""
        path = self.admin.path(MANIFEST)
        if path.exists():
            self.admin.excused.add(MANIFEST)
            if verb == "delete":
                path.unlink()
            else:
                path.write_bytes(path.read_bytes() + b"<!-- ours -->\n")

    def svcadm(self, verb: str) -> None:
        """svcadm disable or enable."""
        with contextlib.suppress(OSError):
            self.lab.execute(["/usr/sbin/svcadm", verb, "svc:/site/memproxy:default"], {})

    def record(self, verb: str) -> None:
        """The record of what is installed is deleted or damaged."""
        path = self.admin.path(RECORD)
        if path.exists():
            self.admin.excused |= {RECORD, f"{RECORD}.damaged", GENERATIONS, LIST, MANIFEST}
            self.admin.excused.add("/var/ld/memproxy-rescue.txt")
            self.admin.excused |= {f"{one}.before-memproxy" for one in CONFIG.values()}
            self.admin.edited |= {32, 64}
            if verb == "delete":
                path.unlink()
            else:
                path.write_bytes(b"garbage")

    def file(self, directory: str, name: str) -> None:
        """A file of theirs in a directory of ours, if it is there."""
        place = self.admin.path(GENERATIONS if directory == "generation" else directory)
        if directory == "generation":
            place = next(iter(sorted(place.iterdir())), place) if place.is_dir() else place
        if place.is_dir():
            target = str(place / name)[len(str(self.ground.top)) :]
            self.admin.write(target, b"theirs\n")
            self.admin.excused |= {os.path.dirname(target), RECORD}  # a generation with a stranger in it is kept

    # The end

    def end(self) -> None:
        """After a reboot everything of ours is taken out, and what is left compared."""
        self.boot()
        self.judge()
        for words in ([], ["--purge"]):
            status = self.command("uninstall", words)
            self.admin.displaced.clear()
            if status != 0:
                raise _Wrong(f"NO UNINSTALL: it ended with {status}: {self.said[-600:]}")
            self.nothing_of_ours((32, 64))
            self.judge()
            self.boot()
            self.judge()
        now, wanted = self.tree(), {**self.begun, **self.admin.files}
        left = {
            path: (now.get(path), wanted.get(path))
            for path in {*now, *wanted}
            if now.get(path) != wanted.get(path) and not self.may_stay(path)
        }
        if left:
            raise _Wrong(f"LEFT: {sorted(left.items())[:5]}")

    def may_stay(self, path: str) -> bool:
        """Whether a path need not be what it was: judged otherwise, theirs, or they deleted what knew of it."""
        if path in CONFIG.values() or path.startswith(tuple(f"{one}.damaged" for one in CONFIG.values())):
            return True
        if path.endswith("ld.config.aside"):
            return True
        if path == LIST:  # changed by others or by `exclude`, it stays
            return bool(self.admin.lines) or LIST in self.admin.excused or self.list_was_touched()
        return any(path == one or path.startswith(f"{one}/") or one.startswith(f"{path}/") for one in self.excuses())

    def list_was_touched(self) -> bool:
        """Whether anybody has edited the exclusion list, so that uninstall keeps it."""
        return any(self.done[name] for name in ("line", "list", "exclude"))

    def excuses(self) -> set[str]:
        """Where something may be left."""
        return {*self.admin.excused, *self.admin.files}

    def tree(self) -> dict[str, str]:
        """Every path but the shadow's."""
        return {path: what for path, what in self.ground.snapshot().items() if not path.startswith(SHADOW)}


def _difference(now: dict[str, str], before: dict[str, str]) -> str:
    paths = sorted(path for path in {*now, *before} if now.get(path) != before.get(path))
    return "; ".join(f"{path}: {now.get(path)}, was {before.get(path)}" for path in paths[:4])

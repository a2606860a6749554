"""beadm: boot environments, each a whole tree, and the one that the next boot takes.

What is known of them lies beside the laboratory's top (`TOP.be`), so that it survives a killed process and is no part
of any environment. The one that runs is the tree itself; the others lie in `TOP.be/NAME` or, mounted, in a directory
of the tree. Formats are those of illumos' beadm(8); Solaris 10 has none.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.host.laboratory.system import Laboratory, Result

PROGRAM = "/usr/sbin/beadm"
FIRST = "openindiana"
CREATED = 1700000000
"""When the first environment was made; the later ones a second after each other."""
UNKNOWN = "{} does not exist or appear to be a valid BE.\nPlease check that the name of the BE provided is correct.\n"
USAGE = (
    "usage:\tbeadm subcommand cmd_options\n\n\tsubcommands:\n\n"
    "\tbeadm activate [-v] [-t | -T] beName\n"
    "\tbeadm create [-a] [-d BE_desc] [-e nonActiveBe] [-v] beName\n"
    "\tbeadm destroy [-Ffsv] beName\n"
    "\tbeadm list [[-a] | [-d] [-s]] [-H] [beName]\n"
    "\tbeadm mount [-s ro|rw] [-v] beName [mountpoint]\n"
    "\tbeadm unmount [-fv] beName | mountpoint\n"
)


class Environments:
    """The boot environments of a laboratory."""

    def __init__(self, lab: Laboratory) -> None:
        from tests.host.laboratory.system import Program

        self.lab = lab
        self.top = Path(f"{lab.tree.top}.be")
        self.temporary_activation = lab.release == "illumos"
        """Whether `activate -t` is known here."""
        if lab.release != "10":
            lab.install_program(PROGRAM, Program(min(lab.machine.numbers), beadm))

    @property
    def state(self) -> dict[str, Any]:
        """`running`, `next` and `once` (names), `environments` (name to `created` and `mounted`)."""
        try:
            return dict(json.loads((self.top / "state.json").read_text()))
        except FileNotFoundError:
            first = {"created": CREATED, "mounted": None}
            return {"running": FIRST, "next": FIRST, "once": None, "environments": {FIRST: first}}

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep `state`."""
        self.top.mkdir(exist_ok=True)
        fresh = self.top / "state.json.new"
        fresh.write_text(json.dumps(state))
        fresh.rename(self.top / "state.json")

    def place(self, name: str, state: Mapping[str, Any]) -> Path:
        """Where the tree of an environment lies now."""
        if name == state["running"]:
            return Path(self.lab.tree.top)
        mounted = state["environments"][name]["mounted"]
        return self.lab.path(mounted) if mounted else self.top / name

    def create(self, name: str, source: str | None = None) -> None:
        """A copy of an environment, without what is mounted in it or lies in memory."""
        state = self.state
        origin = self.place(source or state["running"], state)
        mounted = [one["mounted"] for one in state["environments"].values() if one["mounted"]]
        self.top.mkdir(exist_ok=True)
        _copy(origin, self.top / name, {origin / path[1:] for path in (*self.lab.memory, *mounted)})
        state["environments"][name] = {"created": CREATED + len(state["environments"]), "mounted": None}
        self.save(state)

    def mount(self, name: str, point: str) -> None:
        """The environment's tree appears at `point`."""
        state = self.state
        host = Path(self.lab.tree.top + point)
        if self.lab.tree.exists(point):
            host = self.lab.path(self.lab.tree.resolve(point))
        host.mkdir(parents=True, exist_ok=True)
        os.rename(self.top / name, host)  # over the empty directory
        state["environments"][name]["mounted"] = point
        self.save(state)

    def unmount(self, name: str) -> None:
        """It lies apart again, and the mount point is empty."""
        state = self.state
        here = self.place(name, state)
        os.rename(here, self.top / name)
        here.mkdir()
        state["environments"][name]["mounted"] = None
        self.save(state)

    def activate(self, name: str, temporarily: bool = False) -> None:
        """The next boot takes it; temporarily: only the next one."""
        state = self.state
        state["once" if temporarily else "next"] = name
        if not temporarily:
            state["once"] = None
        self.save(state)

    def destroy(self, name: str) -> None:
        """It is gone."""
        state = self.state
        shutil.rmtree(self.place(name, state))
        del state["environments"][name]
        self.save(state)

    def boot(self, chosen: str | None = None) -> None:
        """Put the environment in place that this boot takes: the one chosen at the console, or the activated one."""
        state = self.state
        for name, one in state["environments"].items():
            if one["mounted"]:
                self.unmount(name)
        state = self.state
        wanted = chosen or state["once"] or state["next"]
        state["once"] = None
        if wanted != state["running"]:
            top = Path(self.lab.tree.top)
            os.rename(top, self.top / state["running"])
            os.rename(self.top / wanted, top)
            state["running"] = wanted
            self.save(state)
        elif (self.top / "state.json").exists():
            self.save(state)


def _copy(source: Path, target: Path, without: set[Path]) -> None:
    """The tree with owners, modes and times; directories in `without` are empty in the copy."""
    status = os.lstat(source)
    if stat.S_ISDIR(status.st_mode):
        target.mkdir()
        if source not in without:
            for entry in os.scandir(source):
                _copy(Path(entry.path), target / entry.name, without)
    elif stat.S_ISLNK(status.st_mode):
        target.symlink_to(os.readlink(source))
    elif stat.S_ISREG(status.st_mode):
        shutil.copyfile(source, target)
    else:
        return
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def beadm(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """The command."""
    from tests.host.laboratory.system import Result

    status, out, err = _run(lab.environments, list(argv[1:]), uid)
    return Result(status, out.encode(), err.encode())


def _run(environments: Environments, words: list[str], uid: int) -> tuple[int, str, str]:
    known = {"activate", "create", "destroy", "list", "mount", "unmount", "umount"}
    if not words or words[0] not in known:
        return 1, "", USAGE
    verb, options, names = words[0], "", []
    for word in words[1:]:
        if word.startswith("-") and word != "-":
            options += word[1:]
        else:
            names.append(word)
    state = environments.state
    if verb == "list":
        return _list(environments, state, names, "H" in options)
    if uid != 0:
        return 1, "", f"Unable to {verb} {' '.join(names)}.\nPermission denied.\n"
    if not names:
        return 1, "", USAGE
    name = names[-1] if verb == "create" else names[0]
    if verb in ("unmount", "umount"):
        verb = "unmount"
        name = next((known for known, one in state["environments"].items() if one["mounted"] == name), name)
    exists = name in state["environments"]
    if verb == "create":
        if exists:
            return 1, "", f"BE {name} already exists. Please choose a different BE name.\n"
        source = names[0] if "e" in options and len(names) > 1 else None
        if source is not None and source not in state["environments"]:
            return (
                1,
                "",
                UNKNOWN.format(source),
            )
        environments.create(name, source)
        if "a" in options:
            environments.activate(name)
        return 0, "Created successfully\n", ""
    if not exists:
        return (
            1,
            "",
            UNKNOWN.format(name),
        )
    mounted = state["environments"][name]["mounted"]
    if verb == "mount":
        point = names[1] if len(names) > 1 else f"/tmp/.be.{name}"
        if mounted or name == state["running"]:
            return 1, "", f"{name} is already mounted.\nPlease unmount the BE before mounting it again.\n"
        if not point.startswith("/"):
            return 1, "", f"Invalid mount point {point}. Mount point must start with a /.\n"
        if environments.lab.tree.exists(point) and any(environments.lab.path(point).iterdir()):
            return 1, "", f"Unable to mount {name}.\nDirectory is not empty.\n"
        environments.mount(name, point)
        return 0, f"Mounted successfully on: '{point}'\n", ""
    if verb == "unmount":
        if name == state["running"]:
            return 1, "", f"{name} is the currently active boot environment.\n"
        if mounted:
            environments.unmount(name)
        return 0, "Unmounted successfully\n", ""
    if verb == "activate":
        if "t" in options and not environments.temporary_activation:
            return 1, "", USAGE
        if "T" in options:
            environments.save({**state, "once": None})
        else:
            environments.activate(name, "t" in options)
        return 0, "Activated successfully\n", ""
    if name in (state["running"], state["next"]):
        return 1, "", f"Unable to destroy {name}.\n{name} is the currently active boot environment.\n"
    if mounted and "f" not in options:
        return (
            1,
            "",
            f"Unable to destroy {name}.\nIt is currently mounted and must be unmounted before it can be destroyed.\n",
        )
    if "F" not in options:
        return 1, "", f"Are you sure you want to destroy {name}?\nThis action cannot be undone (y/[n]): "
    environments.destroy(name)
    return 0, "Destroyed successfully\n", ""


def _list(environments: Environments, state: Mapping[str, Any], names: list[str], plain: bool) -> tuple[int, str, str]:
    lines = []
    for name, one in state["environments"].items():
        if names and name not in names:
            continue
        active = ("N" if name == state["running"] else "") + ("R" if name == state["next"] else "")
        active += "T" if name == state["once"] else ""
        point = "/" if name == state["running"] else one["mounted"] or ""
        identifier = f"00000000-0000-4000-8000-{one['created']:012d}"
        if plain:
            lines.append(f"{name};{identifier};{active};{point};1234567;static;{one['created']}\n")
        else:
            lines.append(f"{name:<15} {active or '-':<6} {point or '-':<10} 1.18M   static 2023-11-14 22:13\n")
    if names and not lines:
        return 1, "", UNKNOWN.format(names[0])
    head = "" if plain else "BE              Active Mountpoint Space   Policy Created\n"
    return 0, head + "".join(lines), ""

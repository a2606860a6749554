"""commands: the small programs of the laboratory, each as far as something here uses it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.host.laboratory.system import Laboratory, Result

KERNELS = {"10": "5.10", "11": "5.11", "11.4": "5.11", "illumos": "5.11"}
VERSIONS = {"10": "Generic_147148-26", "11": "11.3", "11.4": "11.4.0.15.0", "illumos": "illumos-2b73ed1c58"}


def register(lab: Laboratory) -> None:
    """Put the programs into the laboratory."""
    from tests.host.laboratory.system import Program

    native = 32 if 32 in lab.machine.numbers else 64
    for path, bits, implementation in (
        ("/usr/bin/true", 64, true),
        ("/usr/bin/true32", 32, true),
        ("/usr/bin/ls", native, ls),
        ("/usr/bin/rm", native, remove),
        ("/usr/bin/mv", 64, move),
        ("/usr/bin/id", native, identity),
        ("/usr/bin/isainfo", native, isainfo),
        ("/usr/bin/uname", native, uname),
        ("/usr/bin/zonename", native, zonename),
        ("/sbin/mount", native, mount),
        ("/usr/bin/sh", 64, shell),
        ("/sbin/sh", native, shell),
        ("/usr/bin/bash", 64, shell),
        ("/usr/bin/python3", 64, true),
        ("/sbin/init", native, true),
        ("/lib/svc/bin/svc.startd", 64, true),
        ("/lib/svc/bin/svc.configd", native, true),
        ("/lib/svc/method/early-import", 64, true),
    ):
        lab.install_program(path, Program(bits if bits in lab.machine.numbers else native, implementation))
    lab.install_program("/usr/bin/su", Program(native, true, set_id=True))
    lab.install_program("/usr/bin/uptime", Program(native, true, set_id=True))
    lab.install_program("/usr/bin/amd64/w", Program(64, true, set_id=True))
    runpath = ("/usr/lib/64",)
    for path in ("/usr/bin/cplusplus", "/usr/bin/groff"):
        lab.install_program(path, Program(64, true, needed=("libstdc++.so.6", "libc.so.1"), runpath=runpath))


def _result(status: int, out: str = "", err: str = "") -> Result:
    from tests.host.laboratory.system import Result

    return Result(status, out.encode("utf-8", "surrogateescape"), err.encode("utf-8", "surrogateescape"))


def true(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """Does nothing, successfully."""
    return _result(0)


def ls(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """Names in the directories, or the files themselves."""
    out, err, status = "", "", 0
    for path in [word for word in argv[1:] if not word.startswith("-")] or ["/"]:
        try:
            host = lab.path(lab.tree.resolve(path, uid))
            names = sorted(entry.name for entry in host.iterdir()) if host.is_dir() else [path]
            lab.tree.stat(path, uid)
        except OSError as error:
            err += f"{path}: {error.strerror}\n"
            status = 2
            continue
        out += "".join(f"{name}\n" for name in names)
    return _result(status, out, err)


def remove(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """Removes files."""
    err = ""
    for path in [word for word in argv[1:] if not word.startswith("-")]:
        try:
            host = lab.tree.host(path, uid, follow=False)
            if not lab.tree.may(os.path.dirname(lab.tree.resolve(path, uid, follow=False)), uid, 3):
                raise PermissionError(13, "Permission denied", path)
            os.unlink(host)
        except OSError as error:
            err += f"{path}: {error.strerror}\n"
    return _result(2 if err and "-f" not in argv else 0, err=err)


def move(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """Renames a file; root only."""
    try:
        os.rename(lab.tree.host(argv[1], uid, follow=False), lab.tree.host(argv[2], uid, follow=False))
    except OSError as error:
        return _result(2, err=f"mv: cannot rename {argv[1]} to {argv[2]}: {error.strerror}\n")
    return _result(0)


def identity(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """uid and its name; -u the number, -un the name."""
    if list(argv[1:]) not in ([], ["-u"], ["-un"]):
        return _result(2, err="usage: id [user]\n       id -u [-n] [user]\n")
    names = {}
    for line in lab.tree.read("/etc/passwd").decode("latin-1").splitlines():
        fields = line.split(":")
        names[int(fields[2])] = fields[0]
    name = names.get(uid, str(uid))
    return _result(0, {"-u": f"{uid}\n", "-un": f"{name}\n"}.get("".join(argv[1:]), f"uid={uid}({name})\n"))


def isainfo(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """Native instruction sets: -b bits, -n native, -k kernel, -x with capabilities, -v in words, else all names."""
    names = {"x86": {64: "amd64", 32: "i386"}, "sparc": {64: "sparcv9", 32: "sparc"}, "aarch64": {64: "aarch64"}}
    sets = names[lab.machine.name]
    native = max(sets)
    options = set("".join(word[1:] for word in argv[1:] if word.startswith("-")))
    if options - set("vbnkx") or len(options - {"v"}) > 1:
        return _result(1, err="usage: isainfo [ -v ] [ -b | -n | -k | -x ]\n")
    if "b" in options:
        return _result(0, f"{native}\n")
    if options & set("nk"):
        return _result(0, f"{sets[native]}\n")
    if "x" in options:
        return _result(0, "".join(f"{sets[bits]}: sse4.2 sse4.1 sse3 sse2 sse fxsr mmx cx8 tsc fpu\n" for bits in sets))
    if "v" in options:
        return _result(0, "".join(f"{bits}-bit {sets[bits]} applications\n\tsse2 fpu\n" for bits in sets))
    return _result(0, " ".join(sets.values()) + "\n")


def uname(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """The system's names; several options give several words in the order of -a."""
    machine, processor = {"x86": ("i86pc", "i386"), "sparc": ("sun4v", "sparc"), "aarch64": ("armpc", "aarch64")}[
        lab.machine.name
    ]
    words = {
        "s": "SunOS",
        "n": "laboratory",
        "r": KERNELS[lab.release],
        "v": VERSIONS[lab.release],
        "m": machine,
        "p": processor,
        "i": machine,
    }
    options = "".join(word[1:] for word in argv[1:] if word.startswith("-")) or "s"
    if options == "X" or set(options) - set("snrvmpiao"):
        return _result(2, err="usage: uname [-snrvmapiX]\n")
    if "a" in options:
        options = "snrvmpi"
    return _result(0, " ".join(words[letter] for letter in "snrvmpi" if letter in options) + "\n")


def zonename(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """The zone's name."""
    return _result(0, f"{lab.zone}\n")


def mount(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """`mount -p`: the table in the format of vfstab; without options, in words."""
    if list(argv[1:]) == ["-p"]:
        return _result(
            0,
            "".join(
                f"{device} - {point} {kind} - no {options or '-'}\n" for device, point, kind, options in lab.mounts
            ),
        )
    if len(argv) == 1:
        return _result(0, "".join(f"{point} on {device} {options}\n" for device, point, _, options in lab.mounts))
    return _result(1, err="Usage:\nmount [-v | -p]\n")


def shell(lab: Laboratory, argv: Sequence[str], env: Mapping[str, str], uid: int, stdin: bytes) -> Result:
    """One simple command line: `:`, `exit N`, `echo WORDS`, `[exec] [NAME=VALUE…] PROGRAM ARGUMENTS…`.

    What follows `exec PROGRAM …;` or `&&` is never reached, for the program replaces the shell.
    """
    if len(argv) < 3 or argv[1] != "-c":
        return _result(0)
    name = argv[0].rpartition("/")[2]
    try:
        words = shlex.split(argv[2], comments=True)
    except ValueError:
        return _result(3, err=f"{name}: syntax error at line 1: `\"' unmatched\n")
    variables = dict(env)
    prefix = f"{name}: line 1"
    if words[:1] == ["exec"]:
        words = _until_operator(argv[2])[1:]
        prefix = f"{argv[0]}[1]: exec"
    while words and words[0].partition("=")[0].isidentifier() and "=" in words[0]:
        variable, _, value = words.pop(0).partition("=")
        variables[variable] = value
    if not words or words[0] in (":", "true"):
        return _result(0)
    if words[0] == "exit":
        return _result(int(words[1]) if len(words) > 1 else 0)
    if words[0] == "echo":
        return _result(0, " ".join(words[1:]) + "\n")
    program = words[0]
    if "/" not in program:
        for directory in variables.get("PATH", "/usr/sbin:/usr/bin").split(":"):
            if lab.tree.exists(f"{directory}/{program}"):
                program = f"{directory}/{program}"
                break
        else:
            return _result(127, err=f"{prefix}: {words[0]}: not found\n")
    try:
        return lab.execute([program, *words[1:]], variables, uid, stdin)
    except OSError as error:
        missing = error.errno == 2
        why = "not found" if missing else f"cannot execute [{error.strerror}]"
        return _result(127 if missing else 126, err=f"{prefix}: {words[0]}: {why}\n")


def _until_operator(line: str) -> list[str]:
    """The words before the first `;`, `&`, `|` or redirection that is not quoted."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set(";&|<>"):
            break
        words.append(word)
    return words

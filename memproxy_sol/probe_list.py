"""Probe list: which programs of a host a change is tried on. Reads the tree, starts nothing.

What a program is, is asked of its ELF header, since every release has its own mixture: `/usr/bin/true` is a script
here and of either class there, and of the 32-bit programs of 11.4 few are left. Programs that are wrappers for several
instruction sets (isaexec) are left out: which class they become is not theirs to say. So is what is found by name and
somebody besides root can change: it is started as root.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from memproxy_sol import access, elf, elf_header, exclusions, executable
from memproxy_sol.abi import Abi
from memproxy_sol.errors import ElfError, MemproxyError
from memproxy_sol.findings import NOTE, WARNING, Finding
from memproxy_sol.probe import Probe
from memproxy_sol.probe_program import NAME
from memproxy_sol.root import Root

DIRECTORIES = tuple(
    directory + instruction_set
    for instruction_set in ("", "/amd64", "/sparcv9", "/i86", "/sparcv7")
    for directory in ("/usr/bin", "/usr/sbin", "/sbin", "/usr/gnu/bin", "/opt/local/bin", "/opt/ooce/bin")
)
"""Where programs are looked for: those of one instruction set have a directory of their own (isaexec(3C))."""

HARMLESS = (
    *(("true",), ("ls", "/"), ("date",), ("id",), ("uname",), ("pwd",), ("echo",), ("cat",), ("sort",), ("env",)),
    *(("expr", "1"), ("uptime",), ("who",), ("ps",), ("hostname",)),
)
"""Programs, with arguments, that need nothing, change nothing and end at once with status 0, by descending modesty."""

CPLUSPLUS = tuple(
    (name, "--version")
    for name in ("groff", "apt-get", "cmake", "ninja", "gperf", "doxygen", "ctest", "gdb", "node", "gold")
)
"""Usual programs in C++. Which of them is one is seen by what it needs."""
CPLUSPLUS_LIBRARIES = ("libstdc++.so", "libCrun.so", "libc++.so")

WORK = (
    "import os, threading; work = lambda: [bytearray(n * 997) for n in range(200)]; "
    "threads = [threading.Thread(target=work) for n in range(4)]; "
    "[one.start() for one in threads]; [one.join() for one in threads]; child = os.fork(); "
    "child or (work(), os._exit(0)); os._exit(os.waitpid(child, 0)[1] and 1)"
)
"""What Python does when it is tried: allocators fail in threads and in children, if they do not at once."""

SHELL = ("sh", "-c", 'test "`(echo a; (echo b) | cat)`" = "a\nb"')
"""A shell with children that do not call exec: allocators have failed just there. Bourne's own can do it, too."""

SET_ID = (
    ("mount",),
    ("uptime",),
    ("w",),
    ("atq",),
    ("crontab", "-l"),
    ("ping", "127.0.0.1", "2"),
    ("traceroute",),
    ("mailq",),
)
"""Programs that may be set-id, and do no harm in the hands of a user who has no rights."""

UNPRIVILEGED = ("nobody", "noaccess", "daemon")
"""The first of these users that the host has stands for all that are not root; else its first ordinary user."""
_ORDINARY = 100
"""The lowest uid of an ordinary user (useradd(8))."""

Expectation = Callable[[Probe], "str | None"]
"""The route that a probe has to take; None where any will do."""


@dataclass(frozen=True)
class ProbeList:
    """What is tried, and what of it is not to be had."""

    probes: tuple[Probe, ...]
    findings: tuple[Finding, ...]


def default_probes(
    root: Root,
    abis: Sequence[Abi],
    commands: Iterable[tuple[str, ...]] = (),
    secure: bool = True,
    own: Mapping[int, tuple[str, ...]] | None = None,
    scope: str = "all",
) -> ProbeList:
    """The probes for a change of `abis`: the usual programs of the host, those of `own`, and the policy's `commands`.

    Each as root and, unless the `scope` is root's processes, as an unprivileged user. `secure` is whether set-id
    programs are to get libmemproxy: those that are not print a warning at each start, which says nothing.
    """
    bits = [abi.bits for abi in abis]
    findings: list[Finding] = []
    user = _unprivileged(root) if scope == "all" else None
    if user is None and scope == "all":
        text = "there is no unprivileged user that programs could be tried as"
        findings.append(Finding("trial-no-user", WARNING, "/etc/passwd", text, f"add the user {UNPRIVILEGED[0]}"))
    safe = _Safe(root)
    chosen: list[tuple[str, tuple[str, ...], int]] = []
    for size in bits:
        chosen += _first(safe, HARMLESS, [size], lambda path: True)
        ours = (own or {}).get(size)
        chosen += [] if ours is None else [(f"{NAME} by {ours[0]}", ours, size)]
    chosen += _first(safe, [SHELL], bits, lambda path: True) if own else []
    shell = _login_shell(root)
    python = _python(safe)
    for name, command in (("login shell", (shell, "-c", "exit 0")), ("python", python)):
        size_of = program_bits(root, command[0]) if command else None
        if command and size_of in bits and size_of is not None:
            chosen.append((f"{name} {command[0]}", command, size_of))
    cplusplus = _first(safe, CPLUSPLUS, bits, lambda path: _is_cplusplus(root, path))
    if not cplusplus:
        text = "no program in C++ was found to try the change on"
        findings.append(Finding("trial-not-tried", NOTE, "C++", text, "name one in the policy's probes"))
    chosen += cplusplus
    for command in commands:
        size_of = program_bits(root, command[0])
        if size_of is None:
            text = "is no program of one ABI, so it is not tried"
            findings.append(Finding("trial-not-tried", WARNING, command[0], text, "correct probes in the policy"))
        elif size_of in bits:
            chosen.append((" ".join(command), command, size_of))
    users = [None] if user is None else [None, user]
    probes = [
        Probe(name, command, size, who)
        for name, command, size in dict.fromkeys(chosen)
        for who in users
        if who is None or safe.reaches(command[0])
    ]
    if secure and user is not None:
        # Root's ids are not changed by a program of root's, which is then not set-id in the runtime linker's sense.
        for size in bits:
            for name, command, _ in _first(safe, SET_ID, [size], lambda path: _is_set_id(root, path)):
                probes.append(Probe(f"set-id {name}", command, size, user, secure=True))
    # An ABI that gets no library reads the same file on Linux: its programs have to start without a word.
    others = [(size, command) for size, command in (own or {}).items() if size not in bits]
    probes += [Probe(f"{NAME} by {command[0]}", command, size, secure=True) for size, command in others]
    return ProbeList(tuple(probes), (*findings, *safe.findings()))


def expectation(root: Root, custom: Container[int]) -> Expectation:
    """The route that the exclusion list gives to each probe, where its ABI (by bits, in `custom`) has an allocator."""
    state = exclusions.load(root)
    lines = exclusions.parse(state.data) if state is not None else ()

    def route(probe: Probe) -> str | None:
        if probe.bits not in custom:
            return "system"
        path = executable.reported(root, probe.command[0])
        return exclusions.decide(lines, exclusions.to_text(os.fsencode(path))).route

    return route


def program_bits(root: Root, path: str) -> int | None:
    """The class of the process that `path` becomes, its interpreter's for a script; None where that cannot be told."""
    try:
        found = executable.locate(root, path)
        if not found.exists or found.by_isaexec:
            return None
        return elf_header.parse(_head(root, found.path)).bits
    except (MemproxyError, OSError):
        return None


def _head(root: Root, path: str) -> bytes:
    descriptor = os.open(root.host_path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.read(descriptor, elf_header.SIZE)
    finally:
        os.close(descriptor)


class _Safe:
    """Which programs nobody but root can change; what was left out for it, to be told."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self._groups = access.Groups(root)
        self._left_out: dict[str, Finding] = {}

    def __call__(self, path: str) -> bool:
        """Whether root may start what lies at `path`."""
        judged = access.judge(self.root, path, "program", self._groups)
        wrong = next((one for one in judged if not one.identifier.endswith(("-unreadable", "-unsearchable"))), None)
        if wrong is None:
            return True
        text = f"is not tried, since root does not start what others can change: {wrong.where} {wrong.text}"
        self._left_out[path] = Finding("trial-not-tried", NOTE, path, text, wrong.hint)
        return False

    def reaches(self, path: str) -> bool:
        """Whether every user may start what lies at `path`: our own Python may lie below a closed directory."""
        judged = access.judge(self.root, path, "program", self._groups)
        return not any(one.identifier.endswith(("-unreadable", "-unsearchable")) for one in judged)

    def findings(self) -> tuple[Finding, ...]:
        """One for each program that was left out."""
        return tuple(self._left_out.values())


def _first(
    safe: _Safe, programs: Iterable[tuple[str, ...]], bits: Sequence[int], fits: Callable[[str], bool]
) -> list[tuple[str, tuple[str, ...], int]]:
    """The first of the programs that the host has in one of these classes and that fits, alone in a list."""
    for path, arguments in _candidates(safe.root, programs):
        size = program_bits(safe.root, path)
        if size in bits and size is not None and fits(path) and safe(path):
            return [(path, (path, *arguments), size)]
    return []


def _candidates(root: Root, programs: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, *arguments in programs:
        for directory in DIRECTORIES:
            status = root.stat(f"{directory}/{name}")
            if status is not None and stat.S_ISREG(status.st_mode) and status.st_mode & 0o001:
                yield f"{directory}/{name}", tuple(arguments)


def _is_cplusplus(root: Root, path: str) -> bool:
    try:
        needed = elf.read(root.host_path(executable.reported(root, path))).needed
    except ElfError:
        return False
    return any(name.startswith(CPLUSPLUS_LIBRARIES) for name in needed)


def _is_set_id(root: Root, path: str) -> bool:
    status = root.stat(path)
    return status is not None and bool(status.st_mode & (stat.S_ISUID | stat.S_ISGID))


def _passwd(root: Root) -> list[list[str]]:
    state = root.read("/etc/passwd")
    lines = state.data.decode("utf-8", "surrogateescape").splitlines() if state is not None else []
    return [line.split(":") for line in lines if line.count(":") == 6]


def _unprivileged(root: Root) -> str | None:
    users = {fields[0]: int(fields[2]) for fields in _passwd(root) if fields[2].isdigit() and int(fields[2]) != 0}
    ordinary = (name for name, uid in users.items() if uid >= _ORDINARY)
    return next((name for name in UNPRIVILEGED if name in users), next(ordinary, None))


def _login_shell(root: Root) -> str:
    """Root's; an empty field is the system's shell (passwd(5))."""
    shells = [fields[6] for fields in _passwd(root) if fields[0] == "root"]
    return shells[0] if shells and shells[0].startswith("/") else "/sbin/sh"


def _python(safe: _Safe) -> tuple[str, ...]:
    """The Python that runs this, where the tree is this machine's, else the system's."""
    root = safe.root
    names = [f"{directory}/{name}" for name in ("python3", "python") for directory in DIRECTORIES[:6]]
    own = [sys.executable] if root.path == "/" and sys.executable else []
    # Its own is started as root already, whoever may change it.
    found = next((path for path in (*own, *names) if root.exists(path) and (path in own or safe(path))), None)
    return () if found is None else (found, "-S", "-E", "-c", WORK)

"""`memproxy-sol exclude list|add|remove`: the exclusion list; `scan` is exclude_scan.py."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import Any

from plumbum import cli

from memproxy_sol import exclusion_edit, exclusion_problems, exclusions, files, lock, report
from memproxy_sol.cli.application import Command
from memproxy_sol.cli.notice import told
from memproxy_sol.errors import EXIT_OK, EXIT_USAGE, ExclusionError, MemproxyError, UsageError, printable
from memproxy_sol.executable import USUAL_DIRECTORIES, Executable, locate, reported
from memproxy_sol.root import FileState, Root


class ListCommand(Command):
    """A command on one exclusion list; explain is one, too."""

    root_path: Any = cli.SwitchAttr(
        ["--root"],
        str,
        argname="DIR",
        default="/",
        help="The directory on which an image or an inactive boot environment is mounted",
    )
    list_name: Any = cli.SwitchAttr(
        ["--list"],
        str,
        argname="FILE",
        default=exclusions.LIST_PATH,
        help="Another exclusion list, inside --root",
    )
    json: Any = cli.Flag(["--json"], help="Print the answer as JSON")

    def opened(self) -> Root:
        """The tree that --root names; says so if a change of it is not finished."""
        return told(Root(self.root_path))

    def list_path(self, root: Root) -> str:
        """The list as a path of the tree."""
        return absolute(root, self.list_name)


class Exclude(Command):
    """The exclusion list: programs that keep the system's allocator."""

    DESCRIPTION = "Lists, finds, adds or removes programs that keep the system's allocator"
    DESCRIPTION_MORE = """
A change is seen by processes that start after it. What a line may say is in docs/exclusions.md; which line decides for
a program, `memproxy-sol explain PROGRAM` tells.
"""
    SUBCOMMAND_HELPMSG = False

    def main(self, *args: str) -> int:
        if self.nested_command:
            return EXIT_OK
        if args:
            raise UsageError(f"unknown command {args[0]!r}", hint="see memproxy-sol exclude --help")
        self.help()
        return EXIT_USAGE


Exclude.subcommand("scan", "memproxy_sol.cli.exclude_scan.ExcludeScan")


@Exclude.subcommand("list")
class ExcludeList(ListCommand):
    """The lines of the list."""

    DESCRIPTION = "Shows the lines of the list, and what is wrong with them"

    def main(self) -> int:
        root = self.opened()
        path = self.list_path(root)
        state = exclusions.load(root, path)
        lines = exclusions.parse(state.data) if state is not None else ()
        names = {name for directory in search_directories(root) for name in root.names(directory)}
        problems = exclusion_problems.problems(lines, names, lambda program: listed(reported(root, program)))
        if self.json:
            report.print_json(
                {
                    "list": path,
                    "exists": state is not None,
                    "lines": [line_json(line) for line in lines],
                    "problems": [
                        {
                            "line": problem.line.number,
                            "id": problem.identifier,
                            "text": problem.text,
                            "hint": problem.hint,
                        }
                        for problem in problems
                    ],
                }
            )
            return EXIT_OK
        if state is None:
            say(f"{path} does not exist: no program is excluded")
        elif not lines:
            say(f"{path} names no program")
        width = max((len(str(line.number)) for line in lines), default=0)
        for line in lines:
            say(f"{line.number:>{width}}  {line.route or 'ignored':<7}  {line.pattern if line.applies else line.text}")
        for problem in problems:
            finding = problem.finding(path)
            say(f"{finding.where}: {finding.text}; {finding.hint}")
        if state is not None:
            for note in readable_notes(path, state):
                say(note)
        return EXIT_OK


@Exclude.subcommand("add")
class ExcludeAdd(ListCommand):
    """Add programs to the list."""

    DESCRIPTION = "Adds a program, by name, by path, or with everything in a directory"
    DESCRIPTION_MORE = """
NAME stands for every executable of that name, a PATH for that one, a PATH that ends in / for everything in and below
the directory; * ? [a-z] [!x] stand for text as in the shell. What is written is the name that the kernel will report:
links are resolved, a script is its interpreter. Where there is no list yet, one is made.

    memproxy-sol exclude add nscd

    memproxy-sol exclude add /opt/vendor/

    memproxy-sol exclude add --route custom '/opt/app/bin/worker*'
"""
    USAGE = "    memproxy-sol exclude add [SWITCHES] NAME|PATH...\n"

    route: Any = cli.SwitchAttr(
        ["--route"],
        cli.Set(*exclusions.ROUTES, case_sensitive=True),
        argname="ROUTE",
        default=exclusions.LISTED_ROUTE,
        help="system, or custom: an exception to a line further down",
    )

    def main(self, *programs: str) -> int:
        if not programs:
            raise UsageError("no program is named", hint="see memproxy-sol exclude add --help")
        root = self.opened()
        path = self.list_path(root)
        wanted = [_wish(root, program) for program in programs]
        answers = []
        with changing(root, path):
            before = load_for_change(root, path)
            start = before or FileState(exclusions.TEMPLATE, 0o644, os.geteuid(), os.getegid())
            data = start.data
            for wish in wanted:
                addition = exclusion_edit.added(data, wish.pattern, self.route, wish.sample)
                data = addition.data
                answers.append((wish, addition))
            after = FileState(data, start.mode, start.uid, start.gid)
            if any(not addition.existing for _, addition in answers):
                files.put(root, path, after)
        lines = exclusions.parse(data)
        if self.json:
            report.print_json(
                {"list": path, "programs": [_addition_json(wish, addition, lines) for wish, addition in answers]}
            )
            return EXIT_OK
        for wish, addition in answers:
            for text in _addition_text(path, wish, addition, lines):
                say(text)
        for note in readable_notes(path, after):
            say(note)
        return EXIT_OK


@Exclude.subcommand("remove")
class ExcludeRemove(ListCommand):
    """Remove programs from the list."""

    DESCRIPTION = "Removes the lines that name a program, and tells what still matches it"
    USAGE = "    memproxy-sol exclude remove [SWITCHES] NAME|PATH...\n"

    def main(self, *programs: str) -> int:
        if not programs:
            raise UsageError("no program is named", hint="see memproxy-sol exclude remove --help")
        root = self.opened()
        path = self.list_path(root)
        answers = []
        with changing(root, path):
            before = load_for_change(root, path)
            data = before.data if before is not None else b""
            for program in programs:
                patterns, sample = _removal_wish(root, program)
                removal = exclusion_edit.removed(data, patterns)
                data = removal.data
                answers.append((program, sample, removal))
            if before is not None and data != before.data:
                files.put(root, path, FileState(data, before.mode, before.uid, before.gid))
        lines = exclusions.parse(data)
        if self.json:
            report.print_json({"list": path, "programs": [_removal_json(*answer, lines) for answer in answers]})
            return EXIT_OK
        for program, sample, removal in answers:
            for line in removal.lines:
                say(f"{path}: removed line {line.number}: {line.text}")
            if not removal.lines:
                say(f"{path}: no line says {program}; nothing was changed")
            decision = exclusions.decide(lines, sample)
            if decision.line is not None:
                say(f"  {decision.why} still gives {sample} the route {decision.route}")
        return EXIT_OK


# ---- What explain uses as well.


def say(text: str) -> None:
    """One line on standard output, with what cannot be shown there escaped."""
    encoding = sys.stdout.encoding or "ascii"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding))


def absolute(root: Root, path: str) -> str:
    """`path` as an absolute path of the tree; UsageError for a relative one in an image."""
    if path.startswith("/"):
        return path
    if not root.is_live:
        raise UsageError(f"{path!r} is a relative path", hint="give the full path that it has inside the image")
    return os.path.join(os.getcwd(), path)


def search_directories(root: Root) -> tuple[str, ...]:
    """Where programs are looked for by name: PATH on the running system, the usual directories in an image."""
    if not root.is_live:
        return USUAL_DIRECTORIES
    return tuple(part for part in os.environ.get("PATH", "").split(os.pathsep) if part.startswith("/"))


def located(root: Root, program: str) -> Executable:
    """Where a program that was typed leads."""
    if not program or "\0" in program:
        raise UsageError("a program has a name", hint="name it, or give its path")
    return locate(root, absolute(root, program) if "/" in program else program, search_directories(root))


def listed(path: str) -> str:
    """A path of this machine's encoding as text of a list."""
    return exclusions.to_text(os.fsencode(path))


def line_json(line: exclusions.Line | None) -> dict[str, Any] | None:
    """A line as --json prints it."""
    if line is None:
        return None
    return {
        "number": line.number,
        "text": line.text,
        "pattern": line.pattern,
        "route": line.route or None,
        "applies": line.applies,
    }


def hops_json(executable: Executable | None) -> list[dict[str, str]]:
    """How a program leads to its executable, as --json prints it."""
    hops = executable.hops if executable is not None else ()
    return [{"kind": hop.kind, "path": hop.path, "target": hop.target} for hop in hops]


# ---- Adding and removing.


@dataclass(frozen=True)
class _Wish:
    """What is to be added."""

    program: str
    pattern: str
    sample: str
    """An executable that the line must decide for."""
    executable: Executable | None
    notes: tuple[str, ...]


class changing:
    """Keeps others from changing the tree, and words what the system refuses."""

    def __init__(self, root: Root, path: str) -> None:
        self._path = path
        self._lock = lock.locked(root)

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._lock.__exit__(kind, error, trace)
        if isinstance(error, OSError):
            what = f"cannot be changed: {error.strerror or error}"
            raise ExclusionError(
                what, where=self._path, hint="nothing was changed; run it as a user who may"
            ) from error


def load_for_change(root: Root, path: str) -> FileState | None:
    """The list at `path`, None where there is none; ExclusionError for a link, through which nothing is written."""
    status = root.lstat(path)
    if status is not None and stat.S_ISLNK(status.st_mode):
        target = root.resolve(path)
        raise ExclusionError(
            f"is a symbolic link to {target}", where=path, hint=f"to change that file, name it: --list {target}"
        )
    return exclusions.load(root, path)


def _wish(root: Root, program: str) -> _Wish:
    text = listed(program)
    if exclusions.is_glob(text) and not _exists(root, program):
        return _Wish(program, text, exclusion_edit.example(text), None, ())
    if program.endswith("/"):
        directory = root.resolve(absolute(root, program))
        path = directory.rstrip("/") + "/"
        status = root.lstat(directory)
        notes = []
        if status is None:
            notes.append(f"{directory} does not exist yet")
        elif not stat.S_ISDIR(status.st_mode):
            raise ExclusionError("is not a directory", where=program, hint="name a program without the / at the end")
        if directory != os.path.normpath(absolute(root, program)):
            notes.append(f"{program} leads through a symbolic link to {directory}")
        pattern = exclusion_edit.quote(listed(path))
        return _Wish(program, pattern, listed(path) + "~", None, tuple(notes))
    executable = located(root, program)
    name = listed(executable.path)
    if "/" not in program:
        name = os.path.basename(name)
    pattern = exclusion_edit.quote(name)
    if executable.by_isaexec and "/" in program:
        directory, name_only = os.path.split(name)
        pattern = exclusion_edit.quote(os.path.dirname(directory)) + "/*/" + exclusion_edit.quote(name_only)
    return _Wish(program, pattern, name, executable, tuple(_notes(program, pattern, executable)))


def _notes(program: str, pattern: str, executable: Executable) -> list[str]:
    notes = [str(hop) for hop in executable.hops]
    if not executable.exists:
        where = "" if "/" in executable.path else " in the directories searched"
        notes.append(f"{executable.path} does not exist{where}; the line is for a program that is to come")
    elif executable.mode is not None and not executable.mode & 0o111:
        notes.append(f"{executable.path} is not executable")
    others = [name for name in executable.hard_links if not exclusions.matches(pattern, listed(name))]
    if others:
        notes.append(f"{', '.join(others)} is the same file: started by that name, it is not matched by this line")
    if executable.unseen_links:
        count = executable.unseen_links
        notes.append(f"the same file has {count} name{'s' if count > 1 else ''} in other directories")
    return notes


def _addition_text(path: str, wish: _Wish, addition: exclusion_edit.Addition, lines: Any) -> list[str]:
    line = addition.line
    found = list(wish.notes)
    if addition.existing:
        found.append(f"{path}: {wish.program} has the route {line.route} already, by line {line.number}: {line.text}")
    else:
        found.append(f"{path}: added line {line.number}: {line.text}")
        if addition.replaced is not None:
            found.append(f"  it replaces: {addition.replaced.text}")
        if addition.ahead_of is not None:
            found.append(f"  it stands in front of the line that would have matched first: {addition.ahead_of.text}")
        found.append(f"  it matches {_what_matches(wish, line.pattern)}; processes that run already keep their route")
    rival = _rival(wish, addition, lines)
    if rival is not None:
        found.append(f"  but for {wish.executable.path if wish.executable else wish.program} {rival.why} decides first")
    return found


def _addition_json(wish: _Wish, addition: exclusion_edit.Addition, lines: Any) -> dict[str, Any]:
    rival = _rival(wish, addition, lines)
    return {
        "program": wish.program,
        "changed": not addition.existing,
        "line": line_json(addition.line),
        "replaced": line_json(addition.replaced),
        "ahead_of": line_json(addition.ahead_of),
        "executable": wish.executable.path if wish.executable is not None else None,
        "hops": hops_json(wish.executable),
        "notes": list(wish.notes),
        "decided_by": line_json(rival.line) if rival is not None else None,
    }


def _rival(wish: _Wish, addition: exclusion_edit.Addition, lines: Any) -> exclusions.Decision | None:
    """The decision that the program gets after all, if it is not the one that was wished for."""
    if wish.executable is None or not wish.executable.exists:
        return None
    decision = exclusions.decide(lines, listed(wish.executable.path))
    return decision if decision.route != addition.line.route else None


def _what_matches(wish: _Wish, pattern: str) -> str:
    if pattern.endswith("/"):
        return f"every executable in and below {pattern}"
    if pattern == exclusion_edit.quote(wish.sample):
        return f"the executable {wish.sample}" if "/" in pattern else f"every executable named {wish.sample}"
    return f"every executable whose {'path' if '/' in pattern else 'name'} looks like {pattern}"


def _removal_wish(root: Root, program: str) -> tuple[set[str], str]:
    """The patterns that stand for a program, and an executable that they match."""
    text = listed(program)
    patterns = {text, exclusion_edit.quote(text)}
    try:
        wish = _wish(root, program)
    except MemproxyError:
        return patterns, text
    sample = wish.executable.path if wish.executable is not None and wish.executable.exists else wish.sample
    return patterns | {wish.pattern}, listed(sample)


def _removal_json(program: str, sample: str, removal: exclusion_edit.Removal, lines: Any) -> dict[str, Any]:
    decision = exclusions.decide(lines, sample)
    return {
        "program": program,
        "changed": bool(removal.lines),
        "removed": [line_json(line) for line in removal.lines],
        "route": decision.route,
        "decided_by": line_json(decision.line),
    }


def _exists(root: Root, program: str) -> bool:
    if "/" in program:
        return root.exists(absolute(root, program))
    return located(root, program).exists


def readable_notes(path: str, state: FileState) -> list[str]:
    """What is to be said if not every user can read the list."""
    if state.mode & 0o004:
        return []
    return [f"{path} is not readable for every user: in their programs nothing is excluded; chmod o+r {path}"]

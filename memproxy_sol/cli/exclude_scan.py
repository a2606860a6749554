"""`memproxy-sol exclude scan`: finds programs that have an allocator of their own, and proposes lines."""

from __future__ import annotations

import os
from typing import Any

from plumbum import cli

from memproxy_sol import exclusion_edit, exclusions, files, report, scan, scan_running, signals
from memproxy_sol.cli.exclude import ListCommand, absolute, changing, load_for_change, readable_notes, say
from memproxy_sol.errors import EXIT_DIFFERENCES, EXIT_FAILED, EXIT_OK, HostError, UsageError
from memproxy_sol.root import FileState, Root
from memproxy_sol.scan import Scan
from memproxy_sol.scan_files import DIRECTORIES


class ExcludeScan(ListCommand):
    """Find programs that have an allocator of their own."""

    DESCRIPTION = "Finds programs that have an allocator of their own, and proposes lines"
    DESCRIPTION_MORE = """
Looks at all programs and libraries below each PATH (the usual directories, if none is named): whether they define
malloc and free, hold an allocator that is known, or are linked with a library that does. Nothing is run and nothing
changed; with --add the proposed lines are written. What cannot be seen in a file is told in docs/exclusions.md.
Exit status: 0 there is nothing to propose, or it was added; 3 lines are proposed; 1 something could not be looked at.
"""
    USAGE = "    memproxy-sol exclude scan [SWITCHES] [PATH...]\n"

    running: Any = cli.Flag(["--running"], help="Look at the running processes and what they have mapped, too")
    add: Any = cli.Flag(["--add"], help="Write the proposed lines to the list")

    def main(self, *paths: str) -> int:
        root = self.opened()
        if self.running and not root.is_live:
            raise UsageError("--running is for the running system", hint="leave it out, or leave out --root")
        tops = [absolute(root, path) for path in paths]
        for top in tops:
            if not root.exists(top):
                raise HostError("no such file or directory", where=top, hint="name what is to be looked at")
        path = self.list_path(root)
        state = exclusions.load(root, path)
        lines = exclusions.parse(state.data) if state is not None else ()
        with signals.caught(), report.progress_bar() as told:
            running = scan_running.read() if self.running else None
            found = scan.scan(root, tops or DIRECTORIES, lines, running=running, told=told)
        added = _add(root, path, found) if self.add else None
        if self.json:
            value = {"list": path, **found.to_json()}
            value["added"] = [line.pattern for line in added[0]] if added is not None else []
            report.print_json(value)
        else:
            report.scan(found)
            for line in added[0] if added is not None else ():
                say(f"{path}: added line {line.number}: {line.text}")
            for note in readable_notes(path, added[1]) if added is not None else ():
                say(note)
            if found.proposed and added is None:
                count = len(found.proposed)
                say(f"{count} line{'s' if count > 1 else ''} proposed for {path}; --add writes them there")
        if found.proposed and added is None:
            return EXIT_DIFFERENCES
        return EXIT_FAILED if found.incomplete else EXIT_OK


def _add(root: Root, path: str, found: Scan) -> tuple[list[exclusions.Line], FileState] | None:
    """Write the proposed lines; the lines that are new and the list as it is now. None if there are none."""
    if not found.proposed:
        return None
    with changing(root, path):
        before = load_for_change(root, path)
        start = before or FileState(exclusions.TEMPLATE, 0o644, os.geteuid(), os.getegid())
        data, new = start.data, []
        for row in found.proposed:
            addition = exclusion_edit.added(data, row.pattern, exclusions.LISTED_ROUTE, _name(row.path))
            data = addition.data
            if not addition.existing:
                new.append(addition.line)
        after = FileState(data, start.mode, start.uid, start.gid)
        if new:
            files.put(root, path, after)
    return new, after


def _name(path: str) -> str:
    return exclusions.to_text(os.fsencode(path))

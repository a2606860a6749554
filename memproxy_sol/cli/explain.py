"""`memproxy-sol explain PROGRAM`: which route a program gets, and which line of the exclusion list decides it."""

from __future__ import annotations

import os
from typing import Any

from memproxy_sol import exclusions, report
from memproxy_sol.cli.exclude import ListCommand, hops_json, line_json, listed, located, say
from memproxy_sol.errors import EXIT_OK
from memproxy_sol.executable import Executable
from memproxy_sol.root import Root

ROUTE_VARIABLE = "MEMPROXY_ROUTE"


class Explain(ListCommand):
    """Which route a program gets, and why."""

    DESCRIPTION = "Tells which route a program gets, and which line of the list decides"
    DESCRIPTION_MORE = """
PROGRAM is a path, or a name that is searched in PATH (in an image: in the usual directories). Links are resolved and
scripts are followed to their interpreter, as the kernel does.
"""
    USAGE = "    memproxy-sol explain [SWITCHES] PROGRAM\n"

    def main(self, program: str) -> int:
        root = self.opened()
        path = self.list_path(root)
        state = exclusions.load(root, path)
        executable = located(root, program)
        lines = exclusions.parse(state.data) if state is not None else ()
        decision = exclusions.decide(lines, listed(executable.path))
        notes = _notes(root, path, state is not None, executable, lines, decision)
        if self.json:
            answer: dict[str, Any] = {
                "program": program,
                "executable": executable.path,
                "exists": executable.exists,
                "secure": executable.secure,
                "hops": hops_json(executable),
                "route": decision.route,
                "why": decision.why,
                "line": line_json(decision.line),
                "list": path,
                "list_exists": state is not None,
                "notes": notes,
            }
            report.print_json(answer)
            return EXIT_OK
        for hop in executable.hops:
            say(str(hop))
        say(f"{executable.path}: route {decision.route}: {decision.why}")
        if decision.line is not None:
            say(f"  {path}, line {decision.line.number}: {decision.line.text}")
        for note in notes:
            say(f"  {note}")
        return EXIT_OK


def _notes(
    root: Root,
    path: str,
    has_list: bool,
    executable: Executable,
    lines: tuple[exclusions.Line, ...],
    decision: exclusions.Decision,
) -> list[str]:
    notes = []
    if not has_list:
        notes.append(f"{path} does not exist: no program is excluded")
    if not executable.exists and "/" not in executable.path:
        notes.append("no such program was found: the answer holds for an executable of this name, wherever it lies")
        notes.append("lines with a / were not considered")
    elif not executable.exists:
        notes.append("there is no such file now")
    for name in executable.hard_links:
        other = exclusions.decide(lines, listed(name))
        if other.route != decision.route:
            notes.append(f"the same file started as {name} has the route {other.route}: {other.why}")
    if executable.secure:
        notes.append(f"it is set-user-id or set-group-id: {ROUTE_VARIABLE} is ignored")
    else:
        notes.append(f"{ROUTE_VARIABLE}=system or =custom in its environment beats the list")
        value = os.environ.get(ROUTE_VARIABLE)
        if root.is_live and value in exclusions.ROUTES:
            notes.append(f"{ROUTE_VARIABLE}={value} is set here: started from here, it has the route {value}")
    return notes

"""Report: what people and programs get to read: terminal (rich) or plain text, and JSON.

Tables and colours only on a terminal; elsewhere each fact is a line of its own that can be searched for.
"""

from __future__ import annotations

import difflib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memproxy_sol import processes
from memproxy_sol.errors import printable
from memproxy_sol.findings import Finding
from memproxy_sol.plan import ConfigChange, Configuration, Plan
from memproxy_sol.scan import STATES, Scan
from memproxy_sol.status import PendingTrial, Status
from memproxy_sol.verify import Report
from memproxy_sol.verify_live import LiveReport

_NAMED = 3
"""Processes of a kind that are named."""
MANY = 200
"""Lines of a stretch that stays, and of one that changes, which are shown or compared one by one."""
LONG = 1000
"""Characters of a line of somebody else's that are shown."""
COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def console(stderr: bool = False) -> Console:
    """A console whose lines are never folded where they are not read by a person."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, soft_wrap=True)


def progress(text: str) -> None:
    """One line of progress on standard error, if that is a terminal."""
    if sys.stderr.isatty():
        console(stderr=True).print(f"[dim]{escape(printable(text))}[/dim]")


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, if that is a terminal; it is told what is done, how far, out of how many (0: unknown).

    It is drawn when it is told something and has no thread of its own: processes are forked while it is there.
    """
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.progress import Progress  # it takes long to import

    with Progress(console=console(stderr=True), transient=True, auto_refresh=False) as bar:
        task, shown = bar.add_task("", total=None), 0.0

        def told(what: str, done: int, total: int) -> None:
            nonlocal shown
            bar.update(task, description=what, completed=done, total=total or None)
            if time.monotonic() - shown > 0.1:
                shown = time.monotonic()
                bar.refresh()

        yield told


def say(text: str) -> None:
    """A line on standard error, whatever it holds."""
    print(printable(text), file=sys.stderr)


def page(text: str) -> None:
    """A text of several lines on standard output, as it is."""
    print(text, end="")


def print_json(value: Any) -> None:
    """`value` as indented JSON on standard output, ASCII only."""
    print(json.dumps(value, indent=2))


def findings(items: Iterable[Finding], stderr: bool = False) -> None:
    """Each finding on a line: severity, identifier, where, what, and what to type next."""
    out = console(stderr)
    for item in items:
        colour = COLOURS[item.severity]
        hint = f"; [bold]{escape(printable(item.hint))}[/bold]" if item.hint else ""
        place, text = escape(printable(item.where)), escape(printable(item.text))
        out.print(f"[{colour}]{item.severity}[/{colour}]: {item.identifier}: {place}: {text}{hint}")


def plan(value: Plan) -> None:
    """The whole plan: the host, the steps, what each configuration says before and after, the findings."""
    out = console()
    facts = value.facts
    sources = facts.sources
    out.print(f"[bold]{value.what}[/bold] on {escape(printable(facts.root.path))}")
    out.print(f"  release:  {escape(printable(facts.distribution))} (from {sources['release']})")
    out.print(f"  machine:  {facts.machine.name} (from {sources['machine']})")
    if value.generation:
        out.print(f"  generation: {escape(value.generation)}")
    if not value.steps:
        out.print("nothing to do")
    for number, step in enumerate(value.steps, 1):
        out.print(f"  {number}. {escape(printable(str(step)))}")
    for change in value.changes:
        if change.before != change.after:
            _difference(out, change)
    findings(value.findings)


def on_trial(seconds: float, stderr: bool = False) -> None:
    """What to type, and until when, while a change is on trial."""
    until = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
    out = console(stderr)
    out.print(f"[bold yellow]on trial[/bold yellow]: taken back at {until}, in {seconds:.0f} seconds, unless confirmed")
    out.print("log in once more, and type there: [bold]memproxy-sol confirm[/bold]")


def booted_once(name: str, stderr: bool = False) -> None:
    """What to type when a clone of the running boot environment has the change, and is booted next time."""
    out, shown = console(stderr), escape(name)
    out.print(f"[bold green]ready[/bold green]: the next boot, and that alone, is of the boot environment {shown}")
    out.print("boot it:  [bold]init 6[/bold]; where it does not come up, a reset brings back what runs now")
    out.print(f"keep it:  [bold]beadm activate {shown}[/bold], when it runs; otherwise reboot once more")
    out.print(f"drop it:  [bold]beadm destroy {shown}[/bold], when it does not run")


def verification(report: Report, every_process: bool = False) -> None:
    """The findings of verify, the processes of a live host, and one line that sums up."""
    out = console()
    findings(report.findings)
    if isinstance(report, LiveReport) and report.processes is not None:
        _processes(report, every_process)
    if report.abis and not report.errors:
        abis = " and ".join(f"{bits}-bit" for bits in report.abis)
        place = escape(printable(report.root))
        out.print(f"[bold green]ok[/bold green]: {abis} processes of {place} are configured as installed")
    elif report.errors:
        count = len(report.errors)
        out.print(f"[bold red]not ok[/bold red]: {count} error{'s' if count != 1 else ''}")


def _processes(report: LiveReport, every: bool) -> None:
    """One table: a line for each kind of process with a few of them, or for each process."""
    found = report.processes or ()
    if every:
        columns = ("pid", "name", "abi", "state", "route", "why", "allocator", "zone")
        rows = [
            (
                str(one.pid),
                one.name,
                str(one.bits or ""),
                one.state,
                one.route,
                one.detail or (one.record.reason if one.record else ""),
                one.record.allocator if one.record else "",
                one.zone,
            )
            for one in found
        ]
        table("Processes", columns, rows)
        return
    kinds = []
    for (state, bits, route), group in processes.groups(found).items():
        names = ", ".join(f"{one.pid} {one.name}" for one in group[:_NAMED])
        kinds.append((state, bits, route, str(len(group)), names + (", …" if len(group) > _NAMED else "")))
    table("Processes", ("state", "abi", "route", "processes", "among them"), kinds)


def scan(value: Scan) -> None:
    """The programs that carry an allocator, what may open objects past every preload, and what was not seen."""
    out = console()
    rows = []
    for row in value.rows:
        line = row.pattern if row.state == "proposed" else STATES[row.state]
        if row.line:
            line += f" (line {row.line}: {row.pattern})"
        running = f"; running: {', '.join(map(str, row.processes[:_NAMED]))}" if row.processes else ""
        rows.append((row.path, row.carries, "; ".join(row.evidence) + running, line))
    if rows:
        table("Allocators of their own", ("program", "carries", "how it is known", "proposed line"), rows)
    for risk in value.risks:
        out.print(f"[yellow]risk[/yellow]: {escape(printable(risk.path))}: {escape(printable(risk.text))}")
    if value.opening:
        count = len(value.opening)
        out.print(f"{count} files import dlopen; whether they ask for RTLD_DEEPBIND cannot be seen")
    kinds: dict[str, list[str]] = {}
    for problem in value.problems:
        kinds.setdefault(problem.kind, []).append(f"{problem.path} ({problem.text})")
    for kind, texts in sorted(kinds.items()):
        shown = "; ".join(texts[:_NAMED]) + ("; …" if len(texts) > _NAMED else "")
        out.print(f"[yellow]not looked at[/yellow]: {len(texts)} {kind}: {escape(printable(shown))}")
    if value.unreadable_processes:
        out.print(f"[yellow]not looked at[/yellow]: {value.unreadable_processes} processes that only root may see")
    out.print(f"{value.files} files looked at, {value.elf_files} programs and libraries among them")


def status(value: Status) -> None:
    """One screen: a fact a line, what is missing left out."""
    out = console()

    def say(title: str, text: str, colour: str = "") -> None:
        shown = escape(printable(text))
        out.print(f"{title + ':':<15}" + (f"[{colour}]{shown}[/{colour}]" if colour else shown))

    say("host", value.root)
    if value.installed == ():
        say("installed", "nothing")
    for abi in value.installed or ():
        secure = "" if abi.secure else ", not for set-id programs"
        say(f"{abi.bits}-bit", f"{abi.generation}, {abi.allocator or 'no allocator'}{secure}")
    if value.since:
        say("since", value.since)
    if value.last_change:
        say("last change", value.last_change)
    if value.changing is not None:
        say("being changed", f"by process {value.changing}" if value.changing else "by another process", "yellow")
    if value.unfinished and value.unfinished_why:
        why, hint = value.unfinished_why
        say("unfinished", f"{value.unfinished} {why}; {hint}", "bold red")
    if value.staged:
        say("staged", f"{value.staged}; the service tries it at the next boot", "yellow")
    if value.trial:
        say("on trial", _trial(value.trial), "yellow")
    if value.service:
        say("service", value.service)
    say(
        "exclusions",
        "no list" if value.exclusions is None else f"{value.exclusions} line{'s' * (value.exclusions != 1)}",
    )
    if value.processes is not None:
        say("processes", ", ".join(f"{count} {word}" for word, count in sorted(value.routes.items())) or "none")
    for problem in value.problems:
        say("not known", problem, "yellow")
    errors, warnings = (sum(f.severity == word for f in value.findings) for word in ("error", "warning"))
    if value.installed or errors:
        counted = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
        say("verify", counted if errors or warnings else "ok", "bold red" if errors else "")


def _trial(trial: PendingTrial) -> str:
    when = f"in {trial.left:.0f} seconds" if trial.left >= 0 else "now"
    if not trial.guarded:
        return f"change {trial.change}, of which the guard has ended: the next install, uninstall or boot takes it back"
    return f"change {trial.change}, taken back {when} unless memproxy-sol confirm is typed"


def config_lines(config: Configuration | None) -> list[str]:
    """A configuration as lines, one element each, so that a difference shows just what changes."""
    if config is None:
        return ["(no file: the runtime linker's defaults)"]
    if isinstance(config, bytes):
        if not config:
            return ["(empty)"]
        lines = config.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        return [line if len(line) <= LONG else f"{line[:LONG]}... ({len(line)} characters)" for line in lines]
    lines = [f"{config.layout}, version {config.version}"]
    for title, paths in (
        ("library path", config.library_path),
        ("trusted directory", config.trusted_directories),
        ("library path (AOUT)", config.aout_library_path),
        ("trusted directory (AOUT)", config.aout_trusted_directories),
    ):
        if paths is None:
            if "AOUT" not in title:
                lines.append(f"{title}: (system default)")
        else:
            lines += [f"{title}: {path}" for path in paths] or [f"{title}: (empty)"]
    for variable in config.environment or ():
        kind = "permanent" if variable.permanent else "replaceable"
        lines.append(f"variable ({kind}): {variable.text}")
    return lines


def difference(change: ConfigChange) -> list[str]:
    """The lines of a configuration before and after, each with `- `, `+ ` or two blanks in front.

    A long stretch that stays at the start or the end is told by its length, and not compared line by line: that would
    take minutes for a file of a megabyte.
    """
    before, after = config_lines(change.before), config_lines(change.after)
    head = _alike(before, after)
    tail = _alike(before[head:][::-1], after[head:][::-1])
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    if max(len(old), len(new)) > MANY:
        middle = [*(f"- {line}" for line in old), *(f"+ {line}" for line in new)]
    else:
        middle = [line for line in difflib.ndiff(old, new) if not line.startswith("?")]
    return [*_same(before[:head]), *middle, *_same(before[len(before) - tail :])]


def _alike(first: list[str], second: list[str]) -> int:
    """How many lines are the same before the first that differs."""
    pairs = enumerate(zip(first, second))
    return next((number for number, (one, other) in pairs if one != other), min(len(first), len(second)))


def _same(lines: list[str]) -> list[str]:
    if len(lines) <= MANY:
        return [f"  {line}" for line in lines]
    half = MANY // 2
    return [*_same(lines[:half]), f"  ({len(lines) - 2 * half} lines more)", *_same(lines[-half:])]


def _difference(out: Console, change: ConfigChange) -> None:
    out.print(f"[bold]{change.path}[/bold]")
    colours = {"-": "red", "+": "green"}
    for line in difference(change):
        colour = colours.get(line[:1])
        text = escape(printable(line))
        out.print(f"  [{colour}]{text}[/{colour}]" if colour else f"  {text}")


def table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A table on a terminal; elsewhere a line a row, cells separated by tabs, under a line with the columns' names."""
    out = console()
    if not out.is_terminal:
        print("\t".join(columns))
        for row in rows:
            print("\t".join(printable(cell) for cell in row))
        return
    drawn = Table(title=title)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(printable(cell)) for cell in row))
    out.print(drawn)

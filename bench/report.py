"""What a run found: sections of tables and the verdicts on the budgets, on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Verdict:
    """One budget, and what was measured."""

    what: str
    budget: str
    measured: str
    kept: bool
    exact: bool = True
    """It was counted, not timed: a broken one fails the run."""


@dataclass(frozen=True)
class Section:
    """One table, with what has to be known to read it."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdicts: Sequence[Verdict] = field(default=())


def verdicts_section(sections: Sequence[Section]) -> Section:
    """All budgets in one table."""
    rows = [
        [verdict.what, verdict.budget, verdict.measured, _word(verdict)]
        for section in sections
        for verdict in section.verdicts
    ]
    return Section("Budgets", "", ("what", "budget", "measured", "kept"), rows)


def broken(sections: Sequence[Section]) -> list[Verdict]:
    """The budgets by counts that were not kept."""
    return [v for section in sections for v in section.verdicts if v.exact and not v.kept]


def show(section: Section, console: Console) -> None:
    table = Table(title=section.title, title_justify="left", title_style="bold")
    for column in section.columns:
        table.add_column(escape(column))
    for row in section.rows:
        table.add_row(*[escape(cell) for cell in row])
    console.print()
    console.print(table)


def write(path: Path, heading: str, sections: Sequence[Section]) -> None:
    """Write `heading` and the sections as Markdown."""
    parts = [heading]
    for section in sections:
        parts.append(f"## {section.title}\n")
        if section.text:
            parts.append(section.text.strip() + "\n")
        lines = [section.columns, ["---"] * len(section.columns), *section.rows]
        parts.append("".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines))
    path.write_text("\n".join(parts))


def _word(verdict: Verdict) -> str:
    return "yes" if verdict.kept else "NO" if verdict.exact else "no (timed)"

"""Finding: one sentence of preflight or verify, with an identifier that scripts may rely on.

Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ERROR = "error"
WARNING = "warning"
NOTE = "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """What is wrong (or worth knowing), where, and which command mends it."""

    identifier: str
    """Stable, lower case with hyphens, listed in docs/findings.md."""
    severity: str
    """`error`: processes suffer or are not served as wanted; `warning`; `note`."""
    where: str
    """A path as the target system sees it, or the name of what is judged."""
    text: str
    """What is wrong, without a final full stop."""
    hint: str = ""
    """What to type or do next; empty where nothing needs to be done."""
    unreadable: bool = False
    """The file could not be judged for lack of rights (SMF method: exit 100 instead of 96)."""

    def __str__(self) -> str:
        sentence = f"{self.severity}: {self.identifier}: {self.where}: {self.text}"
        return f"{sentence}; {self.hint}" if self.hint else sentence

    def to_json(self) -> dict[str, str]:
        """The finding as `verify --json` and `plan --json` print it."""
        return {
            "id": self.identifier,
            "severity": self.severity,
            "where": self.where,
            "text": self.text,
            "hint": self.hint,
        }


def errors_in(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings of severity error, in their order."""
    return tuple(finding for finding in findings if finding.severity == ERROR)

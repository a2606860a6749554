"""crle: the command that writes and shows the runtime linker's configuration file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.host.laboratory.system import Laboratory


def register(lab: Laboratory) -> None:
    """Put crle into the laboratory."""

"""beadm: boot environments, each a whole tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.host.laboratory.system import Laboratory


class Environments:
    """The boot environments of a laboratory."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab

    def boot(self) -> None:
        """Put the activated environment in place."""

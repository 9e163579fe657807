"""Progress reports: what a long analysis says of how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives how far the work is."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins that has `total` steps."""

    def advance(self, count: int = 1) -> None:
        """Some steps of the stage are done."""


class Silent:
    """Progress for nobody."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

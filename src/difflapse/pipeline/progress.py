"""How a run tells what it is doing: an interface that a terminal, a notebook or a test may implement."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Listener of a run; called from the main process only."""

    def start(self, stage: str, total: int) -> None:
        """A stage begins; `total` frames will pass through it."""

    def advance(self, stage: str, count: int = 1) -> None:
        """`count` more frames have passed."""

    def finish(self, stage: str) -> None:
        """The stage is done."""

    def note(self, text: str) -> None:
        """A line worth a person's attention: a skipped frame and its reason."""


class Silence:
    """A listener that says nothing."""

    def start(self, stage: str, total: int) -> None:
        """Say nothing."""

    def advance(self, stage: str, count: int = 1) -> None:
        """Say nothing."""

    def finish(self, stage: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

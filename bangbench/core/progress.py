"""How long work tells its caller how far it is; drawing is the caller's business."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A bar that long work moves forward. The command line draws one; everyone else may pass `SILENT`."""

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        """Begin a stretch of `total` units, of which `done` were finished by an earlier run.

        unit: what is counted; empty where the total only measures how much of the work is done.
        """

    def advance(self, count: int = 1) -> None:
        """Report `count` more units done."""

    def note(self, text: str) -> None:
        """Say one line about something the reader should know."""

    def finish(self) -> None:
        """End the stretch."""


class Silent:
    """A `Progress` that shows nothing."""

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        """Show nothing."""

    def advance(self, count: int = 1) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def finish(self) -> None:
        """Show nothing."""


SILENT = Silent()

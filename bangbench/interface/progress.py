"""A bar in a notebook or a terminal, whichever it is."""

from __future__ import annotations

import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # tqdm warns where a notebook has no widgets, and then draws a plain bar
    from tqdm.auto import tqdm

from bangbench.core.progress import SILENT, Progress


class AutoBar:
    """A `Progress` drawn by tqdm; it keeps what is to be said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._bar: Any = None

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        """Begin a bar of `total` units, of which `done` are finished."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._bar = tqdm(total=total, initial=done, desc=label, unit=f" {unit}", leave=False)

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(count)

    def note(self, text: str) -> None:
        """Keep a line for the result."""
        self.notes.append(text)

    def finish(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def bar(shown: bool) -> Progress:
    """Return a bar, or none."""
    return AutoBar() if shown else SILENT

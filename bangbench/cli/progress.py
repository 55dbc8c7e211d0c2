"""A bar with rate and time left; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 15.0


class Bar:
    """A `Progress` drawn on stderr."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._next_line = 0.0

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        """Begin a bar of `total` units, of which `done` are finished."""
        terminal = sys.stderr.isatty()
        # without a terminal tqdm only keeps count, and `advance` prints a line now and then
        self._bar = tqdm(
            total=total, initial=done, desc=label, unit=unit, file=sys.stderr, dynamic_ncols=True, leave=terminal
        )
        if not terminal:
            self._bar.disable = False
            self._bar.display = lambda *_, **__: None
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        self._bar.update(count)
        if not sys.stderr.isatty() and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            print(str(self._bar), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print a line without breaking the bar."""
        tqdm.write(text, file=sys.stderr)

    def finish(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

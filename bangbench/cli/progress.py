"""A bar with rate and time left; plain lines where there is no terminal."""

from __future__ import annotations

import io
import sys
import time

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 15.0

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
_LINE = "{desc}: {percentage:.0f} %, {n_fmt} of {total_fmt}, {elapsed} so far, {remaining} left, {rate_noinv_fmt}"
#: The same for work that is measured in shares, whose numbers and rate mean nothing to a reader.
_SHARE_BAR = "{l_bar}{bar}| [{elapsed}<{remaining}]"
_SHARE_LINE = "{desc}: {percentage:.0f} %, {elapsed} so far, {remaining} left"


class Bar:
    """A `Progress` drawn on stderr."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._terminal = sys.stderr.isatty()
        self._next_line = 0.0

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        """Begin a bar of `total` units, of which `done` are finished."""
        share = unit == ""
        bar_format = (_SHARE_BAR if share else _BAR) if self._terminal else (_SHARE_LINE if share else _LINE)
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=f" {unit}",
            bar_format=bar_format,
            dynamic_ncols=self._terminal,
            # a job reports its shares in jumps, of which only the average tells the time left
            smoothing=0.0 if share else 0.3,
            # without a terminal tqdm only keeps count, and `advance` prints a line now and then
            file=sys.stderr if self._terminal else io.StringIO(),
            mininterval=0.1 if self._terminal else _SECONDS_BETWEEN_LINES,
        )
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        self._bar.update(count)
        if not self._terminal and time.monotonic() >= self._next_line:
            self._print_line()

    def note(self, text: str) -> None:
        """Print a line without breaking the bar."""
        if self._terminal:
            tqdm.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Close the bar; without a terminal, print where it ended."""
        if self._bar is None:
            return
        if not self._terminal:
            self._print_line()
        self._bar.close()
        self._bar = None

    def _print_line(self) -> None:
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
        print(str(self._bar), file=sys.stderr, flush=True)

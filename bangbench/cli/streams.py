"""Standard streams that never make finished work fail: what they cannot show is replaced, and they may be closed."""

from __future__ import annotations

import codecs
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

#: What stands for the characters of tables and notes.
_READABLE = {"∞": "_inf", "≤": "<=", "≥": ">=", "±": "+-", "→": "->", "…": "...", "│": "|", "·": "."}
_READABLE |= {"σ": "sigma", "ε": "epsilon", "β": "beta", "η": "eta", "×": "x"}  # noqa: RUF001
_READABLE |= dict.fromkeys("−–—─━", "-")  # noqa: RUF001

#: What would move the cursor or change colours of a terminal, or its title.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command as Ctrl-C does."""


def printable(text: str) -> str:
    """Return a text, which may hold names from foreign files, with control characters spelt out, but for new lines."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


@contextmanager
def streams_prepared() -> Iterator[None]:
    """Make streams, warnings and SIGTERM behave for one command, and end quietly where nobody takes its output."""
    codecs.register_error("bangbench", _readable)
    sys.stdout, sys.stderr = _prepared(sys.stdout), _prepared(sys.stderr)
    logging.getLogger("bangbench").addHandler(_Warnings())
    signal.signal(signal.SIGTERM, _terminate)
    try:
        try:
            yield
        finally:
            with suppress(ValueError):  # closed
                sys.stdout.flush()
                sys.stderr.flush()
    except OSError as error:
        _end_of_output(error)


def _prepared(stream: TextIO | None) -> TextIO:
    if stream is None:  # it was closed before the program began
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  # open as long as the process is
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="bangbench")
    return stream


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for characters that a stream's encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_READABLE.get(character, "?") for character in characters), error.end


class _Warnings(logging.Handler):
    """Shows what the bench itself warns of as it shows its errors."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        with suppress(OSError, ValueError):
            print(f"bangbench: {printable(record.getMessage())}", file=sys.stderr, flush=True)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends at once
    raise Terminated


def _end_of_output(error: OSError) -> None:
    """End the program, without a traceback, where a stream takes nothing more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing fails once more when Python ends
        if not isinstance(error, BrokenPipeError):
            print(f"bangbench: cannot write the output: {error}", file=sys.stderr, flush=True)
    raise SystemExit(1) from None

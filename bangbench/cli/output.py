"""What a command says and how it ends: messages on stderr, results on stdout, exit statuses."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import typer
from rich.console import Console

from bangbench.cli.progress import Bar
from bangbench.cli.streams import Terminated, printable
from bangbench.core.errors import BenchError
from bangbench.core.progress import SILENT, Progress

INTERRUPTED, TERMINATED = 130, 143


_GO_ON = "what was finished is kept, run the same command again to go on"


class Output(NamedTuple):
    """How a command talks: one JSON object, quietly, with tracebacks."""

    json: bool = False
    quiet: bool = False
    debug: bool = False

    def progress(self) -> Progress:
        """Return a bar on stderr, or nothing where quiet is asked for."""
        return SILENT if self.quiet else Bar()

    def console(self) -> Console:
        """Return the console for results; tables are never cut unless in a terminal, text stays itself."""
        return Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False)

    def say(self, text: str) -> None:
        """Print one line about the result, unless only JSON or nothing is asked for."""
        if not self.json and not self.quiet:
            print(text)

    def print_json(self, value: Any) -> None:
        """Print the one JSON object of a command."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:  # escaped it says the same
            text = json.dumps(value, indent=2, allow_nan=False)
        print(text)


def complain(text: str) -> None:
    """Print a message to stderr, if that takes one."""
    with suppress(OSError, ValueError):
        print(f"bangbench: {printable(text)}", file=sys.stderr)


@contextmanager
def ending(output: Output) -> Iterator[None]:
    """Turn errors into one message and the exit status: 1 failed, 2 wrong usage, 130 interrupted, 143 terminated."""
    try:
        yield
    except typer.Exit:
        raise  # the command has said everything and chosen its status
    except BenchError as error:
        _end(output, str(error), error.exit_status)
    except Terminated:
        _end(output, f"terminated; {_GO_ON}", TERMINATED)
    except KeyboardInterrupt:
        _end(output, f"interrupted; {_GO_ON}", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe is gone, nobody is left to tell
        raise typer.Exit(1) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _end(output, f"{where}{error.strerror or error}", 1)
    except Exception as error:
        if _is_lack_of_memory(error):
            _end(output, f"not enough memory ({_first_line(error)}); free some, lift the limit or do less at once", 1)
        _end(output, f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1)


def _is_lack_of_memory(error: Exception) -> bool:
    """Return whether memory ran out: libraries say so in words, while they are imported too."""
    words = ("allocate memory", "out of memory", "map segment", "start new thread", "bad_alloc", "std::bad_alloc")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _end(output: Output, message: str, status: int) -> None:
    if output.debug:
        traceback.print_exc()
    complain(message)
    raise typer.Exit(status) from None

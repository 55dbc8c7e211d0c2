"""The two errors a user sees as one message instead of a traceback, and the messages they share."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the command again, finished parts are kept",
    errno.EDQUOT: "the disk quota is used up; free some space and run the command again, finished parts are kept",
    errno.EROFS: "the file system is read-only; choose another directory",
    errno.EACCES: "no permission to write there; choose another directory",
    errno.EPERM: "no permission to write there; choose another directory",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another name or --root",
    errno.EEXIST: "a file stands where a folder is needed; choose another name or --root",
}


class BenchError(Exception):
    """Something failed that the user can act on; the message says what was expected, found, and to do."""

    exit_status = 1


class UsageError(BenchError):
    """The request itself is wrong (an unknown name, options that exclude each other)."""

    exit_status = 2


class OutOfMemoryError(BenchError):
    """A forward pass that needed more memory than there is, which says nothing about the model."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is not among `known`, with the closest match or the whole list."""
    names = sorted(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    hint = f"did you mean '{folded[close[0]]}'?" if close else f"known: {', '.join(names) or 'none'}"
    return UsageError(f"unknown {kind} '{name}': {hint}")


@contextmanager
def write_errors_explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` raised while `path` is written into a `BenchError` that says what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "see the reason given")
        raise BenchError(f"cannot write {path}: {error.strerror or error}; {advice}") from error

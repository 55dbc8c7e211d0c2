"""Many files read for one purpose: what cannot be read is left out and named, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from bangbench.core.errors import BenchError

Content = TypeVar("Content")


class Reading(NamedTuple, Generic[Content]):
    """contents: what was read, by its file; left_out: one line for each file that cannot be used, with the reason."""

    contents: dict[Path, Content]
    left_out: tuple[str, ...]


def read_each(paths: Iterable[Path], read: Callable[[Path], Content | None]) -> Reading[Content]:
    """Return what `read` makes of each file, without those of which it makes None; no file keeps another from it."""
    left_out: list[str] = []
    found = {path: attempt(path, read, left_out) for path in paths}
    return Reading({path: content for path, content in found.items() if content is not None}, tuple(left_out))


def attempt(path: Path, read: Callable[[Path], Content], left_out: list[str]) -> Content | None:
    """Return what `read` makes of one file; where it fails, None, and one line more in `left_out`."""
    try:
        return read(path)
    except BenchError as error:
        left_out.append(str(error))
    except Exception as error:  # foreign files may break what no one has thought of: the others count all the same
        reason = " ".join(str(error).split()) or "no reason given"
        left_out.append(f"{path}: cannot be used ({type(error).__name__}: {reason}); make it again or remove it")
    return None

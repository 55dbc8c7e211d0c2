"""Many files read for one purpose: what cannot be read is left out and named, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bangbench.core.errors import BenchError

Content = TypeVar("Content")


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

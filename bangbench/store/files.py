"""Atomic writes: a file under its final name is always whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bangbench.core.errors import BenchError, write_errors_explained

_HOUR = 3600.0


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary)`` and move the result to `path`, so that `path` never holds half a file.

    The temporary file lies beside `path` and is removed when writing fails or is interrupted.
    """
    with write_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # named before it is there, so that no moment to be interrupted lies between its making and the `try`
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
        try:
            write(temporary)
            _flush_to_disk(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    write_atomically(path, lambda temporary: _write_bytes(temporary, text.encode()))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    write_atomically(path, lambda temporary: _write_bytes(temporary, content))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value to `path` atomically, indented, so that a reader and a diff can follow it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_writable(folder: Path, *, alone: bool = False) -> None:
    """Create `folder` and prove that a file can be written there; `BenchError` otherwise, before any work starts.

    Temporary files that a killed process left there are removed. alone: nobody else writes there now, under its lock.
    """
    _remove_leftovers(folder, 0 if alone else _HOUR)
    probe = folder / ".write-test"
    write_bytes(probe, b"bangbench")
    probe.unlink(missing_ok=True)


def _remove_leftovers(folder: Path, seconds: float) -> None:
    """Remove temporary files that nobody has touched for so long; younger ones may be another process's."""
    for path in folder.rglob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= seconds:
                path.unlink()


def read_file(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file of at most `most` bytes; neither a pipe nor a device is ever opened.

    Raises `BenchError` for anything else, a longer file, and one that cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise BenchError(f"{path}: cannot be read: expected a file, found a folder, a pipe or a device")
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        raise BenchError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > most:
        raise BenchError(
            f"{path}: cannot be read: expected at most {most:,} bytes, found more; it is damaged or foreign"
        )
    return content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

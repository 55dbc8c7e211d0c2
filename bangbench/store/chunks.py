"""Long work in pieces: every finished chunk is a file, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError, write_errors_explained
from bangbench.core.locks import forget_left_lock, is_locked_here
from bangbench.store.arrays import open_arrays
from bangbench.store.files import write_bytes
from bangbench.store.layout import CARD, RESUME, WEIGHTS

_DIGEST_BYTES = 32


def forget_parts(record: Path) -> None:
    """Remove what a finished record was made from: the snapshot beside a model's card, else ``FOLDER/.chunks-STEM``.

    So are the files of a lock that nobody holds: of whoever was killed when the record was written.

    Chunks stay where this process has not locked the folder, everything where it cannot be written to.
    """
    if record.name == CARD:
        with suppress(OSError):  # who trains a model anew has written first that it is not finished
            record.with_name(RESUME).unlink()
    elif is_locked_here(record.parent):
        shutil.rmtree(record.with_name(f".chunks-{record.stem}"), ignore_errors=True)
    forget_left_lock(record.parent)


def is_empty_training(record: Path) -> bool:
    """Tell whether a record is the card of a model of which nothing is kept, neither a snapshot nor weights."""
    return record.name == CARD and not any(record.with_name(name).exists() for name in (RESUME, WEIGHTS))


class Chunks:
    """The finished chunks of one run, ``FOLDER/000007-KEY.npz``: arrays behind the SHA-256 of their bytes and name.

    folder: belongs to the chunks alone; key: hash of everything that decides what the chunks hold. Files in the
    folder that are not chunks of this key (another run's, half-written ones) are never taken for them, and are removed
    where this process has locked the folder above: otherwise another command may be writing them.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._suffix = f"-{key[:32]}.npz"
        if folder.is_dir() and is_locked_here(folder.parent):
            self._remove(lambda name: not name.endswith(self._suffix))

    def path(self, number: int) -> Path:
        """Return the file of a chunk, whether it is there or not."""
        return self.folder / f"{number:06d}{self._suffix}"

    def done(self, number: int) -> bool:
        """Return whether a chunk is there and whole, bit for bit; a damaged one has to be computed again."""
        try:
            self._content(number)
        except BenchError:
            return False
        return True

    def write(self, number: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a finished chunk, atomically: arrays by name, of any numeric or boolean type."""
        stream = io.BytesIO()
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub checks allow_pickle's type against them
        content = stream.getvalue()
        write_bytes(self.path(number), self._digest(number, content) + content)

    def read(self, number: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of a finished chunk; `BenchError` where it is missing or damaged.

        What is read is what a run of this key wrote, so the file's size bounds the memory.
        """
        stream, path = io.BytesIO(self._content(number)), self.path(number)
        with open_arrays(stream, str(path), "not a whole chunk ({}); run the command again") as arrays:
            return {name: arrays.read(name) for name in arrays.names}

    def clear(self) -> None:
        """Remove the chunks, and the folder unless another command's files are in it, which this one has not locked."""
        if not self.folder.exists():
            return
        if is_locked_here(self.folder.parent):
            with write_errors_explained(self.folder):
                shutil.rmtree(self.folder)
            return
        self._remove(lambda name: name.endswith(self._suffix))
        with suppress(OSError):
            self.folder.rmdir()

    def _content(self, number: int) -> bytes:
        """Return the bytes behind the checksum, which is compared with them; `BenchError` where it differs."""
        path = self.path(number)
        try:
            found = path.read_bytes()
        except OSError as error:
            raise BenchError(f"{path}: not a whole chunk ({error}); run the command again") from error
        digest, content = found[:_DIGEST_BYTES], found[_DIGEST_BYTES:]
        if digest != self._digest(number, content):
            raise BenchError(f"{path}: not a whole chunk (its checksum differs); run the command again")
        return content

    def _digest(self, number: int, content: bytes) -> bytes:
        return hashlib.sha256(f"{number:06d}{self._suffix}\n".encode() + content).digest()

    def _remove(self, unwanted: Callable[[str], bool]) -> None:
        with write_errors_explained(self.folder):
            for path in self.folder.iterdir():
                if path.is_file() and unwanted(path.name):
                    path.unlink(missing_ok=True)

"""Long work in pieces: every finished chunk is a file, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError, write_errors_explained
from bangbench.core.locks import is_locked_here
from bangbench.store.files import write_atomically


class Chunks:
    """The finished chunks of one run, ``FOLDER/000007-KEY.npz``.

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
        """Return whether a chunk is there and whole; one that is damaged has to be computed again."""
        try:
            self._load(number)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
            return False
        return True

    def write(self, number: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a finished chunk, atomically: arrays by name, of any numeric or boolean type."""
        write_atomically(self.path(number), lambda temporary: _save(temporary, arrays))

    def read(self, number: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of a finished chunk; `BenchError` where it is missing or damaged."""
        try:
            return self._load(number)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise BenchError(f"{self.path(number)}: not a whole chunk ({error}); run the command again") from error

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

    def _load(self, number: int) -> dict[str, NDArray[Any]]:
        with self.path(number).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def _remove(self, unwanted: Callable[[str], bool]) -> None:
        with write_errors_explained(self.folder):
            for path in self.folder.iterdir():
                if path.is_file() and unwanted(path.name):
                    path.unlink(missing_ok=True)


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub checks allow_pickle's type against them

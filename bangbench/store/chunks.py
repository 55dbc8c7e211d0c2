"""Long work in pieces: every finished chunk is a file, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.store.files import write_atomically, write_errors_explained


class Chunks:
    """The finished chunks of one run, ``FOLDER/000007-KEY.npz``.

    folder: belongs to the chunks alone; key: hash of everything that decides what the chunks hold. Files in the
    folder that are not chunks of this key (another run's, half-written ones) are removed.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._suffix = f"-{key[:32]}.npz"
        if folder.is_dir():
            self._remove_foreign_files()

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
        """Remove the folder and all chunks."""
        if self.folder.exists():
            with write_errors_explained(self.folder):
                shutil.rmtree(self.folder)

    def _load(self, number: int) -> dict[str, NDArray[Any]]:
        with self.path(number).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def _remove_foreign_files(self) -> None:
        with write_errors_explained(self.folder):
            for path in self.folder.iterdir():
                if path.is_file() and not path.name.endswith(self._suffix):
                    path.unlink()


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub checks allow_pickle's type against them

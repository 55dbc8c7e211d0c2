"""Arrays in .npz files, read so that neither a damaged nor a hostile file can do more than be refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.core.memory import check_memory

_ENCRYPTED = 0x1


class Header(NamedTuple):
    """What an array announces of itself."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Return the bytes of the array."""
        count = self.dtype.itemsize
        for side in self.shape:  # whole numbers of any size, which numpy's product would let overflow
            count *= side
        return count


class Arrays:
    """The arrays of an open .npz file, by name; each is looked at in its header before it is read.

    Nothing is read that a header does not announce: an array takes its own bytes, which must fit into half of the
    memory available. Pickled objects are never read.
    """

    def __init__(self, archive: zipfile.ZipFile, where: str) -> None:
        self._archive = archive
        self._where = where
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name in self._entries:
                raise BenchError(f"{where}: holds two arrays '{name}', of which only one can be meant")
            self._entries[name] = entry

    @property
    def names(self) -> list[str]:
        """Return the names of all arrays, in the order of the file."""
        return list(self._entries)

    def header(self, name: str) -> Header:
        """Return shape and type of one array (`KeyError` where it is missing) without reading its values."""
        with self._open(name) as stream:
            return _header(stream, self._entries[name].file_size, f"{self._where}: '{name}'")

    def read(self, name: str) -> NDArray[Any]:
        """Return one array (`KeyError` where it is missing); `BenchError` for pickled objects and damage."""
        with self._open(name) as stream:
            return _array(stream, self._entries[name].file_size, f"{self._where}: '{name}'")

    def blocks(self, name: str, count: int, most: int) -> Iterator[NDArray[Any]]:
        """Yield the first `count` rows of one array in C order, as many at once as take `most` bytes, or one."""
        with self._open(name) as stream:
            yield from _blocks(stream, self._entries[name].file_size, f"{self._where}: '{name}'", count, most)

    def _open(self, name: str) -> IO[bytes]:
        entry = self._entries[name]
        if entry.flag_bits & _ENCRYPTED:
            raise BenchError(f"{self._where}: '{name}' is encrypted; write the file with numpy.savez")
        return self._archive.open(entry)


def read_npy(path: Path, advice: str) -> NDArray[Any]:
    """Return the array in a .npy file, with the bounds of `Arrays`; `BenchError` ends with `advice`."""
    with _refused(str(path), advice), path.open("rb") as stream:
        return _array(stream, path.stat().st_size, str(path))


def npy_header(path: Path, advice: str) -> tuple[Header, int]:
    """Return what a .npy file announces of its array, and at which byte the values begin."""
    with _refused(str(path), advice), path.open("rb") as stream:
        return _header(stream, path.stat().st_size, str(path)), stream.tell()


def npy_blocks(path: Path, advice: str, count: int, most: int) -> Iterator[NDArray[Any]]:
    """Yield the first rows of the array in a .npy file, as `Arrays.blocks` does."""
    with _refused(str(path), advice), path.open("rb") as stream:
        yield from _blocks(stream, path.stat().st_size, str(path), count, most)


def _header(stream: IO[bytes], size: int, where: str) -> Header:
    """Return the header of a stream of `size` bytes, which are to be no more and no fewer than it announces."""
    version = npy.read_magic(stream)
    header = Header(*(npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream))
    if header.dtype.hasobject:
        raise BenchError(
            f"{where} holds pickled Python objects, which could run code when read, so they are not; save it as an "
            "array of numbers"
        )
    found = size - stream.tell()
    if found != header.size or min(header.shape, default=0) < 0:
        raise ValueError(f"{where}: expected {header.size} bytes as its header says, found {found}")
    return header


def _array(stream: IO[bytes], size: int, where: str) -> NDArray[Any]:
    header = _header(stream, size, where)
    check_memory(header.size, where)
    content = bytearray(stream.read(header.size))  # a copy that can be written to, as torch asks for
    if len(content) != header.size or stream.read(1):  # reading on to the end checks the sum of a zip as well
        raise ValueError(f"{where}: expected {header.size} bytes after its header, found another number")
    array = np.frombuffer(content, header.dtype)
    return array.reshape(header.shape, order="F" if header.fortran_order else "C")


def _blocks(stream: IO[bytes], size: int, where: str, count: int, most: int) -> Iterator[NDArray[Any]]:
    header = _header(stream, size, where)
    row = header.size // max(1, header.shape[0])
    step = max(1, most // max(1, row))
    for first in range(0, count, step):
        rows = min(step, count - first)
        check_memory(rows * row, where)
        content = bytearray(stream.read(rows * row))
        if len(content) != rows * row:
            raise ValueError(f"{where}: expected {header.size} bytes after its header, found fewer")
        yield np.frombuffer(content, header.dtype).reshape(rows, *header.shape[1:])
    if count == header.shape[0] and stream.read(1):  # reading on to the end checks the sum of a zip as well
        raise ValueError(f"{where}: expected {header.size} bytes after its header, found more")


@contextmanager
def open_arrays(stream: IO[bytes], where: str, advice: str) -> Iterator[Arrays]:
    """Yield the arrays of an .npz file; `BenchError` names `where` and ends with `advice` whatever is wrong with it."""
    with _refused(where, advice), zipfile.ZipFile(stream) as archive:
        yield Arrays(archive, where)


@contextmanager
def _refused(where: str, advice: str) -> Iterator[None]:
    try:
        yield
    except BenchError:
        raise
    except Exception as error:  # a damaged archive or header can raise nearly anything
        raise BenchError(f"{where}: {advice.format(' '.join(str(error).split()) or type(error).__name__)}") from error

"""IDX, the file format of MNIST: a magic number, the dimensions, then the bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.core.memory import check_memory

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x0800
#: What gzip makes of one byte at most.
_HIGHEST_COMPRESSION = 1032
_BLOCK_BYTES = 1 << 20
_CONTENTS = {1: "labels", 3: "images"}


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the unsigned bytes in an IDX file, gzip-compressed or not, as an array of `dimensions` axes.

    Raises `BenchError` for a file that cannot be read, a damaged gzip stream, another magic number, and for fewer
    or more bytes than the header announces, of which no more are ever read, and for more than half of the memory
    available.
    """
    with _damage_explained(path, str(path)), _opened(path) as stream:
        return _parse(stream, dimensions, path.stat().st_size, str(path))


def content_blocks(path: Path, where: str, most: int) -> Iterator[bytes]:
    """Yield the bytes of a file, uncompressed where they are gzip, in blocks; `where` names it in messages.

    Raises `BenchError` for a damaged gzip stream, and as soon as there are more than `most` bytes.
    """
    with _damage_explained(path, where), _opened(path) as stream:
        while block := stream.read(_BLOCK_BYTES):
            most -= len(block)
            if most < 0:
                raise BenchError(
                    f"{where}: uncompressed it is larger than any file of MNIST; nothing more is read of it"
                )
            yield block


@contextmanager
def _damage_explained(path: Path, where: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BenchError(
            f"{where}: expected a complete gzip file, found {path.stat().st_size} bytes that do not uncompress "
            f"({error}): the file is truncated or damaged; fetch it again"
        ) from error
    except OSError as error:
        raise BenchError(f"{where}: cannot be read: {error.strerror or error}") from error


def _opened(path: Path) -> IO[bytes]:
    """Open a file, which is gzip if its first bytes say so, whatever its name says."""
    with path.open("rb") as stream:
        compressed = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return cast(IO[bytes], gzip.open(path)) if compressed else path.open("rb")


def _parse(stream: IO[bytes], dimensions: int, size: int, where: str) -> NDArray[np.uint8]:
    header_size = 4 + 4 * dimensions
    header = stream.read(header_size)
    if len(header) < header_size:
        raise BenchError(
            f"{where}: expected an IDX header of {header_size} bytes, found {len(header)} bytes: the file is "
            "truncated; fetch it again"
        )
    magic, *shape = struct.unpack(f">{1 + dimensions}I", header)
    if magic != _UNSIGNED_BYTE + dimensions:
        raise BenchError(_wrong_magic(magic, dimensions, where))
    return np.frombuffer(_data(stream, tuple(shape), size, where), dtype=np.uint8).reshape(shape)


def _data(stream: IO[bytes], shape: tuple[int, ...], size: int, where: str) -> bytes:
    """Return exactly as many bytes as the header announces; one more is asked for, to see that there is none."""
    expected, announced = math.prod(shape), " x ".join(map(str, shape))
    if expected > _HIGHEST_COMPRESSION * size:
        raise BenchError(
            f"{where}: the header announces {announced} = {expected} bytes, which a file of {size} bytes cannot hold: "
            "it is truncated; fetch it again"
        )
    check_memory(2 * expected, where)
    content = stream.read(expected)
    if len(content) < expected or stream.read(1):
        found, cause = (
            (len(content), "the file is truncated")
            if len(content) < expected
            else ("more", "other bytes trail the data")
        )
        raise BenchError(
            f"{where}: the header announces {announced} = {expected} bytes, found {found}: {cause}; fetch it again"
        )
    return content


def _wrong_magic(magic: int, dimensions: int, where: str) -> str:
    expected = f"expected the magic number 0x{_UNSIGNED_BYTE + dimensions:08x} of IDX {_CONTENTS[dimensions]}"
    other = _CONTENTS.get(magic - _UNSIGNED_BYTE)
    cause = f"this file holds {other}; were two files swapped?" if other else "this is no IDX file; fetch it again"
    return f"{where}: {expected}, found 0x{magic:08x}: {cause}"

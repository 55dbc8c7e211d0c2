"""IDX, the file format of MNIST: a magic number, the dimensions, then the bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x0800
_CONTENTS = {1: "labels", 3: "images"}


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the unsigned bytes in an IDX file, gzip-compressed or not, as an array of `dimensions` axes.

    Raises `BenchError` for a file that cannot be read, a damaged gzip stream, another magic number, and for fewer
    or more bytes than the header announces.
    """
    return parse_idx(read_content(path), dimensions, str(path))


def parse_idx(content: bytes, dimensions: int, where: str) -> NDArray[np.uint8]:
    """Return the array in uncompressed IDX bytes; `where` names them in messages."""
    header_size = 4 + 4 * dimensions
    if len(content) < header_size:
        raise BenchError(
            f"{where}: expected an IDX header of {header_size} bytes, found {len(content)} bytes: the file is "
            "truncated; fetch it again"
        )
    magic, *shape = struct.unpack(f">{1 + dimensions}I", content[:header_size])
    if magic != _UNSIGNED_BYTE + dimensions:
        raise BenchError(_wrong_magic(magic, dimensions, where))
    expected, found = math.prod(shape), len(content) - header_size
    if found != expected:
        announced = " x ".join(map(str, shape))
        cause = "the file is truncated" if found < expected else f"{found - expected} bytes trail the data"
        raise BenchError(
            f"{where}: the header announces {announced} = {expected} bytes, found {found}: {cause}; fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header_size).reshape(shape)


def read_content(path: Path) -> bytes:
    """Return a file's bytes, uncompressed where they are gzip; `BenchError` says what is wrong with the file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from error
    return uncompress(raw, str(path))


def uncompress(raw: bytes, where: str) -> bytes:
    """Return `raw` uncompressed if it is gzip, whatever its name says, else as it is."""
    if not raw.startswith(_GZIP_MAGIC):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BenchError(
            f"{where}: expected a complete gzip file, found {len(raw)} bytes that do not uncompress ({error}): "
            "the file is truncated or damaged; fetch it again"
        ) from error


def _wrong_magic(magic: int, dimensions: int, where: str) -> str:
    expected = f"expected the magic number 0x{_UNSIGNED_BYTE + dimensions:08x} of IDX {_CONTENTS[dimensions]}"
    other = _CONTENTS.get(magic - _UNSIGNED_BYTE)
    cause = f"this file holds {other}; were two files swapped?" if other else "this is no IDX file; fetch it again"
    return f"{where}: {expected}, found 0x{magic:08x}: {cause}"

"""Images that have to be decoded: once, into a file that every process maps into its memory."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import mmap
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.core.locks import folder_lock
from bangbench.core.memory import check_memory
from bangbench.core.progress import Silent
from bangbench.data.cache import (
    BOUND_VARIABLE,
    FORMAT,
    HEADER,
    PIXELS,
    UNFINISHED,
    Header,
    cache_folder,
    is_kept,
    make_room,
    read_header,
)
from bangbench.data.dataset import Dataset, Split, make_dataset

#: Bytes of pixels up to which a split is decoded into memory, in every process: more than MNIST's test images have.
MOST_IN_MEMORY = 1 << 24

_LOG = logging.getLogger(__name__)
#: Reasons that were told in this process.
_complained_of: set[str] = set()
#: A private mapping needs no memory set aside for writes that nobody makes.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class Encoded(Protocol):
    """Images as they lie in their source."""

    def stamp(self) -> Any:
        """Return what changes, in JSON, with the files: their names, sizes and times; no file is opened."""

    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape (N, C, H, W) of all images."""

    def decode(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield every image once: its place, and the image uint8 (C, H, W), or several that follow it (n, C, H, W)."""


class Wanted(NamedTuple):
    """A split whose images are encoded; kind: of its source, and what else changes the pixels, such as a size."""

    path: Path
    split: Split
    kind: str
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    encoded: Encoded

    @property
    def where(self) -> str:
        """Return the name of the images in messages."""
        return f"{self.path} {self.split}"

    def dataset(self, images: NDArray[np.uint8]) -> Dataset:
        """Return the data set with these images."""
        return make_dataset(images, self.labels, self.class_names, self.where)

    def key(self) -> str:
        """Return the hash of everything that decides what the decoded images are."""
        decoders = {"pillow": PIL.__version__, "opencv": cv2.__version__}
        known = [FORMAT, str(self.path.resolve()), self.split, self.kind, self.class_names, self.encoded.stamp()]
        digest = hashlib.sha256(json.dumps([*known, decoders]).encode(errors="surrogateescape"))
        digest.update(self.labels.tobytes())
        return digest.hexdigest()[:32]


def decoded_dataset(wanted: Wanted) -> Dataset:
    """Return the data set of encoded images, from the cache, or decoded into it, or, where that fails, into memory.

    Images from the cache are mapped: processes share the memory, which the system takes back when it is needed. They
    are compared with the fingerprint of what was decoded whenever they are opened. `MOST_IN_MEMORY` bytes and less are
    decoded into memory. Raises `BenchError` for what cannot be decoded, and where memory would have to hold more than
    half of what is available.
    """
    folder = cache_folder() / wanted.key()
    found = _opened(folder, wanted)
    if found is not None:
        return found
    shape = wanted.encoded.shape()
    if math.prod(shape) > MOST_IN_MEMORY and is_kept():
        found = _kept(folder, wanted, shape)
        if found is not None:
            return found
    like = "x".join(map(str, shape[1:]))
    check_memory(math.prod(shape), f"{wanted.where}: {shape[0]:,} images like the first one, {like}")
    images = np.empty(shape, dtype=np.uint8)
    for place, part in wanted.encoded.decode():
        images[place : place + (len(part) if part.ndim == images.ndim else 1)] = part
    return wanted.dataset(images)


def mapped(path: Path, shape: tuple[int, ...], offset: int = 0) -> NDArray[np.uint8]:
    """Return the bytes of a file from `offset` on as an array, of which nothing is read before it is looked at.

    It may be written to, as torch asks of arrays; what is written stays in this process and never reaches the file.
    Raises `OSError` for a file that cannot be mapped, `ValueError` for one that is too short.
    """
    with path.open("rb") as stream:
        if sys.platform == "win32":
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        else:
            kind, use = mmap.MAP_PRIVATE | _NO_RESERVE, mmap.PROT_READ | mmap.PROT_WRITE
            content = mmap.mmap(stream.fileno(), 0, flags=kind, prot=use)
    return np.frombuffer(content, np.uint8, math.prod(shape), offset).reshape(shape)


class _Waiting(Silent):
    """Says for whom another process is waited for."""

    def note(self, text: str) -> None:
        _LOG.warning("%s", text)


def _opened(folder: Path, wanted: Wanted) -> Dataset | None:
    """Return the images in the cache, None where there are none; damaged ones are told of, and never used."""
    if not (folder / HEADER).exists():
        return None
    try:
        header = read_header(folder)
        shape, path = tuple(header.shape), folder / PIXELS
        found = path.stat().st_size if path.is_file() else 0
        if shape[0] != len(wanted.labels) or found != math.prod(shape):
            raise ValueError(f"expected {len(wanted.labels):,} images, {math.prod(shape):,} bytes, found {found:,}")
        data = wanted.dataset(mapped(path, shape))
        if data.fingerprint != header.fingerprint:
            raise ValueError("its checksum differs")
    except (BenchError, OSError, ValueError) as error:
        _LOG.warning("%s: decoded images cannot be used (%s); decoding them again", folder, error)
        with suppress(OSError):
            (folder / HEADER).unlink()
        return None
    with suppress(OSError):  # when they were last used; another user's cache may be read only
        os.utime(folder / HEADER)
    return data


def _kept(folder: Path, wanted: Wanted, shape: tuple[int, ...]) -> Dataset | None:
    """Decode images into the cache and return them mapped; None, and one line that says why, where that fails."""
    try:
        with _claimed(folder, wanted.where, math.prod(shape)):
            found = _opened(folder, wanted)  # decoded by the process that was waited for
            return _written(folder, wanted, shape) if found is None else found
    except OSError as error:
        _go_without(f"cannot write {folder}: {error.strerror}" if error.strerror else str(error))
        return None
    finally:
        with suppress(OSError):  # empty where nothing was kept
            folder.rmdir()


@contextmanager
def _claimed(folder: Path, where: str, size: int) -> Iterator[None]:
    """Keep other processes from decoding into `folder`; `OSError` where `size` bytes cannot be kept there."""
    with ExitStack() as stack:
        try:
            if not make_room(size, folder):
                raise OSError(f"the {size:,} bytes of {where} do not fit into {folder.parent}, see {BOUND_VARIABLE}")
            stack.enter_context(folder_lock(folder, progress=_Waiting()))
        except BenchError as error:  # not one of those that decoding raises
            raise OSError(str(error)) from error
        free = shutil.disk_usage(folder).free
        if free < size:
            raise OSError(f"{folder}: expected {size:,} bytes of disk, found {free:,} free")
        yield


def _written(folder: Path, wanted: Wanted, shape: tuple[int, ...]) -> Dataset:
    """Write pixels and header, each moved to its name when it is whole, in a folder that is locked."""
    _put(folder / PIXELS, lambda stream: _write_pixels(stream, wanted, math.prod(shape[1:])))
    data = wanted.dataset(mapped(folder / PIXELS, shape))
    header = Header(source=str(wanted.path), split=wanted.split, shape=list(shape), fingerprint=data.fingerprint)
    _put(folder / HEADER, lambda stream: stream.write(header.model_dump_json().encode()))
    return data


def _write_pixels(stream: IO[bytes], wanted: Wanted, size: int) -> None:
    """Write images in the order in which they are decoded, each of `size` bytes to its place."""
    before = wanted.encoded.stamp()
    for place, part in wanted.encoded.decode():
        stream.seek(place * size)
        stream.write(np.ascontiguousarray(part).data)
    if wanted.encoded.stamp() != before:
        raise BenchError(f"{wanted.where}: files were changed while they were read; run the command again")


def _put(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    temporary = path.with_name(path.name + UNFINISHED)
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _go_without(reason: str) -> None:
    """Say once in this process why images are decoded into memory."""
    if reason not in _complained_of:
        _complained_of.add(reason)
        _LOG.warning("decoded images are not kept (%s); every process decodes them into its memory", reason)

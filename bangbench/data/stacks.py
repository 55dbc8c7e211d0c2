"""Stacks of images in files of arrays, read block by block where they are too large for every process's memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.data import decoded
from bangbench.data.pixels import channels_first, grey_levels
from bangbench.data.tree import stamp_of
from bangbench.store.arrays import Header

#: Bytes of an array that are read at once.
BLOCK = 1 << 24


def is_large(header: Header) -> bool:
    """Return whether the images of an array, in C order, are kept decoded rather than in memory."""
    return not header.fortran_order and len(header.shape) > 1 and math.prod(header.shape) > decoded.MOST_IN_MEMORY


class Stack:
    """The first `count` images of an array: `Encoded`, as `grey_levels` and `channels_first` read them.

    blocks: yields the array's rows from the first on; where: names it in messages.
    """

    def __init__(
        self, path: Path, header: Header, count: int, where: str, blocks: Callable[[], Iterator[NDArray[Any]]]
    ) -> None:
        self._path = path
        self._header = header
        self._count = count
        self._where = where
        self._blocks = blocks

    def stamp(self) -> list[int]:
        """Return size and times of the file."""
        return stamp_of(self._path)

    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape (N, C, H, W); `BenchError` where there is none."""
        grey_levels(np.empty((0,), self._header.dtype), self._where)  # refuses other types
        like = np.broadcast_to(np.uint8(0), (self._count, *self._header.shape[1:]))
        count, channels, height, width = channels_first(like, self._where).shape
        return count, channels, height, width

    def decode(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield place and images (n, C, H, W) block by block."""
        place = 0
        for block in self._blocks():
            yield place, channels_first(grey_levels(block, self._where), self._where)
            place += len(block)

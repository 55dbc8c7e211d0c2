"""A few images of an attack, kept so that a report can show them without the data: ATTACK-examples.npz."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.store.arrays import open_arrays
from bangbench.store.files import read_file, write_bytes

Pixels = NDArray[np.uint8]
Whole = NDArray[np.int64]

_AXES = 4
_MOST_BYTES = 256 << 20


class Examples(NamedTuple):
    """Images as they were and as the attack left them.

    indices: places in the test split, int64 (N,), ascending; original, adversarial: uint8 (N, C, H, W), the adversarial
    image all zero where the attack failed; flipped: bool (N,); labels, predictions: the true class and the one that
    the model sees in the adversarial image, int64 (N,); ranks: int64 (N,), how many flipped images of the whole run
    have a smaller L_inf (of those with the same one, a smaller index). predictions and ranks are -1 where the attack
    failed.
    """

    indices: Whole
    original: Pixels
    adversarial: Pixels
    flipped: NDArray[np.bool_]
    labels: Whole
    predictions: Whole
    ranks: Whole

    def place(self, index: int) -> int | None:
        """Return where the test image `index` is among the examples, or None."""
        found = np.flatnonzero(self.indices == index)
        return int(found[0]) if len(found) else None

    def ranked(self, first: int, last: int) -> NDArray[np.intp]:
        """Return where the images with first <= rank < last are among the examples, the smallest L_inf first."""
        order = np.argsort(self.ranks, kind="stable")
        return order[(self.ranks[order] >= first) & (self.ranks[order] < last)]

    def linf(self) -> Whole:
        """Return the largest change of each image in grey levels, 0..255; -1 where the attack failed."""
        change = np.abs(np.subtract(self.adversarial, self.original, dtype=np.int16))
        return np.where(self.flipped, change.max(axis=(1, 2, 3), initial=0), -1).astype(np.int64)


def examples_file(record: Path) -> Path:
    """Return where the examples of the attack recorded in ATTACK.json are: ATTACK-examples.npz beside it."""
    return record.with_name(f"{record.stem}-examples.npz")


def write_examples(path: Path, examples: Examples) -> None:
    """Write examples, compressed and atomically."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **examples._asdict())
    write_bytes(path, stream.getvalue())


def read_examples(path: Path) -> Examples | None:
    """Return the examples in a file of at most 256 MiB, or None where there is none; `BenchError` for a damaged one."""
    if not path.exists():
        return None
    stream = io.BytesIO(read_file(path, _MOST_BYTES))
    with open_arrays(stream, str(path), "not a whole file of examples ({}); make the measurement again") as arrays:
        found = Examples(**{name: arrays.read(name) for name in Examples._fields})
    _check_shapes(path, found)
    return found


def read_saved(path: Path) -> Examples | None:
    """Return all flipped images that --save-images kept, or None where there are none, or no originals with them.

    `BenchError` for a damaged file and for more than 256 MiB.
    """
    if not path.exists():
        return None
    stream = io.BytesIO(read_file(path, _MOST_BYTES))
    with open_arrays(stream, str(path), "not a whole file of images ({}); make the measurement again") as arrays:
        if "original" not in arrays.names:
            return None
        index, original, adversarial = (arrays.read(name) for name in ("index", "original", "adversarial"))
        labels, predictions = (arrays.read(name).astype(np.int64) for name in ("label", "prediction"))
    everywhere = np.ones(len(index), dtype=np.bool_)
    ranks = np.zeros(len(index), dtype=np.int64)
    found = Examples(index.astype(np.int64), original, adversarial, everywhere, labels, predictions, ranks)
    _check_shapes(path, found)
    ranks[np.argsort(found.linf(), kind="stable")] = np.arange(len(ranks))
    return found


def _check_shapes(path: Path, found: Examples) -> None:
    """Raise `BenchError` unless there are uint8 images of one shape and one value of everything else per image."""
    images: tuple[NDArray[Any], ...] = (found.original, found.adversarial)
    values: tuple[NDArray[Any], ...] = (found.indices, found.labels, found.predictions, found.ranks)
    shape = found.original.shape
    whole = len(shape) == _AXES and all(array.shape == shape and array.dtype == np.uint8 for array in images)
    whole = whole and all(array.shape == shape[:1] and array.dtype == np.int64 for array in values)
    if not whole or found.flipped.shape != shape[:1] or found.flipped.dtype != np.bool_:
        raise BenchError(
            f"{path}: expected uint8 originals and adversarial images of one shape (N, C, H, W), N flags and N whole "
            "numbers of everything else; make the measurement again"
        )

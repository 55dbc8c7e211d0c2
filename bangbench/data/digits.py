"""The digits that come with scikit-learn, enlarged to MNIST's format: a data set that needs no files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bangbench.data.dataset import Dataset, Split, make_dataset
from bangbench.data.order import fixed_permutation

TEST_IMAGES_PER_CLASS = 50
_FACTOR = 3
_BORDER = 2
_HIGHEST_VALUE = 16


class Digits:
    """1,797 handwritten digits (UCI, 8x8, values 0..16) as 28x28 grey levels: 1,297 to train, 500 to test.

    The test split takes 50 images of each class, drawn once with a fixed seed; both splits keep scikit-learn's
    order, in which the classes are mixed.
    """

    name = "digits"

    def __init__(self, data_dir: Path) -> None:
        """Accept the data directory that every source is given; the images come from scikit-learn instead."""

    def load(self, split: Split) -> Dataset:
        """Return the split: uint8 (1297 or 500, 1, 28, 28)."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        labels = np.asarray(bunch.target, dtype=np.int64)
        chosen = _is_test(labels) if split == "test" else ~_is_test(labels)
        images = enlarge(np.asarray(bunch.images[chosen], dtype=np.int64))
        return make_dataset(images[:, None], labels[chosen], tuple("0123456789"), f"digits {split}")

    def locate(self) -> str:
        """Return where the images are."""
        return "inside scikit-learn"


def enlarge(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return 8x8 images of values 0..16 as grey levels 0..255, uint8 (N, 28, 28).

    Bilinear interpolation to 24x24 (pixel centres aligned, the edge pixel repeated) inside an empty border of 2.
    The border is there because MNIST has one, which convolutions without padding rely on; it also makes the factor
    a whole 3, so that all weights are thirds and integer arithmetic, rounding halves up, gives the same bytes on
    every machine.
    """
    weights = _bilinear_thirds(images.shape[1])
    numerator = 255 * (weights @ images @ weights.T)
    denominator = _FACTOR**2 * _HIGHEST_VALUE
    levels = (2 * numerator + denominator) // (2 * denominator)
    border = ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER))
    return np.pad(levels, border).astype(np.uint8)


def _bilinear_thirds(size: int) -> NDArray[np.int64]:
    """Return the matrix (3 size, size) that enlarges a line threefold, in thirds: every row sums to 3."""
    weights = np.zeros((_FACTOR * size, size), dtype=np.int64)
    for row in range(_FACTOR * size):
        source, phase = divmod(row, _FACTOR)
        neighbour = min(max(source + phase - 1, 0), size - 1)
        weights[row, source] += _FACTOR - abs(phase - 1)
        weights[row, neighbour] += abs(phase - 1)
    return weights


def _is_test(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        order = fixed_permutation(len(members), "digits", "test split", label)
        chosen[members[order[:TEST_IMAGES_PER_CLASS]]] = True
    return chosen

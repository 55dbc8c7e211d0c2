"""How far an adversarial image is from its original, in grey levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bangbench.metrics.checks import check_stacks


def linf(adversarial: NDArray[np.uint8], original: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the largest absolute change of each image in grey levels, float64 (N,), 0..255.

    Both stacks are uint8 (N, C, H, W); anything else raises `BenchError`.

    >>> dark, bright = np.zeros((1, 1, 2, 2), np.uint8), np.full((1, 1, 2, 2), 250, np.uint8)
    >>> linf(dark, bright).tolist(), l2(dark, bright).tolist()
    ([250.0], [500.0])
    """
    change = np.abs(_difference(adversarial, original))
    largest: NDArray[np.int16] = change.max(axis=1, initial=0)
    return largest.astype(np.float64)


def l2(adversarial: NDArray[np.uint8], original: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each image's change in grey levels, float64 (N,), all channels together.

    Both stacks are uint8 (N, C, H, W); anything else raises `BenchError`.
    """
    change = _difference(adversarial, original)
    # Sums of squared integers are exact in float64, so the order of summation cannot matter.
    squares: NDArray[np.float64] = np.einsum("ni,ni->n", change, change, dtype=np.float64)
    return np.sqrt(squares)


def _difference(adversarial: NDArray[np.uint8], original: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return adversarial - original as int16 (N, C*H*W): uint8 would wrap around below zero."""
    check_stacks(adversarial, original)
    difference = np.subtract(adversarial, original, dtype=np.int16)
    return difference.reshape(len(original), int(np.prod(original.shape[1:])))

"""Arrays as people keep them, into grey levels with channels first and numbers of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError

MOST_CLASSES = 65_536

#: How far from a whole grey level a float may lie: what float16 loses of k / 255.
_ROUNDING = 0.07


def grey_levels(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Return images uint8 of the same shape: as they are, or from floats in [0, 1] that are whole grey levels / 255."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise BenchError(f"{where}: expected uint8 grey levels 0..255, found {images.dtype}; scale and convert it")
    scaled = images * np.float32(255.0)
    whole = np.rint(scaled)
    inside = bool(np.isfinite(whole).all()) and whole.min(initial=0.0) >= 0.0 and whole.max(initial=0.0) <= 255.0
    if not inside:
        raise BenchError(
            f"{where}: expected uint8, or floats in [0, 1], found {images.dtype} from {images.min():.4g} to "
            f"{images.max():.4g}; undo the normalisation, which --mean and --std do in the model"
        )
    if np.abs(scaled - whole).max(initial=0.0) > _ROUNDING:
        raise BenchError(
            f"{where}: expected floats that are whole grey levels / 255, found others, as resizing leaves them; round "
            "them: (255 * images).round().astype('uint8')"
        )
    return whole.astype(np.uint8)


def channels_first(images: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
    """Return images (N, C, H, W) of (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1 or 3."""
    match images.shape:
        case (_, _, _):
            return images[:, None]
        case (_, _, _, 1 | 3):
            return images.transpose(0, 3, 1, 2)
        case (_, 1 | 3, _, _):
            return images
    raise BenchError(f"{where}: expected (N, H, W) or (N, H, W, C) with C = 1 or 3, found {images.shape}")


def class_numbers(labels: NDArray[Any], where: str) -> tuple[NDArray[np.int64], int]:
    """Return labels int64 (N,) and how many classes there are at least: numbers (N,) or (N, 1), or one-hot (N, K)."""
    one_hot = labels.ndim == 2 and labels.shape[1] > 1
    if one_hot and bool(((labels == 0) | (labels == 1)).all()) and bool((labels.sum(1) == 1).all()):
        return labels.argmax(1).astype(np.int64), labels.shape[1]
    if labels.dtype.kind not in "iu":
        raise BenchError(f"{where}: expected integers, found {labels.dtype}")
    if labels.ndim != 1 and labels.shape[1:] != (1,):
        raise BenchError(
            f"{where}: expected one label for each image, (N,), (N, 1) or one-hot (N, K), found {labels.shape}; data "
            "with several labels for an image cannot be used"
        )
    numbers = labels.astype(np.int64).reshape(-1)
    highest = int(numbers.max(initial=0))
    if highest >= MOST_CLASSES:
        raise BenchError(
            f"{where}: found the label {highest}, expected labels that count classes from 0 (at most {MOST_CLASSES} of "
            "them); renumber the classes"
        )
    return numbers, highest + 1

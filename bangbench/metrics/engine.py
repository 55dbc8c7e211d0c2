"""PASS of many pairs with the compiled ECC and SSIM; `reference.py` defines what it has to be."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bangbench.metrics.ecc import align_stack, warp_stack
from bangbench.metrics.reference import PRESETS, EccStatus, PresetName
from bangbench.metrics.ssim import ssim_stack


class PassScores(NamedTuple):
    """PASS of N pairs with one preset.

    score: float64 (N,), -1..1, SSIM after alignment; unaligned: float64 (N,), SSIM without it;
    status: int8 (N,), an `EccStatus` each; where it is not ALIGNED, score equals unaligned.
    """

    score: NDArray[np.float64]
    unaligned: NDArray[np.float64]
    status: NDArray[np.int8]


def join(parts: list[dict[PresetName, PassScores]]) -> dict[PresetName, PassScores]:
    """Return the scores of parts of a stack as those of the whole one."""
    return {
        preset: PassScores(*(np.concatenate(column) for column in zip(*(part[preset] for part in parts), strict=True)))
        for preset in parts[0]
    }


def score_pairs(
    adversarial: NDArray[np.uint8], original: NDArray[np.uint8], presets: tuple[PresetName, ...]
) -> dict[PresetName, PassScores]:
    """Return PASS of each pair for each preset; both stacks are uint8 (N, C, H, W) and already checked."""
    unaligned = ssim_stack(adversarial, original)
    greys = grey_stack(adversarial), grey_stack(original)
    scores: dict[PresetName, PassScores] = {}
    for preset in presets:
        warps_adversarial, iterations = PRESETS[preset]
        moving, fixed = (adversarial, original) if warps_adversarial else (original, adversarial)
        moving_grey, fixed_grey = greys if warps_adversarial else reversed(greys)
        matrix, status = align_stack(fixed_grey, moving_grey, iterations)
        found = status == EccStatus.ALIGNED
        score = unaligned.copy()
        score[found] = ssim_stack(warp_stack(moving[found], matrix[found]), fixed[found])
        scores[preset] = PassScores(score, unaligned, status)
    return scores


def grey_stack(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `reference.grey` of each image: uint8 (N, 1 or 3, H, W) to (N, H, W)."""
    count, channels, height, width = images.shape
    if channels == 1 or not count:
        return images[:, 0]
    below = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).reshape(count * height, width, channels)
    return cv2.cvtColor(below, cv2.COLOR_RGB2GRAY).reshape(count, height, width).astype(np.uint8, copy=False)

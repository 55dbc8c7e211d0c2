"""PASS of many pairs in one process with OpenCV and scikit-image, bit for bit equal to `reference.py`.

ECC takes one pair at a time. SSIM does not have to: most of its cost on small images is the fixed cost of a
scikit-image call, so the images are put below each other into one tall image, each between mirrored margins of its
own. They hold what scikit-image's reflected border would have supplied, so each image's map comes out unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bangbench.metrics.checks import WINDOW
from bangbench.metrics.reference import PRESETS, EccStatus, PresetName, align_pair, ssim_map

_MARGIN = WINDOW // 2
#: Pixels in one tall image: enough to spread the cost of a call, few enough to stay in a core's cache.
_TALL_PIXELS = 2**14


class PassScores(NamedTuple):
    """PASS of N pairs with one preset.

    score: float64 (N,), -1..1, SSIM after alignment; unaligned: float64 (N,), SSIM without it;
    status: int8 (N,), an `EccStatus` each; where it is not ALIGNED, score equals unaligned.
    """

    score: NDArray[np.float64]
    unaligned: NDArray[np.float64]
    status: NDArray[np.int8]


def score_pairs(
    adversarial: NDArray[np.uint8], original: NDArray[np.uint8], presets: tuple[PresetName, ...]
) -> dict[PresetName, PassScores]:
    """Return PASS of each pair for each preset; both stacks are uint8 (N, C, H, W) and already checked."""
    with _one_opencv_thread():
        unaligned = ssim_stack(adversarial, original)
        return {preset: _score_preset(adversarial, original, unaligned, preset) for preset in presets}


def ssim_stack(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the SSIM of each pair, float64 (N,), for uint8 (N, C, H, W): `reference.ssim` of many at once."""
    count, channels, height, width = first.shape
    planes = count * channels
    first, second = (stack.reshape(planes, height, width) for stack in (first, second))
    step = max(1, _TALL_PIXELS // ((height + 2 * _MARGIN) * width))
    means = np.empty(planes)
    for start in range(0, planes, step):
        part = slice(start, start + step)
        means[part] = _plane_means(first[part], second[part])
    result: NDArray[np.float64] = means.reshape(count, channels).mean(axis=1)
    return result


def _plane_means(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean of each plane's full SSIM map for uint8 planes (K, H, W)."""
    count, height, width = first.shape
    maps = ssim_map(_tall(first), _tall(second)).reshape(count, height + 2 * _MARGIN, width)
    inner = maps[:, _MARGIN:-_MARGIN]
    # Contiguous rows, so that NumPy adds in the order it uses for a single map.
    means: NDArray[np.float64] = np.ascontiguousarray(inner).reshape(count, height * width).mean(axis=1)
    return means


def _tall(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return planes (K, H, W) below each other, each between its mirrored margins above and below."""
    padded = np.pad(planes, ((0, 0), (_MARGIN, _MARGIN), (0, 0)), mode="symmetric")
    return padded.reshape(-1, padded.shape[2])


def _score_preset(
    adversarial: NDArray[np.uint8],
    original: NDArray[np.uint8],
    unaligned: NDArray[np.float64],
    preset: PresetName,
) -> PassScores:
    warps_adversarial = PRESETS[preset].warps_adversarial
    warped = (adversarial if warps_adversarial else original).copy()
    status = np.zeros(len(original), np.int8)
    for index, (adversarial_image, original_image) in enumerate(zip(adversarial, original, strict=True)):
        aligned, status[index] = align_pair(adversarial_image, original_image, preset)
        if aligned is not None:
            warped[index] = aligned
    score = unaligned.copy()
    found = status == EccStatus.ALIGNED
    target = original if warps_adversarial else adversarial
    score[found] = ssim_stack(warped[found], target[found])
    return PassScores(score, unaligned, status)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to one thread: on small images its threads cost more than they save."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)

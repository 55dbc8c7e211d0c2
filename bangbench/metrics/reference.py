"""PASS of one pair of images with OpenCV and scikit-image: the definition every faster engine is held to.

PASS (Rozsa, Rudd and Boult, "Adversarial diversity and hard positive generation", 2016) is the structural
similarity (SSIM, Wang et al. 2004) of two images after a homography found by maximising the enhanced correlation
coefficient (ECC, Evangelidis and Psarakis 2008) has aligned one with the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from bangbench.core.errors import BenchError, unknown_name
from bangbench.metrics.checks import check_channels, check_pair

PresetName = Literal["definition", "paper"]

CORRELATION_EPSILON = 1e-3
_BLUR_SIDE = 5


class EccStatus(IntEnum):
    """What became of the alignment; after anything but ALIGNED the pair was scored as it was."""

    ALIGNED = 0
    #: OpenCV met a NaN: one of the images is constant.
    NAN = 1
    #: OpenCV gave up: the images are uncorrelated, or were driven apart.
    UNCORRELATED = 2


class Preset(NamedTuple):
    """A way to align: which image is warped onto the other, and the most ECC iterations allowed."""

    warps_adversarial: bool
    iterations: int


#: "definition" is PASS as written. "paper" is matched empirically to the published Table 1: not the authors' code.
PRESETS: Final[dict[PresetName, Preset]] = {
    "definition": Preset(warps_adversarial=True, iterations=50),
    "paper": Preset(warps_adversarial=False, iterations=1),
}


class PairScore(NamedTuple):
    """PASS of a pair and the SSIM of the same pair without alignment, both -1..1; what became of the alignment."""

    score: float
    unaligned: float
    status: EccStatus


def ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the SSIM of two uint8 images (C, H, W), -1..1: `ssim_map` averaged per channel, then over channels.

    Exactly symmetric. Other types, unequal shapes or images under 11x11 raise `BenchError`.

    >>> ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    >>> ssim(ramp, ramp)
    1.0
    """
    check_pair(first, second)
    return float(np.mean([ssim_map(*planes).mean() for planes in zip(first, second, strict=True)]))


def ssim_map(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the SSIM around each pixel of two uint8 planes (H, W), float64 (H, W).

    Gaussian 11x11 window with sigma 1.5, K1 0.01, K2 0.03, population covariance, borders reflected with the edge
    pixel repeated. PASS averages the whole map; scikit-image's own mean, which is not used, leaves out a border.
    """
    compare: Any = structural_similarity  # has no type hints
    result: NDArray[np.float64] = compare(
        first, second, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1]
    return result


def align(
    template_grey: NDArray[np.uint8], input_grey: NDArray[np.uint8], iterations: int
) -> tuple[NDArray[np.float32] | None, EccStatus]:
    """Return the homography (3, 3) that warps the input onto the template, both uint8 (H, W), and the ECC status.

    The homography maps template to input coordinates, as `warp` expects; it is None where ECC found none.
    Any failure of OpenCV other than the two that `EccStatus` names raises `BenchError`.
    """
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, iterations, CORRELATION_EPSILON)
    start = np.eye(3, dtype=np.float32)
    find: Any = cv2.findTransformECC  # its type stub forbids the None that stands for "no mask"
    try:
        _, matrix = find(template_grey, input_grey, start, cv2.MOTION_HOMOGRAPHY, criteria, None, _BLUR_SIDE)
    except cv2.error as error:
        return None, _failure(error)
    return matrix, EccStatus.ALIGNED


def warp(image: NDArray[np.uint8], matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the uint8 image (C, H, W) warped by a homography from `align`: bilinear, 0 outside, rounded."""
    height, width = image.shape[1:]
    flags = cv2.INTER_LINEAR + cv2.WARP_INVERSE_MAP
    planes = [cv2.warpPerspective(plane, matrix, (width, height), flags=flags) for plane in image]
    return np.stack(planes).astype(np.uint8, copy=False)


def align_pair(
    adversarial: NDArray[np.uint8], original: NDArray[np.uint8], preset: PresetName
) -> tuple[NDArray[np.uint8] | None, EccStatus]:
    """Return the image that the preset warps, warped onto the other, both (C, H, W); None where ECC failed."""
    roles = PRESETS[preset]
    moving, fixed = (adversarial, original) if roles.warps_adversarial else (original, adversarial)
    matrix, status = align(grey(fixed), grey(moving), roles.iterations)
    return (None if matrix is None else warp(moving, matrix)), status


def pass_pair(
    adversarial: NDArray[np.uint8], original: NDArray[np.uint8], preset: PresetName = "definition"
) -> PairScore:
    """Return PASS of one pair of uint8 images (1 or 3, H, W) with one preset.

    Raises `UsageError` for an unknown preset, `BenchError` for images that cannot be scored.

    >>> ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    >>> pass_pair(np.zeros_like(ramp), ramp).status
    <EccStatus.NAN: 1>
    """
    return pass_pair_presets(adversarial, original, (preset,))[preset]


def pass_pair_presets(
    adversarial: NDArray[np.uint8], original: NDArray[np.uint8], presets: Iterable[PresetName] = tuple(PRESETS)
) -> dict[PresetName, PairScore]:
    """Return PASS of one pair for each preset; the unaligned SSIM, which they share, is computed once."""
    wanted = check_presets(presets)
    check_pair(adversarial, original)
    check_channels(len(original))
    unaligned = ssim(adversarial, original)
    scores = {}
    for preset in wanted:
        warped, status = align_pair(adversarial, original, preset)
        target = original if PRESETS[preset].warps_adversarial else adversarial
        score = unaligned if warped is None else ssim(warped, target)
        scores[preset] = PairScore(score, unaligned, status)
    return scores


def check_presets(presets: Iterable[PresetName]) -> tuple[PresetName, ...]:
    """Return the presets as a tuple; raise `UsageError` for one that does not exist."""
    wanted = tuple(presets)
    for preset in wanted:
        if preset not in PRESETS:
            raise unknown_name("PASS preset", preset, PRESETS)
    return wanted


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what ECC sees of a uint8 image (C, H, W): its one channel, or OpenCV's RGB to grey; uint8 (H, W)."""
    if len(image) == 1:
        return np.ascontiguousarray(image[0])
    interleaved = np.ascontiguousarray(image.transpose(1, 2, 0))
    return cv2.cvtColor(interleaved, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def _failure(error: cv2.error) -> EccStatus:
    """Tell OpenCV's two expected failures apart; they share one error code and differ only in their text."""
    text = str(error)
    if "NaN encountered" in text:
        return EccStatus.NAN
    if "stopped before its convergence" in text:
        return EccStatus.UNCORRELATED
    raise BenchError(
        f"OpenCV {cv2.__version__} could not align a pair: {text.strip()}; expected an aligned pair or one of "
        "ECC's own failures; check the images and the OpenCV version"
    ) from error

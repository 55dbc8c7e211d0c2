"""`pass_score`: how alike adversarial images and their originals look, from images in any of the bench's forms."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from bangbench.interface.inputs import grey_levels
from bangbench.metrics.engine import PassScores
from bangbench.metrics.pass_score import pass_score as score
from bangbench.metrics.reference import PresetName


def pass_score(
    adversarial: Tensor | NDArray[Any],
    original: Tensor | NDArray[Any],
    preset: PresetName = "definition",
    workers: int | None = None,
) -> PassScores:
    """Return PASS of each pair of images, -1 to 1 (Rozsa et al. 2016): score, unaligned SSIM, and status of alignment.

    Both are tensors or arrays (N, 1 or 3, H, W) with H, W >= 11, in the same order, float in [0, 1] or uint8. preset:
    "definition", or "paper" for what the paper's table has. workers: threads (None: one per core).

    Raises `UsageError` for images of another form, `BenchError` for stacks that do not belong together.
    """
    return score(grey_levels(adversarial, "adversarial")[0], grey_levels(original, "original")[0], preset, workers)

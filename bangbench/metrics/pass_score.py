"""PASS of stacks of images, spread over the processor cores.

Check the inputs, compute (`engine.score_pairs` on one part of the stack per task), reduce: put the parts back in
order. A pair's score depends on that pair alone, so the result is the same whatever the number of workers. They are
threads: the compiled engine lets them run side by side, and they start at once. A GPU takes large parts instead
(`on_device.score_pairs`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bangbench.core.device import available_cores
from bangbench.core.errors import UsageError
from bangbench.metrics.checks import check_channels, check_size, check_stacks
from bangbench.metrics.engine import PassScores, join, score_pairs
from bangbench.metrics.reference import PRESETS, PresetName, check_presets

if TYPE_CHECKING:
    import torch

__all__ = ["PassPool", "PassScores", "pass_score", "pass_scores_all"]

#: Pixel values in one task, some 64 images of MNIST: memory stays bounded, and Ctrl-C waits for no more.
_TASK_VALUES = 64 * 28 * 28


def pass_score(
    adversarial: NDArray[np.uint8],
    original: NDArray[np.uint8],
    preset: PresetName = "definition",
    workers: int | None = None,
) -> PassScores:
    """Return PASS of each pair of images with one preset (`reference.PRESETS`).

    Both stacks are uint8 (N, 1 or 3, H, W) with H, W >= 11, in the same order; N may be 0. `workers` is the number
    of threads (None: one per available core). The first call on a machine compiles the engine, which takes seconds.
    Raises `UsageError` for an unknown preset or fewer than 1 worker, `BenchError` for stacks that cannot be
    scored.

    >>> original = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    >>> scores = pass_score(np.zeros_like(original), original)
    >>> scores.status.tolist(), bool(scores.score[0] == scores.unaligned[0])
    ([1], True)
    """
    with PassPool(workers) as pool:
        return pool.score(adversarial, original, (preset,))[preset]


def pass_scores_all(
    adversarial: NDArray[np.uint8],
    original: NDArray[np.uint8],
    workers: int | None = None,
    device: torch.device | None = None,
) -> dict[PresetName, PassScores]:
    """Return `pass_score` for every preset; the unaligned SSIM, which they share, is computed once.

    device: a CUDA device to compute on instead of the processor's cores.
    """
    with PassPool(workers, device) as pool:
        return pool.score(adversarial, original)


class PassPool:
    """Scores one stack after another with threads that are started once and end with the ``with`` block.

    With a CUDA `device` it scores there instead; the scores differ in their last digits. Interrupted, the block
    waits for the tasks under way, a few hundredths of a second.

    >>> stack = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    >>> with PassPool(workers=2) as pool:
    ...     pool.score(stack, stack)["paper"].unaligned.tolist()
    [1.0]
    """

    def __init__(self, workers: int | None = None, device: torch.device | None = None) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"expected at least 1 worker, found {workers}; leave it out for one per core")
        self._device = device if device is not None and device.type == "cuda" else None
        self._executor = ThreadPoolExecutor(workers or available_cores(), "pass")

    def __enter__(self) -> PassPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def score(
        self,
        adversarial: NDArray[np.uint8],
        original: NDArray[np.uint8],
        presets: tuple[PresetName, ...] = tuple(PRESETS),
    ) -> dict[PresetName, PassScores]:
        """Return PASS of each pair for each preset; inputs and errors as in `pass_score`."""
        presets = check_presets(presets)
        check_stacks(adversarial, original)
        check_size(original.shape)
        check_channels(original.shape[1])
        if self._device is not None:
            from bangbench.metrics import on_device

            return on_device.score_pairs(adversarial, original, presets, self._device)
        return join(list(self._executor.map(score_pairs, _split(adversarial), _split(original), repeat(presets))))


def _split(stack: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return the stack in parts of one task each, an empty one whole; their size does not depend on the workers."""
    step = max(1, _TASK_VALUES // max(1, stack[:1].size))
    return [stack[start : start + step] for start in range(0, max(1, len(stack)), step)]

"""PASS of stacks of images, spread over the processor cores.

Check the inputs, compute (`opencv_engine.score_pairs` on one part of the stack per task), reduce: put the parts
back in order. A pair's score depends on that pair alone, so the result is the same whatever the number of workers.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from bangbench.core.device import available_cores
from bangbench.core.errors import UsageError
from bangbench.core.workers import run_tasks, start_workers
from bangbench.metrics.checks import check_channels, check_size, check_stacks
from bangbench.metrics.opencv_engine import PassScores, score_pairs
from bangbench.metrics.reference import PRESETS, PresetName, check_presets

__all__ = ["PassPool", "PassScores", "pass_score", "pass_scores_all"]

#: Pixel values in one task, some 64 images of MNIST: a fraction of a second, which is how long Ctrl-C may take.
_TASK_VALUES = 64 * 28 * 28
#: Pixel values that are scored sooner in this process than workers, which take a second or two, are started.
_IN_PROCESS_VALUES = 2000 * 28 * 28


def pass_score(
    adversarial: NDArray[np.uint8],
    original: NDArray[np.uint8],
    preset: PresetName = "definition",
    workers: int | None = None,
) -> PassScores:
    """Return PASS of each pair of images with one preset (`reference.PRESETS`).

    Both stacks are uint8 (N, 1 or 3, H, W) with H, W >= 11, in the same order; N may be 0. `workers` is the number
    of processes (None: one per available core); small stacks are scored in this process whatever it says.
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
    adversarial: NDArray[np.uint8], original: NDArray[np.uint8], workers: int | None = None
) -> dict[PresetName, PassScores]:
    """Return `pass_score` for every preset; the unaligned SSIM, which they share, is computed once."""
    with PassPool(workers) as pool:
        return pool.score(adversarial, original)


class PassPool:
    """Scores one stack after another with worker processes that are started once.

    They start when the stacks seen so far are worth it, and end with the ``with`` block. Interrupted, the block
    ends them quietly after the task each is at.

    >>> stack = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    >>> with PassPool(workers=2) as pool:
    ...     pool.score(stack, stack)["paper"].unaligned.tolist()
    [1.0]
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"expected at least 1 worker, found {workers}; leave it out for one per core")
        self._workers = workers or available_cores()
        self._values_seen = 0
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> PassPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the tasks that have not begun and end the workers; a later `score` starts new ones."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

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
        if not self._worth_workers(original.size):
            return score_pairs(adversarial, original, presets)
        if self._executor is None:
            self._executor = start_workers(self._workers)
        parts = run_tasks(self._executor, score_pairs, _split(adversarial), _split(original), repeat(presets))
        return {preset: _join([part[preset] for part in parts]) for preset in presets}

    def _worth_workers(self, values: int) -> bool:
        self._values_seen += values
        return values > 0 and self._workers > 1 and self._values_seen > _IN_PROCESS_VALUES


def _split(stack: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return the stack in parts of one task each; their size does not depend on the number of workers."""
    step = max(1, _TASK_VALUES // stack[0].size)
    return [stack[start : start + step] for start in range(0, len(stack), step)]


def _join(parts: list[PassScores]) -> PassScores:
    return PassScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))

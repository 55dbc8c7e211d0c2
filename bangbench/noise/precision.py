"""When a cell has been drawn often enough: its interval is narrower than was asked for.

A cell is one model at one stage under one sigma; its value is the percentage of the noisy copies of all images that are
not classified correctly.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from bangbench.core.statistics import Interval

_ERROR = 0.05
#: Each round ends at so many times the draws of the last: a cell takes at most about half more than it needs.
_GROWTH = 1.5


def cell_interval(flipped: int, copies: int, cells: int) -> Interval:
    """Return the interval of one of `cells` cells, in percent, of which `flipped` of `copies` > 0 copies are flipped.

    Clopper and Pearson's, two-sided, at the Bonferroni level 1 - 0.05 / cells, so that all cells together lie inside
    theirs with at least 95 %, where Wilson's lower end is too high at such levels. The copies of all images are pooled
    as though they were drawn from one population. They are as many of each image, which spreads less: pooling is
    conservative.
    """
    if copies == 0:
        raise ValueError(f"expected at least one copy, found {copies}")
    interval = binomtest(flipped, copies).proportion_ci(1.0 - _ERROR / cells, method="exact")
    return 100.0 * float(interval.low), 100.0 * float(interval.high)


def round_ends(images: int, cells: int, precision: float, draws: int) -> tuple[int, ...]:
    """Return the number of draws per image after each round, ascending; the last is `draws`.

    The first is the smallest at which a cell without any flip is done, each other half as much again.
    """
    enough = bisect_left(
        range(1, draws), True, key=lambda total: _width(cell_interval(0, total * images, cells)) < precision
    )
    ends = [enough + 1]
    while ends[-1] < draws:
        ends.append(min(draws, math.ceil(_GROWTH * ends[-1])))
    return tuple(ends)


def narrow_cells(flipped: NDArray[np.int64], copies: int, cells: int, precision: float) -> NDArray[np.bool_]:
    """Return which cells are done, (K,): those whose interval is narrower than `precision` percentage points.

    flipped: flipped ones of the `copies` copies of each, (K,), of `cells` cells altogether.
    """
    widths = [_width(cell_interval(int(count), copies, cells)) for count in flipped]
    return np.array(widths) < precision


def _width(interval: Interval) -> float:
    low, high = interval
    return high - low

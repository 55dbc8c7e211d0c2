"""When a cell has been drawn often enough: its interval is narrower than was asked for.

A cell is one model at one stage under one sigma; its value is the percentage of the noisy copies of all images that are
not classified correctly.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

_ERROR = 0.05
#: Each round ends at so many times the draws of the last: a cell takes at most about half more than it needs.
_GROWTH = 1.5


class Looks(NamedTuple):
    """The draws per image after which the cells are looked at, ascending; error: of one interval at one look.

    precision: the width in percentage points that an interval has to be narrower than.

    A cell is done at the first look at which its interval is narrow, so that the interval is chosen among those of all
    looks: at the level of a single one, it would miss more often than it says. Hence the error of 5 % is shared out
    evenly over all looks and cells. Whichever look ends a cell, all cells together then lie inside the intervals of
    their last looks with at least 95 %.
    """

    ends: tuple[int, ...]
    error: float
    precision: float


def plan_looks(images: int, cells: int, precision: float, draws: int) -> Looks:
    """Return when to look at `cells` cells of so many images, whose intervals are to be narrower than `precision`.

    precision: in percentage points. The first look is the earliest at which a cell without any flip is done, each other
    one follows after half as many draws again; the last is at `draws`.
    """
    for number in itertools.count(1):
        error = _ERROR / (cells * number)
        ends = _ends(images, error, precision, draws)
        # a smaller error takes more draws to the first look, which leaves room for fewer looks
        if len(ends) <= number:
            break
    return Looks(ends, error, precision)


def _ends(images: int, error: float, precision: float, draws: int) -> tuple[int, ...]:
    none = np.zeros(1, dtype=np.int64)
    enough = bisect_left(
        range(1, draws), True, key=lambda total: bool(narrow_cells(none, total * images, error, precision)[0])
    )
    ends = [enough + 1]
    while ends[-1] < draws:
        ends.append(min(draws, math.ceil(_GROWTH * ends[-1])))
    return tuple(ends)


def cell_intervals(flipped: NDArray[np.int64], copies: int | NDArray[np.int64], error: float) -> NDArray[np.float64]:
    """Return the intervals of cells, (..., 2) in percent, of which `flipped`, (...), of `copies` > 0 are flipped.

    Clopper and Pearson's, two-sided, at the level 1 - `error`; Wilson's lower end is too high where that is close to 1.
    The copies of all images are pooled as though they were drawn from one population. They are as many of each image,
    which spreads less: pooling is conservative.
    """
    if np.any(np.less(copies, 1)):
        raise ValueError(f"expected at least one copy, found {np.min(copies)}")
    low = np.where(flipped == 0, 0.0, beta.ppf(error / 2.0, flipped, copies - flipped + 1))
    high = np.where(flipped == copies, 1.0, beta.isf(error / 2.0, flipped + 1, copies - flipped))
    return 100.0 * np.stack([low, high], axis=-1)


def narrow_cells(flipped: NDArray[np.int64], copies: int, error: float, precision: float) -> NDArray[np.bool_]:
    """Return which cells are done, (K,): those whose interval is narrower than `precision` percentage points.

    flipped: flipped ones of the `copies` copies of each, (K,); error: of each interval.
    """
    narrow: NDArray[np.bool_] = np.diff(cell_intervals(flipped, copies, error), axis=-1)[..., 0] < precision
    return narrow

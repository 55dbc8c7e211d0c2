"""How much less noise flips one model than the first: one sign, and one name for it, wherever it is shown."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

#: What it is called, and what that means.
FEWER = "Less than the first (points)"
FEWER_MEANS = (
    "less than the first: how many percentage points fewer of its noisy copies are flipped than of the first model's, "
    "the first's percentage minus its own; below 0 where more are"
)

Percent = TypeVar("Percent", float, NDArray[np.float64])


def fewer_flipped(first: Percent, other: Percent) -> Percent:
    """Return how many percentage points fewer copies are flipped of `other` than of the first model (percent)."""
    return first - other

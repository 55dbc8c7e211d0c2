"""Permutations that are the same on every machine and with every version of numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bangbench.core.seeds import derive_seed


def fixed_permutation(count: int, *purpose: str | int) -> NDArray[np.int64]:
    """Return a permutation of 0..count-1, int64 (count,), that depends on `count` and `purpose` only.

    It sorts the raw numbers of PCG64: numpy promises that this stream never changes, which it does not for
    `Generator.permutation`, and the fingerprint of a data set rests on it.
    """
    keys = np.random.PCG64(derive_seed(0, *purpose)).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64)

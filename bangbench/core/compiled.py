"""Functions compiled to machine code by numba when first called, and kept on disk for the next process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])
Scalar = TypeVar("Scalar", bound=np.generic)

#: What the compiler may do to a sum: add in another order, and fuse product and addition. NaN and infinity stay.
_REORDERED_SUMS = {"reassoc", "contract", "nsz"}


def compiled(function: Function) -> Function:
    """Return `function`, compiled as it stands; threads run it side by side, as it releases the interpreter lock."""
    return _compiled(function, set())


def compiled_sum(function: Function) -> Function:
    """Return `function`, compiled so that its sums may be added in another order, many at a time."""
    return _compiled(function, _REORDERED_SUMS)


def _compiled(function: Function, fastmath: set[str]) -> Function:
    compile_with: Any = njit
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath or False}
    try:
        return cast(Function, compile_with(function, cache=True, **options))
    except RuntimeError:  # numba found no folder that it may write to
        return cast(Function, compile_with(function, **options))


def plain(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return the array in C order and writeable: every other kind would have functions compiled of its own."""
    return np.require(array, requirements=["C", "W"])

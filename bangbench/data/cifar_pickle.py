"""Read the pickled batches of CIFAR-10 without running anything that is in them.

A pickle can name any callable and call it. Here the three names that the official files use stand for inert
classes of this module, and every other name is refused: numpy itself never sees the pickled state.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError

_BYTE_TYPES = ("u1", b"u1", "|u1", b"|u1")
_STATE_LENGTH = 5
_PIXELS = 3 * 32 * 32
_CLASSES = 10


class _PickledType:
    """Stands for numpy.dtype: keeps the name, ignores the state that follows."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and alignment: a byte has neither."""


class _PickledArray:
    """Stands for numpy.ndarray and the function that rebuilds one: only plain bytes in C order become an array."""

    def __init__(self, *_: object) -> None:
        self.array: NDArray[np.uint8] | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != _STATE_LENGTH:
            raise pickle.UnpicklingError("an array with an unknown state")
        _, shape, kind, fortran_order, raw = state
        if not isinstance(kind, _PickledType) or kind.name not in _BYTE_TYPES or not isinstance(raw, bytes):
            raise pickle.UnpicklingError("an array that does not hold plain bytes")
        self.array = np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran_order else "C")


_ALLOWED: dict[tuple[str, str], type] = {
    (module, name): inert
    for package in ("numpy.core", "numpy._core")
    for module, name, inert in (
        (f"{package}.multiarray", "_reconstruct", _PickledArray),
        ("numpy", "ndarray", _PickledArray),
        ("numpy", "dtype", _PickledType),
    )
}


class _RestrictedUnpickler(pickle._Unpickler):  # the one in C gives a memo of any size that a byte asks for
    def find_class(self, module: str, name: str) -> type:
        """Return the inert class for one of the allowed names; refuse every other before it is imported."""
        if (module, name) not in _ALLOWED:
            asked = ascii(f"{module}.{name}"[:60])[1:-1]  # in one line, whatever a damaged file holds there
            raise pickle.UnpicklingError(f"the pickle asks for {asked}, which CIFAR-10 does not need")
        return _ALLOWED[module, name]


def read_python_batch(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return data, uint8 (N, 3072), and labels, int64 (N,), of one batch; `BenchError` for anything else.

    Takes the memory of a few times `content`.
    """
    batch = _unpickle(content, where)
    if not isinstance(batch, dict):
        raise BenchError(f"{where}: expected a pickled dictionary, found {type(batch).__name__}")
    data, labels = (_entry(batch, key, where) for key in ("data", "labels"))
    array = data.array if isinstance(data, _PickledArray) else None
    if array is None or array.shape[1:] != (_PIXELS,):
        found = "no array" if array is None else f"shape {array.shape}"
        raise BenchError(f"{where}: expected 'data' of shape (N, 3072), found {found}; fetch the file again")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < _CLASSES for label in labels):
        raise BenchError(f"{where}: expected 'labels' as a list of integers 0..9; fetch the file again")
    return array, np.array(labels, dtype=np.int64)


def _entry(batch: dict[Any, Any], key: str, where: str) -> Any:
    for form in (key.encode(), key):
        if form in batch:
            return batch[form]
    raise BenchError(f"{where}: expected an entry '{key}' in the batch, found none; fetch the file again")


def _unpickle(content: bytes, where: str) -> Any:
    try:
        return _RestrictedUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle makes the unpickler raise nearly anything
        raise BenchError(
            f"{where}: expected a CIFAR-10 batch, found a file that cannot be read as one ({error}): it is "
            "damaged, or not what it claims to be; nothing in it was run; fetch it again"
        ) from error

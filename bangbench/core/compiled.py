"""Functions compiled to machine code by numba when first called, and kept on disk for the next process."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])
Scalar = TypeVar("Scalar", bound=np.generic)

_LOG = logging.getLogger(__name__)
_DIGEST_BYTES = 32
#: Folders of compiled code that were complained of in this process.
_complained_of: set[Path] = set()

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
    dispatcher = compile_with(function, nogil=True, error_model="numpy", fastmath=fastmath or False)
    with suppress(RuntimeError, OSError):  # where numba finds no folder that it may write to
        dispatcher._cache = _Cache(function)
    return cast(Function, dispatcher)


class _Cache(FunctionCache):
    """Machine code kept on disk where that works: whatever is wrong with it, the function is compiled without it."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        name, stamp = f"{self._impl.filename_base}.sha256", self._impl.locator.get_source_stamp()
        self._cache_file = _CheckedFile(self._cache_path, name, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function of a signature; None where it is not kept or cannot be used."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged pickle can raise anything
            self._go_without("read", error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled function of a signature, if that is possible."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._go_without("written", error)

    def _go_without(self, what: str, error: Exception) -> None:
        """Compile in this process, and remove the index, so that the next one begins with an empty one."""
        self.disable()
        index = Path(self._cache_file._index_path)
        if index.parent not in _complained_of:
            _complained_of.add(index.parent)
            reason = str(error) or type(error).__name__
            _LOG.warning("%s: compiled code cannot be %s (%s); compiling it again", index, what, reason)
        with suppress(OSError):
            index.unlink()


class _CheckedFile(IndexDataCacheFile):
    """Numba's files of one function, code behind its SHA-256: half-written code would be run as it is."""

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as stream:
            stream.write(hashlib.sha256(content).digest() + content)

    def _load_data(self, name: str) -> Any:
        found = Path(self._data_path(name)).read_bytes()
        digest, content = found[:_DIGEST_BYTES], found[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError(f"the checksum of {name} differs")
        return pickle.loads(content)


def plain(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return the array in C order and writeable: every other kind would have functions compiled of its own."""
    return np.require(array, requirements=["C", "W"])

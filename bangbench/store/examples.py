"""A few images of an attack, kept so that a report can show them without the data: ATTACK-examples.npz."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.store.files import write_bytes

Pixels = NDArray[np.uint8]


class Examples(NamedTuple):
    """Images as they were and as the attack left them.

    indices: places in the test split, int64 (N,), ascending; original, adversarial: uint8 (N, C, H, W), the adversarial
    image all zero where the attack failed; flipped: bool (N,).
    """

    indices: NDArray[np.int64]
    original: Pixels
    adversarial: Pixels
    flipped: NDArray[np.bool_]

    def place(self, index: int) -> int | None:
        """Return where the test image `index` is among the examples, or None."""
        found = np.flatnonzero(self.indices == index)
        return int(found[0]) if len(found) else None


def examples_file(record: Path) -> Path:
    """Return where the examples of the attack recorded in ATTACK.json are: ATTACK-examples.npz beside it."""
    return record.with_name(f"{record.stem}-examples.npz")


def write_examples(path: Path, examples: Examples) -> None:
    """Write examples, compressed and atomically."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **examples._asdict())
    write_bytes(path, stream.getvalue())


def read_examples(path: Path) -> Examples | None:
    """Return the examples in a file, or None where there is none; `BenchError` for a damaged one."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            found = Examples(**{name: archive[name] for name in Examples._fields})
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise BenchError(f"{path}: not a whole file of examples ({error}); make the measurement again") from error
    shape = (len(found.indices), *found.original.shape[1:])
    if found.original.ndim != 4 or {found.original.shape, found.adversarial.shape} != {shape}:
        raise BenchError(f"{path}: expected originals and adversarial images of one shape; make the measurement again")
    return found

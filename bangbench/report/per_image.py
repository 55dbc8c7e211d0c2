"""What was measured of each single image: the rows of ATTACK.parquet and noise.parquet as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.store.records import AttackSummary, NoiseSummary
from bangbench.store.tables import read_table

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]

_WHOLE = ("index", "label", "prediction")
_FLAGS = ("attacked", "blank", "flipped")
_NUMBERS = ("linf", "l2", "pass", "pass_paper", "ssim", "margin", "true_logit", "gradient_max")


class AttackRows(NamedTuple):
    """One attack on every test image, each field (N,), in the order of the images.

    indices (places in the test split), label, prediction (of the clean image) are whole numbers; attacked (correctly
    classified), blank and flipped are flags; distances (grey levels) and scores are NaN where the image was not
    flipped. margin: true logit minus the largest other one; gradient_max: NaN where the image was not attacked.
    """

    indices: Whole
    label: Whole
    prediction: Whole
    attacked: Flags
    blank: Flags
    flipped: Flags
    linf: Numbers
    l2: Numbers
    pass_definition: Numbers
    pass_paper: Numbers
    ssim: Numbers
    margin: Numbers
    true_logit: Numbers
    gradient_max: Numbers

    def linf_or_infinite(self) -> Numbers:
        """Return L_inf of the attacked images (grey levels), infinite where the attack failed; (attacked,)."""
        return np.where(self.flipped, self.linf, np.inf)[self.attacked]


class NoiseRows(NamedTuple):
    """Flipped draws of each image: indices and label (N,), flipped (2, stages, sigmas, N): first regular, then BANG."""

    indices: Whole
    label: Whole
    draws: int
    flipped: Whole


def read_attack_rows(path: Path, summary: AttackSummary) -> AttackRows | None:
    """Return the rows in ATTACK.parquet, or None where there is no such file.

    Raises `BenchError` for a file that is damaged, lacks a column, or does not belong to the record beside it.
    """
    if not path.exists():
        return None
    table = read_table(path)
    columns = [_column(table, name, path) for name in (*_WHOLE, *_FLAGS, *_NUMBERS)]
    kinds: list[Any] = [np.int64] * len(_WHOLE) + [np.bool_] * len(_FLAGS) + [np.float64] * len(_NUMBERS)
    rows = AttackRows(*(values.astype(kind) for values, kind in zip(columns, kinds, strict=True)))
    found = len(rows.indices), int(rows.attacked.sum()), int(rows.flipped.sum())
    expected = summary.images, summary.correct, summary.flipped
    if found != expected:
        raise BenchError(
            f"{path}: expected (images, correct, flipped) {expected} as in the record beside it, found {found}; "
            "make the measurement again"
        )
    return rows


def read_noise_rows(path: Path, summary: NoiseSummary) -> NoiseRows | None:
    """Return the rows in noise.parquet, or None where there is no such file; `BenchError` as `read_attack_rows`."""
    if not path.exists():
        return None
    table = read_table(path)
    shape = (2, len(summary.stages), len(summary.sigmas), summary.images)
    if table.num_rows != np.prod(shape):
        raise BenchError(
            f"{path}: expected {np.prod(shape):,} rows for the record beside it, found {table.num_rows:,}; "
            "make the measurement again"
        )
    indices, label, flipped = (_column(table, name, path) for name in ("index", "label", "flipped"))
    images = summary.images
    return NoiseRows(
        indices[:images].astype(np.int64),
        label[:images].astype(np.int64),
        summary.draws,
        flipped.astype(np.int64).reshape(shape),
    )


def _column(table: pa.Table, name: str, path: Path) -> NDArray[Any]:
    if name not in table.column_names:
        raise BenchError(f"{path}: expected a column '{name}', found {', '.join(table.column_names)}; measure it again")
    values: NDArray[Any] = table.column(name).to_numpy()
    return values

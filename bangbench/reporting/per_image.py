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

_FLAGS = ("attacked", "flipped")
_NUMBERS = ("linf", "pass", "margin", "true_logit")
#: Percentage points by which rounding may move a record's percentages from those of its counts.
_TOLERANCE = 1e-6


class AttackRows(NamedTuple):
    """What the report shows of one attack on every test image, each field (N,), in the order of the images.

    indices: places in the test split; attacked: correctly classified. linf (grey levels) and pass_definition are NaN
    where the image was not flipped. margin: true logit of the clean image minus the largest other one.
    """

    indices: Whole
    attacked: Flags
    flipped: Flags
    linf: Numbers
    pass_definition: Numbers
    margin: Numbers
    true_logit: Numbers

    def linf_or_infinite(self) -> Numbers:
        """Return L_inf of the attacked images (grey levels), infinite where the attack failed; (attacked,)."""
        return np.where(self.flipped, self.linf, np.inf)[self.attacked]


class NoiseRows(NamedTuple):
    """Flipped draws of each image, (models, stages, sigmas, N), in the order of the record's models.

    draws: of each image in a cell, (models, stages, sigmas).
    """

    draws: Whole
    flipped: Whole

    @property
    def percent(self) -> Numbers:
        """Return the flipped draws of each image in percent, (models, stages, sigmas, N)."""
        return 100.0 * self.flipped / self.draws[..., np.newaxis]


def read_attack_rows(path: Path, summary: AttackSummary) -> AttackRows | None:
    """Return the rows in ATTACK.parquet, or None where there is no such file.

    Raises `BenchError` for a file that is damaged, lacks a column, or does not belong to the record beside it.
    """
    if not path.exists():
        return None
    table = read_table(path)
    indices = _column(table, "index", path).astype(np.int64)
    attacked, flipped = (_column(table, name, path).astype(np.bool_) for name in _FLAGS)
    numbers = (_column(table, name, path).astype(np.float64) for name in _NUMBERS)
    rows = AttackRows(indices, attacked, flipped, *numbers)
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
    shape = (len(summary.flipped_percent), len(summary.stages), len(summary.sigmas), summary.images)
    if table.num_rows != np.prod(shape):
        raise BenchError(
            f"{path}: expected {np.prod(shape):,} rows for the record beside it, found {table.num_rows:,}; "
            "make the measurement again"
        )
    flipped = _column(table, "flipped", path).astype(np.int64).reshape(shape)
    _check_percentages(path, flipped, summary)
    return NoiseRows(cell_draws(summary), flipped)


def cell_draws(summary: NoiseSummary) -> Whole:
    """Return how many draws each image had, (models, stages, sigmas), in the order of the record's models."""
    if summary.draws_used is None:
        return np.full(np.shape(summary.flipped_percent), summary.draws)
    return np.array(summary.draws_used)


def _check_percentages(path: Path, flipped: Whole, summary: NoiseSummary) -> None:
    """Raise `BenchError` unless the counts, (models, stages, sigmas, images), give the percentages of the record."""
    found = 100.0 * flipped.sum(axis=-1) / (summary.images * cell_draws(summary))
    expected = np.array(summary.flipped_percent)
    wrong = np.argwhere(np.abs(found - expected) > _TOLERANCE)
    if len(wrong):
        which, stage, sigma = place = tuple(wrong[0])
        raise BenchError(
            f"{path}: does not belong to the record beside it: expected {expected[place]:.4f} % flipped of "
            f"model {which + 1} at stage {summary.stages[stage]} and sigma {summary.sigmas[sigma]:g}, "
            f"found {found[place]:.4f} %; make the measurement again"
        )


def _column(table: pa.Table, name: str, path: Path) -> NDArray[Any]:
    if name not in table.column_names:
        raise BenchError(f"{path}: expected a column '{name}', found {', '.join(table.column_names)}; measure it again")
    values: NDArray[Any] = table.column(name).to_numpy()
    return values

"""One row per image: the columns of ATTACK.parquet, and the numbers computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bangbench.core.statistics import censored_quantiles, wilson_interval
from bangbench.metrics.reference import EccStatus
from bangbench.store.records import AttackSummary, LinfSummary, Moments

Columns = Mapping[str, NDArray[Any]]

#: Null where an image was not attacked or not flipped. A random model's rows end with `SHARE`.
SCHEMA = pa.schema(
    [
        ("index", pa.int32()),
        ("label", pa.int16()),
        ("prediction", pa.int16()),
        ("attacked", pa.bool_()),
        ("blank", pa.bool_()),
        ("flipped", pa.bool_()),
        ("adversarial_prediction", pa.int16()),
        ("scale", pa.float32()),
        ("linf", pa.float32()),
        ("l2", pa.float32()),
        ("pass", pa.float64()),
        ("pass_paper", pa.float64()),
        ("ssim", pa.float64()),
        ("ecc_status", pa.int8()),
        ("ecc_status_paper", pa.int8()),
        ("gradient_max", pa.float32()),
        ("margin", pa.float32()),
        ("true_logit", pa.float32()),
    ]
)

#: The share of the passes over the adversarial image, in [0, 1], that give it another class than its label.
SHARE = pa.field("flipped_share", pa.float32())


#: What a chunk counts as a whole, beside one value per image.
_TOTALS = ("unverified", "forwards", "seconds")


def joined_columns(chunks: Sequence[Columns]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the columns of chunks that follow one another (`attack_chunk`), and their totals by name."""
    columns = {name: np.concatenate([np.atleast_1d(chunk[name]) for chunk in chunks]) for name in chunks[0]}
    return columns, {name: columns.pop(name).sum() for name in _TOTALS}


def schema_of(columns: Columns) -> pa.Schema:
    """Return the schema of a table with these columns."""
    return SCHEMA.append(SHARE) if SHARE.name in columns else SCHEMA


def nullable(values: NDArray[Any], valid: NDArray[np.bool_], fill: float) -> NDArray[Any]:
    """Return the array over all images that holds `values` where `valid`, and `fill`, a mark for null, elsewhere."""
    result = np.full(len(valid), fill, dtype=values.dtype)
    result[valid] = values
    return result


def parquet_columns(columns: Columns) -> dict[str, NDArray[Any]]:
    """Return the columns with NaN and -1 (the marks of a missing value) masked, in the schema's types."""
    result: dict[str, NDArray[Any]] = {}
    for field in schema_of(columns):
        values = columns[field.name]
        if values.dtype.kind == "f":
            result[field.name] = np.ma.masked_invalid(values)
        else:
            result[field.name] = np.ma.masked_equal(values, -1) if values.dtype.kind == "i" else values
    return result


def summarise(columns: Columns, unverified: int, forwards: int, seconds: float) -> AttackSummary:
    """Return the numbers of protocol section 8: percent, grey levels; means over the flipped images."""
    attacked, flipped = columns["attacked"], columns["flipped"]
    correct, successes = int(attacked.sum()), int(flipped.sum())
    linf = columns["linf"][flipped].astype(np.float64)
    moments = {name: _moments(columns[name][flipped]) for name in ("l2", "pass", "pass_paper", "ssim")}
    return AttackSummary(
        accuracy=100.0 * correct / len(attacked),
        images=len(attacked),
        correct=correct,
        flipped=successes,
        rate=_percent(successes, correct),
        rate_interval=wilson_interval(successes, correct),
        blank=_percent(int(columns["blank"].sum()), correct),
        linf=LinfSummary(**_moments(linf).model_dump(), median_censored=_median_censored(linf, correct)),
        l2=moments["l2"],
        **{"pass": moments["pass"]},
        pass_paper=moments["pass_paper"],
        unaligned=moments["ssim"],
        ecc_failures={
            "definition": int((columns["ecc_status"][flipped] > EccStatus.ALIGNED).sum()),
            "paper": int((columns["ecc_status_paper"][flipped] > EccStatus.ALIGNED).sum()),
        },
        unverified=unverified,
        forwards=forwards,
        seconds=seconds,
    )


def _percent(count: int, total: int) -> float | None:
    return 100.0 * count / total if total else None


def _moments(values: NDArray[Any]) -> Moments:
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return Moments(mean=None, std=None)
    return Moments(mean=float(values.mean()), std=float(values.std()))


def _median_censored(linf: NDArray[np.float64], correct: int) -> float | None:
    """Return the median over all attacked images, failures as infinite; None where it is infinite itself."""
    quantiles = censored_quantiles(np.concatenate([linf, np.full(correct - len(linf), np.inf)]), (0.5,))
    return None if quantiles is None or np.isinf(quantiles[0]) else quantiles[0]

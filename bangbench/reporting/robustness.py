"""Robust accuracy against an L_inf budget: which images still hold when a perturbation may be so large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bangbench.core.errors import BenchError
from bangbench.reporting.per_image import AttackRows, Numbers, Whole

#: No perturbation of an 8-bit image is larger, in grey levels.
LARGEST_LINF = 255.0


class StepCurve(NamedTuple):
    """Robust accuracy as the step function it is.

    budgets: grey levels, (steps,), ascending: 0, then every budget at which the accuracy falls; accuracy: percent of
    all test images, (steps,), from its budget on up to the next.
    """

    budgets: Numbers
    accuracy: Numbers


def robust_counts(linf_or_infinite: Numbers, budgets: ArrayLike) -> Whole:
    """Return how many images are classified correctly and not flipped at L_inf <= budget, one count per budget.

    linf_or_infinite: (correct,), L_inf in grey levels of each correctly classified image, infinite where not flipped.
    """
    flipped = np.searchsorted(np.sort(linf_or_infinite), np.asarray(budgets, dtype=np.float64), side="right")
    return np.asarray(len(linf_or_infinite) - flipped, dtype=np.int64)


def robust_accuracy(linf_or_infinite: Numbers, total: int, budgets: ArrayLike) -> Numbers:
    """Return the percent of all `total` test images that are correct and not flipped at L_inf <= budget, per budget.

    Images that the attack fails on stay in the denominator and count as robust at every budget, up to 255.
    linf_or_infinite as in `robust_counts`. Raises `BenchError` where `total` cannot be the number of test images.
    """
    _check_total(linf_or_infinite, total)
    return np.asarray(100.0 * robust_counts(linf_or_infinite, budgets) / total, dtype=np.float64)


def step_curve(linf_or_infinite: Numbers, total: int) -> StepCurve:
    """Return the exact curve of `robust_accuracy` over all budgets from 0 on."""
    finite = linf_or_infinite[np.isfinite(linf_or_infinite)]
    budgets = np.unique(np.append(finite, 0.0))
    return StepCurve(budgets, robust_accuracy(linf_or_infinite, total, budgets))


def same_images(attacks: Mapping[str, AttackRows]) -> dict[str, AttackRows]:
    """Return the attacks over the images of the first one: the same test images, the same ones of them correct."""
    if not attacks:
        return {}
    first = next(iter(attacks.values()))
    return {name: rows for name, rows in attacks.items() if _over_the_same(first, rows)}


def worst_case(rows: Sequence[AttackRows]) -> Numbers:
    """Return for each correct image the smallest L_inf (grey levels) of all attacks, infinite where none flips it.

    (correct,), in the order of the images. Raises `BenchError` without attacks, or where they are over other images
    than the first (see `same_images`).
    """
    if not rows:
        raise BenchError("expected at least one attack for a worst case, found none; run an attack first")
    if not all(_over_the_same(rows[0], other) for other in rows):
        raise BenchError(
            "expected attacks over the same images, with the same ones classified correctly, found different ones; "
            "choose them with same_images"
        )
    return np.asarray(np.min([each.linf_or_infinite() for each in rows], axis=0), dtype=np.float64)


def _over_the_same(first: AttackRows, other: AttackRows) -> bool:
    return np.array_equal(first.indices, other.indices) and np.array_equal(first.attacked, other.attacked)


def _check_total(linf_or_infinite: Numbers, total: int) -> None:
    if total < max(len(linf_or_infinite), 1):
        raise BenchError(
            f"expected a total of all test images, {max(len(linf_or_infinite), 1):,} or more, found {total:,}; "
            "images classified wrongly count, too"
        )

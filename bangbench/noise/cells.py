"""The pure core of a noise evolution: rounds of draws until every cell is known well enough, and their summary.

A cell is one classifier (a model at one stage) under one sigma.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.noise.count import COMPARED_DRAWS, Counts, Noise
from bangbench.noise.precision import Looks, cell_intervals, narrow_cells, plan_looks
from bangbench.noise.spec import Arithmetic
from bangbench.store.records import NoiseSummary


class Outline(NamedTuple):
    """What is counted: so many models at each of the stages, on the images of each class, (classes,).

    precision: stop drawing for a cell once its interval is narrower than so many percentage points (None: take all
    draws of `noise`).
    """

    models: int
    stages: tuple[int, ...]
    noise: Noise
    images_per_class: tuple[int, ...]
    precision: float | None = None
    arithmetic: Arithmetic = "float32"

    @property
    def images(self) -> int:
        """Return how many images take part."""
        return sum(self.images_per_class)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of classifiers and of sigmas."""
        return self.models * len(self.stages), len(self.noise.sigmas)

    def looks(self) -> Looks | None:
        """Return when the cells are looked at, at the end of every round; None without a precision, in one of all.

        It follows from what a record holds, which thus tells the level of its intervals.
        """
        if self.precision is None:
            return None
        return plan_looks(self.images, self.shape[0] * self.shape[1], self.precision, self.noise.draws)

    def surfaces(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values (classifiers, ...) as (models, stages, ...)."""
        return values.reshape(self.models, len(self.stages), *values.shape[1:])


class Stretch(NamedTuple):
    """Draws first .. first + draws - 1 of every image, for the cells that are still open, (classifiers, sigmas).

    place: counted from 0.
    """

    place: int
    first: int
    draws: int
    cells: NDArray[np.bool_]


class Total(NamedTuple):
    """What was counted: flipped copies, (classifiers, sigmas, N), of so many draws per image, (classifiers, sigmas).

    differing: as in `Counts`, of all images and cells together; None where the arithmetic is float32.
    """

    flipped: NDArray[np.int32]
    draws: NDArray[np.int64]
    differing: int | None

    @property
    def compared(self) -> int:
        """Return how many copies were computed in float32 as well."""
        if self.differing is None:
            return 0
        return int(np.minimum(self.draws, COMPARED_DRAWS).sum()) * len(self.flipped[0, 0])


def count_cells(outline: Outline, count: Callable[[Stretch], Counts]) -> Total:
    """Count flipped draws in one round of all draws or, with a precision, until every cell is narrow enough.

    Every image has the same number of draws in a cell. count: returns the counts of one round.
    """
    flipped = np.zeros((*outline.shape, outline.images), dtype=np.int32)
    drawn, cells = np.zeros(outline.shape, dtype=np.int64), np.ones(outline.shape, dtype=np.bool_)
    differing, first, looks = 0, 0, outline.looks()
    for place, end in enumerate((outline.noise.draws,) if looks is None else looks.ends):
        counts = count(Stretch(place, first, end - first, cells))
        flipped += counts.flipped
        differing += 0 if counts.differing is None else int(counts.differing.sum())
        drawn[cells], first = end, end
        if looks is not None:
            pooled = flipped[cells].sum(axis=-1, dtype=np.int64)
            cells = cells.copy()  # the round keeps the cells that it counted
            cells[cells] = ~narrow_cells(pooled, end * outline.images, looks.error, looks.precision)
        if not cells.any():
            break
    return Total(flipped, drawn, None if outline.arithmetic == "float32" else differing)


def summarise(outline: Outline, counted: Total, seconds: float) -> NoiseSummary:
    """Return the summary of what was counted; fields that do not apply are left out."""
    flipped = outline.surfaces(counted.flipped.sum(axis=-1, dtype=np.int64))
    draws, looks = outline.surfaces(counted.draws), outline.looks()
    stopped = looks and {
        "precision": looks.precision,
        "draws_used": draws.tolist(),
        "flipped_interval": cell_intervals(flipped, outline.images * draws, looks.error).tolist(),
    }
    reduced = counted.differing is not None and {
        "arithmetic": outline.arithmetic,
        "compared": counted.compared,
        "differing": counted.differing,
    }
    return NoiseSummary(
        stages=outline.stages,
        sigmas=outline.noise.sigmas,
        draws=outline.noise.draws,
        images=outline.images,
        images_per_class=outline.images_per_class,
        flipped_percent=(100.0 * flipped / (outline.images * draws)).tolist(),
        forwards=int(draws.sum()) * outline.images + counted.compared,
        seconds=seconds,
        **(stopped or {}),
        **(reduced or {}),
    )

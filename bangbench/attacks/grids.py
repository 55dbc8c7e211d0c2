"""The steps that a search along a direction tries."""

from __future__ import annotations

from typing import NamedTuple


class Grid(NamedTuple):
    """scales: increasing steps; bisect_to: refine between last failure and first success to this width (None: not)."""

    scales: tuple[float, ...]
    bisect_to: float | None = None


def grey_level_steps() -> Grid:
    """Return 1, 2, ..., 255: the steps of the fast gradient sign."""
    return Grid(tuple(float(step) for step in range(1, 256)))


def growing_steps() -> Grid:
    """Return the steps of hot/cold: 1, 2, ..., 255, then 2 % more each up to 65,536, refined to 1/16 grey level."""
    scales = list(grey_level_steps().scales)
    while scales[-1] * 1.02 < 65_536.0:
        scales.append(scales[-1] * 1.02)
    return Grid((*scales, 65_536.0), bisect_to=1.0 / 16.0)

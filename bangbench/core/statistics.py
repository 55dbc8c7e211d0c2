"""Intervals of proportions."""

from __future__ import annotations

from scipy.stats import binomtest

Interval = tuple[float, float]


def wilson_interval(successes: int, trials: int) -> Interval | None:
    """Return the 95 % Wilson interval of a proportion, in percent; None without trials."""
    if trials == 0:
        return None
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return 100.0 * float(interval.low), 100.0 * float(interval.high)

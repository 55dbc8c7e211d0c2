"""Estimates with 95 % intervals: proportions, means and quantiles of one model, and differences between two."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, t

Interval = tuple[float, float]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]

_LEVEL = 0.95
_UPPER = (1.0 + _LEVEL) / 2.0
_RESAMPLES = 9999
#: From so many values on, a bootstrap is computed from the cumulants of the mean: more exact than its resamples.
_SIMULATED = 200
#: Five values of one sign are no evidence at 95 % (2 / 2^5 > 0.05), but any resample of them has that sign.
_FEWEST = 6


class Estimate(NamedTuple):
    """A number with its 95 % interval; None where there are too few values for one."""

    value: float
    interval: Interval | None


class MeanOfFew(NamedTuple):
    """Mean, standard deviation (n - 1) and the ends of the 95 % t interval; only the mean where n = 1."""

    mean: float
    std: float | None
    low: float | None
    high: float | None


def wilson_interval(successes: int, trials: int) -> Interval | None:
    """Return the 95 % Wilson interval of a proportion, in percent; None without trials."""
    if trials == 0:
        return None
    interval = binomtest(successes, trials).proportion_ci(_LEVEL, method="wilson")
    return 100.0 * float(interval.low), 100.0 * float(interval.high)


def newcombe_interval(successes1: int, trials1: int, successes2: int, trials2: int) -> Interval | None:
    """Return the 95 % interval of the first of two independent proportions minus the second, in percentage points.

    The hybrid score interval: both Wilson intervals combined (Newcombe 1998, Statistics in Medicine 17, method 10).
    None where one of them has no trials.
    """
    first, second = wilson_interval(successes1, trials1), wilson_interval(successes2, trials2)
    if first is None or second is None:
        return None
    rate1, rate2 = 100.0 * successes1 / trials1, 100.0 * successes2 / trials2
    below = math.hypot(rate1 - first[0], second[1] - rate2)
    above = math.hypot(first[1] - rate1, rate2 - second[0])
    return rate1 - rate2 - below, rate1 - rate2 + above


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p value of McNemar's exact two-sided test, given how many images only one of two models gets."""
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def paired_rate_difference(
    first: Flags, second: Flags, seed: int = 0, resamples: int = _RESAMPLES
) -> tuple[float, Interval] | None:
    """Return the rate of `first` minus that of `second`, both (N,), in percentage points, with its 95 % interval.

    A percentile bootstrap over the N images. The difference depends only on how many images fall into each cell of
    the paired table (both, the first only, the second only, neither), and those counts in N images drawn with
    replacement are multinomial: drawing the four counts is resampling the images. Where few images differ the
    interval is too narrow; read it beside `mcnemar`. None without images.
    """
    images = len(first)
    if images == 0:
        return None
    cells = np.array([(first & second).sum(), (first & ~second).sum(), (~first & second).sum(), 0], dtype=np.float64)
    cells[3] = images - cells.sum()
    drawn = np.random.default_rng(seed).multinomial(images, cells / images, size=resamples)
    differences = 100.0 * (drawn[:, 1] - drawn[:, 2]) / images
    low, high = np.quantile(differences, [1.0 - _UPPER, _UPPER])
    return 100.0 * float(cells[1] - cells[2]) / images, (float(low), float(high))


def paired_mean_difference(
    first: Numbers, second: Numbers, seed: int = 0, resamples: int = _RESAMPLES
) -> Estimate | None:
    """Return the mean of `first` minus that of `second`, both (N,): the `mean_interval` of the N pairs."""
    return mean_interval(first - second, seed, resamples)


def mean_interval(values: Numbers, seed: int = 0, resamples: int = _RESAMPLES) -> Estimate | None:
    """Return the mean of (N,) values with its 95 % bootstrap interval; None without values.

    The expanded percentile interval (Hesterberg 2015, The American Statistician 69): its tail is widened by the t
    quantile and sqrt(n / (n - 1)), without which few values give too narrow an interval. Fewer than 6 values have
    none. Up to 200 values are resampled; for more of them the quantiles of the bootstrap distribution follow from
    its first four cumulants, which are known exactly (Cornish and Fisher 1938), at no cost in time or memory.
    """
    count = len(values)
    if count == 0:
        return None
    mean = float(np.mean(values))
    if count < _FEWEST:
        return Estimate(mean, None)
    reach = float(t.ppf(_UPPER, count - 1)) * math.sqrt(count / (count - 1))
    if count > _SIMULATED:
        return Estimate(mean, _cumulant_interval(values, reach))
    means = values[np.random.default_rng(seed).integers(count, size=(resamples, count))].mean(axis=1)
    low, high = np.quantile(means, [float(norm.cdf(-reach)), float(norm.cdf(reach))])
    return Estimate(mean, (float(low), float(high)))


def _cumulant_interval(values: Numbers, reach: float) -> Interval:
    """Return the quantiles, `reach` standard normal deviations to both sides, of the mean of resampled values."""
    count, mean = len(values), float(np.mean(values))
    deviations = values - mean
    variance = float(np.mean(deviations**2))
    if variance == 0.0:
        return mean, mean
    skewness = float(np.mean(deviations**3)) / variance**1.5 / math.sqrt(count)
    kurtosis = (float(np.mean(deviations**4)) / variance**2 - 3.0) / count
    low, high = (_cornish_fisher(z, skewness, kurtosis) * math.sqrt(variance / count) for z in (-reach, reach))
    return mean + low, mean + high


def _cornish_fisher(z: float, skewness: float, kurtosis: float) -> float:
    """Return the quantile, in standard deviations, where a normal distribution has z."""
    return (
        z
        + skewness * (z**2 - 1.0) / 6.0
        + kurtosis * (z**3 - 3.0 * z) / 24.0
        - skewness**2 * (2.0 * z**3 - 5.0 * z) / 36.0
    )


def t_interval(values: Numbers) -> MeanOfFew | None:
    """Return mean, standard deviation (n - 1) and 95 % t interval of (N,) values, for a handful; None without any."""
    count = len(values)
    if count == 0:
        return None
    mean = float(np.mean(values))
    if count == 1:
        return MeanOfFew(mean, None, None, None)
    std = float(np.std(values, ddof=1))
    reach = float(t.ppf(_UPPER, count - 1)) * std / math.sqrt(count)
    return MeanOfFew(mean, std, mean - reach, mean + reach)


def welch_interval(mean1: float, std1: float, n1: int, mean2: float, std2: float, n2: int) -> Interval | None:
    """Return the 95 % interval of the first of two independent means minus the second, by Welch's t.

    std1, std2: sample standard deviations (n - 1). None where one of them has fewer than two values.
    """
    if min(n1, n2) < 2:
        return None
    error1, error2 = std1**2 / n1, std2**2 / n2
    variance, difference = error1 + error2, mean1 - mean2
    if variance == 0.0:
        return difference, difference
    # the shares, not the errors, are squared: squares of tiny errors underflow
    freedom = 1.0 / ((error1 / variance) ** 2 / (n1 - 1) + (error2 / variance) ** 2 / (n2 - 1))
    reach = float(t.ppf(_UPPER, freedom)) * math.sqrt(variance)
    return difference - reach, difference + reach


def censored_quantiles(values: Numbers, probabilities: tuple[float, ...]) -> tuple[float, ...] | None:
    """Return quantiles of (N,) values some of which may be infinite (never reached); None without values.

    Each is the mean of the two values next to it in order, as a median is: infinite where one of the two is.
    `numpy.quantile` would give NaN there.
    """
    if len(values) == 0:
        return None
    ordered = np.sort(values)
    # rounding takes back what a product such as 10 * 0.3 is off by
    places = [round((len(values) - 1) * probability, 9) for probability in probabilities]
    return tuple(float(ordered[math.floor(place)] + ordered[math.ceil(place)]) / 2.0 for place in places)

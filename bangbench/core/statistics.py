"""Estimates with 95 % intervals: proportions, means and quantiles of one model, and differences between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, spearmanr, t

Interval = tuple[float, float]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]

_LEVEL = 0.95
_UPPER = (1.0 + _LEVEL) / 2.0
_RESAMPLES = 9999
#: A search for the end of an interval starts this far from the estimate, where the score may be 0 / 0.
_BESIDE = 1e-12
#: A standard deviation below this share of the mean is the rounding of equal values.
_ROUNDING = 1e-12
#: Above so many values the bootstrap of a mean may be computed from its cumulants instead of resampled: the series
#: stops after the fourth, so it is off where the mean is skewed or heavy-tailed (from a few rare values, say).
_SIMULATED = 200
_MOST_SKEWNESS, _MOST_KURTOSIS = 0.2, 0.04
#: Entries of one block of resamples, 8 bytes each.
_BLOCK = 2**20
#: Counting how often each distinct value is drawn is faster than drawing the values one by one where this many share
#: one, on average.
_SHARED = 8
#: Five values of one sign are no evidence at 95 % (2 / 2^5 > 0.05), but any resample of them has that sign.
_FEWEST = 6


class Estimate(NamedTuple):
    """A number with its 95 % interval; None where there are too few values for one, or all are the same."""

    value: float
    interval: Interval | None


class MeanOfFew(NamedTuple):
    """Mean, standard deviation (n - 1) and ends of the 95 % t interval; only the mean where n = 1.

    No ends where all values are the same.
    """

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


def mcnemar(only_first: int, only_second: int, alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """Return the p value of McNemar's exact test, given how many images only one of two models gets.

    alternative: that the rates differ, or that the first one's is greater.
    """
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5, alternative=alternative).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for being several, in their order (Holm 1979, Scandinavian Journal of Statistics 6).

    Those below alpha belong to false hypotheses, all of them, with a probability of at least 1 - alpha, however the
    tests depend on each other.
    """
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def paired_rate_difference(first: Flags, second: Flags) -> Estimate | None:
    """Return the rate of `first` minus that of `second`, both (N,), in percentage points, with its 95 % interval.

    Tango's score interval (1998, Statistics in Medicine 17, p. 891): the differences that a score test of the N pairs
    does not reject. It has a width where no image differs, too: 100 z^2 / (N + z^2) points to both sides, z = 1.96. It
    leaves out zero where McNemar's test without a correction rejects equal rates; the exact `mcnemar` does more rarely.
    None without images.
    """
    images = len(first)
    if images == 0:
        return None
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    low = _tango_low(only_first, only_second, images)
    high = -_tango_low(only_second, only_first, images)
    return Estimate(100.0 * (only_first - only_second) / images, (100.0 * low, 100.0 * high))


def _tango_low(only_first: int, only_second: int, pairs: int) -> float:
    """Return the lower end of Tango's interval of the first proportion minus the second."""
    if only_second == pairs:
        return -1.0
    surplus, reach = only_first - only_second, float(norm.ppf(_UPPER))

    def excess(difference: float) -> float:
        """Return by how much the surplus lies above its expectation at a difference, less `reach` standard errors."""
        # the likeliest probability of "only the second", given the difference, solves a quadratic equation
        linear = (2 * pairs - surplus) * difference - only_first - only_second
        constant = -only_second * difference * (1.0 - difference)
        probability = (math.sqrt(max(0.0, linear**2 - 8.0 * pairs * constant)) - linear) / (4.0 * pairs)
        variance = pairs * max(0.0, 2.0 * probability + difference * (1.0 - difference))
        return surplus - pairs * difference - reach * math.sqrt(variance)

    return float(brentq(excess, -1.0, surplus / pairs - _BESIDE))


def paired_mean_difference(
    first: Numbers, second: Numbers, seed: int = 0, resamples: int = _RESAMPLES
) -> Estimate | None:
    """Return the mean of `first` minus that of `second`, both (N,): the `mean_interval` of the N pairs."""
    return mean_interval(first - second, seed, resamples)


def mean_interval(values: Numbers, seed: int = 0, resamples: int = _RESAMPLES) -> Estimate | None:
    """Return the mean of (N,) values with its 95 % bootstrap interval; None without values.

    The expanded percentile interval (Hesterberg 2015, The American Statistician 69): its tail is widened by the t
    quantile and sqrt(n / (n - 1)), without which few values give too narrow an interval. It never leaves the range
    of the values. Fewer than 6 values have none, and neither do values that are all the same: they tell nothing of
    how far another sample would be off. The values are resampled, in memory that does not grow with them; where
    there are more than 200 and their mean is nearly normal, the quantiles of the same bootstrap distribution are
    approximated from its first four cumulants (Cornish and Fisher 1938), which takes next to no time.
    """
    count = len(values)
    if count == 0:
        return None
    mean = float(np.mean(values))
    lowest, highest = float(np.min(values)), float(np.max(values))
    if count < _FEWEST or not math.isfinite(mean) or lowest == highest:
        return Estimate(mean, None)
    reach = float(t.ppf(_UPPER, count - 1)) * math.sqrt(count / (count - 1))
    ends = _cumulant_interval(values, reach) if count > _SIMULATED else None
    if ends is None:
        means = _resampled_means(values, np.random.default_rng(seed), resamples)
        low, high = np.quantile(means, [float(norm.cdf(-reach)), float(norm.cdf(reach))])
        ends = float(low), float(high)
    return Estimate(mean, (max(ends[0], lowest), min(ends[1], highest)))


def _resampled_means(values: Numbers, generator: np.random.Generator, resamples: int) -> Numbers:
    """Return the means of so many samples with replacement, each as large as `values`, block by block."""
    distinct, counts = np.unique(values, return_counts=True)
    count, shared = len(values), len(distinct) * _SHARED <= len(values)
    rows = max(1, _BLOCK // (len(distinct) if shared else count))
    blocks = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        if shared:
            # how often each value is drawn is multinomial
            blocks.append(generator.multinomial(count, counts / count, size=size) @ distinct / count)
        else:
            blocks.append(values[generator.integers(count, size=(size, count))].mean(axis=1))
    return np.concatenate(blocks)


def _cumulant_interval(values: Numbers, reach: float) -> Interval | None:
    """Return the quantiles, `reach` standard normal deviations to both sides, of the mean of resampled values.

    None where that mean is too far from normal for its first four cumulants to say.
    """
    count, mean = len(values), float(np.mean(values))
    deviations = values - mean
    scale = float(np.abs(deviations).max())
    deviations /= scale  # squares of tiny deviations underflow
    variance = float(np.mean(deviations**2))
    skewness = float(np.mean(deviations**3)) / variance**1.5 / math.sqrt(count)
    kurtosis = (float(np.mean(deviations**4)) / variance**2 - 3.0) / count
    if abs(skewness) > _MOST_SKEWNESS or abs(kurtosis) > _MOST_KURTOSIS:
        return None
    error = scale * math.sqrt(variance / count)
    low, high = (error * _cornish_fisher(z, skewness, kurtosis) for z in (-reach, reach))
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
    """Return mean, standard deviation (n - 1) and 95 % t interval of (N,) values, for a handful; None without any.

    The ends are None where `t_interval_ends` has none.
    """
    count = len(values)
    if count == 0:
        return None
    std = float(np.std(values, ddof=1)) if count > 1 else None
    low, high = (float(end) for end in t_interval_ends(values))
    mean = float(np.mean(values))
    return MeanOfFew(mean, std, None, None) if math.isnan(low) else MeanOfFew(mean, std, low, high)


def t_interval_ends(values: Numbers) -> tuple[Numbers, Numbers]:
    """Return both ends of the 95 % t interval of the mean over the last axis, of values independent of each other.

    NaN where there are fewer than two values or all are the same, which tell nothing of their spread.
    """
    count, mean = values.shape[-1], np.mean(values, axis=-1)
    if count < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    reach = float(t.ppf(_UPPER, count - 1)) * np.std(values, axis=-1, ddof=1) / math.sqrt(count)
    margin = np.where(np.ptp(values, axis=-1) > 0.0, reach, np.nan)
    return mean - margin, mean + margin


def prediction_interval(values: Numbers) -> Interval | None:
    """Return the 95 % interval that one more value of the kind of these (N,) lies in: mean ± t s sqrt(1 + 1 / N).

    t: with N - 1 degrees of freedom; the values are taken as normal and independent. With two of them it reaches 15.6 s
    to both sides. None where there are fewer than two values or all are the same, which tell nothing of their spread.
    """
    found = t_interval(values)
    if found is None or found.low is None or found.high is None:
        return None
    reach = (found.high - found.low) / 2.0 * math.sqrt(len(values) + 1)
    return found.mean - reach, found.mean + reach


def rank_correlation(first: Numbers, second: Numbers) -> Estimate | None:
    """Return Spearman's rank correlation of two (N,), with its 95 % interval.

    Fisher's z with the standard error sqrt((1 + rho^2 / 2) / (N - 3)) of Bonett and Wright (2000, Psychometrika 65),
    which holds for 10 pairs and more; too narrow beyond 0.95. None where fewer than three pairs are there, or all
    values of one are the same; without an interval with three pairs, or where the ranks agree perfectly.
    """
    count = len(first)
    if count < 3 or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return None
    rho = float(spearmanr(first, second).statistic)
    if count == 3 or abs(rho) > 1.0 - _ROUNDING:
        return Estimate(rho, None)
    reach = float(norm.ppf(_UPPER)) * math.sqrt((1.0 + rho**2 / 2.0) / (count - 3))
    return Estimate(rho, (math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach)))


def welch_interval(mean1: float, std1: float, n1: int, mean2: float, std2: float, n2: int) -> Interval | None:
    """Return the 95 % interval of the first of two independent means minus the second, by Welch's t.

    std1, std2: sample standard deviations (n - 1). None where one of them has fewer than two values, or only equal
    ones, which tell nothing of their spread.
    """
    if min(n1, n2) < 2 or std1 <= _ROUNDING * abs(mean1) or std2 <= _ROUNDING * abs(mean2):
        return None
    error1, error2 = std1 / math.sqrt(n1), std2 / math.sqrt(n2)
    error, difference = math.hypot(error1, error2), mean1 - mean2
    freedom = 1.0 / ((error1 / error) ** 4 / (n1 - 1) + (error2 / error) ** 4 / (n2 - 1))
    reach = float(t.ppf(_UPPER, freedom)) * error
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

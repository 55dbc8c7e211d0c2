"""Every interval against scipy, a closed form or a published example."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from bangbench.core.statistics import (
    censored_quantiles,
    holm,
    mcnemar,
    mean_interval,
    newcombe_interval,
    paired_mean_difference,
    paired_rate_difference,
    prediction_interval,
    rank_correlation,
    t_interval,
    t_interval_ends,
    welch_interval,
    wilson_interval,
)

SEEDS = st.integers(0, 2**32 - 1)
Z = stats.norm.ppf(0.975)


@st.composite
def proportions(draw):
    trials = draw(st.integers(1, 12000))
    return draw(st.integers(0, trials)), trials


def wilson(successes, trials):
    """Return the closed form, as proportions."""
    rate = successes / trials
    middle = (rate + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
    half = Z * math.sqrt(rate * (1 - rate) / trials + Z**2 / (4 * trials**2)) / (1 + Z**2 / trials)
    return middle - half, middle + half


def table(both, only_first, only_second, neither):
    """Return two arrays of flags with these counts, in mixed order."""
    order = np.random.default_rng(1).permutation(both + only_first + only_second + neither)
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    return first[order], second[order]


@settings(max_examples=30, deadline=None)
@given(proportions())
def test_the_wilson_interval_is_the_closed_form_in_percent(counts):
    assert wilson_interval(*counts) == pytest.approx([100 * end for end in wilson(*counts)], abs=1e-9)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        # Newcombe 1998, table II, method 10
        ((56, 70, 48, 80), (5.24, 33.39)),
        ((9, 10, 3, 10), (17.05, 80.90)),
        ((5, 56, 0, 29), (-3.81, 19.26)),
        ((0, 10, 0, 20), (-16.11, 27.75)),
        ((10, 10, 0, 20), (67.91, 100.00)),
    ],
)
def test_newcombes_interval_gives_newcombes_own_examples(counts, interval):
    assert newcombe_interval(*counts) == pytest.approx(interval, abs=0.006)


@settings(max_examples=30, deadline=None)
@given(proportions(), proportions())
def test_newcombes_interval_is_the_closed_form_and_turns_its_sign_with_the_order(first, second):
    (low1, high1), (low2, high2) = wilson(*first), wilson(*second)
    rate1, rate2 = first[0] / first[1], second[0] / second[1]
    low = rate1 - rate2 - math.sqrt((rate1 - low1) ** 2 + (high2 - rate2) ** 2)
    high = rate1 - rate2 + math.sqrt((high1 - rate1) ** 2 + (rate2 - low2) ** 2)

    found = newcombe_interval(*first, *second)

    assert found == pytest.approx((100 * low, 100 * high), abs=1e-9)
    assert newcombe_interval(*second, *first) == pytest.approx((-found[1], -found[0]), abs=1e-9)


def test_without_trials_there_is_no_interval_of_a_proportion():
    assert wilson_interval(0, 0) is None
    assert newcombe_interval(0, 0, 1, 2) is None
    assert newcombe_interval(1, 2, 0, 0) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test_of_the_images_that_differ(only_first, only_second):
    tail = stats.binom.cdf(min(only_first, only_second), only_first + only_second, 0.5)

    assert mcnemar(only_first, only_second) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(only_first, only_second) == mcnemar(only_second, only_first)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 300), st.integers(1, 300))
def test_the_one_sided_mcnemar_counts_only_what_speaks_for_more(only_first, only_second):
    tail = stats.binom.sf(only_first - 1, only_first + only_second, 0.5)

    assert mcnemar(only_first, only_second, "greater") == pytest.approx(tail)
    assert mcnemar(0, only_second, "greater") == 1.0


def test_images_that_do_not_differ_are_no_evidence():
    assert mcnemar(0, 0) == mcnemar(0, 0, "greater") == 1.0


def test_holms_adjustment_of_four_p_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), max_size=12), st.floats(0.001, 0.5))
def test_holms_adjusted_values_reject_what_his_procedure_does(p_values, alpha):
    rejected = set()
    for left, place in zip(range(len(p_values), 0, -1), np.argsort(p_values, kind="stable"), strict=True):
        if left * p_values[place] > alpha:
            break
        rejected.add(place)

    assert {place for place, value in enumerate(holm(p_values)) if value <= alpha} == rejected


@pytest.mark.parametrize(
    ("cells", "interval"),
    [
        # Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33: airway hyper-responsiveness, complete response
        ((1, 1, 7, 12), (-51.73, -2.60)),
        ((59, 6, 16, 80), (-12.40, -0.54)),
    ],
)
def test_the_interval_of_paired_rates_is_the_published_one_of_tango(cells, interval):
    difference, found = paired_rate_difference(*table(*cells))

    assert difference == pytest.approx(100.0 * (cells[1] - cells[2]) / sum(cells))
    # the ends are published in units of 0.0001, rounded
    assert found == pytest.approx(interval, abs=0.011)


def score(only_first, only_second, pairs, difference):
    """Return the score statistic of a difference of paired proportions, its likelihood maximised by search."""

    def unlikely(second):
        probabilities = np.array([second + difference, second, 1.0 - 2.0 * second - difference])
        counts = np.array([only_first, only_second, pairs - only_first - only_second])
        seen = counts > 0
        return -float(counts[seen] @ np.log(np.maximum(probabilities[seen], 1e-300)))

    limits = max(0.0, -difference), (1.0 - difference) / 2.0
    second = optimize.minimize_scalar(unlikely, bounds=limits, method="bounded", options={"xatol": 1e-12}).x
    return (only_first - only_second - pairs * difference) / math.sqrt(
        pairs * (2.0 * second + difference - difference**2)
    )


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 60)] * 4).filter(lambda cells: sum(cells) > 0))
def test_the_ends_of_the_interval_of_paired_rates_are_where_the_score_test_begins_to_reject(cells):
    both, only_first, only_second, neither = cells
    _, (low, high) = paired_rate_difference(*table(*cells))

    for end, reach in ((low, Z), (high, -Z)):
        if abs(end) < 100.0:
            assert score(only_first, only_second, sum(cells), end / 100.0) == pytest.approx(reach, abs=1e-3)
    assert (low == -100.0) == (only_second == sum(cells))
    assert (high == 100.0) == (only_first == sum(cells))
    assert paired_rate_difference(*table(both, only_second, only_first, neither)).interval == pytest.approx(
        (-high, -low), abs=1e-7
    )


@pytest.mark.parametrize("count", [1, 5, 100, 10_000])
def test_images_that_do_not_differ_leave_a_difference_open(count):
    reach = 100.0 * Z**2 / (count + Z**2)

    found = paired_rate_difference(*table(0, 0, 0, count))

    assert found == (0.0, pytest.approx((-reach, reach), rel=1e-6))
    assert found == paired_rate_difference(*table(count, 0, 0, 0))
    assert paired_rate_difference(*table(0, count, 0, 0)).interval == pytest.approx((100.0 - 2 * reach, 100.0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 200))
def test_the_interval_leaves_out_zero_where_mcnemars_test_without_a_correction_rejects(first, second, alike):
    if first + second + alike == 0:
        return
    _, (low, high) = paired_rate_difference(*table(alike, first, second, 0))

    assert (low > 0.0 or high < 0.0) == ((first - second) ** 2 > Z**2 * (first + second))


@pytest.mark.parametrize("count", [5, 20, 40])
def test_the_interval_of_paired_rates_holds_the_true_difference_as_often_as_it_says(count):
    """Over all tables of so many images; a bootstrap of images that seldom differ is often [0, 0] and holds nothing."""
    tables = [(first, second) for first in range(count + 1) for second in range(count + 1 - first)]
    ends = np.array([paired_rate_difference(*table(0, *pair, count - sum(pair))).interval for pair in tables])
    kept = []
    for rate1, rate2 in ((0.01, 0.01), (0.02, 0.05), (0.1, 0.1), (0.1, 0.4), (0.02, 0.9), (0.3, 0.3), (0.45, 0.5)):
        counts = np.array([(*pair, count - sum(pair)) for pair in tables])
        likely = stats.multinomial.pmf(counts, count, [rate1, rate2, 1.0 - rate1 - rate2])
        truth = 100.0 * (rate1 - rate2)
        kept.append(likely[(ends[:, 0] <= truth) & (truth <= ends[:, 1])].sum())

    assert min(kept) > 0.93
    assert np.mean(kept) > 0.95


def test_without_images_there_is_no_difference_of_rates():
    assert paired_rate_difference(*table(0, 0, 0, 0)) is None


def expanded(count):
    """Return the confidence level at which scipy's plain percentile interval is the expanded one."""
    return 1.0 - 2.0 * stats.norm.sf(stats.t.ppf(0.975, count - 1) * math.sqrt(count / (count - 1)))


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([20, 60, 199, 201, 400]), st.sampled_from(["normal", "exponential", "integers"]), SEEDS)
def test_the_interval_of_a_mean_is_scipys_bootstrap_whether_resampled_or_computed(count, kind, seed):
    generator = np.random.default_rng(seed)
    values = {
        "normal": lambda: generator.normal(3.0, 2.0, count),
        "exponential": lambda: generator.exponential(5.0, count),
        "integers": lambda: generator.integers(0, 256, count).astype(float),
    }[kind]()
    scipys = stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=expanded(count), n_resamples=4999, rng=generator
    )

    found = mean_interval(values)

    assert found.value == pytest.approx(values.mean())
    assert found.interval == pytest.approx(scipys.confidence_interval, abs=0.2 * scipys.standard_error)


def test_the_computed_quantiles_follow_the_skewness_of_the_values():
    values = np.random.default_rng(0).gamma(0.15, size=250)
    low, high = mean_interval(values).interval
    below, above = values.mean() - low, high - values.mean()
    resampled = values[np.random.default_rng(1).integers(250, size=(40000, 250))].mean(axis=1)
    tail = (1.0 - expanded(250)) / 2.0

    assert above > 1.1 * below
    assert (low, high) == pytest.approx(np.quantile(resampled, [tail, 1.0 - tail]), abs=0.05 * resampled.std())


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 400), SEEDS)
def test_pairs_are_compared_pair_by_pair(count, seed):
    generator = np.random.default_rng(seed)
    first = generator.normal(100.0, 30.0, count)
    second = first - 1.0 + generator.normal(0.0, 0.1, count)

    value, (low, high) = paired_mean_difference(first, second, seed)

    assert value == pytest.approx(np.mean(first) - np.mean(second))
    assert 0.7 < low <= value <= high < 1.3, "the spread between images is no part of it"


def test_a_bootstrap_of_a_few_values_is_not_called_an_interval():
    assert mean_interval(np.array([])) is None
    assert mean_interval(np.array([4.0])) == (4.0, None)
    assert mean_interval(np.arange(5.0)) == (2.0, None)
    assert mean_interval(np.arange(6.0)).interval is not None


@pytest.mark.parametrize("count", [10, 1000])
def test_equal_values_have_no_interval(count):
    assert mean_interval(np.full(count, 7.1)) == (pytest.approx(7.1), None)
    assert t_interval(np.full(count, 7.1))[2:] == (None, None)


def test_a_mean_that_is_not_a_number_has_no_interval():
    assert mean_interval(np.array([1.0, np.nan] * 150)).interval is None


@pytest.mark.parametrize("rare", [(100.0,), (100.0, 100.0), (-100.0, 100.0), (5.0,) * 3])
@pytest.mark.parametrize("count", [201, 1000])
def test_the_interval_of_rare_values_is_that_of_the_resamples(rare, count):
    values = np.zeros(count)
    values[: len(rare)] = rare
    resampled = values[np.random.default_rng(9).integers(count, size=(20000, count), dtype=np.int16)].mean(axis=1)
    tail = (1.0 - expanded(count)) / 2.0

    assert mean_interval(values).interval == pytest.approx(np.quantile(resampled, [tail, 1.0 - tail]), abs=1e-9)


def test_no_interval_leaves_the_range_of_the_values():
    one = np.array([100.0] + [0.0] * 200)

    assert mean_interval(one).interval[0] == 0.0
    assert mean_interval(100.0 - one).interval[1] == 100.0


def test_many_distinct_skewed_values_are_resampled_in_blocks():
    values = np.random.default_rng(0).lognormal(0.0, 2.5, 5000)
    low, high = mean_interval(values, resamples=999).interval

    assert (low, high) == mean_interval(values, resamples=999).interval, "the same seed, the same interval"
    assert values.mean() - low < 0.9 * (high - values.mean())


@pytest.mark.parametrize(("count", "fewest"), [(8, 180), (300, 186)])
def test_the_interval_of_a_mean_holds_the_true_mean_in_most_of_200_samples(count, fewest):
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        low, high = mean_interval(generator.normal(2.0, 1.0, count), resamples=1999).interval
        held += low <= 2.0 <= high

    # the plain percentile interval of 8 values holds it in fewer than 180
    assert fewest <= held <= 197


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12))
def test_the_t_interval_is_that_of_the_one_sample_t_test(values):
    found = t_interval(np.array(values))
    std = np.std(values, ddof=1)

    assert found[:2] == pytest.approx((np.mean(values), std))
    if std > 1e-6 * (1.0 + abs(found.mean)):
        assert (found.low, found.high) == pytest.approx(
            tuple(stats.ttest_1samp(values, 0.0).confidence_interval(0.95)), rel=1e-6, abs=1e-6
        )


def test_the_t_interval_of_two_values_is_twelve_times_as_wide_as_their_error():
    found = t_interval(np.array([1.0, 3.0]))

    assert found.high - found.mean == pytest.approx(12.7062 * math.sqrt(2.0) / math.sqrt(2.0), abs=1e-4)
    assert found.std == pytest.approx(math.sqrt(2.0))


def test_the_ends_of_many_t_intervals_are_scipys():
    values = np.random.default_rng(3).normal(40, 12, (2, 3, 25))

    ends = t_interval_ends(values)

    expected = stats.t.interval(0.95, 24, loc=values.mean(-1), scale=stats.sem(values, axis=-1))
    np.testing.assert_allclose(ends, expected, rtol=1e-12)


def test_a_t_interval_covers_the_mean_as_often_as_it_says():
    low, high = t_interval_ends(np.random.default_rng(5).normal(50.0, 9.0, (20_000, 6)))

    assert np.mean((low <= 50.0) & (high >= 50.0)) == pytest.approx(0.95, abs=0.006)


def test_the_ends_are_unknown_for_one_value_and_for_equal_ones():
    low, high = t_interval_ends(np.array([[0.0, 0.0, 1.0], [0.1, 0.1, 0.1]]))

    assert low[0] < 0.0 < high[0]
    assert np.isnan([low[1], high[1], *t_interval_ends(np.array([3.0]))]).all()


def test_one_value_has_a_mean_and_no_spread():
    assert t_interval(np.array([99.1])) == (99.1, None, None, None)
    assert t_interval(np.array([])) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 500), st.integers(2, 500), st.floats(0.1, 100.0), SEEDS)
def test_welchs_interval_is_scipys(count1, count2, scale, seed):
    generator = np.random.default_rng(seed)
    first, second = generator.normal(1.0, 1.0, count1), generator.normal(0.0, scale, count2)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)

    found = welch_interval(first.mean(), first.std(ddof=1), count1, second.mean(), second.std(ddof=1), count2)

    assert found == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)


def test_welchs_interval_needs_two_values_of_both_that_are_not_the_same():
    assert welch_interval(1.0, 0.0, 1, 2.0, 1.0, 50) is None
    assert welch_interval(1.0, 1.0, 50, 2.0, 0.0, 1) is None
    assert welch_interval(3.0, 0.0, 5, 2.0, 0.0, 6) is None
    assert welch_interval(3.0, 0.0, 5, 2.0, 1.0, 6000) is None, "nothing is known of how far the first mean may be off"
    assert welch_interval(3.0, 1.0, 6000, 2.0, 0.0, 5) is None


def test_equal_values_have_no_spread_though_rounding_gives_them_one():
    equal = np.full(1000, 0.1)
    std = float(np.sqrt(np.mean((equal - (equal.mean() + 1e-17)) ** 2)))

    assert std > 0.0
    assert welch_interval(0.1, std, 1000, 0.2, 0.1, 1000) is None


def test_welchs_interval_of_tiny_spreads_is_not_lost_to_rounding():
    low, high = welch_interval(0.0, 1e-170, 10, 0.0, 1e-170, 10)

    assert -low == high == pytest.approx(stats.t.ppf(0.975, 18) * math.sqrt(0.2) * 1e-170)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 255.0), min_size=1, max_size=40))
def test_quantiles_of_finite_values_are_numpys_midpoints(values):
    wanted = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)

    found = censored_quantiles(np.array(values), wanted)

    assert found == pytest.approx(np.quantile(values, wanted, method="midpoint"))
    assert found[3] == pytest.approx(np.median(values))


@pytest.mark.parametrize(
    ("values", "median"),
    [([1, 2, np.inf], 2.0), ([1, np.inf, 3, np.inf], np.inf), ([np.inf, np.inf], np.inf), ([5, 1, np.inf, 2], 3.5)],
)
def test_a_quantile_is_infinite_where_a_value_beside_it_is_and_never_nan(values, median):
    assert censored_quantiles(np.array(values, dtype=float), (0.5,)) == (median,)


def test_without_values_there_are_no_quantiles():
    assert censored_quantiles(np.array([]), (0.5,)) is None


@pytest.mark.parametrize("count", [2, 5])
def test_of_the_prediction_intervals_of_normal_values_95_percent_hold_the_next_one(count):
    draws = np.random.default_rng(count).normal(90.0, 2.0, (2000, count + 1))

    held = [low <= row[-1] <= high for row in draws for low, high in [prediction_interval(row[:-1])]]

    assert np.mean(held) == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / len(draws)))


def test_the_prediction_interval_is_the_t_quantile_over_the_seeds():
    low, high = prediction_interval(np.array([99.0, 99.1, 99.3]))

    t = stats.t(2, loc=np.mean([99.0, 99.1, 99.3]), scale=np.std([99.0, 99.1, 99.3], ddof=1) * math.sqrt(4 / 3))
    assert (low, high) == pytest.approx(t.interval(0.95))


@pytest.mark.parametrize("values", [[], [99.0], [99.0, 99.0, 99.0]])
def test_values_without_spread_predict_nothing(values):
    assert prediction_interval(np.array(values)) is None


def test_the_interval_of_a_rank_correlation_holds_that_of_the_population_in_95_percent():
    pearson = 0.6
    truth = 6 / math.pi * math.asin(pearson / 2)  # of normal values
    generator = np.random.default_rng(3)
    samples = generator.multivariate_normal([0, 0], [[1, pearson], [pearson, 1]], (700, 30))

    held = [
        low <= truth <= high for pairs in samples for low, high in [rank_correlation(pairs[:, 0], pairs[:, 1]).interval]
    ]

    assert np.mean(held) == pytest.approx(0.95, abs=0.025)


def test_ranks_tell_nothing_without_spread_and_have_no_interval_where_they_agree():
    rising = np.arange(5.0)

    assert rank_correlation(rising[:2], rising[:2]) is None
    assert rank_correlation(rising, np.ones(5)) is None
    assert rank_correlation(rising, -(rising**3)) == (pytest.approx(-1.0), None)
    assert rank_correlation(rising[:3], np.array([1.0, 3.0, 2.0])) == (pytest.approx(0.5), None)

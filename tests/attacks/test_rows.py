"""The numbers of a summary, recomputed from columns made by hand."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from bangbench.attacks.rows import parquet_columns, summarise
from bangbench.core.statistics import wilson_interval


def columns_of(linf, blank=0, wrong=0):
    """One row per entry of `linf`, None for an attack that failed, the first `blank` of these blank; then `wrong`."""
    flipped = np.array([value is not None for value in linf] + [False] * wrong, dtype=bool)
    known = np.array([np.nan if value is None else value for value in linf] + [np.nan] * wrong, dtype=np.float32)
    failures = np.flatnonzero(~flipped[: len(linf)])
    attacked = np.arange(len(flipped)) < len(linf)
    status = np.where(flipped, 0, -1).astype(np.int8)
    return {
        "index": np.arange(len(flipped), dtype=np.int32),
        "label": np.zeros(len(flipped), dtype=np.int16),
        "prediction": np.where(attacked, 0, 1).astype(np.int16),
        "attacked": attacked,
        "blank": np.isin(np.arange(len(flipped)), failures[:blank]),
        "flipped": flipped,
        "adversarial_prediction": np.where(flipped, 1, -1).astype(np.int16),
        "gradient_max": np.where(attacked, np.float32(1.0), np.float32(np.nan)),
        "margin": np.ones(len(flipped), dtype=np.float32),
        "true_logit": np.ones(len(flipped), dtype=np.float32),
        "ecc_status": status,
        "ecc_status_paper": status.copy(),
        **{name: known.copy() for name in ("scale", "linf", "l2")},
        **{name: known.astype(np.float64) / 256 for name in ("pass", "pass_paper", "ssim")},
    }


def test_rates_are_percent_of_the_correct_images_and_accuracy_of_all():
    summary = summarise(columns_of([3, 5, None, None, None], blank=2, wrong=3), 1, 70, 2.5)
    assert (summary.images, summary.correct, summary.flipped) == (8, 5, 2)
    assert summary.accuracy == 62.5
    assert summary.rate == 40.0
    assert summary.blank == 40.0
    assert (summary.unverified, summary.forwards, summary.seconds) == (1, 70, 2.5)


def test_moments_are_over_the_flipped_images_with_the_population_deviation():
    summary = summarise(columns_of([2, 4, 9, None, None]), 0, 0, 0.0)
    assert summary.linf.mean == 5.0
    assert summary.linf.std == pytest.approx(math.sqrt(26 / 3))
    assert summary.l2.std == pytest.approx(math.sqrt(26 / 3))
    assert summary.pass_definition.mean == pytest.approx(5 / 256)
    assert summary.pass_paper.std == pytest.approx(math.sqrt(26 / 3) / 256)
    assert summary.unaligned.mean == pytest.approx(5 / 256)


@pytest.mark.parametrize(
    ("linf", "median"),
    [
        ([7, 3, 5], 5.0),
        ([7, 3, 5, 4], 4.5),
        ([7, 3, 5, None], 6.0),  # a quarter fails
        ([7, 3, 5, None, None], 7.0),  # fewer than half fail
        ([7, 3, None, None, None], None),  # more than half
        ([7, 3, None, None], None),  # exactly half: between the largest finite and infinity
        ([None], None),
        ([6], 6.0),
        ([], None),
    ],
)
def test_the_median_counts_failures_as_infinite(linf, median):
    assert summarise(columns_of(linf, wrong=1), 0, 0, 0.0).linf.median_censored == median
    if linf:
        everyone = [math.inf if value is None else value for value in linf]
        assert statistics.median(everyone) == (math.inf if median is None else median)


def wilson(successes, trials):
    """Wilson 1927, eq. 4 in Brown, Cai and DasGupta 2001, in percent."""
    z = 1.959963984540054
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return 100 * (centre - half), 100 * (centre + half)


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (3, 10), (8957, 9916), (167, 9922), (50, 50)])
def test_the_interval_is_wilson_s(successes, trials):
    assert wilson_interval(successes, trials) == pytest.approx(wilson(successes, trials), abs=1e-9)


def test_there_is_no_interval_without_trials():
    assert wilson_interval(0, 0) is None


def test_where_pass_is_left_out_its_moments_are_missing_and_no_alignment_failed():
    columns = columns_of([3, 5, None])
    for name in ("pass", "pass_paper", "ssim"):
        columns[name][:] = np.nan
    for name in ("ecc_status", "ecc_status_paper"):
        columns[name][:] = -1
    summary = summarise(columns, 0, 0, 0.0)
    assert summary.pass_definition.mean is None
    assert summary.pass_paper.std is None
    assert summary.ecc_failures == {"definition": 0, "paper": 0}
    assert summary.linf.mean == 4.0


def test_failed_alignments_are_counted_for_each_preset():
    columns = columns_of([3, 5, 7, None])
    columns["ecc_status"][:3] = (0, 1, 2)
    columns["ecc_status_paper"][:3] = (0, 0, 2)
    assert summarise(columns, 0, 0, 0.0).ecc_failures == {"definition": 2, "paper": 1}


def test_missing_values_become_nulls_and_nothing_else_does():
    table = parquet_columns(columns_of([3, None], wrong=1))
    for name in ("scale", "linf", "pass", "adversarial_prediction", "ecc_status"):
        assert np.ma.getmaskarray(table[name]).tolist() == [False, True, True]
    assert np.ma.getmaskarray(table["gradient_max"]).tolist() == [False, False, True]
    for name in ("index", "label", "prediction", "attacked", "blank", "flipped", "margin", "true_logit"):
        assert not np.ma.getmaskarray(table[name]).any()

"""When a cell has been drawn often enough, and after how many draws to look."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from bangbench.noise.precision import cell_interval, narrow_cells, round_ends


def exact_interval(flipped: int, copies: int, cells: int) -> tuple[float, float]:
    """Return Clopper and Pearson's interval, in percent, as quantiles of the beta distribution."""
    tail = 0.05 / cells / 2
    low = beta.ppf(tail, flipped, copies - flipped + 1) if flipped else 0.0
    high = beta.ppf(1 - tail, flipped + 1, copies - flipped) if flipped < copies else 1.0
    return 100 * float(low), 100 * float(high)


def width_of(flipped: int, copies: int, cells: int) -> float:
    low, high = exact_interval(flipped, copies, cells)
    return high - low


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 400), st.floats(0.2, 60.0), st.integers(1, 30))
def test_the_first_round_ends_where_a_cell_without_a_flip_is_done_and_not_before(images, cells, precision, draws):
    first = round_ends(images, cells, precision, draws)[0]
    assert 1 <= first <= draws
    assert first == draws or width_of(0, first * images, cells) < precision
    assert first == 1 or width_of(0, (first - 1) * images, cells) >= precision


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 400), st.floats(0.1, 60.0), st.integers(1, 1000))
def test_each_round_ends_at_half_as_much_again_and_the_last_at_all_draws(images, cells, precision, draws):
    ends = round_ends(images, cells, precision, draws)
    assert ends[-1] == draws
    for last, end in itertools.pairwise(ends):
        assert end == min(draws, math.ceil(1.5 * last)) > last


def test_the_rounds_of_the_paper_s_size_start_at_two_draws():
    """Without a flip the upper end is 1 - (0.025 / 400)^(1 / n): below 0.5 % from n = 1,932 on, 2 draws of 1,000."""
    assert round_ends(1000, 400, 0.5, 1000) == (
        2, 3, 5, 8, 12, 18, 27, 41, 62, 93, 140, 210, 315, 473, 710, 1000,
    )  # fmt: skip


def test_a_precision_out_of_reach_takes_all_draws_in_one_round():
    assert round_ends(10, 8, 0.01, 50) == (50,)
    assert round_ends(10, 8, 100.0, 50)[0] == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000).flatmap(lambda copies: st.tuples(st.integers(0, copies), st.just(copies))))
def test_an_interval_holds_its_percentage_and_grows_with_the_number_of_cells(counts):
    flipped, copies = counts
    alone, among_many = (cell_interval(flipped, copies, cells) for cells in (1, 100))
    assert alone == pytest.approx(exact_interval(flipped, copies, 1), abs=1e-6)
    assert among_many[0] <= alone[0] <= 100 * flipped / copies + 1e-9
    assert 100 * flipped / copies - 1e-9 <= alone[1] <= among_many[1]


def test_cells_are_done_where_their_interval_is_narrower_than_the_precision_and_not_as_wide():
    flipped = np.array([0, 3, 250, 500])
    low, high = cell_interval(3, 500, 40)
    assert high - low == pytest.approx(width_of(3, 500, 40), abs=1e-6)
    assert narrow_cells(flipped, 500, 40, high - low).tolist() == [True, False, False, True]
    assert narrow_cells(flipped, 500, 40, np.nextafter(high - low, 100.0)).tolist() == [True, True, False, True]
    assert narrow_cells(flipped, 500, 40, 100.0).all()
    assert narrow_cells(np.array([], dtype=np.int64), 500, 40, 5.0).shape == (0,)


def test_no_copies_at_all_have_no_interval():
    with pytest.raises(ValueError, match="expected at least one copy, found 0"):
        cell_interval(0, 0, 4)


@pytest.mark.parametrize("rate", [0.0003, 0.004, 0.05, 0.5])
def test_an_interval_misses_the_truth_no_more_often_than_its_level_allows(rate):
    """Wilson's fails here: at such levels it misses small rates a dozen times too often."""
    copies, cells = 3000, 400
    counts = np.arange(copies + 1)
    likely = counts[binom.pmf(counts, copies, rate) > 1e-12]
    missed = [count for count in likely.tolist() if not _holds(cell_interval(count, copies, cells), 100 * rate)]
    assert binom.pmf(missed, copies, rate).sum() <= 0.05 / cells


def _holds(interval: tuple[float, float], value: float) -> bool:
    return interval[0] <= value <= interval[1]

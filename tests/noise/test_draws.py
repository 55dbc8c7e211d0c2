"""The noise is a function of (seed, image, draw) alone, and it is standard normal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import Generator, Philox

from bangbench.core.seeds import derive_seed
from bangbench.noise.draws import draws

pytestmark = pytest.mark.exact

SHAPE = (1, 28, 28)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 12), (3, 1), (3, 5), (11, 1)])
def test_a_draw_is_the_same_whatever_block_it_is_asked_for_in(first, count):
    whole = draws(0, 17, 0, 12, SHAPE)
    assert draws(0, 17, first, count, SHAPE).tobytes() == whole[first : first + count].tobytes()


def test_a_draw_equals_that_of_a_newly_constructed_generator():
    key = np.array([derive_seed(5, "noise"), 17], dtype=np.uint64)
    for draw in (0, 1, 999):
        fresh = Generator(Philox(key=key, counter=np.array([0, draw, 0, 0], dtype=np.uint64)))
        expected = fresh.standard_normal(SHAPE, dtype=np.float32)
        np.testing.assert_array_equal(draws(5, 17, draw, 1, SHAPE)[0], expected)


def test_an_odd_number_of_values_leaves_nothing_over_for_the_next_draw():
    whole = draws(0, 0, 0, 6, (1, 3, 3))
    alone = np.concatenate([draws(0, 0, draw, 1, (1, 3, 3)) for draw in range(6)])
    np.testing.assert_array_equal(whole, alone)


def test_other_seeds_images_and_draws_have_noise_of_their_own():
    blocks = [draws(seed, image, 0, 4, SHAPE) for seed in (0, 1) for image in (0, 1, 2)]
    copies = np.concatenate(blocks).reshape(24, -1)
    correlation = np.corrcoef(copies) - np.eye(len(copies))
    assert np.abs(correlation).max() < 5 / np.sqrt(copies.shape[1])


def test_neighbouring_draws_do_not_share_shifted_noise():
    first, second = draws(0, 0, 0, 2, (1, 100, 100)).reshape(2, -1)
    for shift in range(1, 9):
        assert abs(float(np.mean(first[shift:] * second[:-shift]))) < 5 / np.sqrt(first.size)


def test_the_noise_is_standard_normal():
    noise = draws(3, 8, 0, 400, SHAPE)
    assert noise.dtype == np.float32
    assert noise.shape == (400, *SHAPE)
    bound = 5 / np.sqrt(noise.size)
    assert abs(noise.mean(dtype=np.float64)) < bound
    assert abs(noise.std(dtype=np.float64) - 1) < bound
    assert abs(float((np.abs(noise) < 1).mean()) - 0.682689) < bound


def test_the_noise_stays_what_it_was_when_results_were_made():
    assert draws(0, 0, 0, 1, (1, 1, 3)).ravel().tolist() == [
        0.22505700588226318,
        -0.6098900437355042,
        1.8794630765914917,
    ]
    late = draws(0, 1234, 999, 1, (1, 1, 3)).ravel().tolist()
    assert late == [-0.8014414310455322, 0.9566422700881958, -0.25510475039482117]

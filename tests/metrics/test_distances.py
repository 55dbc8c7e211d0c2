"""Distances in grey levels."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.core.errors import BenchError
from bangbench.metrics.distances import l2, linf


def test_changes_in_both_directions_count_without_wrapping_around():
    original = np.array([[0, 255, 10, 10], [5, 5, 5, 5]], np.uint8).reshape(2, 1, 2, 2)
    adversarial = np.array([[255, 0, 7, 14], [5, 5, 5, 2]], np.uint8).reshape(2, 1, 2, 2)
    assert linf(adversarial, original).tolist() == [255, 3]
    assert l2(adversarial, original).tolist() == [np.sqrt(2 * 255**2 + 9 + 16), 3]
    assert linf(original, adversarial).tolist() == [255, 3]


def test_all_channels_count_together(photos):
    change = photos.adversarial.astype(float) - photos.original.astype(float)
    assert linf(*photos).tolist() == np.abs(change).max(axis=(1, 2, 3)).tolist()
    np.testing.assert_allclose(l2(*photos), np.sqrt((change**2).sum(axis=(1, 2, 3))), rtol=1e-14)
    assert linf(*photos).dtype == l2(*photos).dtype == np.float64


def test_the_largest_change_of_a_large_image_does_not_overflow():
    black, white = np.zeros((1, 3, 256, 256), np.uint8), np.full((1, 3, 256, 256), 255, np.uint8)
    assert l2(white, black)[0] == np.sqrt(3 * 256 * 256 * 255**2)


def test_no_images_have_no_distances():
    empty = np.empty((0, 1, 28, 28), np.uint8)
    assert linf(empty, empty).shape == l2(empty, empty).shape == (0,)


@pytest.mark.parametrize("distance", [linf, l2])
def test_wrong_types_and_shapes_are_refused(distance):
    stack = np.zeros((2, 1, 4, 4), np.uint8)
    with pytest.raises(BenchError, match=r"adversarial images: expected uint8 .*found float64 .*round"):
        distance(stack.astype(float), stack)
    with pytest.raises(BenchError, match=r"found \(1, 1, 4, 4\) and \(2, 1, 4, 4\)"):
        distance(stack[:1], stack)

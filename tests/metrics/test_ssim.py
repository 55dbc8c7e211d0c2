"""SSIM of stacks against scikit-image, where windows, borders and denominators show."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.metrics.reference import ssim
from bangbench.metrics.ssim import ssim_stack

pytestmark = pytest.mark.exact


def _reference(pairs):
    return [ssim(*pair) for pair in zip(*pairs, strict=True)]


@pytest.mark.parametrize("kind", ["digits", "photos"])
def test_stacks_score_as_scikit_image_does_pair_by_pair(kind, request):
    pairs = request.getfixturevalue(kind)
    np.testing.assert_allclose(ssim_stack(*pairs), _reference(pairs), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(11, 11), (11, 40), (30, 12)])
def test_the_smallest_and_oblong_images_are_taken(photos, height, width):
    pairs = [stack[:, :, :height, :width] for stack in photos]
    np.testing.assert_allclose(ssim_stack(*pairs), _reference(pairs), rtol=0, atol=1e-12)


def test_large_images_are_taken(photos):
    pairs = [np.tile(stack[:1], (1, 1, 5, 4)) for stack in photos]
    np.testing.assert_allclose(ssim_stack(*pairs), _reference(pairs), rtol=0, atol=1e-12)


def test_an_image_with_itself_scores_exactly_one_and_order_does_not_matter(digits, photos):
    for adversarial, original in (digits, photos):
        assert (ssim_stack(original, original) == 1.0).all()
        assert (ssim_stack(adversarial, original) == ssim_stack(original, adversarial)).all()


def test_constant_images_score_what_their_grey_levels_say():
    black, white = np.zeros((1, 1, 11, 11), np.uint8), np.full((1, 1, 11, 11), 255, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim_stack(black, white)[0] == pytest.approx(c1 / (255.0**2 + c1), rel=1e-9)

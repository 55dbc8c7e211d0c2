"""One pair at a time: SSIM against a direct computation, PASS against literal OpenCV calls."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from skimage.metrics import structural_similarity

from bangbench.core.errors import BenchError, UsageError
from bangbench.metrics import reference
from bangbench.metrics.reference import EccStatus, align, grey, pass_pair, pass_pair_presets, ssim, warp


def direct_ssim_map(first, second):
    """Wang et al.'s formula with explicit 11x11 windows on two planes (H, W)."""
    offsets = np.arange(-5, 6)
    row = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(row, row) / row.sum() ** 2

    def windows(plane):
        return sliding_window_view(np.pad(plane.astype(float), 5, mode="symmetric"), (11, 11))

    x, y = windows(first), windows(second)
    mean_x, mean_y = (np.sum(window * side, axis=(2, 3), keepdims=True) for side in (x, y))
    variance_x = np.sum(window * (x - mean_x) ** 2, axis=(2, 3))
    variance_y = np.sum(window * (y - mean_y) ** 2, axis=(2, 3))
    covariance = np.sum(window * (x - mean_x) * (y - mean_y), axis=(2, 3))
    mean_x, mean_y = mean_x[..., 0, 0], mean_y[..., 0, 0]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )


def literal_pass(template, moving, iterations):
    """PASS as typed from OpenCV's manual, for grey images (H, W): SSIM of the warped image and the template."""
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, iterations, 1e-3)
    _, matrix = cv2.findTransformECC(
        template, moving, np.eye(3, dtype=np.float32), cv2.MOTION_HOMOGRAPHY, criteria, None, 5
    )
    size = template.shape[::-1]
    warped = cv2.warpPerspective(moving, matrix, size, flags=cv2.INTER_LINEAR + cv2.WARP_INVERSE_MAP)
    return direct_ssim_map(warped, template).mean()


def test_ssim_equals_the_direct_computation_on_digits_and_photos(digits, photos):
    for pairs in (digits, photos):
        for adversarial, original in zip(*pairs, strict=True):
            direct = np.mean([direct_ssim_map(a, b).mean() for a, b in zip(adversarial, original, strict=True)])
            assert ssim(adversarial, original) == pytest.approx(direct, abs=1e-9)


def test_ssim_averages_the_full_map_which_differs_from_scikit_images_own_mean(digits):
    options = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for adversarial, original in zip(*digits, strict=True):
        cropped = structural_similarity(adversarial[0], original[0], **options)
        assert abs(ssim(adversarial, original) - cropped) > 0.02


def test_these_pairs_tell_wrong_windows_and_covariances_apart(digits):
    adversarial, original = digits.adversarial[0, 0], digits.original[0, 0]
    right = ssim(adversarial[None], original[None])
    uniform = structural_similarity(adversarial, original, data_range=255, full=True)[1].mean()
    sample = structural_similarity(
        adversarial, original, data_range=255, gaussian_weights=True, use_sample_covariance=True, full=True
    )[1].mean()
    assert abs(right - uniform) > 1e-3
    assert abs(right - sample) > 1e-5


def test_ssim_is_exactly_symmetric_so_that_both_presets_may_share_it(digits, photos):
    for pairs in (digits, photos):
        for adversarial, original in zip(*pairs, strict=True):
            assert ssim(adversarial, original) == ssim(original, adversarial)


def test_colour_ssim_is_the_mean_over_the_channels(photos):
    adversarial, original = photos.adversarial[0], photos.original[0]
    channels = [ssim(adversarial[c : c + 1], original[c : c + 1]) for c in range(3)]
    assert len(set(channels)) == 3
    assert ssim(adversarial, original) == pytest.approx(np.mean(channels), abs=1e-12)


@pytest.mark.parametrize("preset", ["definition", "paper"])
def test_pass_of_an_image_with_itself_is_one(digits, photos, preset):
    for pairs in (digits, photos):
        image = pairs.original[0]
        score = pass_pair(image, image, preset)
        assert score == (pytest.approx(1, abs=1e-12), 1, EccStatus.ALIGNED)


def test_each_preset_equals_its_literal_transcription_and_no_other(digits):
    differing = 0
    for adversarial, original in zip(*digits, strict=True):
        scores = pass_pair_presets(adversarial, original)
        definition = literal_pass(original[0], adversarial[0], 50)
        paper = literal_pass(adversarial[0], original[0], 1)
        others = [literal_pass(original[0], adversarial[0], 1), literal_pass(adversarial[0], original[0], 50)]
        assert scores["definition"].score == pytest.approx(definition, abs=1e-9)
        assert scores["paper"].score == pytest.approx(paper, abs=1e-9)
        apart = [abs(a - b) for a in (definition, paper) for b in others] + [abs(definition - paper)]
        differing += min(apart) > 1e-3
    assert differing > len(digits.original) // 2


def test_the_presets_share_one_unaligned_ssim(digits, monkeypatch):
    calls = []
    monkeypatch.setattr(reference, "ssim", lambda first, second: calls.append(1) or ssim(first, second))
    scores = pass_pair_presets(digits.adversarial[0], digits.original[0])
    assert len(calls) == 3
    assert scores["definition"].unaligned == scores["paper"].unaligned
    assert scores["paper"].unaligned == ssim(digits.adversarial[0], digits.original[0])


def test_alignment_brings_a_shifted_digit_back(digits):
    original = digits.original[3]
    shifted = np.roll(original, 2, axis=2)
    for preset in ("definition", "paper"):
        score = pass_pair(shifted, original, preset)
        assert score.score > score.unaligned + 0.05
    assert pass_pair(shifted, original, "definition").score > 0.95


def test_colour_images_are_aligned_on_grey_and_warped_in_every_channel(photos):
    for adversarial, original in zip(*photos, strict=True):
        template, moving = (
            cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
            for image in (original, adversarial)
        )
        criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 50, 1e-3)
        _, matrix = cv2.findTransformECC(
            template, moving, np.eye(3, dtype=np.float32), cv2.MOTION_HOMOGRAPHY, criteria, None, 5
        )
        flags = cv2.INTER_LINEAR + cv2.WARP_INVERSE_MAP
        interleaved = np.ascontiguousarray(adversarial.transpose(1, 2, 0))
        warped = cv2.warpPerspective(interleaved, matrix, (48, 37), flags=flags)
        direct = np.mean([direct_ssim_map(warped[..., c], original[c]).mean() for c in range(3)])
        assert pass_pair(adversarial, original, "definition").score == pytest.approx(direct, abs=1e-9)


def test_grey_weighs_red_green_and_blue_in_that_order():
    red, green, blue = (np.zeros((3, 11, 11), np.uint8) for _ in range(3))
    red[0], green[1], blue[2] = 200, 200, 200
    assert [int(grey(image)[0, 0]) for image in (red, green, blue)] == [60, 117, 23]
    assert np.array_equal(grey(red[:1]), red[0])


def test_warp_leaves_zero_outside_and_rounds_to_whole_grey_levels():
    image = np.full((1, 12, 12), 101, np.uint8)
    half_right = np.array([[1, 0, -1.5], [0, 1, 0], [0, 0, 1]], np.float32)
    warped = warp(image, half_right)
    assert warped.dtype == np.uint8
    assert warped[0, 5, :3].tolist() in ([0, 50, 101], [0, 51, 101])


@pytest.mark.parametrize("preset", ["definition", "paper"])
def test_a_constant_image_is_scored_unaligned_with_status_nan(digits, preset):
    black = np.zeros((1, 28, 28), np.uint8)
    score = pass_pair(black, digits.original[0], preset)
    assert score.status is EccStatus.NAN
    assert score.score == score.unaligned == ssim(black, digits.original[0])


@pytest.mark.parametrize("preset", ["definition", "paper"])
def test_an_inverted_image_is_scored_unaligned_with_status_uncorrelated(digits, preset):
    inverted = 255 - digits.original[0]
    score = pass_pair(inverted, digits.original[0], preset)
    assert score.status is EccStatus.UNCORRELATED
    assert score.score == score.unaligned == ssim(inverted, digits.original[0])


def test_any_other_opencv_failure_is_an_error_with_opencvs_reason():
    with pytest.raises(BenchError, match=r"OpenCV 5.*could not align a pair: .*Assertion failed.*OpenCV version"):
        align(np.zeros((12, 12), np.uint8), np.zeros((0, 0), np.uint8), 5)


def test_images_that_cannot_be_scored_are_refused_with_what_was_found():
    small, image = np.zeros((1, 10, 28), np.uint8), np.zeros((1, 28, 28), np.uint8)
    with pytest.raises(BenchError, match=r"at least 11x11 pixels.*found 10x28"):
        ssim(small, small)
    with pytest.raises(BenchError, match=r"expected uint8 images \(C, H, W\), found float32 \(1, 28, 28\)"):
        ssim(image.astype(np.float32), image)
    with pytest.raises(BenchError, match=r"expected uint8 images \(C, H, W\), found uint8 \(28, 28\)"):
        ssim(image[0], image[0])
    with pytest.raises(BenchError, match=r"one size, found \(1, 28, 28\) and \(1, 28, 27\)"):
        ssim(image, image[..., :27])
    with pytest.raises(BenchError, match=r"1 \(grey\) or 3 \(RGB\) channels, found 4"):
        pass_pair(np.zeros((4, 28, 28), np.uint8), np.zeros((4, 28, 28), np.uint8))
    with pytest.raises(UsageError, match="unknown PASS preset 'papper': did you mean 'paper'"):
        pass_pair(image, image, "papper")

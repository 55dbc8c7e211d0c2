"""SSIM (Wang et al. 2004) of many small images, compiled: `reference.ssim` to within rounding of float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.core.compiled import compiled, compiled_sum, plain
from bangbench.metrics.checks import WINDOW

_MARGIN = WINDOW // 2
_SIGMA = 1.5
C1, C2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2

#: Quantities that are filtered: both images, their squares and their product.
_FIRST, _SECOND, _FIRST2, _SECOND2, _PRODUCT = range(5)


def ssim_stack(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the SSIM of each pair of uint8 images (N, C, H, W), float64 (N,), -1..1; H and W at least 11.

    Gaussian 11x11 window with sigma 1.5, K1 0.01, K2 0.03, population covariance, borders reflected with the edge
    pixel repeated; the mean over the full map of each channel, then over channels.
    """
    count, channels, height, width = first.shape
    means = np.empty(count * channels)
    one, other = (plain(stack).reshape(count * channels, height, width) for stack in (first, second))
    _ssim_planes(one, other, half_window(), means)
    result: NDArray[np.float64] = means.reshape(count, channels).mean(axis=1)
    return result


def half_window() -> NDArray[np.float64]:
    """Return the weights of the centre and of the pixels at distance 1 to 5, so that the whole window adds to 1."""
    weights = np.exp(-0.5 * (np.arange(_MARGIN + 1) / _SIGMA) ** 2)
    result: NDArray[np.float64] = weights / (weights[0] + 2.0 * weights[1:].sum())
    return result


@compiled
def _ssim_planes(first: Any, second: Any, weights: Any, means: Any) -> None:
    count, height, width = first.shape
    padded = np.empty((5, height + 2 * _MARGIN, width + 2 * _MARGIN))
    filtered = np.empty((5, height, width))
    between = np.empty((height, width + 2 * _MARGIN))
    for plane in range(count):
        _products(first[plane], second[plane], padded)
        for quantity in range(5):
            _filter_down(padded[quantity], weights, between)
            _filter_across(between, weights, filtered[quantity])
        means[plane] = _mean(filtered)


@compiled
def _products(first: Any, second: Any, padded: Any) -> None:
    """Fill images, squares and product, with margins that repeat what lies inside, the edge pixel included."""
    height, width = first.shape
    for y in range(height + 2 * _MARGIN):
        source = _reflected(y - _MARGIN, height)
        for x in range(width + 2 * _MARGIN):
            place = _reflected(x - _MARGIN, width)
            one, other = np.float64(first[source, place]), np.float64(second[source, place])
            padded[_FIRST, y, x], padded[_SECOND, y, x] = one, other
            padded[_FIRST2, y, x], padded[_SECOND2, y, x] = one * one, other * other
            padded[_PRODUCT, y, x] = one * other


@compiled
def _reflected(place: int, size: int) -> int:
    """Return where a place up to `size` outside 0..size - 1 is found: -1 is 0, -2 is 1, size is size - 1."""
    if place < 0:
        return -1 - place
    return 2 * size - 1 - place if place >= size else place


@compiled
def _filter_down(source: Any, weights: Any, filtered: Any) -> None:
    height, width = filtered.shape
    for y in range(height):
        centre = y + _MARGIN
        for x in range(width):
            total = weights[0] * source[centre, x]
            for distance in range(1, _MARGIN + 1):
                total += weights[distance] * (source[centre - distance, x] + source[centre + distance, x])
            filtered[y, x] = total


@compiled
def _filter_across(source: Any, weights: Any, filtered: Any) -> None:
    height, width = filtered.shape
    for y in range(height):
        for x in range(width):
            centre = x + _MARGIN
            total = weights[0] * source[y, centre]
            for distance in range(1, _MARGIN + 1):
                total += weights[distance] * (source[y, centre - distance] + source[y, centre + distance])
            filtered[y, x] = total


@compiled
def _mean(filtered: Any) -> float:
    """Return the mean of the map from the filtered quantities (5, H, W)."""
    _, height, width = filtered.shape
    similarity = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            one, other = filtered[_FIRST, y, x], filtered[_SECOND, y, x]
            product = one * other
            squares = one * one + other * other
            variances = (filtered[_FIRST2, y, x] - one * one) + (filtered[_SECOND2, y, x] - other * other)
            covariance = filtered[_PRODUCT, y, x] - product
            above = (2.0 * product + C1) * (2.0 * covariance + C2)
            similarity[y, x] = above / ((squares + C1) * (variances + C2))
    mean: float = _sum(similarity.ravel()) / (height * width)
    return mean


@compiled_sum
def _sum(values: Any) -> float:
    total = 0.0
    for index in range(len(values)):
        total += values[index]
    return total

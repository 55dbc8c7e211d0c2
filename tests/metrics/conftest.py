"""Pairs on which wrong windows, borders, denominators and roles show: blobs on black, and colour photographs."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data
from sklearn.datasets import load_digits


class Pairs(NamedTuple):
    """Adversarial and original images, uint8 (N, C, H, W)."""

    adversarial: NDArray[np.uint8]
    original: NDArray[np.uint8]

    def with_failures(self) -> Pairs:
        """Return the pairs with one constant and one inverted adversarial image among them."""
        adversarial = self.adversarial.copy()
        adversarial[1] = 0
        adversarial[2] = 255 - self.original[2]
        return Pairs(adversarial, self.original)


def _stripes(shape: tuple[int, ...], period: float, angle: float) -> NDArray[np.float64]:
    rows, columns = np.indices(shape)
    return np.sign(np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / period))


def _disturb(image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    """Shift the image by a pixel and add strong stripes that follow its edges, as a gradient sign would."""
    moved = np.roll(image.astype(float), (index % 3 - 1, (index // 3) % 3 - 1), axis=(0, 1))
    edges = cv2.GaussianBlur(np.abs(cv2.Laplacian(moved, cv2.CV_64F)), (0, 0), 1.5)
    strength = 70 * edges / max(edges.max(), 1) + 15
    disturbed = moved + strength * _stripes(image.shape, 3 + index % 4, index)
    return np.clip(np.rint(disturbed), 0, 255).astype(np.uint8)


def _digit(small: NDArray[np.float64]) -> NDArray[np.uint8]:
    grown = cv2.resize((small * 15).astype(np.uint8), (20, 20), interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(grown, 4, 4, 4, 4, cv2.BORDER_CONSTANT)


@pytest.fixture(scope="session")
def digits() -> Pairs:
    """Return 24 digits (1, 28, 28)."""
    original = [_digit(image) for image in load_digits().images[:24]]
    adversarial = [_disturb(image, index) for index, image in enumerate(original)]
    return Pairs(np.stack(adversarial)[:, None], np.stack(original)[:, None])


@pytest.fixture(scope="session")
def photos() -> Pairs:
    """Return 4 colour crops (3, 37, 48), perturbed differently in each channel."""
    astronaut = cv2.resize(data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    corners = [(0, 70), (60, 60), (110, 20), (170, 120)]
    original = [astronaut[row : row + 37, column : column + 48].transpose(2, 0, 1) for row, column in corners]
    planes = [np.ascontiguousarray(plane) for image in original for plane in image]
    adversarial = [_disturb(plane, 4 + index) for index, plane in enumerate(planes)]
    return Pairs(np.stack(adversarial).reshape(4, 3, 37, 48), np.stack(original))

"""The embedded digits: a fixed, stratified split, enlarged the way the docstring says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.ndimage
from sklearn.datasets import load_digits

from bangbench.data.digits import Digits, enlarge
from bangbench.data.order import fixed_permutation


def test_the_splits_are_stratified_and_share_no_image(tmp_path: Path) -> None:
    train, test = Digits(tmp_path).load("train"), Digits(tmp_path).load("test")
    assert train.images.shape == (1297, 1, 28, 28)
    assert test.images.shape == (500, 1, 28, 28)
    assert np.bincount(test.labels).tolist() == [50] * 10
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


def test_the_splits_are_the_same_everywhere(tmp_path: Path) -> None:
    train, test = Digits(tmp_path).load("train"), Digits(tmp_path).load("test")
    assert train.fingerprint == "4fdfb7882d31919d9528ddfde5339ea28618943604923fc3b92752a303cbb8dd"
    assert test.fingerprint == "aed20c1d78f9ae4e35f58d5425d6d753e23f2ee60502e619ec93dcc9a5e0f121"


def test_neither_split_is_sorted_by_class(tmp_path: Path) -> None:
    labels = Digits(tmp_path).load("train").labels
    assert set(labels[:64].tolist()) == set(range(10))


def test_the_enlargement_is_bilinear_inside_an_empty_border() -> None:
    small = load_digits().images[:50]
    large = enlarge(small.astype(np.int64))
    options = {"order": 1, "grid_mode": True, "mode": "nearest"}
    expected = [scipy.ndimage.zoom(image * 255 / 16, 3, **options) for image in small]
    assert np.abs(large[:, 2:-2, 2:-2] - np.array(expected)).max() <= 0.5 + 1e-9
    border = large.copy()
    border[:, 2:-2, 2:-2] = 0
    assert not border.any()


def test_the_extremes_become_black_and_white() -> None:
    assert enlarge(np.full((1, 8, 8), 16))[0, 2:-2, 2:-2].min() == 255
    assert enlarge(np.zeros((1, 8, 8), dtype=np.int64)).max() == 0


def test_a_fixed_permutation_depends_on_its_purpose_only() -> None:
    first = fixed_permutation(1000, "folder", "train")
    assert sorted(first.tolist()) == list(range(1000))
    assert first.tolist() == fixed_permutation(1000, "folder", "train").tolist()
    assert first.tolist() != fixed_permutation(1000, "folder", "test").tolist()
    assert fixed_permutation(6, "folder", "train").tolist() == [2, 4, 1, 0, 5, 3]

"""Data sets in .npz files: axes, labels, and files that are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.data.npz import NpzSource
from bangbench.data.sources import open_source


def arrays(**replaced: Any) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(3)
    usual = {
        "train_images": random.integers(0, 256, (6, 8, 9), dtype=np.uint8),
        "train_labels": np.array([[0], [2], [1], [0], [2], [1]]),
        "test_images": random.integers(0, 256, (4, 8, 9), dtype=np.uint8),
        "test_labels": np.array([[0], [3], [1], [0]]),
    }
    return {name: array for name, array in {**usual, **replaced}.items() if array is not None}


def write(path: Path, **replaced: Any) -> NpzSource:
    np.savez_compressed(path, allow_pickle=True, **arrays(**replaced))
    return NpzSource(path)


def test_a_medmnist_file_is_read_in_its_order(tmp_path: Path) -> None:
    source = write(tmp_path / "bloodmnist.npz")
    train, test = source.load("train"), source.load("test")
    assert source.name == "bloodmnist"
    assert np.array_equal(train.images, arrays()["train_images"][:, None])
    assert train.labels.tolist() == [0, 2, 1, 0, 2, 1]
    assert test.images.shape == (4, 1, 8, 9)
    assert train.class_names == test.class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((8, 9, 3), (3, 8, 9)), ((8, 9, 1), (1, 8, 9)), ((3, 8, 9), (3, 8, 9)), ((3, 8, 3), (3, 3, 8))],
)
def test_channels_come_first_whatever_the_file_says(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    images = {f"{split}_images": np.zeros((n, *shape), np.uint8) for split, n in (("train", 6), ("test", 4))}
    assert write(tmp_path / "x.npz", **images).load("train").images.shape == (6, *expected)


def test_channels_last_keeps_red_red(tmp_path: Path) -> None:
    image = np.zeros((4, 8, 9, 3), np.uint8)
    image[..., 0] = 200
    source = write(tmp_path / "x.npz", train_images=np.repeat(image, 2, 0)[:6], test_images=image)
    assert source.load("test").images.mean(axis=(0, 2, 3)).tolist() == [200, 0, 0]


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        (
            {"train_labels": None},
            "'train_labels' missing for train images; expected .*, found train_images",
        ),
        ({"train_images": None}, "'train_images' missing for train images"),
        (
            {"train_images": np.zeros((6, 8, 9), np.int32)},
            "'train_images': expected uint8 grey levels 0..255, found int32",
        ),
        ({"train_images": np.zeros((6, 8, 9, 4), np.uint8)}, "in train_images and"),
        ({"train_images": np.zeros((6, 9, 9), np.uint8)}, r"images of one size, found \(9, 9\) in train_images"),
        (
            {"train_labels": np.zeros((6, 14), int)},
            r"one label for each image, .*found \(6, 14\); data with several",
        ),
        ({"train_labels": np.zeros(6)}, "'train_labels': expected integers, found float64"),
        ({"train_labels": np.zeros(5, int)}, "6 images but 5 labels"),
        ({"train_labels": np.array([0, 1, -1, 0, 0, 0])}, r"labels span -1\.\.1, expected 0\.\.3"),
        ({"test_labels": np.array([0, 1, 10**9, 0])}, "found the label 1000000000, expected labels that count"),
    ],
)
def test_unfit_arrays_are_refused_by_name(tmp_path: Path, replaced: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        write(tmp_path / "x.npz", **replaced).load("train")


def test_four_channels_are_refused(tmp_path: Path) -> None:
    images = {f"{split}_images": np.zeros((n, 8, 9, 4), np.uint8) for split, n in (("train", 6), ("test", 4))}
    with pytest.raises(BenchError, match=r"\(N, H, W, C\) with C = 1 or 3, found \(6, 8, 9, 4\)"):
        write(tmp_path / "x.npz", **images).load("train")


class Payload:
    """A pickled object that would create a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", ["train_images", "train_labels", "test_labels"])
def test_pickled_objects_are_refused_and_never_unpickled(tmp_path: Path, name: str) -> None:
    target = tmp_path / "created"
    hostile = np.empty(1, dtype=object)
    hostile[0] = Payload(target)
    source = write(tmp_path / "x.npz", **{name: hostile})
    with pytest.raises(BenchError, match=f"'{name}' holds pickled Python objects, which could run code"):
        source.load("train")
    assert not target.exists()
    with np.load(source.path, allow_pickle=True) as trusting:
        trusting[name]
    assert target.exists(), "the payload must work where pickles are allowed, or this test proves nothing"


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "x.npz")
    whole = source.path.read_bytes()
    for keep in (0, 10, len(whole) // 2, len(whole) - 30):
        source.path.write_bytes(whole[:keep])
        with pytest.raises(BenchError, match=r"expected a \.npz file .* or a truncated file; write it with"):
            source.load("train")


def test_a_file_with_damaged_pixels_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "x.npz")
    damaged = bytearray(source.path.read_bytes())
    damaged[300] ^= 0xFF
    source.path.write_bytes(bytes(damaged))
    with pytest.raises(BenchError, match=r"cannot be read .* damaged"):
        source.load("train")


def test_a_single_array_or_a_directory_is_not_an_npz_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    for path in (tmp_path / "x.npy", tmp_path):
        with pytest.raises(BenchError, match=r"expected a \.npz file \(a zip of arrays\), found something else"):
            NpzSource(path).load("test")


def test_the_fingerprint_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    first, copy = write(tmp_path / "a.npz"), write(tmp_path / "b.npz")
    changed = arrays()["test_images"].copy()
    changed[0, 0, 0] ^= 1
    other = write(tmp_path / "c.npz", test_images=changed)
    assert first.load("test").fingerprint == copy.load("test").fingerprint
    assert first.load("test").fingerprint != other.load("test").fingerprint
    assert first.load("train").fingerprint == other.load("train").fingerprint


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x_test", "y_test"), ("X_test", "y_test"), ("images", "labels"), ("val_images", "val_labels"), ("x", "y")],
)
def test_an_evaluation_needs_no_training_images_and_takes_usual_names(tmp_path: Path, images: str, labels: str) -> None:
    usual = arrays()
    np.savez(tmp_path / "x.npz", allow_pickle=False, **{images: usual["test_images"], labels: usual["test_labels"]})
    source = NpzSource(tmp_path / "x.npz")
    assert np.array_equal(source.load("test").images, usual["test_images"][:, None])
    assert source.load("test").labels.tolist() == [0, 3, 1, 0]
    with pytest.raises(BenchError, match="'train_images' and 'train_labels' missing for train images"):
        source.load("train")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_that_are_grey_levels_are_read_exactly(tmp_path: Path, dtype: type) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    small = np.zeros((6, 8, 8), np.uint8)
    source = write(tmp_path / "x.npz", test_images=(levels / 255).astype(dtype), train_images=small)
    assert np.array_equal(source.load("test").images[:, 0], levels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((4, 8, 9), 0.3), "expected floats that are whole grey levels / 255"),
        (np.full((4, 8, 9), -2.1), "found float64 from -2.1 to -2.1; undo the normalisation"),
        (np.full((4, 8, 9), 200.0), "found float64 from 200 to 200"),
        (np.full((4, 8, 9), np.nan), "expected uint8, or floats"),
    ],
)
def test_other_floats_are_refused(tmp_path: Path, images: NDArray[Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        write(tmp_path / "x.npz", test_images=images).load("test")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_one_hot_labels_are_classes(tmp_path: Path, dtype: type) -> None:
    hot = np.eye(5, dtype=dtype)[[0, 3, 1, 0]]
    data = write(tmp_path / "x.npz", test_labels=hot).load("test")
    assert data.labels.tolist() == [0, 3, 1, 0]
    assert data.class_names == tuple("01234")


def test_two_npy_files_are_images_and_labels(tmp_path: Path) -> None:
    usual = arrays()
    np.save(tmp_path / "x.npy", usual["test_images"])
    np.save(tmp_path / "y.npy", usual["test_labels"])
    source = open_source("npy:x.npy, y.npy", tmp_path)
    data = source.load("test")
    assert (source.name, data.labels.tolist(), data.images.shape) == ("x", [0, 3, 1, 0], (4, 1, 8, 9))
    with pytest.raises(BenchError, match=r"two \.npy files are test images"):
        source.load("train")
    with pytest.raises(BenchError, match="expected two files, npy:IMAGES"):
        open_source("npy:x.npy", tmp_path)
    (tmp_path / "y.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(BenchError, match=r"y\.npy: the file cannot be read"):
        source.load("test")

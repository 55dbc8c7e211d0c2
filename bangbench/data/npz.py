"""Data sets in one .npz file, with the arrays that MedMNIST writes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.data.dataset import Dataset, Split, make_dataset
from bangbench.store.arrays import Arrays, open_arrays

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_MOST_CLASSES = 65_536
_MOST_NAMED = 8


class NpzSource:
    """Arrays train_images, train_labels, test_images and test_labels of one file, in their order.

    Images are uint8 grey levels (N, H, W), (N, H, W, C) or, where C stands second beyond doubt, (N, C, H, W), with
    C = 1 or 3; labels are integers (N,) or (N, 1) that count classes from 0. Order is kept: a file whose images
    are stored by class should be shuffled before it is used for training.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem

    def load(self, split: Split) -> Dataset:
        """Return the split, class names "0", "1", ... up to the highest label of both splits.

        Of the four arrays three are read, each only if it fits into half of the memory available. Raises `BenchError`
        for missing arrays, pickled objects, other types and shapes, and damaged files.
        """
        if not zipfile.is_zipfile(self.path):
            raise BenchError(
                f"{self.path}: expected a .npz file (a zip of arrays), found something else, or a truncated file; "
                "write it with numpy.savez_compressed"
            )
        advice = "the file cannot be read ({}): it is truncated or damaged; get it again"
        with self.path.open("rb") as stream, open_arrays(stream, str(self.path), advice) as archive:
            self._check_names(archive)
            labels = {part: self._labels(archive, part) for part in ("train", "test")}
            other = archive.header("test_images" if split == "train" else "train_images").shape
            self._check_images(archive, f"{split}_images")
            images = archive.read(f"{split}_images")
        if images.shape[1:] != other[1:]:
            raise BenchError(
                f"{self.path}: expected train and test images of one size, found {images.shape[1:]} in "
                f"{split}_images and {other[1:]} in the other split"
            )
        channels_first = self._channels_first(images, f"{split}_images")
        return make_dataset(channels_first, labels[split], self._class_names(labels), f"{self.path} {split}")

    def _check_names(self, archive: Arrays) -> None:
        for name in ARRAYS:
            if name not in archive.names:
                found = ", ".join(archive.names[:_MOST_NAMED]) or "none"
                raise BenchError(f"{self.path}: array '{name}' is missing; expected {', '.join(ARRAYS)}, found {found}")

    def _labels(self, archive: Arrays, split: str) -> NDArray[np.int64]:
        name = f"{split}_labels"
        header = archive.header(name)
        if header.dtype.kind not in "iu":
            raise BenchError(f"{self.path}: '{name}': expected integers, found {header.dtype}")
        match header.shape:
            case (_,) | (_, 1):
                return archive.read(name).astype(np.int64).reshape(-1)
        raise BenchError(
            f"{self.path}: '{name}': expected one label for each image, (N,) or (N, 1), found {header.shape}; "
            "data with several labels for an image cannot be used"
        )

    def _check_images(self, archive: Arrays, name: str) -> None:
        found = archive.header(name).dtype
        if found != np.uint8:
            raise BenchError(
                f"{self.path}: '{name}': expected uint8 grey levels 0..255, found {found}; scale to 0..255 and "
                "convert it"
            )

    def _channels_first(self, images: NDArray[Any], name: str) -> NDArray[np.uint8]:
        match images.shape:
            case (_, _, _):
                return images[:, None]
            case (_, _, _, 1 | 3):
                return images.transpose(0, 3, 1, 2)
            case (_, 1 | 3, _, _):
                return images
        raise BenchError(
            f"{self.path}: '{name}': expected (N, H, W) or (N, H, W, C) with C = 1 or 3, found {images.shape}"
        )

    def _class_names(self, labels: dict[str, NDArray[np.int64]]) -> tuple[str, ...]:
        highest = max((int(part.max()) for part in labels.values() if len(part)), default=0)
        if highest >= _MOST_CLASSES:
            raise BenchError(
                f"{self.path}: found the label {highest}, expected labels that count classes from 0 (at most "
                f"{_MOST_CLASSES} of them); renumber the classes"
            )
        return tuple(str(label) for label in range(highest + 1))

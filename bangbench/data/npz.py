"""Data sets in one .npz file, with the arrays that MedMNIST writes."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.data.dataset import Dataset, Split, make_dataset

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_MOST_CLASSES = 65_536
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, MemoryError)


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

        Raises `BenchError` for missing arrays, pickled objects, other types and shapes, and damaged files.
        """
        try:
            with _open(self.path) as archive:
                labels = {part: self._labels(archive, part) for part in ("train", "test")}
                images = self._array(archive, f"{split}_images")
                other = self._shape(archive, "test_images" if split == "train" else "train_images")
        except _DAMAGE as error:
            raise BenchError(f"{self.path}: the file cannot be read ({error}): it is damaged; get it again") from error
        if images.shape[1:] != other[1:]:
            raise BenchError(
                f"{self.path}: expected train and test images of one size, found {images.shape[1:]} in "
                f"{split}_images and {other[1:]} in the other split"
            )
        channels_first = self._channels_first(images, f"{split}_images")
        return make_dataset(channels_first, labels[split], self._class_names(labels), f"{self.path} {split}")

    def _array(self, archive: Any, name: str) -> NDArray[Any]:
        if name not in archive.files:
            raise BenchError(
                f"{self.path}: array '{name}' is missing; expected {', '.join(ARRAYS)}, "
                f"found {', '.join(archive.files) or 'none'}"
            )
        try:
            found = archive[name]
        except ValueError as error:
            raise BenchError(self._refusal(name, error)) from error
        if not isinstance(found, np.ndarray):
            raise BenchError(f"{self.path}: '{name}' is not a numpy array; write the file with numpy.savez")
        return found

    def _refusal(self, name: str, error: ValueError) -> str:
        if "allow_pickle" in str(error):
            return (
                f"{self.path}: '{name}' holds pickled Python objects, which could run code when read, so they are "
                "not; save it as an array of integers"
            )
        return f"{self.path}: '{name}' cannot be read ({error}): the file is truncated or damaged"

    def _shape(self, archive: Any, name: str) -> tuple[int, ...]:
        """Return an array's shape from its header, without reading the pixels."""
        if name not in archive.files:
            self._array(archive, name)
        try:
            with archive.zip.open(f"{name}.npy") as stream:
                version = np.lib.format.read_magic(stream)
                first, later = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
                shape: tuple[int, ...] = (first if version == (1, 0) else later)(stream)[0]
        except (ValueError, KeyError) as error:
            raise BenchError(f"{self.path}: '{name}' cannot be read ({error}): the file is damaged") from error
        return shape

    def _labels(self, archive: Any, split: str) -> NDArray[np.int64]:
        name = f"{split}_labels"
        labels = self._array(archive, name)
        if labels.dtype.kind not in "iu":
            raise BenchError(f"{self.path}: '{name}': expected integers, found {labels.dtype}")
        match labels.shape:
            case (_,) | (_, 1):
                return labels.astype(np.int64).reshape(-1)
        raise BenchError(
            f"{self.path}: '{name}': expected one label for each image, (N,) or (N, 1), found {labels.shape}; "
            "data with several labels for an image cannot be used"
        )

    def _channels_first(self, images: NDArray[Any], name: str) -> NDArray[np.uint8]:
        where = f"{self.path}: '{name}'"
        if images.dtype != np.uint8:
            raise BenchError(
                f"{where}: expected uint8 grey levels 0..255, found {images.dtype}; scale to 0..255 and convert it"
            )
        match images.shape:
            case (_, _, _):
                return images[:, None]
            case (_, _, _, 1 | 3):
                return images.transpose(0, 3, 1, 2)
            case (_, 1 | 3, _, _):
                return images
        raise BenchError(f"{where}: expected (N, H, W) or (N, H, W, C) with C = 1 or 3, found {images.shape}")

    def _class_names(self, labels: dict[str, NDArray[np.int64]]) -> tuple[str, ...]:
        highest = max((int(part.max()) for part in labels.values() if len(part)), default=0)
        if highest >= _MOST_CLASSES:
            raise BenchError(
                f"{self.path}: found the label {highest}, expected labels that count classes from 0 (at most "
                f"{_MOST_CLASSES} of them); renumber the classes"
            )
        return tuple(str(label) for label in range(highest + 1))


def _open(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        raise BenchError(
            f"{path}: expected a .npz file (a zip of arrays), found something else, or a truncated file; write it "
            "with numpy.savez_compressed"
        )
    return np.load(path, allow_pickle=False)

"""Data sets in one .npz file, under the names that MedMNIST, Keras and people give to arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.data.dataset import Dataset, Split, make_dataset
from bangbench.data.decoded import Wanted, decoded_dataset
from bangbench.data.pixels import channels_first, class_numbers, grey_levels
from bangbench.data.stacks import BLOCK, Stack, is_large
from bangbench.store.arrays import Arrays, Header, open_arrays

#: Names of images and labels, the first pair that a file has; an evaluation needs those of the test images alone.
NAMES: dict[Split, tuple[tuple[str, str], ...]] = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train"), ("X_train", "y_train")),
    "test": (
        ("test_images", "test_labels"),
        ("x_test", "y_test"),
        ("X_test", "y_test"),
        ("val_images", "val_labels"),
        ("x_val", "y_val"),
        ("images", "labels"),
        ("x", "y"),
        ("X", "y"),
    ),
}
_MOST_NAMED = 8
_ADVICE = "the file cannot be read ({}): it is truncated or damaged; get it again"


class NpzSource:
    """Images and labels of one file, in their order; training images may be missing.

    Images are uint8 grey levels, or floats k / 255, (N, H, W), (N, H, W, C) or, where C stands second beyond doubt,
    (N, C, H, W), with C = 1 or 3; labels are integers (N,) or (N, 1) that count classes from 0, or one-hot (N, K).
    Order is kept: a file whose images are stored by class should be shuffled before it is used for training.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem

    def load(self, split: Split) -> Dataset:
        """Return the split, class names "0", "1", ... up to the highest label of both splits.

        Of images only those of the split are read: large ones into the cache of decoded images, others only if they
        fit into half of the memory available. Raises `BenchError` for missing arrays, pickled objects, other types and
        shapes, and damaged files.
        """
        return self._load(split, None)

    def load_first(self, split: Split, count: int) -> Dataset:
        """Return the first images of a split; of a large one no others are read."""
        return self._load(split, count)

    def _load(self, split: Split, count: int | None) -> Dataset:
        if not zipfile.is_zipfile(self.path):
            raise BenchError(
                f"{self.path}: expected a .npz file (a zip of arrays), found something else, or a truncated file; "
                "write it with numpy.savez_compressed"
            )
        with self.path.open("rb") as stream, open_arrays(stream, str(self.path), _ADVICE) as archive:
            names = self._names(archive, split)
            labels = {part: class_numbers(archive.read(own[1]), self._where(own[1])) for part, own in names.items()}
            headers = {own[0]: archive.header(own[0]) for own in names.values()}
            images_name = names[split][0]
            self._check_sizes(headers, images_name)
            classes = tuple(map(str, range(max(number for _, number in labels.values()))))
            header, own = headers[images_name], labels[split][0]
            if not is_large(header) or len(own) != header.shape[0]:
                images = grey_levels(archive.read(images_name), self._where(images_name))
                pixels = channels_first(images, self._where(images_name))
                return make_dataset(pixels, own, classes, f"{self.path} {split}").first(count)
        wanted = len(own[:count])
        stack = Stack(self.path, header, wanted, self._where(images_name), lambda: self._blocks(images_name, wanted))
        return decoded_dataset(Wanted(self.path, split, f"npz {images_name} {wanted}", own[:count], classes, stack))

    def _blocks(self, name: str, count: int) -> Iterator[NDArray[Any]]:
        with self.path.open("rb") as stream, open_arrays(stream, str(self.path), _ADVICE) as archive:
            yield from archive.blocks(name, count, BLOCK)

    def _check_sizes(self, headers: Mapping[str, Header], name: str) -> None:
        own = headers[name].shape[1:]
        for other, header in headers.items():
            if header.shape[1:] != own:
                raise BenchError(
                    f"{self.path}: expected train and test images of one size, found {own} in {name} and "
                    f"{header.shape[1:]} in {other}"
                )

    def _names(self, archive: Arrays, wanted: Split) -> dict[Split, tuple[str, str]]:
        """Return the names of images and labels of each split that is there; `BenchError` unless the wanted one is."""
        known, found = set(archive.names), {}
        for split, pairs in NAMES.items():
            there = next((pair for pair in pairs if set(pair) <= known), None)
            if there is not None:
                found[split] = there
        if wanted not in found:
            half = next((pair for pair in NAMES[wanted] if set(pair) & known), NAMES[wanted][0])
            lacking = " and ".join(f"'{name}'" for name in half if name not in known)
            others = " or ".join(", ".join(pair) for pair in NAMES[wanted][:2])
            shown = ", ".join(archive.names[:_MOST_NAMED]) or "none"
            raise BenchError(f"{self.path}: {lacking} missing for {wanted} images; expected {others}, found {shown}")
        return found

    def _where(self, name: str) -> str:
        return f"{self.path}: '{name}'"

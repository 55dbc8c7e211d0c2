"""Data sets in one .npz file, under the names that MedMNIST, Keras and people give to arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path

from bangbench.core.errors import BenchError
from bangbench.data.dataset import Dataset, Split, make_dataset
from bangbench.data.pixels import channels_first, class_numbers, grey_levels
from bangbench.store.arrays import Arrays, open_arrays

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

        Of images only those of the split are read, each array only if it fits into half of the memory available. Raises
        `BenchError` for missing arrays, pickled objects, other types and shapes, and damaged files.
        """
        if not zipfile.is_zipfile(self.path):
            raise BenchError(
                f"{self.path}: expected a .npz file (a zip of arrays), found something else, or a truncated file; "
                "write it with numpy.savez_compressed"
            )
        advice = "the file cannot be read ({}): it is truncated or damaged; get it again"
        with self.path.open("rb") as stream, open_arrays(stream, str(self.path), advice) as archive:
            names = self._names(archive, split)
            labels = {part: class_numbers(archive.read(own[1]), self._where(own[1])) for part, own in names.items()}
            shapes = {own[0]: archive.header(own[0]).shape[1:] for own in names.values()}
            images_name = names[split][0]
            images = grey_levels(archive.read(images_name), self._where(images_name))
        for other, shape in shapes.items():
            if shape != images.shape[1:]:
                raise BenchError(
                    f"{self.path}: expected train and test images of one size, found {images.shape[1:]} in "
                    f"{images_name} and {shape} in {other}"
                )
        pixels = channels_first(images, self._where(images_name))
        classes = tuple(map(str, range(max(count for _, count in labels.values()))))
        return make_dataset(pixels, labels[split][0], classes, f"{self.path} {split}")

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

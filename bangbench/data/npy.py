"""Two .npy files: images and their labels."""

from __future__ import annotations

from pathlib import Path

from bangbench.core.errors import BenchError, UsageError
from bangbench.data.dataset import Dataset, Split, make_dataset
from bangbench.data.pixels import channels_first, class_numbers, grey_levels
from bangbench.store.arrays import read_npy

_ADVICE = "the file cannot be read ({}): it is truncated or damaged; get it again"


class NpySource:
    """Images and labels of two files, ``IMAGES.npy,LABELS.npy``, for evaluation alone; kinds as in .npz files."""

    def __init__(self, images: Path, labels: Path) -> None:
        self.images = images
        self.labels = labels
        self.name = images.stem

    def load(self, split: Split) -> Dataset:
        """Return the images as the test split; `BenchError` for the training split and for what cannot be used."""
        if split == "train":
            raise BenchError(f"{self.images}: two .npy files are test images; give train and test images as npz:FILE")
        images = grey_levels(read_npy(self.images, _ADVICE), str(self.images))
        labels, count = class_numbers(read_npy(self.labels, _ADVICE), str(self.labels))
        names = tuple(map(str, range(count)))
        return make_dataset(channels_first(images, str(self.images)), labels, names, str(self.images))


def split_pair(text: str) -> tuple[str, str]:
    """Return the two files of ``IMAGES.npy,LABELS.npy``; `UsageError` for another number of them."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(parts):
        raise UsageError(f"'npy:{text}': expected two files, npy:IMAGES.npy,LABELS.npy")
    return parts[0], parts[1]

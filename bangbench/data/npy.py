"""Two .npy files: images and their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bangbench.core.errors import BenchError, UsageError
from bangbench.data.dataset import Dataset, Split, make_dataset
from bangbench.data.decoded import Wanted, decoded_dataset, mapped
from bangbench.data.pixels import channels_first, class_numbers, grey_levels
from bangbench.data.stacks import BLOCK, Stack, is_large
from bangbench.store.arrays import npy_blocks, npy_header, read_npy

#: Channels that stand last as well as second: such images have to be turned.
_CHANNELS = (1, 3)
_ADVICE = "the file cannot be read ({}): it is truncated or damaged; get it again"


class NpySource:
    """Images and labels of two files, ``IMAGES.npy,LABELS.npy``, for evaluation alone; kinds as in .npz files."""

    def __init__(self, images: Path, labels: Path) -> None:
        self.images = images
        self.labels = labels
        self.name = images.stem

    def load(self, split: Split) -> Dataset:
        """Return the images as the test split; `BenchError` for the training split and for what cannot be used.

        Large images are not read as a whole: the file is mapped where it holds them as the bench does, uint8 and
        channels first, else they are kept in that form.
        """
        return self.load_first(split, None)

    def load_first(self, split: Split, count: int | None) -> Dataset:
        """Return the first images (None: all); of a large file no others are read."""
        if split == "train":
            raise BenchError(f"{self.images}: two .npy files are test images; give train and test images as npz:FILE")
        where = str(self.images)
        labels, number = class_numbers(read_npy(self.labels, _ADVICE), str(self.labels))
        names = tuple(map(str, range(number)))
        header, offset = npy_header(self.images, _ADVICE)
        if not is_large(header) or len(labels) != header.shape[0]:
            images = channels_first(grey_levels(read_npy(self.images, _ADVICE), where), where)
            return make_dataset(images, labels, names, where).first(count)
        if header.dtype == np.uint8 and header.shape[-1] not in _CHANNELS:
            images = channels_first(mapped(self.images, header.shape, offset), where)
            return make_dataset(images[:count], labels[:count], names, where)
        wanted = len(labels[:count])
        stack = Stack(self.images, header, wanted, where, lambda: npy_blocks(self.images, _ADVICE, wanted, BLOCK))
        return decoded_dataset(Wanted(self.images, split, f"npy {wanted}", labels[:count], names, stack))


def split_pair(text: str) -> tuple[str, str]:
    """Return the two files of ``IMAGES.npy,LABELS.npy``; `UsageError` for another number of them."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(parts):
        raise UsageError(f"'npy:{text}': expected two files, npy:IMAGES.npy,LABELS.npy")
    return parts[0], parts[1]

"""The one form in which every data source hands over its images."""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.store.records import DataInfo

Split = Literal["train", "test"]


class Dataset(NamedTuple):
    """One split of a data set.

    images: uint8 (N, C, H, W), grey levels 0..255; labels: int64 (N,), in 0..len(class_names)-1;
    fingerprint: SHA-256 of shapes, images, labels and class names.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    fingerprint: str

    def first(self, count: int | None) -> Dataset:
        """Return the first `count` images (None: all) with a fingerprint of their own."""
        if count is None or count >= len(self.images):
            return self
        return make_dataset(self.images[:count], self.labels[:count], self.class_names, "subset")


def data_info(data: Dataset, name: str, source: str) -> DataInfo:
    """Return what a record says of `data`; `source` is the text after ``--data``, `name` what tables show."""
    return DataInfo(
        name=name,
        source=source,
        fingerprint=data.fingerprint,
        images=len(data.images),
        class_names=data.class_names,
    )


def make_dataset(
    images: NDArray[np.uint8], labels: NDArray[np.int64], class_names: tuple[str, ...], where: str
) -> Dataset:
    """Check the arrays and return a `Dataset`; `where` names the source in the messages of `BenchError`."""
    if images.ndim != 4 or images.dtype != np.uint8:
        raise BenchError(f"{where}: expected uint8 images (N, C, H, W), found {images.dtype} {images.shape}")
    if len(images) != len(labels):
        raise BenchError(f"{where}: {len(images)} images but {len(labels)} labels; one of the files is incomplete")
    if len(images) == 0:
        raise BenchError(f"{where}: no images")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(class_names):
        raise BenchError(f"{where}: labels span {low}..{high}, expected 0..{len(class_names) - 1}")
    images = np.require(images, requirements=["C", "W"])  # torch shares the memory only of writable arrays
    labels = np.require(labels, np.int64, ["C", "W"])
    return Dataset(images, labels, class_names, _fingerprint(images, labels, class_names))


def _fingerprint(images: NDArray[np.uint8], labels: NDArray[np.int64], class_names: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr((images.shape, class_names)).encode())
    digest.update(images.data)
    digest.update(labels.data)
    return digest.hexdigest()

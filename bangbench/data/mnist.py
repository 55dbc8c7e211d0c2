"""MNIST: four IDX files, in file order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bangbench.core.errors import BenchError
from bangbench.data.dataset import Dataset, Split, make_dataset
from bangbench.data.idx import read_idx

#: Images and labels of each split.
FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

#: SHA-256 of the uncompressed official files; gzip wrappings differ between mirrors.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_SIDE = 28


class Mnist:
    """The handwritten digits of MNIST (60,000 and 10,000), read from ``mnist/`` or from the data directory itself.

    Files of the same format with other content (Fashion-MNIST, subsets) load as well; `bangbench data verify`
    tells whether they are the official ones.
    """

    name = "mnist"

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def load(self, split: Split) -> Dataset:
        """Return the split in file order: uint8 (N, 1, 28, 28), labels 0..9. Raises `BenchError` for bad files."""
        images_path, labels_path = (self._require(name) for name in FILES[split])
        images, labels = read_idx(images_path, 3), read_idx(labels_path, 1).astype(np.int64)
        if images.shape[1:] != (_SIDE, _SIDE):
            height, width = images.shape[1:]
            raise BenchError(
                f"{images_path}: expected images of {_SIDE}x{_SIDE} pixels, found {height}x{width}; read other "
                "sizes with npz:FILE or folder:DIR"
            )
        return make_dataset(images[:, None], labels, tuple("0123456789"), f"{images_path} with {labels_path.name}")

    def locate(self) -> str | None:
        """Return the directory of the files, or None unless all four are there."""
        found = [find_file(self.data_dir, name) for name in SHA256]
        return None if found[0] is None or None in found else str(found[0].parent)

    def _require(self, name: str) -> Path:
        found = find_file(self.data_dir, name)
        if found is None:
            raise BenchError(
                f"mnist: expected {name} or {name}.gz in {self.data_dir / 'mnist'} or {self.data_dir}, found "
                "neither; run 'bangbench data fetch mnist', or point --data-dir or BANGBENCH_DATA at the files"
            )
        return found


def find_file(data_dir: Path, name: str) -> Path | None:
    """Return the path of one of the four files, raw before gzip, or None."""
    for folder in (data_dir / "mnist", data_dir):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None

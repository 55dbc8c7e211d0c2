"""Small files in the formats that the data sources read."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """Return an array as an IDX file's content."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def mnist_dir(tmp_path: Path, random: np.random.Generator) -> Path:
    """A data directory with a small MNIST: 12 raw training images, 5 gzip-compressed test images."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for prefix, count in (("train", 12), ("t10k", 5)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) * 3 % 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(array)
            if prefix == "train":
                (folder / f"{prefix}-{name}-ubyte").write_bytes(content)
            else:
                (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    return tmp_path


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Write train/ and test/ with classes ``ant`` and ``bee``; an image's grey level tells which one it is."""
    root = tmp_path / "insects"
    for split, count in (("train", 20), ("test", 5)):
        for label, name in enumerate(("bee", "ant")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.full((6, 8), 100 * label + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return root


@pytest.fixture
def real_data() -> Path:
    """The directory of the full data sets; skips the test where BANGBENCH_DATA is not set."""
    directory = os.environ.get("BANGBENCH_DATA")
    if not directory:
        pytest.skip("BANGBENCH_DATA is not set")
    return Path(directory)

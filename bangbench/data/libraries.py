"""Data sets of other libraries, each an extra: medmnist:FLAG, hf-dataset:NAME, torchvision-dataset:NAME."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError, UsageError
from bangbench.data.dataset import Dataset, Split, make_dataset
from bangbench.data.npz import NpzSource

#: How a picture of each mode becomes grey levels.
_GREY_MODES = frozenset({"1", "L", "LA", "La"})


def med_mnist(flag: str, data_dir: Path) -> NpzSource:
    """Return a set of MedMNIST, from the file that its library or its site leaves; nothing is fetched."""
    places = [
        data_dir / f"{flag}.npz",
        data_dir / "medmnist" / f"{flag}.npz",
        Path.home() / ".medmnist" / f"{flag}.npz",
    ]
    for path in places:
        if path.is_file():
            return NpzSource(path)
    raise BenchError(
        f"'medmnist:{flag}' was not found: expected it at {' or '.join(map(str, places))}; fetch it with "
        f"python -m medmnist save --flag={flag}, or from medmnist.com"
    )


class LibrarySource:
    """Images of a library that hands them over one by one, as pictures with their labels."""

    def __init__(self, name: str) -> None:
        self.name = name

    def items(self, split: Split) -> tuple[Iterator[tuple[Any, int]], Sequence[str] | None]:
        """Return pictures with labels, one by one, and the names of the classes where they are known."""
        raise NotImplementedError

    def load(self, split: Split) -> Dataset:
        """Return a split, in the library's order."""
        return self.load_first(split, None)

    def load_first(self, split: Split, count: int | None) -> Dataset:
        """Return the first images of a split (None: all); no others are decoded."""
        items, names = self.items(split)
        pairs = [(_pixels(picture), int(label)) for picture, label in islice(items, count)]
        if not pairs:
            raise BenchError(f"{self.name} has no {split} images")
        shapes = {pixels.shape[1:] for pixels, _ in pairs}
        if len(shapes) > 1:
            raise BenchError(f"{self.name}: images of {len(shapes)} sizes; write them to folders, and give --resize")
        depth = max(len(pixels) for pixels, _ in pairs)
        images = np.stack([np.broadcast_to(pixels, (depth, *pixels.shape[1:])) for pixels, _ in pairs])
        labels = np.array([label for _, label in pairs], dtype=np.int64)
        classes = tuple(map(str, names if names is not None else range(int(labels.max()) + 1)))
        return make_dataset(images, labels, classes, f"{self.name} {split}")


class HuggingFaceSource(LibrarySource):
    """A data set of `datasets`: its column of images, and its column of class labels."""

    def items(self, split: Split) -> tuple[Iterator[tuple[Any, int]], Sequence[str] | None]:
        """Return the images of a split; the validation split stands in for a missing test split."""
        library = _library("datasets", "hf")
        whole = _loaded(self.name, lambda: library.load_dataset(self.name))
        parts = {"train": ("train",), "test": ("test", "validation")}[split]
        part = next((whole[name] for name in parts if name in whole), None)
        if part is None:
            raise BenchError(f"hf-dataset:{self.name} has no split {' or '.join(parts)}, it has {', '.join(whole)}")
        kinds = {name: type(feature).__name__ for name, feature in part.features.items()}
        image, label = (next((name for name in kinds if kinds[name] == kind), None) for kind in ("Image", "ClassLabel"))
        if image is None or label is None:
            raise BenchError(
                f"hf-dataset:{self.name}: expected a column of images and one of class labels, found {kinds}"
            )
        return ((row[image], row[label]) for row in part), part.features[label].names


class TorchvisionSource(LibrarySource):
    """A data set of `torchvision.datasets` whose files lie in the data directory."""

    def __init__(self, name: str, data_dir: Path) -> None:
        super().__init__(name)
        self.data_dir = data_dir

    def items(self, split: Split) -> tuple[Iterator[tuple[Any, int]], Sequence[str] | None]:
        """Return the images of a split; data sets call it `train=False` or `split="test"`."""
        library = _library("torchvision.datasets", "torchvision")
        kind = getattr(library, self.name, None)
        if kind is None:
            raise UsageError(f"torchvision.datasets has no '{self.name}'; names are written as there, such as SVHN")
        place = str(self.data_dir)
        try:
            found = _loaded(self.name, lambda: kind(place, train=split == "train"), TypeError)
        except TypeError:
            found = _loaded(self.name, lambda: kind(place, split=split))
        return (found[place] for place in range(len(found))), getattr(found, "classes", None)


def _loaded(name: str, load: Any, passed: type[Exception] = BenchError) -> Any:
    try:
        return load()
    except (BenchError, passed):
        raise
    except Exception as error:  # other libraries raise anything
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise BenchError(
            f"data set '{name}' cannot be loaded: {type(error).__name__}: {reason}; check the name, and without a "
            "network put its files where its library keeps them"
        ) from error


def _pixels(picture: Any) -> NDArray[np.uint8]:
    """Return a picture of Pillow, or an array (H, W) or (H, W, 3), as uint8 (C, H, W)."""
    if hasattr(picture, "convert"):
        picture = picture.convert("L" if picture.mode in _GREY_MODES else "RGB")
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise BenchError(f"expected pictures of 8 bits a channel, found {pixels.dtype} {pixels.shape}")
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"this data set needs a library that cannot be imported ({error}); pip install 'bangbench[{extra}]'"
        ) from error

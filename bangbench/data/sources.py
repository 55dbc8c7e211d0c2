"""Which data sources there are, and how the text after ``--data`` becomes one of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bangbench.core.errors import BenchError, UsageError, unknown_name
from bangbench.core.registry import Registry
from bangbench.data.dataset import Dataset, Split
from bangbench.data.folder import FolderSource
from bangbench.data.images import Shape
from bangbench.data.libraries import HuggingFaceSource, TorchvisionSource, med_mnist
from bangbench.data.npy import NpySource, split_pair
from bangbench.data.npz import NpzSource

#: Names to callables that take the data directory (a `Path`) and return a `Source`.
SOURCES: Registry[Callable[[Path], Source]] = Registry(
    "data source",
    "bangbench.datasets",
    {
        "digits": "bangbench.data.digits:Digits",
        "mnist": "bangbench.data.mnist:Mnist",
        "cifar10": "bangbench.data.cifar10:Cifar10",
    },
)

#: Pixels of a side that images may be resized to.
_LARGEST_SIDE = 4096


class Source(Protocol):
    """Where images come from."""

    @property
    def name(self) -> str:
        """Return what tables call the data."""

    def load(self, split: Split) -> Dataset:
        """Return one split, in the order in which training reads it."""


_LIBRARIES: dict[str, Callable[[str, Path], Source]] = {
    "medmnist": med_mnist,
    "hf-dataset": lambda name, data_dir: HuggingFaceSource(name),
    "torchvision-dataset": TorchvisionSource,
}
_FILE_SOURCES: dict[str, Callable[[Path], Source]] = {"npz": NpzSource, "folder": FolderSource}


def open_source(text: str, data_dir: Path | None) -> Source:
    """Return the source for a registered name, ``npz:FILE``, ``npy:IMAGES,LABELS``, ``folder:DIR`` or ``folder:ZIP``.

    Or for a data set of another library (`libraries`).

    FILE and DIR are looked up in the working directory, then in the data directory; `load` reads the images.
    ``folder:DIR,resize=256,crop=224`` resizes the shorter side of images of mixed sizes and takes their middle.
    Raises `UsageError` for an unknown name or prefix and `BenchError` for a file that is in neither place.
    """
    prefix, colon, location = text.partition(":")
    if not colon:
        _check_name(text)
        source: Source = SOURCES.load(text)(data_directory(data_dir))
        return source
    if prefix not in (known := (*_FILE_SOURCES, *_LIBRARIES, "npy")):
        raise unknown_name("prefix of a data source", prefix, known)
    location, shape = _shape_in(text, location)
    if shape is not None and prefix != "folder":
        raise UsageError(f"'{text}': resize and crop go with folder: only; the images of others have one size")
    if not location:
        raise UsageError(f"'{text}' names no file: write {prefix}:PATH")
    if prefix in _LIBRARIES:
        return _LIBRARIES[prefix](location, data_directory(data_dir))
    if prefix == "npy":
        images, labels = (_find(text, Path(part), data_directory(data_dir)) for part in split_pair(location))
        return NpySource(images, labels)
    if shape is not None:
        return FolderSource(_find(text, Path(location), data_directory(data_dir)), shape)
    return _FILE_SOURCES[prefix](_find(text, Path(location), data_directory(data_dir)))


def load_first(source: Source, split: Split, count: int | None) -> Dataset:
    """Return the first `count` images of a split (None: all); a source that can do so reads no others."""
    own = getattr(source, "load_first", None)
    if own is None or count is None:
        return source.load(split).first(count)
    found: Dataset = own(split, count)
    return found


def data_directory(data_dir: Path | None) -> Path:
    """Return the directory of the data files: `data_dir`, else BANGBENCH_DATA, else the user's cache directory."""
    if data_dir is not None:
        return data_dir
    from_environment = os.environ.get("BANGBENCH_DATA")
    if from_environment:
        return Path(from_environment)
    import pooch  # takes a while, and is not needed where the data is

    return Path(pooch.os_cache("bangbench"))


def _shape_in(text: str, location: str) -> tuple[str, Shape | None]:
    """Return a path and the sizes after it, ``DIR,resize=256,crop=224``; without a crop it is as large as the side."""
    found = re.fullmatch(r"(.*?),resize=(\d+)(?:,crop=(\d+))?", location)
    if found is None:
        return location, None
    resize, crop = int(found[2]), int(found[3] or found[2])
    if not 1 <= crop <= resize <= _LARGEST_SIDE:
        raise UsageError(f"'{text}': expected 1 <= crop <= resize <= {_LARGEST_SIDE} pixels")
    return found[1], Shape(resize, crop)


def _check_name(text: str) -> None:
    path = Path(text)
    if text not in SOURCES.names() and (path.suffix in {".npz", ".zip"} or path.is_dir()):
        prefix = "npz" if path.suffix == ".npz" else "folder"
        raise UsageError(f"'{text}' is no data source by itself: did you mean '{prefix}:{text}'?")
    SOURCES.check(text)


def _find(text: str, location: Path, data_dir: Path) -> Path:
    """Return the path in the working directory, else in the data directory (an absolute one is both)."""
    for path in (location, data_dir / location):
        if path.exists():
            return path
    places = [location] if location.is_absolute() else [Path.cwd() / location, data_dir / location]
    raise BenchError(
        f"'{text}' was not found: expected it at {' or '.join(map(str, places))}; check the path, or set "
        "--data-dir or BANGBENCH_DATA"
    )

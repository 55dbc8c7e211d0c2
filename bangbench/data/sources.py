"""Which data sources there are, and how the text after ``--data`` becomes one of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bangbench.core.errors import BenchError, UsageError, unknown_name
from bangbench.core.registry import Registry
from bangbench.data.dataset import Dataset, Split
from bangbench.data.folder import FolderSource
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


class Source(Protocol):
    """Where images come from."""

    @property
    def name(self) -> str:
        """Return what tables call the data."""

    def load(self, split: Split) -> Dataset:
        """Return one split, in the order in which training reads it."""


_FILE_SOURCES: dict[str, Callable[[Path], Source]] = {"npz": NpzSource, "folder": FolderSource}


def open_source(text: str, data_dir: Path | None) -> Source:
    """Return the source for a registered name, ``npz:FILE``, ``npy:IMAGES,LABELS``, ``folder:DIR`` or ``folder:ZIP``.

    FILE and DIR are looked up in the working directory, then in the data directory; `load` reads the images.
    Raises `UsageError` for an unknown name or prefix and `BenchError` for a file that is in neither place.
    """
    prefix, colon, location = text.partition(":")
    if not colon:
        _check_name(text)
        source: Source = SOURCES.load(text)(data_directory(data_dir))
        return source
    if prefix not in (*_FILE_SOURCES, "npy"):
        raise unknown_name("prefix of a data source", prefix, (*_FILE_SOURCES, "npy"))
    if not location:
        raise UsageError(f"'{text}' names no file: write {prefix}:PATH")
    if prefix == "npy":
        images, labels = (_find(text, Path(part), data_directory(data_dir)) for part in split_pair(location))
        return NpySource(images, labels)
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

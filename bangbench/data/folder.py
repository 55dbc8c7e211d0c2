"""Data sets stored as images: train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE, in a directory or a .zip."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.data.dataset import Dataset, Split
from bangbench.data.decoded import Wanted, decoded_dataset
from bangbench.data.images import SUFFIXES, Like, Shape, declares_colour, decode_image
from bangbench.data.order import fixed_permutation
from bangbench.data.tree import Tree, open_tree
from bangbench.store.files import read_file

_SPLITS: tuple[Split, Split] = ("train", "test")
_DEPTH = 3
_ARRANGE = "arrange the images as train/CLASS/IMAGE and test/CLASS/IMAGE, or for an evaluation as CLASS/IMAGE"
#: Names of classes whose folders have others, such as ImageNet's.
NAMES_FILE = "classes.txt"
_MOST_BYTES_OF_NAMES = 1 << 20
#: Files passed over that a message names.
_MOST_NAMED = 5
_LOG = logging.getLogger(__name__)


class FolderSource:
    """Images in one folder per class; the folders' names, sorted, are the classes.

    An evaluation needs no training images: test/ alone will do, or val/ in its place, or the folders of the classes.
    All images of both splits have one size. They become grey (C = 1) when all of them are, else RGB (C = 3).
    Images lie by class, so each split is permuted once with a fixed seed: training reads batches in order.
    """

    def __init__(self, path: Path, shape: Shape | None = None) -> None:
        """shape: what images of mixed sizes become; None: all have one size."""
        self.path = path
        self.shape = shape
        self.name = path.resolve().name if path.is_dir() else path.stem
        self._prefix = f"{path}/" if path.is_dir() else f"{path}: "
        self._real: Mapping[str, str] = {}
        self._loaded: dict[Split, Dataset] = {}

    def load(self, split: Split) -> Dataset:
        """Return the split: uint8 (N, C, H, W). Raises `BenchError` that names the file or folder at fault.

        Of the other split headers are looked at, until one says that its image is colour, and the size of one image.
        """
        if split not in self._loaded:
            self._loaded[split] = self._load(split, None)
        return self._loaded[split]

    def load_first(self, split: Split, count: int) -> Dataset:
        """Return the first images of a split, the same as `load` gives; no others are decoded, and may be damaged."""
        return self._loaded[split].first(count) if split in self._loaded else self._load(split, count)

    def _load(self, split: Split, count: int | None) -> Dataset:
        with open_tree(self.path) as tree:
            self._real = tree.real
            names, classes = self._names(tree), self._classes(tree)
            if split not in names:
                raise BenchError(f"{self.path}: expected class folders in {split}/, found none; {_ARRANGE}")
            own = names[split]
            wanted = [own[index] for index in fixed_permutation(len(own), "folder", split)[:count]]
            number = {name: label for label, name in enumerate(classes)}
            labels = np.array([number[name.split("/")[1]] for name in wanted], dtype=np.int64)
            others = [name for part, other in names.items() if part != split for name in other]
            beside = others[0] if others and count is None else None
            files = _Files(tree, self._where, self.shape, wanted, sorted({*own} - {*wanted}) + others, beside)
            kind = f"folder {self.shape} {count}"
            return decoded_dataset(Wanted(self.path, split, kind, labels, self._titles(classes), files))

    def _titles(self, classes: list[str]) -> tuple[str, ...]:
        """Return what the classes are called: as their folders, or as a line FOLDER NAME of classes.txt says."""
        path = self.path / NAMES_FILE
        if not self.path.is_dir() or not path.is_file():
            return tuple(classes)
        try:
            lines = read_file(path, _MOST_BYTES_OF_NAMES).decode().splitlines()
        except UnicodeDecodeError as error:
            raise BenchError(f"{path} is not UTF-8 text; write FOLDER NAME on each line") from error
        pairs = [line.split(None, 1) for line in lines]
        titles = {pair[0]: pair[1].strip() for pair in pairs if len(pair) > 1}
        lacking = [name for name in classes if name not in titles]
        if lacking:
            named = ", ".join(lacking[:_MOST_NAMED])
            raise BenchError(f"{path}: expected a line FOLDER NAME for each class, found none for {named}")
        return tuple(titles[name] for name in classes)

    def _names(self, tree: Tree) -> Mapping[Split, list[str]]:
        images = [name for name in tree.files if f".{name.rpartition('.')[2]}".lower() in SUFFIXES]
        stray = sorted({*tree.files} - {*images})
        if stray:
            shown = ", ".join(map(self._where, stray[:_MOST_NAMED]))
            _LOG.warning("passed over what is no image (%d): %s", len(stray), shown)
        for name in images:
            if name.count("/") != _DEPTH - 1:
                raise BenchError(
                    f"{self._where(name)}: expected images in folders of classes only, as train/CLASS/IMAGE, "
                    "test/CLASS/IMAGE or CLASS/IMAGE; move this file"
                )
        found = {split: [name for name in images if name.startswith(f"{split}/")] for split in _SPLITS}
        return {split: names for split, names in found.items() if any(name.startswith(split) for name in tree.folders)}

    def _classes(self, tree: Tree) -> list[str]:
        """Return the classes, sorted; both splits must have the same ones, each with at least one image."""
        filled = {name.rpartition("/")[0] for name in tree.files}
        splits = [split for split in _SPLITS if any(name.split("/")[0] == split for name in tree.folders)]
        found = {split: self._split_classes(tree, split) for split in splits or _SPLITS}
        for split, classes in found.items():
            other = found.get("test" if split == "train" else "train", classes)
            for name in classes:
                if f"{split}/{name}" not in filled:
                    raise BenchError(
                        f"{self._where(f'{split}/{name}')}: the class folder is empty; add images or remove the class"
                    )
                if name not in other:
                    raise BenchError(
                        f"{self.path}: expected the same classes in train/ and test/, found '{name}' in {split}/ only"
                    )
        return found[splits[0]]

    def _split_classes(self, tree: Tree, split: Split) -> list[str]:
        folders = [name.split("/") for name in tree.folders]
        classes = [parts[1] for parts in folders if parts[0] == split and len(parts) == _DEPTH - 1]
        if not classes:
            raise BenchError(f"{self.path}: expected class folders in {split}/, found none; {_ARRANGE}")
        return sorted(classes)

    def _where(self, name: str) -> str:
        return f"{self._prefix}{self._real.get(name, name)}"


class _Files:
    """The image files of a tree that are wanted, in their order, and others that decide whether all become colour.

    beside: one of the others, which must have the size of those that are wanted.
    """

    def __init__(
        self,
        tree: Tree,
        where: Callable[[str], str],
        shape: Shape | None,
        wanted: list[str],
        others: list[str],
        beside: str | None,
    ) -> None:
        self.stamp = tree.stamp
        self._tree = tree
        self._where = where
        self._fit = shape
        self._wanted = wanted
        self._others = others
        self._beside = beside
        self._first = min(wanted)

    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape (N, C, H, W), as the first image and the headers of all say."""
        height, width = self._pixels_of_first.shape[:2]
        if self._beside is not None:
            self._pixels(self._beside, self._like)
        return len(self._wanted), 3 if self._colour else 1, height, width

    def decode(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield place and pixels (C, H, W) of each wanted image, in the order of their names."""
        for place, name in sorted(enumerate(self._wanted), key=lambda pair: pair[1]):
            pixels = self._pixels_of_first if name == self._first else self._pixels(name, self._like)
            yield place, _channels_first(pixels, self._colour)

    @property
    def _like(self) -> Like:
        return Like(self._where(self._first), self._pixels_of_first.shape[1], self._pixels_of_first.shape[0])

    @cached_property
    def _pixels_of_first(self) -> NDArray[np.uint8]:
        return self._pixels(self._first, None)

    @cached_property
    def _colour(self) -> bool:
        return any(declares_colour(self._tree.read(name)) for name in (*self._wanted, *self._others))

    def _pixels(self, name: str, like: Like | None) -> NDArray[np.uint8]:
        """Return the pixels of a file, (H, W) or (H, W, 3); of one size, as its header says before it is decoded."""
        pixels = decode_image(self._tree.read(name), self._where(name), None if self._fit else like)
        return pixels if self._fit is None else self._fit.fit(pixels)


def _channels_first(pixels: NDArray[np.uint8], colour: bool) -> NDArray[np.uint8]:
    if pixels.ndim == _DEPTH:
        return pixels.transpose(2, 0, 1)
    return np.broadcast_to(pixels, (3, *pixels.shape)) if colour else pixels[None]

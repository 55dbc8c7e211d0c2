"""Data sets stored as images: train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE, in a directory or a .zip."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.core.memory import check_memory
from bangbench.data.dataset import Dataset, Split, make_dataset
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

    def load(self, split: Split) -> Dataset:
        """Return the split: uint8 (N, C, H, W). Raises `BenchError` that names the file or folder at fault."""
        if split not in self._datasets:
            raise BenchError(f"{self.path}: expected class folders in {split}/, found none; {_ARRANGE}")
        return self._datasets[split]

    def load_first(self, split: Split, count: int) -> Dataset:
        """Return the first images of a split, the same as `load` gives; no others are decoded, and may be damaged."""
        if "_datasets" in self.__dict__:
            return self.load(split).first(count)
        with open_tree(self.path) as tree:
            self._real = tree.real
            names, classes = self._names(tree), self._classes(tree)
            if split not in names:
                raise BenchError(f"{self.path}: expected class folders in {split}/, found none; {_ARRANGE}")
            colour = any(declares_colour(tree.read(name)) for part in names.values() for name in part)
            wanted = [names[split][index] for index in fixed_permutation(len(names[split]), "folder", split)[:count]]
            return self._dataset(split, wanted, classes, self._decoded(tree, wanted), colour)

    @cached_property
    def _datasets(self) -> Mapping[Split, Dataset]:
        """Both splits: size and colour of one depend on the other, so every image has to be seen anyway."""
        with open_tree(self.path) as tree:
            self._real = tree.real
            names = self._names(tree)
            classes = self._classes(tree)
            decoded = self._decoded(tree, sorted(name for split in names.values() for name in split))
        colour = any(pixels.ndim == _DEPTH for pixels in decoded.values())
        ordered = {
            split: [part[index] for index in fixed_permutation(len(part), "folder", split)]
            for split, part in names.items()
        }
        return {split: self._dataset(split, part, classes, decoded, colour) for split, part in ordered.items()}

    def _dataset(
        self,
        split: Split,
        names: list[str],
        classes: list[str],
        decoded: Mapping[str, NDArray[np.uint8]],
        colour: bool,
    ) -> Dataset:
        images = np.stack([_channels_first(decoded[name], colour) for name in names])
        number = {name: label for label, name in enumerate(classes)}
        labels = np.array([number[name.split("/")[1]] for name in names], dtype=np.int64)
        return make_dataset(images, labels, self._titles(classes), f"{self.path} {split}")

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

    def _decoded(self, tree: Tree, names: list[str]) -> Mapping[str, NDArray[np.uint8]]:
        """Return the pixels of every file: (H, W) or (H, W, 3), of one size, as the headers say before any is decoded.

        All of them, and a copy in their order, must fit into half of the memory available.
        """
        decoded: dict[str, NDArray[np.uint8]] = {}
        like: Like | None = None
        for name in names:
            pixels = decode_image(tree.read(name), self._where(name), None if self.shape else like)
            pixels = decoded[name] = pixels if self.shape is None else self.shape.fit(pixels)
            if like is None or pixels.ndim == _DEPTH > decoded[like.name].ndim:
                check_memory(2 * len(names) * pixels.nbytes, f"{self.path}: {len(names):,} images like {name}")
                like = Like(name, pixels.shape[1], pixels.shape[0])
        return decoded

    def _where(self, name: str) -> str:
        return f"{self._prefix}{self._real.get(name, name)}"


def _channels_first(pixels: NDArray[np.uint8], colour: bool) -> NDArray[np.uint8]:
    if pixels.ndim == _DEPTH:
        return pixels.transpose(2, 0, 1)
    return np.broadcast_to(pixels, (3, *pixels.shape)) if colour else pixels[None]

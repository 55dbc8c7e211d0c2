"""The images and labels that a user hands over, in the bench's one form, or refused with what to pass instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bangbench.core.errors import UsageError
from bangbench.data.dataset import Dataset, make_dataset

#: What images and labels may be given as.
Images = Tensor | NDArray[Any] | Iterable[Any]
Labels = Tensor | NDArray[Any] | list[int] | None

#: A float is on a grey level if it is no farther off, in grey levels, beyond what its own type rounds.
_ON_LEVEL = 1e-3
#: What rounding may leave of a range that is [0, 1] otherwise.
_BEYOND = 1e-6
_CHANNELS = (1, 3, 4)


class Batch(NamedTuple):
    """Images uint8 (N, C, H, W) with labels int64 (N,), on the CPU.

    rounded: how many images had a float pixel on no grey level; like: how the user gave the images, so that others are
    given back alike: "uint8" or "float", as a tensor or an array.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    rounded: int
    like: Tensor | NDArray[Any]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a reader should know of the images."""
        if not self.rounded:
            return ()
        return (f"{self.rounded:,} of {len(self.pixels):,} images were on no whole grey level, and were rounded",)

    def dataset(self, classes: int) -> Dataset:
        """Return images and labels as the bench's sources give them, with their fingerprint."""
        return make_dataset(self.pixels, self.labels, tuple(map(str, range(classes))), "images")

    def given_back(self, pixels: NDArray[np.uint8]) -> Tensor | NDArray[Any]:
        """Return images uint8 (N, C, H, W) in the form of the user's: float in [0, 1] or uint8, array or tensor."""
        like = self.like
        if isinstance(like, Tensor):
            tensor = torch.from_numpy(pixels)
            return tensor.to(like.device) if like.dtype == torch.uint8 else (tensor.to(like) / 255)
        return pixels if like.dtype == np.uint8 else (pixels / 255.0).astype(like.dtype)


def read_batch(images: Images, labels: Labels, limit: int | None = None) -> Batch:
    """Return the first `limit` images and labels; a DataLoader gives both.

    Raises `UsageError` for everything that could mean something else than it seems to.
    """
    if not isinstance(images, Tensor | np.ndarray):
        if isinstance(images, list) or labels is not None or not isinstance(images, Iterable):
            raise UsageError(
                f"images: expected a tensor, an array, or a DataLoader (without labels), found {type(images).__name__} "
                f"{'with' if labels is not None else 'without'} labels; stack the images into one tensor (N, C, H, W)"
            )
        images, labels = _from_loader(images, limit)
    if labels is None:
        raise UsageError("labels: expected the class of each image, int (N,), found none")
    numbers = _labels(labels)[:limit]
    pixels, rounded = grey_levels(images[:limit])
    if len(numbers) != len(pixels):
        raise UsageError(f"expected as many labels as images, found {len(numbers):,} and {len(pixels):,}")
    return Batch(pixels, numbers, rounded, images[:0])


def grey_levels(images: Tensor | NDArray[Any], what: str = "images") -> tuple[NDArray[np.uint8], int]:
    """Return images as uint8 (N, C, H, W), and how many of them had to be rounded.

    Floats mean [0, 1], uint8 0..255. `UsageError` for another type, range or order of axes.
    """
    _check_shape(tuple(images.shape), what)
    kind = _kind(images)
    values = images.detach().cpu() if isinstance(images, Tensor) else images
    if kind == "uint8":
        return np.ascontiguousarray(values), 0
    if kind == "other":
        raise UsageError(
            f"{what}: expected float in [0, 1] or uint8 in 0..255, found {images.dtype}; pass grey levels as uint8"
        )
    eps = float(torch.finfo(images.dtype).eps if isinstance(images, Tensor) else np.finfo(images.dtype).eps)
    floats = values.double().numpy() if isinstance(values, Tensor) else values.astype(np.float64)
    _check_range(floats, what)
    levels = np.rint(255.0 * floats).clip(0.0, 255.0)
    off = np.abs(255.0 * floats - levels) > max(_ON_LEVEL, 255.0 * eps)
    return levels.astype(np.uint8), int(off.any(axis=(1, 2, 3)).sum())


def _kind(images: Tensor | NDArray[Any]) -> Literal["uint8", "float", "other"]:
    if isinstance(images, Tensor):
        return "uint8" if images.dtype == torch.uint8 else "float" if images.is_floating_point() else "other"
    return "uint8" if images.dtype == np.uint8 else "float" if images.dtype.kind == "f" else "other"


def _check_shape(shape: tuple[int, ...], what: str) -> None:
    seen = f"{what}: expected (N, C, H, W), found {shape}"
    if len(shape) == 3:
        raise UsageError(f"{seen}; pass images[:, None] if these are N grey images, images[None] if it is one image")
    if len(shape) != 4:
        raise UsageError(f"{seen}; pass one image a row, with its channels, height and width")
    if shape[3] in _CHANNELS and shape[1] not in _CHANNELS:
        raise UsageError(
            f"{seen}, which looks like (N, H, W, C); pass images.permute(0, 3, 1, 2), or .transpose(0, 3, 1, 2) of an "
            "array"
        )
    if 0 in shape:
        raise UsageError(f"{seen}; pass at least one image")


def _check_range(floats: NDArray[np.float64], what: str) -> None:
    low, high = float(floats.min()), float(floats.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UsageError(f"{what}: expected float in [0, 1], found NaN or infinite values; look where they come from")
    seen = f"{what}: expected float in [0, 1], found {low:.4g} to {high:.4g}"
    if low < -_BEYOND:
        raise UsageError(
            f"{seen}, which looks normalised; pass the images before that, and mean=... and std=... if the model does "
            "not do it itself"
        )
    if high > 1.0 + _BEYOND:
        raise UsageError(f"{seen}; pass images / 255 if these are grey levels, or give them as uint8")


def _labels(labels: Tensor | NDArray[Any] | list[int]) -> NDArray[np.int64]:
    numbers = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        hint = "; pass labels.argmax(1) of one-hot labels" if numbers.ndim == 2 else ""
        raise UsageError(f"labels: expected whole numbers (N,), found {numbers.dtype} {numbers.shape}{hint}")
    return numbers.astype(np.int64)


def _from_loader(loader: Iterable[Any], limit: int | None) -> tuple[Tensor, Tensor]:
    """Return the first images and labels of a DataLoader, or of any iterable of pairs of batches."""
    images: list[Tensor] = []
    labels: list[Tensor] = []
    count = 0
    for batch in _pairs(loader):
        images.append(torch.as_tensor(batch[0]))
        labels.append(torch.as_tensor(batch[1]))
        count += len(images[-1])
        if limit is not None and count >= limit:
            break
    if not images:
        raise UsageError("images: expected a DataLoader of batches (images, labels), found an empty one")
    return torch.cat(images), torch.cat(labels)


def _pairs(loader: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for batch in loader:
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise UsageError(
                f"images: expected a DataLoader whose batches are (images, labels), found {type(batch).__name__}; pass "
                "images and labels as tensors"
            )
        yield batch[0], batch[1]

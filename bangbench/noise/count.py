"""Counting the noisy copies of images that are not classified as the image's class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bangbench.core.progress import SILENT, Progress
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import answered
from bangbench.noise.arithmetic import computing_in
from bangbench.noise.draws import draws
from bangbench.noise.spec import Arithmetic

#: Draws of each image and cell that are computed in float32 as well where the arithmetic is reduced.
COMPARED_DRAWS = 10


class Noise(NamedTuple):
    """The noise to add: its standard deviations (grey levels), noisy copies per image, seed, clip and round or not.

    The copies of an image are its draws first .. first + draws - 1.
    """

    sigmas: tuple[float, ...]
    draws: int
    seed: int
    clip: bool
    first: int = 0


class Images(NamedTuple):
    """The images to add noise to.

    pixels: uint8 (N, C, H, W); labels: int64 (N,), on the same device; indices: their places in the test split, which
    the noise is keyed by.
    """

    pixels: Tensor
    labels: Tensor
    indices: NDArray[np.int64]


class Counts(NamedTuple):
    """Noisy copies of each image, int32 (classifiers, sigmas, N), each 0..draws.

    flipped: those that the classifier gets wrong; differing: those, of the first `COMPARED_DRAWS` draws, that it gets
    wrong in the reduced arithmetic or in float32 but not in both, None where the arithmetic is float32.
    """

    flipped: NDArray[np.int32]
    differing: NDArray[np.int32] | None = None


class _Batch(NamedTuple):
    """Some noisy copies: the row in `Images` of each, int64 (B,), its noise, (B, C, H, W), and which are compared."""

    owners: Tensor
    standard: Tensor
    compared: Tensor


@torch.inference_mode()
def count_flips(
    classifiers: Sequence[Classifier],
    images: Images,
    noise: Noise,
    batch_size: int,
    progress: Progress = SILENT,
    cells: NDArray[np.bool_] | None = None,
    arithmetic: Arithmetic = "float32",
) -> Counts:
    """Return how many noisy copies each classifier gets wrong.

    The classifiers are in eval mode on the images' device. cells: which to count, (classifiers, sigmas), the others
    stay 0 and cost nothing (None: all). `progress` advances by forward passes in `arithmetic`.
    """
    device = images.pixels.device
    size = (len(classifiers), len(noise.sigmas), len(images.indices))
    wanted = np.ones(size[:2], dtype=np.bool_) if cells is None else cells
    flipped, differing = (torch.zeros(size, dtype=torch.int32, device=device) for _ in range(2))
    for owners, standard, compared in _batches(images, noise, batch_size) if wanted.any() else ():
        originals, labels = images.pixels[owners].to(torch.float32), images.labels[owners]
        noisy = torch.empty_like(originals)
        for level in np.flatnonzero(wanted.any(axis=0)).tolist():
            _add_noise(originals, standard, noise.sigmas[level], noise.clip, noisy)
            places = np.flatnonzero(wanted[:, level]).tolist()
            for place in places:
                wrong = _wrong(classifiers[place], noisy, labels, arithmetic)
                flipped[place, level].index_add_(0, owners, wrong.to(torch.int32))
                if arithmetic != "float32" and len(compared):
                    exact = _wrong(classifiers[place], noisy[compared], labels[compared], "float32")
                    changed = exact != wrong[compared]
                    differing[place, level].index_add_(0, owners[compared], changed.to(torch.int32))
            progress.advance(len(owners) * len(places))
    return Counts(flipped.cpu().numpy(), None if arithmetic == "float32" else differing.cpu().numpy())


def _wrong(classifier: Classifier, noisy: Tensor, labels: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Return which noisy copies are not classified as their label, bool (B,)."""
    with computing_in(arithmetic, noisy.device):
        logits: Tensor = classifier(noisy)
    return ~answered(logits, labels)


def _add_noise(originals: Tensor, standard: Tensor, sigma: float, clip: bool, noisy: Tensor) -> None:
    """Write clip(round(x + sigma n), 0, 255) to `noisy`.

    Product and sum are two steps, since a fused one would round differently from device to device.
    """
    torch.mul(standard, sigma, out=noisy).add_(originals)
    if clip:
        noisy.round_().clamp_(0, 255)


def _batches(images: Images, noise: Noise, batch_size: int) -> Iterator[_Batch]:
    """Yield the copies of all images, which follow one another, in batches of the next `batch_size` of them."""
    device = images.pixels.device
    copies = len(images.indices) * noise.draws
    for begin in range(0, copies, batch_size):
        end = min(begin + batch_size, copies)
        places = torch.arange(begin, end)
        compared = torch.nonzero(noise.first + places % noise.draws < COMPARED_DRAWS).flatten()
        standard = torch.from_numpy(_standard_normal(images, noise, begin, end))
        yield _Batch(*(_to_device(part, device) for part in (places // noise.draws, standard, compared)))


def _standard_normal(images: Images, noise: Noise, begin: int, end: int) -> NDArray[np.float32]:
    """Return the noise of the copies begin .. end - 1, (end - begin, C, H, W)."""
    channels, height, width = images.pixels.shape[1:]
    parts = []
    for row in range(begin // noise.draws, (end - 1) // noise.draws + 1):
        skipped = max(begin - row * noise.draws, 0)
        count = min(end - row * noise.draws, noise.draws) - skipped
        index, first = int(images.indices[row]), noise.first + skipped
        parts.append(draws(noise.seed, index, first, count, (channels, height, width)))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`; pinned memory lets the CPU make the next batch while a GPU computes this one."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

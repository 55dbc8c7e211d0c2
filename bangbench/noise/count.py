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
from bangbench.noise.draws import draws


class Noise(NamedTuple):
    """The noise to add: its standard deviations (grey levels), noisy copies per image, seed, clip and round or not."""

    sigmas: tuple[float, ...]
    draws: int
    seed: int
    clip: bool


class Images(NamedTuple):
    """The images to add noise to.

    pixels: uint8 (N, C, H, W); labels: int64 (N,), on the same device; indices: their places in the test split, which
    the noise is keyed by.
    """

    pixels: Tensor
    labels: Tensor
    indices: NDArray[np.int64]


@torch.inference_mode()
def count_flips(
    classifiers: Sequence[Classifier], images: Images, noise: Noise, batch_size: int, progress: Progress = SILENT
) -> NDArray[np.int32]:
    """Return how many noisy copies each classifier gets wrong, int32 (classifiers, sigmas, N), each 0..draws.

    The classifiers are in eval mode on the images' device. `progress` advances by forward passes.
    """
    device = images.pixels.device
    size = (len(classifiers), len(noise.sigmas), len(images.indices))
    counts = torch.zeros(size, dtype=torch.int32, device=device)
    for owners, standard in _batches(images, noise, batch_size):
        originals, labels = images.pixels[owners].to(torch.float32), images.labels[owners]
        noisy = torch.empty_like(originals)
        for level, sigma in enumerate(noise.sigmas):
            _add_noise(originals, standard, sigma, noise.clip, noisy)
            for place, classifier in enumerate(classifiers):
                wrong = classifier(noisy).argmax(1) != labels
                counts[place, level].index_add_(0, owners, wrong.to(torch.int32))
            progress.advance(len(owners) * len(classifiers))
    return counts.cpu().numpy()


def _add_noise(originals: Tensor, standard: Tensor, sigma: float, clip: bool, noisy: Tensor) -> None:
    """Write clip(round(x + sigma n), 0, 255) to `noisy`.

    Product and sum are two steps, since a fused one would round differently from device to device.
    """
    torch.mul(standard, sigma, out=noisy).add_(originals)
    if clip:
        noisy.round_().clamp_(0, 255)


def _batches(images: Images, noise: Noise, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (owners, standard): the row in `images` of each noisy copy, int64 (B,), and its noise, (B, C, H, W).

    The copies of all images follow one another, and a batch is the next `batch_size` of them.
    """
    device = images.pixels.device
    copies = len(images.indices) * noise.draws
    for begin in range(0, copies, batch_size):
        end = min(begin + batch_size, copies)
        owners = torch.arange(begin, end, device=device) // noise.draws
        yield owners, _to_device(_standard_normal(images, noise, begin, end), device)


def _standard_normal(images: Images, noise: Noise, begin: int, end: int) -> NDArray[np.float32]:
    """Return the noise of the copies begin .. end - 1, (end - begin, C, H, W)."""
    channels, height, width = images.pixels.shape[1:]
    parts = []
    for row in range(begin // noise.draws, (end - 1) // noise.draws + 1):
        first = max(begin - row * noise.draws, 0)
        count = min(end - row * noise.draws, noise.draws) - first
        parts.append(draws(noise.seed, int(images.indices[row]), first, count, (channels, height, width)))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _to_device(values: NDArray[np.float32], device: torch.device) -> Tensor:
    """Return `values` on `device`; pinned memory lets the CPU make the next batch while a GPU computes this one."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

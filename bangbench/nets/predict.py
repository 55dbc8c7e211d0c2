"""Predictions over many images, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bangbench.nets.classifier import Classifier

#: Images per forward pass: on a CPU larger batches leave the cache, on a GPU they fill it.
BATCH_SIZE = {"cpu": 256, "cuda": 5000, "mps": 1000}


#: Values of an image for which those numbers are meant (32 x 32 in colour), and the least of larger ones at once.
_USUAL_VALUES, _FEWEST = 3 * 32 * 32, 16


def batch_size_for(device: torch.device, values: int = _USUAL_VALUES) -> int:
    """Return a good number of images per forward pass on `device`, fewer where one has more `values` than usual."""
    usual = BATCH_SIZE.get(device.type, 256)
    return usual if values <= _USUAL_VALUES else max(_FEWEST, usual * _USUAL_VALUES // values // 8 * 8)


@torch.no_grad()
def logits_of(classifier: Classifier, images: Tensor, batch_size: int | None = None) -> Tensor:
    """Return logits (N, K) of grey-level images (N, C, H, W), uint8 or float32, on the images' device.

    batch_size: images per forward pass, by default what suits the device and the size of an image.
    """
    step = batch_size or batch_size_for(images.device, images[:1].numel())
    parts = [classifier(part.to(torch.float32)) for part in torch.split(images, step)]
    return torch.cat(parts)


def predict(classifier: Classifier, images: Tensor, batch_size: int | None = None) -> Tensor:
    """Return the predicted classes int64 (N,) of grey-level images (N, C, H, W)."""
    return logits_of(classifier, images, batch_size).argmax(1)


def answered(logits: Tensor, labels: Tensor) -> Tensor:
    """Return where the label (N,) has the largest of the logits (N, K); NaN is no answer at all."""
    return (logits.argmax(1) == labels) & ~logits.isnan().any(1)


def misclassified(logits: Tensor, labels: Tensor) -> Tensor:
    """Return where another class than the label (N,) has the largest of the logits (N, K); NaN is no answer at all."""
    return (logits.argmax(1) != labels) & ~logits.isnan().any(1)


def accuracy_percent(classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int | None = None) -> float:
    """Return the percentage of images (N, C, H, W) classified as `labels` (N,), the classifier in eval mode."""
    with evaluated(classifier):
        correct = int((predict(classifier, images, batch_size) == labels).sum())
    return 100.0 * correct / len(labels)


@contextmanager
def left_as_found(net: nn.Module) -> Iterator[None]:
    """Put the mode and the buffers of every module back after the block; a frozen program has no mode."""
    modes = {module: module.training for module in net.modules() if hasattr(module, "training")}
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in net.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for module, name, buffer, content in buffers:
            if not torch.equal(buffer, content):
                with torch.inference_mode(buffer.is_inference()):
                    buffer.copy_(content)
            module._buffers[name] = buffer


@contextmanager
def evaluated(classifier: Classifier) -> Iterator[None]:
    """Put the classifier in eval mode, and back afterwards."""
    training = classifier.training
    classifier.eval()
    try:
        yield
    finally:
        classifier.train(training)


def to_device(images: NDArray, device: torch.device) -> Tensor:  # type: ignore[type-arg]  # uint8 or int64
    """Return a numpy array as a tensor on `device`."""
    return torch.from_numpy(images).to(device)

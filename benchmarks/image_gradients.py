"""Gradients with respect to images, the fast way through the first convolution, against autograd's own."""

from __future__ import annotations

from contextlib import nullcontext
from unittest.mock import patch

import torch

from bangbench.nets import gradients
from bangbench.nets.gradients import image_gradient, unmasked_margin
from benchmarks.compare import Comparison, Work, compare
from benchmarks.inputs import subject

_IMAGES, _REPEATS = 64, 20


def comparisons() -> list[Comparison]:
    """Compare on one thread and 64 images, as many as an adversarial training step has."""
    torch.set_num_threads(1)
    found = subject(_IMAGES)

    def gradient() -> None:
        for _ in range(_REPEATS):
            image_gradient(found.classifier, found.images, lambda logits: unmasked_margin(logits, found.labels))

    operation = f"{_REPEATS} image gradients of {_IMAGES} images, {found.name}, 1 thread"
    return [compare(operation, gradient, "autograd", _by_autograd(gradient), runs=9)]


def _by_autograd(work: Work) -> Work:
    def slow() -> None:
        with patch.object(gradients, "quick_image_gradients", lambda *_: nullcontext()):
            work()

    return slow

"""Hot/cold towards the closest class (HC1; Rozsa et al. 2016), as published and with its sign mended."""

from __future__ import annotations

import torch
from torch import Tensor

from bangbench.attacks.base import Attack, Direction
from bangbench.attacks.grids import growing_steps
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient, largest_entry, true_logits, without_true_class


def hot_cold(classifier: Classifier, images: Tensor, labels: Tensor) -> Direction:
    """Return J'w / max|J'w| with w = |h_t| at the closest wrong class t and -h_true at the true one.

    images: float32 (N, C, H, W) in grey levels; labels: int64 (N,); h: the logits, J their Jacobian. Where the true
    logit is negative, -h_true is positive and the direction leads towards the true class.
    """
    return _hot_cold(classifier, images, labels, mended=False)


def hot_cold_unmasked(classifier: Classifier, images: Tensor, labels: Tensor) -> Direction:
    """Return the direction of `hot_cold` with -|h_true| at the true class, which always leads away from it."""
    return _hot_cold(classifier, images, labels, mended=True)


def _hot_cold(classifier: Classifier, images: Tensor, labels: Tensor, mended: bool) -> Direction:
    def weighted(logits: Tensor) -> Tensor:
        target = without_true_class(logits, labels).argmax(1)
        hot = true_logits(logits, target)
        cold = true_logits(logits, labels)
        weight = -cold.detach().abs() if mended else -cold.detach()
        return hot.detach().abs() * hot + weight * cold

    gradient, _ = image_gradient(classifier, images, weighted)
    largest = largest_entry(gradient)
    usable = (largest > 0.0) & largest.isfinite()
    divisor = torch.where(usable, largest, 1.0).view(-1, 1, 1, 1)
    return Direction(gradient / divisor, ~usable, largest)


HC1 = Attack(hot_cold, growing_steps())
HC1_UNMASKED = Attack(hot_cold_unmasked, growing_steps())

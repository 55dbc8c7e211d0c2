"""Fast gradient sign (Goodfellow et al. 2015), and the same without float32 underflow."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.attacks.base import Attack, Direction
from bangbench.attacks.grids import grey_level_steps
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient, largest_entry, unmasked_margin


def fgs(classifier: Classifier, images: Tensor, labels: Tensor) -> Direction:
    """Return the sign of the gradient of the cross-entropy at the true label.

    images: float32 (N, C, H, W) in grey levels; labels: int64 (N,). An image is blank where its float32 loss is
    exactly 0 (softmax gives p_true == 1.0), whatever the autograd gradient holds: its entries come from the tiny
    probabilities of the other classes.
    """
    losses: list[Tensor] = []

    def objective(logits: Tensor) -> Tensor:
        losses.append(cross_entropy(logits, labels, reduction="none"))
        return losses[0]

    gradient, _ = image_gradient(classifier, images, objective)
    return _sign(gradient, blank=losses[0].detach() == 0.0)


def fgs_unmasked(classifier: Classifier, images: Tensor, labels: Tensor) -> Direction:
    """Return the direction of `fgs` computed so that it cannot underflow.

    The cross-entropy is log(1 + exp(m)) with m = logsumexp over the wrong classes - z_true; its gradient is
    sigmoid(m) * grad m. The factor vanishes for a confident net, the sign of grad m does not.
    """
    gradient, _ = image_gradient(classifier, images, lambda logits: unmasked_margin(logits, labels))
    return _sign(gradient, blank=torch.zeros_like(labels, dtype=torch.bool))


def _sign(gradient: Tensor, blank: Tensor) -> Direction:
    largest = largest_entry(gradient)
    usable = (largest > 0.0) & largest.isfinite()
    return Direction(gradient.sign(), blank | ~usable, largest)


FGS = Attack(fgs, grey_level_steps())
FGS_UNMASKED = Attack(fgs_unmasked, grey_level_steps())

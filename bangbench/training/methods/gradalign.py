"""GradAlign: one-step adversarial training that keeps gradients aligned (Andriushchenko, Flammarion 2020).

J = CE(f(x'), y) + lambda (1 - mean cos(g1, g2)), x' = clip(x + e sign g1), g1 = grad CE(f(x), y), held constant, and
g2 = grad CE(f(x + n), y), n ~ U(e), not clipped, with the gradient through it (arXiv 2007.02617). Images with a
zero gradient are left out of the mean; all in training mode.
Source: tml-epfl/understanding-fast-adv-training, `train.py`, `utils.py`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient
from bangbench.training.methods import base
from bangbench.training.methods.crafting import BudgetSettings, WithinBudget, at_label, near


class GradAlignSettings(BudgetSettings):
    """The weight is the paper's for CIFAR-10 and 8/255; for other budgets there 0.02 * 10^(255 e / 8)."""

    weight: float = Field(0.2, ge=0.0, description="lambda, the weight of the misalignment.")


class GradAlign(WithinBudget):
    """Train on images after one step of the gradient's sign, and align the gradients within the budget."""

    Settings: ClassVar[type[base.MethodSettings]] = GradAlignSettings
    settings: GradAlignSettings
    paper = "Andriushchenko, Flammarion 2020, arXiv 2007.02617"
    trained_on = ("fgs", "fgs-unmasked")

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return 4.9 if self.settings.weight else 1.8

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the loss, and the logits of the moved images."""
        # the margin's gradient is the cross-entropy's times a positive number: sign and direction are the same
        gradient, _ = image_gradient(classifier, images, at_label(labels))
        moved = images.add(gradient.sign(), alpha=self.radius).clamp_(0.0, 255.0)
        logits = classifier(moved)
        loss = cross_entropy(logits, labels)
        if self.settings.weight:
            other = _gradient_with_graph(classifier, near(images, self.radius), labels)
            loss = loss + self.settings.weight * _misalignment(gradient, other)
        return base.Objective(loss, logits)


def _gradient_with_graph(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    variable = images.requires_grad_(True)
    loss = cross_entropy(classifier(variable), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, variable, create_graph=True)
    return gradient


def _misalignment(gradient: Tensor, other: Tensor) -> Tensor:
    """Return 1 - the mean cosine of gradients (N, C, H, W) that are not 0; 0 where there are none."""
    rows = gradient.flatten(1).any(1) & other.detach().flatten(1).any(1)
    if not bool(rows.any()):
        return other.sum() * 0.0
    return 1.0 - (_unit(gradient[rows]) * _unit(other[rows])).sum(1).mean()


def _unit(gradient: Tensor) -> Tensor:
    """Return gradients (M, C, H, W) at length 1, (M, C * H * W); squares of tiny ones would underflow."""
    flat = gradient.flatten(1)
    flat = flat / flat.detach().abs().amax(1, keepdim=True)
    length: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / length

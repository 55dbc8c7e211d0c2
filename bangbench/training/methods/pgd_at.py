"""Adversarial training with projected gradient descent (Madry et al., arXiv 1706.06083)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient, unmasked_margin
from bangbench.nets.predict import evaluated
from bangbench.training.methods import base


class PgdSettings(base.MethodSettings):
    """The attack that every batch goes through; defaults: Madry's recipe for MNIST.

    budget, step: L_inf radius and step, as a share of the grey-level range (0.3 is 76.5 grey levels); warmup: the
    number of solver steps over which both grow from 0 to these values.
    """

    budget: float = Field(0.3, gt=0.0, le=1.0)
    step: float = Field(0.01, gt=0.0, le=1.0)
    steps: int = Field(40, ge=1)
    warmup: int = Field(0, ge=0)


class PgdAdversarialTraining(base.Method):
    """Train on images moved, inside the budget, to where the cross-entropy at their label is large."""

    Settings: ClassVar[type[base.MethodSettings]] = PgdSettings
    settings: PgdSettings
    trained_on = ("pgd",)

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._share = 1.0

    def begin_step(self, iteration: int) -> None:
        """Take the share of the budget that belongs to this step of the warm-up."""
        if self.settings.warmup:
            self._share = min(1.0, (iteration + 1) / self.settings.warmup)

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy of the attacked batch; the attack sees the net without dropout."""
        with evaluated(classifier):
            attacked = self._attacked(classifier, images, labels)
        logits = classifier(attacked)
        return base.Objective(cross_entropy(logits, labels), logits)

    def _attacked(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        """Return images (N, C, H, W) after steps along the sign of the gradient, from a random start."""
        radius = 255.0 * self._share * self.settings.budget
        step = 255.0 * self._share * self.settings.step
        low, high = (images - radius).clamp_min_(0.0), (images + radius).clamp_max_(255.0)
        moved = torch.empty_like(images).uniform_(-radius, radius).add_(images).clamp_(low, high)
        for _ in range(self.settings.steps):
            gradient, _ = image_gradient(classifier, moved, lambda logits: unmasked_margin(logits, labels))
            moved = moved.add_(gradient.sign_(), alpha=step).clamp_(low, high)
        return moved

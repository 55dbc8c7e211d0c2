"""Stability training (Zheng et al., arXiv 1604.04326).

J = CE(f(x), y) - alpha sum_c p_c(x) log p_c(x + n), the mean over the batch, p = softmax f and n ~ N(0, sigma^2): the
noisy copy has no label of its own, it is to be answered as the clean image is. The gradient goes through both. From the
paper, which names neither alpha nor sigma for this use; alpha 0.01 and sigma 0.05 are those of public copies.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.crafting import around


class StabilitySettings(base.MethodSettings):
    """How much noise, and how much it matters."""

    alpha: float = Field(0.01, ge=0.0, description="Weight of the stability term.")
    sigma: float = Field(0.05, ge=0.0, description="Standard deviation of the noise; 1 is the grey-level range.")


class Stability(base.Method):
    """Train with a second term that asks for the same answer to the image under Gaussian noise."""

    Settings: ClassVar[type[base.MethodSettings]] = StabilitySettings
    settings: StabilitySettings
    paper = "Zheng et al. 2016, arXiv 1604.04326"
    trained_on = ("gaussian-noise",)

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return 2.0 if self.settings.alpha else 1.0

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the loss of clean images and of their noisy copies, and the logits of the clean ones."""
        logits = classifier(images)
        loss = cross_entropy(logits, labels)
        if self.settings.alpha:
            noisy = classifier(around(images, 255.0 * self.settings.sigma))
            loss = loss + self.settings.alpha * cross_entropy(noisy, logits.softmax(1))
        return base.Objective(loss, logits)

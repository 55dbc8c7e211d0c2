"""Adversarial training with the fast gradient sign (Goodfellow et al., arXiv 1412.6572, section 6).

J = alpha CE(f(x), y) + (1 - alpha) CE(f(x + e sign grad CE(f(x), y)), y), clipped to the range. No code of the authors.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient, unmasked_margin
from bangbench.nets.predict import evaluated
from bangbench.training.methods import base


class FgsSettings(base.MethodSettings):
    """One step for every image."""

    budget: float = Field(0.3, gt=0.0, le=1.0, description="Length of the step; 1 is the grey-level range.")
    clean: float = Field(0.5, ge=0.0, lt=1.0, description="Weight of the clean images' loss.")


class FgsAdversarialTraining(base.Method):
    """Train on the weighted mean of the loss of the batch and that of the same batch after one step."""

    Settings: ClassVar[type[base.MethodSettings]] = FgsSettings
    settings: FgsSettings
    paper = "Goodfellow et al. 2015, arXiv 1412.6572"
    trained_on = ("fgs", "fgs-unmasked")

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return 2.8 if self.settings.clean else 1.8

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return alpha J(x) + (1 - alpha) J(x + budget sign grad J), and the logits of the moved images."""
        with evaluated(classifier):
            gradient, _ = image_gradient(classifier, images, lambda logits: unmasked_margin(logits, labels))
        moved = images.add(gradient.sign_(), alpha=255.0 * self.settings.budget).clamp_(0.0, 255.0)
        logits = classifier(moved)
        clean = self.settings.clean
        loss = (1.0 - clean) * cross_entropy(logits, labels)
        if clean:
            loss = loss + clean * cross_entropy(classifier(images), labels)
        return base.Objective(loss, logits)

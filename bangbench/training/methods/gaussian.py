"""Training on noisy images, a control: an honest small gain that masks nothing (Ford, Gilmer et al., arXiv 1901.10513).

J = CE(f(clip(x + s N)), y), N standard normal, on a share of the batch; the rest of it stays as it is.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.crafting import around


class GaussianSettings(base.MethodSettings):
    """How much noise, and on how many images."""

    sigma: float = Field(0.3, ge=0.0, description="Standard deviation of the noise; 1 is the grey-level range.")
    share: float = Field(1.0, gt=0.0, le=1.0, description="Share of each batch that gets noise.")


class Gaussian(base.Method):
    """Train on images with Gaussian noise."""

    Settings: ClassVar[type[base.MethodSettings]] = GaussianSettings
    settings: GaussianSettings
    paper = "control; Ford, Gilmer et al. 2019, arXiv 1901.10513"
    trained_on = ("gaussian-noise",)

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the cross-entropy of the noisy batch."""
        count = round(self.settings.share * len(images))
        noisy = around(images[:count], 255.0 * self.settings.sigma).clamp_(0.0, 255.0)
        logits = classifier(torch.cat([noisy, images[count:]]))
        return base.Objective(cross_entropy(logits, labels), logits)

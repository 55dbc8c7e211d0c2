"""Interpolated adversarial training: mixup of images and of attacked images (Lamb et al., arXiv 1906.06784).

J = M(x, y) / 2 + M(x', y) / 2 with M(v, y) = mean[l CE(f(u), y) + (1 - l) CE(f(u), y[perm])] and
u = l v + (1 - l) v[perm]; l ~ Beta(a, a) for every image and a permutation, drawn anew for each half; x' is crafted
from x, unmixed, as in PGD training. No code of the authors was found, and the public ones differ: here l is per
image, x' is crafted in eval mode and at the true label.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.crafting import InSteps, StepsSettings


class IatSettings(StepsSettings):
    """How images are mixed."""

    alpha: float = Field(1.0, gt=0.0, description="Both parameters of the Beta distribution of the shares.")


class InterpolatedAdversarialTraining(InSteps):
    """Train on mixtures of images and on mixtures of attacked images; its log's training accuracy means little."""

    Settings: ClassVar[type[base.MethodSettings]] = IatSettings
    settings: IatSettings
    paper = "Lamb et al. 2019, arXiv 1906.06784"
    trained_on = ("pgd",)

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return super().cost + 1.0

    def loss_on(self, classifier: Classifier, images: Tensor, attacked: Tensor, labels: Tensor) -> base.Objective:
        """Return the loss, and the logits of the mixed attacked images, to be counted against their larger part."""
        clean = self._mixed(classifier, images, labels)
        moved = self._mixed(classifier, attacked, labels)
        return base.Objective(0.5 * clean.loss + 0.5 * moved.loss, moved.logits, moved.labels)

    def _mixed(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        alpha = images.new_tensor(self.settings.alpha)
        shares = torch.distributions.Beta(alpha, alpha).sample((len(images),))
        other = torch.randperm(len(images), device=images.device)
        along = shares[:, None, None, None]
        logits = classifier(along * images + (1.0 - along) * images[other])
        own, others = (cross_entropy(logits, wanted, reduction="none") for wanted in (labels, labels[other]))
        loss = (shares * own + (1.0 - shares) * others).mean()
        return base.Objective(loss, logits, torch.where(shares >= 0.5, labels, labels[other]))

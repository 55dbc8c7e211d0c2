"""MART: images that are classified wrong count more (Wang et al., ICLR 2020).

J = BCE(x', y) + beta mean[KL(p(x) || p(x')) (1 - p_y(x))] with
BCE = CE(f(x'), y) - mean log(1 - max_{c != y} p_c(x')); x' as in PGD training, from clip(x + 0.001 N).
Source: YisenWang/MART, `mart.py`, with its 1.0001, 1e-12 and 1.0000001, which keep logarithms and weights from 0.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import true_logits
from bangbench.training.methods import base
from bangbench.training.methods.crafting import STARTING_NOISE, InSteps, StepsSettings, around, at_label


class MartSettings(StepsSettings):
    """beta as for ResNet-18; there is no recipe for MNIST."""

    beta: float = Field(5.0, ge=0.0, description="Weight of the divergence.")


class Mart(InSteps):
    """Train on attacked images, and more on those whose originals are classified wrong."""

    Settings: ClassVar[type[base.MethodSettings]] = MartSettings
    settings: MartSettings
    paper = "Wang et al. 2020, ICLR"
    trained_on = ("pgd",)

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return super().cost + 1.0

    def attack(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        """Return images moved to where the cross-entropy at the label is large."""
        return self.ascended(classifier, images, around(images, STARTING_NOISE), at_label(labels))

    def loss_on(self, classifier: Classifier, images: Tensor, attacked: Tensor, labels: Tensor) -> base.Objective:
        """Return the loss, and the logits of the attacked images."""
        chances, logits = classifier(images).softmax(1), classifier(attacked)
        moved = logits.softmax(1)
        rival = moved.scatter(1, labels[:, None], 0.0).amax(1)
        boosted = cross_entropy(logits, labels) - (1.0001 - rival + 1e-12).log().mean()
        divergence = kl_div((moved + 1e-12).log(), chances, reduction="none").sum(1)
        weighted = (divergence * (1.0000001 - true_logits(chances, labels))).mean()
        return base.Objective(boosted + self.settings.beta * weighted, logits)

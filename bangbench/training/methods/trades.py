"""TRADES: a trade-off between the loss of images and how far attacks move their prediction (Zhang et al. 2019).

J = CE(f(x), y) + beta / B sum_i KL(p(x_i) || p(x'_i)), with the gradient through both arguments (arXiv 1901.08573).
x' starts at clip(x + 0.001 N) and climbs that same divergence, p(x) held constant, in eval mode; there the
start is clipped after the first step.
Source: yaodongyu/TRADES, `trades.py`: as there, x goes through the net once for the loss and once for the divergence,
which then see dropout masks of their own.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.crafting import STARTING_NOISE, InSteps, StepsSettings, around, away_from


class TradesSettings(StepsSettings):
    """beta as for MNIST; for CIFAR-10 the paper takes 6."""

    beta: float = Field(1.0, ge=0.0, description="Weight of the divergence.")


class Trades(InSteps):
    """Train on images, and pull the predictions of attacked images towards theirs."""

    Settings: ClassVar[type[base.MethodSettings]] = TradesSettings
    settings: TradesSettings
    paper = "Zhang et al. 2019, arXiv 1901.08573"
    trained_on = ("pgd",)

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return super().cost + 2.0

    def attack(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        """Return images moved to where the prediction differs most from that of the images themselves."""
        with torch.no_grad():
            held = classifier(images)
        return self.ascended(classifier, images, around(images, STARTING_NOISE), away_from(held))

    def loss_on(self, classifier: Classifier, images: Tensor, attacked: Tensor, labels: Tensor) -> base.Objective:
        """Return the loss, and the logits of the images."""
        logits = classifier(images)
        divergence = divergence_of(classifier(images), classifier(attacked)).mean()
        return base.Objective(cross_entropy(logits, labels) + self.settings.beta * divergence, logits)


def divergence_of(logits: Tensor, others: Tensor) -> Tensor:
    """Return KL(softmax(logits) || softmax(others)), (N,), of logits (N, K) each, with the gradient through both."""
    wanted, found = torch.log_softmax(logits, 1), torch.log_softmax(others, 1)
    return (wanted.exp() * (wanted - found)).sum(1)

"""Adversarial weight perturbation around PGD training or TRADES (Wu, Xia, Wang, arXiv 2004.05884).

J is the loss of the other method at the weights w + gamma d, per tensor of more than one dimension
d = ||w|| D / (||D|| + 1e-20), D = 0.01 grad_w J(x', y; w): one step up. x' is crafted at w.
Source: csdongxian/AWP, `AT_AWP/utils_awp.py`. There w is restored after the solver's step, here before it: the weight
decay sees w.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.crafting import InSteps, StepsSettings
from bangbench.training.methods.pgd_at import PgdAdversarialTraining
from bangbench.training.methods.trades import Trades, TradesSettings

_PROXY_RATE = 0.01


class AwpSettings(StepsSettings):
    """gamma as around PGD training; the paper takes 0.005 around TRADES."""

    around: Literal["pgd-at", "trades"] = Field("pgd-at", description="The method whose loss it is.")
    gamma: float = Field(0.01, ge=0.0, description="Length of the perturbation, in lengths of each weight tensor.")
    begin: int = Field(0, ge=0, description="Solver steps before the weights are perturbed.")
    beta: float = Field(1.0, ge=0.0, description="TRADES' weight of the divergence.")


class Awp(InSteps):
    """Train at weights moved to where the loss of attacked images is larger."""

    Settings: ClassVar[type[base.MethodSettings]] = AwpSettings
    settings: AwpSettings
    paper = "Wu, Xia, Wang 2020, arXiv 2004.05884"
    trained_on = ("pgd",)

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        shared = self.settings.model_dump(include=set(StepsSettings.model_fields))
        self._inner: InSteps
        if self.settings.around == "trades":
            self._inner = Trades(TradesSettings(**shared, beta=self.settings.beta))
        else:
            self._inner = PgdAdversarialTraining(StepsSettings(**shared))
        self._kept: list[tuple[nn.Parameter, Tensor]] = []
        self._begun = True

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return self._inner.cost + 1.0 + (2.0 if self.settings.around == "trades" else 0.0)

    def begin_step(self, iteration: int) -> None:
        """Take the share of the budget that belongs to this step of the warm-up."""
        self._inner.begin_step(iteration)
        self._begun = iteration >= self.settings.begin

    def attack(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        """Return the images that the other method attacks."""
        return self._inner.attack(classifier, images, labels)

    def loss_on(self, classifier: Classifier, images: Tensor, attacked: Tensor, labels: Tensor) -> base.Objective:
        """Move the weights, until `after_backward`, and return the other method's loss there."""
        if self._begun:
            loss = self._inner.loss_on(classifier, images, attacked, labels).loss
            self._move(list(_weights(classifier)), loss)
        return self._inner.loss_on(classifier, images, attacked, labels)

    def _move(self, weights: list[nn.Parameter], loss: Tensor) -> None:
        gradients: Sequence[Tensor | None] = torch.autograd.grad(loss, weights, allow_unused=True)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is None:
                    continue
                self._kept.append((weight, weight.detach().clone()))
                ascent = _PROXY_RATE * gradient
                weight.add_(weight.norm() / (ascent.norm() + 1e-20) * ascent, alpha=self.settings.gamma)

    @torch.no_grad()
    def after_backward(self, classifier: Classifier) -> None:
        """Put the weights back where they were, to the bit."""
        for weight, before in self._kept:
            weight.copy_(before)
        self._kept.clear()


def _weights(classifier: Classifier) -> Iterator[nn.Parameter]:
    return (value for value in classifier.parameters() if value.requires_grad and value.ndim > 1)

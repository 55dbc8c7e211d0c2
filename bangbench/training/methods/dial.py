"""Domain-invariant adversarial learning (Levi et al., arXiv 2104.00322).

J = CE(f(x), y) + r CE(h(x), 0) + beta D(x, x', y) + r CE(h(x'), 1), where D is CE(f(x'), y) or KL(f(x) || f(x')), and h
tells attacked features from clean ones behind a reversal of the gradient: the head learns to tell them apart, the
layers below to make them alike. The reversal's strength at the share t of the run is 2 / (1 + exp(-10 t)) - 1. x' is
crafted in eval mode from x + .001 N, against D. Features: what the net's first linear layer sees.
From the authors' code: matanle51/DIAL; its head has batch normalisation, this one has none.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import logits_of
from bangbench.training.methods import base
from bangbench.training.methods.crafting import STARTING_NOISE, InSteps, StepsSettings, around, at_label, away_from
from bangbench.training.methods.trades import divergence_of
from bangbench.training.methods.watching import watched

_HIDDEN = 100
_CLEAN, _ATTACKED = 0, 1


class DialSettings(StepsSettings):
    """The attack, and the weights of the terms; defaults: the authors' for MNIST."""

    beta: float = Field(6.0, ge=0.0, description="Weight of the attacked images' loss.")
    domain: float = Field(0.1, ge=0.0, description="Weight r of telling attacked from clean features.")
    attacked: Literal["ce", "kl"] = Field("ce", description="Loss of the attacked images: ce at the label, or kl.")


class WithDomainHead(nn.Module):
    """A net, and a head for its features that only training looks at."""

    def __init__(self, net: nn.Module, features: int) -> None:
        super().__init__()
        self.net = net
        self.head = nn.Sequential(nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 2))

    def forward(self, images: Tensor) -> Tensor:
        """Return the net's own logits (N, K)."""
        logits: Tensor = self.net(images)
        return logits


class DomainInvariantLearning(InSteps):
    """Train on clean and attacked images whose features are made indistinguishable."""

    Settings: ClassVar[type[base.MethodSettings]] = DialSettings
    settings: DialSettings
    paper = "Levi et al. 2022, arXiv 2104.00322"
    trained_on = ("pgd",)

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._iterations = 1
        self._strength = 0.0

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return super().cost + 1.1

    def transform(
        self, net: nn.Module, shape: tuple[int, int, int], classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return the net with a head beside it."""
        return WithDomainHead(net, _first_linear(net).in_features)

    def begin_run(self, run: base.RunView) -> None:
        """Learn how long the run is."""
        self._iterations = run.iterations

    def begin_step(self, iteration: int) -> None:
        """Take the budget and the strength of the reversal that belong to this step."""
        super().begin_step(iteration)
        self._strength = 2.0 / (1.0 + math.exp(-10.0 * iteration / self._iterations)) - 1.0

    def attack(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        """Return images moved to where their own term of the loss is large."""
        against = at_label(labels)
        if self.settings.attacked == "kl":
            against = away_from(logits_of(classifier, images, len(images)))
        return self.ascended(classifier, images, around(images, STARTING_NOISE), against)

    def loss_on(self, classifier: Classifier, images: Tensor, attacked: Tensor, labels: Tensor) -> base.Objective:
        """Return the four terms, and the logits of the attacked images."""
        logits, clean_domain = self._pass(classifier, images, _CLEAN)
        moved, attacked_domain = self._pass(classifier, attacked, _ATTACKED)
        by_label = self.settings.attacked == "ce"
        apart = cross_entropy(moved, labels) if by_label else divergence_of(logits, moved).mean()
        domains = self.settings.domain * (clean_domain + attacked_domain)
        return base.Objective(cross_entropy(logits, labels) + self.settings.beta * apart + domains, moved)

    def _pass(self, classifier: Classifier, images: Tensor, domain: int) -> tuple[Tensor, Tensor]:
        """Return the logits (N, K), and the loss of telling which domain the images are from."""
        net = classifier.net
        if not isinstance(net, WithDomainHead):
            raise BenchError("method 'dial' needs the net that its `transform` returns")
        with watched(_first_linear(net.net)) as passes:
            logits = classifier(images)
        reversed_features: Tensor = _Reversal.apply(passes[-1].given, self._strength)  # type: ignore[no-untyped-call]
        told = net.head(reversed_features.flatten(1))
        return logits, cross_entropy(told, torch.full((len(images),), domain, device=images.device))


def _first_linear(net: nn.Module) -> nn.Linear:
    """Return the net's first linear layer, whose input are the features of its convolutions."""
    layer = next((module for module in net.modules() if isinstance(module, nn.Linear)), None)
    if layer is None:
        raise BenchError("method 'dial' compares what a net's first linear layer sees; this net has no linear layer")
    return layer


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient is multiplied by -strength."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * -ctx.strength, None

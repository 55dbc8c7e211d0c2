"""Adversarial images for a training step, and the settings that all methods which craft them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient, unmasked_margin
from bangbench.nets.predict import evaluated
from bangbench.training.methods import base


class BudgetSettings(base.MethodSettings):
    """How far images may be moved; shares of the grey-level range (0.3 is 76.5 grey levels)."""

    budget: float = Field(0.3, gt=0.0, le=1.0, description="L_inf radius; 1 is the grey-level range.")
    warmup: int = Field(0, ge=0, description="Solver steps over which the budget, and the step, grow from 0.")


class StepsSettings(BudgetSettings):
    """An attack in several steps; defaults: Madry's recipe for MNIST."""

    step: float = Field(0.01, gt=0.0, le=1.0, description="Length of a step; 1 is the grey-level range.")
    steps: int = Field(40, ge=1, description="Steps of the attack on every batch.")


class WithinBudget(base.Method):
    """The base of methods that move images inside a budget which grows during a warm-up."""

    Settings: ClassVar[type[base.MethodSettings]] = BudgetSettings
    settings: BudgetSettings

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._share = 1.0

    @property
    def radius(self) -> float:
        """Return the budget of this solver step, in grey levels."""
        return 255.0 * self._share * self.settings.budget

    def scaled(self, share: float) -> float:
        """Return a share of the grey-level range that grows as the budget does, in grey levels, at this solver step."""
        return 255.0 * self._share * share

    def begin_step(self, iteration: int) -> None:
        """Take the share of the budget that belongs to this step of the warm-up."""
        if self.settings.warmup:
            self._share = min(1.0, (iteration + 1) / self.settings.warmup)


class InSteps(WithinBudget):
    """The base of methods that attack every batch with projected gradient ascent: override `attack` and `loss_on`."""

    Settings: ClassVar[type[base.MethodSettings]] = StepsSettings
    settings: StepsSettings

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs: one image gradient a step of the attack."""
        return 1.0 + 0.8 * self.settings.steps

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the loss on the attacked batch; the attack sees the net in eval mode, without dropout."""
        with evaluated(classifier):
            attacked = self.attack(classifier, images, labels)
        return self.loss_on(classifier, images, attacked, labels)

    def attack(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        """Return the attacked images (N, C, H, W); here Madry's: from x + U(e), up the cross-entropy at the label."""
        return self.ascended(classifier, images, near(images, self.radius), at_label(labels))

    def loss_on(self, classifier: Classifier, images: Tensor, attacked: Tensor, labels: Tensor) -> base.Objective:
        """Return loss and logits of images and attacked images, (N, C, H, W) each, the net in training mode."""
        logits = classifier(attacked)
        return base.Objective(cross_entropy(logits, labels), logits)

    def ascended(
        self, classifier: Classifier, images: Tensor, start: Tensor, objective: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return images (N, C, H, W) after the steps x' = P(x' + a sign grad objective) from `start`, which is reused.

        objective: logits (N, K) -> (N,); P: to the ball around `images` and the range of grey levels, to which the
        start belongs.
        """
        step = self.scaled(self.settings.step)
        low, high = ball(images, self.radius)
        moved = start.clamp_(low, high)
        for _ in range(self.settings.steps):
            gradient, _ = image_gradient(classifier, moved, objective)
            moved = moved.add_(gradient.sign_(), alpha=step).clamp_(low, high)
        return moved


def ball(images: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest grey levels within `radius` of images (N, C, H, W)."""
    return (images - radius).clamp_min_(0.0), (images + radius).clamp_max_(255.0)


def near(images: Tensor, radius: float) -> Tensor:
    """Return x + U(radius), (N, C, H, W), not clipped."""
    return torch.empty_like(images).uniform_(-radius, radius).add_(images)


def around(images: Tensor, sigma: float) -> Tensor:
    """Return x + sigma N, (N, C, H, W), not clipped; sigma in grey levels."""
    return images.add(torch.randn_like(images), alpha=sigma)


#: Standard deviation, in grey levels, of the noise from which an attack starts whose gradient at the image is 0.
STARTING_NOISE = 0.255


def at_label(labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Return an objective whose gradient has the sign of the cross-entropy's, and does not underflow."""
    return lambda logits: unmasked_margin(logits, labels)


def away_from(logits: Tensor) -> Callable[[Tensor], Tensor]:
    """Return an objective with the gradient of KL(softmax(logits) || softmax(z')), the first held constant: p' - p."""
    held = logits.detach().softmax(1)
    return lambda moved: ((moved.detach().softmax(1) - held) * moved).sum(1)

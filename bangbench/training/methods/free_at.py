"""Adversarial training for free (Shafahi et al., arXiv 1904.12843).

J = CE(f(P(x + d)), y), P to the range; the one backward pass of a solver step also gives g = grad_x J, and then
d <- clamp(d + e sign g, -e, e). Every batch is trained on m times in a row, and d is carried over to the next one.

From code of others who compared with it (locuslab/fast_adversarial, `CIFAR10/train_free.py`). There g is 0 where
x + d leaves the range; here it is taken at the clipped image, since the background of digits lies at an end of the
range and would never be moved again. Of m batches of the data m - 1 are passed over: 10,000 steps stay 10,000 steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.crafting import BudgetSettings, WithinBudget


class FreeSettings(BudgetSettings):
    """One step of the attack for each solver step."""

    warmup: int = Field(3000, ge=0, description="Solver steps over which the budget grows from 0.")
    replays: int = Field(8, ge=1, description="Solver steps in a row on each batch (m).")


class FreeAdversarialTraining(WithinBudget):
    """Train on each batch several times, moved a step further by the gradient that the last solver step had anyway."""

    Settings: ClassVar[type[base.MethodSettings]] = FreeSettings
    settings: FreeSettings
    paper = "Shafahi et al. 2019, arXiv 1904.12843"
    trained_on = ("fgs", "fgs-unmasked", "pgd")

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._replay = 0
        self._held: dict[str, Tensor] = {}
        self._moved = torch.empty(0)

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs: the first layer's gradient goes on to the image."""
        return 1.2

    def begin_step(self, iteration: int) -> None:
        """Learn whether this step takes a new batch, and its share of the budget."""
        super().begin_step(iteration)
        self._replay = iteration % self.settings.replays

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy of the batch that is held, moved by the noise that is held."""
        held = {name: value.to(images.device) for name, value in self._held.items()}
        noise = held.get("noise", torch.zeros_like(images))
        if self._replay == 0:
            held = {"images": images, "labels": labels}
        self._held = held | {"noise": noise}
        self._moved = (held["images"] + noise).clamp_(0.0, 255.0).requires_grad_(True)
        logits = classifier(self._moved)
        return base.Objective(cross_entropy(logits, held["labels"]), logits, held["labels"])

    def after_backward(self, classifier: Classifier) -> None:
        """Move the noise a step up the gradient that the backward pass left at the images."""
        gradient = self._moved.grad
        if gradient is not None:
            noise = self._held["noise"].add(gradient.sign(), alpha=self.radius)
            self._held["noise"] = noise.clamp_(-self.radius, self.radius)

    def state(self) -> dict[str, Tensor]:
        """Return the noise and the batch that is trained on."""
        return self._held

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the noise and the batch of an interrupted run."""
        self._held = dict(state)

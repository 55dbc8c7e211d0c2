"""Training in local balls around weak adversarial images (Lu and Kumar, arXiv 2110.14030), inspired by.

J = CE(f(x'), y) + ll KL(p(x') || p(x'')) + lg KL(p(x) || p(x')), means over the batch, p = softmax f; x' after few
large steps of projected gradient ascent from x + U(e), x'' = P(x' + U(r)), P to the ball around x and the range.
Gradients go through all three passes. No code, and of the paper the abstract alone was read: steps, radius and weights
are ours.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import evaluated
from bangbench.training.methods import base
from bangbench.training.methods.crafting import InSteps, StepsSettings, at_label, ball, near


class LocalBallsSettings(StepsSettings):
    """A weak attack: two steps of half the budget."""

    step: float = Field(0.15, gt=0.0, le=1.0, description="Length of a step; 1 is the grey-level range.")
    steps: int = Field(2, ge=1, description="Steps of the attack on every batch.")
    warmup: int = Field(3000, ge=0, description="Solver steps over which the budget, and the step, grow from 0.")
    radius: float = Field(0.075, ge=0.0, le=1.0, description="r: of the small ball around x'; grows as the budget.")
    local_weight: float = Field(1.0, ge=0.0, description="ll: weight of the answers' change inside the small ball.")
    global_weight: float = Field(1.0, ge=0.0, description="lg: weight of the change from x to x' (6 for CIFAR-10).")


class LocalBalls(InSteps):
    """Train on weakly attacked images, and to answer alike on the way there and in a small ball around them."""

    Settings: ClassVar[type[base.MethodSettings]] = LocalBallsSettings
    settings: LocalBallsSettings
    paper = "Lu and Kumar 2021, arXiv 2110.14030"
    inspired = True
    trained_on = ("pgd",)

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return super().cost + bool(self.settings.local_weight) + bool(self.settings.global_weight)

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the loss at the attacked images with both divergences, and their logits."""
        with evaluated(classifier):
            attacked = self.ascended(classifier, images, near(images, self.radius), at_label(labels))
        logits = classifier(attacked)
        loss = cross_entropy(logits, labels)
        if self.settings.local_weight:
            close = near(attacked, self.scaled(self.settings.radius)).clamp_(*ball(images, self.radius))
            loss = loss + self.settings.local_weight * _divergence(logits, classifier(close))
        if self.settings.global_weight:
            loss = loss + self.settings.global_weight * _divergence(classifier(images), logits)
        return base.Objective(loss, logits)


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return KL(softmax(ours) || softmax(theirs)) of logits (N, K), the mean over the samples."""
    return kl_div(theirs.log_softmax(1), ours.log_softmax(1), reduction="batchmean", log_target=True)

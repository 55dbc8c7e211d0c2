"""One-step adversarial training from a random start: RS-FGSM and N-FGSM; both craft in training mode.

RS-FGSM (Wong, Rice, Kolter, arXiv 2001.03994): J = CE(f(clip(x + d)), y) with
d = clamp(d0 + a sign grad CE(f(x + d0), y), -e, e) and d0 ~ U(e), which for CIFAR-10 is clipped so that x + d0 is an
image. Source: locuslab/fast_adversarial, `MNIST/train_mnist.py`, `CIFAR10/train_fgsm.py`.

N-FGSM (de Jorge et al., arXiv 2202.01181): J = CE(f(x'), y) with x' = clip(x + n + a sign grad CE(f(x + n), y)),
n ~ U(c e), x + n clipped to the range. Nothing is projected to the ball: x' lies up to (c + 1) e away.
Source: pdejorge/N-FGSM, `train.py`.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient
from bangbench.training.methods import base
from bangbench.training.methods.crafting import BudgetSettings, WithinBudget, at_label, ball, near


class RsFgsmSettings(BudgetSettings):
    """The recipe for MNIST: a step of 1.25 budgets."""

    step: float = Field(0.375, gt=0.0, le=1.0, description="Length of the step; 1 is the grey-level range.")
    clip_start: bool = Field(False, description="Start from images: noise is clipped to the range, as for CIFAR-10.")


class NFgsmSettings(BudgetSettings):
    """The step is as long as the budget."""

    noise: float = Field(2.0, ge=0.0, description="Noise at the start, in budgets; at MNIST's 0.3 rather 1.")


class _OneStep(WithinBudget):
    """Train on images after one step of the length `step`, from a start that `start` chooses."""

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return 1.8

    def one_step(self, classifier: Classifier, start: Tensor, labels: Tensor, step: float) -> Tensor:
        """Return start (N, C, H, W) after the step, not clipped."""
        gradient, _ = image_gradient(classifier, start, at_label(labels))
        return start.add(gradient.sign_(), alpha=step)


class RsFgsm(_OneStep):
    """Train on images after one long step of the gradient's sign from a random start, projected to the budget."""

    Settings: ClassVar[type[base.MethodSettings]] = RsFgsmSettings
    settings: RsFgsmSettings
    paper = "Wong, Rice, Kolter 2020, arXiv 2001.03994"
    trained_on = ("fgs", "fgs-unmasked")

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the loss of the moved images, and their logits."""
        start = near(images, self.radius)
        if self.settings.clip_start:
            start = start.clamp_(0.0, 255.0)
        moved = self.one_step(classifier, start, labels, self.scaled(self.settings.step))
        logits = classifier(moved.clamp_(*ball(images, self.radius)))
        return base.Objective(cross_entropy(logits, labels), logits)


class NFgsm(_OneStep):
    """Train on images after much noise and one step of the gradient's sign, projected to nothing but the range."""

    Settings: ClassVar[type[base.MethodSettings]] = NFgsmSettings
    settings: NFgsmSettings
    paper = "de Jorge et al. 2022, arXiv 2202.01181"
    trained_on = ("fgs", "fgs-unmasked")

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the loss of the moved images, and their logits."""
        start = near(images, self.settings.noise * self.radius).clamp_(0.0, 255.0)
        logits = classifier(self.one_step(classifier, start, labels, self.radius).clamp_(0.0, 255.0))
        return base.Objective(cross_entropy(logits, labels), logits)

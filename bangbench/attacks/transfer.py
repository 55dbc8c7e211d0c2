"""Transfer: the adversarial images of another model, tried on this one without asking for its gradients."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from bangbench.attacks.ball import Ball, BallAttack, Found, first_flipped, gradients_and_logits
from bangbench.attacks.base import AttackSettings, Means
from bangbench.core.errors import UsageError
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import unmasked_margin


class MomentumSettings(AttackSettings):
    """steps: gradient steps, each budget / steps long; decay: what is left of the momentum after a step."""

    steps: int = Field(10, ge=1)
    decay: float = Field(1.0, ge=0.0)


DEFAULTS = MomentumSettings()


class Transfer(BallAttack):
    """Another model's adversarial images."""

    Settings: ClassVar[type[AttackSettings]] = MomentumSettings
    settings: MomentumSettings
    needs = frozenset({"source"})
    nested = False
    cost = 40

    def find(self, classifier: Classifier, ball: Ball, means: Means) -> Found:
        """Return the source's adversarial images that this classifier, too, gets wrong."""
        return transfer(classifier, ball, means, self.settings)


def transfer(classifier: Classifier, ball: Ball, means: Means, settings: MomentumSettings = DEFAULTS) -> Found:
    """Return the source's adversarial images that the classifier, too, does not classify as their labels.

    Tried are a sign step of the whole budget, then the momentum iterative method. Neither stops where the source
    itself gives in: an image well beyond its boundary transfers better. `forwards` counts the source's passes, too.
    Nothing is random. Raises `UsageError` without `means.source`.
    """
    if means.source is None:
        raise UsageError(
            "the transfer attack tries the adversarial images of another model and was given none; name that model "
            "with --against MODEL"
        )
    if not len(ball.images):
        return Found(ball.images.clone(), torch.zeros_like(ball.labels, dtype=torch.bool), 0)
    candidates = (
        sign_step(means.source, ball, means.batch_size),
        momentum_steps(means.source, ball, means.batch_size, settings),
    )
    result = first_flipped(classifier, ball, candidates, means.batch_size)
    return result._replace(forwards=result.forwards + (1 + settings.steps) * len(ball.images))


def sign_step(source: Classifier, ball: Ball, batch_size: int) -> Tensor:
    """Return image + budget * sign(grad m), float32 (N, C, H, W): the fast gradient sign step, inside the ball.

    m is `unmasked_margin`, whose gradient does not vanish with the cross-entropy (Goodfellow et al. 2015, arXiv
    1412.6572).
    """
    gradient = _margin_gradient(source, ball, ball.images, batch_size)
    return ball.project(ball.images + ball.budget * gradient.sign())


def momentum_steps(source: Classifier, ball: Ball, batch_size: int, settings: MomentumSettings) -> Tensor:
    """Return the last image of the momentum iterative method, float32 (N, C, H, W), inside the ball.

    g <- decay * g + grad m / |grad m|_1; x <- clip(x + budget / steps * sign(g)), from g = 0 and the image itself
    (MI-FGSM, Dong et al. 2018, arXiv 1710.06081, equations 6 and 7). Only the last image is rounded: a step may be
    shorter than half a grey level.
    """
    low, high = ball.bounds()
    moved, momentum = ball.images.clone(), torch.zeros_like(ball.images)
    for _ in range(settings.steps):
        gradient = _margin_gradient(source, ball, moved, batch_size)
        norm = gradient.abs().sum((1, 2, 3), keepdim=True)
        momentum.mul_(settings.decay).add_(torch.where(norm > 0.0, gradient / norm, 0.0))
        moved = moved.add_(ball.budget / settings.steps * momentum.sign()).clamp_(low, high)
    return ball.project(moved)


def _margin_gradient(source: Classifier, ball: Ball, moved: Tensor, batch_size: int) -> Tensor:
    """Return grad m at `moved`, float32 (N, C, H, W), 0 where it is NaN or infinite: no direction to follow."""
    gradient, _ = gradients_and_logits(source, moved, unmasked_margin, batch_size, ball.labels)
    return torch.where(gradient.isfinite(), gradient, 0.0)

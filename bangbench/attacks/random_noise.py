"""Random noise of the same L_inf norm as an attack: what chance alone changes."""

from __future__ import annotations

import torch
from torch import Tensor

from bangbench.attacks.ball import Ball, BallAttack, Found, Means, first_flipped
from bangbench.nets.classifier import Classifier

#: How often each image is tried.
DRAWS = 20


def uniform_noise(classifier: Classifier, ball: Ball, means: Means, draws: int = DRAWS) -> Found:
    """Return for each image the first of `draws` noisy ones that is not classified as its label.

    Every pixel of every channel changes by a whole number of grey levels, uniform in -budget..budget.
    """
    noise = (uniform_levels(ball, means.generator) for _ in range(draws))
    return first_flipped(classifier, ball, (ball.images + levels for levels in noise), means.batch_size)


def gaussian_noise(classifier: Classifier, ball: Ball, means: Means, draws: int = DRAWS) -> Found:
    """Return for each image the first of `draws` noisy ones that is not classified as its label.

    The noise is normal, scaled so that its largest absolute entry in an image is exactly the budget.
    """
    noise = (gaussian_levels(ball, means.generator) for _ in range(draws))
    return first_flipped(classifier, ball, (ball.images + levels for levels in noise), means.batch_size)


def uniform_levels(ball: Ball, generator: torch.Generator) -> Tensor:
    """Return whole grey levels, float32 (N, C, H, W), each of -budget..budget as likely."""
    levels = torch.randint(-ball.budget, ball.budget + 1, ball.images.shape, generator=generator)
    return levels.to(ball.images)


def gaussian_levels(ball: Ball, generator: torch.Generator) -> Tensor:
    """Return whole grey levels, float32 (N, C, H, W): rounded normal noise, the largest in each image the budget."""
    normal = torch.randn(ball.images.shape, generator=generator)
    # an image of a single pixel may draw 0, which no factor makes the budget
    largest = normal.abs().amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return (normal / largest).mul_(ball.budget).round_().to(ball.images.device)


UNIFORM_NOISE = BallAttack(uniform_noise)
GAUSSIAN_NOISE = BallAttack(gaussian_noise)

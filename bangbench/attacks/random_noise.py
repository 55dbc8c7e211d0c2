"""Random noise of the same L_inf norm as an attack: what chance alone changes."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from bangbench.attacks.ball import Ball, BallAttack, Found, first_flipped
from bangbench.attacks.base import AttackSettings, Means
from bangbench.nets.classifier import Classifier


class NoiseSettings(AttackSettings):
    """draws: how often each image is tried."""

    draws: int = Field(20, ge=1)


class _RandomNoise(BallAttack):
    Settings: ClassVar[type[AttackSettings]] = NoiseSettings
    settings: NoiseSettings
    needs = frozenset()
    nested = False
    cost = 20


class UniformNoise(_RandomNoise):
    """Uniform noise in the ball."""

    def find(self, classifier: Classifier, ball: Ball, means: Means) -> Found:
        """Return the first draws that are classified otherwise than as the labels."""
        return uniform_noise(classifier, ball, means, self.settings.draws)


class GaussianNoise(_RandomNoise):
    """Normal noise that touches the ball's border."""

    version = 2

    def find(self, classifier: Classifier, ball: Ball, means: Means) -> Found:
        """Return the first draws that are classified otherwise than as the labels."""
        return gaussian_noise(classifier, ball, means, self.settings.draws)


def uniform_noise(classifier: Classifier, ball: Ball, means: Means, draws: int = NoiseSettings().draws) -> Found:
    """Return for each image the first of `draws` noisy ones that is not classified as its label.

    Every pixel of every channel changes by a whole number of grey levels, uniform in -budget..budget.
    """
    noise = (uniform_levels(ball, means.generator) for _ in range(draws))
    return first_flipped(classifier, ball, (ball.images + levels for levels in noise), means.batch_size)


def gaussian_noise(classifier: Classifier, ball: Ball, means: Means, draws: int = NoiseSettings().draws) -> Found:
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
    # in float64: torch draws other float32 numbers on a processor without AVX
    normal = torch.randn(ball.images.shape, generator=generator, dtype=torch.float64)
    # an image of a single pixel may draw 0, which no factor makes the budget
    largest = normal.abs().amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return (normal / largest).mul_(ball.budget).round_().to(ball.images)

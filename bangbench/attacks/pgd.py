"""Projected gradient descent inside an L_inf ball (Madry et al., arXiv 1706.06083), on the margin of the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from bangbench.attacks.ball import Ball, BallAttack, BallSearch, Found, gradients_and_logits, kept
from bangbench.attacks.base import AttackSettings, Means
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import margin

#: A rung that flips less than this share of the ball's images has changed nothing.
NOTHING_CHANGES = 0.005


class PgdSettings(AttackSettings):
    """How far to go.

    steps, largest_steps: of the first rung, and the most that a doubled one may have; random_start: begin anywhere in
    the ball instead of at the image; step: grey levels, None for 2.5 budget / steps.
    """

    steps: int = Field(20, ge=1)
    largest_steps: int = Field(80, ge=1)
    random_start: bool = True
    step: float | None = Field(None, gt=0.0)


DEFAULTS = PgdSettings()


class Pgd(BallAttack):
    """Projected gradient descent on the margin, its steps doubled until nothing changes."""

    Settings: ClassVar[type[AttackSettings]] = PgdSettings
    settings: PgdSettings
    version = 2
    cost = 150

    def find(self, classifier: Classifier, ball: Ball, means: Means) -> Found:
        """Return the first adversarial iterate of each image, whole grey levels."""
        return pgd(classifier, ball, means, self.settings)


def pgd(classifier: Classifier, ball: Ball, means: Means, settings: PgdSettings = DEFAULTS) -> Found:
    """Return the first adversarial iterate of each image, rounded to whole grey levels.

    Iterates are walked in float32; each is judged, and its gradient taken, at the closest whole-grey-level image. The
    images themselves count too. The steps are doubled, from a fresh random start on those that are left, until a
    rung flips less than 0.5 % of the ball's images or the largest rung is done.
    """
    search = BallSearch(classifier, ball, means.batch_size)
    if settings.random_start:
        search.judge_last(search.left(), ball.images.contiguous())
    for steps in rungs(settings):
        before = int(search.found.sum())
        _climb(search, start_of(ball, means, settings.random_start), steps, settings.step)
        if int(search.found.sum()) - before < NOTHING_CHANGES * len(ball.images) or bool(search.found.all()):
            break
    return search.result()


def rung(classifier: Classifier, ball: Ball, means: Means, steps: int, settings: PgdSettings = DEFAULTS) -> Found:
    """Return what a single run of so many steps finds; of `settings`, only the start and the step size matter.

    The start and every iterate are judged, an image itself only where it is the start.
    """
    search = BallSearch(classifier, ball, means.batch_size)
    _climb(search, start_of(ball, means, settings.random_start), steps, settings.step)
    return search.result()


def rungs(settings: PgdSettings) -> Iterator[int]:
    """Yield the numbers of steps: the first rung's, then doubled ones up to the largest."""
    steps = settings.steps
    yield steps
    while (steps := 2 * steps) <= settings.largest_steps:
        yield steps


def start_of(ball: Ball, means: Means, random: bool) -> Tensor:
    """Return where a run begins, float32 (N, C, H, W): the images, or uniformly drawn in the ball.

    The numbers are drawn on the CPU and for all images, flipped or not: neither the device, nor the batch size, nor
    what became of another image changes an image's start.
    """
    if not random:
        return ball.images.clone(memory_format=torch.contiguous_format)
    drawn = torch.rand(ball.images.shape, generator=means.generator).mul_(2.0).sub_(1.0).mul_(ball.budget)
    return ball.inside(drawn.to(ball.images.device).add_(ball.images))


def ascent(gradient: Tensor) -> Tensor:
    """Return the sign of a gradient, which is overwritten; where it is zero or NaN nothing is to move."""
    return torch.nan_to_num_(gradient, nan=0.0).sign_()


def _climb(search: BallSearch, start: Tensor, steps: int, step: float | None) -> None:
    """Go x <- P(x + step sign(grad margin)) from `start` (N, C, H, W) with the images that are left.

    Every pass gives both the verdict on an iterate and its gradient; only the last iterate has a pass of its own.
    """
    length = 2.5 * search.ball.budget / steps if step is None else step
    rows = search.left()
    current, ball = start[rows], search.ball.rows(rows)
    for _ in range(steps):
        if not len(rows):
            return
        seen = current.round()
        gradient, logits = gradients_and_logits(search.classifier, seen, margin, search.batch_size, ball.labels)
        left = search.judge(rows, seen, logits)
        rows, gradient, current = kept(left, rows, gradient, current)
        ball = ball.rows(left)
        current = ball.inside(ascent(gradient).mul_(length).add_(current))
    search.judge_last(rows, current)

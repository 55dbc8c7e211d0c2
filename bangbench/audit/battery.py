"""Attacks inside balls of growing size, each from scratch; the worst case is counted for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bangbench.attacks.ball import Ball
from bangbench.attacks.base import Means, make_attack
from bangbench.attacks.judged import run_attack
from bangbench.attacks.pgd import PgdSettings, pgd, rung
from bangbench.audit.masking import LineRun
from bangbench.audit.subject import Subject
from bangbench.core.seeds import torch_generator
from bangbench.nets.classifier import Classifier

Flags = NDArray[np.bool_]

#: Steps of the PGD that tells whether the battery has converged: twice as many as its longest run.
DOUBLED_STEPS = 2 * PgdSettings().largest_steps

#: Survivors that this is tried on, the first ones.
DOUBLED_IMAGES = 200

#: Correct images that an attack without bounds must flip, and its budget in grey levels.
UNBOUNDED_IMAGES, WHOLE_RANGE = 200, 255


class BallRun(NamedTuple):
    """One attack within one budget on the correct images; all bool (M,).

    flipped: judged on the uint8 image, by a forward pass of its own; lost: the attack counted a success that is none;
    outside: the image is farther away than the budget, or out of range, in float64.
    """

    flipped: Flags
    lost: Flags
    outside: Flags
    forwards: int


#: (attack, budget in grey levels) -> what it did.
Battery = Mapping[tuple[str, int], BallRun]


def run_ball(subject: Subject, name: str, budget: int, source: Classifier | None = None) -> BallRun:
    """Attack all correct images within a budget; the images of `source` are what `transfer` tries."""
    images, labels = subject.correct_images()
    means = Means(torch_generator(subject.seed, "audit", name, budget), subject.batch_size, source)
    judged = run_attack(make_attack(name), name, subject.classifier, images, labels, means, subject.seed, (budget,))
    flipped, lost, outside = (flag.cpu().numpy() for flag in (judged.flipped, judged.lost, judged.outside))
    return BallRun(flipped, lost, outside, judged.forwards)


def worst_case(lines: Mapping[str, LineRun], battery: Battery, budget: int, count: int) -> Flags:
    """Return which of `count` correct images any attack flips within `budget` or a smaller one, bool (M,).

    Attacks along a line count with the images whose L_inf is within the budget.
    """
    flipped = np.zeros(count, dtype=np.bool_)
    for run in lines.values():
        flipped |= run.linf <= budget
    for (_, within), found in battery.items():
        if within <= budget:
            flipped |= found.flipped
    return flipped


def survivors_of_doubled_steps(subject: Subject, survivors: Flags, budget: int) -> tuple[Tensor, int]:
    """Run PGD with `DOUBLED_STEPS` steps on the first `DOUBLED_IMAGES` images that survive everything within a budget.

    Return the places of those that it flips, int64, and the forward passes.
    """
    images, labels = subject.correct_images()
    chosen = torch.from_numpy(survivors & (survivors.cumsum() <= DOUBLED_IMAGES)).to(images.device)
    generator = torch_generator(subject.seed, "audit", "doubled", budget)
    ball = Ball(images[chosen], labels[chosen], budget)
    result = rung(subject.classifier, ball, Means(generator, subject.batch_size), DOUBLED_STEPS)
    return subject.rows[chosen][result.found].cpu(), result.forwards


def survivors_of_unbounded(subject: Subject) -> tuple[Tensor, int, int]:
    """Run PGD with the whole range as budget; return the places that survive, int64, how many were tried, forwards."""
    images, labels = subject.correct_images(UNBOUNDED_IMAGES)
    generator = torch_generator(subject.seed, "audit", "unbounded")
    result = pgd(subject.classifier, Ball(images, labels, WHOLE_RANGE), Means(generator, subject.batch_size))
    return subject.rows[: len(images)][~result.found].cpu(), len(images), result.forwards


def only_first(first: Sequence[Flags], second: Sequence[Flags]) -> Flags:
    """Return which images some run of `first` flips and no run of `second` does."""
    only: Flags = np.logical_or.reduce(list(first)) & ~np.logical_or.reduce(list(second))
    return only

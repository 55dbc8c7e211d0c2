"""Attacks inside balls of growing size: the cheap ones on every image, the thorough ones on what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bangbench.attacks.apgd import ApgdSettings, apgd
from bangbench.attacks.ball import Ball
from bangbench.attacks.base import Means, make_attack
from bangbench.attacks.judged import run_attack
from bangbench.attacks.pgd import pgd
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.spec import Strength
from bangbench.auditing.claims import ball_attacks
from bangbench.auditing.masking import LineRun
from bangbench.auditing.subject import Subject
from bangbench.core.seeds import torch_generator
from bangbench.nets.classifier import Classifier

Flags = NDArray[np.bool_]

#: The run that tells whether the battery has converged: Auto-PGD on DLR with twice the standard's iterations.
DOUBLED = ApgdSettings(iterations=200)

#: Survivors that this is tried on, the first ones, within each budget.
DOUBLED_IMAGES = 100

#: Correct images that an attack without bounds must flip, and its budget in grey levels.
UNBOUNDED_IMAGES, WHOLE_RANGE = 200, 255


class BallRun(NamedTuple):
    """One attack within one budget on the correct images; all bool (M,).

    flipped: judged on the uint8 image, by a forward pass of its own; lost: the attack counted a success that is none;
    outside: the image is farther away than the budget; tried: which images were attacked.
    """

    flipped: Flags
    lost: Flags
    outside: Flags
    tried: Flags
    forwards: int

    @property
    def from_scratch(self) -> bool:
        """Return whether every image was attacked, so that the share of flipped ones is the attack's own rate."""
        return bool(self.tried.all())


#: (attack, budget in grey levels) -> what it did.
Battery = Mapping[tuple[str, int], BallRun]


class Orders(NamedTuple):
    """What a battery is to run: increasing budgets in grey levels, how hard to try, and what there is to go on."""

    budgets: tuple[int, ...]
    strength: Strength
    has_gradient: bool
    has_source: bool

    def attacks(self, thorough: bool) -> list[tuple[str, Mapping[str, Any]]]:
        """Return names and settings of the attacks that try every image, or of those that try what is left."""
        chosen = []
        for name in ball_attacks():
            kind = ATTACKS.load(name)
            settings = kind.strengths.get(self.strength, {})
            possible = (self.has_gradient or "gradients" not in kind.needs) and (
                self.has_source or "source" not in kind.needs
            )
            if settings is not None and possible and (self.strength in kind.on_survivors) == thorough:
                chosen.append((name, settings))
        return sorted(chosen, key=lambda pair: ATTACKS.load(pair[0]).cost)


def run_battery(
    subject: Subject, lines: Mapping[str, LineRun], orders: Orders, source: Classifier | None = None
) -> dict[tuple[str, int], BallRun]:
    """Attack the correct images of `subject`; lines: what attacks along lines did to them.

    Cheap attacks try every image within every budget, from scratch. Thorough ones then try what survives everything
    within a budget, the largest first: an image that they, too, leave alone within a budget is not tried again within
    a smaller one, where a flip would be one within the larger, too. Within a smaller budget they try those that fell.
    """
    everyone = np.ones(subject.correct, dtype=np.bool_)
    battery = {
        (name, budget): run_ball(subject, name, budget, everyone, settings, source)
        for name, settings in orders.attacks(thorough=False)
        for budget in orders.budgets
    }
    fell_in_larger = everyone
    for budget in reversed(orders.budgets):
        for name, settings in orders.attacks(thorough=True):
            left = fell_in_larger & ~worst_case(lines, battery, budget, subject.correct)
            battery[name, budget] = run_ball(subject, name, budget, left, settings, source)
        if orders.strength != "extended":
            fell_in_larger = worst_case(lines, battery, budget, subject.correct)
    return battery


def run_ball(
    subject: Subject,
    name: str,
    budget: int,
    chosen: Flags,
    settings: Mapping[str, Any] | None = None,
    source: Classifier | None = None,
) -> BallRun:
    """Attack the `chosen` of the correct images, bool (M,), within a budget; `source` is what `transfer` copies."""
    images, labels = subject.correct_images()
    rows = torch.from_numpy(chosen).to(images.device)
    flipped, lost, outside = (np.zeros(len(chosen), dtype=np.bool_) for _ in range(3))
    if not chosen.any():
        return BallRun(flipped, lost, outside, chosen, 0)
    means = Means(torch_generator(subject.seed, "audit", name, budget), subject.batch_size, source)
    attack, some = make_attack(name, settings), (images[rows], labels[rows])
    judged = run_attack(attack, name, subject.classifier, *some, means, subject.seed, (budget,))
    flipped[chosen] = judged.flipped.cpu().numpy()
    lost[chosen] = judged.lost.cpu().numpy()
    outside[chosen] = judged.outside.cpu().numpy()
    return BallRun(flipped, lost, outside, chosen, judged.forwards)


def joined(parts: Sequence[Battery]) -> dict[tuple[str, int], BallRun]:
    """Return the runs over all images from those over their parts, in order."""
    result = {}
    for key in parts[0] if parts else {}:
        runs = [part[key] for part in parts]
        flipped, lost, outside, tried = (
            np.concatenate(flags) for flags in zip(*(run[:4] for run in runs), strict=True)
        )
        result[key] = BallRun(flipped, lost, outside, tried, sum(run.forwards for run in runs))
    return result


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


def fallen_to_doubled_steps(subject: Subject, survivors: Flags, budget: int) -> tuple[Tensor, int]:
    """Run `DOUBLED` on the first `DOUBLED_IMAGES` images that survive everything within a budget.

    Return the places of those that it flips, int64, and the forward passes.
    """
    images, labels = subject.correct_images()
    chosen = torch.from_numpy(survivors & (survivors.cumsum() <= DOUBLED_IMAGES)).to(images.device)
    generator = torch_generator(subject.seed, "audit", "doubled", budget)
    ball = Ball(images[chosen], labels[chosen], budget)
    result = apgd(subject.classifier, ball, Means(generator, subject.batch_size), DOUBLED)
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

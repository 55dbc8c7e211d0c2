"""Attacks inside an L_inf ball: an image is changed by at most a budget, anywhere it helps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.attacks.base import Attack, Flips, Means, checked
from bangbench.attacks.expected import confirmed
from bangbench.core.errors import UsageError
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient
from bangbench.nets.predict import misclassified


class Ball(NamedTuple):
    """Where adversarial images are looked for: whole grey levels in 0..255, at most `budget` from each image.

    images: float32 (N, C, H, W), whole grey levels; labels: int64 (N,); budget: grey levels, 1 to 255.
    """

    images: Tensor
    labels: Tensor
    budget: int

    def project(self, moved: Tensor) -> Tensor:
        """Return the closest allowed images: rounded, inside ball and range; `moved` (N, C, H, W) is overwritten."""
        return self.inside(moved.round_())

    def inside(self, moved: Tensor) -> Tensor:
        """Return the closest points inside ball and range, whole or not; `moved` (N, C, H, W) is overwritten."""
        return moved.clamp_(*self.bounds())

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest values allowed, each float32 (N, C, H, W)."""
        return (self.images - self.budget).clamp_min_(0.0), (self.images + self.budget).clamp_max_(255.0)

    def rows(self, chosen: Tensor) -> Ball:
        """Return the ball of some images: indices or a mask."""
        return Ball(self.images[chosen], self.labels[chosen], self.budget)


class Found(NamedTuple):
    """adversarial: float32 (N, C, H, W), whole grey levels inside the ball, the original where none was found.

    found: bool (N,); forwards: number of images that went through a classifier.
    """

    adversarial: Tensor
    found: Tensor
    forwards: int


class BallAttack(Attack):
    """An attack inside an L_inf ball: `find` looks for images in it."""

    @abstractmethod
    def find(self, classifier: Classifier, ball: Ball, means: Means) -> Found:
        """Return what is found inside the ball; see `Attack.run` for what holds of the classifier."""

    def run(self, classifier: Classifier, images: Tensor, labels: Tensor, means: Means) -> Flips:
        """Look inside the ball of `means.budget`; what is returned is rounded to whole grey levels in 0..255."""
        if means.budget is None:
            raise UsageError("an attack inside a ball needs a budget; give it one with --budget")
        result = self.find(classifier, Ball(images, labels, means.budget), means)
        scale = torch.where(result.found, float(means.budget), torch.nan)
        return Flips(
            result.adversarial.round().clamp(0.0, 255.0).to(torch.uint8),
            scale,
            result.found,
            result.forwards,
            torch.zeros_like(result.found),
            torch.full_like(scale, torch.nan),
        )


def smallest_budget(
    attack: Attack,
    name: str,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    budgets: Sequence[int],
    means: Means,
) -> Flips:
    """Return for each image the first of the increasing `budgets` within which the attack succeeds, as the scale.

    images: float32 (N, C, H, W) in grey levels; labels: int64 (N,). Images that are flipped are not tried again.
    Raises `BenchError`, with the attack's name, for a result that is not what `Attack.run` promises.
    """
    flips = no_flips(images)
    left = torch.arange(len(images), device=images.device)
    for budget in budgets:
        if not len(left):
            break
        result = checked(
            attack.run(classifier, images[left], labels[left], means._replace(budget=budget)), name, images[left]
        )
        flips.adversarial[left[result.found]] = result.adversarial[result.found]
        flips.scale[left[result.found]] = float(budget)
        flips = flips._replace(forwards=flips.forwards + result.forwards)
        left = left[~result.found]
    return flips._replace(found=~flips.scale.isnan())


def no_flips(images: Tensor) -> Flips:
    """Return what an attack that did nothing to images float32 (N, C, H, W) gives back."""
    nowhere = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    unknown = torch.full((len(images),), torch.nan, device=images.device)
    return Flips(images.to(torch.uint8), unknown, nowhere, 0, nowhere.clone(), unknown.clone())


def gradients_and_logits(
    classifier: Classifier,
    images: Tensor,
    objective: Callable[..., Tensor],
    batch_size: int,
    *given: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return d(objective)/d(image), float32 (N, C, H, W), and the logits (N, K), in batches.

    objective: logits (B, K) and the rows of what is `given`, each (N,), that belong to them -> one value per image
    (B,).
    """
    parts = []
    for some, *own in zip(*(torch.split(part, batch_size) for part in (images, *given)), strict=True):
        parts.append(image_gradient(classifier, some, partial(_of, objective, tuple(own))))
    return torch.cat([gradient for gradient, _ in parts]), torch.cat([logits for _, logits in parts])


def _of(objective: Callable[..., Tensor], given: tuple[Tensor, ...], logits: Tensor) -> Tensor:
    return objective(logits, *given)


@torch.no_grad()
def batched_logits(classifier: Classifier, images: Tensor, batch_size: int) -> Tensor:
    """Return the logits (N, K) of images float32 (N, C, H, W)."""
    return torch.cat([classifier(part) for part in torch.split(images, batch_size)])


class BallSearch:
    """What an attack has found in a ball so far: the first adversarial image of each, and the forwards it took."""

    def __init__(self, classifier: Classifier, ball: Ball, batch_size: int) -> None:
        self.classifier = classifier
        self.ball = ball
        self.batch_size = batch_size
        self.adversarial = ball.images.clone()
        self.found = torch.zeros(len(ball.images), dtype=torch.bool, device=ball.images.device)
        self.forwards = 0

    def left(self) -> Tensor:
        """Return the rows (M,), int64, of the images that are not flipped yet."""
        return (~self.found).nonzero().squeeze(1)

    def judge(self, rows: Tensor, current: Tensor, logits: Tensor) -> Tensor:
        """Note which images `current` (M, C, H, W) of `rows` (M,) are adversarial; return those that are not, (M,).

        current: whole grey levels inside the ball; logits: (M, K), of the forward pass that is counted here. The
        prediction is their argmax; NaN is none.
        """
        self.forwards += len(rows)
        labels = self.ball.labels[rows]
        flipped = misclassified(logits, labels)
        flipped = confirmed(self.classifier, current, labels, flipped, self.batch_size)
        if bool(flipped.any()):
            self.adversarial[rows[flipped]] = current[flipped]
            self.found[rows[flipped]] = True
        return ~flipped

    def judge_last(self, rows: Tensor, current: Tensor) -> None:
        """Judge the rounded images from which no further step is taken, without a gradient."""
        if len(rows):
            seen = current.round()
            self.judge(rows, seen, batched_logits(self.classifier, seen, self.batch_size))

    def result(self) -> Found:
        """Return what was found."""
        return Found(self.adversarial, self.found, self.forwards)


def kept(mask: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of each part that `mask`, bool (N,), keeps; the parts themselves where it keeps all."""
    return parts if bool(mask.all()) else tuple(part[mask] for part in parts)


def first_flipped(classifier: Classifier, ball: Ball, candidates: Iterable[Tensor], batch_size: int) -> Found:
    """Return for each image the first candidate that is not classified as its label.

    candidates: each float32 (N, C, H, W), one for every image of the ball, projected into it here; images that are
    flipped are not tried again, and no candidates are asked for once all are. NaN logits count as no flip.
    """
    search, more = BallSearch(classifier, ball, batch_size), iter(candidates)
    while len(left := search.left()) and (candidate := next(more, None)) is not None:
        search.judge_last(left, ball.rows(left).project(candidate[left]))
    return search.result()

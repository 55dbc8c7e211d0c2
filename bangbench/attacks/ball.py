"""Attacks inside an L_inf ball: an image is changed by at most a budget, anywhere it helps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.attacks.search import Flips
from bangbench.core.errors import UsageError
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient

#: Budgets unless told otherwise, as shares of the grey-level range: grey images, colour images.
BUDGETS = {1: ("0.1", "0.2", "0.3"), 3: ("2/255", "4/255", "8/255")}


class Ball(NamedTuple):
    """Where adversarial images are looked for: whole grey levels in 0..255, at most `budget` from each image.

    images: float32 (N, C, H, W), whole grey levels; labels: int64 (N,); budget: grey levels, 1 to 255.
    """

    images: Tensor
    labels: Tensor
    budget: int

    def project(self, moved: Tensor) -> Tensor:
        """Return the closest allowed images: rounded, inside ball and range; `moved` (N, C, H, W) is overwritten."""
        return moved.round_().clamp_(*self.bounds())

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest values allowed, each float32 (N, C, H, W)."""
        return (self.images - self.budget).clamp_min_(0.0), (self.images + self.budget).clamp_max_(255.0)

    def rows(self, chosen: Tensor) -> Ball:
        """Return the ball of some images: indices or a mask."""
        return Ball(self.images[chosen], self.labels[chosen], self.budget)


class Means(NamedTuple):
    """What an attack may use beside the classifier.

    generator: a CPU generator, so that every device draws the same numbers; batch_size: images per forward pass,
    which must not change a result; source: another model, for attacks that transfer.
    """

    generator: torch.Generator
    batch_size: int
    source: Classifier | None = None


class Found(NamedTuple):
    """adversarial: float32 (N, C, H, W), whole grey levels inside the ball, the original where none was found.

    found: bool (N,); forwards: number of images that went through a classifier.
    """

    adversarial: Tensor
    found: Tensor
    forwards: int


#: (classifier in eval mode, ball, means) -> Found; the global random state stays as it is.
FindInBall = Callable[[Classifier, Ball, Means], Found]


class BallAttack(NamedTuple):
    """An attack inside a ball; needs_source: it transfers the adversarial images of another model."""

    find: FindInBall
    needs_source: bool = False


def parse_budget(text: str) -> int:
    """Return a budget in whole grey levels, rounded down: ``0.3`` is 76, ``8/255`` is 8.

    text: a share of the grey-level range, a number or a fraction in (0, 1]. Raises `UsageError` for anything else and
    for less than one grey level.
    """
    share = _share(text)
    levels = int(share * 255.0 + 1e-6) if 0.0 < share <= 1.0 else 0
    if levels < 1:
        raise UsageError(
            f"expected a budget as a share of the grey-level range, such as 0.3 or 8/255, of at least 1/255 and at "
            f"most 1, found '{text}'"
        )
    return levels


def _share(text: str) -> float:
    """Return the number or fraction in a text; 0 where it is none, or has no finite value."""
    match = re.fullmatch(r"\s*(\d*\.?\d+)\s*(?:/\s*(\d*\.?\d+)\s*)?", text)
    if match is None:
        return 0.0
    numerator, denominator = float(match[1]), float(match[2] or 1.0)
    return numerator / denominator if denominator > 0.0 else 0.0


def budgets_in_grey_levels(given: Sequence[str] | None, channels: int) -> tuple[int, ...]:
    """Return the budgets asked for, increasing and without repetition; the usual ones for the images if None."""
    return tuple(sorted({parse_budget(text) for text in given or BUDGETS.get(channels, BUDGETS[3])}))


def smallest_budget(
    attack: BallAttack, classifier: Classifier, images: Tensor, labels: Tensor, budgets: Sequence[int], means: Means
) -> Flips:
    """Return for each image the first of the increasing `budgets` within which the attack succeeds, as the scale.

    images: float32 (N, C, H, W) in grey levels; labels: int64 (N,). Images that are flipped are not tried again.
    """
    adversarial = images.clone()
    scale = torch.full((len(images),), torch.nan, device=images.device)
    left = torch.arange(len(images), device=images.device)
    forwards = 0
    for budget in budgets:
        if not len(left):
            break
        result = attack.find(classifier, Ball(images[left], labels[left], budget), means)
        forwards += result.forwards
        adversarial[left[result.found]] = result.adversarial[result.found]
        scale[left[result.found]] = float(budget)
        left = left[~result.found]
    return Flips(adversarial.to(torch.uint8), scale, ~scale.isnan(), forwards)


def gradients_and_logits(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Return d(objective)/d(image), float32 (N, C, H, W), and the logits (N, K), in batches.

    objective: logits (B, K), labels (B,) -> one value per image (B,).
    """
    parts = [
        image_gradient(classifier, some, lambda logits, own=own: objective(logits, own))  # type: ignore[misc]
        for some, own in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
    ]
    return torch.cat([gradient for gradient, _ in parts]), torch.cat([logits for _, logits in parts])


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

        logits: (M, K), of the forward pass that is counted here. The prediction is their argmax; NaN is none.
        """
        self.forwards += len(rows)
        flipped = (logits.argmax(1) != self.ball.labels[rows]) & ~logits.isnan().any(1)
        self.adversarial[rows[flipped]] = current[flipped]
        self.found[rows[flipped]] = True
        return ~flipped

    def judge_last(self, rows: Tensor, current: Tensor) -> None:
        """Judge images from which no further step is taken, without a gradient."""
        if len(rows):
            self.judge(rows, current, batched_logits(self.classifier, current, self.batch_size))

    def result(self) -> Found:
        """Return what was found."""
        return Found(self.adversarial, self.found, self.forwards)


def first_flipped(classifier: Classifier, ball: Ball, candidates: Iterable[Tensor], batch_size: int) -> Found:
    """Return for each image the first candidate that is not classified as its label.

    candidates: each float32 (N, C, H, W), one for every image of the ball, projected into it here; images that are
    flipped are not tried again, and no candidates are asked for once all are. NaN logits count as no flip.
    """
    search, more = BallSearch(classifier, ball, batch_size), iter(candidates)
    while len(left := search.left()) and (candidate := next(more, None)) is not None:
        search.judge_last(left, ball.rows(left).project(candidate[left]))
    return search.result()

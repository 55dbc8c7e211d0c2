"""The smallest step along a direction that changes the prediction, for many images at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.attacks.base import Direction
from bangbench.attacks.expected import confirmed
from bangbench.attacks.grids import Grid
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import batch_size_for, misclassified


class OnLine(NamedTuple):
    """adversarial: uint8 (N, C, H, W), the original where none was found; scale: float32 (N,), NaN where none.

    found: bool (N,); forwards: number of images that went through the classifier.
    """

    adversarial: Tensor
    scale: Tensor
    found: Tensor
    forwards: int


class _Active(NamedTuple):
    """The images still searched; compacted whenever some are done."""

    rows: Tensor
    images: Tensor
    steps: Tensor
    labels: Tensor
    last: Tensor

    def keep(self, mask: Tensor) -> _Active:
        return _Active(*(part[mask] for part in self))


def perturb(images: Tensor, direction: Tensor, scale: Tensor) -> Tensor:
    """Return clip(round(x + s d), 0, 255), float32; `scale` broadcasts over leading dimensions."""
    return (direction * scale).add_(images).round_().clamp_(0.0, 255.0)


@torch.no_grad()
def first_flip(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    direction: Direction,
    grid: Grid,
    batch_size: int | None = None,
) -> OnLine:
    """Return for each image the first step of `grid` at which the prediction is not its label.

    images: float32 (N, C, H, W) in grey levels; labels: int64 (N,); blank images are not tried. A search
    ends early where every pixel that moves is saturated: further steps change nothing. With `grid.bisect_to` the step
    is refined between the last failure and the first success.
    """
    search = _Search(classifier, grid, batch_size or batch_size_for(images.device, images[:1].numel()))
    last = _last_useful(images, direction.tensor, torch.tensor(grid.scales, device=images.device))
    everything = _Active(torch.arange(len(images), device=images.device), images, direction.tensor, labels, last)
    hits = search.scan(everything.keep(~direction.blank), len(images))
    found = hits >= 0
    scale = search.refine(everything.keep(found), hits[found])
    all_scales = torch.full((len(images),), torch.nan, device=images.device)
    all_scales[found] = scale
    adversarial = images.clone()
    adversarial[found] = perturb(images[found], direction.tensor[found], scale.view(-1, 1, 1, 1))
    return OnLine(adversarial.to(torch.uint8), all_scales, found, search.forwards)


def _last_useful(images: Tensor, steps: Tensor, scales: Tensor) -> Tensor:
    """Return the position in `scales` (N,) from which on every moving pixel is saturated."""
    room = torch.where(steps > 0.0, 254.5 - images, images - 0.5)
    needed = torch.where(steps == 0.0, 0.0, room / steps.abs()).flatten(1).amax(1)
    # a little more than needed, since x + s d is rounded to float32
    return torch.searchsorted(scales, needed * 1.0001).clamp_max(len(scales) - 1)


class _Search:
    """Scan and bisection with one classifier; counts the forward passes."""

    def __init__(self, classifier: Classifier, grid: Grid, batch_size: int) -> None:
        self.classifier = classifier
        self.grid = grid
        self.batch_size = batch_size
        self.forwards = 0

    def scan(self, active: _Active, count: int) -> Tensor:
        """Return the position of the first flipping step of each of `count` images (-1: none), int64."""
        hits = torch.full((count,), -1, dtype=torch.int64, device=active.rows.device)
        scales = torch.tensor(self.grid.scales, device=active.rows.device)
        position = 0
        while len(active.rows) and position < len(scales):
            steps = scales[position : position + self._steps_at_once(len(active.rows), position)]
            first = self._first_in(active, steps)
            hit = first < len(steps)
            hits[active.rows[hit]] = first[hit] + position
            position += len(steps)
            active = active.keep(~hit & (active.last >= position))
        return hits

    def refine(self, active: _Active, hits: Tensor) -> Tensor:
        """Return the scale at each hit, bisected down to the last failure where the grid says so."""
        scales = torch.tensor((0.0, *self.grid.scales), device=hits.device)
        low, high = scales[hits], scales[hits + 1]
        if self.grid.bisect_to is None:
            return high
        while bool((wide := high - low > self.grid.bisect_to).any()):
            middle = (low[wide] + high[wide]) / 2.0
            flipped = self._first_in(active.keep(wide), middle[None]) == 0
            high[wide] = torch.where(flipped, middle, high[wide])
            low[wide] = torch.where(flipped, low[wide], middle)
        return high

    def _steps_at_once(self, active: int, position: int) -> int:
        """Return how many steps to try in one pass: few images fill a batch, at most an eighth too many forwards."""
        return max(1, min(self.batch_size // active, position // 8))

    def _first_in(self, active: _Active, steps: Tensor) -> Tensor:
        """Return which of `steps`, (S,) for all or (S, N) for each image, flips first; S where none does."""
        scale = steps.view(len(steps), -1, 1, 1, 1)
        flipped = []
        for part in torch.split(torch.arange(len(active.rows), device=active.rows.device), self.batch_size):
            own = scale if scale.shape[1] == 1 else scale[:, part]
            candidates = perturb(active.images[part], active.steps[part], own)
            flat, labels = candidates.flatten(0, 1), active.labels[part].repeat(len(steps))
            found = misclassified(self.classifier(flat), labels)
            found = confirmed(self.classifier, flat, labels, found, self.batch_size)
            flipped.append(found.view(len(steps), -1))
        self.forwards += len(steps) * len(active.rows)
        # the earliest flip has the largest value, so that argmax is unambiguous
        order = torch.arange(len(steps), 0, -1, device=active.rows.device)[:, None]
        best, first = (torch.cat(flipped, 1) * order).max(0)
        return torch.where(best > 0, first, len(steps))

"""Training on hot/cold adversarial images (Rozsa, Rudd, Boult, arXiv 1605.01775), inspired by.

J = (CE(f(x), y) + CE(f(u + m (u_HC - u)), y_u)) / 2, m drawn from 1, 1.05 and 1.1: images a little beyond the boundary
teach more than those on it. The images u are drawn from a pool, u_HC being each moved along its hot/cold direction
(`hc1-unmasked`) until the class changes. No code. The paper goes on from a trained net: here the first pool is made
when `refresh` steps of regular training are done, and a new one every so many steps. Pool, schedule and the equal parts
of both kinds of images are ours, and the search along a direction is coarser than the attack's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import hot_cold, image_gradient, largest_entry
from bangbench.nets.predict import batch_size_for, evaluated, predict
from bangbench.training.methods import base

_BEYOND = (1.0, 1.05, 1.1)
#: Lengths that are tried along a direction whose largest entry is 1, in grey levels: each half as long again.
_LENGTHS = tuple(2.0 * 1.5**power for power in range(20))
_BISECTIONS = 5


class HotColdSettings(base.MethodSettings):
    """How many adversarial images are kept, and for how long."""

    pool: int = Field(10_000, ge=1, description="Training images that are attacked at a time.")
    refresh: int = Field(2500, ge=1, description="Solver steps before the first pool, and between two pools.")


class HotColdTraining(base.Method):
    """Train on clean images and as many that were moved across the boundary along their hot/cold direction."""

    Settings: ClassVar[type[base.MethodSettings]] = HotColdSettings
    settings: HotColdSettings
    paper = "Rozsa et al. 2016, arXiv 1605.01775"
    inspired = True
    trained_on = ("hc1", "hc1-unmasked")

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._images, self._labels = torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
        self._rows, self._moved = self._labels, self._images
        self._due = False

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs: attacking an image takes some 22 forward passes."""
        return 2.0 + 22 * 0.35 / 64 * self.settings.pool / self.settings.refresh

    def begin_run(self, run: base.RunView) -> None:
        """Keep hold of the training images, from which the pool is taken."""
        self._images, self._labels = run.images, run.labels

    def begin_step(self, iteration: int) -> None:
        """Learn whether a new pool is due before this step."""
        self._due = iteration > 0 and iteration % self.settings.refresh == 0

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy of the batch and of as many images of the pool, and the logits of both."""
        if self._due:
            self._attack_pool(classifier)
        if len(self._rows):
            others, theirs = self._drawn(len(images))
            images, labels = torch.cat([images, others]), torch.cat([labels, theirs])
        logits = classifier(images)
        return base.Objective(cross_entropy(logits, labels), logits, labels)

    def state(self) -> dict[str, Tensor]:
        """Return which training images are in the pool, and to where they were moved."""
        return {"rows": self._rows, "moved": self._moved}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the pool of an interrupted run."""
        self._rows, self._moved = (state[name].to(self._images.device) for name in ("rows", "moved"))

    def _attack_pool(self, classifier: Classifier) -> None:
        device = self._images.device
        rows = torch.randperm(len(self._images))[: self.settings.pool].to(device)
        kept, moved = [], []
        with evaluated(classifier):
            for part in torch.split(rows, batch_size_for(device)):
                found, images = across_the_boundary(classifier, self._images[part].float(), self._labels[part])
                kept.append(part[found])
                moved.append(images[found].to(torch.uint8))
        self._rows, self._moved = torch.cat(kept), torch.cat(moved)

    def _drawn(self, count: int) -> tuple[Tensor, Tensor]:
        """Return images float32 (count, C, H, W) a little beyond those of the pool, and their labels."""
        device = self._images.device
        chosen = torch.randint(len(self._rows), (count,), device=device)
        share = torch.tensor(_BEYOND, device=device)[torch.randint(len(_BEYOND), (count, 1, 1, 1), device=device)]
        rows = self._rows[chosen]
        images = self._images[rows].float()
        return torch.lerp(images, self._moved[chosen].float(), share).clamp_(0.0, 255.0), self._labels[rows]


def across_the_boundary(classifier: Classifier, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which images float32 (N, C, H, W) change their class along their hot/cold direction, and all as moved.

    What is moved consists of whole grey levels. Images that are not classified as their label are not found.
    """
    gradient, logits = image_gradient(classifier, images, lambda logits: hot_cold(logits, labels, mended=True))
    largest = largest_entry(gradient)
    usable = (largest > 0.0) & largest.isfinite() & (logits.argmax(1) == labels)
    direction = gradient / torch.where(usable, largest, 1.0).view(-1, 1, 1, 1)

    def moved(rows: Tensor, length: Tensor) -> Tensor:
        return (images[rows] + length.view(-1, 1, 1, 1) * direction[rows]).round_().clamp_(0.0, 255.0)

    length = _flipping(lambda *tried: predict(classifier, moved(*tried)) != labels[tried[0]], usable)
    found, result = length.isfinite(), images.clone()
    rows = found.nonzero().flatten()
    result[rows] = moved(rows, length[rows])
    return found, result


def _flipping(flips: Callable[[Tensor, Tensor], Tensor], usable: Tensor) -> Tensor:
    """Return a short length at which each image flips, float32 (N,), NaN where none does or it is not usable.

    flips: some rows and their lengths -> whether they flip.
    """
    low = torch.zeros(usable.shape, device=usable.device)
    high = torch.full_like(low, torch.nan)
    for length in _LENGTHS:
        rows = (usable & high.isnan()).nonzero().flatten()
        if not len(rows):
            break
        flipped = flips(rows, low.new_full(rows.shape, length))
        high[rows[flipped]] = length
        low[rows[~flipped]] = length
    rows = high.isfinite().nonzero().flatten()
    for _ in range(_BISECTIONS if len(rows) else 0):
        middle = (low[rows] + high[rows]) / 2.0
        flipped = flips(rows, middle)
        high[rows] = torch.where(flipped, middle, high[rows])
        low[rows] = torch.where(flipped, low[rows], middle)
    return high

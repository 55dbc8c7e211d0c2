"""Attacks along a line: an image is moved in one direction until its class changes."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from bangbench.attacks.base import Attack, Direction, Flips, Means
from bangbench.attacks.grids import Grid
from bangbench.attacks.search import first_flip
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import largest_entry


class LineAttack(Attack):
    """An attack along a line: `direction` says where to, the steps of `grid` how far."""

    bounded = False
    cost = 20
    grid: ClassVar[Grid]

    @abstractmethod
    def direction(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Direction:
        """Return the directions of images float32 (N, C, H, W) in grey levels with labels int64 (N,), in one batch."""

    def directions(self, classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int) -> Direction:
        """Return the directions of images (N, C, H, W) with labels (N,), in batches."""
        pairs = zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
        parts = [self.direction(classifier, *pair) for pair in pairs]
        return Direction(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def along(
        self,
        classifier: Classifier,
        images: Tensor,
        labels: Tensor,
        direction: Direction,
        batch_size: int | None = None,
    ) -> Flips:
        """Return the first step of the grid that flips each image along its direction; blank ones are not tried."""
        line = first_flip(classifier, images, labels, direction, self.grid, batch_size)
        return Flips(*line, direction.blank, direction.gradient_max)

    def run(self, classifier: Classifier, images: Tensor, labels: Tensor, means: Means) -> Flips:
        """Find the directions, then search along them; the passes of both are counted."""
        direction = self.directions(classifier, images, labels, means.batch_size)
        flips = self.along(classifier, images, labels, direction, means.batch_size)
        return flips._replace(forwards=flips.forwards + len(images))


def usable_direction(gradient: Tensor, tensor: Tensor, blank: Tensor | None = None) -> Direction:
    """Return the direction `tensor` made from `gradient`, blank also where that is all 0, NaN or infinite."""
    largest = largest_entry(gradient)
    unusable = (largest == 0.0) | ~largest.isfinite()
    return Direction(tensor, unusable if blank is None else blank | unusable, largest)

"""Hot/cold towards the closest class (HC1; Rozsa et al. 2016), as published and with its sign mended."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from bangbench.attacks.base import Direction
from bangbench.attacks.grids import growing_steps
from bangbench.attacks.line import LineAttack, usable_direction
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import hot_cold, image_gradient, largest_entry


class HotCold(LineAttack):
    """J'w / max|J'w| with w = |h_t| at the closest wrong class t and -h_true at the true one.

    h: the logits, J their Jacobian. Where the true logit is negative, -h_true is positive and the direction leads
    towards the true class.
    """

    unmasked_twin: ClassVar[str | None] = "hc1-unmasked"
    grid = growing_steps()
    mended: ClassVar[bool] = False

    def direction(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Direction:
        """Return the direction, its largest entry 1."""
        gradient, _ = image_gradient(classifier, images, lambda logits: hot_cold(logits, labels, self.mended))
        largest = largest_entry(gradient)
        usable = (largest > 0.0) & largest.isfinite()
        return usable_direction(gradient, gradient / torch.where(usable, largest, 1.0).view(-1, 1, 1, 1))


class HotColdUnmasked(HotCold):
    """The direction of `HotCold` with -|h_true| at the true class, which always leads away from it."""

    unmasked_twin = None
    mended = True

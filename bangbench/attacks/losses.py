"""What gradient attacks climb: losses of the logits that keep a direction where the cross-entropy has lost it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.nets.gradients import margin, true_logits, unmasked_margin

#: (logits (N, K), labels (N,), aims (N,)) -> one value per image (N,).
Value = Callable[[Tensor, Tensor, Tensor], Tensor]


class Loss(NamedTuple):
    """value: how far an attack has got, comparable between the iterates of an image.

    objective: a function with the same direction at the logits, up to a positive factor for each image; aims: the
    class that a targeted loss leads to, of which the others take no notice.
    """

    value: Value
    objective: Value


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference of logits ratio, (N,): (max_{i != y} z_i - z_y) / (z_pi1 - z_pi3), positive if adversarial.

    pi1, pi3: the classes with the largest and third largest logit. Neither a shift nor a scale of the logits changes
    it (Croce and Hein, arXiv 2003.01690, equation 6). With fewer than 3 classes the margin is returned.
    """
    return _ratio(*_untargeted_parts(logits, labels))


def targeted_dlr(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """Return (z_t - z_y) / (z_pi1 - (z_pi3 + z_pi4) / 2), (N,), for the targets t in `aims` (N,) (ibid., equation 7).

    With fewer than 4 classes z_t - z_y is returned.
    """
    return _ratio(*_targeted_parts(logits, labels, aims))


def _untargeted_parts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of `dlr`, (N,); denominators are 1 where there are too few classes."""
    above = margin(logits, labels)
    if logits.shape[1] < 3:
        return above, torch.ones_like(above)
    highest = logits.topk(3, dim=1).values
    return above, highest[:, 0] - highest[:, 2]


def _targeted_parts(logits: Tensor, labels: Tensor, aims: Tensor) -> tuple[Tensor, Tensor]:
    above = true_logits(logits, aims) - true_logits(logits, labels)
    if logits.shape[1] < 4:
        return above, torch.ones_like(above)
    highest = logits.topk(4, dim=1).values
    return above, highest[:, 0] - 0.5 * (highest[:, 2] + highest[:, 3])


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return above / below.clamp_min(1e-12)


def _undivided(above: Tensor, below: Tensor) -> Tensor:
    """Return a function with the direction of above / below that divides by nothing but a power of two, (N,).

    The gradient of above / below times below^2 is below grad above - above grad below. A quotient would be rounded,
    and where entries of the product with the weights cancel, their signs would depend on the machine and the batch.
    """
    exponents = torch.frexp(torch.where(below.isfinite(), below, 1.0).detach()).exponent
    unit = torch.ldexp(torch.ones_like(below), -exponents).detach()
    above, below = above * unit, below * unit
    weight = torch.where(below > 0.0, below, 1.0).detach()
    return above * weight - above.detach() * below


#: The cross-entropy without its vanishing factor: see `unmasked_margin`.
UNMASKED_CROSS_ENTROPY = Loss(
    lambda logits, labels, aims: unmasked_margin(logits, labels),
    lambda logits, labels, aims: unmasked_margin(logits, labels),
)
DLR = Loss(
    lambda logits, labels, aims: dlr(logits, labels),
    lambda logits, labels, aims: _undivided(*_untargeted_parts(logits, labels)),
)
TARGETED_DLR = Loss(
    targeted_dlr,
    lambda logits, labels, aims: _undivided(*_targeted_parts(logits, labels, aims)),
)

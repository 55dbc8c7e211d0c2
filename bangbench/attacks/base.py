"""What an attack is: a direction for each image, and the steps that are tried along it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from bangbench.attacks.grids import Grid
from bangbench.core.registry import Registry
from bangbench.nets.classifier import Classifier


class Direction(NamedTuple):
    """tensor: float32 (N, C, H, W), the change per step in grey levels.

    blank: bool (N,), True where there is no direction and the attempt fails; gradient_max: float32 (N,), the largest
    absolute entry of the gradient that the direction comes from.
    """

    tensor: Tensor
    blank: Tensor
    gradient_max: Tensor


#: (classifier in eval mode, images float32 (N, C, H, W) in grey levels, labels int64 (N,)) -> Direction.
FindDirection = Callable[[Classifier, Tensor, Tensor], Direction]


class Attack(NamedTuple):
    """An attack along a line: the image is moved along `direction` by the steps of `grid` until its class changes."""

    direction: FindDirection
    grid: Grid


ATTACKS = Registry(
    "attack",
    "bangbench.attacks",
    {
        "fgs": "bangbench.attacks.fgs:FGS",
        "fgs-unmasked": "bangbench.attacks.fgs:FGS_UNMASKED",
        "hc1": "bangbench.attacks.hot_cold:HC1",
        "hc1-unmasked": "bangbench.attacks.hot_cold:HC1_UNMASKED",
        "pgd": "bangbench.attacks.pgd:PGD",
        "apgd": "bangbench.attacks.apgd:APGD",
        "square": "bangbench.attacks.square:SQUARE",
        "transfer": "bangbench.attacks.transfer:TRANSFER",
        "uniform-noise": "bangbench.attacks.random_noise:UNIFORM_NOISE",
        "gaussian-noise": "bangbench.attacks.random_noise:GAUSSIAN_NOISE",
    },
)

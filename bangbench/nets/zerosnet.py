"""A zero-stable net: features in a linear multistep method of three steps (arXiv 2206.13100).

x_{n+1} = a0 x_n + a1 x_{n-1} + a2 x_{n-2} + b0 F_n(x_n) with (a0, a1, a2, b0) = (1/3, 5/9, 1/9, 16/9): the roots of its
characteristic polynomial lie in the unit circle, so that what disturbs one layer does not grow with depth. The paper
claims robustness to noise alone. From the authors' code: the coefficients (LongJin-lab/ZeroSNet); the stem, the blocks
(twice group normalisation, ReLU, convolution) and their number are this bench's, for small grey images.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from bangbench.core.seeds import default_seeds
from bangbench.nets.definition import NetDefinition, SolverSettings
from bangbench.nets.ode import CHANNELS, head, norm, stem
from bangbench.store.records import Preprocessing

#: a0, a1, a2 and b0.
COEFFICIENTS = (1 / 3, 5 / 9, 1 / 9, 16 / 9)
_BLOCKS = 6


class Multistep(nn.Module):
    """Blocks F_n, each added to the three states before it; the first two of the three are the first state."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, state: Tensor) -> Tensor:
        """Return the last state, (N, C, H, W)."""
        a0, a1, a2, b0 = COEFFICIENTS
        earlier = before = state
        for block in self.blocks:
            following = a0 * state + a1 * before + a2 * earlier + b0 * block(state)
            earlier, before, state = before, state, following
        return state


def _block() -> nn.Sequential:
    layers = (norm(), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False))
    more = (norm(), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False))
    return nn.Sequential(*layers, *more)


def build_zerosnet(shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return a zero-stable net for images (C, H, W)."""
    with default_seeds(generator.initial_seed(), torch.device("cpu")):
        features = Multistep([_block() for _ in range(_BLOCKS)])
        last = OrderedDict[str, nn.Module](norm3=norm(), relu3=nn.ReLU())
        return nn.Sequential(OrderedDict(**stem(shape), multistep=features, **last, **head(classes)))


ZEROSNET = NetDefinition(build_zerosnet, Preprocessing(input_scale=255.0), SolverSettings())

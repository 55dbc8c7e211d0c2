"""Nets whose features follow a differential equation, and the same net without one.

`odenet` (Chen et al. 2018, arXiv 1806.07366; for MNIST as in Yan et al., arXiv 1910.05513): two convolutions give h(0),
dh/dt = f(h, t) leads to h(1), which is averaged over the positions and classified. Euler's method in ten equal steps
solves it: the net is the same sum for every image and has exact gradients, unlike one whose steps are adapted.
`odenet-cnn`, the control: h + f(h) in place of the solution.
From the authors' code: HanshuYAN/TisODE, `mnist/networks.py`; 16 channels here, in 8 groups, 64 in 32 there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bangbench.core.errors import BenchError
from bangbench.core.seeds import default_seeds
from bangbench.nets.definition import NetDefinition, SolverSettings
from bangbench.store.records import Preprocessing

CHANNELS, GROUPS = 16, 8
#: Euler's steps from 0 to 1.
STEPS = 10


def norm() -> nn.GroupNorm:
    """Return a group normalisation of `CHANNELS` channels."""
    return nn.GroupNorm(GROUPS, CHANNELS)


class Dynamics(nn.Module):
    """f(h, t): twice a convolution, group normalisation, and ReLU, so that it is never negative.

    timed: the convolutions have a bias, and are given t as one more channel; otherwise f depends on h alone.
    """

    def __init__(self, timed: bool) -> None:
        super().__init__()
        self.timed = timed
        self.conv1 = nn.Conv2d(CHANNELS + timed, CHANNELS, 3, padding=1, bias=timed)
        self.norm1 = norm()
        self.conv2 = nn.Conv2d(CHANNELS + timed, CHANNELS, 3, padding=1, bias=timed)
        self.norm2 = norm()

    def forward(self, state: Tensor, time: float = 0.0) -> Tensor:
        """Return dh/dt of states (N, C, H, W) at one time."""
        hidden = self.norm1(self.conv1(self._at(state, time))).relu()
        change: Tensor = self.norm2(self.conv2(self._at(hidden, time))).relu()
        return change

    def _at(self, state: Tensor, time: float) -> Tensor:
        return torch.cat([torch.full_like(state[:, :1], time), state], 1) if self.timed else state


def euler(dynamics: nn.Module, state: Tensor, step: float, steps: int) -> Iterator[Tensor]:
    """Yield h(step), h(2 step), ... from h(0) = state: h(t + step) = h(t) + step f(h(t), t)."""
    for number in range(steps):
        state = state + step * dynamics(state, number * step)
        yield state


class OdeBlock(nn.Module):
    """h(0) -> h(1)."""

    def __init__(self, dynamics: Dynamics, steps: int = STEPS) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.steps = steps

    def forward(self, state: Tensor) -> Tensor:
        """Return h(1), (N, C, H, W)."""
        *_, last = euler(self.dynamics, state, 1.0 / self.steps, self.steps)
        return last


class ResidualBlock(nn.Module):
    """h + f(h)."""

    def __init__(self) -> None:
        super().__init__()
        self.change = Dynamics(timed=False)

    def forward(self, state: Tensor) -> Tensor:
        """Return h + f(h), (N, C, H, W)."""
        changed: Tensor = state + self.change(state)
        return changed


def stem(shape: tuple[int, int, int]) -> OrderedDict[str, nn.Module]:
    """Return the layers from images (C, H, W) to h(0), of half the size; they need 8 x 8 pixels."""
    channels, height, width = shape
    if min(height, width) < 8:
        raise BenchError(f"a net with an ODE needs images of at least 8x8 pixels, found {height}x{width}")
    return OrderedDict(
        conv1=nn.Conv2d(channels, CHANNELS, 3),
        norm1=norm(),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(CHANNELS, CHANNELS, 4, stride=2, padding=1),
        norm2=norm(),
        relu2=nn.ReLU(),
    )


def head(classes: int) -> OrderedDict[str, nn.Module]:
    """Return the layers from the last state to the logits."""
    return OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(CHANNELS, classes))


def around(block: nn.Module, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return the net whose features are those of `block`."""
    return nn.Sequential(OrderedDict(**stem(shape), block=block, **head(classes)))


def build_odenet(shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return an ODENet for images (C, H, W)."""
    with default_seeds(generator.initial_seed(), torch.device("cpu")):
        return around(OdeBlock(Dynamics(timed=True)), shape, classes)


def build_control(shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return the net with a residual block in place of the ODE."""
    with default_seeds(generator.initial_seed(), torch.device("cpu")):
        return around(ResidualBlock(), shape, classes)


ODENET = NetDefinition(build_odenet, Preprocessing(input_scale=255.0), SolverSettings())
ODENET_CNN = NetDefinition(build_control, Preprocessing(input_scale=255.0), SolverSettings())

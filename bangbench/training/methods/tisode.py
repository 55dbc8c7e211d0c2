"""Time-invariant steady neural ODE (Yan et al., arXiv 1910.05513): it takes the place of the net that it is given.

The net is `odenet` without t in its dynamics, in 20 Euler steps: J = CE(f(x), y) + w mean |integral of |f(h(t))| dt
over [.75, 1.05]|, the second term after the first part of the run, so that features stand still where they are read.
x: on half of the images Gaussian noise of sigma 50, 75 or 100 grey levels, clipped.
From the authors' code: HanshuYAN/TisODE, `mnist/main_tisode_gaus.py`; 16 channels here, in 8 groups, 64 in 32 there.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.nets.ode import Dynamics, around, euler
from bangbench.training.methods import base

#: Grey levels, as in the paper.
SIGMAS = (50.0, 75.0, 100.0)
#: The interval in which the features are to stand still.
_FROM, _TO = 0.75, 1.05


class TisodeSettings(base.MethodSettings):
    """The solver, the term for steadiness, and the noise."""

    steps: int = Field(20, ge=1, description="Euler's steps from 0 to 1.")
    weight: float = Field(0.01, ge=0.0, description="Weight of the features' movement around t = 1.")
    begin: float = Field(0.05, ge=0.0, le=1.0, description="Share of the run after which that term counts.")
    noisy: float = Field(0.5, ge=0.0, le=1.0, description="Share of the images with Gaussian noise.")


class SteadyBlock(nn.Module):
    """h(0) -> h(1); in training it remembers how far features move around t = 1, on average over their entries."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.dynamics = Dynamics(timed=False)
        self.moved: Tensor | None = None

    def forward(self, state: Tensor) -> Tensor:
        """Return h(1), (N, C, H, W)."""
        if not self.training:
            *_, last = euler(self.dynamics, state, 1.0 / self.steps, self.steps)
            return last
        begin = min(round(_FROM * self.steps), self.steps - 1)
        states = [state, *euler(self.dynamics, state, 1.0 / self.steps, round(_TO * self.steps))]
        changes = [(after - before).abs() for before, after in pairwise(states[begin:])]
        self.moved = torch.stack(changes).sum(0).mean()
        return states[self.steps]


class SteadyOde(base.Method):
    """Train a net whose features follow a differential equation and come to rest; with noisy images."""

    Settings: ClassVar[type[base.MethodSettings]] = TisodeSettings
    settings: TisodeSettings
    paper = "Yan et al. 2020, arXiv 1910.05513"
    trained_on = ("gaussian-noise",)

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._iterations = 0
        self._counts = True

    @property
    def cost(self) -> float:
        """Return roughly how many of LeNet's regular steps one step costs, on images of 28 x 28 pixels."""
        return 0.6 * self.settings.steps

    def transform(
        self, net: nn.Module, shape: tuple[int, int, int], classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return the net with the steady ODE, whatever `net` is."""
        return around(SteadyBlock(self.settings.steps), shape, classes)

    def begin_run(self, run: base.RunView) -> None:
        """Learn how long the run is."""
        self._iterations = run.iterations

    def begin_step(self, iteration: int) -> None:
        """Learn whether the features' movement counts yet."""
        self._counts = iteration >= self.settings.begin * self._iterations

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy of noisy images plus the weighted movement."""
        logits = classifier(self.with_noise(images))
        loss = cross_entropy(logits, labels)
        block = next(module for module in classifier.modules() if isinstance(module, SteadyBlock))
        if block.moved is None:
            raise BenchError("method 'tisode' needs the net in training mode")
        if self._counts:
            loss = loss + self.settings.weight * block.moved
        block.moved = None  # the graph of this pass hangs on it
        return base.Objective(loss, logits)

    def with_noise(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W), some of them with noise."""
        count, device = len(images), images.device
        noisy = torch.rand(count, device=device) < self.settings.noisy
        sigmas = torch.tensor(SIGMAS, device=device)[torch.randint(len(SIGMAS), (count,), device=device)] * noisy
        return (images + sigmas.view(-1, 1, 1, 1) * torch.randn_like(images)).clamp_(0.0, 255.0)

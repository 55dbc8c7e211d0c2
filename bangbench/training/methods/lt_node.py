"""Neural ODE with a latent end time (LT-NODE, arXiv 2112.12728): it takes the place of the net that it is given.

The net is `odenet` without t in its dynamics; the time T at which h is classified has the posterior q = Gamma(a, b),
whose parameters are trained: J = E_q CE(f_T(x), y) + w KL(q || prior) / images, the evidence bound per image, with one
T an image. The prediction is the mean of the softmax over T, along one solve: sum over the solver's points t of
q(T nearest to t) softmax(f_t(x)), with all later times at the last point. It is a sum over few points, not over random
ones, so that a prediction has no noise that would have to be averaged away.
Inspired by the paper, which has no code: the net, the prior Gamma(2, 2), the grid and where q begins are ours.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Gamma, kl_divergence
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.nets.ode import Dynamics, euler, head, stem
from bangbench.training.methods import base

#: The latest end time.
LATEST = 2.0
#: Shape and rate of the prior, whose mean is 1.
PRIOR = (2.0, 2.0)
#: The same of the posterior before training: near 1, as wide as .3.
_FIRST = 10.0


class LatentTimeSettings(base.MethodSettings):
    """The solver, and the weight of the prior."""

    steps: int = Field(20, ge=2, description="Euler's steps from 0 to 2, the latest end time.")
    prior: float = Field(1.0, ge=0.0, description="Weight of KL(q || prior) in the evidence bound.")


class LatentTimeNet(nn.Module):
    """Classifies h(T): at one T of the posterior for each image in training, else averaged over the posterior."""

    times: Tensor

    def __init__(self, shape: tuple[int, int, int], classes: int, steps: int) -> None:
        super().__init__()
        self.step = LATEST / steps
        self.stem = nn.Sequential(stem(shape))
        self.dynamics = Dynamics(timed=False)
        self.head = nn.Sequential(head(classes))
        self.shape = nn.Parameter(torch.tensor(math.log(_FIRST)))
        self.rate = nn.Parameter(torch.tensor(math.log(_FIRST)))
        self.register_buffer("times", self.step * torch.arange(1, steps + 1), persistent=False)

    def posterior(self) -> Gamma:
        """Return q; `shape` and `rate` are the logarithms of its parameters."""
        return Gamma(self.shape.exp(), self.rate.exp(), validate_args=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) at random times, or in eval mode log(mean over T of softmax)."""
        states = [self.stem(images)]
        states += euler(self.dynamics, states[0], self.step, len(self.times))
        if self.training:
            logits: Tensor = self.head(between(states, self.posterior().rsample((len(images),)) / self.step))
            return logits
        logarithms = torch.stack([self.head(state).log_softmax(1) for state in states[1:]])
        return (logarithms + self.weights().log().view(-1, 1, 1)).logsumexp(0)

    def weights(self) -> Tensor:
        """Return q(T nearest to each of the `times`), (T,); all beyond the last belong to it."""
        edges = self.times[:-1] + 0.5 * self.step
        below = torch.special.gammainc(self.shape.exp().detach(), self.rate.exp().detach() * edges)
        return torch.diff(below, prepend=below.new_zeros(1), append=below.new_ones(1)).clamp_min(1e-12)


def between(states: list[Tensor], places: Tensor) -> Tensor:
    """Return each image's state at its own place (N,) along the states, each (N, C, H, W), linear in between.

    A place beyond the last state is that state.
    """
    last = len(states) - 1
    inside = places.clamp(0.0, float(last))
    lower = inside.detach().floor().clamp(max=last - 1).long()
    stacked, rows = torch.stack(states), torch.arange(len(places), device=places.device)
    share = (inside - lower).view(-1, 1, 1, 1)
    return (1.0 - share) * stacked[lower, rows] + share * stacked[lower + 1, rows]


class LatentTimeOde(base.Method):
    """Train a net whose features follow a differential equation up to a random time, and the time's distribution."""

    Settings: ClassVar[type[base.MethodSettings]] = LatentTimeSettings
    settings: LatentTimeSettings
    paper = "LT-NODE 2021, arXiv 2112.12728"
    inspired = True
    trained_on = ()

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._images = 1

    @property
    def cost(self) -> float:
        """Return roughly how many of LeNet's regular steps one step costs, on images of 28 x 28 pixels."""
        return 0.65 * self.settings.steps

    def transform(
        self, net: nn.Module, shape: tuple[int, int, int], classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return the net with the latent end time, whatever `net` is."""
        return LatentTimeNet(shape, classes, self.settings.steps)

    def begin_run(self, run: base.RunView) -> None:
        """Learn over how many images the prior is spread."""
        self._images = len(run.images)

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the negative evidence bound per image."""
        net = classifier.net
        if not isinstance(net, LatentTimeNet):
            raise BenchError("method 'lt-node' needs the net that its `transform` returns")
        logits = classifier(images)
        shape, rate = (torch.tensor(value, device=images.device) for value in PRIOR)
        apart = kl_divergence(net.posterior(), Gamma(shape, rate, validate_args=False))
        return base.Objective(cross_entropy(logits, labels) + self.settings.prior * apart / self._images, logits)

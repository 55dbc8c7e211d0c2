"""Caffe's stochastic gradient descent with momentum."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Solver:
    """V = m V + rate * mult * (g + wd * W);  W -= V  (Caffe's SGDSolver).

    The rate sits inside the momentum buffer: where it changes, this differs from `torch.optim.SGD`. mult is 1 for
    weights and 2 for biases; the decay applies to both. Frozen parameters, and those without a gradient, stay.
    """

    def __init__(self, net: nn.Module, momentum: float, weight_decay: float) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.parameters = {name: value for name, value in net.named_parameters() if value.requires_grad}
        self.velocity = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.multiplier = {name: 2.0 if name.split(".")[-1] == "bias" else 1.0 for name in self.parameters}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every parameter from its gradient at learning rate `rate`."""
        for name, weight in self.parameters.items():
            if weight.grad is None:
                continue
            change = weight.grad.add_(weight, alpha=self.weight_decay)
            self.velocity[name].mul_(self.momentum).add_(change, alpha=rate * self.multiplier[name])
            weight.sub_(self.velocity[name])

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""
        for weight in self.parameters.values():
            weight.grad = None

    @torch.no_grad()
    def restore(self, velocity: dict[str, Tensor]) -> None:
        """Continue with the momentum buffers of an interrupted run."""
        for name, value in velocity.items():
            self.velocity[name].copy_(value)

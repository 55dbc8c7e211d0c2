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
        self._of_multiplier: dict[float, list[str]] = {1.0: [], 2.0: []}
        for name in self.parameters:
            self._of_multiplier[2.0 if name.split(".")[-1] == "bias" else 1.0].append(name)

    @torch.no_grad()
    def step(self, rate: float, gradient_scale: float = 1.0) -> None:
        """Update every parameter at learning rate `rate`; its gradient is `gradient_scale` times too large.

        A power of two as scale changes no bit of the result. Beside a pass over all gradients it costs nothing: they
        are multiplied here anyway.
        """
        for multiplier, names in self._of_multiplier.items():
            used = [name for name in names if self.parameters[name].grad is not None]
            if used:
                self._update(used, rate * multiplier / gradient_scale, self.weight_decay * gradient_scale)

    def _update(self, names: list[str], rate: float, decay: float) -> None:
        """Update parameters all at once: on a GPU it is the number of kernels that takes the time, not their size."""
        weights: list[Tensor] = [self.parameters[name] for name in names]
        velocities = [self.velocity[name] for name in names]
        changes = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_add_(changes, weights, alpha=decay)
        torch._foreach_mul_(velocities, self.momentum)
        torch._foreach_add_(velocities, changes, alpha=rate)
        torch._foreach_sub_(weights, velocities)

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""
        for weight in self.parameters.values():
            weight.grad = None

    @torch.no_grad()
    def restore(self, velocity: dict[str, Tensor]) -> None:
        """Continue with the momentum buffers of an interrupted run."""
        for name, value in velocity.items():
            self.velocity[name].copy_(value)

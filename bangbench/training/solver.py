"""Solvers, which turn gradients into steps: Caffe's stochastic gradient descent, and those of torch.optim."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bangbench.core.errors import BenchError


class Solver(ABC):
    """The base of every solver; `parameters` are those of the net that are not frozen, by name.

    A parameter without a gradient stays as it is.
    """

    def __init__(self, net: nn.Module, momentum: float, weight_decay: float) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.parameters = {name: value for name, value in net.named_parameters() if value.requires_grad}

    @abstractmethod
    def step(self, rate: float, gradient_scale: float = 1.0) -> None:
        """Update every parameter at learning rate `rate`; its gradient is `gradient_scale` times too large."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return what an interrupted run goes on with."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the state of an interrupted run; `BenchError` where it is not this solver's."""

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""
        for weight in self.parameters.values():
            weight.grad = None


class CaffeSgd(Solver):
    """V = m V + rate * mult * (g + wd * W);  W -= V  (Caffe's SGDSolver).

    The rate sits inside the momentum buffer: where it changes, this differs from `torch.optim.SGD`. mult is 1 for
    weights and 2 for biases; the decay applies to both.
    """

    def __init__(self, net: nn.Module, momentum: float, weight_decay: float) -> None:
        super().__init__(net, momentum, weight_decay)
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

    def state(self) -> dict[str, Tensor]:
        """Return the momentum buffers."""
        return self.velocity

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the momentum buffers of an interrupted run."""
        if state.keys() != self.velocity.keys():
            raise BenchError("the snapshot is another solver's; delete it to start again")
        for name, value in state.items():
            self.velocity[name].copy_(value)


class TorchSolver(Solver):
    """A solver of torch.optim: the same rate for weights and biases."""

    def __init__(self, net: nn.Module, momentum: float, weight_decay: float) -> None:
        super().__init__(net, momentum, weight_decay)
        # torch refuses to optimise nothing; what a net without parameters is told is said elsewhere
        self.optimizer = self.make(list(self.parameters.values())) if self.parameters else None

    @abstractmethod
    def make(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer; its rate is set before each step."""

    @torch.no_grad()
    def step(self, rate: float, gradient_scale: float = 1.0) -> None:
        """Update every parameter at learning rate `rate`; its gradient is `gradient_scale` times too large."""
        if self.optimizer is None:
            return
        gradients = [value.grad for value in self.parameters.values() if value.grad is not None]
        if gradient_scale != 1.0:
            torch._foreach_div_(gradients, gradient_scale)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counts, as ``moment/parameter``."""
        known: Mapping[Any, dict[str, Any]] = self.optimizer.state if self.optimizer else {}
        return {
            f"{key}/{name}": value
            for name, parameter in self.parameters.items()
            for key, value in known.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the moments and step counts of an interrupted run."""
        for key, value in state.items():
            moment, _, name = key.partition("/")
            if self.optimizer is None or name not in self.parameters:
                raise BenchError("the snapshot is another solver's; delete it to start again")
            parameter = self.parameters[name]
            # torch keeps step counts on the CPU, whatever the parameters lie on
            place = parameter.device if value.ndim else value.device
            self.optimizer.state[parameter][moment] = value.clone().to(place)


class Sgd(TorchSolver):
    """V = m V + g + wd * W;  W -= rate * V  (`torch.optim.SGD`)."""

    def make(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.SGD(parameters, 0.0, self.momentum, weight_decay=self.weight_decay)


class Adam(TorchSolver):
    """Adam (Kingma and Ba, arXiv 1412.6980) with the momentum as beta_1, beta_2 = 0.999; the decay is an L2 penalty."""

    def make(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(parameters, 0.0, (self.momentum, 0.999), weight_decay=self.weight_decay)


class AdamW(TorchSolver):
    """Adam whose decay shrinks the weights themselves (Loshchilov and Hutter, arXiv 1711.05101)."""

    def make(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(parameters, 0.0, (self.momentum, 0.999), weight_decay=self.weight_decay)

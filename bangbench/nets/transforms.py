"""What a training method makes of a net for good: a saved model is built with it before its weights are loaded."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from bangbench.core.registry import load_object
from bangbench.core.seeds import default_seeds, derive_seed, torch_generator
from bangbench.store.records import ModelInfo

#: Methods lie above nets; they are loaded only for a model whose card says that its method changed the net.
_MAKE_METHOD = "bangbench.training.methods.base:make_method"


class Transform(Protocol):
    """The part of a training method that a saved model needs."""

    @property
    def draws(self) -> int:
        """Return how many passes a prediction averages."""

    def transform(
        self, net: nn.Module, shape: tuple[int, int, int], classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return the net to train."""


def transformed(
    method: Transform, net: nn.Module, shape: tuple[int, int, int], classes: int, seed: int | None
) -> nn.Module:
    """Return what `method` makes of `net`: the same whenever the seed is, in training and when a model is opened.

    Layers that draw initial weights from torch's default generator do so from a seeded one here.
    """
    generator = torch_generator(seed or 0, "transform")
    with default_seeds(derive_seed(seed or 0, "transform", "layers"), torch.device("cpu")):
        return method.transform(net, shape, classes, generator)


def transform_of(info: ModelInfo) -> Transform | None:
    """Return the method that changed a model's net, None where the net is as its definition builds it.

    `BenchError` for a method that is not here, or whose settings have changed since.
    """
    if not info.transformed:
        return None
    method: Transform = load_object(_MAKE_METHOD, "training methods")(info.method, info.method_settings)
    return method

"""Layers as Caffe initialises them, so that a trained net is comparable with the released ones."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from bangbench.core.memory import check_memory

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def xavier_(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Fill with U(-sqrt(3 / fan_in), +sqrt(3 / fan_in)), Caffe's "xavier" filler."""
    bound = math.sqrt(3.0 / weight[0].numel())
    return nn.init.uniform_(weight, -bound, bound, generator=generator)


def convolution(
    channels: int, filters: int, generator: torch.Generator, padding: int = 0, std: float | None = None
) -> nn.Conv2d:
    """Return a 5x5 convolution with bias 0; weights N(0, std), or xavier where `std` is None."""
    layer: nn.Conv2d = skip_init(nn.Conv2d, channels, filters, 5, padding=padding)  # type: ignore[no-untyped-call]
    return _filled(layer, generator, std)


def linear(features: int, outputs: int, generator: torch.Generator, std: float | None = None) -> nn.Linear:
    """Return a linear layer with bias 0; weights N(0, std), or xavier where `std` is None."""
    check_memory(4 * features * outputs, f"a layer of {features} x {outputs} weights")
    layer: nn.Linear = skip_init(nn.Linear, features, outputs)  # type: ignore[no-untyped-call]
    return _filled(layer, generator, std)


def _filled(layer: Layer, generator: torch.Generator, std: float | None) -> Layer:
    if std is None:
        xavier_(layer.weight, generator)
    else:
        nn.init.normal_(layer.weight, 0.0, std, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

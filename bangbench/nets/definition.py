"""What the bench knows of a net beyond its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import nn

from bangbench.store.records import Preprocessing

#: (input shape (C, H, W), number of classes, generator of the initial weights) -> net from scaled images to logits.
Build = Callable[[tuple[int, int, int], int, torch.Generator], nn.Module]


class SolverSettings(NamedTuple):
    """The training settings that belong to a net; every one can be overridden."""

    batch_size: int = 64
    iterations: int = 10_000
    learning_rate: float = 0.01
    rate_policy: str = "inv(0.0001, 0.75)"
    weight_decay: float = 0.0005
    stages: int = 500


class NetDefinition(NamedTuple):
    """A registered net.

    mean_image: the training set's mean image is subtracted; channels_last: the net never views its activations, so
    they may lie channels-last, which a CPU computes about twice as fast; method_defaults: settings a method takes
    for this net unless told otherwise.
    """

    build: Build
    preprocessing: Preprocessing
    solver: SolverSettings
    channels_last: bool = False
    method_defaults: Mapping[str, Mapping[str, float]] = MappingProxyType({})

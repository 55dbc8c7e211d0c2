"""CIFAR-10 quick as in Caffe's example, the net of the paper's Table 2 (145,578 parameters at 3x32x32, 10 classes)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from bangbench.core.errors import BenchError
from bangbench.nets.caffe_layers import convolution, linear
from bangbench.nets.definition import NetDefinition, SolverSettings
from bangbench.store.records import Preprocessing


def build_cifar10_quick(input_shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return CIFAR-10 quick for images (C, H, W) with H, W at least 8.

    Pooling rounds up (32 -> 16 -> 8 -> 4); an average divides by the part of its window inside the image, which is
    what torch does for a window that only rounding up pushed over the edge.
    """
    channels, height, width = input_shape
    if min(height, width) < 8:
        raise BenchError(f"cifar10-quick needs images of at least 8x8 pixels, found {height}x{width}")
    features = 64 * _after_three_poolings(height) * _after_three_poolings(width)
    return nn.Sequential(
        OrderedDict(
            conv1=convolution(channels, 32, generator, padding=2, std=0.0001),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            relu1=nn.ReLU(),
            conv2=convolution(32, 32, generator, padding=2, std=0.01),
            relu2=nn.ReLU(),
            pool2=nn.AvgPool2d(3, 2, ceil_mode=True),
            conv3=convolution(32, 64, generator, padding=2, std=0.01),
            relu3=nn.ReLU(),
            pool3=nn.AvgPool2d(3, 2, ceil_mode=True),
            flatten=nn.Flatten(),
            linear1=linear(features, 64, generator, std=0.1),
            dropout=nn.Dropout(0.5),
            linear2=linear(64, classes, generator, std=0.1),
        )
    )


def _after_three_poolings(size: int) -> int:
    for _ in range(3):
        size = -(-(size - 3) // 2) + 1
    return size


CIFAR10_QUICK = NetDefinition(
    build=build_cifar10_quick,
    preprocessing=Preprocessing(input_scale=1.0, mean_image=True),
    solver=SolverSettings(
        batch_size=100,
        iterations=20_000,
        learning_rate=0.001,
        rate_policy="steps(18000, 19000)",
        weight_decay=0.004,
        stages=1000,
    ),
    channels_last=True,
    method_defaults={"bang": {"ratio": 0.5}},
)

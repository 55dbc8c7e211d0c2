"""LeNet as in Caffe's MNIST example, the net of the paper's Table 1 (431,080 parameters at 1x28x28, 10 classes)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from bangbench.core.errors import BenchError
from bangbench.nets.caffe_layers import convolution, linear
from bangbench.nets.definition import NetDefinition, SolverSettings
from bangbench.store.records import Preprocessing


def build_lenet(input_shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return LeNet for images (C, H, W) with H, W at least 16; there is no ReLU after the convolutions."""
    channels, height, width = input_shape
    if min(height, width) < 16:
        raise BenchError(f"lenet needs images of at least 16x16 pixels, found {height}x{width}")
    features = 50 * _after_two_stages(height) * _after_two_stages(width)
    return nn.Sequential(
        OrderedDict(
            conv1=convolution(channels, 20, generator),
            pool1=nn.MaxPool2d(2, 2, ceil_mode=True),
            conv2=convolution(20, 50, generator),
            pool2=nn.MaxPool2d(2, 2, ceil_mode=True),
            flatten=nn.Flatten(),
            linear1=linear(features, 500, generator),
            relu1=nn.ReLU(),
            dropout=nn.Dropout(0.5),
            linear2=linear(500, classes, generator),
        )
    )


def _after_two_stages(size: int) -> int:
    """Return the side after twice a 5x5 convolution without padding and a 2/2 pooling that rounds up."""
    for _ in range(2):
        size = -(-(size - 4) // 2)
    return size


LENET = NetDefinition(
    build=build_lenet,
    preprocessing=Preprocessing(input_scale=256.0),
    solver=SolverSettings(),
    channels_last=True,
)

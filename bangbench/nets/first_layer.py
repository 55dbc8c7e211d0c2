"""The image's gradient through the first convolution of a net, faster than autograd computes it on a CPU.

An image has few channels: the gradient of a convolution's input is then a matrix product with few columns, whose rows
are added up where their windows lie. Libraries compute it as another convolution, made for many channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from bangbench.core.compiled import compiled

#: Where this is faster: measured 6.6 to 1.5 ms for the layer and 64 images of LeNet, one thread of an AMD EPYC with
#: AVX-512; with 3 channels (CIFAR-10 quick) a whole gradient takes as long as before.
_MOST_CHANNELS = 1


@contextmanager
def quick_image_gradients(net: nn.Module, images: Tensor) -> Iterator[None]:
    """Compute gradients with respect to images (N, C, H, W), and no others, the fast way inside the block.

    The net's logits are the same bits, and so are its weights: they get no gradients from a pass in the block. Nets
    whose first layer is something else, and other devices and precisions, are left to autograd.
    """
    layer = _first_convolution(net)
    if layer is None or images.device.type != "cpu" or images.dtype != torch.float32:
        yield
        return
    layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del layer.__dict__["forward"]


def _first_convolution(net: nn.Module) -> nn.Conv2d | None:
    """Return the net's first layer if it is a plain convolution of few channels, or None."""
    first = next((module for module in net.modules() if not any(module.children())), None)
    if type(first) is not nn.Conv2d or "forward" in first.__dict__ or first.weight.dtype != torch.float32:
        return None
    plain = (first.stride, first.dilation, first.groups, first.padding_mode) == ((1, 1), (1, 1), 1, "zeros")
    return first if plain and not isinstance(first.padding, str) and first.in_channels <= _MOST_CHANNELS else None


def _forward(layer: nn.Conv2d, images: Tensor) -> Tensor:
    result: Tensor = _FirstConvolution.apply(images, layer.weight, layer.bias, layer.padding)  # type: ignore[no-untyped-call]
    return result


class _FirstConvolution(torch.autograd.Function):
    """A convolution of stride 1 with zero padding, of which only the input has a gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.padding = images.shape, padding
        return functional.conv2d(images, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        (weight,) = ctx.saved_tensors
        kappa, (count, channels, height, width) = gradients[0], ctx.shape
        if torch.is_grad_enabled():  # a gradient that is to be differentiated itself
            images = conv2d_input(ctx.shape, weight, kappa, padding=ctx.padding)  # type: ignore[no-untyped-call]
            return images, None, None, None
        rows, columns = kappa.shape[2:]
        # (channels * kernel, outputs) times (outputs, N * rows * columns)
        products = weight.flatten(1).t() @ kappa.transpose(0, 1).reshape(weight.shape[0], -1)
        windows = products.view(channels, *weight.shape[2:], count, rows, columns).numpy()
        images = np.zeros((count, channels, height, width), dtype=np.float32)
        _add_windows(windows, images, *ctx.padding)
        return torch.from_numpy(images), None, None, None


@compiled
def _add_windows(windows: NDArray[np.float32], images: NDArray[np.float32], above: int, left: int) -> None:
    """Add windows (C, kernel height, kernel width, N, rows, columns) into images (N, C, H, W) where they lie."""
    channels, tall, wide, count, rows, columns = windows.shape
    height, width = images.shape[2:]
    for number in range(count):
        for channel in range(channels):
            for down in range(tall):
                for row in range(max(0, above - down), min(rows, height + above - down)):
                    line = images[number, channel, row + down - above]
                    for right in range(wide):
                        first, last = max(0, left - right), min(columns, width + left - right)
                        some = windows[channel, down, right, number, row]
                        for column in range(first, last):
                            line[column + right - left] += some[column]

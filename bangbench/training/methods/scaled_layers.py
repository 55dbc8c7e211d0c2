"""Layers whose weight gradient weighs the samples of a batch, at the price of one pass over a layer's gradient.

The weight gradient is sum_i s_i kappa_i a_i with a_i the layer's input; the factor s_i is computed from the norms
of kappa. It is multiplied onto the smaller of kappa and a; gradients of single samples are never formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class SampleScale(NamedTuple):
    """factors: norms of kappa (N,) -> the factor of each sample (N,)."""

    factors: Callable[[Tensor], Tensor]


class Geometry(NamedTuple):
    """The arguments of a convolution beside its tensors."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    output_padding: list[int]
    groups: int


def scalable_layers(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of every convolution and linear layer."""
    for name, module in net.named_modules():
        if isinstance(module, (*_Convolution, nn.Linear)):
            yield name, module


def scale_layers(net: nn.Module, scale: SampleScale) -> None:
    """Make the convolution and linear layers of `net` weigh the samples in their weight gradients."""
    for _, layer in scalable_layers(net):
        forward = _linear_forward if isinstance(layer, nn.Linear) else _convolution_forward
        layer.forward = _bound(forward, layer, scale)


def unscale_layers(net: nn.Module) -> None:
    """Undo `scale_layers`."""
    for _, layer in scalable_layers(net):
        layer.__dict__.pop("forward", None)


def _bound(forward: Callable[..., Tensor], layer: nn.Module, scale: SampleScale) -> Callable[[Tensor], Tensor]:
    return lambda images: forward(layer, scale, images)


def _linear_forward(layer: nn.Linear, scale: SampleScale, images: Tensor) -> Tensor:
    return _apply(_ScaledLinear, images, layer.weight, layer.bias, scale)


def _convolution_forward(layer: nn.Conv2d, scale: SampleScale, images: Tensor) -> Tensor:
    padding: Any = layer.padding
    if isinstance(padding, str) or layer.padding_mode != "zeros":
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        images = functional.pad(images, layer._reversed_padding_repeated_twice, mode=mode)
        padding = [0] * len(layer.stride)
    geometry = Geometry(list(layer.stride), list(padding), list(layer.dilation), [0] * len(layer.stride), layer.groups)
    return _apply(_ScaledConvolution, images, layer.weight, layer.bias, scale, geometry)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return result


def _sample_norms(kappa: Tensor) -> Tensor:
    """Return n_i = ||kappa_i||_2 over the whole output of sample i, in kappa's own precision."""
    norms: Tensor = torch.linalg.vector_norm(kappa, dim=tuple(range(1, kappa.ndim)))
    return norms


def _along_samples(factors: Tensor, like: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (like.ndim - 1))


class _ScaledLinear(torch.autograd.Function):
    """y = a W' + b over the last dimension of a (N, ..., features)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, scale: SampleScale) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.scale = scale
        return functional.linear(images, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        kappa = gradients[0]
        wants_images, wants_weight, wants_bias, _ = ctx.needs_input_grad
        below = kappa @ weight if wants_images else None
        weight_gradient = bias_gradient = None
        if wants_weight or wants_bias:
            factors = _along_samples(ctx.scale.factors(_sample_norms(kappa)), kappa)
            on_kappa = kappa.numel() <= images.numel()
            weighted = kappa * factors if on_kappa or wants_bias else kappa
            if wants_weight:
                pair = (weighted, images) if on_kappa else (kappa, images * factors)
                weight_gradient = pair[0].flatten(0, -2).T @ pair[1].flatten(0, -2)
            if wants_bias:
                bias_gradient = weighted.flatten(0, -2).sum(0)
        return below, weight_gradient, bias_gradient, None


class _ScaledConvolution(torch.autograd.Function):
    """A convolution with zero padding."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, scale: SampleScale, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.scale, ctx.geometry = scale, geometry
        return torch.convolution(images, weight, bias, *geometry[:3], False, geometry.output_padding, geometry.groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        kappa = gradients[0]
        wants_images, wants_weight, wants_bias, _, _ = ctx.needs_input_grad
        bias_gradient = None
        if wants_weight or wants_bias:
            factors = ctx.scale.factors(_sample_norms(kappa))
            if wants_bias:
                bias_gradient = torch.mv(kappa.sum(tuple(range(2, kappa.ndim))).t(), factors)
        if wants_weight and kappa.numel() <= images.numel():
            weighted = kappa * _along_samples(factors, kappa)
            _, weight_gradient = _convolution_backward(weighted, images, weight, ctx.geometry, (False, True))
            below, _ = _convolution_backward(kappa, images, weight, ctx.geometry, (wants_images, False))
        else:
            # the gradient of the input does not look at the input: one call gives both
            weighted = images * _along_samples(factors, images) if wants_weight else images
            wanted = (wants_images, wants_weight)
            below, weight_gradient = _convolution_backward(kappa, weighted, weight, ctx.geometry, wanted)
        return below, weight_gradient, bias_gradient, None, None


def _convolution_backward(
    kappa: Tensor, images: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of the input and of the weight, None where not wanted."""
    if not any(wanted):
        return None, None
    gradients = torch.ops.aten.convolution_backward.default(
        kappa, images, weight, None, *geometry[:3], False, geometry.output_padding, geometry.groups, [*wanted, False]
    )
    return gradients[0], gradients[1]

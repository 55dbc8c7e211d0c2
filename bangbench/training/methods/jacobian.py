"""Jacobian regularization (Hoffman, Roberts, Yaida, arXiv 1908.02729).

J = CE(f(x), y) + lambda / 2 ||df/dx||_F^2, the mean over the batch; the norm of K logits is estimated from n random
unit vectors v for each sample: K / n sum_v ||v' df/dx||^2. From the authors' code (facebookresearch/
jacobian_regularizer, `jacobian/jacobian.py`). x is the image in [0, 1] here, the net's own input there: for LeNet,
which sees x / 256 of the grey levels, the two differ by less than 1 %.

With `layers`, inspired by deep contractive networks (Gu and Rigazio, arXiv 1412.5068; no code, weights unknown):
J = CE(f(x), y) + sum_l lambda / 2 ||dh_l/dh_{l-1}||_F^2, where h_0 is the image, h_l what goes into the next
convolution or linear layer, and the last one the logits. Each h_{l-1} is held constant.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.scaled_layers import scalable_layers

#: Derivatives by grey levels are so many times smaller than those by images in [0, 1].
GREY_LEVELS = 255.0


class JacobianSettings(base.MethodSettings):
    """How strongly the derivatives of the net are held down."""

    weight: float = Field(0.01, ge=0.0, description="lambda: weight of half the squared norm; the image is in [0, 1].")
    projections: int = Field(
        1, ge=0, description="Random directions for each image from which the norm is estimated; 0: exact, one a class."
    )
    layers: bool = Field(False, description="Penalise the derivative of each layer by its input (DCN, inspired by).")

    @field_validator("layers")
    @classmethod
    def _check_layers(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("projections") == 0:
            raise ValueError(
                "expected projections of at least 1 beside it: a layer has too many outputs for the exact norm"
            )
        return value


class Jacobian(base.Method):
    """Train with a penalty on the squared derivative of the logits, or of each layer, by its input."""

    Settings: ClassVar[type[base.MethodSettings]] = JacobianSettings
    settings: JacobianSettings
    paper = "Hoffman et al. 2019, arXiv 1908.02729"
    trained_on = ()

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return 5.0 if self.settings.layers else 1.0 + 2.0 * (self.settings.projections or 10)

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy with the penalty, and the logits of the clean images."""
        variable = images.detach().clone().requires_grad_(not self.settings.layers)
        logits = classifier(variable)
        loss = cross_entropy(logits, labels)
        if self.settings.weight:
            loss = loss + self.settings.weight / 2.0 * self._penalty(classifier, variable, logits)
        return base.Objective(loss, logits)

    def _penalty(self, classifier: Classifier, images: Tensor, logits: Tensor) -> Tensor:
        if self.settings.layers:
            return layers_jacobian(classifier, images, self.settings.projections)
        return GREY_LEVELS**2 * squared_jacobian(logits, images, self.settings.projections)


def squared_jacobian(outputs: Tensor, inputs: Tensor, projections: int) -> Tensor:
    """Return ||d outputs / d inputs||_F^2, a scalar with a graph: the mean over the samples.

    outputs: (N, ...), computed from inputs (N, ...), which require gradients; projections: random directions for each
    sample, drawn from the default generator, 0 for as many as there are outputs: the exact norm.
    """
    flat = outputs.flatten(1)
    total, size = flat.new_zeros(()), flat.shape[1]
    for direction in _directions(flat, projections):
        along = (flat * direction).sum()
        (gradient,) = torch.autograd.grad(along, inputs, create_graph=True, materialize_grads=True)
        total = total + gradient.square().sum() / len(flat)
    return total * (size / (projections or size))


def _directions(flat: Tensor, projections: int) -> list[Tensor]:
    if projections == 0:
        return list(torch.eye(flat.shape[1], dtype=flat.dtype, device=flat.device))
    return [nn.functional.normalize(torch.randn_like(flat)) for _ in range(projections)]


def layers_jacobian(classifier: Classifier, images: Tensor, projections: int) -> Tensor:
    """Return the sum over the layers of ||dh_l/dh_{l-1}||_F^2, from a pass in which each h_{l-1} is a constant.

    images: (N, C, H, W) in grey levels; the first layer's derivative is by the image in [0, 1].
    """
    starts, ends, inside = [images.detach().clone().requires_grad_(True)], [], False

    def cut(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        nonlocal inside
        if not inside:  # the first layer stands for the way from the image to the next one
            inside = True
            return None
        ends.append(given[0])
        starts.append(given[0].detach().requires_grad_(True))
        return (starts[-1], *given[1:])

    hooks = [layer.register_forward_pre_hook(cut) for _, layer in scalable_layers(classifier.net)]
    try:
        ends.append(classifier(starts[0]))
    finally:
        for hook in hooks:
            hook.remove()
    parts = [squared_jacobian(end, start, projections) for start, end in zip(starts, ends, strict=True)]
    return GREY_LEVELS**2 * parts[0] + sum(parts[1:], torch.zeros_like(parts[0]))

"""Batch Adjusted Network Gradients (Rozsa, Guenther, Boult, arXiv 1612.00138, eq. 2-6).

For every convolution and linear layer, kappa_i = dE_i/dy_i is the gradient at the layer's own output. Its samples are
brought closer to the largest of the batch before they form the weight gradient; the layer below receives the
unscaled gradient.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.scaled_layers import SampleScale, scale_layers, unscale_layers

#: Gradients are carried this many times too large through the backward pass, exactly, being a power of two. Those of
#: well classified samples would otherwise be subnormal float32 numbers, which a CPU computes up to a hundred times
#: slower; a step of a nearly trained LeNet would take three times as long.
_AMPLIFICATION = 2.0**40


class BangSettings(base.MethodSettings):
    """beta scales the gradient, epsilon in [0, 1] sets how far samples are balanced, ratio lowers it for wrong ones."""

    beta: float = Field(1.0, gt=0.0)
    epsilon: float = Field(0.8, ge=0.0, le=1.0)
    ratio: float = Field(1.0, ge=0.0)


def balance(norms: Tensor, correct: Tensor, epsilon: float, ratio: float) -> Tensor:
    """Return eta (N,), the factor of each sample's gradient (eq. 3-4).

    rho_i = epsilon_i (1 - n_i / n_max) and eta_i = (n_max / n_i)^rho_i, with epsilon_i = epsilon where the sample is
    classified correctly and ratio * epsilon where not; eta_i = 1 where n_i is 0.
    norms: n_i >= 0, (N,); correct: bool (N,).
    """
    largest = norms.max()
    rho = torch.full_like(norms, epsilon).masked_fill(~correct, ratio * epsilon) * (1.0 - norms / largest)
    return torch.where(norms > 0.0, (largest / norms) ** rho, 1.0)


class Bang(base.Method):
    """Train with the weight gradients of every convolution and linear layer balanced over the batch."""

    Settings: ClassVar[type[base.MethodSettings]] = BangSettings
    settings: BangSettings

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._correct: Tensor | None = None

    def prepare(self, classifier: Classifier) -> None:
        """Let the layers compute their weight gradients from balanced samples."""
        scale_layers(classifier.net, SampleScale(self._factors))

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy; correctness is judged on this very forward pass, dropout on."""
        logits = classifier(images)
        self._correct = logits.detach().argmax(1) == labels
        return base.Objective(cross_entropy(_Amplified.apply(logits), labels), logits)  # type: ignore[no-untyped-call]

    def after_backward(self, classifier: Classifier) -> None:
        """Bring the gradients back to their size."""
        for value in classifier.net.parameters():
            if value.grad is not None:
                value.grad.mul_(1.0 / _AMPLIFICATION)

    def release(self, classifier: Classifier) -> None:
        """Give the layers their own forward back: what is saved is a plain net."""
        unscale_layers(classifier.net)

    def _factors(self, norms: Tensor) -> Tensor:
        settings = self.settings
        correct: Any = self._correct
        norms = norms * (1.0 / _AMPLIFICATION)
        # the rule for n_i = 0 speaks of float32 norms, whose squares underflow
        norms = norms.masked_fill(norms * norms == 0.0, 0.0)
        return settings.beta * balance(norms, correct, settings.epsilon, settings.ratio)


class _Amplified(torch.autograd.Function):
    """The identity, with a gradient `_AMPLIFICATION` times as large."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * _AMPLIFICATION

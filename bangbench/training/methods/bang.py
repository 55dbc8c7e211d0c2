"""Batch Adjusted Network Gradients (Rozsa, Guenther, Boult, arXiv 1612.00138, eq. 2-6).

For every convolution and linear layer, kappa_i = dE_i/dy_i is the gradient at the layer's own output. Its samples are
brought closer to the largest of the batch before they form the weight gradient; the layer below receives the
unscaled gradient.
"""

from __future__ import annotations

import functools
import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.scaled_layers import SampleScale, scale_layers, unscale_layers

#: Gradients are carried this many times too large through the backward pass, exactly, being a power of two. Those of
#: well classified samples would otherwise be subnormal float32 numbers, which a CPU computes up to a hundred times
#: slower; a step of a nearly trained LeNet would take three times as long.
_AMPLIFICATION = 2.0**40


class BangSettings(base.MethodSettings):
    """How far gradients are balanced."""

    beta: float = Field(1.0, gt=0.0, description="Factor of the whole gradient.")
    epsilon: float = Field(0.8, ge=0.0, le=1.0, description="How far samples are balanced.")
    ratio: float = Field(1.0, ge=0.0, description="epsilon of misclassified samples, relative to the others'.")


def balance(norms: Tensor, epsilons: Tensor, nothing: float = 0.0) -> Tensor:
    """Return eta (N,), the factor of each sample's gradient (eq. 3-4).

    rho_i = epsilon_i (1 - n_i / n_max) and eta_i = (n_max / n_i)^rho_i; eta_i = 1 where n_i is `nothing` or less.
    norms: n_i >= 0, (N,); epsilons: epsilon_i, (N,) or one for all. The norms may all be the same number of times too
    large.
    """
    largest, one = norms.max(), norms.new_ones(())
    rho = torch.addcdiv(one, norms, largest, value=-1.0).mul_(epsilons)
    return torch.where(norms > nothing, (largest / norms).pow_(rho), one)


class Bang(base.Method):
    """Train with the weight gradients of every convolution and linear layer balanced over the batch."""

    Settings: ClassVar[type[base.MethodSettings]] = BangSettings
    settings: BangSettings
    paper = "Rozsa, Guenther, Boult 2016, arXiv 1612.00138"
    gradient_scale = _AMPLIFICATION
    trained_on = ()

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._epsilons = torch.empty(0)

    def prepare(self, classifier: Classifier) -> None:
        """Let the layers compute their weight gradients from balanced samples."""
        scale_layers(classifier.net, SampleScale(self._factors))

    def warnings(self, classifier: Classifier) -> tuple[str, ...]:
        """Name the layers that take their statistics from the batch: there a sample's gradient is not its own."""
        kind = nn.modules.batchnorm._BatchNorm
        coupled = [name for name, layer in classifier.net.named_modules() if isinstance(layer, kind) and layer.training]
        if not coupled:
            return ()
        more = f" and {len(coupled) - 1} more" if len(coupled) > 1 else ""
        return (
            f"BANG balances the gradients of single samples, but {coupled[0]}{more} normalises with the statistics of "
            "the batch, which couple its samples: compare training and test accuracy in log.csv, or take a net with "
            "another normalisation (group, layer) or none",
        )

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy; correctness is judged on this very forward pass, dropout on."""
        logits = classifier(images)
        self._epsilons = self._sample_epsilons(logits.detach(), labels)
        logits.register_hook(_amplified)
        return base.Objective(cross_entropy(logits, labels), logits)

    def release(self, classifier: Classifier) -> None:
        """Give the layers their own forward back: what is saved is a plain net."""
        unscale_layers(classifier.net)

    def _sample_epsilons(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return epsilon_i (N,), which all layers share, or one for all where no sample is told from another."""
        epsilon, ratio = self.settings.epsilon, self.settings.ratio
        if ratio == 1.0:
            return logits.new_full((), epsilon)
        wrong = logits.argmax(1) != labels
        return logits.new_full(labels.shape, epsilon).masked_fill_(wrong, ratio * epsilon)

    def _factors(self, norms: Tensor) -> Tensor:
        eta = balance(norms, self._epsilons.to(norms.dtype), _AMPLIFICATION * _vanishing(norms.dtype))
        return eta if self.settings.beta == 1.0 else eta.mul_(self.settings.beta)


@functools.cache
def _vanishing(dtype: torch.dtype) -> float:
    """Return the largest norm whose square underflows: n_i = 0 is meant of norms computed without amplification."""
    limits = torch.finfo(dtype)
    return math.sqrt(limits.smallest_normal * limits.eps) * math.sqrt(0.5)


def _amplified(gradient: Tensor) -> Tensor:
    return gradient * _AMPLIFICATION

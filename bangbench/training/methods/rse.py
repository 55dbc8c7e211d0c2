"""Random self-ensemble (Liu et al., arXiv 1712.00673): noise before every convolution, in training and in prediction.

h + sigma N before each convolution, never clipped; J = CE(f(x), y) on one draw; the prediction is that of the mean
softmax over draws. sigma is a share of the grey-level range at the first convolution, and of the root mean square of
what the layer sees, measured once on untouched images, at the others: the paper's nets have batch normalisation, whose
activations are of size 1. From the authors' code: xuanqing94/BayesianDefense, `models/vgg_rse.py`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.watching import watched

#: Training images on which the sizes of activations are measured.
_MEASURED = 256


class RseSettings(base.MethodSettings):
    """Noise of the layers, and passes of a prediction."""

    input: float = Field(0.2, ge=0.0, description="Noise before the first convolution; 1 is the grey-level range.")
    inner: float = Field(0.1, ge=0.0, description="Noise before the others, relative to the size of what they see.")
    draws: int = Field(10, ge=1, description="Passes whose mean is the prediction; the paper takes 50.")


class NoiseLayer(nn.Module):
    """h + sigma * size * N, in training and in eval mode; `size`, a buffer, is 0 until it is measured."""

    size: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma
        self.register_buffer("size", torch.zeros(()))

    def forward(self, activations: Tensor) -> Tensor:
        """Return activations of any shape with noise; without drawing any where there is none to add."""
        if not self.sigma:
            return activations
        return activations + self.sigma * self.size * torch.randn_like(activations)


class RandomSelfEnsemble(base.Method):
    """Train on clean images through layers of noise, which stay when the net predicts."""

    Settings: ClassVar[type[base.MethodSettings]] = RseSettings
    settings: RseSettings
    paper = "Liu et al. 2018, arXiv 1712.00673"
    trained_on = ()

    @property
    def draws(self) -> int:
        """Return how many passes a prediction averages."""
        return self.settings.draws

    def transform(
        self, net: nn.Module, shape: tuple[int, int, int], classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return the net with a layer of noise before each of its convolutions."""
        names = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
        if not names or "" in names:
            raise BenchError("method 'rse' adds noise before every convolution of a net; this net holds none")
        for number, name in enumerate(names):
            sigma = self.settings.inner if number else self.settings.input
            net.set_submodule(name, nn.Sequential(NoiseLayer(sigma), net.get_submodule(name)))
        return net

    @torch.no_grad()
    def begin_run(self, run: base.RunView) -> None:
        """Measure what the layers see: the range of grey levels at the first, the root mean square at the others."""
        images = run.images[:_MEASURED].to(torch.float32)
        layers = [module for module in run.classifier.modules() if isinstance(module, NoiseLayer)]
        for layer in layers:
            layer.size.zero_()
        clean = _seen_by(layers, run.classifier, images)
        black, white = (_seen_by(layers[:1], run.classifier, torch.full_like(images[:1], level)) for level in (0, 255))
        layers[0].size.copy_((white[0] - black[0]).abs().mean())
        for layer, seen in zip(layers[1:], clean[1:], strict=True):
            layer.size.copy_(seen.square().mean().sqrt())


def _seen_by(layers: list[NoiseLayer], classifier: Classifier, images: Tensor) -> list[Tensor]:
    """Return the input of each layer in one pass."""
    with ExitStack() as stack:
        passes = [stack.enter_context(watched(layer)) for layer in layers]
        classifier.with_draws(1)(images)
    return [passed[-1].given for passed in passes]

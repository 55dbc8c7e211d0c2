"""Tricks that keep one-step training from collapsing (Li et al., arXiv 2209.02684), inspired by.

J = CE(f(x'), y) + lambda mean|W_1| with x' = x M + e sign grad CE(f(x M), y), clipped to the range. M hides a share of
the pixels, the same ones of every image throughout, in training alone; every ReLU of the net becomes the smooth SiLU;
W_1 is the weight of the first convolution or linear layer. The authors' repository is empty and of the paper the
abstract alone was read: share and weight are ours, and the larger stride of the first convolution is left out, since a
given net's later layers would no longer fit.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.seeds import torch_generator
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import image_gradient
from bangbench.nets.predict import evaluated
from bangbench.training.methods import base
from bangbench.training.methods.crafting import BudgetSettings, WithinBudget, at_label
from bangbench.training.methods.scaled_layers import scalable_layers


class TricksSettings(BudgetSettings):
    """One step for every image, and the tricks."""

    warmup: int = Field(3000, ge=0, description="Solver steps over which the budget grows from 0.")
    seen: float = Field(0.6, gt=0.0, le=1.0, description="Chance of a pixel to be shown; 1: no mask.")
    smooth: bool = Field(True, description="Put SiLU in the place of every ReLU.")
    first_layer: float = Field(1e-3, ge=0.0, description="lambda: weight of the first layer's mean |weight|.")


class FgsmTricks(WithinBudget):
    """Train a smooth net, its first layer kept small, on images that are partly hidden and moved by one step."""

    Settings: ClassVar[type[base.MethodSettings]] = TricksSettings
    settings: TricksSettings
    paper = "Li et al. 2022, arXiv 2209.02684"
    inspired = True
    trained_on = ("fgs", "fgs-unmasked")

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._mask = torch.ones(())

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return 1.8

    def transform(
        self, net: nn.Module, shape: tuple[int, int, int], classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return the net with SiLU for ReLU."""
        return smoothed(net) if self.settings.smooth else net

    def begin_run(self, run: base.RunView) -> None:
        """Draw the pixels that are shown; the same in a run that goes on."""
        drawn = torch.rand(run.images.shape[-2:], generator=torch_generator(run.seed, "fgsm-tricks", "mask"))
        self._mask = (drawn < self.settings.seen).to(run.images.device, torch.float32)

    def warnings(self, classifier: Classifier) -> tuple[str, ...]:
        """Say where there was nothing to smooth."""
        if not self.settings.smooth or any(isinstance(layer, nn.SiLU) for layer in classifier.net.modules()):
            return ()
        return ("fgsm-tricks found no torch.nn.ReLU to put SiLU in the place of; a functional relu is not seen",)

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy of the moved images with the first layer's size, and their logits."""
        shown = images * self._mask.to(images)
        with evaluated(classifier):
            gradient, _ = image_gradient(classifier, shown, at_label(labels))
        logits = classifier(shown.add_(gradient.sign_(), alpha=self.radius).clamp_(0.0, 255.0))
        loss = cross_entropy(logits, labels)
        first = next((layer for _, layer in scalable_layers(classifier.net)), None)
        if first is not None and self.settings.first_layer:
            weight = first.get_parameter("weight")
            loss = loss + self.settings.first_layer * weight.abs().mean()
        return base.Objective(loss, logits)


def smoothed(net: nn.Module) -> nn.Module:
    """Return the net with every ReLU, however deep, replaced by SiLU in place."""
    if isinstance(net, nn.ReLU):
        return nn.SiLU()
    for name, child in net.named_children():
        setattr(net, name, smoothed(child))
    return net

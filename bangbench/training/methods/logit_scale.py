"""Scaled logits, a control that masks and trains nothing: a regular net whose deployed logits are multiplied.

z -> s z in eval mode alone: the weights are those of regular training, and so are all predictions, but in float32 the
softmax of a confident image is exactly 1 and its gradient exactly 0 (Carlini and Wagner, arXiv 1607.04311).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from bangbench.training.methods import base


class ScaleSettings(base.MethodSettings):
    """The factor."""

    scale: float = Field(100.0, gt=0.0, description="What the deployed net's logits are multiplied by.")


class LogitScale(base.Method):
    """Train as ever, and deploy with all logits multiplied."""

    Settings: ClassVar[type[base.MethodSettings]] = ScaleSettings
    settings: ScaleSettings
    paper = "control; after Carlini and Wagner 2016, arXiv 1607.04311"
    trained_on = ()

    def transform(
        self, net: nn.Module, shape: tuple[int, int, int], classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return the net, its output multiplied in eval mode."""
        scale = self.settings.scale

        # a module around the net would change the names of its weights
        def deployed(module: nn.Module, images: Any, logits: Tensor) -> Tensor:
            return logits if module.training else logits * scale

        net.register_forward_hook(deployed)
        return net

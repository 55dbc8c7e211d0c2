"""Training at a high temperature, a control that masks: the logits of the deployed net come out T times too large.

J = CE(softmax(z / T), y), deployed without T: in float32 the softmax is then exactly 1 and its gradient exactly 0. It
is the half of defensive distillation (arXiv 1511.04508) that makes attacks fail; dividing the logits undoes it
(arXiv 1607.04311).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base


class TemperatureSettings(base.MethodSettings):
    """T, and how its effect on the length of steps is made up for."""

    temperature: float = Field(20.0, gt=0.0, description="What logits are divided by in training alone.")
    scale_loss: bool = Field(
        False, description="Multiply the loss by it, for gradients do shrink by it; LeNet then needs a rate of 0.002."
    )


class Temperature(base.Method):
    """Train with logits divided by a temperature that the deployed net does not know."""

    Settings: ClassVar[type[base.MethodSettings]] = TemperatureSettings
    settings: TemperatureSettings
    paper = "control; after Papernot et al. 2016, arXiv 1511.04508"
    trained_on = ()

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the cross-entropy at the temperature."""
        logits = classifier(images)
        loss = cross_entropy(logits / self.settings.temperature, labels)
        return base.Objective(loss * self.settings.temperature if self.settings.scale_loss else loss, logits)

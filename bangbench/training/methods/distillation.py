"""Defensive distillation (Papernot et al., arXiv 1511.04508), which masks: its logits come out T times too large.

J = -sum_c q_c log p_c, the mean over the batch, with q = softmax(z_teacher / T) and p = softmax(z / T); deployed at
T = 1. The teacher is a model of the bench trained by `temperature` at the same T; with the same seed both start from
the same weights, as in the paper. From code of others (carlini/nn_robust_attacks, `train_models.py`). There the loss is
not multiplied by T; without that, gradients are T times smaller than in regular training and the rate has to be raised.
Dividing the logits by T undoes it (arXiv 1607.04311, 1608.04644).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base


class DistillationSettings(base.MethodSettings):
    """Whose answers are learned, and how soft."""

    teacher: str = Field(
        min_length=1, description="Name of the model whose answers are learned, trained by `temperature` at the same T."
    )
    temperature: float = Field(20.0, gt=0.0, description="T: what the logits of both are divided by in training alone.")
    scale_loss: bool = Field(True, description="Multiply the loss by the temperature: gradients shrink by it.")


class Distillation(base.Method):
    """Train to give the soft answers of a teacher, at a temperature that the deployed net does not know."""

    Settings: ClassVar[type[base.MethodSettings]] = DistillationSettings
    settings: DistillationSettings
    paper = "Papernot et al. 2016, arXiv 1511.04508"
    trained_on = ()

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._teacher: Classifier | None = None

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs, the teacher's own training aside."""
        return 1.35

    @property
    def models(self) -> tuple[str, ...]:
        """Return the name of the teacher."""
        return (self.settings.teacher,)

    def begin_run(self, run: base.RunView) -> None:
        """Open the teacher."""
        self._teacher = run.open_model(self.settings.teacher)

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the cross-entropy with the teacher's answers, both at the temperature, and the logits."""
        temperature = self.settings.temperature
        if self._teacher is None:
            raise RuntimeError("begin_run comes before the first step: it opens the teacher")
        with torch.no_grad():
            soft = (self._teacher(images) / temperature).softmax(1)
        logits = classifier(images)
        loss = cross_entropy(logits / temperature, soft)
        return base.Objective(loss * temperature if self.settings.scale_loss else loss, logits)

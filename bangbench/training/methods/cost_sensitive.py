"""Cost-sensitive adversarial training (Shen et al., arXiv 2101.12372), inspired by.

J = mean_i c(y_i) CE(f(x'_i), y_i) with x' as in `pgd-at`, c larger for the classes to protect and 1 for the others. The
weights are not normalised: protecting more classes makes larger steps. Of the paper the abstract alone was read; its
min-max condition on the convolutions' weights is left out, and how large c is, is ours. Look at the robust accuracy of
each class: that of all classes together may well fall.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.core.errors import UsageError
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import evaluated
from bangbench.training.methods import base
from bangbench.training.methods.crafting import InSteps, StepsSettings, at_label, near


def _split(value: Any) -> Any:
    """Return the parts of ``3,5``, as it is given on the command line."""
    return value.split(",") if isinstance(value, str) else value


class CostSensitiveSettings(StepsSettings):
    """Which classes are worth more, and how much."""

    step: float = Field(0.04, gt=0.0, le=1.0, description="Length of a step; 1 is the grey-level range.")
    steps: int = Field(10, ge=1, description="Steps of the attack on every batch.")
    warmup: int = Field(3000, ge=0, description="Solver steps over which the budget, and the step, grow from 0.")
    protected: Annotated[tuple[int, ...], BeforeValidator(_split)] = Field(
        (0,), min_length=1, description="Numbers of the classes to protect, such as 3,5."
    )
    protection: float = Field(5.0, gt=0.0, description="c: weight of their loss, 1 being that of the others.")


class CostSensitive(InSteps):
    """Train on attacked images, errors in some classes counting more."""

    Settings: ClassVar[type[base.MethodSettings]] = CostSensitiveSettings
    settings: CostSensitiveSettings
    paper = "Shen et al. 2021, arXiv 2101.12372"
    inspired = True
    trained_on = ("pgd",)

    def begin_run(self, run: base.RunView) -> None:
        """Refuse classes that no training image has."""
        known = set(run.labels.tolist())
        unknown = [number for number in self.settings.protected if number not in known]
        if unknown:
            raise UsageError(
                f"method 'cost-sensitive': protected: no training image is of class {unknown[0]}; expected numbers of "
                f"classes from {min(known)} to {max(known)}"
            )

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the weighted mean cross-entropy of the attacked batch, and its logits."""
        with evaluated(classifier):
            attacked = self.ascended(classifier, images, near(images, self.radius), at_label(labels))
        logits = classifier(attacked)
        protected = torch.isin(labels, torch.tensor(self.settings.protected, device=labels.device))
        costs = torch.where(protected, self.settings.protection, 1.0).to(logits.dtype)
        return base.Objective((costs * cross_entropy(logits, labels, reduction="none")).mean(), logits)

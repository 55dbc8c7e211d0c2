"""Label smoothing, a control: it flattens gradients and looks robust to weak attacks.

J = -sum_c t_c log p_c(x) with t = 1 - q at the label and q / (K - 1) elsewhere (arXiv 1906.11567; the robustness
that it shows under some attacks is not there under others, arXiv 2009.08233). No code was taken as a source.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base


class SmoothingSettings(base.MethodSettings):
    """How smooth labels are."""

    smoothing: float = Field(0.1, ge=0.0, le=0.5, description="What the label gives away to the other classes.")


class LabelSmoothing(base.Method):
    """Train on labels that leave the other classes a share."""

    Settings: ClassVar[type[base.MethodSettings]] = SmoothingSettings
    settings: SmoothingSettings
    paper = "control; Fu et al. 2020, arXiv 2009.08233"
    trained_on = ()

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the cross-entropy with smooth labels."""
        logits = classifier(images)
        classes = logits.shape[1]
        # torch spreads its share over all classes, the label among them
        smoothing = self.settings.smoothing * classes / (classes - 1)
        return base.Objective(cross_entropy(logits, labels, label_smoothing=smoothing), logits)

"""A classifier behind which another one stands: with other logits and the same predictions."""

from __future__ import annotations

from torch import Tensor, nn

from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing


class _Changed(nn.Module):
    """Logits (h - mean h) / divisor, or h / divisor."""

    def __init__(self, classifier: Classifier, centred: bool, divisor: float) -> None:
        super().__init__()
        self.classifier, self.centred, self.divisor = classifier, centred, divisor

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images)
        if self.centred:
            logits = logits - logits.mean(1, keepdim=True)
        return logits / self.divisor


def changed(classifier: Classifier, centred: bool = False, divisor: float = 1.0) -> Classifier:
    """Return a classifier with each image's mean logit subtracted, or all logits divided: predictions stay the same."""
    return _wrapped(_Changed(classifier, centred, divisor))


def _wrapped(module: nn.Module) -> Classifier:
    return Classifier(module, Preprocessing(input_scale=1.0)).eval()

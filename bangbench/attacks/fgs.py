"""Fast gradient sign (Goodfellow et al. 2015), and the same without float32 underflow."""

from __future__ import annotations

from torch import Tensor

from bangbench.attacks.base import Direction
from bangbench.attacks.grids import grey_level_steps
from bangbench.attacks.line import LineAttack, usable_direction
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import cross_entropy, image_gradient, loss_vanishes, unmasked_margin


class Fgs(LineAttack):
    """The sign of the gradient of the cross-entropy at the true label.

    An image is blank where Caffe's float32 softmax gives the true class exactly 1 (`loss_vanishes`), whatever the
    autograd gradient holds: its entries come from the tiny probabilities of the other classes.
    """

    version = 2
    unmasked_twin = "fgs-unmasked"
    grid = grey_level_steps()

    def direction(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Direction:
        """Return sign(grad J), blank where J is 0."""
        gradient, logits = image_gradient(classifier, images, lambda logits: cross_entropy(logits, labels))
        return usable_direction(gradient, gradient.sign(), loss_vanishes(logits, labels))


class FgsUnmasked(LineAttack):
    """The direction of `Fgs` computed so that it cannot underflow.

    The cross-entropy is log(1 + exp(m)) with m = logsumexp over the wrong classes - z_true; its gradient is
    sigmoid(m) * grad m. The factor vanishes for a confident net, the sign of grad m does not.
    """

    version = 2
    grid = grey_level_steps()

    def direction(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Direction:
        """Return sign(grad m)."""
        gradient, _ = image_gradient(classifier, images, lambda logits: unmasked_margin(logits, labels))
        return usable_direction(gradient, gradient.sign())

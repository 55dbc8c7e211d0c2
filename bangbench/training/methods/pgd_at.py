"""Adversarial training with projected gradient descent (Madry et al., arXiv 1706.06083).

J = CE(f(x'), y), x' after k steps x' = P(x' + a sign grad CE(f(x'), y)) from x + U(e); P: to the ball and the range.
Source: MadryLab/mnist_challenge, `pgd_attack.py` and `train.py`.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import evaluated
from bangbench.training.methods import base
from bangbench.training.methods.crafting import InSteps, at_label, near


class PgdAdversarialTraining(InSteps):
    """Train on images moved, inside the budget, to where the cross-entropy at their label is large."""

    paper = "Madry et al. 2018, arXiv 1706.06083"
    trained_on = ("pgd",)

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy of the attacked batch; the attack sees the net without dropout."""
        with evaluated(classifier):
            attacked = self.ascended(classifier, images, near(images, self.radius), at_label(labels))
        logits = classifier(attacked)
        return base.Objective(cross_entropy(logits, labels), logits)

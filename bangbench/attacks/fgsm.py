"""The fast gradient sign method inside an L_inf ball (Goodfellow et al., arXiv 1412.6572), as benchmarks quote it."""

from __future__ import annotations

from typing import ClassVar

from bangbench.attacks.ball import Ball, BallAttack, BallSearch, Found, gradients_and_logits
from bangbench.attacks.base import ByStrength, Means
from bangbench.attacks.pgd import ascent
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import cross_entropy


class Fgsm(BallAttack):
    """One step of the whole budget along the sign of the gradient of the cross-entropy.

    Where float32 leaves no gradient an image stays as it is: the rate is that of the method, not what a model
    withstands; an audit tells the difference, and runs stronger attacks.
    """

    nested = False
    strengths: ClassVar[ByStrength] = {"quick": None, "standard": None, "extended": None}
    cost = 2

    def find(self, classifier: Classifier, ball: Ball, means: Means) -> Found:
        """Return the images after the step where they are not classified as their labels, else nothing."""
        search = BallSearch(classifier, ball, means.batch_size)
        start = ball.images.contiguous()
        gradient, logits = gradients_and_logits(classifier, start, cross_entropy, means.batch_size, ball.labels)
        left = search.judge(search.left(), start, logits)
        search.judge_last(left.nonzero().squeeze(1), ball.project(ascent(gradient).mul_(ball.budget).add_(start))[left])
        return search.result()

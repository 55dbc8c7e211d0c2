"""Adversarial training with projected gradient descent (Madry et al., arXiv 1706.06083).

J = CE(f(x'), y), x' after k steps x' = P(x' + a sign grad CE(f(x'), y)) from x + U(e); P: to the ball and the range.
Source: MadryLab/mnist_challenge, `pgd_attack.py`, `train.py`. Its net has no dropout; here the attack sees none.
"""

from __future__ import annotations

from bangbench.training.methods.crafting import InSteps


class PgdAdversarialTraining(InSteps):
    """Train on images moved, inside the budget, to where the cross-entropy at their label is large."""

    paper = "Madry et al. 2018, arXiv 1706.06083"
    trained_on = ("pgd",)

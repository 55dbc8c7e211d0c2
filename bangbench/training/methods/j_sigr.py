"""Jacobian norm and selective input gradient regularization (Liu et al., arXiv 2207.13036), inspired by.

J = CE(f(x), y) + lJ ||df/dx||_F^2 + lS ||(1 - M) g||^2, means over the batch, with g = grad_x CE(f(x), y) and M = 1 at
the pixels where |g| is largest: the net may look at what is salient, and nowhere else. x is the image in [0, 1]. The
authors published nets and an attack (Lywu-github/jJ-SIGR) but no training code: share and weights are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.jacobian import GREY_LEVELS, squared_jacobian


class SelectiveSettings(base.MethodSettings):
    """How strongly derivatives by the image in [0, 1] are held down."""

    jacobian: float = Field(0.01, ge=0.0, description="lJ: weight of the squared norm of the logits' derivative.")
    selective: float = Field(0.1, ge=0.0, description="lS: weight of the squared gradient at pixels not salient.")
    salient: float = Field(0.3, ge=0.0, le=1.0, description="Share of the pixels that may have a large gradient.")
    projections: int = Field(
        1, ge=0, description="Random directions for each image from which the norm is estimated; 0: exact, one a class."
    )


class SelectiveInputGradient(base.Method):
    """Train with penalties on the logits' derivative and on the loss's gradient outside the most salient pixels."""

    Settings: ClassVar[type[base.MethodSettings]] = SelectiveSettings
    settings: SelectiveSettings
    paper = "Liu et al. 2022, arXiv 2207.13036"
    inspired = True
    trained_on = ()

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return 3.5

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean cross-entropy with both penalties, and the logits of the clean images."""
        settings = self.settings
        variable = images.detach().clone().requires_grad_(True)
        logits = classifier(variable)
        losses = cross_entropy(logits, labels, reduction="none")
        loss = losses.mean()
        if settings.jacobian:
            norm = squared_jacobian(logits, variable, settings.projections)
            loss = loss + settings.jacobian * GREY_LEVELS**2 * norm
        if settings.selective:
            (gradient,) = torch.autograd.grad(losses.sum(), variable, create_graph=True)
            outside = gradient * ~most_salient(gradient, settings.salient)
            loss = loss + settings.selective * GREY_LEVELS**2 * outside.square().sum() / len(images)
        return base.Objective(loss, logits)


def most_salient(gradient: Tensor, share: float) -> Tensor:
    """Return where each image's |gradient| (N, C, H, W) is among the largest, a share of all its entries, as bool."""
    size = gradient.detach().abs().flatten(1)
    chosen = size.topk(round(share * size.shape[1])).indices
    return torch.zeros_like(size, dtype=torch.bool).scatter_(1, chosen, True).view_as(gradient)

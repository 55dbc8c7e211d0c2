"""Adversarial training in the latent space, after LADDER (Zhou et al., arXiv 2206.03717), inspired by.

J = (CE(f(G(h + eps |h| d)), y) + CE(f(x), y)) / 2: h is what the net's last linear layer sees of x, d the unit normal
of a boundary in the latent space from class y towards another, drawn at random, and G leads from latents to images.

Formula from the authors' code (zhouxiaowei1120/LADDER), but much here is simpler. Boundaries there are support vector
machines that weigh the entries of a latent by attention: here they are linear, fitted by regularised least squares to
labels -1 and 1 of 200 images of each class, all entries weigh the same, and eps is a share of the latent's length. G
there is a net trained for 1000 epochs: here the linear map that comes closest to the images, by least squares. They go
on from a trained net: here the first `refresh` steps are regular training, and every so many steps both are fitted
anew. Nothing keeps the images within a budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, pad

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import batch_size_for, evaluated
from bangbench.training.methods import base

_OF_EACH_CLASS = 200
#: The weight of the squared coefficients, relative to the mean squared length of what they are applied to.
_RIDGE = 1e-3


class LadderSettings(base.MethodSettings):
    """How far latents are moved, and when the latent space is looked at."""

    epsilon: float = Field(0.5, ge=0.0, description="eps: how far a latent is moved, relative to its length.")
    pool: int = Field(10_000, ge=1, description="Training images from which the way back to images is fitted.")
    refresh: int = Field(2500, ge=1, description="Solver steps before the latent space is looked at, and between.")


class Ladder(base.Method):
    """Train on clean images, and on images of latents that were moved towards another class."""

    Settings: ClassVar[type[base.MethodSettings]] = LadderSettings
    settings: LadderSettings
    paper = "Zhou et al. 2022, arXiv 2206.03717"
    inspired = True
    trained_on = ()

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self._images, self._labels = torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
        self._fitted: dict[str, Tensor] = {}
        self._due = False

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs."""
        return 2.4

    def begin_run(self, run: base.RunView) -> None:
        """Keep hold of the training images; refuse a net without a latent space."""
        self._images, self._labels = run.images, run.labels
        _last_linear(run.classifier.net)

    def begin_step(self, iteration: int) -> None:
        """Learn whether the latent space is to be looked at before this step."""
        self._due = iteration > 0 and iteration % self.settings.refresh == 0

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> base.Objective:
        """Return the mean of both losses, of the clean images alone before the first look, and their logits."""
        logits = classifier(images)
        if self._due:
            self._fitted = self._fit(classifier, logits.shape[1])
        loss = cross_entropy(logits, labels)
        if self._fitted:
            moved = self._moved(classifier, images, labels)
            loss = 0.5 * cross_entropy(classifier(moved), labels) + 0.5 * loss
        return base.Objective(loss, logits)

    def state(self) -> dict[str, Tensor]:
        """Return the way back to images and the directions between classes."""
        return self._fitted

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the latent space as an interrupted run saw it."""
        self._fitted = {name: value.to(self._images.device) for name, value in state.items()}

    def _fit(self, classifier: Classifier, classes: int) -> dict[str, Tensor]:
        device = self._images.device
        rows = torch.randperm(len(self._images))[: self.settings.pool].to(device)
        parts = torch.split(rows, batch_size_for(device))
        known = torch.cat([latents(classifier, self._images[part].float()) for part in parts])
        back = least_squares(known, self._images[rows].flatten(1))
        directions = class_directions(known, self._labels[rows], classes)
        return {"back": back.to(known), "directions": directions.to(known)}

    @torch.no_grad()
    def _moved(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        known = latents(classifier, images)
        directions = self._fitted["directions"]
        classes = len(directions)
        other = (labels + torch.randint_like(labels, 1, max(classes, 2))) % classes
        moved = known + self.settings.epsilon * known.norm(dim=1, keepdim=True) * directions[labels, other].to(known)
        return (_with_one(moved) @ self._fitted["back"].to(known)).clamp_(0.0, 255.0).view_as(images)


def _last_linear(net: nn.Module) -> nn.Linear:
    found = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if not found:
        raise BenchError("method 'ladder' needs a net with a torch.nn.Linear: its latents are what the last one sees")
    return found[-1]


def _with_one(rows: Tensor) -> Tensor:
    return pad(rows, (0, 1), value=1.0)


@torch.no_grad()
def latents(classifier: Classifier, images: Tensor) -> Tensor:
    """Return what the last linear layer of the net, in eval mode, sees of images (N, C, H, W): (N, F)."""
    seen: list[Tensor] = []
    hook = _last_linear(classifier.net).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        with evaluated(classifier):
            classifier(images)
    finally:
        hook.remove()
    return seen[-1][: len(images)].flatten(1)  # in eval mode a batch is filled up


def least_squares(known: Tensor, wanted: Tensor) -> Tensor:
    """Return W (F + 1, P), float64 on the CPU: (known, 1) W comes closest to `wanted`, with a small ridge.

    known: (N, F); wanted: (N, P).
    """
    rows = _with_one(known.cpu().double())
    squares = rows.T @ rows
    squares.diagonal().add_(_RIDGE * squares.trace() / len(squares))
    solution: Tensor = torch.linalg.solve(squares, rows.T @ wanted.cpu().double())
    return solution


def class_directions(known: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the unit normals (K, K, F) of the boundaries, from the first class towards the second; float64, CPU.

    known: (N, F); where a class has no latents there is no direction: 0.
    """
    of_class = [known[labels == number][:_OF_EACH_CLASS] for number in range(classes)]
    result = torch.zeros(classes, classes, known.shape[1], dtype=torch.float64)
    for one in range(classes):
        for other in range(one + 1, classes):
            sides = of_class[one], of_class[other]
            if min(map(len, sides)):
                sign = torch.cat([torch.full((len(sides[0]), 1), -1.0), torch.ones(len(sides[1]), 1)])
                normal = normalize(least_squares(torch.cat(sides), sign)[:-1, 0], dim=0)
                result[one, other], result[other, one] = normal, -normal
    return result

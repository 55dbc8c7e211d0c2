"""Channel-wise importance-based feature selection (Yan et al., arXiv 2102.05311).

Before the net's feature maps z (N, C, H, W) are flattened, a probe g, linear on their mean over the positions, weighs
the channels: z * s, s = C softmax over channels of the gradient of g_y + g_2nd by the pooled z, where y is
the label and 2nd the probe's second choice; outside training mode its two choices. For a linear probe that gradient is
the sum of two rows of its weights, through which the mask is trained.
J = 3 / (beta + 1) (CE(f(x'), y) + beta CE(g(x'), y)); x' is crafted in eval mode against J.
From the authors' code: HanshuYAN/CIFS, `models/nets/resnet_CIFS.py`, which has two probes in a ResNet, and weights that
sum to 2 before batch normalisation; here they are 1 on average.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.training.methods import base
from bangbench.training.methods.crafting import InSteps, StepsSettings, near
from bangbench.training.methods.watching import watched


class CifsSettings(StepsSettings):
    """The attack, and the weight of the probe."""

    beta: float = Field(2.0, ge=0.0, description="Weight of the probe's loss.")


class ChannelSelection(nn.Module):
    """Weigh the channels of feature maps by what a linear probe makes of them.

    labels: int64 (N,), the classes whose channels count in training.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.probe = nn.Linear(channels, classes)
        self.labels: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Return features (N, C, H, W), their channels weighed."""
        told: Tensor = self.probe(features.mean((2, 3)))
        first, second = told.topk(2, dim=1).indices.unbind(1)
        if self.training and self.labels is not None:
            first = self.labels
        mask = (self.probe.weight[first] + self.probe.weight[second]).softmax(1) * features.shape[1]
        return features * mask[:, :, None, None]


class FeatureSelection(InSteps):
    """Train on attacked images, the net's last feature maps weighed by their importance for the label."""

    Settings: ClassVar[type[base.MethodSettings]] = CifsSettings
    settings: CifsSettings
    paper = "Yan et al. 2021, arXiv 2102.05311"
    trained_on = ("pgd",)

    def transform(
        self, net: nn.Module, shape: tuple[int, int, int], classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return the net with a selection of channels before its feature maps are flattened."""
        name, flatten = _flatten_of(net)
        channels = _channels_at(flatten, net, shape)
        net.set_submodule(name, nn.Sequential(ChannelSelection(channels, classes), flatten))
        return net

    def attack(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        """Return images moved to where the joint loss is large."""
        with watched(_selection_in(classifier).probe) as passes:

            def joint(logits: Tensor) -> Tensor:
                return self._joint(
                    logits, passes[-1].returned[: len(labels)], labels
                )  # a batch may have been filled up

            return self.ascended(classifier, images, near(images, self.radius), joint)

    def loss_on(self, classifier: Classifier, images: Tensor, attacked: Tensor, labels: Tensor) -> base.Objective:
        """Return the joint loss of the attacked images, and the net's own logits."""
        selection = _selection_in(classifier)
        selection.labels = labels
        with watched(selection.probe) as passes:
            logits = classifier(attacked)
        selection.labels = None
        return base.Objective(self._joint(logits, passes[-1].returned, labels).mean(), logits)

    def _joint(self, logits: Tensor, told: Tensor, labels: Tensor) -> Tensor:
        """Return 3 / (beta + 1) (CE of the net's logits + beta CE of the probe's), (N,)."""
        beta = self.settings.beta
        own, probe = (cross_entropy(given, labels, reduction="none") for given in (logits, told))
        return 3.0 / (beta + 1.0) * (own + beta * probe)


def _selection_in(classifier: Classifier) -> ChannelSelection:
    return next(module for module in classifier.modules() if isinstance(module, ChannelSelection))


def _flatten_of(net: nn.Module) -> tuple[str, nn.Flatten]:
    """Return the layer that flattens the net's feature maps, and its name."""
    for name, module in net.named_modules():
        if name and isinstance(module, nn.Flatten):
            return name, module
    raise BenchError("method 'cifs' weighs the feature maps that a net flattens; this net has no nn.Flatten layer")


@torch.no_grad()
def _channels_at(flatten: nn.Flatten, net: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return how many channels the feature maps have."""
    training = net.training
    with watched(flatten) as passes:
        net.eval()(torch.zeros(1, *shape))
    net.train(training)
    if not passes or passes[-1].given.ndim != 4:
        raise BenchError("method 'cifs' weighs channels: it needs a net that flattens feature maps (N, C, H, W)")
    return passes[-1].given.shape[1]

"""The search along the FGS direction against a loop that tries every step on every image."""

from __future__ import annotations

import torch

from bangbench.attacks.fgs import FGS_UNMASKED
from bangbench.attacks.search import first_flip, perturb
from bangbench.data.sources import open_source
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import predict
from benchmarks.compare import Comparison, compare

_IMAGES = 100


def comparisons() -> list[Comparison]:
    """Compare on digits with an untrained LeNet, all cores; both must find the same flips."""
    definition = net_definition("lenet")
    classifier = Classifier(build_net(definition, (1, 28, 28), 10, 0), definition.preprocessing, None, True).eval()
    images = torch.from_numpy(open_source("digits", None).load("test").images[:_IMAGES]).float()
    labels = predict(classifier, images)
    direction = FGS_UNMASKED.direction(classifier, images, labels)

    def search() -> torch.Tensor:
        return first_flip(classifier, images, labels, direction, FGS_UNMASKED.grid).scale

    def every_step() -> torch.Tensor:
        first = torch.full((len(images),), torch.nan)
        for scale in reversed(FGS_UNMASKED.grid.scales):
            moved = perturb(images, direction.tensor, torch.tensor(scale))
            first[predict(classifier, moved) != labels] = scale
        return first

    torch.testing.assert_close(search(), every_step(), equal_nan=True)
    return [compare(f"FGS search, {_IMAGES} images 28x28", search, "every step on every image", every_step, runs=5)]

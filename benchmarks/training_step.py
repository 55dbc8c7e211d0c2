"""A BANG step against a regular step of the same engine: forward, backward, update."""

from __future__ import annotations

import torch

from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.training.methods.base import make_method
from bangbench.training.solver import Solver
from benchmarks.compare import Comparison, Work, compare

_STEPS = 10


def comparisons() -> list[Comparison]:
    """Compare at the batch sizes of the paper, on one thread; a ratio of 0.95 means that BANG costs 5 % more."""
    torch.set_num_threads(1)
    cases = [("lenet", (1, 28, 28), 64), ("cifar10-quick", (3, 32, 32), 100)]
    return [
        compare(
            f"{_STEPS} BANG steps, {net}, batch {batch}",
            _steps(net, shape, batch, "bang"),
            "regular steps of bangbench",
            _steps(net, shape, batch, "regular"),
        )
        for net, shape, batch in cases
    ]


def _steps(net: str, shape: tuple[int, int, int], batch: int, method_name: str) -> Work:
    definition = net_definition(net)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, *shape, generator=generator) * 255
    labels = torch.randint(10, (batch,), generator=generator)
    mean = images.mean(0) if definition.preprocessing.mean_image else None
    built = build_net(definition, shape, 10, 0)
    classifier = Classifier(built, definition.preprocessing, mean, definition.channels_last)
    method = make_method(method_name, {"epsilon": 0.8} if method_name == "bang" else {})
    method.prepare(classifier)
    solver = Solver(classifier.net, 0.9, definition.solver.weight_decay)

    def work() -> None:
        for _ in range(_STEPS):
            method.objective(classifier, images, labels).loss.backward()
            solver.step(1e-6)
            solver.clear_gradients()

    return work

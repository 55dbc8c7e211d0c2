"""What the benchmarks run on: MNIST and the trained R0 where they are, else the digits and an untrained net."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bangbench.core.errors import BenchError
from bangbench.data.dataset import Dataset, make_dataset
from bangbench.data.sources import open_source
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.nets.models import mean_image_of, open_model
from bangbench.nets.predict import predict
from bangbench.training.batches import Batches
from bangbench.training.loop import Run
from bangbench.training.methods.base import make_method
from bangbench.training.rates import rate_policy
from bangbench.training.solver import CaffeSgd

CPU = torch.device("cpu")
_ROOT = Path(__file__).resolve().parents[1]
_REFERENCE = "table1/R0"


class Subject(NamedTuple):
    """A LeNet with images float32 (N, 1, 28, 28) that it classifies as `labels`; `name` says which they are."""

    name: str
    classifier: Classifier
    images: Tensor
    labels: Tensor


def grey_images() -> tuple[str, Dataset]:
    """Return "mnist" with its training images, or "digits" where there is no MNIST."""
    for name in ("mnist", "digits"):
        try:
            return name, open_source(name, None).load("train")
        except BenchError:
            continue
    raise BenchError("expected the digits inside scikit-learn, found neither them nor MNIST; install scikit-learn")


def colour_images(count: int = 500) -> Dataset:
    """Return random images of CIFAR-10's shape: what is in them does not change how long a step takes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    return make_dataset(images, np.arange(count) % 10, tuple("0123456789"), "random colour images")


def subject(count: int) -> Subject:
    """Return R0 with the first `count` MNIST test images it classifies correctly, else what stands in for them."""
    try:
        classifier = open_model(_REFERENCE, _ROOT, CPU).classifier
        data, name = open_source("mnist", None).load("test"), "R0, mnist"
    except BenchError:
        definition = net_definition("lenet")
        net = build_net(definition, (1, 28, 28), 10, 0)
        classifier = Classifier(net, definition.preprocessing, None, definition.channels_last).eval()
        data, name = open_source("digits", None).load("test"), "untrained LeNet, digits"
    images = torch.from_numpy(data.images[: 2 * count]).float()
    labels = torch.from_numpy(data.labels[: 2 * count])
    predictions = predict(classifier, images)
    # an untrained net is right about nothing; what it says takes the place of the truth
    chosen = predictions == labels if name.startswith("R0") else torch.ones_like(labels, dtype=torch.bool)
    return Subject(name, classifier, images[chosen][:count], predictions[chosen][:count])


def training_run(net: str, data: Dataset, method_name: str, channels_last: bool | None = None) -> Run:
    """Return everything that steps of a training need, without a place to write to."""
    definition = net_definition(net)
    channels, height, width = data.images.shape[1:]
    built = build_net(definition, (channels, height, width), 10, 0)
    mean = mean_image_of(data) if definition.preprocessing.mean_image else None
    last = definition.channels_last if channels_last is None else channels_last
    classifier = Classifier(built, definition.preprocessing, mean, last).train()
    method = make_method(method_name, definition.method_defaults.get(method_name, {}))
    method.prepare(classifier)
    settings = definition.solver
    return Run(
        key="",
        folder=Path(),
        device=CPU,
        classifier=classifier,
        method=method,
        solver=CaffeSgd(classifier.net, 0.9, settings.weight_decay),
        rate=rate_policy(settings.rate_policy, settings.learning_rate, settings.iterations),
        batches=Batches(data, settings.batch_size, CPU),
        test=(torch.empty(0), torch.empty(0)),
        iterations=settings.iterations,
        stages=settings.stages,
    )

"""A pair of small models on the digits, and a progress that keeps what it is told and can interrupt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.core.progress import Silent
from bangbench.data.dataset import Dataset
from bangbench.data.digits import Digits
from bangbench.nets.classifier import Classifier
from bangbench.noise import plan
from bangbench.store.records import ModelInfo, Preprocessing

STAGES = (500, 1000)


class StubModel(NamedTuple):
    """What `evolve` uses of an opened model."""

    name: str
    info: ModelInfo
    data: str | None
    stages: tuple[int, ...]
    classifiers: dict[int, Classifier]

    def identity(self) -> list[str]:
        return [self.name]

    def notes(self) -> list[str]:
        return []

    def own_net(self, name: str) -> dict[str, str | None]:
        return {}

    def stage_classifier(self, iteration: int) -> Classifier:
        return self.classifiers[iteration]

    def stages_fingerprint(self) -> str:
        weights = [self.classifiers[stage].net[1].weight.detach() for stage in sorted(self.classifiers)]
        return str([float(weight.double().abs().sum()) for weight in weights])


class Recorder(Silent):
    """Keeps the notes and the stretches; raises KeyboardInterrupt once `limit` forward passes are done."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit, self.forwards, self.unit = limit, 0, ""
        self.notes: list[str] = []
        self.stretches: dict[str, tuple[int, int]] = {}

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        self.unit = unit
        self.stretches[unit] = (total, done)

    def advance(self, count: int = 1) -> None:
        if self.unit == "img":
            self.forwards += count
            if self.forwards > self.limit:
                raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return Digits(Path()).load("test")


def nearest_mean(data: Dataset, jitter: float, seed: int) -> Classifier:
    """Nearest class mean as a linear classifier, its weights disturbed; right for most of the digits."""
    pixels = data.images.reshape(len(data.images), -1) / 255.0
    means = torch.tensor(np.stack([pixels[data.labels == label].mean(axis=0) for label in range(10)]))
    layer = nn.Linear(means.shape[1], 10)
    weight = means + jitter * torch.randn(means.shape, generator=torch.Generator().manual_seed(seed))
    layer.load_state_dict({"weight": weight, "bias": -0.5 * means.square().sum(1)})
    return Classifier(nn.Sequential(nn.Flatten(), layer), Preprocessing()).eval()


def make_stub(name: str, data: Dataset, jitter: float, stages: tuple[int, ...] = STAGES) -> StubModel:
    info = ModelInfo(
        name=name,
        net="nearest-mean",
        parameters=7850,
        classes=10,
        input_shape=(1, 28, 28),
        preprocessing=Preprocessing(),
        iterations=1000,
    )
    classifiers = {stage: nearest_mean(data, jitter, stage) for stage in stages or (1000,)}
    return StubModel(name, info, "digits", stages, classifiers)


@pytest.fixture
def stub() -> Callable[..., StubModel]:
    return make_stub


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def models(digits, monkeypatch) -> dict[str, StubModel]:
    known = {"demo/R0": make_stub("demo/R0", digits, 0.1), "demo/B1": make_stub("demo/B1", digits, 0.02)}
    monkeypatch.setattr(plan, "open_model", lambda reference, *_: known[reference])
    return known

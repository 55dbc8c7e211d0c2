"""Digits as a user has them, and small nets that get most of them right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bangbench as bb
from bangbench.attacks.apgd import Apgd
from bangbench.attacks.square import Square
from bangbench.data.dataset import Dataset
from bangbench.data.digits import Digits
from bangbench.interface.audit import Audit

COUNT = 60

QUICK = {"budget": "8/255", "strength": "quick", "progress": False}


@contextmanager
def few_steps_and_queries() -> Iterator[None]:
    """Let audits take few of both: what is tested here is what goes in and comes out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Apgd, "strengths", {"quick": {"iterations": 5}})
        patch.setattr(Square, "strengths", {"quick": {"queries": 50}})
        yield


@pytest.fixture(autouse=True)
def few_steps() -> Iterator[None]:
    """Every test here, and none elsewhere: a fixture of the session would outlast these tests."""
    with few_steps_and_queries():
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return Digits(Path()).load("test")


@pytest.fixture(scope="session")
def images(digits) -> Tensor:
    return torch.from_numpy(digits.images[:COUNT]).float() / 255


@pytest.fixture(scope="session")
def labels(digits) -> Tensor:
    return torch.from_numpy(digits.labels[:COUNT])


def nearest_mean(data: Dataset, jitter: float = 0.0, scale: float = 1.0) -> nn.Sequential:
    """Nearest class mean of images in [0, 1] as a linear net, its logits times a factor."""
    pixels = data.images.reshape(len(data.images), -1) / 255.0
    means = torch.tensor(np.stack([pixels[data.labels == label].mean(axis=0) for label in range(10)]))
    layer = nn.Linear(means.shape[1], 10)
    noise = jitter * torch.randn(means.shape, generator=torch.Generator().manual_seed(0))
    layer.load_state_dict({"weight": scale * (means + noise), "bias": -0.5 * scale * means.square().sum(1)})
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture
def model(digits) -> nn.Sequential:
    """A net so brittle that every attack is over at once."""
    return nearest_mean(digits, jitter=2.0)


@pytest.fixture
def steady(digits) -> nn.Sequential:
    return nearest_mean(digits)


@pytest.fixture
def other(digits) -> nn.Sequential:
    return nearest_mean(digits, jitter=0.1)


@pytest.fixture(scope="session")
def found(digits, images, labels) -> Audit:
    """The audit of the brittle net."""
    with few_steps_and_queries():
        return bb.audit(nearest_mean(digits, jitter=2.0), images, labels, name="brittle", **QUICK)

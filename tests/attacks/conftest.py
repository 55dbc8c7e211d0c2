"""Classifiers small enough to know what an attack must find, and one trained model on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bangbench.attacks.ball import Ball, Found
from bangbench.attacks.base import Flips
from bangbench.attacks.line import LineAttack
from bangbench.core.progress import Silent
from bangbench.data.dataset import Dataset
from bangbench.data.digits import Digits
from bangbench.nets.classifier import Classifier
from bangbench.store.records import ModelCard, Preprocessing
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

#: Weights and biases are small integers times this, so that float32 computes every logit exactly.
UNIT = 2.0**-13


class Case(NamedTuple):
    """A linear classifier as float64 arrays, and images uint8 (N, 1, 8, 8) that it classifies as their labels."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def logits(self, images: NDArray[np.float64]) -> NDArray[np.float64]:
        return images.reshape(len(images), -1) @ self.weight.T + self.bias


class Recorder(Silent):
    """Keeps the notes and what was reported done; raises KeyboardInterrupt once more than `limit` images are."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit, self.images = limit, 0
        self.notes: list[str] = []
        self.stretches: list[tuple[str, int, int]] = []

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        self.stretches.append((label, total, done))

    def advance(self, count: int = 1) -> None:
        self.images += count
        if self.images > self.limit:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def wrap(net: nn.Module, input_scale: float = 1.0) -> Classifier:
    return Classifier(net, Preprocessing(input_scale=input_scale)).eval().requires_grad_(False)


def watched(net: nn.Module) -> tuple[Classifier, list[Tensor]]:
    """The wrapped net, and a list of all the batches that it is asked about, without what fills them up."""
    classifier, seen = wrap(net), list[Tensor]()
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    return classifier, seen


def linear(weight: NDArray[np.float64], bias: NDArray[np.float64]) -> Classifier:
    layer = nn.Linear(weight.shape[1], len(weight))
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return wrap(nn.Sequential(nn.Flatten(), layer))


def draw_images(generator: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """A third of the pixels black and a third white, where clipping matters at once; the rest anywhere between."""
    between = generator.integers(0, 256, (count, 1, 8, 8))
    kind = generator.integers(0, 3, between.shape)
    return np.where(kind == 0, 0, np.where(kind == 1, 255, between)).astype(np.uint8)


def run_attack(
    attack: LineAttack, classifier: Classifier, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> Flips:
    pixels, truth = torch.from_numpy(images).float(), torch.from_numpy(labels)
    return attack.along(classifier, pixels, truth, attack.direction(classifier, pixels, truth), 250)


def assert_allowed(result: Found, ball: Ball, classifier: Classifier) -> None:
    """Whole grey levels in range and ball; adversarial where found, untouched elsewhere."""
    adversarial = result.adversarial
    assert torch.equal(adversarial, adversarial.to(torch.uint8).float())
    assert (adversarial - ball.images).abs().max() <= ball.budget
    assert torch.equal(adversarial[~result.found], ball.images[~result.found])
    with torch.no_grad():
        assert torch.equal(classifier(adversarial).argmax(1) != ball.labels, result.found)


def random_ball(classifier: Classifier, shape: tuple[int, ...], count: int = 24, budget: int = 12) -> Ball:
    """A third of the values at an end of the range, where a budget is cut short."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(-60, 316, (count, *shape), generator=generator).clamp(0, 255).float()
    with torch.no_grad():
        return Ball(images, classifier(images).argmax(1), budget)


def grey_ball(classifier: Classifier, count: int, budget: int, seed: int = 0) -> Ball:
    """Any grey levels, of images (1, 8, 8)."""
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(seed)).float()
    with torch.no_grad():
        return Ball(images, classifier(images).argmax(1), budget)


class Tools(NamedTuple):
    """The helpers above, for tests that cannot import this file."""

    wrap: Callable[..., Classifier]
    watched: Callable[[nn.Module], tuple[Classifier, list[Tensor]]]
    linear: Callable[[NDArray[np.float64], NDArray[np.float64]], Classifier]
    run_attack: Callable[..., Flips]
    recorder: type[Recorder]
    unit: float
    assert_allowed: Callable[[Found, Ball, Classifier], None]
    random_ball: Callable[..., Ball]
    grey_ball: Callable[..., Ball]


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools(wrap, watched, linear, run_attack, Recorder, UNIT, assert_allowed, random_ball, grey_ball)


def opposite_rows(seed: int, share: float | None) -> Case:
    """Two classes with opposite weight rows, zeros among them, so that every attack's direction is known to the bit.

    share: how much of all change that saturation allows is needed to leave class 0; None: no bias.
    """
    generator = np.random.default_rng(seed)
    row = generator.integers(-8, 9, 64)
    row[np.argmax(np.abs(row))] = 8
    range_, lowest = int(np.abs(row).sum()) * 255, int(row[row < 0].sum()) * 255
    bias = 0 if share is None else -lowest - round((1.0 - share) * range_)
    # half a unit more, so that no image can lie on the boundary
    biases = np.array([bias + 0.5, -bias - 0.5]) * UNIT
    case = Case(np.stack([row, -row]) * UNIT, biases, draw_images(generator, 40), np.empty(0))
    logits = case.logits(case.images.astype(np.float64))
    usable = np.abs(logits[:, 0] - logits[:, 1]) < 14.0
    return case._replace(images=case.images[usable], labels=logits.argmax(1)[usable])


@pytest.fixture(scope="session")
def two_classes() -> Case:
    """About as many images of either class; all can be flipped."""
    return opposite_rows(2, None)


@pytest.fixture(scope="session")
def lopsided() -> Case:
    """Images of class 0 that flip only when nearly all pixels are black or white."""
    return opposite_rows(3, 0.97)


@pytest.fixture(scope="session")
def unbeatable() -> Case:
    """Images of class 0 that stay in it whatever their pixels are."""
    return opposite_rows(4, 1.01)


@pytest.fixture(scope="session")
def five_classes() -> Case:
    """All logits negative, as BANG makes them, and small enough for the loss not to vanish."""
    generator = np.random.default_rng(5)
    weight = generator.integers(-8, 9, (5, 64)) * UNIT
    bias = (-(2.0 ** np.array([15, 15, 15, 15, 15])) + np.array([0.5, 0.25, 0.0, -0.25, -0.5])) * UNIT
    case = Case(weight, bias, draw_images(generator, 24), np.empty(0))
    return case._replace(labels=case.logits(case.images.astype(np.float64)).argmax(1))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return Digits(Path()).load("test")


@pytest.fixture(scope="session")
def small_net() -> Classifier:
    """A smooth net with random weights for images (N, 1, 8, 8) and 4 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = (nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(108, 12), nn.Tanh(), nn.Linear(12, 4))
        return wrap(nn.Sequential(*layers), input_scale=255.0)


class Trained(NamedTuple):
    """A model `tiny` under `root`, trained on the digits."""

    root: Path
    card: ModelCard


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A LeNet after a few steps: right for most digits, with gradients that have not vanished everywhere."""
    root = tmp_path_factory.mktemp("trained")
    settings = {"iterations": 60, "batch_size": 32, "stages": 60, "device": "cpu"}
    return Trained(root, train(TrainSpec(name="tiny", data="digits", root=root, **settings)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch's default number of threads out of the results."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    yield
    torch.set_num_threads(before)

"""A small net in a file, specs of short trainings on the digits, and comparisons of what they leave."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bangbench.core.progress import Silent
from bangbench.data.digits import Digits
from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.training.spec import TrainSpec

NET = """
from torch import nn


def make(classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, classes)
    )
"""


_digits = functools.cache(functools.partial(Digits.load, Digits(Path())))


@pytest.fixture(autouse=True)
def digits_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the digits between trainings: reading them takes longer than a short training."""
    monkeypatch.setattr(Digits, "load", lambda _, split: _digits(split))


@pytest.fixture(scope="session")
def tiny_net(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return ``file.py:make``, a small net with a convolution, dropout and a linear layer."""
    path = tmp_path_factory.mktemp("net") / "tiny.py"
    path.write_text(NET, encoding="utf-8")
    return f"{path}:make"


@pytest.fixture
def spec_of(tiny_net: str, tmp_path: Path) -> Callable[..., TrainSpec]:
    """Return a function that makes the spec of a training of a second, some settings changed."""

    def make(**changes: object) -> TrainSpec:
        settings = {
            "name": "T",
            "net": tiny_net,
            "data": "digits",
            "train_images": 100,
            "iterations": 14,
            "batch_size": 16,
            "stages": 4,
            "learning_rate": 0.02,
            "root": tmp_path,
            "device": "cpu",
        }
        return TrainSpec(**settings | changes)

    return make


class StopAfter(Silent):
    """Raises KeyboardInterrupt at the given iteration, counted from where the run begins; keeps the notes."""

    def __init__(self, iterations: int) -> None:
        self.left = iterations
        self.notes: list[str] = []

    def advance(self, count: int = 1) -> None:
        self.left -= count
        if self.left <= 0:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def stop_after() -> type[StopAfter]:
    return StopAfter


def _left_by(folder: Path) -> dict[str, object]:
    with (folder / "log.csv").open(encoding="utf-8", newline="") as stream:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    weights = {name: (folder / name).read_bytes() for name in files if name.endswith(".safetensors")}
    return {"files": files, "log": rows} | weights


@pytest.fixture
def left_by() -> Callable[[Path], dict[str, object]]:
    """Return a function from a model's folder to its files, its weights' bytes, and its log without the seconds."""
    return _left_by


def _smooth(**layers: nn.Module) -> Classifier:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 20), nn.Tanh())
    for name, layer in (layers or {"head": nn.Linear(20, 4)}).items():
        body.add_module(name, layer)
    return Classifier(body, Preprocessing()).double().train()


@pytest.fixture
def smooth() -> Iterator[Callable[..., Classifier]]:
    """Return a function that makes a smooth classifier in float64 of images (N, 1, 6, 6), in training mode.

    It has four classes; layers given by name stand in the place of the last one. Random numbers are drawn as the test
    likes.
    """
    with torch.random.fork_rng(devices=[]):
        yield _smooth


@pytest.fixture
def few() -> tuple[Tensor, Tensor]:
    """Return ten float64 images (10, 1, 6, 6) of grey levels, some at both ends of the range, and their labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (10, 1, 6, 6), generator=generator).double()
    images[0, 0, :2], images[1, 0, :2] = 0.0, 255.0
    return images, torch.randperm(10, generator=generator) % 4


@pytest.fixture
def shown() -> Callable[[Classifier], list[Tensor]]:
    """Return a function that begins to list the images that a classifier is shown in training mode."""

    def begin(classifier: Classifier) -> list[Tensor]:
        passes: list[Tensor] = []

        def remember(_: nn.Module, given: tuple[Tensor]) -> None:
            if classifier.training:
                passes.append(given[0].detach().clone())

        classifier.register_forward_pre_hook(remember)
        return passes

    return begin


@pytest.fixture
def same_gradients() -> Callable[[Classifier, Tensor, Tensor], None]:
    """Return a function that compares two losses and their gradients on the weights; these must not all vanish."""

    def compare(classifier: Classifier, found: Tensor, expected: Tensor) -> None:
        precise = found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-9 if precise else 1e-5, atol=1e-12)
        weights = [value for value in classifier.parameters() if value.requires_grad]
        pairs = [torch.autograd.grad(loss, weights, materialize_grads=True) for loss in (found, expected)]
        for one, other in zip(*pairs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-7 if precise else 1e-4, atol=1e-10 if precise else 1e-6)
        assert max(float(value.abs().max()) for value in pairs[1]) > 1e-6

    return compare

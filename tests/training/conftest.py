"""A small net in a file, specs of short trainings on the digits, and comparisons of what they leave."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bangbench.core.progress import Silent
from bangbench.data.digits import Digits
from bangbench.training.spec import TrainSpec

NET = """
from torch import nn


def make(classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, classes)
    )
"""


@pytest.fixture(scope="session", autouse=True)
def digits_are_read_once() -> Iterator[None]:
    """Keep the digits between trainings: reading them takes longer than a short training."""
    with pytest.MonkeyPatch.context() as patch:
        read = Digits.load
        load = functools.cache(lambda split: read(Digits(Path()), split))
        patch.setattr(Digits, "load", lambda _, split: load(split))
        yield


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

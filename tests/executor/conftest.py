"""A small experiment, and what it leaves, to be played by every executor."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bangbench.core.progress import SILENT, Progress, Silent
from bangbench.recipes import run
from bangbench.recipes.run import Played, reproduce
from bangbench.recipes.spec import ReproduceSpec
from bangbench.reporting.run import ReportResult

#: A net so slow that a machine can be lost while it is trained.
NET = """
import time
from torch import nn

class Slow(nn.Module):
    def forward(self, images):
        if self.training:
            time.sleep(0.02)
        return images

def make(input_shape, classes):
    return nn.Sequential(Slow(), nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(50, classes))
"""

RECIPE = """
title = "A small experiment"
[train]
net = "{folder}/slow_net.py:make"
data = "npz:{folder}/blobs.npz"
iterations = 60
stages = 20
batch_size = 8
learning_rate = 0.1
[attack]
attack = ["fgs"]
[noise]
models = ["R", "R-s1"]
sigma = [40]
draws = 4
per_class = 6
[[model]]
id = "R"
method = "regular"
seeds = [0, 1, 2]
"""

#: What differs from run to run, and where sources are written meanwhile.
TIMES = {"seconds", "command", "commit", "dirty"}


class Study(NamedTuple):
    """A recipe file, beside which roots are made."""

    recipe: Path

    def play(self, root: str, progress: Progress = SILENT, **changes: object) -> Played:
        """Play the recipe in the root of that name."""
        settings = {"recipe": str(self.recipe), "root": self.root(root), "device": "cpu"}
        return reproduce(ReproduceSpec.model_validate({**settings, **changes}), progress)

    def root(self, name: str) -> Path:
        """Return a root."""
        return self.recipe.parent / name

    def left(self, root: str) -> dict[str, Any]:
        """Return what was left in a root, without times: records as values, everything else as bytes."""
        base = self.root(root)
        files = [path for top in ("models", "results") for path in (base / top).rglob("*") if path.is_file()]
        return {path.relative_to(base).as_posix(): _timeless(path) for path in files}


def _timeless(path: Path) -> Any:
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text()))
    if path.suffix == ".csv":
        header, *rows = (line.split(",") for line in path.read_text().splitlines())
        return [[cell for name, cell in zip(header, row, strict=True) if name not in TIMES] for row in rows]
    return path.read_bytes()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(one) for name, one in value.items() if name not in TIMES}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


class Notes(Silent):
    """A progress that keeps the lines it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return the experiment, played on this machine in the root "local"."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "slow_net.py").write_text(NET)
    generator = np.random.default_rng(0)
    labels = np.arange(84) % 3
    images = generator.integers(0, 60, (84, 12, 12))
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4, 3:9] += 150
    split = {"train_images": images[:60], "test_images": images[60:]}
    split = {name: stack.astype(np.uint8) for name, stack in split.items()}
    np.savez(folder / "blobs.npz", **split, train_labels=labels[:60], test_labels=labels[60:])
    (folder / "small.toml").write_text(RECIPE.format(folder=folder))
    made = Study(folder / "small.toml")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(run, "report", lambda *_: ReportResult((), (), (), ()))
        made.play("local", jobs=1)
    return made


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no report, which is the driver's own work."""
    monkeypatch.setattr(run, "report", lambda *_: ReportResult((), (), (), ()))


@pytest.fixture
def notes() -> Notes:
    """Return a progress that keeps its lines."""
    return Notes()


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a module of jobs that only this process has on its path."""
    import importlib

    name = f"jobs_of_{os.getpid()}_{abs(hash(tmp_path)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module(name)


FUNCTIONS = """
import os
import time
from pathlib import Path

from bangbench.core.errors import UsageError


def tell(argument, progress):
    progress.start("telling", 10)
    progress.advance(10)
    progress.note(f"{argument}: {os.environ['BANGBENCH_DATA']} in {Path.cwd()}")
    return 2 * argument


def refuse(argument, progress):
    while not list(Path(argument).glob("waits.*")):
        time.sleep(0.05)
    raise UsageError("expected something else; change it")


def wait(argument, progress):
    (Path(argument) / f"waits.{os.getpid()}").touch()
    time.sleep(60)


def die(argument, progress):
    os._exit(3)
"""

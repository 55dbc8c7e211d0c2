"""Playing a grid: coarse to fine, summaries alone are kept, and what is done is not done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.progress import SILENT, Progress, Silent
from bangbench.recipes.run import Played, reproduce
from bangbench.recipes.spec import ReproduceSpec
from bangbench.store.cells import CellRecord, cell_path, read_cells, read_grid
from bangbench.store.records import read_record

NET = """
from torch import nn

def make(input_shape, classes):
    return nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(50, classes))
"""

RECIPE = """
title = "A small grid"
[train]
net = "{folder}/grid_net.py:make"
data = "npz:{folder}/blobs.npz"
iterations = 10
batch_size = 8
learning_rate = 0.1
[[attack]]
attack = ["fgs"]
[[attack]]
attack = ["hc1"]
limit = 12
[noise_at]
sigma = 60
draws = 3
per_class = 4
[[model]]
id = "R0"
seeds = [0, 1]
[grid]
method = "bang"
beta = {{ from = 1.0, to = 1.2, step = 0.1 }}
epsilon = [0.8]
"""

COARSE = ["small/R0", "small/b1.00-e0.80", "small/b1.20-e0.80", "small/R0-s1"]
FINE = [*COARSE, "small/b1.10-e0.80"]


class Work(Silent):
    """A progress that keeps the label of everything that is computed."""

    def __init__(self, stop_at: str = "") -> None:
        self.labels: list[str] = []
        self.stop_at = stop_at

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        self.labels.append(label)
        if label == self.stop_at:
            raise KeyboardInterrupt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a recipe, its net and its images."""
    (tmp_path / "grid_net.py").write_text(NET)
    generator = np.random.default_rng(0)
    labels = np.arange(84) % 3
    images = generator.integers(0, 60, (84, 12, 12))
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4, 3:9] += 150
    split = {"train_images": images[:60].astype(np.uint8), "test_images": images[60:].astype(np.uint8)}
    np.savez(tmp_path / "blobs.npz", **split, train_labels=labels[:60], test_labels=labels[60:])
    (tmp_path / "small.toml").write_text(RECIPE.format(folder=tmp_path))
    return tmp_path


def play(folder: Path, progress: Progress = SILENT, **changes: Any) -> Played:
    """Play the recipe in this process."""
    settings = {"recipe": str(folder / "small.toml"), "root": folder / "root", "device": "cpu", "jobs": 1}
    return reproduce(ReproduceSpec.model_validate({**settings, **changes}), progress)


def files(folder: Path, top: str) -> set[str]:
    """Return what lies under models/ or results/."""
    base = folder / "root" / top
    return {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}


def test_a_coarse_grid_becomes_a_fine_one_and_only_summaries_are_kept(folder: Path) -> None:
    work = Work()
    played = play(folder, work, level=1)
    assert played.grid is not None
    assert played.report is None
    assert [cell.model.name for cell in played.grid.cells if cell.model] == COARSE
    trained = [label for label in work.labels if " " not in label]
    assert trained == COARSE
    assert {"small/R0 fgs", "small/R0 hc1", "small/R0 noise"} <= set(work.labels)
    assert files(folder, "models") == set()
    assert files(folder, "results") == {"small/grid.json", *(f"{name}/cell.json" for name in COARSE)}

    work = Work()
    played = play(folder, work)
    assert [label for label in work.labels if " " not in label] == ["small/b1.10-e0.80"]
    assert played.grid is not None
    assert sorted(cell.model.name for cell in played.grid.cells if cell.model) == sorted(FINE)
    work = Work()
    play(folder, work)
    assert work.labels == []


def test_a_cell_holds_what_a_figure_needs(folder: Path) -> None:
    play(folder, only=("b1.10-e0.80",))
    record = read_record(cell_path(folder / "root", "small/b1.10-e0.80"), CellRecord)
    assert record.place == {"beta": 1.1, "epsilon": 0.8}
    assert record.model is not None
    assert (record.model.method, record.model.method_settings["beta"], record.seed) == ("bang", 1.1, 0)
    assert record.accuracy is not None
    assert {name: found.images for name, found in record.attacks.items()} == {"fgs": 24, "hc1": 12}
    assert record.noise is not None
    assert (record.noise.sigma, record.noise.draws) == (60.0, 3)
    assert 0 <= record.noise.flipped_percent <= 100
    assert 0 < record.noise.images <= 12
    grid = read_grid(folder / "root", "small")
    assert grid.axes == {"beta": (1.0, 1.1, 1.2), "epsilon": (0.8,)}
    assert [cell.name for cell in grid.cells if cell.level == 1 and cell.place] == COARSE[1:3]
    assert [cell.model.name for cell in read_cells(folder / "root", "small") if cell.model] == ["small/b1.10-e0.80"]


def test_every_setting_of_the_training_decides_what_a_cell_is(folder: Path) -> None:
    play(folder, only=("R0",), seeds=1)
    spec = read_record(cell_path(folder / "root", "small/R0"), CellRecord).spec["train"]
    assert (spec["method"], spec["iterations"], spec["batch_size"], spec["momentum"]) == ("regular", 10, 8, 0.9)
    text = (folder / "small.toml").read_text()
    (folder / "small.toml").write_text(text.replace('id = "R0"', 'id = "R0"\nmethod = "temperature"'))
    with pytest.raises(BenchError, match=r"train\.method: regular -> temperature"):
        play(folder, only=("R0",), seeds=1)


def test_weights_are_kept_where_that_is_asked_for(folder: Path) -> None:
    play(folder, only=("b1.00-e0.80",), keep_weights=True)
    assert {"small/b1.00-e0.80/weights.safetensors", "small/b1.00-e0.80/model.json"} <= files(folder, "models")
    assert files(folder, "results") == {"small/grid.json", "small/b1.00-e0.80/cell.json"}
    work = Work()
    play(folder, work, only=("b1.00-e0.80",))
    assert work.labels == []


@pytest.mark.parametrize("stop_at", ["small/R0 hc1", "small/R0 noise"])
def test_an_interrupted_cell_goes_on_and_leaves_nothing_but_its_summaries(folder: Path, stop_at: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        play(folder, Work(stop_at), only=("R0",), seeds=1)
    assert "small/R0/weights.safetensors" in files(folder, "models")
    work = Work()
    play(folder, work, only=("R0",))
    assert "small/R0" not in work.labels
    assert stop_at in work.labels
    assert files(folder, "models") == set()
    assert files(folder, "results") == {"small/grid.json", "small/R0/cell.json", "small/R0-s1/cell.json"}


def test_a_model_that_was_there_before_stays_even_if_the_cell_was_interrupted(folder: Path) -> None:
    play(folder, only=("R0",), seeds=1, keep_weights=True)
    kept = files(folder, "models")
    (folder / "root/results/small/R0/cell.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        play(folder, Work("small/R0 hc1"), only=("R0",), seeds=1)
    play(folder, only=("R0",), seeds=1)
    assert files(folder, "models") == kept != set()


def test_finished_cells_of_other_settings_are_refused_before_work_begins(folder: Path) -> None:
    play(folder, only=("R0",))
    work = Work()
    with pytest.raises(BenchError, match=r"small/R0/cell\.json was made with other settings \(.*iterations: 10 -> 20"):
        play(folder, work, iterations=20)
    with pytest.raises(BenchError, match=r"attacks\.fgs\.limit: None -> 6"):
        play(folder, work, limit=6)
    assert work.labels == []
    play(folder, work, only=("R0",), limit=6, overwrite=True)
    record = read_record(cell_path(folder / "root", "small/R0"), CellRecord)
    assert {found.images for found in record.attacks.values()} == {6}


def test_a_cell_that_fails_stops_none_of_the_others(folder: Path) -> None:
    text = (folder / "small.toml").read_text()
    (folder / "small.toml").write_text(text.replace('method = "bang"', 'method = "bang"\nlearning_rate = 1e30'))
    with pytest.raises(
        BenchError, match=r"^3 of 5 models failed, the others are done:\n  small/b1\.00-e0\.80: training div"
    ):
        play(folder)
    assert files(folder, "results") >= {"small/R0/cell.json", "small/R0-s1/cell.json"}


def test_a_level_needs_a_grid(folder: Path) -> None:
    with pytest.raises(UsageError, match="--level goes with a recipe that has a grid"):
        play(folder, recipe="demo", level=1)

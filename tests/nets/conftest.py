"""Small data, a small trained model, and files that hold a user's own net."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bangbench.nets.models import Model, open_model
from bangbench.nets.references import Given
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return ``npz:FILE`` with 12 training and 6 test images, uint8 (1, 16, 16), of 3 classes."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    random = np.random.default_rng(3)
    arrays = {}
    for split, count in (("train", 12), ("test", 6)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, 16, 16), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 3
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Path:
    root = tmp_path_factory.mktemp("trained")
    for name in ("first", "other/second"):
        train(TrainSpec(name=name, data=small_data, iterations=2, batch_size=4, stages=1, root=root, device="cpu"))
    return root


@pytest.fixture
def trained_root(trained_once: Path, tmp_path: Path) -> Path:
    """Return a root of one's own with the LeNets ``first`` and ``other/second``, two steps old."""
    return Path(shutil.copytree(trained_once, tmp_path / "root"))


@pytest.fixture
def net_file(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a Python file with a user's net."""

    def write(text: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(f"import torch\nfrom torch import nn\n\n{text}\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def open_own(small_data: str, tmp_path: Path) -> Callable[..., Model]:
    """Return a function that opens a user's factory, on the small data."""

    def opened(reference: str, **given: object) -> Model:
        return open_model(reference, tmp_path, CPU, data=small_data, given=Given(**{"random_weights": True, **given}))

    return opened


@pytest.fixture
def authors() -> Path:
    """The directory of the authors' weights; skips the test where BANGBENCH_DATA has none."""
    directory = Path(os.environ.get("BANGBENCH_DATA", "")) / "authors"
    if "BANGBENCH_DATA" not in os.environ or not directory.is_dir():
        pytest.skip("BANGBENCH_DATA is not set, or has no folder authors/")
    return directory

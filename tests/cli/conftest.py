"""A working directory as a user has it: two small trained models, their net and their images, all named relatively."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from bangbench.cli.main import app
from bangbench.core import device
from bangbench.nets.trust import remember_code

Invoke = Callable[..., CompletedProcess[str]]

NET = """
from torch import nn


def make(input_shape, classes):
    return nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(50, classes))
"""
ALIKE = (
    *("--net", "net.py:make", "--data", "npz:blobs.npz", "--iterations", "20", "--stages", "10"),
    *("--batch-size", "8", "--learning-rate", "0.1"),
)


def write_images(path: Path) -> None:
    """Write images uint8 (N, 1, 12, 12) of three classes: a bright square at a place of its own, under noise."""
    generator = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {}
    for split, count in (("train", 60), ("test", 24)):
        labels = np.arange(count) % 3
        images = generator.integers(0, 60, (count, 1, 12, 12))
        for image, label in zip(images, labels, strict=True):
            image[0, 4 * label : 4 * label + 4, 3:9] += 150
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub checks allow_pickle's type against them


def run(*arguments: object) -> CompletedProcess[str]:
    """Run `bangbench` with these arguments in this process."""
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(app, words)
    return CompletedProcess(words, result.exit_code, result.stdout, result.stderr)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's data out, and compute with one thread and draw in this process, which suits tiny nets."""
    monkeypatch.delenv("BANGBENCH_DATA", raising=False)
    monkeypatch.setattr(device, "available_cores", lambda: 1)
    monkeypatch.setattr("bangbench.reporting.draw.available_cores", lambda: 1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory in which the models R0 and B1 were trained, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "net.py").write_text(NET)
    write_images(folder / "blobs.npz")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, method in (("R0", ()), ("B1", ("--method", "bang", "--beta", 1.0, "--epsilon", 0.8))):
            result = run("train", name, *ALIKE, *method, "--quiet")
            assert result.returncode == 0, result.stdout + result.stderr
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory: a copy of `trained`."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    remember_code("net.py:make")  # trained elsewhere: a copy of the folder is to be trusted again
    return tmp_path


@pytest.fixture
def bangbench() -> Invoke:
    """Return the function that runs the program in this process."""
    return run


@pytest.fixture
def alike() -> list[str]:
    """Return the options with which the models were trained."""
    return list(ALIKE)

"""A working directory with two small models, and real processes that are slow enough to be hit at a known point."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from bangbench.cli.main import app
from bangbench.core import device
from bangbench.nets.trust import remember_code
from bangbench.recipes import run as recipes
from bangbench.reporting.run import ReportResult

#: A net that takes its time where the environment says so; what it computes does not depend on that.
NET = """
import os
import time

from torch import nn

DELAY = float(os.environ.get("FAULT_TEST_DELAY", "0"))


class Slow(nn.Sequential):
    def forward(self, images):
        time.sleep(DELAY)
        return super().forward(images)


def make(input_shape, classes):
    return Slow(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))
"""
RECIPE = """
title = "Two small models"
[train]
net = "net.py:make"
data = "npz:blobs.npz"
iterations = 60
stages = 5
batch_size = 16
learning_rate = 0.1
[attack]
attack = ["fgs"]
limit = 30
[noise]
models = ["R0", "B1"]
sigma = [60]
draws = 2
per_class = 2
[[model]]
id = "R0"
method = "regular"
[[model]]
id = "B1"
method = "bang"
"""
TRAIN = (
    *("--net", "net.py:make", "--data", "npz:blobs.npz", "--iterations", "30", "--stages", "10"),
    *("--batch-size", "16", "--learning-rate", "0.1"),
)
_PATIENCE = 120.0


def write_images(path: Path) -> None:
    """Write images uint8 (N, 1, 8, 8) of three classes, 1,100 of them to test on: three chunks of an attack.

    They are smaller than PASS's window, which is left out for them.
    """
    generator = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {}
    for split, count in (("train", 90), ("test", 1100)):
        labels = np.arange(count) % 3
        images = generator.integers(0, 120, (count, 1, 8, 8))
        for image, label in zip(images, labels, strict=True):
            image[0, 2 * label : 2 * label + 2, 1:7] += 100
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub checks allow_pickle's type against them


def run(*arguments: object) -> CompletedProcess[str]:
    """Run `bangbench` with these arguments in this process, at full speed."""
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(app, words)
    return CompletedProcess(words, result.exit_code, result.stdout, result.stderr)


def hit(number: signal.Signals, marker: str, delay: float, *arguments: object) -> CompletedProcess[str]:
    """Run `bangbench` in a process of its own, and send it and its children a signal once `marker` files are there.

    marker: glob patterns separated by blanks, relative to the working directory. As a terminal does with Ctrl-C, the
    interrupt goes to the whole process group; SIGKILL goes to the main process alone. Fails if any process survives.
    """
    words = [sys.executable, "-m", "bangbench", *map(str, arguments)]
    environment = {**os.environ, "FAULT_TEST_DELAY": str(delay), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words, env=environment, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        _wait(lambda: process.poll() is not None or all(list(Path().glob(one)) for one in marker.split()), marker)
        assert process.poll() is None, f"ended before {marker} was there: {process.communicate()}"
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)
        stdout, stderr = process.communicate(timeout=_PATIENCE)
        _wait(lambda: not _alive(process.pid), "the end of all processes")
    finally:
        if _alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    return CompletedProcess(words, process.returncode, stdout, stderr)


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's data out, and compute with one thread, which suits tiny nets."""
    monkeypatch.delenv("BANGBENCH_DATA", raising=False)
    monkeypatch.setattr(device, "available_cores", lambda: 1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory in which the models R0 and B1 were trained, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "net.py").write_text(NET)
    (folder / "small.toml").write_text(RECIPE)
    write_images(folder / "blobs.npz")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, method in (("R0", "regular"), ("B1", "bang")):
            result = run("train", name, *TRAIN, "--method", method, "--quiet")
            assert result.returncode == 0, result.stderr
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory: a copy of `trained`."""
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    remember_code("net.py:make")  # trained elsewhere: a copy of the folder is to be trusted again
    return tmp_path / "here"


@pytest.fixture(scope="session")
def undisturbed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that runs a command to its end in a directory of its own, once, and returns that directory."""

    @functools.cache
    def run_elsewhere(*arguments: object) -> Path:
        folder = tmp_path_factory.mktemp("undisturbed") / "here"
        shutil.copytree(trained, folder)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.chdir(folder)
            remember_code("net.py:make")
            result = run(*arguments, "--quiet")
        assert result.returncode == 0, result.stderr
        return folder

    return run_elsewhere


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a recipe that is played in this process draw no figures."""
    monkeypatch.setattr(recipes, "report", lambda *_: ReportResult((), (), (), ()))


@pytest.fixture
def bangbench() -> Callable[..., CompletedProcess[str]]:
    """Return the function that runs the program in this process."""
    return run


@pytest.fixture
def hit_bangbench() -> Callable[..., CompletedProcess[str]]:
    """Return the function that runs the program in a process of its own and sends it a signal."""
    return hit


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 1 MB; skipped where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    words = [mount or "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system may be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)

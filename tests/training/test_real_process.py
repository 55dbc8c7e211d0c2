"""A real process, killed and interrupted: what it leaves, and that the next one goes on from there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

pytestmark = pytest.mark.slow
DEADLINE = 120.0


def start(spec: TrainSpec) -> subprocess.Popen[str]:
    """Start `bangbench train` in a process of its own."""
    names = ("net", "data", "method", "iterations", "batch_size", "stages", "learning_rate", "train_images", "root")
    options = [f"--{name.replace('_', '-')}={getattr(spec, name)}" for name in names]
    words = [sys.executable, "-m", "bangbench", "train", spec.name, "--quiet", "--device", "cpu", "--shuffle", *options]
    # a shell's background job ignores Ctrl-C, and would pass that on
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for_stage(process: subprocess.Popen[str], folder: Path, more_than: int) -> int:
    """Wait until the process has finished more stages than that; return how many there are."""
    limit = time.monotonic() + DEADLINE
    while time.monotonic() < limit:
        stages = len(list(folder.glob("stages/*.safetensors")))
        if stages > more_than and (folder / "resume.safetensors").exists():
            return stages
        if process.poll() is not None:
            pytest.fail(f"the process ended early: {process.communicate()}")
        time.sleep(0.005)
    process.kill()
    pytest.fail(f"no stage after {DEADLINE} s")


@pytest.fixture
def long_spec(spec_of):
    def make(**changes: object) -> TrainSpec:
        return spec_of(iterations=500, stages=25, batch_size=4, shuffle=True, method="bang", **changes)

    return make


def test_killed_twice_it_ends_with_the_same_bytes(long_spec, left_by, tmp_path):
    folder, stages = tmp_path / "models/killed", 0
    for _ in range(2):
        process = start(long_spec(name="killed"))
        stages = wait_for_stage(process, folder, stages)
        time.sleep(random.uniform(0, 0.05))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        stages = len(list(folder.glob("stages/*.safetensors")))
    for temporary in folder.rglob("*.tmp"):  # a killed process cannot remove what it was just writing
        temporary.unlink()
    train(long_spec(name="killed"))
    train(long_spec(name="whole"))
    assert left_by(folder) == left_by(tmp_path / "models/whole")


def test_interrupted_it_says_so_in_one_line_and_leaves_nothing_half_written(long_spec, tmp_path):
    folder = tmp_path / "models/stopped"
    process = start(long_spec(name="stopped"))
    wait_for_stage(process, folder, 0)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr == "bangbench: interrupted; what was finished is kept, run the same command again to go on\n"
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / "weights.safetensors").exists()

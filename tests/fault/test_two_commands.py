"""Two commands on one folder: the second never touches what the first is writing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest

from bangbench.core.locks import folder_lock

Run = Callable[..., CompletedProcess[str]]

TRAIN = (
    *("train", "L", "--net", "net.py:make", "--data", "npz:blobs.npz", "--iterations", 30, "--stages", 2),
    *("--batch-size", 16, "--learning-rate", 0.1),
)
ATTACK = ("attack", "R0", "--attack", "fgs")
AUDIT = ("audit", "B1", "--limit", 3, "--budget", 0.1, "--workers", 1)
NOISE = ("noise-eval", "R0", "B1", "--sigma", 60, "--draws", 20, "--per-class", 10, "--batch-size", 10)

#: A command, another one on the same folder, the folder, and what is in it when the first has something to lose.
PAIRS = {
    "train": (TRAIN, (*TRAIN, "--seed", 1, "--overwrite"), "models/L", "resume.safetensors"),
    "attack": (ATTACK, (*ATTACK, "--limit", 40, "--overwrite"), "results/R0", ".chunks-fgs/*.npz"),
    "audit": (AUDIT, (*AUDIT, "--seed", 1, "--overwrite"), "results/B1", ".chunks-audit/*.npz"),
    "noise": (NOISE, (*NOISE, "--seed", 1, "--overwrite"), "results/R0-vs-B1", ".chunks-noise/*.npz"),
}
_PATIENCE = 120.0


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def begin(here: Path) -> Iterator[Callable[..., Popen[str]]]:
    """Return a function that starts `bangbench` in a process of its own and stops it once `until` is there."""
    processes: list[Popen[str]] = []

    def start(arguments: tuple[object, ...], until: str | None = None) -> Popen[str]:
        words = [sys.executable, "-m", "bangbench", *map(str, arguments)]
        delay = "0" if until is None or arguments[0] == "audit" else "0.002"  # an audit takes long enough as it is
        environment = {**os.environ, "FAULT_TEST_DELAY": delay, "OMP_NUM_THREADS": "1"}
        processes.append(Popen(words, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        if until is not None:
            wait_for(lambda: list(Path().glob(until)))
            processes[-1].send_signal(signal.SIGSTOP)
            assert processes[-1].poll() is None
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def contents(pattern: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().glob(pattern)}


@pytest.mark.parametrize("name", PAIRS)
def test_the_second_is_refused_and_loses_nothing_of_the_first_until_that_is_killed(
    begin: Callable[..., Popen[str]], bangbench: Run, name: str
) -> None:
    command, other, folder, precious = PAIRS[name]
    first = begin(command, until=f"{folder}/{precious}")
    before = contents(f"{folder}/{precious}")
    refused = bangbench(*other, "--no-wait", "--quiet")
    assert refused.returncode == 1
    assert f"{folder} is being written by PID {first.pid} on " in refused.stderr
    assert contents(f"{folder}/{precious}") == before
    first.kill()
    first.wait()
    with folder_lock(Path(folder), 0):
        pass


def test_the_second_waits_and_goes_on_with_what_the_first_left(
    begin: Callable[..., Popen[str]], undisturbed: Callable[..., Path]
) -> None:
    _, _, folder, precious = PAIRS["attack"]
    first = begin(ATTACK, until=f"{folder}/{precious}")
    second = begin(ATTACK)
    assert second.stderr is not None
    assert any(f"{folder} is being written by PID {first.pid} on " in line for line in second.stderr)
    assert second.poll() is None
    first.kill()
    assert second.communicate(timeout=_PATIENCE)
    assert second.returncode == 0
    other = undisturbed(*ATTACK)
    assert Path("results/R0/fgs.parquet").read_bytes() == (other / "results/R0/fgs.parquet").read_bytes()
    assert list(Path().rglob(".lock*")) == []

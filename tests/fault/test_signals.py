"""Ctrl-C and kill -9 in the middle of real work: nothing half-written, and the same bytes in the end."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bangbench.attacks import run
from bangbench.attacks.chunk import Target, attack_chunk

Run = Callable[..., CompletedProcess[str]]

MESSAGE = "bangbench: interrupted; what was finished is kept, run the same command again to go on\n"
ATTACK = ("attack", "R0", "--attack", "fgs")
AUDIT = ("audit", "B1", "--against", "R0", "--limit", 12, "--budget", 0.1, "--strength", "quick", "--workers", 1)
NOISE = ("noise-eval", "R0", "B1", "--sigma", 60, "--draws", 20, "--per-class", 10, "--batch-size", 10)
REPRODUCE = ("reproduce", "small.toml")


def check_interrupted(done: CompletedProcess[str], number: signal.Signals = signal.SIGINT) -> None:
    """Fail unless the process ended with one message and status 130, or 143 where it was terminated."""
    assert done.returncode == 128 + number
    assert done.stdout == ""
    assert done.stderr.endswith(MESSAGE if number == signal.SIGINT else MESSAGE.replace("interrupted", "terminated"))
    assert done.stderr.count("bangbench: ") == 1
    assert "Traceback" not in done.stderr


def check_nothing_half_written(folder: Path, temporary_allowed: bool = False) -> None:
    """Fail unless every record can be read, no table is there yet, and no temporary file is left."""
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    assert list(folder.rglob("results/*/*.parquet")) == []
    if not temporary_allowed:
        assert list(folder.rglob("*.tmp")) == []


def check_same_results(folder: Path, other: Path, count: int) -> None:
    """Fail unless weights and tables are the same bytes, `count` of them, and nothing else is left over."""
    found = {
        path.relative_to(folder): path.read_bytes()
        for ending in ("*.safetensors", "*.parquet")
        for path in folder.rglob(ending)
    }
    assert len(found) == count
    assert [str(path) for path, content in found.items() if (other / path).read_bytes() != content] == []
    assert list(folder.rglob(".chunks-*")) == []
    assert list(folder.rglob("resume.safetensors")) == []


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["interrupted", "terminated", "killed"]
)
def test_an_attack_goes_on_after_its_last_chunk(
    here: Path,
    bangbench: Run,
    hit_bangbench: Run,
    undisturbed: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    done = hit_bangbench(number, "results/R0/.chunks-fgs/000000-*.npz", 0.01, *ATTACK)
    if number != signal.SIGKILL:
        check_interrupted(done, number)
    check_nothing_half_written(here, temporary_allowed=number == signal.SIGKILL)
    assert json.loads((here / "results/R0/fgs.json").read_text())["status"] == "started"
    computed: list[int] = []

    def counted(target: Target, images: NDArray[np.uint8], labels: NDArray[np.int64], first: int) -> dict[str, Any]:
        computed.append(first)
        return attack_chunk(target, images, labels, first)

    monkeypatch.setattr(run, "attack_chunk", counted)
    again = bangbench(*ATTACK)
    assert again.returncode == 0
    assert 0 not in computed
    assert computed[-1] == 1000
    check_same_results(here, undisturbed(*ATTACK), count=2 * 4 + 1)


def test_an_interrupted_noise_evolution_goes_on_after_its_last_chunk(
    here: Path, bangbench: Run, hit_bangbench: Run, undisturbed: Callable[..., Path]
) -> None:
    done = hit_bangbench(signal.SIGINT, "results/R0-vs-B1/.chunks-noise/000000-*.npz", 0.01, *NOISE)
    check_interrupted(done)
    check_nothing_half_written(here)
    again = bangbench(*NOISE)
    assert again.returncode == 0
    assert "of 30 images are done" in again.stderr
    check_same_results(here, undisturbed(*NOISE), count=2 * 4 + 1)


def test_an_interrupted_audit_goes_on_after_its_last_part(
    here: Path, bangbench: Run, hit_bangbench: Run, undisturbed: Callable[..., Path]
) -> None:
    done = hit_bangbench(signal.SIGINT, "results/B1/.chunks-audit/000001-*.npz", 0.001, *AUDIT)
    check_interrupted(done)
    check_nothing_half_written(here)
    assert json.loads((here / "results/B1/audit.json").read_text())["status"] == "started"
    again = bangbench(*AUDIT)
    assert again.returncode == 0
    assert re.search(r"^going on: \d+ of \d+ parts are done$", again.stderr, re.M)
    other = undisturbed(*AUDIT)
    check_same_results(here, other, count=2 * 4 + 1)
    found, expected = (json.loads((root / "results/B1/audit.json").read_text()) for root in (here, other))
    assert found["summary"] | {"seconds": 0} == expected["summary"] | {"seconds": 0}


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_recipe_goes_on_where_its_models_were(
    here: Path,
    bangbench: Run,
    hit_bangbench: Run,
    undisturbed: Callable[..., Path],
    number: signal.Signals,
) -> None:
    marker = "models/small/R0/resume.safetensors models/small/B1/resume.safetensors"
    done = hit_bangbench(number, marker, 0.1, *REPRODUCE, "--jobs", 2)
    if number == signal.SIGINT:
        check_interrupted(done)
    for path in here.rglob("*.json"):
        json.loads(path.read_text())
    assert json.loads((here / "models/small/R0/model.json").read_text())["status"] == "started"
    again = bangbench(*REPRODUCE, "--jobs", 1)
    assert again.returncode == 0
    assert "models/small/R0: going on from iteration " in again.stderr
    assert "models/small/B1: going on from iteration " in again.stderr
    check_same_results(here, undisturbed(*REPRODUCE, "--jobs", 1), count=2 * 4 + 2 * 13 + 2 + 1)

"""Which executor a command gets, and which options do not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bangbench.core import executor_choice
from bangbench.core.errors import UsageError
from bangbench.core.executor_choice import Choice, open_executor, visible_cards
from bangbench.core.executor_local import LocalExecutor


def opened(tmp_path: Path, **given: Any) -> Any:
    """Return the executor of a choice."""
    with open_executor(Choice(**given), tmp_path) as executor:
        return executor


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has four cards, of which this process may use two."""
    monkeypatch.setattr(executor_choice, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 3")


def test_a_processor_does_a_job_for_each_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_choice, "available_cores", lambda: 6)
    assert opened(tmp_path, device="cpu").slots == 6
    assert opened(tmp_path, device="cpu", jobs=3).slots == 3
    assert opened(tmp_path, device="cpu", jobs=1) is None


@pytest.mark.usefixtures("cards")
@pytest.mark.parametrize(
    ("given", "slots", "seen"),
    [
        ({}, 2, ["1", "3"]),
        ({"gpus": 0.25}, 8, ["1", "1", "1", "1", "3", "3", "3", "3"]),
        ({"gpus": 0.5, "jobs": 3}, 3, ["1", "1", "3"]),
        ({"gpus": 1.0}, 2, ["1", "3"]),
    ],
)
def test_cards_are_shared_out(tmp_path: Path, given: dict[str, Any], slots: int, seen: list[str]) -> None:
    executor = opened(tmp_path, device="cuda", **given)
    assert isinstance(executor, LocalExecutor)
    assert executor.slots == slots
    assert [executor.card(slot) for slot in range(slots)] == seen


@pytest.mark.usefixtures("cards")
def test_one_job_on_cards_needs_no_other_process(tmp_path: Path) -> None:
    assert opened(tmp_path, device="cuda", gpus=2.0) is None
    assert opened(tmp_path, device="cuda:1") is None
    assert visible_cards() == ("1", "3")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"address": "auto"}, "--address goes with --executor ray only"),
        ({"slurm": ("partition=gpu",)}, "--slurm goes with --executor slurm only"),
        ({"memory": 4.0}, "--memory-per-job goes with --executor ray or slurm"),
        ({"gpus": 0.5, "device": "cpu"}, "--gpus-per-job spreads over CUDA cards, found device 'cpu'"),
        ({"gpus": 1.5, "name": "ray"}, "--gpus-per-job: expected at most 1, or a whole number, found 1.5"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, **given)


@pytest.mark.usefixtures("cards")
def test_more_cards_than_there_are_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--gpus-per-job 4: this machine has 2"):
        opened(tmp_path, device="cuda", gpus=4.0)

"""Trainings interrupted anywhere and run again: the same bytes as one that was never interrupted."""

from __future__ import annotations

import random

import pytest

from bangbench.core.errors import BenchError
from bangbench.store.records import ModelCard, read_record
from bangbench.training import loop, run
from bangbench.training.run import train


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("method", ["regular", "bang"])
def test_interrupted_at_random_iterations_it_ends_with_the_same_bytes(
    spec_of, stop_after, left_by, tmp_path, method, shuffle
):
    settings = {"method": method, "shuffle": shuffle, "seed": 5}
    whole = train(spec_of(name="whole", **settings))
    dice = random.Random(f"{method} {shuffle}")
    notes = []
    for _ in range(3):
        progress = stop_after(dice.randint(1, 6))
        with pytest.raises(KeyboardInterrupt):
            train(spec_of(name="parts", **settings), progress)
        notes += progress.notes
    last = stop_after(1000)
    parts = train(spec_of(name="parts", **settings), last)
    assert any("going on from iteration" in note for note in notes + last.notes)
    assert left_by(tmp_path / "models/parts") == left_by(tmp_path / "models/whole")
    different = {"model", "seconds", "provenance"}
    assert parts.model_dump(exclude=different) == whole.model_dump(exclude=different)
    assert parts.model.weights_sha256 == whole.model.weights_sha256


def test_an_interrupted_lenet_ends_with_the_same_bytes(spec_of, stop_after, left_by, tmp_path):
    settings = {"net": "lenet", "method": "bang", "iterations": 6, "stages": 2, "batch_size": 8}
    train(spec_of(name="whole", **settings))
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(name="parts", **settings), stop_after(5))
    train(spec_of(name="parts", **settings))
    assert left_by(tmp_path / "models/parts") == left_by(tmp_path / "models/whole")


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        (loop, "save_state", 2),  # before the second stage's weights
        (loop, "write_text", 2),  # after them, before the log
        (loop, "save_snapshot", 2),  # after the log, before the snapshot
        (loop, "save_snapshot", 4),  # the last one
        (run, "save_state", 1),  # before the final weights
        (run, "write_record", 2),  # after them, before the card says done
    ],
)
def test_interrupted_between_two_files_it_ends_with_the_same_bytes(
    spec_of, left_by, tmp_path, monkeypatch, module, function, call
):
    train(spec_of(name="whole"))
    original, calls = getattr(module, function), []

    def interrupted(*arguments):
        calls.append(function)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(spec_of(name="parts"))
    assert read_record(tmp_path / "models/parts/model.json", ModelCard).status == "started"
    train(spec_of(name="parts"))
    assert left_by(tmp_path / "models/parts") == left_by(tmp_path / "models/whole")


def test_a_run_begun_with_other_settings_is_protected(spec_of, stop_after):
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(), stop_after(6))
    with pytest.raises(BenchError, match="seed: 0 -> 1"):
        train(spec_of(seed=1))


def test_a_snapshot_of_other_settings_is_not_gone_on_with(spec_of, stop_after, left_by, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(), stop_after(6))
    progress = stop_after(1000)
    train(spec_of(seed=1, overwrite=True), progress)
    train(spec_of(name="fresh", seed=1))
    assert not [text for text in progress.notes if "going on" in text]
    assert left_by(tmp_path / "models/T") == left_by(tmp_path / "models/fresh")


def test_going_back_to_the_first_settings_keeps_all_stages(spec_of, stop_after, left_by, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(), stop_after(6))
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(seed=1, overwrite=True), stop_after(2))
    train(spec_of(overwrite=True))
    train(spec_of(name="fresh"))
    assert left_by(tmp_path / "models/T") == left_by(tmp_path / "models/fresh")


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_a_damaged_snapshot_is_refused(spec_of, stop_after, tmp_path, damage):
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(), stop_after(6))
    path = tmp_path / "models/T/resume.safetensors"
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:-100], "empty": b"", "garbage": b"\xff" * 5000}[damage])
    with pytest.raises(BenchError, match=r"resume\.safetensors: not a whole snapshot .*; delete it to start again"):
        train(spec_of())
    path.unlink()
    assert train(spec_of()).status == "done"

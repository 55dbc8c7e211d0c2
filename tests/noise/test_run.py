"""The noise evolution of a pair of small models on the digits: record, table, going on, protection."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.core.errors import BenchError, UsageError
from bangbench.data.dataset import Dataset, make_dataset
from bangbench.nets.predict import predict
from bangbench.noise import plan, rounds
from bangbench.noise.run import evolve
from bangbench.noise.spec import NoiseSpec
from bangbench.store.records import NoiseRecord, read_record
from bangbench.store.tables import read_table
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

STAGES = (500, 1000)
PAIR = Path("results/demo/R0-vs-B1")


def spec_of(root: Path, **settings) -> NoiseSpec:
    small = {"sigma": (60.0, 240.0), "draws": 6, "per_class": 3}
    return NoiseSpec(**{"models": ("demo/R0", "demo/B1"), "root": root, "device": "cpu", **small, **settings})


@pytest.fixture
def finished(models, tmp_path) -> NoiseRecord:
    return evolve(spec_of(tmp_path))


def test_the_table_has_one_row_per_model_stage_sigma_and_image(finished, digits, tmp_path):
    table = read_table(tmp_path / PAIR / "noise.parquet").to_pandas()
    assert list(table.columns) == ["model", "stage", "sigma", "index", "label", "draws", "flipped"]
    assert len(table) == 2 * 2 * 2 * 30
    assert not table.duplicated(["model", "stage", "sigma", "index"]).any()
    assert sorted(table["model"].unique()) == ["demo/B1", "demo/R0"]
    assert (table["label"] == digits.labels[table["index"]]).all()
    assert (table["draws"] == 6).all()
    assert table["flipped"].between(0, 6).all()


def test_the_summary_is_the_percentage_of_the_table(finished, tmp_path):
    table = read_table(tmp_path / PAIR / "noise.parquet").to_pandas()
    summary = finished.summary
    assert summary is not None
    percent = 100 * table.groupby(["model", "stage", "sigma"], observed=True)["flipped"].mean() / 6
    for model, surface in zip(("demo/R0", "demo/B1"), summary.flipped_percent, strict=True):
        for stage, row in zip(STAGES, surface, strict=True):
            for sigma, value in zip((60.0, 240.0), row, strict=True):
                assert value == pytest.approx(percent[model, stage, sigma])
    assert summary.stages == STAGES
    assert summary.images == 30
    assert summary.images_per_class == (3,) * 10
    assert summary.forwards == 2 * 2 * 2 * 30 * 6
    assert summary.flipped_percent[0][0][1] > summary.flipped_percent[1][0][1] > 0


def test_only_images_that_both_models_get_right_at_all_stages_take_part(finished, models, digits, tmp_path):
    pixels = torch.from_numpy(digits.images)
    right = np.ones(len(digits.labels), dtype=bool)
    for model in models.values():
        for classifier in model.classifiers.values():
            right &= predict(classifier, pixels).numpy() == digits.labels
    assert 0 < right.sum() < len(right)
    expected = [np.flatnonzero(right & (digits.labels == label))[:3] for label in range(10)]
    table = read_table(tmp_path / PAIR / "noise.parquet")
    assert sorted(set(table["index"].to_pylist())) == sorted(np.concatenate(expected).tolist())


def test_more_models_than_two_lie_beside_each_other_and_the_common_images_get_the_same_counts(
    models, digits, tmp_path, stub
):
    models["other/C2"] = stub("other/C2", digits, 0.05)
    record = evolve(spec_of(tmp_path, models=("demo/R0", "demo/B1", "other/C2")))
    table = read_table(tmp_path / "results/demo/R0-vs-B1-vs-other-C2/noise.parquet").to_pandas()
    assert list(table["model"].unique()) == ["demo/R0", "demo/B1", "other/C2"]
    assert record.summary.forwards == 3 * 2 * 2 * 30 * 6
    evolve(spec_of(tmp_path))
    pair = read_table(tmp_path / PAIR / "noise.parquet").to_pandas()
    keys = ["model", "stage", "sigma", "index"]
    both = pair.merge(table.astype({"model": str}), on=keys, suffixes=("", "_of_three"))
    assert len(both) > 100
    assert (both["flipped"] == both["flipped_of_three"]).all()


def test_the_record_says_what_was_asked_for_with_defaults_filled_in(models, tmp_path):
    record = evolve(spec_of(tmp_path, sigma=None, draws=1, per_class=1, batch_size=9))
    assert record == read_record(tmp_path / PAIR / "noise.json", NoiseRecord)
    assert record.status == "done"
    assert record.spec["sigma"] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert record.spec["data"] == "digits"
    assert "batch_size" not in record.spec
    assert [info.name for info in record.models] == ["demo/R0", "demo/B1"]
    assert (record.data.name, record.data.source, record.data.images) == ("digits", "digits", 500)


def test_the_batch_size_does_not_change_a_byte_of_the_table(models, tmp_path):
    contents = []
    for batch_size in (1, 64, 1000):
        evolve(spec_of(tmp_path / str(batch_size), batch_size=batch_size))
        contents.append((tmp_path / str(batch_size) / PAIR / "noise.parquet").read_bytes())
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize("chunks_done", [0, 1, 2])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(models, tmp_path, chunks_done, recorder):
    evolve(spec_of(tmp_path / "whole"))
    per_chunk = 10 * 6 * 2 * 4
    spec = spec_of(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        evolve(spec, recorder(limit=chunks_done * per_chunk + 1))
    folder = spec.root / PAIR
    assert read_record(folder / "noise.json", NoiseRecord).status == "started"
    assert not (folder / "noise.parquet").exists()
    assert len(list((folder / ".chunks-noise").glob("*.npz"))) == chunks_done
    progress = recorder()
    record = evolve(spec, progress)
    assert progress.stretches["img"] == (3 * per_chunk, chunks_done * per_chunk)
    assert progress.forwards == (3 - chunks_done) * per_chunk
    assert progress.notes == ([f"going on: {10 * chunks_done} of 30 images are done"] if chunks_done else [])
    assert (folder / "noise.parquet").read_bytes() == (tmp_path / "whole" / PAIR / "noise.parquet").read_bytes()
    assert record.status == "done"
    assert sorted(path.name for path in folder.iterdir()) == ["noise.json", "noise.parquet"]


def test_chunks_of_other_settings_are_not_gone_on_with(models, tmp_path, recorder):
    evolve(spec_of(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        evolve(spec_of(tmp_path, seed=1), recorder(limit=10 * 6 * 2 * 4 + 1))
    evolve(spec_of(tmp_path, overwrite=True))
    assert (tmp_path / PAIR / "noise.parquet").read_bytes() == (
        tmp_path / "whole" / PAIR / "noise.parquet"
    ).read_bytes()


def test_a_finished_measurement_is_returned_without_computing(finished, models, tmp_path, recorder):
    progress = recorder(limit=-1)
    assert evolve(spec_of(tmp_path, batch_size=3), progress) == finished
    assert progress.stretches == {}


def test_a_lost_table_is_made_again(finished, tmp_path):
    table = tmp_path / PAIR / "noise.parquet"
    content = table.read_bytes()
    table.unlink()
    evolve(spec_of(tmp_path))
    assert table.read_bytes() == content


def test_results_of_other_settings_are_protected(finished, tmp_path):
    before = (tmp_path / PAIR / "noise.parquet").read_bytes()
    with pytest.raises(BenchError, match=r"made with other settings \(draws: 6 -> 7\); .* pass --overwrite"):
        evolve(spec_of(tmp_path, draws=7))
    assert (tmp_path / PAIR / "noise.parquet").read_bytes() == before
    assert evolve(spec_of(tmp_path, draws=7, overwrite=True)).spec["draws"] == 7
    assert (tmp_path / PAIR / "noise.parquet").read_bytes() != before


def test_other_weights_are_another_measurement(finished, models, digits, tmp_path, stub):
    models["demo/B1"] = stub("demo/B1", digits, 0.03)
    with pytest.raises(BenchError, match="the data or the weights are not the same"):
        evolve(spec_of(tmp_path))


def test_clipping_changes_the_counts(models, tmp_path):
    evolve(spec_of(tmp_path / "clip", sigma=(150.0,)))
    evolve(spec_of(tmp_path / "free", sigma=(150.0,), clip=False))
    clipped, free = (read_table(tmp_path / name / PAIR / "noise.parquet") for name in ("clip", "free"))
    assert clipped["index"].equals(free["index"])
    assert not clipped["flipped"].equals(free["flipped"])


def test_a_class_with_too_few_images_is_noted(models, tmp_path, recorder):
    progress = recorder()
    record = evolve(spec_of(tmp_path, per_class=50, draws=1), progress)
    counts = record.summary.images_per_class
    assert min(counts) < 50
    scarce = next(index for index, count in enumerate(counts) if count < 50)
    assert progress.notes[0].startswith("fewer than 50 images correct at all stages of demo/R0 and demo/B1; class ")
    assert f"{scarce}: {counts[scarce]}" in progress.notes[0]
    assert record.summary.images == sum(counts)


def test_models_without_stages_are_measured_at_their_last_iteration(models, digits, tmp_path, stub):
    for name in ("demo/R0", "demo/B1"):
        models[name] = stub(name, digits, 0.02, stages=())
    assert evolve(spec_of(tmp_path)).summary.stages == (1000,)


def test_different_stages_are_refused_and_named(models, digits, tmp_path, stub):
    models["demo/B1"] = stub("demo/B1", digits, 0.02, stages=(500, 750, 1500))
    message = r"demo/R0 has no stage 750, 1500 and demo/B1 has no stage 1000; train them alike"
    with pytest.raises(BenchError, match=message):
        evolve(spec_of(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_models_of_other_images_than_the_data_are_refused(models, tmp_path):
    info = models["demo/B1"].info.model_copy(update={"input_shape": (3, 32, 32), "classes": 7})
    models["demo/B1"] = models["demo/B1"]._replace(info=info)
    message = r"digits have shape \(1, 28, 28\) and 10 classes, but demo/B1 takes images of shape \(3, 32, 32\) in 7"
    with pytest.raises(BenchError, match=message):
        evolve(spec_of(tmp_path))


def test_a_pair_trained_on_different_data_needs_to_be_told_which_images(models, tmp_path):
    models["demo/B1"] = models["demo/B1"]._replace(data="mnist")
    with pytest.raises(UsageError, match=r"demo/R0 was trained on digits, demo/B1 was trained on mnist: .* add --data"):
        evolve(spec_of(tmp_path))
    assert evolve(spec_of(tmp_path, data="digits")).data.name == "digits"


def test_a_pair_of_unknown_data_needs_to_be_told_which_images(models, tmp_path):
    for name, model in models.items():
        models[name] = model._replace(data=None)
    with pytest.raises(UsageError, match="no model says what images it was trained on: add --data"):
        evolve(spec_of(tmp_path))


def test_a_pair_that_gets_everything_wrong_is_refused(models, digits, tmp_path, monkeypatch):
    wrong = make_dataset(digits.images, (digits.labels + 1) % 10, digits.class_names, "wrong labels")

    class WrongSource:
        name = "wrong"

        def load(self, split: str) -> Dataset:
            return wrong if split == "test" else digits

    monkeypatch.setattr(plan, "open_source", lambda *_: WrongSource())
    for model in models.values():
        for classifier in model.classifiers.values():
            nn.init.zeros_(classifier.net[1].weight)
            nn.init.zeros_(classifier.net[1].bias)
            classifier.net[1].bias.data[9 if model.name == "demo/R0" else 8] = 1.0
    with pytest.raises(BenchError, match=r"no test image is classified correctly at all stages .*; train them longer"):
        evolve(spec_of(tmp_path))


def test_the_json_on_disk_is_plain(finished, tmp_path):
    value = json.loads((tmp_path / PAIR / "noise.json").read_text())
    assert value["kind"] == "noise"
    assert len(value["summary"]["flipped_percent"][1]) == len(STAGES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A pair of LeNets that other processes can open."""
    root = tmp_path_factory.mktemp("trained")
    for name, method in (("pair/R0", "regular"), ("pair/B1", "bang")):
        train(TrainSpec(root=root, name=name, net="lenet", data="digits", method=method, iterations=60, stages=30))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("precision", [None, 20.0])
def test_two_processes_count_what_one_does(trained, tmp_path, monkeypatch, precision):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    small = {"models": ("pair/R0", "pair/B1"), "root": tmp_path, "sigma": (100.0,), "draws": 3, "per_class": 2}
    small["precision"] = precision  # two rounds, of two draws and of one
    monkeypatch.setattr(rounds, "_CHUNK_COPIES", 1)
    alone = evolve(NoiseSpec(**small, workers=1))
    table = (tmp_path / "results/pair/R0-vs-B1/noise.parquet").read_bytes()
    shutil.rmtree(tmp_path / "results")
    monkeypatch.setattr(rounds, "_IN_PROCESS_FORWARDS", 0)
    counted_here = []
    monkeypatch.setattr(rounds, "count_flips", lambda *given: counted_here.append(given))
    together = evolve(NoiseSpec(**small, workers=2))
    assert not counted_here
    assert together.summary.flipped_percent == alone.summary.flipped_percent
    assert (tmp_path / "results/pair/R0-vs-B1/noise.parquet").read_bytes() == table


def test_a_record_without_a_precision_has_no_word_of_it(finished, tmp_path):
    value = json.loads((tmp_path / PAIR / "noise.json").read_text())
    assert not {"precision", "arithmetic"} & set(value["spec"])
    assert set(value["summary"]) == {
        "stages", "sigmas", "draws", "images", "images_per_class", "flipped_percent", "forwards", "seconds",
    }  # fmt: skip

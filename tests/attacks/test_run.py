"""`attack` from end to end on the digits: rows, images, summary, and each of them recomputed."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pyarrow as pa
import pytest
import torch

from bangbench.attacks import run
from bangbench.attacks.run import attack
from bangbench.attacks.spec import STANDARD_ATTACKS, AttackSpec
from bangbench.core.errors import BenchError, UsageError
from bangbench.metrics.pass_score import pass_scores_all
from bangbench.nets.models import open_model
from bangbench.nets.predict import logits_of, predict
from bangbench.store.records import AttackRecord, read_record
from bangbench.store.tables import read_table

IMAGES = 22
TYPES = {
    "index": pa.int32(),
    "label": pa.int16(),
    "prediction": pa.int16(),
    "attacked": pa.bool_(),
    "blank": pa.bool_(),
    "flipped": pa.bool_(),
    "adversarial_prediction": pa.int16(),
    "scale": pa.float32(),
    "linf": pa.float32(),
    "l2": pa.float32(),
    "pass": pa.float64(),
    "pass_paper": pa.float64(),
    "ssim": pa.float64(),
    "ecc_status": pa.int8(),
    "ecc_status_paper": pa.int8(),
    "gradient_max": pa.float32(),
    "margin": pa.float32(),
    "true_logit": pa.float32(),
}
NULL_UNLESS_FLIPPED = (
    *("adversarial_prediction", "scale", "linf", "l2", "pass", "pass_paper", "ssim", "ecc_status", "ecc_status_paper"),
)


@pytest.fixture(scope="module")
def finished(trained, tmp_path_factory):
    """All attacks on the first digits, in chunks of 10; return the root and the records by attack."""
    root = tmp_path_factory.mktemp("finished")
    spec = AttackSpec(
        model=str(trained.root / "models/tiny"), root=root, limit=IMAGES, save_images=True, device="cpu", workers=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CHUNK", 10)
        records = attack(spec)
    return root, {record.attack: record for record in records}


@pytest.fixture(params=STANDARD_ATTACKS)
def result(request, finished):
    """The record, the rows and the adversarial images of one attack."""
    root, records = finished
    folder = root / "results/tiny"
    with np.load(folder / f"{request.param}.npz", allow_pickle=False) as archive:
        images = {name: archive[name] for name in archive.files}
    return records[request.param], read_table(folder / f"{request.param}.parquet"), images


def column(table, name):
    return np.array(table[name].to_pylist(), dtype=object)


def test_the_table_has_one_row_per_image_in_order_with_the_documented_types(result, digits):
    _, table, _ = result
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == TYPES
    assert column(table, "index").tolist() == list(range(IMAGES))
    assert column(table, "label").tolist() == digits.labels[:IMAGES].tolist()


def test_nulls_stand_exactly_where_an_image_was_not_flipped_or_not_attacked(result):
    _, table, _ = result
    flipped, attacked = column(table, "flipped").astype(bool), column(table, "attacked").astype(bool)
    assert flipped.any()
    for name in TYPES:
        missing = table[name].is_null().to_numpy()
        expected = ~flipped if name in NULL_UNLESS_FLIPPED else ~attacked if name == "gradient_max" else False
        assert (missing == expected).all(), name
    assert not (flipped & ~attacked).any()
    assert not (flipped & column(table, "blank").astype(bool)).any()


def test_some_images_are_misclassified_and_not_attacked(finished):
    _, records = finished
    assert all(0 < record.summary.correct < IMAGES for record in records.values())


def test_clean_columns_are_those_of_the_model(result, trained, digits):
    _, table, _ = result
    classifier = open_model("tiny", trained.root, torch.device("cpu")).classifier
    logits = logits_of(classifier, torch.from_numpy(digits.images[:IMAGES])).numpy()
    labels = digits.labels[:IMAGES]
    own = logits[np.arange(IMAGES), labels]
    others = np.where(np.eye(10, dtype=bool)[labels], -np.inf, logits).max(1)
    assert column(table, "prediction").tolist() == logits.argmax(1).tolist()
    assert column(table, "attacked").tolist() == (logits.argmax(1) == labels).tolist()
    assert column(table, "true_logit").astype(float) == pytest.approx(own, abs=1e-4)
    assert column(table, "margin").astype(float) == pytest.approx(own - others, abs=1e-4)


def test_every_stored_image_is_flipped_when_it_is_predicted_again(result, trained):
    _, table, images = result
    flipped = column(table, "flipped").astype(bool)
    assert images["adversarial"].dtype == np.uint8
    assert images["index"].tolist() == column(table, "index")[flipped].tolist()
    classifier = open_model("tiny", trained.root, torch.device("cpu")).classifier
    again = predict(classifier, torch.from_numpy(images["adversarial"])).numpy()
    assert again.tolist() == column(table, "adversarial_prediction")[flipped].tolist()
    assert (again != column(table, "label")[flipped]).all()


def test_distances_are_those_of_the_stored_images(result, digits):
    _, table, images = result
    flipped = column(table, "flipped").astype(bool)
    change = images["adversarial"].astype(np.float64) - digits.images[images["index"]]
    assert column(table, "linf")[flipped].tolist() == np.abs(change).max(axis=(1, 2, 3)).tolist()
    l2 = np.sqrt((change**2).sum(axis=(1, 2, 3)))
    assert column(table, "l2")[flipped].astype(float) == pytest.approx(l2, rel=1e-6)


def test_pass_is_that_of_the_stored_images(result, digits):
    _, table, images = result
    flipped = column(table, "flipped").astype(bool)
    scores = pass_scores_all(images["adversarial"], digits.images[images["index"]], workers=1)
    assert column(table, "pass")[flipped].tolist() == scores["definition"].score.tolist()
    assert column(table, "pass_paper")[flipped].tolist() == scores["paper"].score.tolist()
    assert column(table, "ssim")[flipped].tolist() == scores["definition"].unaligned.tolist()
    assert column(table, "ecc_status")[flipped].tolist() == scores["definition"].status.tolist()
    assert column(table, "ecc_status_paper")[flipped].tolist() == scores["paper"].status.tolist()


def test_the_summary_is_that_of_the_rows(result):
    record, table, _ = result
    summary = record.summary
    flipped, attacked = column(table, "flipped").astype(bool), column(table, "attacked").astype(bool)
    correct = int(attacked.sum())
    linf = column(table, "linf")[flipped].astype(float)
    assert (summary.images, summary.correct, summary.flipped) == (IMAGES, correct, int(flipped.sum()))
    assert summary.accuracy == pytest.approx(100 * correct / IMAGES)
    assert summary.rate == pytest.approx(100 * flipped.sum() / correct)
    assert summary.blank == pytest.approx(100 * column(table, "blank").sum() / correct)
    assert summary.rate_interval[0] <= summary.rate <= summary.rate_interval[1]
    assert summary.linf.mean == pytest.approx(linf.mean())
    assert summary.linf.std == pytest.approx(np.sqrt(((linf - linf.mean()) ** 2).mean()))
    median = statistics.median([*linf, *[math.inf] * (correct - len(linf))])
    assert summary.linf.median_censored == (median if math.isfinite(median) else None)
    moments = {"l2": summary.l2, "pass": summary.pass_definition, "pass_paper": summary.pass_paper}
    for name, found in {**moments, "ssim": summary.unaligned}.items():
        values = column(table, name)[flipped].astype(float)
        assert (found.mean, found.std) == pytest.approx((values.mean(), values.std()), rel=1e-5)
    assert summary.unverified == 0
    # the clean prediction of all, gradient and verification of the attacked, and at least one step of each search
    searched = correct - int(column(table, "blank").sum())
    assert summary.forwards >= IMAGES + 2 * correct + searched


def test_the_record_on_disk_is_the_one_returned_and_plain_json(result, finished, digits):
    record, _, _ = result
    path = finished[0] / "results/tiny" / f"{record.attack}.json"
    assert read_record(path, AttackRecord) == record
    value = json.loads(path.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert (value["status"], value["kind"], value["attack"]) == ("done", "attack", record.attack)
    assert value["spec"]["limit"] == IMAGES
    assert value["data"]["images"] == IMAGES
    assert value["data"]["fingerprint"] == digits.first(IMAGES).fingerprint
    assert value["model"]["name"] == "tiny"
    assert set(value["summary"]["pass"]) == {"mean", "std"}


def test_nothing_is_left_beside_the_results(finished):
    root, _ = finished
    endings = (".json", ".npz", ".parquet", "-examples.npz")
    expected = {f"{name}{ending}" for name in STANDARD_ATTACKS for ending in endings}
    assert {path.name for path in (root / "results/tiny").iterdir()} == expected


def test_the_scale_of_fgs_is_whole_and_its_linf_never_larger(finished):
    table = read_table(finished[0] / "results/tiny/fgs.parquet")
    flipped = column(table, "flipped").astype(bool)
    scale, linf = (column(table, name)[flipped].astype(float) for name in ("scale", "linf"))
    assert (scale == np.round(scale)).all()
    assert (linf <= scale).all()


def test_unmasked_flips_all_that_fgs_flips_at_about_the_same_step(finished):
    plain, unmasked = (read_table(finished[0] / f"results/tiny/{name}.parquet") for name in STANDARD_ATTACKS[:2])
    both = column(plain, "flipped").astype(bool)
    assert column(unmasked, "flipped")[both].all()
    difference = column(plain, "scale")[both].astype(float) - column(unmasked, "scale")[both].astype(float)
    assert np.abs(difference).max() <= 1


def write_npz(path, images, labels):
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return f"npz:{path}"


def spec_of(trained, root, **settings):
    small = {"attack": ("fgs-unmasked",), "limit": 4, "device": "cpu", "workers": 1}
    return AttackSpec(**{"model": str(trained.root / "models/tiny"), "root": root, **small, **settings})


def test_images_of_another_size_are_refused_before_anything_is_written(trained, tmp_path):
    data = write_npz(tmp_path / "small.npz", np.zeros((10, 12, 12), dtype=np.uint8), np.arange(10))
    with pytest.raises(BenchError) as caught:
        attack(spec_of(trained, tmp_path, data=data))
    assert str(caught.value) == (
        "model 'tiny' takes images (1, 28, 28), small has (1, 12, 12); choose the data it was trained on with --data"
    )
    assert not (tmp_path / "results").exists()


def test_another_number_of_classes_is_refused(trained, tmp_path):
    data = write_npz(tmp_path / "few.npz", np.zeros((3, 28, 28), dtype=np.uint8), np.arange(3))
    with pytest.raises(BenchError, match="model 'tiny' has 10 classes, few has 3"):
        attack(spec_of(trained, tmp_path, data=data))


def test_an_unknown_attack_is_refused_with_the_likely_name(trained, tmp_path):
    with pytest.raises(UsageError, match="unknown attack 'fsg': did you mean 'fgs'"):
        attack(spec_of(trained, tmp_path, attack=("hc1", "fsg")))
    assert not (tmp_path / "results").exists()


def test_own_net_settings_are_refused_for_a_trained_model(trained, tmp_path):
    message = "--weights, --input-scale, --mean and --std go with a module:factory model only"
    with pytest.raises(UsageError, match=message):
        attack(spec_of(trained, tmp_path, input_scale=1.0))
    with pytest.raises(UsageError, match=message):
        attack(spec_of(trained, tmp_path, weights=tmp_path / "weights.pt"))


def test_a_model_that_gets_every_image_wrong_has_a_valid_record_without_rates(trained, digits, tmp_path):
    wrong = (digits.labels[:20] + 5) % 10
    wrong[-1] = 9  # all ten classes, beyond the limit
    data = write_npz(tmp_path / "wrong.npz", digits.images[:20, 0], wrong)
    classifier = open_model("tiny", trained.root, torch.device("cpu")).classifier
    lucky = predict(classifier, torch.from_numpy(digits.images[:20])).numpy() == wrong
    assert not lucky[:4].any()
    for record in attack(spec_of(trained, tmp_path, data=data, attack=STANDARD_ATTACKS)):
        assert (record.status, record.summary.correct, record.summary.rate) == ("done", 0, None)
        folder = tmp_path / "results/tiny"
        value = json.loads((folder / f"{record.attack}.json").read_text(), parse_constant=pytest.fail)
        assert value["summary"]["linf"] == {"mean": None, "std": None, "median_censored": None}
        table = read_table(folder / f"{record.attack}.parquet")
        assert table["scale"].null_count == table["gradient_max"].null_count == len(table) == 4


def test_a_limit_beyond_the_data_means_all_of_it(trained, digits, tmp_path):
    data = write_npz(tmp_path / "ten.npz", digits.images[:10, 0], np.arange(10))
    (record,) = attack(spec_of(trained, tmp_path, data=data, limit=1000))
    assert record.summary.images == 10

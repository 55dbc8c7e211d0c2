"""Attacks inside a ball from a spec to rows on disk: budgets, seed, the model that is copied from, and resuming."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bangbench.attacks import run
from bangbench.attacks.pgd import PgdSettings
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.spec import fingerprint_of
from bangbench.nets.catalogue import net_definition
from bangbench.store.files import sha256_of
from bangbench.store.records import AttackRecord, read_record
from bangbench.store.tables import read_table

REPOSITORY = Path(__file__).parents[2]
FOLDER = "results/near"
BUDGET = ("12/255", "0.7")
LEVELS = [12, 178]
LIMIT = 30

#: Linear nets that tell the digits by the mean images of each class.
NETS = """
from pathlib import Path

import torch
from torch import nn

from bangbench.data.digits import Digits


class Means(nn.Module):
    def __init__(self, count, sign=1.0):
        super().__init__()
        data = Digits(Path()).load("train").first(count)
        images, labels = torch.from_numpy(data.images).flatten(1) / 255.0, torch.from_numpy(data.labels)
        means = torch.stack([images[labels == label].mean(0) for label in range(10)])
        self.weight, self.bias = nn.Parameter(means), nn.Parameter(-means.square().sum(1) / 2.0)
        self.sign = sign

    def forward(self, images):
        return self.sign * (images.flatten(1) @ self.weight.T + self.bias)


def near():
    return Means(200)


def far():
    return Means(60)


def turned():
    return Means(200, sign=-1.0)
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """The file of the nets."""
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETS)
    return path


@pytest.fixture
def spec_of(nets):
    def make(root, *attacks, against=None, **settings):
        fixed = {"model": f"{nets}:near", "data": "digits", "limit": LIMIT, "budget": BUDGET, "workers": 1}
        fixed |= {"random_weights": True}
        fixed["random_weights"] = True
        source = f"{nets}:{against}" if against else None
        return AttackSpec(**{**fixed, "root": root, "attack": attacks, "against": source, "device": "cpu", **settings})

    return make


def rows_of(root, name):
    """The rows of an attack on `near`, as a dictionary of arrays."""
    return read_table(root / FOLDER / f"{name}.parquet").to_pandas()


ALL = ("pgd", "apgd", "square", "transfer", "uniform-noise", "gaussian-noise")
INSIDE = (*ALL, "apgd-ce", "apgd-t")


@pytest.fixture(scope="module")
def finished(nets, tmp_path_factory):
    """All attacks in one command, the seed 5; return the root and the records by attack."""
    root = tmp_path_factory.mktemp("finished")
    model, source = f"{nets}:near", f"{nets}:far"
    spec = {"root": root, "attack": (*ALL, "fgs-unmasked"), "budget": BUDGET, "seed": 5, "save_images": True}
    spec |= {"random_weights": True}
    spec["random_weights"] = True
    records = attack(
        AttackSpec(model=model, against=source, data="digits", limit=LIMIT, workers=1, device="cpu", **spec)
    )
    return root, {record.attack: record for record in records}


@pytest.mark.parametrize("name", ALL)
def test_the_record_holds_budgets_in_grey_levels_and_the_seed(finished, name):
    root, records = finished
    record = records[name]
    assert (record.spec["budget"], record.spec["seed"], record.status) == (LEVELS, 5, "done")
    assert ("against" in record.spec) == (name == "transfer")
    assert read_record(root / FOLDER / f"{name}.json", AttackRecord) == record


def test_the_record_of_transfer_names_the_model_its_weights_its_code_and_its_behaviour(finished, nets):
    _, records = finished
    spec = records["transfer"].spec
    assert spec["against"] == "far"
    assert set(spec["against_identity"]) == {"weights", "code", "behaviour"}
    assert all(len(value) == 64 for value in spec["against_identity"].values())
    assert spec["against_identity"]["weights"] != records["transfer"].model.weights_sha256
    assert spec["against_identity"]["behaviour"] != records["transfer"].model.behaviour
    assert (spec["against_net"], spec["against_net_code"]) == (f"{nets}:far", sha256_of(nets))


def test_the_record_of_an_attack_along_a_line_holds_nothing_of_a_ball(finished):
    _, records = finished
    assert not {"budget", "against", "against_identity"} & set(records["fgs-unmasked"].spec)


@pytest.mark.parametrize("name", ALL)
def test_the_scale_of_a_row_is_a_budget_that_holds_the_change(finished, name):
    root, records = finished
    rows = rows_of(root, name)
    flipped = rows["flipped"].to_numpy()
    assert flipped.any()
    assert set(rows["scale"][flipped]) <= set(map(float, LEVELS))
    assert (rows["linf"][flipped] <= rows["scale"][flipped]).all()
    assert rows["scale"][~flipped].isna().all()
    assert rows["gradient_max"].isna().all()
    assert not rows["blank"].any()
    summary = records[name].summary
    assert (summary.flipped, summary.blank, summary.unverified) == (flipped.sum(), 0.0, 0)


@pytest.mark.parametrize("name", ALL)
def test_stored_images_are_those_of_the_rows(finished, digits, name):
    root, _ = finished
    rows = rows_of(root, name)
    with np.load(root / FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        index, adversarial = archive["index"], archive["adversarial"]
        assert np.array_equal(archive["original"], digits.images[index])
        assert archive["label"].tolist() == digits.labels[index].tolist()
        assert archive["prediction"].tolist() == rows["adversarial_prediction"][index].tolist()
    assert index.tolist() == rows["index"][rows["flipped"]].tolist()
    change = np.abs(adversarial.astype(int) - digits.images[index]).max((1, 2, 3))
    assert change.tolist() == rows["linf"][index].tolist()


@pytest.mark.parametrize("name", ["pgd", "transfer", "uniform-noise"])
def test_the_scale_is_the_smallest_budget_that_works(finished, spec_of, tmp_path, name):
    attack(spec_of(tmp_path, name, against="far" if name == "transfer" else None, seed=5, budget=BUDGET[:1]))
    alone, together = rows_of(tmp_path, name), rows_of(finished[0], name)
    assert alone["flipped"].tolist() == (together["scale"] == LEVELS[0]).tolist()
    first = alone["flipped"].to_numpy()
    assert alone[first].equals(together[first])
    assert (together["scale"] == LEVELS[1]).any()


def test_the_seed_decides_what_is_drawn(finished, spec_of, tmp_path):
    for seed in (5, 4):
        attack(spec_of(tmp_path / str(seed), "uniform-noise", seed=seed, save_images=True))
    same, other, reference = (
        (root / FOLDER / "uniform-noise.npz").read_bytes() for root in (tmp_path / "5", tmp_path / "4", finished[0])
    )
    assert same == reference
    assert other != reference


def test_usual_budgets_are_those_of_grey_images(spec_of, tmp_path):
    (record,) = attack(spec_of(tmp_path, "gaussian-noise", budget=None, limit=2))
    assert (record.spec["budget"], record.spec["seed"]) == ([25, 51, 76], 0)


OTHERS = {
    "another budget": ("pgd", {"budget": ("0.2",)}, "budget: [12, 178] -> [51]"),
    "another seed": ("pgd", {"seed": 7}, "seed: 0 -> 7"),
    "another source": ("transfer", {"against": "near"}, "against: far -> near, against_identity.weights: "),
}


@pytest.mark.parametrize(("name", "change", "message"), OTHERS.values(), ids=OTHERS)
def test_results_with_another_setting_are_protected_unless_told_otherwise(spec_of, tmp_path, name, change, message):
    settings = {"limit": 4, "against": "far" if name == "transfer" else None}
    attack(spec_of(tmp_path, name, **settings))
    path = tmp_path / FOLDER / f"{name}.json"
    before = path.read_bytes()
    with pytest.raises(BenchError) as caught:
        attack(spec_of(tmp_path, name, **{**settings, **change}))
    assert str(caught.value).startswith(f"{path} was made with other settings ({message}")
    assert str(caught.value).endswith("); choose another name or root, or pass --overwrite")
    assert path.read_bytes() == before
    (record,) = attack(spec_of(tmp_path, name, **{**settings, **change}, overwrite=True))
    assert record.key != json.loads(before)["key"]


def test_budget_and_settings_of_others_are_nothing_to_an_attack_along_a_line(spec_of, tmp_path):
    both = ("fgs-unmasked", "uniform-noise")
    first, _ = attack(spec_of(tmp_path, *both, limit=4))
    change = {"budget": ("0.2",), "option": ("draws=3",), "overwrite": "differing"}
    again, noise = attack(spec_of(tmp_path, *both, limit=4, **change))
    assert again == first
    assert (noise.spec["budget"], noise.spec["attack_settings"]) == ([51], {"draws": 3})


@pytest.mark.parametrize("change", [{"batch_size": 3}, {"workers": 2}])
def test_how_fast_it_is_computed_makes_no_other_run(spec_of, tmp_path, change):
    first = attack(spec_of(tmp_path, "uniform-noise", limit=4))
    assert attack(spec_of(tmp_path, "uniform-noise", limit=4, **change)) == first


REFUSALS = {
    "a budget without a ball": (
        ("fgs", "hc1-unmasked"),
        {},
        f"--budget goes with attacks inside a ball only: {', '.join(sorted((*INSIDE, 'fgsm')))}",
    ),
    "a source without transfer": (
        ("pgd",),
        {"against": "far"},
        "--against goes with --attack transfer only",
    ),
    "transfer without a source": (
        ("pgd", "transfer"),
        {},
        "--attack transfer needs the model whose adversarial images it tries: add --against MODEL",
    ),
    "an unknown attack": (("pdg",), {}, "unknown attack 'pdg': did you mean 'pgd'?"),
}


@pytest.mark.parametrize(("attacks", "settings", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_wrong_combination_is_refused_before_anything_is_written(spec_of, tmp_path, attacks, settings, message):
    with pytest.raises(UsageError) as caught:
        attack(spec_of(tmp_path, *attacks, **settings))
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "results").exists()


def test_a_wrong_budget_is_refused_before_anything_is_written(spec_of, tmp_path):
    with pytest.raises(UsageError, match=r"expected a budget as a share of the grey-level range, .*found '30'"):
        attack(spec_of(tmp_path, "pgd", budget=("0.1", "30")))
    assert not (tmp_path / "results").exists()


def test_an_unknown_source_is_refused_before_anything_is_written(spec_of, tmp_path):
    with pytest.raises(UsageError, match="has no function or class 'nowhere'"):
        attack(spec_of(tmp_path, "transfer", against="nowhere"))
    assert not (tmp_path / "results").exists()


def test_a_source_that_takes_other_images_is_refused(spec_of, trained, tmp_path):
    spec = spec_of(tmp_path, "transfer").model_copy(update={"against": str(trained.root / "models/tiny")})
    small = np.zeros((10, 12, 12), np.uint8)
    np.savez(tmp_path / "s.npz", train_images=small, train_labels=range(10), test_images=small, test_labels=range(10))
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n\ndef flat():\n    return nn.Sequential(nn.Flatten(), nn.Linear(144, 10))\n"
    )
    update = {"model": f"{tmp_path}/flat.py:flat", "data": f"npz:{tmp_path}/s.npz", "random_weights": True}
    with pytest.raises(BenchError, match=r"model 'tiny' takes images \(1, 28, 28\), s has \(1, 12, 12\)"):
        attack(spec.model_copy(update=update))


@pytest.mark.parametrize("name", ["transfer", "uniform-noise"])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(spec_of, tools, tmp_path, monkeypatch, name):
    monkeypatch.setattr(run, "CHUNK", 10)
    whole, halved = (
        spec_of(tmp_path / place, name, against="far" if name == "transfer" else None, save_images=True)
        for place in ("whole", "halved")
    )
    (reference,) = attack(whole)
    with pytest.raises(KeyboardInterrupt):
        attack(halved, tools.recorder(10))
    progress = tools.recorder()
    (record,) = attack(halved, progress)
    assert progress.stretches == [(f"near {name}", LIMIT, 20)]
    for ending in (".parquet", ".npz", "-examples.npz"):
        file = f"{FOLDER}/{name}{ending}"
        assert (halved.root / file).read_bytes() == (whole.root / file).read_bytes()
    assert record.key == reference.key
    assert record.summary.forwards == reference.summary.forwards


def test_each_chunk_draws_numbers_of_its_own(nets, digits, spec_of, tmp_path, monkeypatch):
    images, labels = np.tile(digits.images[:10, 0], (2, 1, 1)), np.tile(digits.labels[:10], 2)
    np.savez(tmp_path / "twice.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    monkeypatch.setattr(run, "CHUNK", 10)
    data = f"npz:{tmp_path}/twice.npz"
    attack(spec_of(tmp_path, "pgd", data=data, budget=("0.2",), save_images=True))
    with np.load(tmp_path / FOLDER / "pgd.npz", allow_pickle=False) as archive:
        images_by_index = dict(zip(archive["index"].tolist(), archive["adversarial"], strict=True))
    both = [index for index in range(10) if {index, index + 10} <= set(images_by_index)]
    assert both
    assert all((images_by_index[index] != images_by_index[index + 10]).any() for index in both)


# --- keys -----------------------------------------------------------------------------------------------------------


def test_the_record_holds_everything_that_decides_a_result(nets, finished):
    _, records = finished
    common = {"data": "digits", "limit": LIMIT, "seed": 5, "save_images": True, "engine": run.ENGINE}
    common |= dict.fromkeys(("weights", "input_scale", "mean", "std"))
    common |= {"net": f"{nets}:near", "net_code": sha256_of(nets)}
    inside = {"budget": LEVELS}
    expected = {
        "fgs-unmasked": {"attack_settings": {}},
        "pgd": {"attack_settings": PgdSettings().model_dump()} | inside,
        "uniform-noise": {"attack_settings": {"draws": 20}} | inside,
    }
    for name, own in expected.items():
        version = ATTACKS.load(name).version
        assert records[name].spec == common | {"attack": name, "version": version} | own


def test_the_key_is_a_hash_of_the_settings_the_model_and_the_images(finished):
    _, records = finished
    for record in records.values():
        model = record.model
        identity = {"weights": model.weights_sha256, "code": model.code_sha256, "behaviour": model.behaviour}
        assert all(identity.values())
        assert record.key == fingerprint_of({**record.spec, **identity, "images": record.data.fingerprint})


@pytest.mark.data
@pytest.mark.parametrize("name", ["fgs", "hc1-unmasked"])
def test_committed_results_are_found_and_not_measured_again(tmp_path, monkeypatch, name):
    data, committed = os.environ.get("BANGBENCH_DATA"), REPOSITORY / "results/table1/R0"
    if not data or not committed.is_dir():
        pytest.skip("needs BANGBENCH_DATA and the committed results")
    shutil.copytree(REPOSITORY / "models/table1/R0", tmp_path / "models/table1/R0")
    (tmp_path / "results/table1/R0").mkdir(parents=True)
    for ending in (".json", ".parquet"):
        shutil.copy(committed / f"{name}{ending}", tmp_path / "results/table1/R0")
    if read_record(committed / f"{name}.json", AttackRecord).spec.get("engine") != run.ENGINE:
        pytest.skip("the committed results are those of another engine")
    monkeypatch.setattr(run, "attack_chunk", lambda *_: pytest.fail("an image is attacked again"))
    spec = AttackSpec(model="table1/R0", root=tmp_path, attack=(name,), workers=1, device="cpu", data_dir=Path(data))
    (record,) = attack(spec)
    assert record == read_record(committed / f"{name}.json", AttackRecord)


def test_the_same_weights_given_to_two_nets_are_two_runs(nets, spec_of, tmp_path):
    weights = tmp_path / "near.safetensors"
    save_file(net_definition(f"{nets}:near").build((1, 28, 28), 10, torch.Generator()).state_dict(), weights)
    near = spec_of(tmp_path, "fgs-unmasked", budget=None, weights=weights)
    turned = near.model_copy(update={"model": f"{nets}:turned"})
    (first,) = attack(near)
    assert first.summary.correct > 0
    with pytest.raises(
        BenchError, match=r"near/fgs-unmasked\.json was made with other settings \(net: .*:near -> .*:turned\)"
    ):
        attack(turned)
    (second,) = attack(turned.model_copy(update={"overwrite": True}))
    assert second.model.weights_sha256 == first.model.weights_sha256
    assert second.key != first.key
    assert second.summary.correct == 0

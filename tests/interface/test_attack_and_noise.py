"""Attacks and noise of Python beside those of the command line."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import bangbench as bb
from bangbench.attacks.apgd import Apgd
from bangbench.attacks.spec import AttackSpec
from bangbench.cli.main import app
from bangbench.core.errors import UsageError
from bangbench.interface import attack as attack_module
from bangbench.noise.spec import NoiseSpec
from bangbench.store.records import AttackRecord, NoiseRecord, read_record
from bangbench.store.tables import read_table

FACTORY = "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"


@pytest.fixture
def on_disk(steady, other, tmp_path):
    (tmp_path / "net.py").write_text(FACTORY)
    for name, net in (("one", steady), ("two", other)):
        save_file(net.state_dict(), tmp_path / f"{name}.safetensors")

    def run(*arguments):
        given = [str(argument).replace("NET", f"{tmp_path}/net.py:make@{tmp_path}/") for argument in arguments]
        common = ("--data", "digits", "--root", str(tmp_path), "--workers", "1", "--device", "cpu", "--quiet")
        result = CliRunner().invoke(app, [*given, *common])
        assert result.exit_code == 0, result.output
        return tmp_path / "results"

    return run


@pytest.mark.parametrize(
    ("name", "options", "settings"),
    [
        ("fgs", (), {}),
        ("pgd", ("--budget", "8/255", "--option", "steps=5"), {"budget": "8/255", "steps": 5}),
        ("gaussian-noise", ("--budget", "0.1", "--budget", "0.3", "--seed", 3), {"budget": (0.1, 0.3), "seed": 3}),
    ],
)
def test_the_command_line_attacks_alike(steady, digits, on_disk, name, options, settings):
    results = on_disk("attack", "NETone.safetensors", "--attack", name, "--limit", 60, *options)
    found = bb.attack(steady, digits.images, digits.labels, name, limit=60, progress=False, **settings)
    record = read_record(results / f"one/{name}.json", AttackRecord)
    assert (found.summary.flipped, found.summary.rate, found.summary.linf, found.summary.l2) == (
        *(record.summary.flipped, record.summary.rate, record.summary.linf, record.summary.l2),
    )
    assert found.success.tolist() == read_table(results / f"one/{name}.parquet")["flipped"].to_pylist()
    assert found.summary.forwards == record.summary.forwards


@pytest.mark.parametrize(("draws", "precision"), [(5, None), (40, 8.0)])
def test_noise_flips_the_same_copies_on_the_command_line(steady, other, digits, on_disk, draws, precision):
    options = ("--sigma", 60, "--sigma", 300, "--draws", draws, "--per-class", 2, "--seed", 4)
    options += () if precision is None else ("--precision", precision)
    results = on_disk("noise-eval", "NETone.safetensors", "NETtwo.safetensors", *options)
    settings = {"sigma": [60, 300], "draws": draws, "precision": precision, "per_class": 2, "seed": 4}
    found = bb.noise_eval({"one": steady, "two": other}, digits.images, digits.labels, progress=False, **settings)
    record = read_record(results / "one-vs-two/noise.json", NoiseRecord)
    assert found.summary.model_copy(update={"seconds": record.summary.seconds}) == record.summary
    table = read_table(results / "one-vs-two/noise.parquet").to_pandas()
    for name in ("model", "sigma", "index", "label", "draws", "flipped"):
        assert found.images[name].tolist() == table[name].tolist()
    rows = found.to_pandas()
    assert rows["flipped_percent"].tolist() == pytest.approx(np.ravel(record.summary.flipped_percent))
    if precision is not None:
        assert len({*rows["draws"]}) > 1
        assert (rows["high"] - rows["low"])[rows["draws"] < draws].max() < precision


@pytest.mark.parametrize(("function", "spec"), [(bb.attack, AttackSpec), (bb.noise_eval, NoiseSpec)])
def test_settings_have_the_defaults_of_the_commands(function, spec):
    own = {"model", "models", "attack"}
    shared = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name in spec.model_fields and name not in own
    }
    assert len(shared) > 4
    assert shared == {name: spec.model_fields[name].default for name in shared}


def test_adversarial_images_fool_the_model_within_the_budget_and_the_others_are_as_given(other, images, labels):
    model = other
    found = bb.attack(model, images, labels, "pgd", budget="16/255", progress=False)
    assert 0 < found.success.sum() < len(images)
    assert found.adversarial.dtype == images.dtype
    wrong = model(found.adversarial).argmax(1) != labels
    assert wrong[torch.from_numpy(found.success)].all()
    assert torch.equal(found.adversarial[~found.success], images[~found.success])
    moved = 255 * (found.adversarial - images).abs().flatten(1).amax(1).numpy()
    np.testing.assert_allclose(moved[found.success], found.linf[found.success], atol=1e-3)
    assert np.isnan(found.linf[~found.success]).all()
    assert moved.max() <= 16.001
    assert f"flips {found.success.sum()} of " in repr(found)


def test_an_attack_may_be_an_object_with_its_settings(model, images, labels):
    settings = Apgd.Settings(iterations=5)
    found = bb.attack(model, images, labels, Apgd(settings), budget="8/255", progress=False)
    expected = bb.attack(model, images, labels, "apgd", budget="8/255", iterations=5, progress=False)
    assert found.success.tolist() == expected.success.tolist()
    with pytest.raises(UsageError, match="steps: an attack that is given as an object has its settings already"):
        bb.attack(model, images, labels, Apgd(settings), budget="8/255", steps=3)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("fgs", {"budget": "8/255"}, "budget: attack 'fgs' follows a line and has no budget; leave it out"),
        ("apgdt", {}, "did you mean 'apgd"),
        ("pgd", {"restart": 3}, "attack 'pgd' has no setting 'restart'"),
        ("transfer", {}, "against: attack 'transfer' needs the model whose adversarial images it tries: pass against="),
        ("pgd", {"against": nn.Identity()}, "against: attack 'pgd' takes none"),
        ("fgs", {"seed": -1}, "attack: seed: "),
    ],
)
def test_what_an_attack_does_not_take_is_refused(model, images, labels, name, given, says):
    with pytest.raises(UsageError, match=says):
        bb.attack(model, images, labels, name, progress=False, **given)


def test_interrupted_an_attack_returns_what_it_is_done_with(model, digits, monkeypatch):
    monkeypatch.setattr(attack_module, "CHUNK", 20)
    calls, true_attack = [], attack_module.attack_chunk

    def interrupted(target, images, labels, first):
        if calls:
            raise KeyboardInterrupt
        calls.append(first)
        return true_attack(target, images, labels, first)

    monkeypatch.setattr(attack_module, "attack_chunk", interrupted)
    found = bb.attack(model, digits.images[:60], digits.labels[:60], "fgs", progress=False)
    assert len(found.adversarial) == len(found.success) == found.summary.images == 20
    assert "stopped after 20 of 60 images" in repr(found)
    with pytest.raises(KeyboardInterrupt):
        bb.attack(model, digits.images[:60], digits.labels[:60], "fgs", progress=False)


def test_one_model_alone_meets_noise_too_and_none_is_refused(model, images, labels):
    found = bb.noise_eval({"mine": model}, images, labels, sigma=100, draws=3, progress=False)
    assert found.models == ("mine",)
    assert found.summary.flipped_percent[0][0][0] == pytest.approx(100 * found.flipped.mean() / 3)
    with pytest.raises(UsageError, match="models: expected at least one"):
        bb.noise_eval({}, images, labels)
    with pytest.raises(UsageError, match=r"sigma: .*grey levels above 0, found -1"):
        bb.noise_eval({"mine": model}, images, labels, sigma=-1)


def test_models_that_agree_on_no_image_are_refused(model, images, labels):
    with pytest.raises(UsageError, match="an image that all models classify correctly, found none"):
        bb.noise_eval({"mine": model}, images[:2], (labels[:2] + 5) % 10, draws=1, progress=False)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"epsilon": 3.0, "method": "bang"}, "method 'bang': epsilon"),
        ({"strength": 1}, "method 'regular' has no setting 'strength'"),
        ({"iterations": 0}, "train: iterations: "),
        ({"method": "bong"}, "did you mean 'bang'"),
    ],
)
def test_training_refuses_what_its_method_does_not_take(given, says):
    with pytest.raises(UsageError, match=says):
        bb.train("lenet", data="digits", progress=False, **given)


def test_a_named_model_is_kept_and_an_unnamed_one_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    bb.train("lenet", data="digits", iterations=2, progress=False)
    assert list(tmp_path.iterdir()) == []
    model = bb.train("lenet", data="digits", name="kept", iterations=2, progress=False)
    assert (tmp_path / "models/kept/weights.safetensors").is_file()
    assert bb.load_model("kept").info == model.info


def test_a_model_of_the_bench_is_taken_with_its_own_preprocessing(tmp_path, images, labels):
    model = bb.train("lenet", data="digits", iterations=20, progress=False)
    found = bb.attack(model, images, labels, "fgs", progress=False)
    assert found.model == "lenet-regular"
    assert found.summary.correct == int((model.classifier(255 * images).argmax(1) == labels).sum())
    with pytest.raises(UsageError, match="a model of the bench has its own; leave them out"):
        bb.attack(model, images, labels, "fgs", mean=0.5, progress=False)


def test_a_doubtful_std_is_noted_in_the_words_of_python(model, images, labels):
    for found in (
        bb.attack(model, images, labels, "fgs", std=2.0, limit=5, progress=False),
        bb.noise_eval({"mine": model}, images, labels, std=2.0, draws=1, per_class=1, progress=False),
    ):
        assert "std 2 is beyond the scale" in repr(found)
        assert "--" not in repr(found)
    assert not bb.attack(model, images, labels, "fgs", std=0.5, limit=5, progress=False).notes


class Silent(nn.Module):
    """Answers every image with NaN."""

    def forward(self, images):
        return torch.full((len(images), 10), torch.nan)


def test_no_answer_is_no_robustness_to_noise(images, labels):
    with pytest.raises(UsageError, match="an image that all models classify correctly, found none"):
        bb.noise_eval({"silent": Silent()}, images, labels, sigma=50, draws=2, progress=False)


def test_models_have_names(model, images, labels):
    with pytest.raises(UsageError, match=r"expected at least one by its name, .*, found list"):
        bb.noise_eval([model], images, labels, progress=False)


def test_a_setting_of_a_training_is_corrected():
    with pytest.raises(UsageError, match="train has no setting 'iteratons'; did you mean 'iterations'"):
        bb.train("lenet", data="digits", iteratons=5, progress=False)

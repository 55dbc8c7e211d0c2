"""What of a command reaches an attack: its settings, and the batch size, in every forward pass."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bangbench.attacks.base import make_attack
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.cli.main import app
from bangbench.core.errors import BenchError, UsageError
from bangbench.nets.classifier import Classifier

#: Tells dark from bright images; nothing but their brightness matters.
NET = """
import torch
from torch import nn


class Brightness(nn.Module):
    def forward(self, images):
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)


class Edge(Brightness):
    def forward(self, images):
        return super().forward(images[:, :, :4])
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A net's file and images of 8x8 pixels, too small for PASS, some of them near its boundary; spec settings."""
    folder = tmp_path_factory.mktemp("scene")
    (folder / "net.py").write_text(NET)
    images = np.random.default_rng(0).integers(0, 60, (40, 8, 8)).astype(np.uint8) + 40
    images[1::2] += 110
    images[2] += 65
    labels = (images.mean((1, 2)) > 127.5).astype(int)
    np.savez(folder / "d.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return {"model": f"{folder}/net.py:Brightness", "data": f"npz:{folder}/d.npz", "device": "cpu", "workers": 1}


@pytest.fixture
def settings_of(scene, tmp_path):
    """Run attacks with options; return the settings in their records by attack."""

    def run(*names, option, place="here"):
        spec = AttackSpec(**scene, root=tmp_path / place, attack=names, option=option, budget=("0.05",))
        return {record.attack: record.spec["attack_settings"] for record in attack(spec)}

    return run


def test_an_option_reaches_every_attack_that_has_the_setting_and_no_other(settings_of):
    found = settings_of("fgs", "apgd", "apgd-ce", "square", option=("iterations=7", "queries=9"))
    assert found["fgs"] == {}
    assert found["apgd"] == found["apgd-ce"] == {"iterations": 7, "restarts": 1}
    assert found["square"] == {"queries": 9, "share": 0.8, "turn": True}


def test_an_option_of_one_attack_is_nothing_to_the_others_and_counts_more_than_a_general_one(settings_of):
    found = settings_of("apgd", "apgd-ce", option=("apgd.iterations=5", "iterations=7", "apgd.restarts=2"))
    assert found["apgd"] == {"iterations": 5, "restarts": 2}
    assert found["apgd-ce"] == {"iterations": 7, "restarts": 1}


def test_values_are_read_as_what_the_setting_is(settings_of):
    found = settings_of("pgd", "square", option=("pgd.step=2.5", "random_start=false", "share=.5", "turn=no"))
    assert found["pgd"] == {"steps": 20, "largest_steps": 80, "random_start": False, "step": 2.5}
    assert found["square"] == {"queries": 500, "share": 0.5, "turn": False}


def test_another_option_makes_another_run(scene, tmp_path):
    spec = AttackSpec(**scene, root=tmp_path, attack=("square",), option=("queries=20",), budget=("0.05",))
    first = attack(spec)
    assert attack(spec.model_copy(update={"option": ("square.queries=20",)})) == first
    with pytest.raises(BenchError, match=r"other settings \(attack_settings\.queries: 20 -> 30\)"):
        attack(spec.model_copy(update={"option": ("queries=30",)}))


REFUSED = {
    "a setting that none has": ("steps=3", r"--option steps=3: none of fgs, apgd has the setting 'steps'"),
    "of an attack that is not run": ("pgd.steps=3", r"--option pgd\.steps=3: none of fgs, apgd has the setting"),
    "a setting that this one lacks": (
        "apgd.steps=3",
        r"attack 'apgd' has no setting 'steps' \(it has: iterations, restarts\)",
    ),
    "of an attack without settings": ("fgs.steps=3", r"attack 'fgs' has no setting 'steps' \(it has: none\)"),
    "out of range": ("iterations=0", r"attack 'apgd': iterations: expected at least 1"),
    "no number": ("apgd.iterations=many", r"attack 'apgd': iterations: expected a whole number"),
}


@pytest.mark.parametrize(("option", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_attack_takes_is_refused_before_anything_is_written(settings_of, tmp_path, option, message):
    with pytest.raises(UsageError, match=message):
        settings_of("fgs", "apgd", option=(option,))
    assert not (tmp_path / "here").exists()


def test_an_option_without_a_value_is_refused():
    with pytest.raises(ValueError, match=r"expected SETTING=VALUE or ATTACK\.SETTING=VALUE, found 'iterations'"):
        AttackSpec(model="R0", option=("iterations",))


def test_the_command_takes_options(scene, tmp_path):
    options = ("--attack", "apgd", "--budget", "0.05", "--option", "iterations=4", "--option", "apgd.restarts=2")
    arguments = ["attack", scene["model"], "--data", scene["data"], "--root", str(tmp_path), "--workers", "1"]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu", *options, "--json"])
    assert (result.exit_code, list(json.loads(result.stdout)["models"]["Brightness"]["attacks"])) == (0, ["apgd"])
    record = json.loads((tmp_path / "results/Brightness/apgd.json").read_text())
    assert record["spec"]["attack_settings"] == {"iterations": 4, "restarts": 2}


def test_settings_are_made_once_and_never_changed():
    made = make_attack("apgd", {"iterations": "12"})
    assert made.settings.iterations == 12
    with pytest.raises(ValueError, match="frozen"):
        made.settings.iterations = 3
    assert make_attack("apgd").settings.iterations == 100


# --- the batch size -------------------------------------------------------------------------------------------------

SMALL = ("steps=3", "largest_steps=3", "iterations=3", "queries=6", "draws=3")


@pytest.mark.parametrize("size", [8, 16])
def test_no_forward_pass_of_any_attack_holds_more_images_than_the_batch_size(scene, tmp_path, monkeypatch, size):
    sizes, forward = [], Classifier.forward

    def counted(self, images):
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", counted)
    spec = {"attack": tuple(ATTACKS.names()), "option": SMALL, "against": scene["model"].replace("Brightness", "Edge")}
    records = attack(AttackSpec(**scene, **spec, root=tmp_path, budget=("0.02", "0.3"), batch_size=size))
    assert [record.attack for record in records] == ATTACKS.names()
    assert all(record.summary.correct == 40 for record in records)
    assert max(sizes) == size


def test_the_batch_size_changes_no_result(scene, tmp_path):
    spec = {"attack": tuple(ATTACKS.names()), "option": SMALL, "against": scene["model"].replace("Brightness", "Edge")}
    for place, size in (("small", 3), ("large", 100)):
        settings = {"root": tmp_path / place, "budget": ("0.02", "0.3"), "batch_size": size, "limit": 20}
        attack(AttackSpec(**scene, **spec, **settings))
    for name in ATTACKS.names():
        one, other = (tmp_path / place / f"results/Brightness/{name}.parquet" for place in ("small", "large"))
        assert one.read_bytes() == other.read_bytes()

"""What every training method keeps to, how its settings are checked, and how others are added."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from bangbench.core.errors import BenchError, UsageError
from bangbench.nets.classifier import Classifier
from bangbench.store.records import ModelCard, Preprocessing, read_record
from bangbench.training.methods.base import Method, make_method
from bangbench.training.methods.registry import METHODS
from bangbench.training.run import train
from bangbench.training.solver import CaffeSgd

BUILTIN = ("regular", "bang", "pgd-at", "fgs-at")


def test_the_builtin_methods_are_registered():
    assert set(BUILTIN) <= set(METHODS.names())


def test_an_unknown_method_suggests_the_nearest():
    with pytest.raises(UsageError, match="unknown method 'bnag': did you mean 'bang'"):
        make_method("bnag", {})


def test_a_setting_that_a_method_lacks_is_refused():
    with pytest.raises(UsageError, match=r"method 'regular' has no setting 'beta' \(it has: none\)"):
        make_method("regular", {"beta": 1.0})
    with pytest.raises(UsageError, match=r"method 'bang' has no setting 'gamma' \(it has: beta, epsilon, ratio\)"):
        make_method("bang", {"gamma": 1.0})


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("epsilon", 1.01, "at most 1"),
        ("epsilon", -0.1, "at least 0"),
        ("beta", 0.0, "more than 0"),
        ("ratio", -1.0, "at least 0"),
        ("epsilon", "much", "a number"),
        ("epsilon", math.nan, "at most 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, value, message):
    with pytest.raises(UsageError, match=f"method 'bang': {setting}: .*{message}"):
        make_method("bang", {setting: value})


def test_settings_may_be_given_as_text():
    assert make_method("bang", {"epsilon": "0.25"}).settings.epsilon == 0.25


def test_options_and_the_nets_own_defaults_reach_the_method(spec_of, tmp_path):
    card = train(spec_of(method="bang", beta=0.7, option=("epsilon=0.25",), iterations=1))
    assert card.model.method_settings == {"beta": 0.7, "epsilon": 0.25, "ratio": 1.0}
    quick = train(spec_of(name="Q", net="cifar10-quick", method="bang", iterations=1, batch_size=2, train_images=4))
    assert quick.model.method_settings["ratio"] == 0.5
    with pytest.raises(UsageError, match="method 'regular' has no setting 'epsilon'"):
        train(spec_of(name="R", epsilon=0.5))


def small_classifier() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(48, 4)
        )
    return Classifier(net, Preprocessing())


def trained(method: Method, seed: int) -> tuple[Classifier, list[float]]:
    """Return a small net after 25 steps, and the losses."""
    classifier, losses = small_classifier().train(), []
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(4, (12,), generator=generator)
    images = 40.0 * labels.view(-1, 1, 1, 1) + 60 * torch.rand(12, 1, 6, 6, generator=generator)
    solver = CaffeSgd(classifier.net, 0.9, 0.001)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method.prepare(classifier)
        for iteration in range(25):
            method.begin_step(iteration)
            objective = method.objective(classifier, images, labels)
            objective.loss.backward()
            method.after_backward(classifier)
            solver.step(0.05, method.gradient_scale)
            solver.clear_gradients()
            losses.append(float(objective.loss.detach()))
            assert objective.logits.shape == (12, 4)
        method.release(classifier)
    return classifier, losses


def test_the_methods_train_different_nets():
    weights = [trained(make_method(name, {}), seed=1)[0].net[5].weight for name in BUILTIN]
    for one, other in itertools.combinations(weights, 2):
        assert not torch.allclose(one, other)


THIRD_PARTY = """
from bangbench.training.methods import base


class Settings(base.MethodSettings):
    factor: float = 2.0
    seed: int = 7
    iterations: str = "all"
    layers: tuple[str, ...] = ("conv1", "fc")
    always: bool = True
    until: int | None = None


class Louder(base.Method):
    Settings = Settings

    def after_backward(self, classifier):
        for value in classifier.parameters():
            value.grad.mul_(self.settings.factor)
"""


@pytest.fixture
def louder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Register a method from a package of someone else's, for one test."""
    (tmp_path / "loud_methods.py").write_text(THIRD_PARTY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    METHODS.register("louder", "loud_methods:Louder")
    yield "louder"
    del METHODS._targets["louder"]


def test_a_method_of_a_third_party_is_trained_like_any_other(louder, spec_of, left_by, tmp_path):
    assert "louder" in METHODS.names()
    card = train(spec_of(name="L", method=louder, option=("factor=1",), iterations=6))
    assert (card.model.method, card.model.method_settings["factor"]) == ("louder", 1.0)
    train(spec_of(name="R", iterations=6))
    train(spec_of(name="L2", method=louder, iterations=6))
    one, regular, two = (left_by(tmp_path / "models" / name)["weights.safetensors"] for name in ("L", "R", "L2"))
    assert one == regular != two


def test_a_method_may_have_settings_of_any_type_and_of_the_names_of_the_run_s(louder, spec_of, tmp_path):
    option = ("seed=5", "iterations=some", "always=no")
    card = train(spec_of(name="L", method=louder, option=option, seed=1, iterations=2))
    given = {"factor": 2.0, "seed": 5, "iterations": "some", "layers": ["conv1", "fc"], "always": False, "until": None}
    assert card.spec["method_settings"] == card.model.method_settings == given
    assert (card.spec["seed"], card.spec["iterations"], card.model.seed, card.model.iterations) == (1, 2, 1, 2)
    assert read_record(tmp_path / "models/L/model.json", ModelCard) == card
    with pytest.raises(BenchError, match=r"other settings \(seed: 1 -> 2\)"):
        train(spec_of(name="L", method=louder, option=option, seed=2, iterations=2))
    with pytest.raises(BenchError, match=r"other settings \(method_settings\.seed: 5 -> 6\)"):
        train(spec_of(name="L", method=louder, option=("seed=6", *option[1:]), seed=1, iterations=2))


def test_a_name_cannot_be_registered_twice(louder):
    with pytest.raises(
        BenchError, match="method 'louder' is registered twice: as loud_methods:Louder and as other:Thing"
    ):
        METHODS.register("louder", "other:Thing")
    with pytest.raises(BenchError, match="method 'bang' is registered twice"):
        METHODS.register("bang", "other:Thing")


def test_a_method_that_cannot_be_imported_is_named(louder, monkeypatch):
    monkeypatch.setitem(METHODS._targets, "louder", "loud_methods:Missing")
    with pytest.raises(BenchError, match="method 'louder': 'loud_methods:Missing' cannot be loaded"):
        make_method("louder", {})

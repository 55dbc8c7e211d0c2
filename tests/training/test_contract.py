"""What every registered method keeps to: it trains, goes on, is saved, opened and attacked like any other."""

from __future__ import annotations

import math
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.attacks.base import Means, checked, make_attack
from bangbench.core.errors import BenchError
from bangbench.core.seeds import default_seeds
from bangbench.data.digits import Digits
from bangbench.nets.definition import NetDefinition, SolverSettings
from bangbench.nets.models import open_model
from bangbench.nets.predict import logits_of
from bangbench.nets.registry import NETS
from bangbench.nets.weights import load_state
from bangbench.store.records import ModelCard, Preprocessing, read_record
from bangbench.training import run
from bangbench.training.methods import base
from bangbench.training.methods.base import make_method
from bangbench.training.methods.registry import METHODS
from bangbench.training.run import train

CPU = torch.device("cpu")
#: Enough for what is tested here.
SMALLER = {"steps": 2, "draws": 3, "pool": 16, "refresh": 7, "warmup": 15}
#: Settings that a method cannot do without.
NEEDED: dict[str, tuple[str, ...]] = {"distillation": ("teacher=other",)}


class Noise(nn.Module):
    """Adds noise in proportion to a size measured at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("size", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        return images + 0.5 * self.size * torch.randn_like(images)


class TheirSettings(base.MethodSettings):
    draws: int = Field(5, ge=1)


class Theirs(base.Method):
    """A method of someone else's that uses every hook: random layers, a head of its own, memory."""

    Settings = TheirSettings

    def __init__(self, settings: base.MethodSettings) -> None:
        super().__init__(settings)
        self.mean, self.calls = torch.zeros(()), []

    @property
    def draws(self) -> int:
        return self.settings.draws

    def transform(self, net, shape, classes, generator):
        head = nn.Linear(classes, classes)
        nn.init.eye_(head.weight)
        with torch.no_grad():
            head.weight.add_(torch.randn(classes, classes, generator=generator), alpha=0.1)
        return nn.Sequential(Noise(), net, head)

    def begin_run(self, run: base.RunView) -> None:
        self.calls.append((len(run.images), run.images.dtype, run.seed, run.iterations, run.batch_size))
        run.classifier.net[0].size.copy_(run.images.float().std() / 255.0)

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean}

    def load_state(self, state) -> None:
        self.mean = state["mean"]

    def objective(self, classifier, images, labels) -> base.Objective:
        shuffled = labels.roll(1)
        logits = classifier(images.roll(1, 0))
        loss = cross_entropy(logits, shuffled)
        self.mean = 0.9 * self.mean + 0.1 * loss.detach()
        return base.Objective(loss * (1.0 + self.mean), logits, shuffled)


def small_net(shape, classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return a net of two convolutions and two linear layers, LeNet but for its size."""
    channels, height, width = shape
    features = 8 * ((height - 4) // 3 // 4) * ((width - 4) // 3 // 4)
    with default_seeds(generator.initial_seed(), CPU):
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, 4, 5, stride=3),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(4, 8, 3, padding=1),
                pool2=nn.MaxPool2d(4),
                flatten=nn.Flatten(),
                linear1=nn.Linear(features, 16),
                relu2=nn.ReLU(),
                dropout=nn.Dropout(0.3),
                linear2=nn.Linear(16, classes),
            )
        )


@pytest.fixture
def theirs(monkeypatch):
    """Register a method and a small net of someone else, for one test."""
    module = types.ModuleType("their_contract")
    module.Theirs = Theirs
    module.SMALL = NetDefinition(small_net, Preprocessing(), SolverSettings(), channels_last=True)
    monkeypatch.setitem(sys.modules, "their_contract", module)
    METHODS.register("theirs", "their_contract:Theirs")
    NETS.register("small", "their_contract:SMALL")
    yield
    del METHODS._targets["theirs"], NETS._targets["small"]


def options_of(name: str) -> tuple[str, ...]:
    known = METHODS.load(name).Settings.model_fields
    smaller = [f"{setting}={value}" for setting, value in SMALLER.items() if setting in known]
    return (*NEEDED.get(name, ()), *smaller)


def seeded_logits(classifier, images: Tensor) -> Tensor:
    with default_seeds(3, CPU):
        return logits_of(classifier, images)


@pytest.mark.parametrize("name", [*METHODS.names(), "theirs"])
def test_every_method_trains_goes_on_opens_and_is_attacked(
    name, theirs, spec_of, stop_after, left_by, tmp_path, monkeypatch
):
    settings = {"method": name, "option": options_of(name), "iterations": 20, "stages": 5, "seed": 4, "net": "small"}
    if "teacher=other" in settings["option"]:
        train(spec_of(name="other", net="small", iterations=2))
    trained = []
    steps = run.train_steps
    monkeypatch.setattr(
        run, "train_steps", lambda given, *rest: (trained.append(given.classifier), steps(given, *rest))[1]
    )
    card = train(spec_of(name="whole", **settings))
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(name="parts", **settings), stop_after(12))
    train(spec_of(name="parts", **settings))
    assert left_by(tmp_path / "models/parts") == left_by(tmp_path / "models/whole")
    log = left_by(tmp_path / "models/whole")["log"]
    assert all(math.isfinite(float(row["loss"])) for row in log)

    data = Digits(Path()).load("test")
    images = torch.from_numpy(data.images[:24]).float()
    opened = open_model("whole", tmp_path, CPU)
    assert read_record(tmp_path / "models/whole/model.json", ModelCard) == card
    assert torch.equal(seeded_logits(trained[0].eval(), images), seeded_logits(opened.classifier, images))
    assert opened.info.parameters == card.model.parameters
    stage = opened.stage_classifier(5)
    assert not torch.equal(seeded_logits(stage, images), seeded_logits(opened.classifier, images))

    means = Means(torch.Generator().manual_seed(1), 24)
    answers = seeded_logits(opened.classifier, images).argmax(1)
    checked(make_attack("fgs").run(opened.classifier, images, answers, means), "fgs", images)


def test_a_method_that_uses_every_hook(theirs, spec_of, tmp_path):
    method = make_method("theirs", {})
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "make_method", lambda *_: made.append(method) or method)
        card = train(spec_of(name="T", net="small", method="theirs", seed=6, iterations=150, stages=50))
    assert method.calls == [(100, torch.uint8, 6, 150, 16)]
    assert card.train_accuracy > 50.0, "the answers to moved images are counted against the labels of others"
    state = load_state(tmp_path / "models/T/weights.safetensors")
    assert 0.1 < float(state["0.size"]) < 0.6
    assert {"2.weight", "2.bias"} < set(state)
    opened = open_model("T", tmp_path, CPU).classifier
    assert opened.draws == 5
    images = torch.from_numpy(Digits(Path()).load("test").images[:8]).float()
    one = opened.with_draws(1)
    with default_seeds(3, CPU):
        passes = torch.stack([logits_of(one, images).softmax(1) for _ in range(5)])
    assert not torch.equal(passes[0], passes[1])
    torch.testing.assert_close(seeded_logits(opened, images).softmax(1), passes.mean(0))


def test_a_model_whose_method_is_not_here_says_so(theirs, spec_of, tmp_path):
    train(spec_of(name="T", net="small", method="theirs", iterations=2))
    train(spec_of(name="R", net="small", iterations=2))
    target = METHODS._targets.pop("theirs")
    try:
        open_model("R", tmp_path, CPU)
        with pytest.raises(BenchError, match="unknown method 'theirs'"):
            open_model("T", tmp_path, CPU)
    finally:
        METHODS._targets["theirs"] = target


def test_gradients_of_a_random_net_are_those_of_the_averaged_prediction(theirs, spec_of, tmp_path):
    train(spec_of(name="T", net="small", method="theirs", iterations=6))
    classifier = open_model("T", tmp_path, CPU).classifier
    data = Digits(Path()).load("test")
    images, labels = torch.from_numpy(data.images[:8]).float().requires_grad_(), torch.from_numpy(data.labels[:8])
    with default_seeds(3, CPU):
        (given,) = torch.autograd.grad(cross_entropy(classifier(images), labels), images)
    one = classifier.with_draws(1)
    with default_seeds(3, CPU):
        chances = torch.stack([one(images).softmax(1) for _ in range(5)]).mean(0)
    (by_hand,) = torch.autograd.grad(-chances.gather(1, labels[:, None]).log().mean(), images)
    torch.testing.assert_close(given, by_hand, rtol=1e-4, atol=1e-8)

"""What tells one model from another beside its weights: its answers, and the code of its net."""

from __future__ import annotations

import copy
import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.nets.identity import behaviour_of, code_of
from bangbench.nets.models import open_model
from bangbench.nets.registry import NETS
from bangbench.store.records import Preprocessing

CPU = torch.device("cpu")


def lenet(seed=0, **preprocessing):
    net = build_net(net_definition("lenet"), (1, 16, 16), 3, seed)
    return Classifier(net, Preprocessing(**preprocessing)).eval()


@pytest.fixture
def behaviour():
    """The behaviour of a classifier of images (1, 16, 16)."""
    return lambda classifier: behaviour_of(classifier, (1, 16, 16))


class Changed(nn.Module):
    """Another net's logits, to which something is done."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, images):
        return self.change(self.net(images))


def test_the_same_model_opened_again_behaves_the_same_wherever_its_folder_is(trained_root, tmp_path):
    first, again = (open_model("first", trained_root, CPU).identity() for _ in range(2))
    assert first == again
    assert len(first["behaviour"]) == len(first["weights"]) == 64
    assert first["code"] is None
    (trained_root / "models/first").rename(tmp_path / "moved")
    assert open_model(str(tmp_path / "moved"), trained_root, CPU).identity() == first


def test_other_weights_behave_otherwise(behaviour):
    first = lenet()
    assert behaviour(first) == behaviour(lenet())
    assert behaviour(first) != behaviour(lenet(seed=1))
    changed = copy.deepcopy(first)
    with torch.no_grad():
        changed.net.linear2.weight[0, 0] += 1e-3
    assert behaviour(changed) != behaviour(first)


def test_the_same_weights_that_are_given_to_another_computation_behave_otherwise(behaviour):
    first = lenet()
    for change in (lambda logits: logits.softmax(1), lambda logits: -logits, lambda logits: 1.001 * logits, torch.abs):
        assert behaviour(Classifier(Changed(first.net, change), Preprocessing()).eval()) != behaviour(first)
    twice = Classifier(Changed(first.net, lambda logits: 2.0 * logits), Preprocessing()).eval()
    assert behaviour(twice) != behaviour(first)
    assert behaviour(lenet(input_scale=256.0)) != behaviour(lenet(input_scale=255.0))


@pytest.mark.exact
def test_a_behaviour_is_the_same_on_every_machine(behaviour):
    classifier = lenet(input_scale=256.0)
    for value in classifier.parameters():
        steps = np.arange(value.numel(), dtype=np.float64).reshape(value.shape)
        value.data = torch.from_numpy(np.round(40.0 * np.sin(1.7 * steps)) / 256.0).float()
    assert behaviour(classifier) == "b920aa0dc58113ff1fe9764c199cac93416a4517196a16f2058471c1db6bdba3"


@pytest.mark.exact
def test_last_bits_are_no_other_behaviour(behaviour):
    first = lenet()
    rounded = Classifier(Changed(first.net, lambda logits: logits * (1.0 + 1e-12)), Preprocessing()).eval()
    assert behaviour(rounded) == behaviour(first)


def test_a_net_that_cannot_be_computed_in_float64_has_a_behaviour(behaviour):
    class Single(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, images):
            if images.dtype != torch.float32:
                raise RuntimeError("only float32")
            return self.factor * images[:, 0, 0, :3]

    one, same, other = (behaviour(Classifier(Single(factor), Preprocessing()).eval()) for factor in (1.0, 1.0, 1.5))
    assert one == same != other


@pytest.mark.parametrize("noise", [nn.Dropout(0.5), Changed(nn.Identity(), lambda x: x + 0.1 * torch.randn_like(x))])
def test_a_net_that_draws_numbers_on_every_pass_is_said_to_be_random(behaviour, noise):
    noisy = Classifier(nn.Sequential(lenet().net, noise), Preprocessing()).eval()
    noise.train()
    before = torch.get_rng_state()
    assert behaviour(noisy) == "random"
    assert torch.equal(torch.get_rng_state(), before)


def test_looking_at_a_model_changes_nothing_of_it(behaviour):
    classifier = lenet()
    before = copy.deepcopy(classifier.state_dict())
    behaviour(classifier)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert next(classifier.parameters()).dtype == torch.float32


def test_the_benchs_own_nets_have_no_code_of_their_own():
    assert [code_of(name) for name in ("lenet", "cifar10-quick")] == [None, None]


def test_the_code_of_a_users_net_is_the_file_it_is_in(net_file):
    path = net_file("def make():\n    return nn.Flatten()")
    assert code_of(f"{path}:make") == hashlib.sha256(path.read_bytes()).hexdigest()
    before = code_of(f"{path}:make")
    path.write_text(path.read_text() + "# a remark\n")
    assert code_of(f"{path}:make") != before


def test_the_code_of_a_module_is_that_of_its_file(tmp_path, monkeypatch):
    (tmp_path / "coded_nets.py").write_text("def make():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert code_of("coded_nets:make") == hashlib.sha256((tmp_path / "coded_nets.py").read_bytes()).hexdigest()
    assert code_of("builtins:abs") is None


def test_a_registered_net_of_a_third_party_has_the_code_of_its_package(tmp_path, monkeypatch):
    (tmp_path / "third_nets.py").write_text("NET = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(NETS.__dict__, "_targets", {name: NETS.target(name) for name in NETS.names()})
    NETS.register("third", "third_nets:NET")
    assert code_of("third") == hashlib.sha256(b"NET = None\n").hexdigest()


def test_an_opened_net_of_ones_own_is_known_by_weights_code_and_behaviour(net_file, open_own):
    path = net_file("def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, 3))")
    before = open_own(f"{path}:make")
    assert before.own_net("net") == {"net": f"{path}:make", "net_code": before.info.code_sha256}
    path.write_text(path.read_text().replace("Linear(256, 3)", "Linear(256, 3), nn.Softmax(1)"))
    after = open_own(f"{path}:make")
    same = {name for name, value in before.identity().items() if after.identity()[name] == value}
    assert same == {"weights"}


def test_the_benchs_own_nets_say_nothing_of_code_in_a_records_settings(trained_root):
    assert open_model("first", trained_root, CPU).own_net("net") == {}

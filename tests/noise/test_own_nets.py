"""A pair of a user's own nets, each with its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bangbench.core.errors import UsageError
from bangbench.noise.plan import make_plan
from bangbench.noise.spec import NoiseSpec

NET = "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"


@pytest.fixture
def spec_of(tmp_path: Path):
    (tmp_path / "net.py").write_text(NET)
    for name, scale in (("first", 1.0), ("second", 2.0)):
        save_file(
            {"1.weight": torch.full((10, 784), scale).cumsum(0), "1.bias": torch.zeros(10)},
            tmp_path / f"{name}.safetensors",
        )

    def make(first: str = "", second: str = "", **settings) -> NoiseSpec:
        both = tuple(f"{tmp_path}/net.py:make{weights}" for weights in (first, second))
        return NoiseSpec(**{"models": both, "data": "digits", "root": tmp_path, "device": "cpu", **settings})

    return make


def test_nets_without_weights_are_refused_unless_that_is_meant(spec_of, tmp_path):
    with pytest.raises(UsageError, match="given without weights"):
        make_plan(spec_of())
    with pytest.raises(UsageError, match="given without weights"):
        make_plan(spec_of(first=f"@{tmp_path}/first.safetensors"))
    with_one = spec_of(f"@{tmp_path}/first.safetensors", random_weights=True)
    assert [model.name for model in make_plan(with_one).models] == ["first", "make"]


def test_two_models_of_one_name_are_refused(spec_of):
    with pytest.raises(UsageError, match="expected models of different names, found 2 called make"):
        make_plan(spec_of(random_weights=True))


def test_each_net_has_its_own_weights_and_both_the_same_preprocessing(spec_of, tmp_path):
    own = (f"@{tmp_path}/first.safetensors", f"@{tmp_path}/second.safetensors")
    plan, plain = make_plan(spec_of(*own, input_scale=100.0)), make_plan(spec_of(*own))
    assert [model.name for model in plan.models] == ["first", "second"]
    image = torch.full((1, 1, 28, 28), 10.0)
    first, second = (model.classifier(image)[0, 0].item() for model in plan.models)
    assert (first, second) == pytest.approx((78.4, 156.8), rel=1e-4)
    assert plan.key != plain.key
    assert "input_scale" not in plain.settings


def test_a_norm_by_name_is_its_mean_and_std(spec_of, tmp_path):
    own = (f"@{tmp_path}/first.safetensors", f"@{tmp_path}/second.safetensors")
    assert make_plan(spec_of(*own, norm="MNIST")).key == make_plan(spec_of(*own, mean=(0.1307,), std=(0.3081,))).key

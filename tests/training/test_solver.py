"""Caffe's solver against a NumPy twin, and where it differs from torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError, UsageError
from bangbench.training.rates import rate_policy
from bangbench.training.registry import SOLVERS
from bangbench.training.run import train
from bangbench.training.solver import CaffeSgd

STEPS = 250
CHANGES = (100, 200)
BASE, MOMENTUM, DECAY = 0.05, 0.9, 0.004


def small_net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(step)
    labels = random.integers(0, 3, 8)
    return random.normal(size=(8, 5)) + labels[:, None], labels


def numpy_gradients(weights: dict[str, np.ndarray], inputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the gradients of the mean cross-entropy, by hand."""
    hidden = np.tanh(inputs @ weights["0.weight"].T + weights["0.bias"])
    logits = hidden @ weights["2.weight"].T + weights["2.bias"]
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    above = (shares - np.eye(3)[labels]) / len(labels)
    below = above @ weights["2.weight"] * (1 - hidden**2)
    return {
        "0.weight": below.T @ inputs,
        "0.bias": below.sum(0),
        "2.weight": above.T @ hidden,
        "2.bias": above.sum(0),
    }


def torch_gradients(net: nn.Sequential, step: int) -> None:
    inputs, labels = batch(step)
    cross_entropy(net(torch.from_numpy(inputs)), torch.from_numpy(labels)).backward()


def test_250_steps_equal_the_numpy_twin_across_two_rate_changes():
    net = small_net()
    solver, rate = CaffeSgd(net, MOMENTUM, DECAY), rate_policy("steps(100, 200)", BASE, STEPS)
    weights = {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    for step in range(STEPS):
        torch_gradients(net, step)
        solver.step(rate(step))
        solver.clear_gradients()
        twin_rate = BASE if step < 100 else BASE / 10 if step < 200 else BASE / 100
        for name, gradient in numpy_gradients(weights, *batch(step)).items():
            multiplier = 2 if name.endswith("bias") else 1
            velocity[name] = MOMENTUM * velocity[name] + twin_rate * multiplier * (gradient + DECAY * weights[name])
            weights[name] = weights[name] - velocity[name]
        for name, value in net.named_parameters():
            np.testing.assert_allclose(value.detach().numpy(), weights[name], rtol=0, atol=1e-11)
    assert float(np.abs(weights["0.weight"] - small_net()[0].weight.detach().numpy()).max()) > 0.1


def test_torchs_sgd_differs_once_the_rate_has_changed():
    ours, theirs = small_net(), small_net()
    solver, rate = CaffeSgd(ours, MOMENTUM, 0.0), rate_policy("steps(100, 200)", BASE, STEPS)
    biases = [value for name, value in theirs.named_parameters() if name.endswith("bias")]
    others = [value for name, value in theirs.named_parameters() if not name.endswith("bias")]
    sgd = torch.optim.SGD([{"params": biases}, {"params": others}], lr=BASE, momentum=MOMENTUM)
    for step in range(CHANGES[0] + 20):
        torch_gradients(ours, step)
        solver.step(rate(step))
        solver.clear_gradients()
        sgd.param_groups[0]["lr"], sgd.param_groups[1]["lr"] = 2 * rate(step), rate(step)
        sgd.zero_grad()
        torch_gradients(theirs, step)
        sgd.step()
        if step == CHANGES[0] - 1:
            torch.testing.assert_close(ours[0].weight, theirs[0].weight, rtol=0, atol=1e-11)
    assert float((ours[0].weight - theirs[0].weight).detach().abs().max()) > 1e-3


def test_decay_applies_to_biases_too():
    layer = nn.Linear(2, 2).double()
    before = layer.bias.detach().clone()
    layer.weight.grad, layer.bias.grad = torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)
    CaffeSgd(layer, 0.9, 0.1).step(0.5)
    torch.testing.assert_close(layer.bias, before * (1 - 2 * 0.5 * 0.1))


def test_frozen_parameters_and_those_without_gradient_stay():
    net = small_net()
    net[0].weight.requires_grad_(False)
    solver = CaffeSgd(net, MOMENTUM, DECAY)
    assert "0.weight" not in solver.parameters
    net[2].weight.grad = torch.ones_like(net[2].weight)
    solver.step(0.1)
    fresh = small_net()
    for name in ("0.weight", "0.bias", "2.bias"):
        assert torch.equal(net.state_dict()[name], fresh.state_dict()[name])
    assert not torch.equal(net[2].weight, fresh[2].weight)


def test_a_restored_solver_goes_on_as_if_nothing_had_happened():
    net, copy = small_net(), small_net()
    first, second = CaffeSgd(net, MOMENTUM, DECAY), CaffeSgd(copy, MOMENTUM, DECAY)
    for step in range(6):
        torch_gradients(net, step)
        first.step(0.05)
        first.clear_gradients()
        if step == 2:
            copy.load_state_dict(net.state_dict())
            second.load_state({name: value.clone() for name, value in first.state().items()})
        if step > 2:
            torch_gradients(copy, step)
            second.step(0.05)
            second.clear_gradients()
    assert torch.equal(net[0].weight, copy[0].weight)


def test_clearing_forgets_the_gradients():
    net = small_net()
    torch_gradients(net, 0)
    CaffeSgd(net, MOMENTUM, DECAY).clear_gradients()
    assert all(value.grad is None for value in net.parameters())


@pytest.mark.parametrize("scale", [2.0**40, 2.0**-20])
def test_gradients_a_power_of_two_too_large_give_the_same_bits(scale):
    plain, scaled = small_net().float(), small_net().float()
    solvers = CaffeSgd(plain, MOMENTUM, DECAY), CaffeSgd(scaled, MOMENTUM, DECAY)
    for step in range(20):
        for net, factor in ((plain, 1.0), (scaled, scale)):
            inputs, labels = batch(step)
            loss = cross_entropy(net(torch.from_numpy(inputs).float()), torch.from_numpy(labels))
            (loss * factor).backward()
        solvers[0].step(0.05)
        solvers[1].step(0.05, scale)
        for solver in solvers:
            solver.clear_gradients()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, scaled.state_dict()[name])
        assert torch.equal(solvers[0].velocity[name], solvers[1].velocity[name])
    assert not torch.equal(plain[0].weight, small_net().float()[0].weight)


OTHERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("scale", [1.0, 2.0**20])
def test_the_other_solvers_are_those_of_torch(name, scale):
    ours, theirs = small_net(), small_net()
    solver, rate = SOLVERS.load(name)(ours, 0.8, DECAY), rate_policy("inv(0.1, 1)", BASE, 40)
    own = {"momentum": 0.8} if name == "sgd" else {"betas": (0.8, 0.999)}
    optimizer = OTHERS[name](theirs.parameters(), lr=1.0, weight_decay=DECAY, **own)
    for step in range(40):
        inputs, labels = map(torch.from_numpy, batch(step))
        (cross_entropy(ours(inputs), labels) * scale).backward()
        solver.step(rate(step), scale)
        solver.clear_gradients()
        optimizer.param_groups[0]["lr"] = BASE / (1 + 0.1 * step)
        optimizer.zero_grad()
        torch_gradients(theirs, step)
        optimizer.step()
    for name_, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name_], value, rtol=0, atol=1e-12)
    assert float((ours[0].weight - small_net()[0].weight).detach().abs().max()) > 0.1


@pytest.mark.parametrize("name", OTHERS)
def test_runs_with_the_other_solvers_go_on_where_they_were_interrupted(name, spec_of, stop_after, left_by, tmp_path):
    settings = {"solver": name, "learning_rate": 0.003, "rate_policy": "triangle(0.4)"}
    card = train(spec_of(name="whole", **settings))
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(name="parts", **settings), stop_after(10))
    train(spec_of(name="parts", **settings))
    assert left_by(tmp_path / "models/parts") == left_by(tmp_path / "models/whole")
    assert card.spec["solver"] == name


@pytest.mark.parametrize("name", ["caffe", "adam"])
def test_another_solver_s_state_is_refused(name):
    net = small_net()
    with pytest.raises(BenchError, match="the snapshot is another solver's; delete it to start again"):
        SOLVERS.load(name)(net, 0.9, 0.0).load_state({"velocity/other.weight": torch.zeros(3)})


def test_an_unknown_solver_is_refused_before_anything_is_written(spec_of, tmp_path):
    with pytest.raises(UsageError, match="unknown solver 'adan': did you mean 'adam'"):
        train(spec_of(solver="adan"))
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("epochs", "images", "iterations"), [(1, 100, 7), (2, 100, 13), (3, 96, 18)])
def test_epochs_are_kept_as_the_iterations_they_come_to(spec_of, epochs, images, iterations):
    card = train(spec_of(epochs=epochs, iterations=None, train_images=images, stages=100))
    assert card.model.iterations == card.spec["iterations"] == iterations
    same = train(spec_of(iterations=iterations, train_images=images, stages=100))
    assert same == card


def test_epochs_and_iterations_exclude_each_other(spec_of):
    with pytest.raises(UsageError, match="--epochs 3 and --iterations 14 say the same thing; give one"):
        train(spec_of(epochs=3))


def test_settings_that_are_not_used_stand_in_no_record(spec_of):
    assert not {"solver", "shift", "flip", "epochs", "method_models"} & set(train(spec_of(iterations=1)).spec)

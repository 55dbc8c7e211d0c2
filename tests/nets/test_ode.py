"""odenet, its control and zerosnet: their states against plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bangbench.core.errors import BenchError
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.ode import Dynamics, euler
from bangbench.nets.zerosnet import COEFFICIENTS, Multistep

NETS = ("odenet", "odenet-cnn", "zerosnet")


def built(name: str, shape=(1, 28, 28), classes: int = 10, seed: int = 0) -> nn.Sequential:
    net = build_net(net_definition(name), shape, classes, seed)
    assert isinstance(net, nn.Sequential)
    return net


def twice(dynamics: Dynamics, state: Tensor, time: float | None) -> Tensor:
    """Return f(h, t) layer by layer, t as a further channel in front."""
    for convolution, norm in ((dynamics.conv1, dynamics.norm1), (dynamics.conv2, dynamics.norm2)):
        if time is not None:
            state = torch.cat([torch.ones(len(state), 1, *state.shape[2:]) * time, state], 1)
        state = functional.conv2d(state, convolution.weight, convolution.bias, padding=1)
        state = functional.relu(functional.group_norm(state, 8, norm.weight, norm.bias))
    return state


@pytest.fixture
def state() -> Tensor:
    return torch.randn(3, 16, 5, 5, generator=torch.Generator().manual_seed(1))


def test_odenet_adds_up_ten_steps_of_its_dynamics_in_time(state):
    block = built("odenet").block
    expected = state
    for time in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        expected = expected + 0.1 * twice(block.dynamics, expected, time)
    torch.testing.assert_close(block(state), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(twice(block.dynamics, state, 0.0), twice(block.dynamics, state, 0.9), rtol=1e-2)


def test_the_control_has_the_same_layers_in_one_step(state):
    control, net = built("odenet-cnn"), built("odenet")
    torch.testing.assert_close(control.block(state), state + twice(control.block.change, state, None))
    assert [type(layer) for layer in control if layer is not control.block] == [
        type(layer) for layer in net if layer is not net.block
    ]


def test_euler_follows_the_solution_of_a_linear_equation():
    class Decay(nn.Module):
        def forward(self, state: Tensor, time: float) -> Tensor:
            return -state + time

    *_, last = euler(Decay(), torch.ones(1, dtype=torch.float64), 0.001, 1000)
    # h' = -h + t with h(0) = 1 has the solution t - 1 + 2 exp(-t)
    torch.testing.assert_close(last, 2.0 * torch.exp(-torch.ones(1, dtype=torch.float64)), rtol=1e-3, atol=0.0)


def test_zerosnet_is_a_linear_multistep_method():
    factors = (0.5, -0.25, 0.75, 0.1)
    blocks = []
    for factor in factors:
        block = nn.Linear(1, 1, bias=False)
        nn.init.constant_(block.weight, factor)
        blocks.append(block)
    first = 2.0
    states = [first, first, first]
    for factor in factors:
        states.append(states[-1] / 3 + 5 * states[-2] / 9 + states[-3] / 9 + 16 / 9 * factor * states[-1])
    found = Multistep(blocks)(torch.tensor([[first]]))
    torch.testing.assert_close(found, torch.tensor([[states[-1]]]))
    assert sum(COEFFICIENTS[:3]) == pytest.approx(1.0)


@pytest.mark.parametrize("name", NETS)
def test_they_take_other_images_and_have_the_weights_of_their_seed(name):
    before = torch.get_rng_state()
    assert built(name, (3, 9, 11), 7).eval()(torch.ones(2, 3, 9, 11)).shape == (2, 7)
    one, other = (built(name, seed=seed).state_dict() for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, built(name, seed=1).state_dict()[key]) for key, value in one.items())
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])
    with pytest.raises(BenchError, match="at least 8x8 pixels, found 28x7"):
        built(name, (1, 28, 7))

"""lt-node: its distribution of end times, the states in between, and the evidence bound, against formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.training.methods.base import make_method
from bangbench.training.methods.lt_node import LatentTimeNet, between


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def net_of(shape: float = 10.0, rate: float = 10.0) -> LatentTimeNet:
    net = make_method("lt-node", {}).transform(nn.Linear(1, 1), (1, 9, 9), 4, torch.Generator())
    assert isinstance(net, LatentTimeNet)
    with torch.no_grad():
        net.shape.fill_(math.log(shape))
        net.rate.fill_(math.log(rate))
    return net


def images() -> Tensor:
    return torch.rand(6, 1, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("shape", "rate"), [(2.0, 2.0), (10.0, 8.0), (1.0, 0.5)])
def test_the_weights_of_the_times_are_those_of_drawn_ones(shape, rate):
    net = net_of(shape, rate)
    weights = net.weights().detach()
    drawn = torch.distributions.Gamma(shape, rate).sample((200_000,))
    nearest = (drawn / 0.1).round().clamp(1, 20).long() - 1
    expected = torch.bincount(nearest, minlength=20) / len(drawn)
    torch.testing.assert_close(weights, expected, rtol=0.0, atol=0.005)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_prediction_is_the_mean_of_the_softmax_over_the_end_times():
    net = net_of(3.0, 4.0).eval()
    state, chances, weights = net.stem(images()), torch.zeros(6, 4), net.weights()
    for weight in weights:
        state = state + 0.1 * net.dynamics(state)
        chances = chances + weight * net.head(state).softmax(1)
    torch.testing.assert_close(net(images()).exp(), chances)
    assert torch.equal(net(images()), net(images()))


def test_a_sharp_posterior_is_a_net_with_that_end_time():
    net = net_of(1e6, 1e6 / 0.7)
    states = [net.stem(images())]
    for _ in range(7):
        states.append(states[-1] + 0.1 * net.dynamics(states[-1]))
    expected = net.head(states[-1])
    torch.testing.assert_close(net.eval()(images()), expected.log_softmax(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net.train()(images()), expected, rtol=1e-2, atol=1e-2)


def test_states_in_between_are_linear_and_end_at_the_last():
    states = [torch.full((5, 1, 1, 1), float(value)) for value in (0, 10, 40)]
    places = torch.tensor([0.0, 0.25, 1.5, 2.0, 7.0], requires_grad=True)
    found = between(states, places)
    assert found.flatten().tolist() == [0.0, 2.5, 25.0, 40.0, 40.0]
    (slopes,) = torch.autograd.grad(found.sum(), places)
    assert slopes[:3].tolist() == [10.0, 10.0, 30.0]
    assert float(slopes[4]) == 0.0


@pytest.mark.parametrize("prior", [0.0, 1.0, 50.0])
def test_the_loss_is_the_evidence_bound_per_image(prior):
    method = make_method("lt-node", {"prior": prior})
    method._images = 100
    classifier = Classifier(net_of(5.0, 3.0), Preprocessing(input_scale=1.0)).train()
    labels = torch.arange(6) % 4
    objective = method.objective(classifier, images(), labels)
    # KL(Gamma(a, b) || Gamma(2, 2)), a = 5, b = 3
    a, b = 5.0, 3.0
    digamma = float(torch.digamma(torch.tensor(a)))
    apart = (a - 2) * digamma - math.lgamma(a) + math.lgamma(2) + 2 * (math.log(b) - math.log(2)) + a * (2 - b) / b
    expected = float(cross_entropy(objective.logits, labels).detach()) + prior * apart / 100
    assert float(objective.loss.detach()) == pytest.approx(expected, rel=1e-5)
    gradients = torch.autograd.grad(objective.loss, [classifier.net.shape, classifier.net.rate])
    assert all(abs(float(value)) > 1e-6 for value in gradients)

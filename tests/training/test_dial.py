"""dial: its loss and gradients against the formula, written down apart from it."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.training.methods.base import Method, make_method

SCALED = Preprocessing(input_scale=256.0)
SHORT = {"budget": 0.2, "step": 0.1, "steps": 2}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def made(**settings) -> tuple[Method, Classifier]:
    method = make_method("dial", SHORT | settings)
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 3, 3), tanh=nn.Tanh(), flat=nn.Flatten(), one=nn.Linear(48, 9), two=nn.Linear(9, 4)
        )
    )
    with torch.no_grad():
        net.two.weight.mul_(8.0)  # confident answers, of which the divergence one way is not that the other way
    return method, Classifier(method.transform(net, (1, 6, 6), 4, torch.Generator()), SCALED).train()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (10, 1, 6, 6), generator=generator).float(), torch.arange(10) % 4


def by_hand(classifier: Classifier, images: Tensor, attacked: Tensor, labels: Tensor, kl: bool) -> dict[str, Tensor]:
    """Return the terms of the loss; the domain's without a reversal."""
    net, head = classifier.net.net, classifier.net.head
    features = [net.flat(net.tanh(net.conv(part / 256.0))) for part in (images, attacked)]
    clean, moved = (net.two(net.one(part)) for part in features)
    told = [head(part).log_softmax(1) for part in features]
    chances = clean.softmax(1)
    divergence = (chances * (clean.log_softmax(1) - moved.log_softmax(1))).sum(1).mean()
    return {
        "clean": cross_entropy(clean, labels),
        "moved": divergence if kl else cross_entropy(moved, labels),
        "domain": -(told[0][:, 0].mean() + told[1][:, 1].mean()),
    }


@pytest.mark.parametrize("kl", [False, True])
@pytest.mark.parametrize("iteration", [0, 30, 90])
def test_loss_and_gradients_are_those_of_the_formula(kl, iteration):
    method, classifier = made(beta=3.0, domain=0.7, attacked="kl" if kl else "ce")
    method._iterations = 100
    method.begin_step(iteration)
    images, labels = batch()
    attacked = (images + 30.0 * torch.randn(images.shape)).clamp(0.0, 255.0)
    objective = method.loss_on(classifier, images, attacked, labels)
    terms = by_hand(classifier, images, attacked, labels, kl)
    expected = terms["clean"] + 3.0 * terms["moved"] + 0.7 * terms["domain"]
    torch.testing.assert_close(objective.loss, expected)
    objective.loss.backward()
    strength = 2.0 / (1.0 + math.exp(-10.0 * iteration / 100)) - 1.0
    net, head = classifier.net.net, classifier.net.head
    told = torch.autograd.grad(0.7 * terms["domain"], [head[0].weight, net.conv.weight], retain_graph=True)
    (own,) = torch.autograd.grad(terms["clean"] + 3.0 * terms["moved"], net.conv.weight)
    torch.testing.assert_close(head[0].weight.grad, told[0])
    torch.testing.assert_close(net.conv.weight.grad, own - strength * told[1])


@pytest.mark.parametrize("attacked", ["ce", "kl"])
def test_the_attack_raises_its_own_term_inside_the_ball(attacked):
    method, classifier = made(attacked=attacked, steps=8)
    images, labels = batch()
    classifier.eval()
    moved = method.attack(classifier, images, labels)
    assert float((moved - images).abs().max()) <= 51.0 + 1e-3
    assert 0.0 <= float(moved.min()) <= float(moved.max()) <= 255.0
    anywhere = (images + 51.0 * torch.randn(images.shape).sign()).clamp(0.0, 255.0)
    parts = (by_hand(classifier, images, part, labels, attacked == "kl")["moved"] for part in (anywhere, moved))
    by_chance, found = (float(part.detach()) for part in parts)
    assert found > by_chance + 0.002


def test_the_head_has_no_say_in_the_prediction():
    _, classifier = made()
    images, _ = batch()
    before = classifier.eval()(images)
    with torch.no_grad():
        classifier.net.head[0].weight.fill_(100.0)
    assert torch.equal(classifier(images), before)
    assert torch.equal(before, Classifier(classifier.net.net, SCALED).eval()(images))


def test_a_net_without_a_linear_layer_is_refused():
    with pytest.raises(BenchError, match="no linear layer"):
        make_method("dial", {}).transform(nn.Sequential(nn.Conv2d(1, 4, 6)), (1, 6, 6), 4, torch.Generator())

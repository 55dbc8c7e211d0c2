"""cifs: the weights of channels against those that automatic differentiation of a probe gives, and the joint loss."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.training.methods.base import make_method
from bangbench.training.methods.cifs import ChannelSelection

CLASSES = 4


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def made(**settings):
    method = make_method("cifs", {"budget": 0.2, "step": 0.1, "steps": 2} | settings)
    layers = OrderedDict(conv=nn.Conv2d(1, 5, 3), tanh=nn.Tanh(), flat=nn.Flatten(), linear=nn.Linear(80, CLASSES))
    net = method.transform(nn.Sequential(layers), (1, 6, 6), CLASSES, torch.Generator())
    return method, Classifier(net, Preprocessing(input_scale=256.0)).train()


def batch(count: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 1, 6, 6), generator=generator).float(), torch.arange(count) % CLASSES


def weighed(probe: nn.Linear, features: Tensor, first: Tensor | None) -> Tensor:
    """Return features times their importance: the softmax of d(g_first + g_2nd)/d(pooled), 1 on average."""
    held = features.detach().requires_grad_(True)
    told = probe(held.mean((2, 3)))
    ranked = told.argsort(1, descending=True)
    first = ranked[:, 0] if first is None else first
    chosen = (told.gather(1, first[:, None]) + told.gather(1, ranked[:, 1:2])).sum()
    (gradient,) = torch.autograd.grad(chosen, held, create_graph=True)
    mask = gradient.sum((2, 3)).softmax(1) * features.shape[1]
    return features * mask[:, :, None, None]


@pytest.mark.parametrize("labelled", [True, False])
def test_channels_are_weighed_by_what_moves_the_probe(labelled):
    selection = ChannelSelection(5, CLASSES).train(labelled)
    with torch.no_grad():
        selection.probe.weight.mul_(3.0)
    features, labels = torch.randn(7, 5, 4, 4, requires_grad=True), torch.arange(7) % CLASSES
    selection.labels = labels
    found = selection(features)
    expected = weighed(selection.probe, features, labels if labelled else None)
    torch.testing.assert_close(found, expected)
    toward = torch.randn(found.shape)
    wanted = (features, selection.probe.weight)
    for one, other in zip(
        torch.autograd.grad((found * toward).sum(), wanted),
        torch.autograd.grad((expected * toward).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
        assert float(one.abs().max()) > 0.01


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_the_loss_is_the_joint_one_of_net_and_probe(beta):
    method, classifier = made(beta=beta)
    images, labels = batch()
    objective = method.loss_on(classifier, images.flip(0), images, labels)
    net, probe = classifier.net, classifier.net.flat[0].probe
    features = net.tanh(net.conv(images / 256.0))
    logits = net.linear(weighed(probe, features, labels).flatten(1))
    told = probe(features.mean((2, 3)))
    expected = 3.0 / (beta + 1.0) * (cross_entropy(logits, labels) + beta * cross_entropy(told, labels))
    torch.testing.assert_close(objective.loss, expected)
    torch.testing.assert_close(objective.logits, logits)


def test_the_attack_raises_the_joint_loss_without_the_labels_channels():
    method, classifier = made(steps=6)
    images, labels = batch()  # no multiple of 8: in eval mode a classifier fills the batch up
    classifier.eval()
    moved = method.attack(classifier, images, labels)
    assert float((moved - images).abs().max()) <= 51.0 + 1e-3
    assert 0.0 <= float(moved.min()) <= float(moved.max()) <= 255.0

    def joint(part: Tensor) -> float:
        told = classifier.net.flat[0].probe(classifier.net.tanh(classifier.net.conv(part / 256.0)).mean((2, 3)))
        return float((cross_entropy(classifier(part), labels) + 2.0 * cross_entropy(told, labels)).detach())

    assert joint(moved) > joint(images) + 0.1


def test_a_label_of_training_is_forgotten_afterwards():
    method, classifier = made()
    images, labels = batch()
    before = classifier(images)
    method.objective(classifier, images, labels)
    assert torch.equal(classifier(images), before)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((nn.Conv2d(1, 4, 6),), r"no nn\.Flatten"),
        ((nn.Unflatten(1, (1, 1)), nn.Flatten()), "feature maps"),
    ],
)
def test_a_net_without_feature_maps_to_weigh_is_refused(layers, message):
    with pytest.raises(BenchError, match=message):
        make_method("cifs", {}).transform(nn.Sequential(*layers), (1, 6, 6), 4, torch.Generator())

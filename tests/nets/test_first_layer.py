"""The fast gradient of a grey image through a net's first convolution, against autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bangbench.nets import gradients
from bangbench.nets.classifier import Classifier
from bangbench.nets.first_layer import quick_image_gradients
from bangbench.nets.gradients import image_gradient, margin
from bangbench.store.records import Preprocessing
from bangbench.training.methods.bang import Bang, BangSettings


def net_of(padding=0, channels=1, kernel=5, bias=True, **options):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = nn.Conv2d(channels, 6, kernel, padding=padding, bias=bias, **options)
        return nn.Sequential(first, nn.MaxPool2d(2, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


def classifier_of(net, channels=1, channels_last=False):
    net(torch.zeros(1, channels, 12, 13))
    return Classifier(net, Preprocessing(), channels_last=channels_last).eval().requires_grad_(False)


def images_of(channels=1, count=9):
    return torch.randint(0, 256, (count, channels, 12, 13), generator=torch.Generator().manual_seed(1)).float()


def gradient_of(classifier, images, labels, quick, monkeypatch):
    with monkeypatch.context() as patch:
        if not quick:
            patch.setattr(gradients, "quick_image_gradients", lambda *_: torch.enable_grad())
        return image_gradient(classifier, images, lambda logits: margin(logits, labels))


@pytest.fixture
def backward_calls(monkeypatch):
    """Count how often the fast way is taken."""
    calls = []
    from bangbench.nets import first_layer

    real = first_layer._add_windows
    monkeypatch.setattr(first_layer, "_add_windows", lambda *given: calls.append(1) or real(*given))
    return calls


@pytest.mark.exact
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"padding": 2}, {"padding": (0, 3), "kernel": (3, 4), "bias": False}], ids=str
)
def test_logits_are_the_same_bits_and_gradients_those_of_float64(settings, channels_last, monkeypatch, backward_calls):
    classifier, images = classifier_of(net_of(**settings), channels_last=channels_last), images_of()
    labels = classifier(images).argmax(1)
    fast, logits = gradient_of(classifier, images, labels, True, monkeypatch)
    assert backward_calls
    slow, expected = gradient_of(classifier, images, labels, False, monkeypatch)
    assert logits.equal(expected)
    double = copy.deepcopy(classifier).double()
    exact, _ = gradient_of(double, images.double(), labels, False, monkeypatch)
    scale = exact.abs().max()
    assert (fast.double() - exact).abs().max() <= 1e-6 * scale
    assert (slow.double() - exact).abs().max() <= 1e-6 * scale  # as exact as autograd


@pytest.mark.exact
def test_an_image_s_gradient_does_not_depend_on_the_batch(monkeypatch):
    classifier, images = classifier_of(net_of(padding=1)), images_of(count=24)
    labels = classifier(images).argmax(1)
    whole, _ = gradient_of(classifier, images, labels, True, monkeypatch)
    for size in (1, 2, 5, 8, 17):
        parts = zip(images.split(size), labels.split(size), strict=True)
        again = torch.cat([gradient_of(classifier, *part, True, monkeypatch)[0] for part in parts])
        assert again.equal(whole)


@pytest.mark.parametrize(
    ("channels", "options"), [(1, {"stride": 2}), (1, {"dilation": 2}), (3, {}), (1, {"padding_mode": "reflect"})]
)
def test_other_first_layers_are_left_to_autograd(channels, options, monkeypatch, backward_calls):
    classifier, images = classifier_of(net_of(channels=channels, padding=1, **options), channels), images_of(channels)
    labels = classifier(images).argmax(1)
    fast, _ = gradient_of(classifier, images, labels, True, monkeypatch)
    assert not backward_calls
    assert fast.equal(gradient_of(classifier, images, labels, False, monkeypatch)[0])


def test_the_weights_own_gradients_are_as_ever_after_an_image_s_gradient():
    classifier, images = classifier_of(net_of()).requires_grad_(True), images_of()
    labels = torch.zeros(len(images), dtype=torch.int64)
    image_gradient(classifier, images, lambda logits: margin(logits, labels))
    assert all(parameter.grad is None for parameter in classifier.parameters())
    margin(classifier(images), labels).sum().backward()
    assert classifier.net[0].weight.grad.abs().max() > 0


def test_a_layer_that_a_method_has_changed_is_left_alone():
    classifier = classifier_of(net_of()).requires_grad_(True)
    method = Bang(BangSettings())
    method.prepare(classifier)
    changed = classifier.net[0].forward
    with quick_image_gradients(classifier.net, images_of()):
        assert classifier.net[0].forward is changed
    method.release(classifier)
    with quick_image_gradients(classifier.net, images_of()):
        assert "forward" in classifier.net[0].__dict__
    assert "forward" not in classifier.net[0].__dict__


def test_a_gradient_that_is_differentiated_itself_is_left_to_autograd():
    layer = nn.Conv2d(1, 6, 5, padding=2).requires_grad_(False)
    net = nn.Sequential(layer)

    def curvature(quick):
        images = (images_of() / 255).requires_grad_()
        with quick_image_gradients(net, images) if quick else torch.enable_grad():
            slope = torch.autograd.grad(net(images).pow(3).sum(), images, create_graph=True)[0]
            return torch.autograd.grad(slope.pow(2).sum(), images)[0]

    torch.testing.assert_close(curvature(True), curvature(False))

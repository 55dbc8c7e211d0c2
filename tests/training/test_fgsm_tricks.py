"""fgsm-tricks: mask, step, smooth layers and the first layer's penalty."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bangbench.training.methods.base import RunView, make_method


def begun(settings, images, seed: int = 0):
    method = make_method("fgsm-tricks", {"warmup": 0} | settings)
    method.begin_run(RunView(None, images.to(torch.uint8), None, seed, 1, 1, None))
    return method


def test_the_step_begins_at_the_image_whose_pixels_are_partly_hidden(shown, smooth, few, same_gradients):
    classifier, (images, labels) = smooth(), few
    passes = shown(classifier)
    found = begun({"budget": 0.1, "first_layer": 0.5}, images).objective(classifier, images, labels)
    moved = passes[0]
    hidden = (moved <= 25.5).all(0)[0]
    assert 0.2 < float(hidden.double().mean()) < 0.6
    masked = (images * ~hidden).requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(classifier(masked), labels), masked)
    expected = (masked.detach() + 25.5 * gradient.sign()).clamp(0.0, 255.0)
    torch.testing.assert_close(moved, expected)
    penalty = 0.5 * classifier.net[0].weight.abs().sum() / 27
    same_gradients(classifier, found.loss, cross_entropy(classifier(expected), labels) + penalty)


def test_the_mask_is_the_runs_own_and_the_same_when_it_goes_on(shown, smooth, few):
    classifier, (images, labels) = smooth(), few
    passes = shown(classifier)
    for seed in (1, 1, 2):
        begun({"seen": 0.5}, images, seed).objective(classifier, images, labels)
    assert torch.equal(passes[0], passes[1])
    assert not torch.equal(passes[0], passes[2])


def test_without_tricks_it_is_fgs_at_on_attacked_images(smooth, few):
    classifier, (images, labels) = smooth(), few
    before = images.clone()
    bare = begun({"seen": 1.0, "first_layer": 0.0, "smooth": False}, images)
    twin = make_method("fgs-at", {"clean": 0.0})
    assert torch.equal(bare.objective(classifier, images, labels).loss, twin.objective(classifier, images, labels).loss)
    assert torch.equal(images, before)


def test_the_budget_grows(shown, smooth, few):
    classifier, (images, labels) = smooth(), few
    passes = shown(classifier)
    method = begun({"seen": 1.0, "warmup": 4}, images)
    for iteration in (0, 3):
        method.begin_step(iteration)
        method.objective(classifier, images, labels)
    assert [float((moved - images).abs().max()) for moved in passes] == pytest.approx([76.5 / 4, 76.5])


def test_every_relu_becomes_smooth_however_deep():
    def net():
        return nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Sequential(nn.ReLU(inplace=True), nn.Tanh()))

    given = net(), (1, 6, 6), 4, torch.Generator()
    smooth = make_method("fgsm-tricks", {}).transform(*given)
    assert [type(layer).__name__ for layer in smooth.modules() if not any(layer.children())] == [
        "Linear",
        "SiLU",
        "SiLU",
        "Tanh",
    ]
    left = make_method("fgsm-tricks", {"smooth": False}).transform(net(), *given[1:])
    assert sum(isinstance(layer, nn.ReLU) for layer in left.modules()) == 2


def test_a_net_without_anything_to_smooth_is_named(smooth):
    method = make_method("fgsm-tricks", {})
    assert "found no torch.nn.ReLU" in method.warnings(smooth())[0]
    assert method.warnings(smooth(smooth=nn.SiLU(), head=nn.Linear(20, 4))) == ()

"""j-sigr: both penalties against the formula, image by image."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from bangbench.training.methods.base import make_method
from bangbench.training.methods.j_sigr import most_salient


def test_without_weights_it_is_regular_training(smooth, few):
    classifier, (images, labels) = smooth(), few
    found = make_method("j-sigr", {"jacobian": 0.0, "selective": 0.0}).objective(classifier, images, labels)
    torch.testing.assert_close(found.loss, cross_entropy(classifier(images), labels), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(("weights", "salient"), [((0.2, 0.0), 0.3), ((0.0, 0.7), 0.3), ((0.2, 0.7), 0.5)])
def test_the_loss_is_the_formula(smooth, few, same_gradients, weights, salient):
    classifier, (images, labels) = smooth(), few
    settings = {"jacobian": weights[0], "selective": weights[1], "salient": salient, "projections": 0}
    found = make_method("j-sigr", settings).objective(classifier, images, labels)
    expected, hidden = torch.zeros((), dtype=torch.float64), round((1.0 - salient) * 36)
    for image, label in zip(images, labels, strict=True):
        pixels = (image / 255.0).requires_grad_()
        logits = classifier(255.0 * pixels[None])[0]
        loss = cross_entropy(logits, label)
        (gradient,) = torch.autograd.grad(loss, pixels, create_graph=True)
        smallest = gradient.flatten()[gradient.abs().flatten().argsort()[:hidden]]
        norm = sum((torch.autograd.grad(logit, pixels, create_graph=True)[0] ** 2).sum() for logit in logits)
        expected = expected + loss + weights[0] * norm + weights[1] * (smallest**2).sum()
    same_gradients(classifier, found.loss, expected / len(images))


def test_the_most_salient_pixels_are_a_share_of_each_images():
    gradient = torch.tensor([[[[0.0, -9.0], [1.0, 2.0]]], [[[30.0, 10.0], [-40.0, 20.0]]]])
    assert most_salient(gradient, 0.5).tolist() == [[[[False, True], [False, True]]], [[[True, False], [True, False]]]]
    assert not most_salient(gradient, 0.0).any()
    assert most_salient(gradient, 1.0).all()

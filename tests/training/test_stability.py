"""stability: its loss against the formula, image by image."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from bangbench.training.methods.base import make_method


def test_without_weight_it_is_regular_training(smooth, few):
    classifier, (images, labels) = smooth(), few
    found = make_method("stability", {"alpha": 0.0}).objective(classifier, images, labels)
    assert torch.equal(found.loss, cross_entropy(classifier(images), labels))
    assert torch.equal(found.logits, classifier(images))


@pytest.mark.parametrize(("alpha", "sigma"), [(0.01, 0.05), (1.0, 0.3)])
def test_the_loss_is_that_of_the_paper(smooth, few, same_gradients, alpha, sigma):
    classifier, (images, labels) = smooth(), few
    torch.manual_seed(7)
    found = make_method("stability", {"alpha": alpha, "sigma": sigma}).objective(classifier, images, labels)
    torch.manual_seed(7)
    noisy = images + 255.0 * sigma * torch.randn_like(images)
    expected = torch.zeros((), dtype=torch.float64)
    for clean, moved, label in zip(images, noisy, labels, strict=True):
        clean_chances = torch.softmax(classifier(clean[None])[0], 0)
        moved_chances = torch.softmax(classifier(moved[None])[0], 0)
        expected = expected - clean_chances[label].log() - alpha * (clean_chances * moved_chances.log()).sum()
    same_gradients(classifier, found.loss, expected / len(images))
    assert torch.equal(found.logits, classifier(images))

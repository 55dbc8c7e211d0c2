"""local-balls: where its images lie, and its loss against the formula, image by image."""

from __future__ import annotations

import pytest
import torch

from bangbench.training.methods.base import make_method

BUDGET, RADIUS = 0.2, 0.1


def attack_of(shown, smooth, few, **settings):
    classifier, (images, labels) = smooth(), few
    passes = shown(classifier)
    method = make_method("local-balls", {"budget": BUDGET, "step": 0.1, "radius": RADIUS, "warmup": 4} | settings)
    return classifier, method, passes, images, labels


def test_without_weights_it_is_adversarial_training(shown, smooth, few):
    weights = {"local_weight": 0.0, "global_weight": 0.0}
    classifier, method, passes, images, labels = attack_of(shown, smooth, few, **weights)
    twin = make_method("pgd-at", {"budget": BUDGET, "step": 0.1, "steps": 2})
    losses = []
    for each in (method, twin):
        torch.manual_seed(6)
        losses.append(each.objective(classifier, images, labels).loss)
    assert torch.equal(*losses)
    assert len(passes) == 2


@pytest.mark.parametrize(("iteration", "share"), [(0, 0.25), (9, 1.0)])
def test_images_lie_in_their_balls_and_in_the_range(shown, smooth, few, iteration, share):
    classifier, method, passes, images, labels = attack_of(shown, smooth, few)
    method.begin_step(iteration)
    method.objective(classifier, images, labels)
    attacked, close, clean = passes
    assert torch.equal(clean, images)
    for moved in (attacked, close):
        assert 0.0 <= float(moved.min()) <= float(moved.max()) <= 255.0
        assert float((moved - images).abs().max()) == pytest.approx(255 * BUDGET * share)
    small = (close - attacked).abs()
    assert 0.9 * 255 * RADIUS * share < float(small.max()) <= 255 * RADIUS * share
    assert float(small.min()) == 0.0, "what would leave the budget's ball stays at its edge"


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (0.3, 6.0)])
def test_the_loss_is_the_formula(shown, smooth, few, same_gradients, weights):
    of = {"local_weight": weights[0], "global_weight": weights[1]}
    classifier, method, passes, images, labels = attack_of(shown, smooth, few, **of)
    found = method.objective(classifier, images, labels)
    attacked, close = passes[0], passes[1] if weights[0] else passes[0]
    expected = torch.zeros((), dtype=torch.float64)
    for row, label in enumerate(labels):
        chances = [torch.softmax(classifier(each[row : row + 1])[0], 0) for each in (images, attacked, close)]
        clean, moved, local = chances
        expected = expected - moved[label].log() + weights[0] * (moved * (moved / local).log()).sum()
        expected = expected + weights[1] * (clean * (clean / moved).log()).sum()
    same_gradients(classifier, found.loss, expected / len(images))
    torch.testing.assert_close(found.logits, classifier(attacked))

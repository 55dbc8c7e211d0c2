"""hc-at: the pool that it makes, what it draws from it, and that it goes on with it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bangbench.attacks.base import Means, make_attack
from bangbench.training.methods.base import RunView, make_method
from bangbench.training.methods.hc_at import across_the_boundary


def trained(smooth, few):
    """Return a classifier that answers most of the images as their labels say, in eval mode."""
    classifier, (images, labels) = smooth(dropout=nn.Dropout(0.2), head=nn.Linear(20, 4)).float(), few
    optimizer = torch.optim.Adam(classifier.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(classifier(images.float()), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return classifier.eval()


def begun(few, **settings):
    method = make_method("hc-at", {"pool": 8, "refresh": 5} | settings)
    method.begin_run(RunView(None, few[0].to(torch.uint8), few[1], 0, 1, 1, None))
    return method


@pytest.mark.parametrize("offset", [0.0, -20.0])  # with all logits below 0 the direction as published leads back
def test_images_are_found_where_the_attack_finds_them(smooth, few, offset):
    classifier, (images, labels) = trained(smooth, few), (few[0].float(), few[1].clone())
    with torch.no_grad():
        classifier.net.head.bias.add_(offset)
    labels[0] = (labels[0] + 1) % 4
    found, moved = across_the_boundary(classifier, images, labels)
    answers = classifier(images).argmax(1)
    assert torch.equal(moved, moved.round().clamp(0.0, 255.0))
    assert bool((classifier(moved).argmax(1) != labels)[found].all())
    assert not found[0]
    assert torch.equal(moved[~found], images[~found])
    right = answers == labels
    attack = make_attack("hc1-unmasked").run(classifier, images, labels, Means(torch.Generator(), 10))
    assert torch.equal(found & right, attack.found & right)
    assert int(found.sum()) >= 7
    # the attack looks at every grey level: what is found here may lie behind another crossing, never before the first
    ours, theirs = ((each.float() - images).abs().amax((1, 2, 3))[found] for each in (moved, attack.adversarial))
    assert bool((ours >= theirs - 1.0).all())
    assert float((ours / theirs).median()) < 1.1


def test_before_the_first_pool_it_is_regular_training(smooth, few):
    classifier, (images, labels) = trained(smooth, few), (few[0].float(), few[1])
    method = begun(few)
    for iteration in (0, 4):
        method.begin_step(iteration)
        found = method.objective(classifier, images, labels)
        assert torch.equal(found.loss, cross_entropy(classifier(images), labels))


def test_it_trains_on_as_many_images_a_little_beyond_the_boundary(smooth, few, shown):
    classifier, (images, labels) = trained(smooth, few), (few[0].float(), few[1])
    images, labels = images.repeat(5, 1, 1, 1), labels.repeat(5)
    method = begun(few)
    method.begin_step(5)
    classifier.train()
    passes = shown(classifier)
    found = method.objective(classifier, images, labels)
    assert classifier.training
    assert all(value.grad is None for value in classifier.parameters())
    (both,) = passes
    assert torch.equal(both[:50], images)
    assert torch.equal(found.labels[:50], labels)
    torch.testing.assert_close(found.loss, cross_entropy(found.logits, found.labels))
    state = method.state()
    assert 5 <= len(state["rows"]) == len(state["rows"].unique()) <= 8
    stretches = set()
    for moved, label in zip(both[50:], found.labels[50:], strict=True):
        fits = [
            (row, share)
            for row, far in zip(state["rows"].tolist(), state["moved"], strict=True)
            for share in (1.0, 1.05, 1.1)
            for near in (few[0][row].float(),)
            if torch.allclose(moved, (near + share * (far - near)).clamp(0.0, 255.0), atol=1e-3)
        ]
        assert fits
        assert int(label) == int(few[1][fits[0][0]])
        stretches.add(fits[-1])
    assert {share for _, share in stretches} == {1.0, 1.05, 1.1}
    assert len({row for row, _ in stretches}) >= 4


def test_the_pool_is_made_anew_only_when_due_and_is_its_state(smooth, few):
    classifier, images = trained(smooth, few), few[0].float()
    method, other = begun(few), begun(few)
    torch.manual_seed(0)
    pools = []
    for iteration in (5, 6, 10):
        method.begin_step(iteration)
        method.objective(classifier, images, few[1])
        pools.append(method.state()["rows"])
    assert torch.equal(pools[0], pools[1])
    assert not torch.equal(pools[0], pools[2])
    other.load_state(method.state())
    losses = []
    for each in (method, other):
        torch.manual_seed(1)
        each.begin_step(11)
        losses.append(each.objective(classifier, images, few[1]).loss)
    assert torch.equal(*losses)


def test_a_net_that_nothing_moves_is_trained_regularly(smooth, few):
    classifier, (images, labels) = smooth().float(), (few[0].float(), few[1])
    with torch.no_grad():
        classifier.net.head.weight.zero_()
    method = begun(few)
    method.begin_step(5)
    assert torch.equal(method.objective(classifier, images, labels).loss, cross_entropy(classifier(images), labels))

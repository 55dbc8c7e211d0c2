"""free-at: weights and noise of a few steps against the loop as one would write it down."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from bangbench.training.methods.base import make_method

RATE = 0.05


def step(method, classifier, images, labels, iteration: int):
    """Do one solver step of plain gradient descent."""
    method.begin_step(iteration)
    objective = method.objective(classifier, images, labels)
    objective.loss.backward()
    method.after_backward(classifier)
    with torch.no_grad():
        for value in classifier.parameters():
            value.sub_(RATE * value.grad)
            value.grad = None
    return objective


def test_each_batch_is_trained_on_several_times_and_the_noise_goes_on(smooth, few):
    (images, labels), replays, radius = few, 3, 25.5
    batches = [(images.roll(turn, 0), (labels + turn) % 4) for turn in range(7)]
    found, plain = smooth(), smooth()
    method = make_method("free-at", {"budget": 0.1, "replays": replays, "warmup": 0})
    noise = torch.zeros_like(images)
    for iteration in range(7):
        objective = step(method, found, *batches[iteration], iteration)
        held_images, held_labels = batches[iteration - iteration % replays]
        assert torch.equal(objective.labels, held_labels)
        moved = (held_images + noise).clamp(0.0, 255.0).requires_grad_()
        assert (moved - held_images).abs().max().item() <= radius
        loss = cross_entropy(plain(moved), held_labels)
        torch.testing.assert_close(objective.loss, loss, rtol=1e-9, atol=0.0)
        gradients = torch.autograd.grad(loss, [moved, *plain.parameters()])
        noise = (noise + radius * gradients[0].sign()).clamp(-radius, radius)
        with torch.no_grad():
            for value, gradient in zip(plain.parameters(), gradients[1:], strict=True):
                value.sub_(RATE * gradient)
        assert torch.equal(method.state()["noise"], noise)
    for one, other in zip(found.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_noise_at_the_end_of_the_range_can_turn(smooth, few):
    classifier, images = smooth(), torch.zeros_like(few[0])
    method = make_method("free-at", {"budget": 0.1, "warmup": 0})
    step(method, classifier, images, few[1], 0)
    below = method.state()["noise"] < 0.0
    with torch.no_grad():
        for value in classifier.parameters():
            value.neg_()
    step(method, classifier, images, few[1], 1)
    assert bool((below & (method.state()["noise"] >= 0.0)).any())


def test_noise_keeps_inside_a_budget_that_grows(smooth, few):
    method, classifier = make_method("free-at", {"budget": 0.2, "warmup": 4}), smooth()
    sizes = []
    for iteration in range(6):
        step(method, classifier, *few, iteration)
        sizes.append(float(method.state()["noise"].abs().max()))
    assert sizes[:1] + sizes[-1:] == pytest.approx([51.0 / 4, 51.0])
    assert all(size <= 51.0 * min(1.0, (turn + 1) / 4) + 1e-9 for turn, size in enumerate(sizes))


def test_it_goes_on_from_its_state(smooth, few):
    images, labels = few
    method, classifier = make_method("free-at", {"replays": 4, "warmup": 0}), smooth()
    for iteration in range(2):
        step(method, classifier, images, labels, iteration)
    other, twin = make_method("free-at", {"replays": 4, "warmup": 0}), copy.deepcopy(classifier)
    other.load_state(method.state())
    for each, net in ((method, classifier), (other, twin)):
        step(each, net, images.flip(0), labels.flip(0), 2)
    assert torch.equal(method.state()["noise"], other.state()["noise"])
    assert torch.equal(other.state()["images"], images)

"""tisode: how far its features move around t = 1, and the noise of its images, against the formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.training.methods.base import Method, make_method

SCALED = Preprocessing(input_scale=255.0)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def made(**settings) -> tuple[Method, Classifier]:
    method = make_method("tisode", settings)
    net = method.transform(nn.Linear(1, 1), (1, 9, 9), 4, torch.Generator())
    return method, Classifier(net, SCALED).train()


def batch() -> tuple[Tensor, Tensor]:
    return torch.randint(256, (6, 1, 9, 9), generator=torch.Generator().manual_seed(1)).float(), torch.arange(6) % 4


def followed(net: nn.Sequential, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits, and the integral of |f| over [0.75, 1.05], the mean over its entries."""
    state = net[:6](images / 255.0)
    integral, time = torch.zeros_like(state), 0.0
    while time < 1.049:
        change = net.block.dynamics(state)
        if time > 0.749:
            integral = integral + 0.05 * change.abs()
        state, time = state + 0.05 * change, time + 0.05
        if abs(time - 1.0) < 0.001:
            logits = net[7:](state)
    return logits, integral.mean()


@pytest.mark.parametrize(("weight", "iteration", "counts"), [(0.5, 20, True), (0.5, 19, False), (0.0, 99, False)])
def test_the_loss_adds_the_features_movement_after_the_first_part_of_the_run(weight, iteration, counts):
    method, classifier = made(weight=weight, begin=0.2, noisy=0.0)
    method._iterations = 100
    method.begin_step(iteration)
    images, labels = batch()
    objective = method.objective(classifier, images, labels)
    logits, moved = followed(classifier.net, images)
    assert float(moved.detach()) > 0.01
    expected = cross_entropy(logits, labels) + weight * counts * moved
    torch.testing.assert_close(objective.loss, expected)
    torch.testing.assert_close(objective.logits, logits)
    weights = classifier.net.block.dynamics.conv1.weight
    (found,), (wanted,) = (torch.autograd.grad(loss, weights) for loss in (objective.loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_it_predicts_what_it_is_trained_for():
    _, classifier = made()
    images, _ = batch()
    torch.testing.assert_close(classifier.eval()(images), followed(classifier.net, images)[0])


def test_half_of_the_images_get_noise_of_one_of_three_sizes():
    method, _ = made()
    grey = torch.full((600, 1, 30, 30), 127.5)
    noisy = method.with_noise(grey)
    assert 0.0 <= float(noisy.min()) <= float(noisy.max()) <= 255.0
    spread = (noisy - grey).flatten(1).std(1)
    counts = [int(((low < spread) & (spread <= high)).sum()) for low, high in ((-1, 0), (40, 58), (58, 73), (73, 95))]
    assert sum(counts) == 600  # clipping makes 75 and 100 grey levels smaller
    assert counts[0] == pytest.approx(300, abs=50)
    assert all(count == pytest.approx(100, abs=40) for count in counts[1:])


def test_without_noise_images_stay_as_they_are():
    images, _ = batch()
    assert torch.equal(made(noisy=0.0)[0].with_noise(images), images)

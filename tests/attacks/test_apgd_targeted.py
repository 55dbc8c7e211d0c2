"""The targeted Auto-PGD: which classes it aims at, in which order, and how often."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.attacks.apgd import ApgdTargeted, TargetedSettings, apgd, apgd_targeted, closest_classes
from bangbench.attacks.ball import Ball
from bangbench.attacks.base import Means

pytestmark = pytest.mark.exact


def means(seed=0, batch_size=64):
    return Means(torch.Generator().manual_seed(seed), batch_size)


def random_rows(classes, seed):
    """Weights whose rows differ in size, so that the class with the largest logit is rarely the closest."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 9, (classes, 1))
    weight = generator.integers(-8, 9, (classes, 64)) * sizes
    return weight.astype(np.float64), generator.integers(-500, 500, classes).astype(np.float64)


def distances(weight, bias, images, labels):
    """The smallest real L_inf that leads from each image to each class, far from the ends of the range; (N, K)."""
    logits = images.reshape(len(images), -1) @ weight.T + bias
    norms = np.abs(weight[None] - weight[labels][:, None]).sum(2)
    gaps = logits[np.arange(len(labels)), labels][:, None] - logits
    with np.errstate(invalid="ignore"):
        return np.where(np.arange(len(weight)) == labels[:, None], np.inf, gaps / norms), logits


@pytest.mark.parametrize(("classes", "count"), [(5, 9), (5, 2), (4, 1), (12, 4)])
def test_on_a_linear_net_the_targets_are_the_classes_that_are_reached_first(tools, classes, count):
    weight, bias = random_rows(classes, 3)
    ball = tools.grey_ball(tools.linear(weight, bias), 40, 8)
    expected, logits = distances(weight, bias, ball.images.double().numpy(), ball.labels.numpy())
    closest, forwards = closest_classes(tools.linear(weight, bias), ball, count, 7)
    wanted = min(count, classes - 1)
    assert closest.tolist() == expected.argsort(1)[:, :wanted].tolist()
    by_logit = np.where(np.isinf(expected), -np.inf, logits).argsort(1)[:, ::-1]
    assert (closest[:, 0].numpy() != by_logit[:, 0]).any()
    assert forwards == 40 * (1 + min(3 * count, classes - 1))


def test_the_classes_whose_distance_is_asked_for_are_those_with_the_largest_logits(tools):
    weight, bias = random_rows(12, 5)
    ball = tools.grey_ball(tools.linear(weight, bias), 40, 8)
    expected, logits = distances(weight, bias, ball.images.double().numpy(), ball.labels.numpy())
    closest, _ = closest_classes(tools.linear(weight, bias), ball, 1, 64)
    leading = np.where(np.isinf(expected), -np.inf, logits).argsort(1)[:, -3:]
    among = np.take_along_axis(leading, np.take_along_axis(expected, leading, 1).argsort(1), 1)
    assert closest[:, 0].tolist() == among[:, 0].tolist()
    assert (among[:, 0] != expected.argmin(1)).any()


class Constant(nn.Module):
    """The same logits for every image and no gradient."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images):
        return self.logits + 0.0 * images.flatten(1).sum(1, keepdim=True)


def test_without_gradients_the_logits_alone_decide(tools):
    ball = Ball(torch.full((3, 1, 2, 2), 9.0), torch.tensor([2, 2, 2]), 5)
    closest, _ = closest_classes(tools.wrap(Constant([1.0, 4.0, 9.0, 3.0, 8.0])), ball, 9, 64)
    assert closest.tolist() == [[4, 1, 3, 0]] * 3
    closest, _ = closest_classes(tools.wrap(Constant([1.0, 4.0, 9.0, torch.nan, -8.0])), ball, 9, 64)
    assert sorted(closest[0].tolist()) == [0, 1, 3, 4]


def two_ways_out(tools):
    """Class 1 is next but out of reach; class 2 is far behind and soon reached, by other pixels; images of class 0."""
    weight = np.zeros((5, 64))
    weight[1, :32], weight[2, 32:] = 1.0, 16.0
    bias = np.array([0.0, -32 * 128 - 800.0, -16 * 32 * 128 - 2000.0, -9e3, -9e3])
    images = torch.full((6, 1, 8, 8), 128.0)
    return tools.linear(weight, bias), Ball(images, torch.zeros(6, dtype=torch.int64), 10)


def test_a_class_that_the_untargeted_attack_passes_by_is_found(tools):
    classifier, ball = two_ways_out(tools)
    assert not apgd(classifier, ball, means()).found.any()
    # the closest class is the first target, though its logit is not the second largest
    result = apgd_targeted(classifier, ball, means(), TargetedSettings(targets=1, iterations=10))
    assert result.found.all()
    assert (classifier(result.adversarial).argmax(1) == 2).all()
    tools.assert_allowed(result, ball, classifier)


@pytest.mark.parametrize(("classes", "targets", "restarts"), [(5, 9, 1), (5, 2, 2), (3, 9, 1), (2, 1, 3)])
def test_every_target_is_climbed_from_every_start(tools, classes, targets, restarts):
    classifier, seen = tools.watched(Constant([float(-number) for number in range(classes)]))
    ball = Ball(torch.full((4, 1, 2, 2), 100.0), torch.zeros(4, dtype=torch.int64), 8)
    settings = TargetedSettings(iterations=5, targets=targets, restarts=restarts)
    result = ApgdTargeted(settings).find(classifier, ball, means())
    tried = min(targets, classes - 1)
    candidates = min(3 * targets, classes - 1)
    assert not result.found.any()
    assert result.forwards == 4 * (1 + 1 + candidates + restarts * tried * (1 + 5)) == sum(map(len, seen))
    starts = seen[2 + candidates :: 6]
    assert len(starts) == restarts * tried
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(starts))


def test_what_is_flipped_on_the_way_to_one_target_is_not_tried_with_the_next(tools):
    classifier, ball = two_ways_out(tools)
    images = ball.images.clone()
    images[::2, :, :4] -= 60.0  # nothing that class 2 looks at
    images[::2, :, 4:] -= 20.0
    one, all_ = (
        apgd_targeted(classifier, ball._replace(images=images), means(), TargetedSettings(targets=count, iterations=8))
        for count in (1, 4)
    )
    assert one.found.tolist() == all_.found.tolist() == [False, True] * 3
    assert torch.equal(one.adversarial[one.found], all_.adversarial[one.found])
    assert all_.forwards == one.forwards + 3 * 3 * (1 + 8) + 6 * (4 - 3)


def test_images_that_are_wrong_already_need_no_target(tools, small_net):
    ball = tools.grey_ball(small_net, 12, 20)
    result = ApgdTargeted().find(small_net, ball._replace(labels=(ball.labels + 1) % 4), means())
    assert result.found.all()
    assert result.forwards == 12

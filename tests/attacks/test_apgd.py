"""Auto-PGD: a twin written from the paper, what it must find and not touch, and ART's verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.attacks.apgd import Apgd, ApgdSettings, apgd, checkpoints
from bangbench.attacks.ball import Ball
from bangbench.attacks.base import Means
from bangbench.attacks.losses import dlr
from bangbench.nets.models import open_model

pytestmark = pytest.mark.exact


class Constant(nn.Module):
    """The same logits for every image: class 0 wins, the gradient is zero."""

    def forward(self, images):
        return torch.tensor([3.0, 1.0, 0.0]) + 0.0 * images.flatten(1).sum(1, keepdim=True)


class PartlyNotANumber(nn.Module):
    """Another net's logits, but no gradient that is a number for images whose first pixel is black."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        broken = (images[:, 0, 0, 0] == 0.0).nonzero().squeeze(1)
        # the derivative of the square root at 0 is infinite, and infinity times 0 is no number
        nothing = torch.sqrt(0.0 * images[broken]).flatten(1).sum(1, keepdim=True)
        return self.net(images).index_add(0, broken, nothing.expand(-1, 4))


class Landscape(nn.Module):
    """Two logits, 0 and a function of an image's only pixel: the margin of class 0; keeps every image seen."""

    def __init__(self, height):
        super().__init__()
        self.height, self.seen = height, []

    def forward(self, images):
        self.seen.append(images.detach().flatten().clone())
        height = self.height(images.flatten())
        return torch.stack([0.0 * height, height], 1)


def peak(pixel):
    """A ridge at 128.4 that no step meets: every sufficiently long step jumps across it."""
    return -1.0 - (pixel - 128.4).abs()


def hills(pixel):
    """Hills on a slope: the loss rises and falls on the way."""
    return -400.0 + pixel + 20.0 * torch.sin(pixel / 3.0)


def slope(pixel):
    """A slope: every step raises the loss."""
    return -1000.0 + pixel


def terrain(values, slopes):
    """Any value and any slope at each of the 256 grey levels."""

    def height(pixel):
        level = pixel.detach().long()
        return values[level] + slopes[level] * (pixel - pixel.detach())

    return height


#: Rough, sloping up and down at random; on the way of some images the step is halved for the second reason alone.
ROUGH = terrain(
    torch.randint(-900, -1, (256,), generator=torch.Generator().manual_seed(29)).float(),
    torch.randint(0, 2, (256,), generator=torch.Generator().manual_seed(30)).mul(2).sub(1).float(),
)
#: A slope that ends where there are no numbers.
ABYSS = terrain(torch.where(torch.arange(256) > 130, torch.nan, torch.arange(256.0) - 500.0), torch.ones(256))


def means(seed=0, batch_size=64):
    return Means(torch.Generator().manual_seed(seed), batch_size)


def pixel_ball(levels, budget):
    return Ball(
        torch.tensor(levels, dtype=torch.float32).view(-1, 1, 1, 1), torch.zeros(len(levels), dtype=torch.int64), budget
    )


def papers_checkpoints(iterations):
    """w_j = ceil(p_j N) as printed in the paper for N = 100: 22, 41, 57, 70, 80, 87, 93, 99."""
    return {math.ceil(share * iterations / 100) for share in (22, 41, 57, 70, 80, 87, 93, 99)} - {iterations}


def slow_twin(height, image, start, budget, iterations):
    """Algorithm 1 of the paper for one pixel, word for word; returns the iterates, and why the step was halved."""
    levels = torch.arange(256.0, requires_grad=True)
    values = height(levels)
    slopes = torch.autograd.grad(values.sum(), levels)[0].sign()
    # a height that is no number gives no direction, and is never the best
    slopes, values = torch.where(values.isnan(), 0.0, slopes).tolist(), values.tolist()

    def project(value):
        return int(np.clip(np.rint(value), max(0, image - budget), min(255, image + budget)))

    points, reasons = [start], []
    best, last_check, rises, step = start, 0, 0, 2.0 * budget
    step_then, best_then = step, values[best]
    previous, current = start, start
    for k in range(1, iterations + 1):
        z = project(current + step * slopes[current])
        alpha = 1.0 if k == 1 else 0.75
        following = project(current + alpha * (z - current) + (1.0 - alpha) * (current - previous))
        rises += values[following] > values[current]
        points.append(following)
        if values[following] > values[best]:
            best = following
        previous, current = current, following
        if k in papers_checkpoints(iterations):
            conditions = (rises < 0.75 * (k - last_check), step == step_then and values[best] == best_then)
            last_check, step_then, best_then, rises = k, step, values[best], 0
            if any(conditions):
                step, current = max(1.0, step / 2.0), best
                reasons.append(conditions)
    return points, reasons


def linear_ball(case, budget):
    """A ball in the middle of the range; each image's smallest real budget, margin / ||w_c - w_y||_1, least over c."""
    images = case.images.astype(np.int64) // 4 + 96
    logits = case.logits(images.astype(np.float64))
    labels = logits.argmax(1)
    norms = np.abs(case.weight[None] - case.weight[labels][:, None]).sum(2)
    wrong = np.arange(len(case.weight)) != labels[:, None]
    drop = logits[np.arange(len(labels)), labels][:, None] - logits
    smallest = np.divide(drop, norms, out=np.full_like(drop, np.inf), where=wrong).min(1)
    return Ball(torch.from_numpy(images).float(), torch.from_numpy(labels), budget), torch.from_numpy(smallest)


@pytest.mark.parametrize("height", [peak, hills, slope, ROUGH, ABYSS])
@pytest.mark.parametrize("iterations", [1, 2, 10, 50])
def test_every_iterate_is_that_of_the_papers_algorithm(tools, height, iterations):
    net, levels = Landscape(height), list(range(0, 256, 3))
    result = apgd(tools.wrap(net), pixel_ball(levels, 40), means(), ApgdSettings(iterations=iterations))
    assert not result.found.any()
    assert result.forwards == len(levels) * (2 + iterations)
    seen = torch.stack([*torch.cat(net.seen).view(2 + iterations, -1)[1:]], 1).long().tolist()
    reasons = set()
    for level, path in zip(levels, seen, strict=True):
        expected, why = slow_twin(height, level, path[0], 40, iterations)
        assert path == expected
        reasons.update(why)
    if height is ROUGH and iterations == 50:
        assert reasons == {(True, False), (False, True), (True, True)}


def test_a_loss_that_zigzags_halves_the_step_down_to_a_grey_level(tools):
    """Until the first checkpoint the iterates jump across the ball, after the last they stay at the ridge."""
    net = Landscape(peak)
    apgd(tools.wrap(net), pixel_ball([120], 64), means())
    path = torch.cat(net.seen[1:])
    jumps = path.diff().abs()
    assert float(jumps[2:11].min()) >= 40.0
    assert float(jumps[-7:].max()) <= 6.0
    assert float((path[-7:] - 128.4).abs().max()) <= 6.0
    _, reasons = slow_twin(peak, 120, int(path[0]), 64, 50)
    assert len(reasons) == 7


def test_the_step_stays_where_it_raises_the_loss(tools):
    """On a slope the first step reaches the end of the ball: no second one has to."""
    net = Landscape(slope)
    apgd(tools.wrap(net), pixel_ball([100], 64), means())
    assert set(torch.cat(net.seen[2:]).tolist()) == {164.0}


def test_each_image_has_a_step_of_its_own(tools):
    """Beside others or alone, an image takes the same way; what flips early leaves."""

    def ridge_and_cliff(pixel):
        return torch.where(pixel > 200.0, 1.0, -1.0 - (pixel - 128.4).abs()) + 0.0 * pixel

    net, ball = Landscape(ridge_and_cliff), pixel_ball([230, 120], 20)
    result = apgd(tools.wrap(net), ball, means())
    assert result.found.tolist() == [True, False]
    assert [len(images) for images in net.seen] == [2] + [1] * 51
    path = [int(images[-1]) for images in net.seen[1:]]
    assert path == slow_twin(ridge_and_cliff, 120, path[0], 20, 50)[0]


def test_checkpoints_are_the_papers():
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(50) == (11, 21, 29, 35, 40, 44, 47)
    assert checkpoints(1) == ()


def test_the_loss_is_the_difference_of_logits_ratio():
    logits = torch.tensor([[5.0, 3.0, 1.0, 0.0], [5.0, 3.0, 1.0, 0.0], [5.0, 3.0, 1.0, 0.0]])
    labels = torch.tensor([0, 1, 3])
    assert dlr(logits, labels).tolist() == [-0.5, 0.5, 1.25]
    assert dlr(logits * 8.0 - 1024.0, labels).tolist() == [-0.5, 0.5, 1.25]


def test_the_ratio_of_equal_logits_is_a_number_and_so_is_its_gradient():
    logits = torch.full((2, 4), 7.0, requires_grad=True)
    loss = dlr(logits, torch.tensor([0, 3]))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.tolist() == [0.0, 0.0]
    assert gradient.isfinite().all()


def test_with_two_classes_the_loss_is_the_margin():
    assert dlr(torch.tensor([[5.0, 3.0]]), torch.tensor([0])).tolist() == [-2.0]


@pytest.mark.parametrize("budget", [12, 14, 18])
def test_a_linear_classifier_flips_exactly_where_the_budget_reaches_the_boundary(two_classes, tools, budget):
    ball, smallest = linear_ball(two_classes, budget)
    classifier = tools.linear(two_classes.weight, two_classes.bias)
    result = Apgd().find(classifier, ball, means())
    assert 0 < int((smallest <= budget).sum()) < len(smallest)
    assert torch.equal(result.found, smallest <= budget)
    tools.assert_allowed(result, ball, classifier)


def test_among_five_classes_the_nearest_boundary_decides(five_classes, tools):
    ball, smallest = linear_ball(five_classes, 4)
    result = apgd(tools.linear(five_classes.weight, five_classes.bias), ball, means())
    assert not result.found[smallest > 4].any()
    assert result.found[smallest < 3].all()
    assert 3 < int(result.found.sum()) < len(ball.labels) - 3


def test_the_batch_size_changes_nothing(tools, small_net):
    ball = tools.grey_ball(small_net, 30, 24)
    settings = ApgdSettings(iterations=15)
    whole, *others = (apgd(small_net, ball, means(batch_size=size), settings) for size in (30, 7, 1))
    assert 5 < int(whole.found.sum()) < 25
    for other in others:
        assert torch.equal(other.found, whole.found)
    tools.assert_allowed(whole, ball, small_net)


def test_what_becomes_of_one_image_changes_no_other(tools, small_net):
    ball = tools.grey_ball(small_net, 30, 24)
    wrong = ball.labels.clone()
    wrong[::2] = (wrong[::2] + 1) % 4
    settings = ApgdSettings(iterations=15, restarts=2)
    alone, beside = (
        apgd(small_net, ball, means(), settings),
        apgd(small_net, ball._replace(labels=wrong), means(), settings),
    )
    assert torch.equal(beside.found[1::2], alone.found[1::2])


def test_an_image_that_is_already_wrong_is_found_as_it_is(tools, small_net):
    ball = tools.grey_ball(small_net, 12, 20)
    result = apgd(small_net, ball._replace(labels=(ball.labels + 1) % 4), means())
    assert result.found.all()
    assert torch.equal(result.adversarial, ball.images)
    assert result.forwards == len(ball.images)


def test_further_restarts_go_on_with_what_is_left(tools):
    """Only a start within the window flips: the slope leads away from it."""

    def window(pixel):
        return torch.where((pixel - 102.0).abs() < 4.0, 1.0, pixel - 1000.0)

    ball = pixel_ball([120] * 40, 40)
    net = Landscape(window)
    one = apgd(tools.wrap(net), ball, means(), ApgdSettings(1, 1))
    four = apgd(tools.wrap(net), ball, means(), ApgdSettings(1, 4))
    assert 0 < int(one.found.sum()) < int(four.found.sum())
    assert torch.equal(four.adversarial[one.found], one.adversarial[one.found])
    assert one.forwards + four.forwards == sum(len(images) for images in net.seen)


def test_a_zero_gradient_leaves_the_start_where_it_is(tools):
    ball = Ball(torch.full((4, 1, 3, 3), 7.0), torch.zeros(4, dtype=torch.int64), 5)
    result = apgd(tools.wrap(Constant()), ball, means())
    assert not result.found.any()
    assert torch.equal(result.adversarial, ball.images)


def test_a_gradient_that_is_no_number_moves_nothing_and_leaves_the_others_alone(tools, small_net):
    broken = nn.Sequential(PartlyNotANumber(small_net))
    ball = tools.grey_ball(small_net, 16, 30)
    ball.images[:, 0, 0, 0] = 200.0
    ball.images[::4, 0, 0, 0] = 0.0
    result, healthy = apgd(broken, ball, means()), apgd(small_net, ball, means())
    keeps = torch.arange(16) % 4 > 0
    assert torch.equal(result.adversarial[keeps], healthy.adversarial[keeps])
    assert result.found[keeps].any()
    tools.assert_allowed(result, ball, broken)


def test_memory_in_another_order_changes_nothing(tools):
    layers = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(30, 3))
    generator = torch.Generator().manual_seed(1)
    for parameter in layers.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    classifier = tools.wrap(layers, 255.0)
    images = torch.randint(0, 256, (10, 7, 5, 3), generator=generator).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        ball = Ball(images, classifier(images).argmax(1), 30)
    assert not images.is_contiguous()
    result = apgd(classifier, ball, means())
    assert int(result.found.sum()) > 0
    same = apgd(classifier, ball._replace(images=images.contiguous()), means())
    assert torch.equal(result.adversarial, same.adversarial)
    tools.assert_allowed(result, ball, classifier)


def test_no_images_are_no_trouble(tools, small_net):
    ball = tools.grey_ball(small_net, 3, 8).rows(torch.zeros(3, dtype=torch.bool))
    result = apgd(small_net, ball, means())
    assert (result.adversarial.shape, result.found.shape, result.forwards) == ((0, 1, 8, 8), (0,), 0)


def test_the_global_random_state_stays_and_the_seed_decides(tools, small_net):
    ball = tools.grey_ball(small_net, 30, 24)
    before = torch.get_rng_state()
    first, again, other = (apgd(small_net, ball, means(seed)).adversarial for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_adversarial_robustness_toolbox_flips_about_as_many(trained, digits):
    """Theirs judges the last iterate alone and does not round; ours any, rounded: 5 points either way."""
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import PyTorchClassifier

    classifier, budget, iterations = open_model("tiny", trained.root, torch.device("cpu")).classifier, 15, 20
    images, labels = torch.from_numpy(digits.images).float(), torch.from_numpy(digits.labels)
    with torch.no_grad():
        right = (classifier(images).argmax(1) == labels).nonzero().squeeze(1)[:100]
    ball = Ball(images[right], labels[right], budget)
    estimator = PyTorchClassifier(
        classifier, nn.CrossEntropyLoss(), ball.images.shape[1:], 10, clip_values=(0.0, 255.0), device_type="cpu"
    )
    peer = evasion.AutoProjectedGradientDescent(
        estimator, eps=float(budget), eps_step=2.0 * budget, max_iter=iterations, nb_random_init=1, batch_size=100,
        loss_type="difference_logits_ratio", verbose=False,
    )  # fmt: skip
    state = np.random.get_state()
    np.random.seed(0)
    theirs = torch.from_numpy(peer.generate(ball.images.numpy(), np.eye(10, dtype=np.float32)[ball.labels]))
    np.random.set_state(state)
    with torch.no_grad():
        their_rate = float((classifier(theirs).argmax(1) != ball.labels).float().mean())
    our_rate = float(apgd(classifier, ball, means(), ApgdSettings(iterations)).found.float().mean())
    assert 0.3 < their_rate < 0.7
    assert abs(our_rate - their_rate) <= 0.05

"""Auto-PGD: a twin written from the paper, what it must find and not touch, and ART's verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.attacks.apgd import Apgd, ApgdCrossEntropy, ApgdSettings, ApgdTargeted, apgd, checkpoints
from bangbench.attacks.ball import Ball
from bangbench.attacks.base import Means
from bangbench.attacks.pgd import start_of
from bangbench.nets.models import open_model

FIFTY = ApgdSettings(iterations=50)

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
    """Two logits, 0 and a function of an image's only pixel: the margin of class 0."""

    def __init__(self, height):
        super().__init__()
        self.height = height

    def forward(self, images):
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
    torch.randint(-900, -1, (256,), generator=torch.Generator().manual_seed(13)).float(),
    torch.randint(0, 2, (256,), generator=torch.Generator().manual_seed(14)).mul(2).sub(1).float(),
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


def starts_of(ball, seed=0):
    """Where the first run begins: between grey levels, which no net gets to see."""
    return start_of(ball, means(seed), random=True).flatten().tolist()


def slow_twin(height, image, start, budget, iterations):
    """Algorithm 1 of the paper for one pixel, word for word, in float32; its values and slopes are those of the
    closest grey level. Returns the grey levels of the iterates, and why the step was halved.
    """
    levels = torch.arange(256.0, requires_grad=True)
    values = height(levels)
    slopes = torch.autograd.grad(values.sum(), levels)[0].sign()
    # a height that is no number gives no direction, and is never the best
    slopes, values = torch.where(values.isnan(), 0.0, slopes).tolist(), values.tolist()

    def project(value):
        return np.clip(value, np.float32(max(image - budget, 0)), np.float32(min(image + budget, 255)))

    def f(place):
        return values[round(place)]

    previous = current = best = np.float32(start)
    points, reasons = [start], []
    last_check, rises, step = 0, 0, np.float32(2 * budget)
    step_then, best_then = step, f(best)
    for k in range(1, iterations + 1):
        z = project(current + step * np.float32(slopes[round(current)]))
        alpha = np.float32(1.0 if k == 1 else 0.75)
        following = project(current + alpha * (z - current) + (1 - alpha) * (current - previous))
        rises += f(following) > f(current)
        points.append(following)
        if f(following) > f(best):
            best = following
        previous, current = current, following
        if k in papers_checkpoints(iterations):
            conditions = (rises < 0.75 * (k - last_check), step == step_then and f(best) == best_then)
            last_check, step_then, best_then, rises = k, step, f(best), 0
            if any(conditions):
                step, current = step / 2, best
                reasons.append(conditions)
    return [round(point) for point in points], reasons


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
    (classifier, seen), levels = tools.watched(Landscape(height)), list(range(0, 256, 3))
    ball = pixel_ball(levels, 40)
    result = apgd(classifier, ball, means(), ApgdSettings(iterations=iterations))
    assert not result.found.any()
    assert result.forwards == len(levels) * (2 + iterations)
    paths = torch.cat(seen).view(2 + iterations, -1)[1:].T.long().tolist()
    reasons = set()
    for level, start, path in zip(levels, starts_of(ball), paths, strict=True):
        expected, why = slow_twin(height, level, start, 40, iterations)
        assert path == expected
        reasons.update(why)
    if height is ROUGH and iterations == 50:
        assert reasons == {(True, False), (False, True), (True, True)}


def test_a_loss_that_zigzags_halves_the_step_down_to_half_a_grey_level(tools):
    """Until the first checkpoint the iterates jump across the ball, after the last they stay at the ridge."""
    classifier, seen = tools.watched(Landscape(peak))
    ball = pixel_ball([120], 64)
    apgd(classifier, ball, means())
    path = torch.cat(seen[1:]).flatten()
    assert len(path) == 101
    assert float(path[2:22].diff().abs().min()) >= 40.0
    assert float((path[-6:] - 128.4).abs().max()) <= 1.5
    _, reasons = slow_twin(peak, 120, starts_of(ball)[0], 64, 100)
    assert len(reasons) == 8


def test_the_step_stays_where_it_raises_the_loss(tools):
    """On a slope the first step reaches the end of the ball: no second one has to."""
    classifier, seen = tools.watched(Landscape(slope))
    apgd(classifier, pixel_ball([100], 64), means())
    assert set(torch.cat(seen[2:]).flatten().tolist()) == {164.0}


def test_iterates_move_by_less_than_a_grey_level_where_the_budget_is_that_small(tools):
    """What a net sees stands still for several steps, and moves on: the iterate has moved between grey levels."""
    classifier, seen = tools.watched(Landscape(peak))
    apgd(classifier, pixel_ball([128] * 40, 2), means(), ApgdSettings(iterations=100))
    paths = torch.stack(seen[1:]).flatten(1).T
    last = paths[:, 81:].diff(dim=1)
    assert (last == 0.0).any(1).all()
    assert (last != 0.0).any()


def test_each_image_has_a_step_of_its_own(tools):
    """Beside others or alone, an image takes the same way; what flips early leaves."""

    def ridge_and_cliff(pixel):
        return torch.where(pixel > 200.0, 1.0, -1.0 - (pixel - 128.4).abs()) + 0.0 * pixel

    (classifier, seen), ball = tools.watched(Landscape(ridge_and_cliff)), pixel_ball([230, 120], 20)
    result = apgd(classifier, ball, means(), FIFTY)
    assert result.found.tolist() == [True, False]
    assert [len(images) for images in seen] == [2] + [1] * 51
    path = [int(images[-1]) for images in seen[1:]]
    assert path == slow_twin(ridge_and_cliff, 120, starts_of(ball)[1], 20, 50)[0]


def test_checkpoints_are_the_papers():
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(50) == (11, 21, 29, 35, 40, 44, 47)
    assert checkpoints(1) == ()


@pytest.mark.parametrize("attack", [Apgd(), ApgdCrossEntropy(), ApgdTargeted()], ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize(("budget", "size"), [(12, 1.0), (14, 2.0**14), (18, 2.0**100)])
def test_a_linear_classifier_flips_exactly_where_the_budget_reaches_the_boundary(
    two_classes, tools, attack, budget, size
):
    """However large the logits are: where the cross-entropy is 0, it would have no gradient."""
    ball, smallest = linear_ball(two_classes, budget)
    classifier = tools.linear(size * two_classes.weight, size * two_classes.bias)
    if size > 1.0:
        assert (nn.functional.cross_entropy(classifier(ball.images), ball.labels, reduction="none") == 0.0).all()
    result = attack.find(classifier, ball, means())
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

    (classifier, seen), ball = tools.watched(Landscape(window)), pixel_ball([120] * 40, 40)
    one, four = (apgd(classifier, ball, means(), ApgdSettings(iterations=1, restarts=restarts)) for restarts in (1, 4))
    assert 0 < int(one.found.sum()) < int(four.found.sum())
    assert torch.equal(four.adversarial[one.found], one.adversarial[one.found])
    assert one.forwards + four.forwards == sum(len(images) for images in seen)


def test_a_zero_gradient_leaves_the_start_where_it_is(tools):
    ball = Ball(torch.full((4, 1, 3, 3), 7.0), torch.zeros(4, dtype=torch.int64), 5)
    result = apgd(tools.wrap(Constant()), ball, means())
    assert not result.found.any()
    assert torch.equal(result.adversarial, ball.images)


def test_a_gradient_that_is_no_number_moves_nothing_and_leaves_the_others_alone(tools, small_net):
    broken = tools.wrap(PartlyNotANumber(small_net))
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
    our_rate = float(apgd(classifier, ball, means(), ApgdSettings(iterations=iterations)).found.float().mean())
    assert 0.3 < their_rate < 0.7
    assert abs(our_rate - their_rate) <= 0.05

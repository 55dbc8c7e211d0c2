"""Projected gradient descent: what it must find, what it must not touch, how far it goes, and foolbox's verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.attacks.ball import Ball, smallest_budget
from bangbench.attacks.base import Means
from bangbench.attacks.pgd import Pgd, PgdSettings, margin, pgd, rung, rungs, start_of
from bangbench.nets.models import open_model

pytestmark = pytest.mark.exact

STILL = PgdSettings(random_start=False)


class Constant(nn.Module):
    """The same logits for every image: class 0 wins, the gradient is zero."""

    def forward(self, images):
        return torch.tensor([1.0, 0.0]) + 0.0 * images.flatten(1).sum(1, keepdim=True)


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


class Script(nn.Module):
    """Class 0 wins, except for the first image of each pass in `flipping` (counted from 1); brighter is better."""

    def __init__(self, flipping=()):
        super().__init__()
        self.flipping, self.passes = flipping, 0

    def forward(self, images):
        self.passes += 1
        rise = 1e-6 * images.flatten(1).sum(1)
        logits = torch.stack([1.0 - rise, rise], 1)
        if self.passes in self.flipping:
            logits = torch.cat([logits[:1].flip(1), logits[1:]])
        return logits


class Scale(nn.Module):
    """Images in [0, 1] -> grey levels."""

    def forward(self, images):
        return images * 255.0


def means(seed=0, batch_size=64):
    return Means(torch.Generator().manual_seed(seed), batch_size)


def exact_net(tools):
    """Integer weights: logits and the margin's gradient are exact in float32, whatever the order of the sums."""
    layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))
    generator = torch.Generator().manual_seed(8)
    for parameter in layers.parameters():
        parameter.data = torch.randint(-3, 4, parameter.shape, generator=generator).float()
    return tools.wrap(layers)


def midway(case, budget):
    """The case's images squeezed into the middle of the range, so that the range limits no change."""
    images = np.clip(case.images.astype(np.int64) // 4 + 96, budget, 255 - budget)
    labels = case.logits(images.astype(np.float64)).argmax(1)
    return images, labels


def linear_ball(case, budget):
    """A ball, and for each image the smallest real budget that changes the class: margin / ||w_c - w_y||_1."""
    images, labels = midway(case, budget)
    logits = case.logits(images.astype(np.float64))
    own = logits[np.arange(len(labels)), labels][:, None]
    norms = np.abs(case.weight[None] - case.weight[labels][:, None]).sum(2)
    with np.errstate(divide="ignore", invalid="ignore"):
        smallest = np.where(norms > 0, (own - logits) / norms, np.inf).min(1)
    return Ball(torch.from_numpy(images).float(), torch.from_numpy(labels), budget), torch.from_numpy(smallest)


@pytest.mark.parametrize("budget", [12, 14, 18])
def test_a_linear_classifier_flips_exactly_where_the_budget_reaches_the_boundary(two_classes, tools, budget):
    ball, smallest = linear_ball(two_classes, budget)
    classifier = tools.linear(two_classes.weight, two_classes.bias)
    result = Pgd().find(classifier, ball, means())
    assert 0 < int((smallest <= budget).sum()) < len(smallest)
    assert torch.equal(result.found, smallest <= budget)
    tools.assert_allowed(result, ball, classifier)


def test_the_class_with_the_largest_logit_is_approached_and_the_nearest_one_with_it(five_classes, tools):
    ball, smallest = linear_ball(five_classes, 4)
    result = pgd(tools.linear(five_classes.weight, five_classes.bias), ball, means())
    assert not result.found[smallest > 4].any()
    assert result.found[smallest < 3].all()
    assert 3 < int(result.found.sum()) < len(ball.labels) - 3


def test_the_margin_is_the_largest_wrong_logit_less_the_true_one():
    logits = torch.tensor([[3.0, 1.0, 2.0], [-200.0, -500.0, -600.0]])
    assert margin(logits, torch.tensor([0, 1])).tolist() == [-1.0, 300.0]


@pytest.mark.parametrize("random_start", [True, False])
def test_the_batch_size_changes_nothing(tools, random_start):
    classifier = exact_net(tools)
    ball = tools.grey_ball(classifier, 30, 9)
    settings = PgdSettings(steps=5, largest_steps=20, random_start=random_start)
    whole, *others = (pgd(classifier, ball, means(batch_size=size), settings) for size in (30, 7, 1))
    assert 5 < int(whole.found.sum()) < 25
    for other in others:
        assert torch.equal(other.found, whole.found)
        assert torch.equal(other.adversarial, whole.adversarial)
        assert other.forwards == whole.forwards
    tools.assert_allowed(whole, ball, classifier)


def test_what_becomes_of_one_image_changes_no_other(tools):
    classifier = exact_net(tools)
    ball = tools.grey_ball(classifier, 30, 9)
    wrong = ball.labels.clone()
    wrong[::2] = (wrong[::2] + 1) % 4
    alone, beside = pgd(classifier, ball, means()), pgd(classifier, ball._replace(labels=wrong), means())
    assert torch.equal(beside.adversarial[1::2], alone.adversarial[1::2])
    assert torch.equal(beside.found[1::2], alone.found[1::2])


def test_an_image_that_is_already_wrong_is_found_as_it_is(tools, small_net):
    ball = tools.grey_ball(small_net, 12, 20)
    wrong = ball._replace(labels=(ball.labels + 1) % 4)
    for settings in (PgdSettings(), STILL):
        result = pgd(small_net, wrong, means(), settings)
        assert result.found.all()
        assert torch.equal(result.adversarial, ball.images)
        assert result.forwards == len(ball.images)


def test_images_are_judged_once_and_every_iterate_once(tools):
    ball = Ball(torch.full((6, 1, 4, 4), 128.0), torch.zeros(6, dtype=torch.int64), 8)
    assert rung(tools.wrap(Script()), ball, means(), 20).forwards == 6 * 21
    assert pgd(tools.wrap(Script()), ball, means()).forwards == 6 * (1 + 21)
    assert pgd(tools.wrap(Script()), ball, means(), STILL).forwards == 6 * 21


def test_a_success_in_mid_run_is_kept_and_costs_no_more_passes(tools):
    ball = Ball(torch.full((3, 1, 4, 4), 128.0), torch.zeros(3, dtype=torch.int64), 8)
    classifier, seen = tools.watched(Script(flipping=(4,)))
    result = rung(classifier, ball, means(), 20)
    assert result.found.tolist() == [True, False, False]
    assert torch.equal(result.adversarial[0], seen[3][0])
    assert result.forwards == 3 * 4 + 2 * 17


def test_the_last_iterate_is_judged_too(tools):
    ball = Ball(torch.full((3, 1, 4, 4), 128.0), torch.zeros(3, dtype=torch.int64), 8)
    assert rung(tools.wrap(Script(flipping=(6,))), ball, means(), 5).found.tolist() == [True, False, False]


def test_a_zero_gradient_moves_nothing(tools):
    ball = Ball(torch.full((4, 1, 3, 3), 7.0), torch.zeros(4, dtype=torch.int64), 5)
    result = pgd(tools.wrap(Constant()), ball, means(), STILL)
    assert not result.found.any()
    assert torch.equal(result.adversarial, ball.images)


@pytest.mark.parametrize("random_start", [True, False])
def test_a_gradient_that_is_no_number_moves_nothing_and_leaves_the_others_alone(tools, small_net, random_start):
    broken = tools.wrap(PartlyNotANumber(small_net))
    ball = tools.grey_ball(small_net, 16, 40)
    ball.images[:, 0, 0, 0] = 200.0
    ball.images[::4, 0, 0, 0] = 0.0
    settings = PgdSettings(steps=10, largest_steps=10, random_start=random_start)
    result, healthy = pgd(broken, ball, means(), settings), pgd(small_net, ball, means(), settings)
    keeps = torch.arange(16) % 4 > 0
    assert torch.equal(result.adversarial[keeps], healthy.adversarial[keeps])
    assert healthy.found[~keeps].any()
    tools.assert_allowed(result, ball, broken)
    if not random_start:
        assert not result.found[~keeps].any()


def test_memory_in_another_order_changes_nothing(tools):
    layers = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(30, 2))
    generator = torch.Generator().manual_seed(1)
    for parameter in layers.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    classifier = tools.wrap(layers, 255.0)
    images = torch.randint(0, 256, (10, 7, 5, 3), generator=generator).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        ball = Ball(images, classifier(images).argmax(1), 30)
    assert not images.is_contiguous()
    result = pgd(classifier, ball, means())
    assert int(result.found.sum()) > 0
    same = pgd(classifier, ball._replace(images=images.contiguous()), means())
    assert torch.equal(result.adversarial, same.adversarial)
    tools.assert_allowed(result, ball, classifier)


def test_no_images_are_no_trouble(tools, small_net):
    ball = tools.grey_ball(small_net, 3, 8).rows(torch.zeros(3, dtype=torch.bool))
    for result in (pgd(small_net, ball, means()), rung(small_net, ball, means(), 5)):
        assert (result.adversarial.shape, result.found.shape, result.forwards) == ((0, 1, 8, 8), (0,), 0)


def test_the_global_random_state_stays_and_the_seed_decides(tools):
    classifier = exact_net(tools)
    ball = tools.grey_ball(classifier, 30, 9)
    before = torch.get_rng_state()
    first, again, other = (pgd(classifier, ball, means(seed)).adversarial for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_start_is_spread_evenly_over_the_ball_and_not_in_whole_grey_levels():
    ball = Ball(torch.full((50, 1, 8, 8), 128.0), torch.zeros(50, dtype=torch.int64), 3)
    moved = start_of(ball, means(), random=True) - ball.images
    assert moved.dtype == torch.float32
    assert float((moved != moved.round()).float().mean()) > 0.99
    counts = torch.histc(moved, bins=6, min=-3.0, max=3.0)
    # five standard deviations of the number of values in one of six equal parts
    assert float((counts - 3200 / 6).abs().max()) < 5 * (3200 * 5 / 36) ** 0.5
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(start_of(ball, means(), random=False), ball.images)


def test_the_start_is_cut_at_the_ends_of_the_range():
    ball = Ball(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64), 9)
    start = start_of(ball, means(), random=True)
    assert (float(start[0].min()), float(start[1].max())) == (0.0, 255.0)
    assert 0.3 < float((start[0] == 0.0).float().mean()) < 0.7
    assert float((start - ball.images).abs().max()) <= 9.0


def test_no_iterate_not_even_the_start_leaves_ball_or_range_and_the_net_sees_whole_grey_levels(tools):
    classifier, seen = tools.watched(Script())
    images = torch.tensor([0.0, 2.0, 128.0, 251.0, 255.0]).view(5, 1, 1, 1).expand(5, 1, 6, 6).contiguous()
    rung(classifier, Ball(images, torch.zeros(5, dtype=torch.int64), 20), means(), 20)
    seen = torch.stack(seen)
    assert len(seen) == 21
    assert torch.equal(seen, seen.round())
    assert (float(seen.min()), float(seen.max())) == (0.0, 255.0)
    assert float((seen - images).abs().max()) == 20.0


@pytest.mark.parametrize(
    ("budget", "settings", "length"),
    [
        (80, PgdSettings(random_start=False), 10.0),
        (4, PgdSettings(random_start=False), 0.5),
        (3, PgdSettings(random_start=False), 0.375),
        (80, PgdSettings(random_start=False, step=3.0), 3.0),
    ],
)
def test_a_step_is_two_and_a_half_budgets_over_the_steps_or_what_is_asked_for(tools, budget, settings, length):
    """Steps are walked as they are; only what the net is shown is rounded, half to even."""
    classifier, seen = tools.watched(Script())
    ball = Ball(torch.full((2, 1, 4, 4), 128.0), torch.zeros(2, dtype=torch.int64), budget)
    rung(classifier, ball, means(), 20, settings)
    assert [images.unique().tolist() for images in seen] == [
        [128.0 + round(min(number * length, budget))] for number in range(21)
    ]


class Levels(nn.Module):
    """Any slope at each of the 256 grey levels of an image's only pixel; class 0 always wins."""

    def __init__(self, slopes):
        super().__init__()
        self.slopes = slopes

    def forward(self, images):
        pixel = images.flatten()
        height = -1.0 + self.slopes[pixel.detach().long()] * (pixel - pixel.detach())
        return torch.stack([0.0 * height, height], 1)


@pytest.mark.parametrize(("budget", "steps"), [(40, 20), (3, 20), (17, 50)])
def test_every_iterate_is_that_of_a_loop_in_float32_that_reads_slopes_at_the_closest_grey_level(tools, budget, steps):
    slopes = torch.randint(0, 3, (256,), generator=torch.Generator().manual_seed(2)).float() - 1.0
    classifier, seen = tools.watched(Levels(slopes))
    images = torch.arange(0.0, 256.0, 3.0).view(-1, 1, 1, 1)
    ball = Ball(images, torch.zeros(len(images), dtype=torch.int64), budget)
    rung(classifier, ball, means(), steps)
    paths = torch.cat(seen).view(steps + 1, -1).T.tolist()
    starts = start_of(ball, means(), random=True).flatten().tolist()
    for image, start, path in zip(images.flatten().tolist(), starts, paths, strict=True):
        low, high = np.float32(max(image - budget, 0.0)), np.float32(min(image + budget, 255.0))
        place, expected = np.float32(start), []
        for _ in range(steps + 1):
            expected.append(float(np.rint(place)))
            step = np.float32(2.5 * budget / steps) * np.float32(slopes[int(np.rint(place))])
            place = np.clip(place + step, low, high)
        assert path == expected


def test_the_number_of_steps_is_doubled_up_to_the_largest():
    assert list(rungs(PgdSettings())) == [20, 40, 80]
    assert list(rungs(PgdSettings(steps=20, largest_steps=159))) == [20, 40, 80]
    assert list(rungs(PgdSettings(steps=20, largest_steps=10))) == [20]


def test_rungs_are_doubled_from_a_fresh_start_until_one_changes_nothing(tools):
    # passes: 1 the images; 2..22 the rung of 20 steps; 23..63 of 40; 64..144 of 80, which flips none
    classifier, seen = tools.watched(Script(flipping=(10, 40)))
    ball = Ball(torch.full((10, 1, 4, 4), 100.0), torch.zeros(10, dtype=torch.int64), 64)
    result = pgd(classifier, ball, means())
    assert int(result.found.sum()) == 2
    assert len(seen) == 144
    starts = [seen[number - 1] for number in (2, 23, 64)]
    assert [len(start) for start in starts] == [10, 9, 8]
    assert not torch.equal(starts[0][1:], starts[1])
    # between two rounded images
    steps = [float((seen[number] - seen[number - 1]).max()) for number in (2, 23, 64)]
    assert steps == [8.0, 4.0, 2.0]
    assert result.forwards == sum(len(images) for images in seen)


def test_the_last_rung_is_the_largest_even_if_it_still_flips(tools):
    classifier, seen = tools.watched(Script(flipping=(10, 40, 100)))
    ball = Ball(torch.full((10, 1, 4, 4), 100.0), torch.zeros(10, dtype=torch.int64), 64)
    assert int(pgd(classifier, ball, means()).found.sum()) == 3
    assert len(seen) == 1 + 21 + 41 + 81


def test_less_than_half_a_percent_is_nothing(tools):
    # one of 200 images is 0.5 %, one of 201 is less
    for count, passes in ((200, 1 + 21 + 41), (201, 1 + 21)):
        classifier, seen = tools.watched(Script(flipping=(10,)))
        ball = Ball(torch.full((count, 1, 2, 2), 100.0), torch.zeros(count, dtype=torch.int64), 64)
        pgd(classifier, ball, means(batch_size=500))
        assert len(seen) == passes


def test_the_smallest_budget_grows_with_what_an_image_takes(two_classes, tools):
    ball, smallest = linear_ball(two_classes, 18)
    classifier = tools.linear(two_classes.weight, two_classes.bias)
    flips = smallest_budget(Pgd(), "pgd", classifier, ball.images, ball.labels, (12, 14, 18), means())
    expected = torch.tensor([next((float(b) for b in (12, 14, 18) if value <= b), torch.nan) for value in smallest])
    assert torch.equal(flips.scale.nan_to_num(-1.0), expected.nan_to_num(-1.0))


@pytest.mark.filterwarnings("ignore:Please import `gaussian_filter`:DeprecationWarning")
def test_foolbox_finds_the_same_images_at_equal_settings(trained, digits):
    foolbox, budget = pytest.importorskip("foolbox"), 16
    classifier = open_model("tiny", trained.root, torch.device("cpu")).classifier
    images, labels = torch.from_numpy(digits.images).float(), torch.from_numpy(digits.labels)
    with torch.no_grad():
        right = (classifier(images).argmax(1) == labels).nonzero().squeeze(1)[:100]
    images, labels = images[right], labels[right]

    class OnTheMargin(foolbox.attacks.LinfProjectedGradientDescentAttack):
        def get_loss_fn(self, model, labels):
            import eagerpy

            def loss(inputs):
                logits = model(inputs).raw
                wrong = torch.where(torch.nn.functional.one_hot(labels.raw, 10).bool(), -torch.inf, logits)
                return eagerpy.astensor((wrong.amax(1) - logits.gather(1, labels.raw[:, None])[:, 0]).sum())

            return loss

    model = foolbox.PyTorchModel(nn.Sequential(Scale(), classifier).eval(), bounds=(0, 1), device="cpu")
    peer = OnTheMargin(abs_stepsize=2.0 / 255.0, steps=20, random_start=False)
    _, _, theirs = peer(model, images / 255.0, labels, epsilons=budget / 255.0)
    ours = rung(classifier, Ball(images, labels, budget), means(), 20, PgdSettings(random_start=False, step=2.0)).found
    assert 0.2 < float(ours.float().mean()) < 0.9
    assert float((ours == theirs).float().mean()) >= 0.99

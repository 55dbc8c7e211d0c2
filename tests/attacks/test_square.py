"""Square attack: a slow twin, what a linear classifier allows, who depends on whom, and ART's rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.attacks.ball import Ball, smallest_budget
from bangbench.attacks.base import Means
from bangbench.attacks.square import Square, SquareSettings, square, square_side

pytestmark = pytest.mark.exact

SHAPES = [(1, 8, 5), (3, 4, 7)]


def means(seed=0, batch_size=64):
    return Means(torch.Generator().manual_seed(seed), batch_size)


def exact_net(tools, shape, seed=8):
    """Integer weights: logits are exact in float32, whatever the batch and the order of the sums.

    Those of the last layer are scaled by a power of two, so that no logit is negligible beside another.
    """
    channels, height, width = shape
    layers = nn.Sequential(
        nn.Conv2d(channels, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * (height - 2) * (width - 2), 4)
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in layers.parameters():
        parameter.data = torch.randint(-3, 4, parameter.shape, generator=generator).float()
    for parameter in layers[-1].parameters():
        parameter.data *= tools.unit
    return tools.wrap(layers)


def papers_share(iteration):
    """The share of the pixels after so many of 10,000 queries."""
    return 0.8 / 2 ** sum(iteration > end for end in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))


class Twin:
    """The attack on one image at a time, pixel by pixel, from the numbers that all images were given."""

    def __init__(self, classifier, ball, settings):
        self.classifier, self.ball, self.settings = classifier, ball, settings

    def value(self, place, up):
        change = self.ball.budget if up else -self.ball.budget
        return min(max(float(self.ball.images[place]) + change, 0.0), 255.0)

    def painted(self, index, current, window, signs):
        image = current.copy()
        for c, y, x in np.ndindex(*image.shape):
            if window is None or (window[0] <= y < window[1] and window[2] <= x < window[3]):
                image[c, y, x] = self.value((index, c, y, x), signs[c][x if window is None else 0])
        return image

    def proposal(self, index, current, window, signs):
        image = self.painted(index, current, window, signs)
        if self.settings.turn and np.array_equal(image, current):
            return self.painted(index, current, window, [[not sign for sign in row] for row in signs])
        return image

    def margin(self, index, image):
        with torch.no_grad():
            logits = self.classifier(torch.from_numpy(image)[None])[0].tolist()
        label = int(self.ball.labels[index])
        return logits[label] - max(value for k, value in enumerate(logits) if k != label)

    def run(self, generator):
        _, _, height, width = self.ball.images.shape
        draws = self.draws(generator)
        outcomes = []
        for index in range(len(self.ball.images)):
            best, least, queries = self.ball.images[index].numpy(), math.inf, 0
            for tops, lefts, side, signs in draws:
                own = [[bool(value) for value in channel[0]] for channel in signs[index]]
                window = None
                if tops is not None:
                    y, x = int(tops[index]), int(lefts[index])
                    assert y + side <= height
                    assert x + side <= width
                    window = (y, y + side, x, x + side)
                image, queries = self.proposal(index, best, window, own), queries + 1
                if (now := self.margin(index, image)) < least:
                    best, least = image, now
                if least < 0:
                    break
            outcomes.append((best if least < 0 else self.ball.images[index].numpy(), least < 0, queries))
        return outcomes

    def draws(self, generator):
        count, channels, height, width = self.ball.images.shape

        def below(end, *shape):
            return torch.randint(end, shape, generator=generator, dtype=torch.uint8 if end == 2 else torch.int64)

        draws = [(None, None, 0, below(2, count, channels, 1, width))]
        for i in range(self.settings.queries - 1):
            share = papers_share(10_000 * i / self.settings.queries) * self.settings.share / 0.8
            side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
            tops, lefts = below(height - side + 1, count, 1), below(width - side + 1, count, 1)
            draws.append((tops, lefts, side, below(2, count, channels, 1, 1)))
        return draws


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("turn", [True, False])
def test_a_slow_twin_finds_the_same_images_with_the_same_queries(tools, shape, turn):
    classifier, settings = exact_net(tools, shape), SquareSettings(queries=40, share=0.7, turn=turn)
    ball = tools.random_ball(classifier, shape)
    result = square(classifier, ball, means(5), settings)
    images, found, queries = zip(*Twin(classifier, ball, settings).run(torch.Generator().manual_seed(5)), strict=True)
    assert 3 < sum(found) < len(found) - 3
    assert result.found.tolist() == list(found)
    assert torch.equal(result.adversarial, torch.from_numpy(np.stack(images)))
    assert result.forwards == sum(queries)
    tools.assert_allowed(result, ball, classifier)


@pytest.mark.parametrize("iteration", [0, 10, 11, 50, 51, 200, 201, 501, 1001, 2001, 4001, 6001, 8001, 9999])
def test_the_area_of_the_squares_follows_the_papers_schedule(iteration):
    side = square_side(28, 28, iteration / 10_000, 0.8)
    assert side == max(round(math.sqrt(papers_share(iteration) * 784)), 1)
    assert 1 <= side <= 25


@pytest.mark.parametrize(("height", "width", "side"), [(1, 1, 1), (2, 50, 2), (50, 2, 2), (3, 3, 3)])
def test_a_square_fits_into_images_of_any_shape(height, width, side):
    assert square_side(height, width, 0.0, 0.8) == side


@pytest.mark.parametrize("budget", [10, 20])
def test_a_linear_classifier_is_flipped_where_the_budget_suffices_and_nowhere_else(two_classes, tools, budget):
    classifier = tools.linear(two_classes.weight, two_classes.bias)
    ball = Ball(torch.from_numpy(two_classes.images).float(), torch.from_numpy(two_classes.labels), budget)
    images, labels = two_classes.images.reshape(-1, 64).astype(np.float64), two_classes.labels
    logits = two_classes.logits(images)
    rows = np.arange(len(labels))
    change = two_classes.weight[1 - labels] - two_classes.weight[labels]
    room = np.minimum(np.where(change > 0, 255.0 - images, images), budget)
    needed = (logits[rows, labels] - logits[rows, 1 - labels]) / (np.abs(change) * room).sum(1)
    found = Square().find(classifier, ball, means()).found.numpy()
    assert not found[needed > 1.0].any()
    assert found[needed < 0.95].all()
    assert (needed > 1.0).any()
    assert (needed < 0.95).sum() >= 5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_batch_size_changes_nothing(tools, shape):
    classifier = exact_net(tools, shape)
    ball = tools.random_ball(classifier, shape)
    whole, *others = (square(classifier, ball, means(1, size), SquareSettings(queries=60)) for size in (24, 7, 1))
    assert 3 < int(whole.found.sum()) < 21
    for other in others:
        assert torch.equal(other.adversarial, whole.adversarial)
        assert torch.equal(other.found, whole.found)
        assert other.forwards == whole.forwards


def test_an_image_that_leaves_early_changes_nothing_for_the_others(tools):
    classifier = exact_net(tools, SHAPES[0])
    ball = tools.random_ball(classifier, SHAPES[0])
    labels = ball.labels.clone()
    labels[::3] = (labels[::3] + 1) % 4
    alone = square(classifier, ball, means(), SquareSettings(queries=60))
    beside = square(classifier, ball._replace(labels=labels), means(), SquareSettings(queries=60))
    others = torch.arange(24) % 3 != 0
    assert beside.found[::3].sum() > alone.found[::3].sum()
    assert beside.forwards < alone.forwards
    assert torch.equal(beside.adversarial[others], alone.adversarial[others])
    assert torch.equal(beside.found[others], alone.found[others])


def test_the_seed_decides_and_torchs_own_random_state_stays(tools):
    classifier = exact_net(tools, SHAPES[0])
    ball, before = tools.random_ball(classifier, SHAPES[0]), torch.get_rng_state()
    first, again, other = (square(classifier, ball, means(seed), SquareSettings(queries=30)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.adversarial, again.adversarial)
    assert not torch.equal(first.adversarial, other.adversarial)


def test_images_and_labels_stay_as_they_are(tools):
    classifier = exact_net(tools, SHAPES[1])
    ball = tools.random_ball(classifier, SHAPES[1])
    kept = Ball(ball.images.clone(), ball.labels.clone(), ball.budget)
    square(classifier, ball, means(), SquareSettings(queries=20))
    assert torch.equal(ball.images, kept.images)
    assert torch.equal(ball.labels, kept.labels)


class Brightness(nn.Module):
    """Class 1 where the image is brighter than `threshold`; where it is darker than `dark`, its logit is no number."""

    def __init__(self, threshold, dark=None):
        super().__init__()
        self.threshold, self.dark = threshold, dark

    def forward(self, images):
        mean = images.flatten(1).mean(1)
        logits = torch.stack([torch.full_like(mean, self.threshold), mean], 1)
        if self.dark is not None:
            logits[mean < self.dark, 1] = torch.nan
        return logits


def test_an_image_of_one_pixel_goes_up_by_the_budget(tools):
    ball = Ball(torch.full((5, 1, 1, 1), 100.0), torch.zeros(5, dtype=torch.int64), 7)
    result = square(tools.wrap(Brightness(106.5)), ball, means(), SquareSettings(queries=2))
    assert result.found.all()
    assert result.adversarial.flatten().tolist() == [107.0] * 5


def test_no_more_queries_are_made_than_asked_for_and_none_once_all_are_flipped(tools):
    ball = Ball(torch.full((4, 1, 3, 3), 100.0), torch.zeros(4, dtype=torch.int64), 5)
    (never, asked), (always, once) = tools.watched(Brightness(300.0)), tools.watched(Brightness(-1.0))
    assert square(never, ball, means(), SquareSettings(queries=9)).forwards == 36
    assert list(map(len, asked)) == [4] * 9
    assert square(always, ball, means(), SquareSettings(queries=9)).forwards == 4
    assert list(map(len, once)) == [4]


def test_without_images_the_net_is_not_asked(tools):
    classifier, seen = tools.watched(Brightness(0.0))
    result = Square().find(classifier, Ball(torch.empty(0, 3, 4, 4), torch.empty(0, dtype=torch.int64), 5), means())
    assert result.adversarial.shape == (0, 3, 4, 4)
    assert result.found.shape == (0,)
    assert result.forwards == 0
    assert seen == []


def test_a_logit_that_is_no_number_is_neither_a_flip_nor_progress(tools):
    ball = Ball(torch.full((6, 1, 4, 4), 100.0), torch.zeros(6, dtype=torch.int64), 5)
    everywhere = square(tools.wrap(Brightness(104.0, dark=300.0)), ball, means(), SquareSettings(queries=30))
    assert not everywhere.found.any()
    in_the_dark = square(tools.wrap(Brightness(104.0, dark=99.0)), ball, means(), SquareSettings(queries=80))
    assert in_the_dark.found.all()
    assert (in_the_dark.adversarial.flatten(1).mean(1) > 104.0).all()


def test_smallest_budget_takes_it_as_it_takes_every_attack(two_classes, tools):
    classifier = tools.linear(two_classes.weight, two_classes.bias)
    images, labels = torch.from_numpy(two_classes.images[:15]).float(), torch.from_numpy(two_classes.labels[:15])
    flips = smallest_budget(Square(), "square", classifier, images, labels, (8, 40), means())
    assert {8.0, 40.0} >= set(flips.scale[flips.found].tolist()) > {40.0}
    assert (
        (flips.adversarial.float() - images).abs().flatten(1).amax(1)[flips.found] == flips.scale[flips.found]
    ).all()


@pytest.fixture(scope="module")
def fitted(digits, tools):
    """A small net, fitted to the digits by least squares over random features, and the ball of those it gets right."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.from_numpy(digits.images).float(), torch.from_numpy(digits.labels)
    hidden, last = nn.Linear(784, 40), nn.Linear(40, 10, bias=False)
    hidden.load_state_dict(
        {"weight": torch.randn(40, 784, generator=generator) / 28, "bias": 0.3 * torch.randn(40, generator=generator)}
    )
    classifier = tools.wrap(nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), last), input_scale=255.0)
    features = classifier.net[:3](images / 255.0).double()
    normal = features.T @ features + 0.1 * torch.eye(40, dtype=torch.float64)
    solved = torch.linalg.solve(normal, features.T @ nn.functional.one_hot(labels, 10).double())
    last.load_state_dict({"weight": solved.T.float()})
    right = classifier(images).argmax(1) == labels
    return classifier, Ball(images[right], labels[right], 16)


def test_squares_that_would_change_nothing_are_better_turned(fitted):
    classifier, ball = fitted
    turned, wasted = (
        float(square(classifier, ball, means(2), SquareSettings(queries=60, turn=turn)).found.float().mean())
        for turn in (True, False)
    )
    assert turned > wasted + 0.03


def test_art_flips_as_many_images_at_equal_settings(fitted):
    pytest.importorskip("art")
    from art.attacks.evasion import SquareAttack
    from art.estimators.classification import PyTorchClassifier

    classifier, ball = fitted
    queries, size = 60, len(ball.images)
    assert size >= 300
    estimator = PyTorchClassifier(
        classifier, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0.0, 255.0), device_type="cpu"
    )
    # its start is one query more than max_iter
    peer = SquareAttack(estimator, eps=ball.budget, p_init=0.8, max_iter=queries - 1, batch_size=size, verbose=False)
    before = np.random.get_state()  # the only generator that ART takes
    np.random.seed(0)
    adversarial = torch.from_numpy(peer.generate(ball.images.numpy(), ball.labels.numpy()))
    np.random.set_state(before)
    theirs = float((classifier(adversarial).argmax(1) != ball.labels).float().mean())
    settings = SquareSettings(queries=queries, share=0.8, turn=False)
    ours = float(square(classifier, ball, means(batch_size=size), settings).found.float().mean())
    assert 0.3 < ours < 0.7
    # both are random; ART moves the square of all images alike, so that its rate varies more
    assert ours == pytest.approx(theirs, abs=0.07)

"""Random noise: its distribution, the first draw that flips, and foolbox's rate."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.attacks.ball import Ball, smallest_budget
from bangbench.attacks.base import Means
from bangbench.attacks.random_noise import (
    GaussianNoise,
    NoiseSettings,
    UniformNoise,
    first_flipped,
    gaussian_levels,
    gaussian_noise,
    uniform_levels,
    uniform_noise,
)

pytestmark = pytest.mark.exact

KINDS = pytest.mark.parametrize(
    ("attack", "levels"), [(uniform_noise, uniform_levels), (gaussian_noise, gaussian_levels)]
)


def means(seed=0, batch_size=64):
    return Means(torch.Generator().manual_seed(seed), batch_size)


def grey_ball(shape, budget, labels=None):
    return Ball(
        torch.full(shape, 128.0), torch.zeros(shape[0], dtype=torch.int64) if labels is None else labels, budget
    )


def near_the_boundary(tools, shape, count, budget):
    """A linear classifier of two classes with integer weights of sum zero, and images that noise may carry across."""
    generator = torch.Generator().manual_seed(3)
    half = torch.randint(-8, 9, (shape[0] * shape[1] * shape[2] // 2,), generator=generator).numpy()
    row = np.concatenate([half, -half]).astype(np.float64)
    classifier = tools.linear(np.stack([row, -row]), np.array([0.5, -0.5]))
    images = torch.randint(60, 196, (count, *shape), generator=generator).float()
    with torch.no_grad():
        return classifier, Ball(images, classifier(images).argmax(1), budget)


class Script(nn.Module):
    """Class 0, except for images whose first pixel is at least `bright`."""

    def __init__(self, bright, nothing=False):
        super().__init__()
        self.bright, self.nothing = bright, nothing

    def forward(self, images):
        flipped = images[:, 0, 0, 0] >= self.bright
        logits = torch.stack([(~flipped).float(), flipped.float()], 1)
        if self.nothing:
            logits[:, 1] = torch.nan
        return logits


@pytest.mark.parametrize("budget", [1, 7, 76])
def test_uniform_noise_takes_every_level_of_the_budget_equally_often(budget):
    levels = uniform_levels(grey_ball((100, 3, 25, 40), budget), torch.Generator().manual_seed(0))
    values, counts = levels.unique(return_counts=True)
    assert levels.shape == (100, 3, 25, 40)
    assert values.tolist() == [float(level) for level in range(-budget, budget + 1)]
    expected = levels.numel() / len(values)
    # five standard deviations
    assert (counts - expected).abs().max() < 5 * expected**0.5
    assert abs(float(levels.mean())) < 5 * (budget * (budget + 1) / 3 / levels.numel()) ** 0.5


def test_the_draws_are_the_same_numbers_on_every_processor():
    ball, generator = grey_ball((40, 1, 28, 28), 76), torch.Generator().manual_seed(3)
    drawn = [uniform_levels(ball, generator), gaussian_levels(ball, generator)]
    hashes = [hashlib.sha256(levels.numpy().tobytes()).hexdigest()[:16] for levels in drawn]
    assert hashes == ["0392b456476325f1", "9ffbb882aeadfea7"]


@pytest.mark.parametrize("budget", [1, 25, 76])
@pytest.mark.parametrize("shape", [(50, 1, 28, 28), (50, 3, 5, 9), (50, 1, 1, 1)])
def test_the_largest_entry_of_gaussian_noise_is_exactly_the_budget(shape, budget):
    levels = gaussian_levels(grey_ball(shape, budget), torch.Generator().manual_seed(0))
    assert levels.shape == shape
    assert torch.equal(levels, levels.round())
    assert torch.equal(levels.abs().amax((1, 2, 3)), torch.full((shape[0],), float(budget)))
    assert {float(levels.min()), float(levels.max())} == {-budget, budget}


def test_gaussian_noise_is_normal_but_for_its_scale():
    levels = gaussian_levels(grey_ball((200, 3, 16, 16), 255), torch.Generator().manual_seed(0))
    scaled = levels / levels.flatten(1).std(1).view(-1, 1, 1, 1)
    for within, share in ((1.0, 0.6827), (2.0, 0.9545)):
        assert float((scaled.abs() < within).float().mean()) == pytest.approx(share, abs=0.01)
    assert abs(float(scaled.mean())) < 0.01
    # the noise of two images has nothing in common
    assert abs(float((scaled[0] * scaled[1]).mean())) < 0.2


@KINDS
@pytest.mark.parametrize("shape", [(1, 6, 9), (3, 5, 4)])
def test_what_is_found_is_flipped_whole_in_ball_and_range(tools, attack, levels, shape):
    classifier, ball = near_the_boundary(tools, shape, 80, 70)
    result = attack(classifier, ball, means())
    assert 5 < int(result.found.sum()) < 75
    assert torch.equal(result.adversarial, result.adversarial.to(torch.uint8).float())
    assert (result.adversarial - ball.images).abs().max() <= 70
    assert (result.adversarial == 0.0).any()
    assert (result.adversarial == 255.0).any()
    assert torch.equal(classifier(result.adversarial).argmax(1) != ball.labels, result.found)
    assert torch.equal(result.adversarial[~result.found], ball.images[~result.found])


@KINDS
def test_the_first_draw_that_flips_an_image_is_kept_and_the_image_leaves(tools, attack, levels):
    (classifier, seen), generator = tools.watched(Script(150.0)), torch.Generator().manual_seed(4)
    ball = grey_ball((40, 1, 3, 3), 30)
    draws = torch.stack([ball.project(ball.images + levels(ball, generator)) for _ in range(6)])
    result = attack(classifier, ball, means(4), draws=6)
    hits = draws[:, :, 0, 0, 0] >= 150.0
    first = torch.where(hits.any(0), hits.int().argmax(0), 6)
    assert 3 < len(first.unique()) <= 7
    assert torch.equal(result.found, first < 6)
    for index in range(40):
        expected = draws[first[index], index] if first[index] < 6 else ball.images[index]
        assert torch.equal(result.adversarial[index], expected)
    assert list(map(len, seen)) == [int((first >= draw).sum()) for draw in range(6)]
    assert result.forwards == sum(map(len, seen))


@KINDS
def test_the_batch_size_changes_nothing(tools, attack, levels):
    classifier, ball = near_the_boundary(tools, (1, 6, 9), 40, 40)
    whole, *others = (attack(classifier, ball, means(1, size)) for size in (40, 7, 1))
    assert 3 < int(whole.found.sum()) < 37
    for other in others:
        assert torch.equal(other.adversarial, whole.adversarial)
        assert torch.equal(other.found, whole.found)
        assert other.forwards == whole.forwards


@KINDS
def test_an_image_that_leaves_early_changes_nothing_for_the_others(tools, attack, levels):
    classifier, ball = near_the_boundary(tools, (1, 6, 9), 40, 40)
    labels = ball.labels.clone()
    labels[::3] = 1 - labels[::3]
    alone, beside = attack(classifier, ball, means()), attack(classifier, ball._replace(labels=labels), means())
    others = torch.arange(40) % 3 != 0
    assert beside.forwards < alone.forwards
    assert torch.equal(beside.adversarial[others], alone.adversarial[others])
    assert torch.equal(beside.found[others], alone.found[others])


@KINDS
def test_the_seed_decides_and_torchs_own_random_state_stays(tools, attack, levels):
    classifier, ball = near_the_boundary(tools, (1, 6, 9), 40, 40)
    kept, before = ball.images.clone(), torch.get_rng_state()
    first, again, other = (attack(classifier, ball, means(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(ball.images, kept)
    assert torch.equal(first.adversarial, again.adversarial)
    assert not torch.equal(first.adversarial, other.adversarial)


@pytest.mark.parametrize("attack", [UniformNoise(), GaussianNoise()])
def test_each_image_is_tried_twenty_times_and_none_is_tried_once_all_are_flipped(tools, attack):
    (never, tried), (always, at_once) = tools.watched(Script(300.0)), tools.watched(Script(0.0))
    ball = grey_ball((7, 1, 3, 3), 5)
    assert attack.find(never, ball, means()).forwards == 7 * NoiseSettings().draws
    assert list(map(len, tried)) == [7] * 20
    assert attack.find(always, ball, means()).found.all()
    assert list(map(len, at_once)) == [7]


@pytest.mark.parametrize("attack", [UniformNoise(), GaussianNoise()])
def test_without_images_the_net_is_not_asked(tools, attack):
    classifier, seen = tools.watched(Script(0.0))
    result = attack.find(classifier, grey_ball((0, 3, 4, 5), 5), means())
    assert result.adversarial.shape == (0, 3, 4, 5)
    assert result.found.shape == (0,)
    assert (result.forwards, seen) == (0, [])


@pytest.mark.parametrize("attack", [UniformNoise(), GaussianNoise()])
def test_a_logit_that_is_no_number_is_no_flip(tools, attack):
    assert not attack.find(tools.wrap(Script(0.0, nothing=True)), grey_ball((6, 1, 2, 2), 5), means()).found.any()


def test_candidates_are_brought_into_the_ball_before_they_are_tried(tools):
    ball = grey_ball((2, 1, 1, 1), 10)
    result = first_flipped(tools.wrap(Script(138.0)), ball, [torch.full((2, 1, 1, 1), 200.4)], 64)
    assert result.adversarial.flatten().tolist() == [138.0, 138.0]
    beyond = first_flipped(tools.wrap(Script(139.0)), ball, [torch.full((2, 1, 1, 1), 200.4)], 64)
    assert not beyond.found.any()


def test_smallest_budget_takes_noise_as_it_takes_every_attack(tools):
    classifier, ball = near_the_boundary(tools, (1, 6, 9), 80, 0)
    flips = smallest_budget(UniformNoise(), "uniform-noise", classifier, ball.images, ball.labels, (5, 20, 60), means())
    assert set(flips.scale[flips.found].tolist()) == {5.0, 20.0, 60.0}
    assert ((flips.adversarial.float() - ball.images).abs().flatten(1).amax(1)[flips.found] <= 60).all()


@pytest.mark.filterwarnings("ignore:Please import `gaussian_filter`:DeprecationWarning")
@pytest.mark.parametrize("draws", [1, 20])
def test_foolbox_flips_as_many_images_with_uniform_noise(tools, draws):
    foolbox = pytest.importorskip("foolbox")
    classifier, ball = near_the_boundary(tools, (1, 12, 12), 1500, 60 if draws == 1 else 30)
    model = foolbox.PyTorchModel(classifier, bounds=(0, 255), device="cpu")
    peer = foolbox.attacks.LinfRepeatedAdditiveUniformNoiseAttack(repeats=draws, check_trivial=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, _, theirs = peer(model, ball.images, ball.labels, epsilons=float(ball.budget))
    ours = uniform_noise(classifier, ball, means(), draws=draws).found
    rate = float(ours.float().mean())
    assert 0.1 < rate < 0.7
    # four standard deviations of a difference between two such rates
    assert rate == pytest.approx(float(theirs.float().mean()), abs=4 * (2 * rate * (1 - rate) / 1500) ** 0.5)

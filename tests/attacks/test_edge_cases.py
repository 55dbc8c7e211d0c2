"""Images and nets at the edge: constant images, no gradient, no direction in places, nothing to attack."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.attacks.base import Direction, make_attack
from bangbench.attacks.chunk import Target, attack_chunk
from bangbench.attacks.grids import grey_level_steps
from bangbench.attacks.rows import summarise
from bangbench.attacks.search import first_flip
from bangbench.metrics.pass_score import PassPool

NAMES = ["fgs", "fgs-unmasked", "hc1", "hc1-unmasked"]


class Rounding(nn.Module):
    """Logits that depend on the image, with a gradient that is zero everywhere."""

    def forward(self, images):
        brightness = images.flatten(1).round().mean(1)
        return torch.stack([brightness, torch.full_like(brightness, 100.0)], 1)


class NotFinite(nn.Module):
    """A square root whose slope at 0 is infinite: images with a black pixel 0 have no usable gradient."""

    def forward(self, images):
        root = images[:, 0, 0, 0].sqrt()
        mean = images.flatten(1).mean(1)
        return torch.stack([0.01 * mean, 0.001 * root + 0.1], 1)


class Hopeless(nn.Module):
    """Infinity minus infinity on the way back: the gradient is NaN, the logits are not."""

    def forward(self, images):
        level = images.flatten(1).mean(1)
        zero = (images[:, 0, 0, 0] * 0.0).sqrt() * 0.0
        return torch.stack([level + zero, 10.0 + zero], 1)


def attacked(tools, name, net, images, labels, pool=None):
    target = Target(tools.wrap(net), make_attack(name), name, 16, pool)
    return attack_chunk(target, images, np.asarray(labels, dtype=np.int64), 0)


def constant(*levels, side=12):
    return np.stack([np.full((1, side, side), level, dtype=np.uint8) for level in levels])


@pytest.mark.parametrize("name", NAMES)
def test_constant_images_are_attacked_scored_and_stay_in_range(tools, name):
    generator = np.random.default_rng(1)
    weight = generator.integers(-8, 9, (2, 144)) * tools.unit / 4
    classifier = tools.linear(weight, np.zeros(2))
    images = constant(0, 127, 255)
    labels = classifier(torch.from_numpy(images).float()).argmax(1).numpy()
    with PassPool(workers=1) as pool:
        columns = attacked(tools, name, classifier, images, labels, pool)
    # all-black images have all logits 0: hot/cold weighs its rows with them
    assert columns["flipped"].tolist() == [name.startswith("fgs"), True, True]
    assert columns["blank"].tolist() == [name.startswith("hc1"), False, False]
    assert np.isfinite(columns["pass"][columns["flipped"]]).all()
    assert columns["linf"][1] <= columns["scale"][1] + 0.5


@pytest.mark.parametrize("name", NAMES)
def test_pixels_without_direction_keep_their_grey_levels(tools, name):
    weight = np.zeros((2, 64))
    weight[:, ::3] = np.array([[8.0], [-8.0]]) * tools.unit
    classifier = tools.linear(weight, np.array([0.0, 0.5]))
    images = np.random.default_rng(0).integers(60, 256, (5, 1, 8, 8)).astype(np.uint8)
    flips = tools.run_attack(make_attack(name), classifier, images, np.zeros(5, dtype=np.int64))
    assert flips.found.all()
    change = flips.adversarial.numpy().reshape(5, -1).astype(int) - images.reshape(5, -1)
    still = np.arange(64) % 3 != 0
    assert (change[:, still] == 0).all()
    assert (change[:, ~still] < 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_net_without_gradient_is_blank_everywhere_and_costs_no_search(tools, name):
    images = constant(120, 200, 101)
    columns = attacked(tools, name, Rounding(), images, [0, 0, 0])
    assert columns["attacked"].all()
    assert columns["blank"].all()
    assert not columns["flipped"].any()
    assert columns["gradient_max"].tolist() == [0, 0, 0]
    assert columns["forwards"] == 3 * 3  # the clean prediction, the gradient and the verification


@pytest.mark.parametrize("name", NAMES)
def test_an_infinite_gradient_is_blank_and_leaves_the_other_images_alone(tools, name):
    images = constant(200, 200, 200)
    images[1, 0, 0, 0] = 0
    columns = attacked(tools, name, NotFinite(), images, [0, 0, 0])
    assert columns["attacked"].all()
    assert columns["blank"].tolist() == [False, True, False]
    assert columns["flipped"].tolist() == [True, False, True]
    assert columns["gradient_max"][1] == np.inf


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_not_a_number_is_blank(tools, name):
    columns = attacked(tools, name, Hopeless(), constant(20, 30), [0, 0])
    assert columns["attacked"].all()
    assert columns["blank"].all()
    assert not columns["flipped"].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_single_image_gets_what_it_gets_among_others(two_classes, tools, name):
    case, attack = two_classes, make_attack(name)
    classifier = tools.linear(case.weight, case.bias)
    together = tools.run_attack(attack, classifier, case.images[:4], case.labels[:4])
    for index in range(4):
        own = slice(index, index + 1)
        alone = tools.run_attack(attack, classifier, case.images[own], case.labels[own])
        assert alone.adversarial.equal(together.adversarial[own])
        assert alone.scale.equal(together.scale[own])


@pytest.mark.parametrize("name", NAMES)
def test_without_a_correct_image_there_is_nothing_to_attack_and_no_rate(two_classes, tools, name):
    case = two_classes
    classifier = tools.linear(case.weight, case.bias)
    columns = attacked(tools, name, classifier, case.images, 1 - case.labels)
    assert not columns["attacked"].any()
    assert not columns["blank"].any()
    summary = summarise(columns, 0, int(columns["forwards"]), 0.0)
    assert (summary.accuracy, summary.correct, summary.flipped) == (0.0, 0, 0)
    assert summary.rate is None
    assert summary.rate_interval is None
    assert summary.blank is None
    assert summary.linf.median_censored is None
    assert summary.pass_definition.mean is None


def test_a_step_that_the_verification_refutes_is_counted_and_not_a_flip(two_classes, tools, monkeypatch):
    case = two_classes

    def forgetful(classifier, images, labels, batch_size):
        predictions = classifier(images.float()).argmax(1)
        predictions[0] = int(case.labels[0])
        return predictions, None

    monkeypatch.setattr("bangbench.attacks.judged.expected_answers", forgetful)
    columns = attacked(tools, "fgs-unmasked", tools.linear(case.weight, case.bias), case.images[:5], case.labels[:5])
    assert columns["unverified"] == 1
    assert columns["flipped"].tolist() == [False, True, True, True, True]
    assert np.isnan(columns["scale"]).tolist() == [True, False, False, False, False]
    assert columns["adversarial_prediction"].tolist() == [-1, *(1 - case.labels[1:5])]


def test_images_without_any_moving_pixel_end_the_search_at_once(tools, two_classes):
    case = two_classes
    pixels = torch.from_numpy(case.images).float()
    nowhere = Direction(torch.zeros_like(pixels), torch.zeros(len(pixels), dtype=torch.bool), torch.ones(len(pixels)))
    classifier = tools.linear(case.weight, case.bias)
    flips = first_flip(classifier, pixels, torch.from_numpy(case.labels), nowhere, grey_level_steps())
    assert not flips.found.any()
    assert flips.forwards == len(pixels)
    assert flips.adversarial.numpy().tolist() == case.images.tolist()


class NaNAway(nn.Module):
    """A linear net of 4 classes that answers with NaN wherever the image is no longer the grey one it knows."""

    def forward(self, images):
        away = ((images.flatten(1) - 100 / 255).abs().amax(1) > 20 / 255)[:, None]
        logits = torch.stack([images.flatten(1)[:, place] for place in range(4)], 1) + torch.tensor([0, 0.5, 0, 0])
        return torch.where(away, torch.nan, logits)


@pytest.mark.parametrize("name", [*NAMES, "pgd", "square"])
def test_no_answer_is_no_success(name, tools):
    images = np.full((3, 1, 6, 6), 100, dtype=np.uint8)
    budgets = () if name in NAMES else (200,)
    target = Target(tools.wrap(NaNAway(), 255.0), make_attack(name), name, 8, None, budgets=budgets)
    columns = attack_chunk(target, images, np.ones(3, dtype=np.int64), 0)
    assert columns["attacked"].all()
    assert not columns["flipped"].any()


def test_an_image_without_an_answer_is_not_correct(tools):
    images = np.full((3, 1, 6, 6), 200, dtype=np.uint8)  # for which all logits are NaN, of which torch takes the first
    target = Target(tools.wrap(NaNAway(), 255.0), make_attack("fgs"), "fgs", 8, None)
    assert not attack_chunk(target, images, np.zeros(3, dtype=np.int64), 0)["attacked"].any()

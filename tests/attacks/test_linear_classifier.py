"""All attacks on linear classifiers, where the smallest flipping step is known.

The closed form and the slow twin are NumPy, one image at a time; they share no code with the package. Weights are
small integers times a power of two, so that float32 logits are exact and every comparison can ask for equality.
"""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.attacks.base import make_attack

pytestmark = pytest.mark.exact

FGS_ATTACKS = ["fgs", "fgs-unmasked"]
HOT_COLD_ATTACKS = ["hc1", "hc1-unmasked"]


def smallest_step(image, change, margin):
    """The real k at which margin - sum |change_i| min(k, room_i) is 0; infinite where saturation comes first.

    Every pixel moves one grey level a step until it is black or white: the gain is piecewise linear in k.
    """
    room = np.where(change > 0, 255.0 - image, image)
    order = np.argsort(room, kind="stable")
    ends = room[order]
    slopes = np.abs(change).sum() - np.concatenate([[0.0], np.cumsum(np.abs(change)[order])[:-1]])
    gains = np.cumsum(slopes * np.diff(ends, prepend=0.0))
    piece = int(np.searchsorted(gains, margin))
    if piece == len(gains):
        return np.inf
    before = gains[piece - 1] if piece else 0.0
    start = ends[piece - 1] if piece else 0.0
    return float(start + (margin - before) / slopes[piece])


def closed_form(case, index):
    """The step and L_inf of the fast gradient sign between two classes; None where it fails."""
    image, label = case.images[index].reshape(-1).astype(np.float64), case.labels[index]
    change = case.weight[1 - label] - case.weight[label]
    logits = case.logits(image[None])[0]
    step = np.ceil(smallest_step(image, change, logits[label] - logits[1 - label]))
    if not np.isfinite(step):
        return None
    room = np.where(change > 0, 255.0 - image, image)[change != 0]
    return step, np.minimum(room, step).max()


def direction_of(case, index, name):
    """The attack's direction, from its definition."""
    logits = case.logits(case.images[index : index + 1].astype(np.float64))[0]
    label = case.labels[index]
    wrong = np.delete(np.arange(len(logits)), label)
    if name in FGS_ATTACKS:
        odds = np.exp(logits[wrong] - logits[wrong].max())
        gradient = odds @ case.weight[wrong] / odds.sum() - case.weight[label]
        return np.sign(np.where(np.abs(gradient) < 1e-12, 0.0, gradient))
    closest = wrong[logits[wrong].argmax()]
    cold = abs(logits[label]) if name == "hc1-unmasked" else logits[label]
    product = np.abs(logits[closest]) * case.weight[closest] - cold * case.weight[label]
    return product.astype(np.float32) / np.float32(np.abs(product).max())


def moved(image, direction, scale):
    step = np.float32(scale) * direction.astype(np.float32)
    return np.clip(np.rint(image.reshape(-1).astype(np.float32) + step), 0, 255)


def slow_twin(case, index, direction, grows):
    """The smallest step by trying every one; None where even saturation does not flip."""
    image, label = case.images[index], case.labels[index]

    def flips(scale):
        return case.logits(moved(image, direction, scale).astype(np.float64)[None])[0].argmax() != label

    low, high = np.float32(0), np.float32(1)
    exact = 1.0
    while not flips(high):
        if high == 65536 or (exact >= 255 and not grows):
            return None
        exact = exact + 1 if exact < 255 else min(exact * 1.02, 65536.0)
        low, high = high, np.float32(exact)
    while grows and high - low > 1 / 16:
        middle = (low + high) / np.float32(2)
        low, high = (low, middle) if flips(middle) else (middle, high)
    return float(high)


@pytest.mark.parametrize("name", FGS_ATTACKS)
@pytest.mark.parametrize("classes", ["two_classes", "lopsided", "unbeatable"])
def test_fgs_between_two_classes_finds_the_step_of_the_closed_form(request, tools, classes, name):
    case = request.getfixturevalue(classes)
    flips = tools.run_attack(make_attack(name), tools.linear(case.weight, case.bias), case.images, case.labels)
    expected = [closed_form(case, index) for index in range(len(case.images))]
    assert flips.found.tolist() == [value is not None for value in expected]
    for index, value in enumerate(expected):
        change = np.abs(flips.adversarial[index].numpy().astype(int) - case.images[index])
        found = (float(flips.scale[index]), change.max())
        assert found == (value or (pytest.approx(np.nan, nan_ok=True), 0))


@pytest.mark.parametrize(("classes", "clipped"), [("two_classes", 10), ("lopsided", 20)])
def test_clipping_decides_the_step_for_many_of_the_images(request, classes, clipped):
    case = request.getfixturevalue(classes)
    assert len(case.images) > 20
    unclipped = []
    for image, label in zip(case.images, case.labels, strict=True):
        logits = case.logits(image.astype(float)[None])[0]
        unclipped.append(np.ceil((logits[label] - logits[1 - label]) / np.abs(2 * case.weight[0]).sum()))
    steps = [closed_form(case, index)[0] for index in range(len(case.images))]
    assert sum(step != free for step, free in zip(steps, unclipped, strict=True)) > clipped


@pytest.mark.parametrize("name", HOT_COLD_ATTACKS)
def test_hot_cold_along_a_sign_direction_needs_half_a_grey_level_less_than_fgs(two_classes, tools, name):
    # all entries of d are -1, 0 or 1: x + s d rounds to x + k d from s = k - 1/2 on (from just above where k - 1/2
    # rounds down to an even number), so that the closed form of the fast gradient sign gives s too
    case = two_classes._replace(weight=np.sign(two_classes.weight) * 4 * tools.unit)
    case = case._replace(labels=case.logits(case.images.astype(float)).argmax(1))
    flips = tools.run_attack(make_attack(name), tools.linear(case.weight, case.bias), case.images, case.labels)
    expected = [closed_form(case, index) for index in range(len(case.images))]
    assert flips.found.tolist() == [value is not None for value in expected]
    assert flips.found.all()
    assert set(case.labels) == {0, 1}
    for index in np.flatnonzero(flips.found):
        step, linf = expected[index]
        assert float(flips.scale[index]) in (step - 1 / 2, step - 7 / 16)
        change = np.abs(flips.adversarial[index].numpy().astype(int) - case.images[index])
        assert linf - 1 <= change.max() <= linf


@pytest.mark.parametrize("name", [*FGS_ATTACKS, *HOT_COLD_ATTACKS])
@pytest.mark.parametrize("classes", ["two_classes", "lopsided", "unbeatable", "five_classes"])
def test_every_attack_finds_what_trying_every_step_finds(request, tools, classes, name):
    case = request.getfixturevalue(classes)
    attack = make_attack(name)
    flips = tools.run_attack(attack, tools.linear(case.weight, case.bias), case.images, case.labels)
    for index in range(len(case.images)):
        direction = direction_of(case, index, name)
        scale = slow_twin(case, index, direction, grows=name in HOT_COLD_ATTACKS)
        assert bool(flips.found[index]) == (scale is not None)
        expected = case.images[index].reshape(-1) if scale is None else moved(case.images[index], direction, scale)
        assert flips.adversarial[index].numpy().reshape(-1).tolist() == expected.tolist()
        if scale is not None:
            assert float(flips.scale[index]) == scale


def test_hot_cold_goes_on_beyond_a_step_of_255_while_some_pixel_still_moves(lopsided, tools):
    case = lopsided
    flips = tools.run_attack(make_attack("hc1"), tools.linear(case.weight, case.bias), case.images, case.labels)
    assert flips.found.all()
    assert float(flips.scale.min()) > 255
    change = np.abs(flips.adversarial.numpy().astype(int) - case.images)
    assert change.max() <= 255


def test_negative_logits_lead_literal_hot_cold_astray(five_classes, tools):
    case = five_classes
    assert (case.logits(case.images.astype(float)) < 0).all()
    found = {}
    for name in HOT_COLD_ATTACKS:
        flips = tools.run_attack(make_attack(name), tools.linear(case.weight, case.bias), case.images, case.labels)
        found[name] = flips
    assert not found["hc1"].scale.equal(found["hc1-unmasked"].scale)
    assert found["hc1-unmasked"].found.all()
    # towards the true class, literal hot/cold flips later or not at all
    literal = found["hc1"].scale.nan_to_num(nan=float("inf"))
    assert (literal >= found["hc1-unmasked"].scale).float().mean() > 0.8

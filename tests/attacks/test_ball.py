"""Budgets, balls, and what an attack inside growing balls is given and gives back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bangbench.attacks.ball import (
    Ball,
    BallAttack,
    Found,
    batched_logits,
    gradients_and_logits,
    smallest_budget,
)
from bangbench.attacks.base import Means
from bangbench.attacks.budgets import budgets_in_grey_levels, parse_budget
from bangbench.core.errors import BenchError, UsageError
from bangbench.nets.gradients import true_logits, unmasked_margin

pytestmark = pytest.mark.exact


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("0.3", 76),
        (".3", 76),
        ("0.1", 25),
        ("0.2", 51),
        ("8/255", 8),
        (" 8 / 255 ", 8),
        ("2/255", 2),
        ("1/3", 85),
        ("0.5/2", 63),
        ("1", 255),
        ("1.0", 255),
        ("255/255", 255),
        ("1/255", 1),
        ("0.004", 1),
        ("0.0313725490", 8),  # 8/255 as printed, a little less than 8 grey levels
    ],
)
def test_a_budget_is_a_share_of_the_range_in_whole_grey_levels_rounded_down(text, levels):
    assert parse_budget(text) == levels


def test_every_number_of_grey_levels_can_be_written_as_a_fraction():
    assert [parse_budget(f"{levels}/255") for levels in range(1, 256)] == list(range(1, 256))


WRONG = ["0", "0.0", "0/255", "-1", "-0.1", "1.5", "1.001", "256/255", "abc", "", "1/0", "1/0.0", "0/0", "0.001"]
WRONG += ["0.5/255", "nan", "inf", "1e-1", "0,3", "30%", "8/255/1", "8/", "/255", "0.3 0.4"]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_budget_is_refused_with_what_one_looks_like(text):
    with pytest.raises(UsageError) as caught:
        parse_budget(text)
    assert str(caught.value) == (
        "expected a budget as a share of the grey-level range, such as 0.3 or 8/255, of at least 1/255 and at most 1, "
        f"found '{text}'"
    )


@given(st.text("0123456789./- e", max_size=12))
def test_whatever_is_written_it_is_refused_or_within_the_range(text):
    try:
        levels = parse_budget(text)
    except UsageError:
        return
    assert 1 <= levels <= 255


def test_budgets_are_sorted_without_repetition():
    assert budgets_in_grey_levels(("0.3", "8/255", "0.1", "76/255", "0.3"), 1) == (8, 25, 76)


@pytest.mark.parametrize("given", [None, ()])
def test_the_usual_budgets_depend_on_the_channels(given):
    assert budgets_in_grey_levels(given, 1) == (25, 51, 76)
    assert budgets_in_grey_levels(given, 3) == (2, 4, 8)
    assert budgets_in_grey_levels(given, 4) == (2, 4, 8)


def test_a_wrong_budget_among_others_is_named():
    with pytest.raises(UsageError, match=r"found '1\.5'"):
        budgets_in_grey_levels(("0.1", "1.5"), 1)


class Plain(BallAttack):
    """An attack that is nothing but its `find`."""

    def __init__(self, find):
        super().__init__()
        self.given = find

    def find(self, classifier, ball, means):
        return self.given(classifier, ball, means)


def images_of(*values: float) -> Tensor:
    """Return one image (1, 1, 1) for each value."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("value", "moved", "expected"),
    [
        (100, 103.4, 103),  # inside: only rounded
        (100, 103.6, 104),
        (100, 110.4, 110),
        (100, 110.6, 110),  # rounded first, so that it cannot leave the ball again
        (100, 200, 110),
        (100, -50, 90),
        (5, -20, 0),  # the range is nearer than the edge of the ball
        (5, 300, 15),
        (250, 300, 255),
        (250, 0, 240),
        (0, -0.4, 0),
        (255, 255.4, 255),
    ],
)
def test_projection_rounds_and_stays_inside_ball_and_range(value, moved, expected):
    ball = Ball(images_of(value), torch.zeros(1, dtype=torch.int64), 10)
    assert ball.project(images_of(moved)).item() == expected
    assert ball.images.item() == value


@given(st.integers(1, 255), st.integers(0, 2**31))
def test_projected_images_are_the_closest_that_are_allowed(budget, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (4, 2, 3, 3), generator=generator).float()
    moved = images + 300.0 * torch.randn(images.shape, generator=generator)
    wanted = moved.clone()
    projected = Ball(images, torch.zeros(4, dtype=torch.int64), budget).project(moved)
    assert projected.data_ptr() == moved.data_ptr()
    levels = torch.arange(256.0).view(-1, 1, 1, 1, 1)
    allowed = (levels - images).abs() <= budget
    distances = (levels - wanted).abs().masked_fill(~allowed, torch.inf)
    assert torch.equal((projected - wanted).abs(), distances.amin(0))
    assert allowed.gather(0, projected.long()[None]).all()


@pytest.mark.parametrize("chosen", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_the_ball_of_some_images_keeps_their_labels_and_the_budget(chosen):
    ball = Ball(images_of(1, 2, 3), torch.tensor([7, 8, 9]), 5)
    some = ball.rows(chosen)
    assert some.images.flatten().tolist() == ball.images.flatten()[chosen].tolist()
    assert (some.labels.tolist(), some.budget) == (ball.labels[chosen].tolist(), 5)


class Toy:
    """An attack that flips the images whose value is at most the budget, by darkening them; remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[float], list[int]]] = []
        self.means: list[Means] = []

    def __call__(self, classifier: nn.Module, ball: Ball, means: Means) -> Found:
        self.calls.append((ball.budget, ball.images.flatten().tolist(), ball.labels.tolist()))
        self.means.append(means)
        found = ball.images.flatten() <= ball.budget
        # where nothing is found, something else stands there: it must not be taken
        adversarial = torch.where(found.view(-1, 1, 1, 1), ball.images - 1.0, 77.0)
        return Found(adversarial, found, 10 * len(ball.images))


MEANS = Means(torch.Generator(), 4)


def test_only_survivors_are_tried_in_the_next_larger_ball(tools):
    toy, images, labels = Toy(), images_of(60, 5, 200, 30, 50), torch.tensor([0, 1, 2, 3, 4])
    flips = smallest_budget(Plain(toy), "toy", tools.wrap(nn.Identity()), images, labels, (10, 50, 76), MEANS)
    assert toy.calls == [
        (10, [60, 5, 200, 30, 50], [0, 1, 2, 3, 4]),
        (50, [60, 200, 30, 50], [0, 2, 3, 4]),
        (76, [60, 200], [0, 2]),
    ]
    assert toy.means == [MEANS._replace(budget=budget) for budget in (10, 50, 76)]
    assert flips.scale.nan_to_num(-1).tolist() == [76, 10, -1, 50, 50]
    assert flips.found.tolist() == [True, True, False, True, True]
    assert flips.adversarial.flatten().tolist() == [59, 4, 200, 29, 49]
    assert (flips.adversarial.dtype, flips.scale.dtype, flips.found.dtype) == (torch.uint8, torch.float32, torch.bool)
    assert flips.forwards == 10 * (5 + 4 + 2)
    assert images.flatten().tolist() == [60, 5, 200, 30, 50]


def test_larger_balls_are_not_tried_once_every_image_is_flipped(tools):
    toy = Toy()
    flips = smallest_budget(
        Plain(toy), "toy", tools.wrap(nn.Identity()), images_of(3, 9), torch.tensor([0, 0]), (10, 50), MEANS
    )
    assert [budget for budget, _, _ in toy.calls] == [10]
    assert (flips.scale.tolist(), flips.forwards) == ([10, 10], 20)


def test_no_image_at_all_is_no_error_and_needs_no_forward_pass(tools):
    toy, none = Toy(), torch.empty(0, 1, 1, 1)
    flips = smallest_budget(
        Plain(toy), "toy", tools.wrap(nn.Identity()), none, torch.empty(0, dtype=torch.int64), (10, 50), MEANS
    )
    assert (toy.calls, flips.adversarial.shape, flips.found.shape, flips.forwards) == ([], (0, 1, 1, 1), (0,), 0)


def test_an_attack_inside_a_ball_asks_for_a_budget(tools):
    with pytest.raises(UsageError, match="an attack inside a ball needs a budget; give it one with --budget"):
        Plain(Toy()).run(tools.wrap(nn.Identity()), images_of(3), torch.tensor([0]), MEANS)


def test_what_a_ball_attack_finds_is_rounded_to_whole_grey_levels_in_range(tools):
    def find(classifier, ball, means):
        return Found(images_of(-3.2, 100.6, 300.0), torch.tensor([True, False, True]), 7)

    images, labels = images_of(1, 100, 250), torch.zeros(3, dtype=torch.int64)
    flips = Plain(find).run(tools.wrap(nn.Identity()), images, labels, MEANS._replace(budget=50))
    assert flips.adversarial.flatten().tolist() == [0, 101, 255]
    assert flips.scale.nan_to_num(-1).tolist() == [50, -1, 50]
    assert (flips.found.tolist(), flips.forwards) == ([True, False, True], 7)
    assert not flips.blank.any()
    assert flips.gradient_max.isnan().all()


WRONG_RETURNS = {
    "another kind of thing": (tuple, "Flips, found tuple"),
    "another shape": (
        lambda flips: flips._replace(adversarial=flips.adversarial[:, 0]),
        r"Flips with adversarial of shape \(2, 1, 1, 1\) and torch.uint8, found \(2, 1, 1\) torch.uint8",
    ),
    "another type": (
        lambda flips: flips._replace(found=flips.found.float()),
        r"Flips with found of shape \(2,\) and torch.bool, found \(2,\) torch.float32",
    ),
    "no tensor": (lambda flips: flips._replace(scale=None), "Flips with scale of shape .*, found NoneType"),
}


@pytest.mark.parametrize(("spoil", "message"), WRONG_RETURNS.values(), ids=WRONG_RETURNS)
def test_what_is_no_flips_is_refused_with_the_attacks_name(tools, spoil, message):
    class Spoiled(Plain):
        def run(self, *given):
            return spoil(super().run(*given))

    with pytest.raises(BenchError, match=rf"attack 'odd': Attack.run must return bangbench.attacks.base.{message}"):
        smallest_budget(
            Spoiled(Toy()), "odd", tools.wrap(nn.Identity()), images_of(3, 60), torch.tensor([0, 0]), (10,), MEANS
        )


BATCH_SIZES = (1, 3, 7, 24, 1000)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return a margin that needs no rounding where logits need none."""
    return logits.sum(1) - 6.0 * true_logits(logits, labels)


def test_gradients_and_logits_are_the_same_bits_for_every_batch_size(tools, five_classes):
    classifier = tools.linear(five_classes.weight, five_classes.bias)
    images, labels = torch.from_numpy(five_classes.images).float(), torch.from_numpy(five_classes.labels)
    weight = torch.from_numpy(five_classes.weight).float()
    expected = (weight.sum(0) - 6.0 * weight[labels]).view(-1, 1, 8, 8)
    logits = torch.from_numpy(five_classes.logits(five_classes.images)).float()
    assert len(set(labels.tolist())) > 2
    for size in BATCH_SIZES:
        gradient, found = gradients_and_logits(classifier, images, margin, size, labels)
        assert torch.equal(gradient, expected)
        assert torch.equal(found, logits)
        assert torch.equal(batched_logits(classifier, images, size), logits)
        assert not (gradient.requires_grad or found.requires_grad)


def test_gradients_of_a_net_do_not_depend_on_the_batch_size(tools, small_net):
    images = torch.randint(0, 256, (24, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    labels = torch.arange(24) % 4
    whole, logits = gradients_and_logits(small_net, images, unmasked_margin, 24, labels)
    for size in BATCH_SIZES:
        gradient, found = gradients_and_logits(small_net, images, unmasked_margin, size, labels)
        torch.testing.assert_close(gradient, whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))
        torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(batched_logits(small_net, images, size), logits, rtol=1e-5, atol=1e-6)


def test_no_pass_holds_more_images_than_the_batch_size(tools, small_net):
    sizes: list[int] = []
    images, labels = torch.zeros(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64)
    hook = small_net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    try:
        gradients_and_logits(small_net, images, unmasked_margin, 3, labels)
        batched_logits(small_net, images, 5)
    finally:
        hook.remove()
    assert sizes == [3, 3, 2, 5, 3]


def test_gradients_are_computed_where_they_are_switched_off_and_leave_the_net_alone(tools, small_net):
    images, labels = torch.full((2, 1, 8, 8), 9.0), torch.tensor([0, 1])
    expected, _ = gradients_and_logits(small_net, images, unmasked_margin, 2, labels)
    with torch.no_grad():
        gradient, _ = gradients_and_logits(small_net, images, unmasked_margin, 2, labels)
    assert torch.equal(gradient, expected)
    assert bool(gradient.any())
    assert not images.requires_grad
    assert all(value.grad is None for value in small_net.parameters())

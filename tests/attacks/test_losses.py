"""What gradient attacks climb: the ratios from their definitions, and a direction that rounding cannot turn."""

from __future__ import annotations

import itertools

import pytest
import torch

from bangbench.attacks.losses import DLR, TARGETED_DLR, UNMASKED_CROSS_ENTROPY, dlr, targeted_dlr

pytestmark = pytest.mark.exact

#: Factors and shifts of logits drawn from a normal distribution.
SIZES = {"plain": (1.0, 0.0), "tiny": (1e-30, 0.0), "huge": (1e30, 0.0), "negative": (10.0, -300.0)}


def draw(classes, size=1.0, shift=0.0, count=500):
    """Logits (N, K), the class with the largest one, as of images that are not flipped yet, and another as the aim."""
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn((count, classes), generator=generator) * size + shift
    labels = logits.argmax(1)
    aims = (labels + 1 + torch.randint(classes - 1, (count,), generator=generator)) % classes
    return logits, labels, aims


def gradient_of(function, logits, *given):
    variable = logits.clone().requires_grad_(True)
    values = function(variable, *given)
    return torch.autograd.grad(values.sum(), variable)[0]


def ratio_by_definition(logits, label, aim=None):
    """One row at a time from the paper's equations 6 and 7; logits as Python numbers."""
    ordered = sorted(logits, reverse=True)
    if aim is None:
        wrong = max(value for number, value in enumerate(logits) if number != label)
        return (wrong - logits[label]) / (ordered[0] - ordered[2])
    return (logits[aim] - logits[label]) / (ordered[0] - (ordered[2] + ordered[3]) / 2)


@pytest.mark.parametrize("classes", [4, 5, 10])
def test_the_ratios_are_those_of_the_papers_equations(classes):
    logits, labels, aims = draw(classes)
    labels[::2], aims[::2] = aims[::2], labels[::2].clone()  # whatever their order
    untargeted, targeted = dlr(logits, labels), targeted_dlr(logits, labels, aims)
    for row, (label, aim) in enumerate(zip(labels.tolist(), aims.tolist(), strict=True)):
        values = logits[row].double().tolist()
        assert float(untargeted[row]) == pytest.approx(ratio_by_definition(values, label), rel=1e-4)
        assert float(targeted[row]) == pytest.approx(ratio_by_definition(values, label, aim), rel=1e-4)


def test_neither_a_shift_nor_a_scale_of_the_logits_changes_a_ratio():
    logits = torch.tensor([[5.0, 3.0, 1.0, 0.0]] * 3)
    labels, aims = torch.tensor([0, 1, 3]), torch.tensor([2, 3, 0])
    for size, shift in ((1.0, 0.0), (8.0, -1024.0)):
        assert dlr(logits * size + shift, labels).tolist() == [-0.5, 0.5, 1.25]
        expected = torch.tensor([-4.0, -3.0, 5.0]) / 4.5
        torch.testing.assert_close(targeted_dlr(logits * size + shift, labels, aims), expected)


def test_with_too_few_classes_the_ratios_are_margins():
    assert dlr(torch.tensor([[5.0, 3.0]]), torch.tensor([0])).tolist() == [-2.0]
    three, label, aim = torch.tensor([[5.0, 3.0, 9.0]]), torch.tensor([0]), torch.tensor([1])
    assert targeted_dlr(three, label, aim).tolist() == [-2.0]
    assert targeted_dlr(three[:, :2], label, aim).tolist() == [-2.0]
    for logits in (three, three[:, :2]):
        slope = gradient_of(TARGETED_DLR.objective, logits, label, aim)
        assert slope.sign().tolist() == [[-1.0, 1.0, 0.0][: logits.shape[1]]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("classes", [2, 3, 4, 10])
@pytest.mark.parametrize("loss", [DLR, TARGETED_DLR], ids=["untargeted", "targeted"])
def test_what_is_climbed_has_exactly_the_signs_of_the_ratios_gradient(loss, classes, size):
    logits, labels, aims = draw(classes, *SIZES[size])
    # the ratio does not depend on a factor, and 1e-30 squared is no float32
    exact = logits.double() / SIZES[size][0]
    expected = gradient_of(loss.value, exact, labels, aims)
    found = gradient_of(loss.objective, logits, labels, aims)
    assert torch.equal(found.sign(), expected.sign().float())
    assert expected.abs().amax(1).gt(0.0).all()


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_climbed_is_the_ratios_gradient_up_to_a_positive_factor_for_each_image(classes, size):
    logits, labels, aims = draw(classes, *SIZES[size])
    exact = logits.double() / SIZES[size][0]
    for loss in (DLR, TARGETED_DLR):
        expected = gradient_of(loss.value, exact, labels, aims)
        found = gradient_of(loss.objective, logits, labels, aims).double()
        scale = found.norm(dim=1, keepdim=True) / expected.norm(dim=1, keepdim=True)
        torch.testing.assert_close(found, expected * scale, rtol=1e-3, atol=1e-5 * float(found.abs().max()))


@pytest.mark.parametrize("loss", [DLR, TARGETED_DLR], ids=["untargeted", "targeted"])
def test_of_logits_that_are_exact_so_is_what_is_climbed_but_for_a_power_of_two(loss):
    """A quotient would be rounded, and where entries of the product with the weights cancel, signs would be luck."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.stack([torch.randperm(2000, generator=generator)[:10] for _ in range(200)]).float() * 2.0**-5
    labels = logits.argmax(1)
    aims = (labels + 1) % 10
    found = gradient_of(loss.objective, logits, labels, aims).double()
    # the ratio's gradient times the square of its denominator: products and sums of what takes few bits
    highest = logits.double().topk(4).values
    below = highest[:, 0] - (highest[:, 2] if loss is DLR else 0.5 * (highest[:, 2] + highest[:, 3]))
    expected = gradient_of(loss.value, logits.double(), labels, aims) * below.square()[:, None]
    expected = (expected * 2.0**20).round() / 2.0**20
    largest = expected.abs().argmax(1, keepdim=True)
    factor = found.gather(1, largest) / expected.gather(1, largest)
    assert (torch.frexp(factor).mantissa == 0.5).all()
    assert torch.equal(found, factor * expected)


@pytest.mark.parametrize("exponent", [-30, -20, 0, 20, 30])
def test_nothing_overflows_or_vanishes_however_large_or_small_the_logits_are(exponent):
    logits, labels, aims = draw(10, 10.0**exponent)
    for loss in (DLR, TARGETED_DLR, UNMASKED_CROSS_ENTROPY):
        largest = gradient_of(loss.objective, logits, labels, aims).abs().amax(1).double()
        # as logits grow, their ratio's slope shrinks by the same factor
        scaled = largest if loss is UNMASKED_CROSS_ENTROPY else largest * 10.0**exponent
        assert 1e-3 < float(scaled.min()) <= float(scaled.max()) < 100.0
        assert loss.objective(logits, labels, aims).isfinite().all()


def test_equal_logits_have_a_ratio_and_a_gradient():
    logits, labels, aims = torch.full((2, 4), 7.0), torch.tensor([0, 3]), torch.tensor([1, 2])
    for loss in (DLR, TARGETED_DLR):
        assert loss.value(logits, labels, aims).tolist() == [0.0, 0.0]
        assert gradient_of(loss.objective, logits, labels, aims).isfinite().all()


def test_logits_that_are_no_numbers_give_no_number_and_spoil_no_other_row():
    logits, labels, aims = draw(5, count=4)
    broken = logits.clone()
    broken[1, 0] = torch.nan
    broken[2, 1] = torch.inf
    for loss, row in itertools.product((DLR, TARGETED_DLR), (0, 3)):
        assert loss.value(broken, labels, aims)[row] == loss.value(logits, labels, aims)[row]
        found, healthy = (gradient_of(loss.objective, some, labels, aims)[row] for some in (broken, logits))
        assert torch.equal(found, healthy)


def test_a_larger_value_is_closer_to_another_class():
    """Only this may be asked of a value: the attack keeps the iterate where it is largest."""
    logits, labels, aims = draw(10)
    closer = logits.clone()
    closer[torch.arange(len(labels)), aims] = logits.amax(1) + 0.5
    for loss in (DLR, TARGETED_DLR, UNMASKED_CROSS_ENTROPY):
        assert (loss.value(closer, labels, aims) > loss.value(logits, labels, aims)).all()
    assert (dlr(logits, labels) < 0.0).all()
    assert (dlr(closer, labels) > 0.0).all()

"""FGSM inside a ball: the step itself, its failures, and the words that benchmarks have for its result."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bangbench.attacks.base import Means, make_attack
from bangbench.attacks.registry import ATTACKS
from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing


def linear(scale: float = 1.0) -> Classifier:
    """Return a classifier of 4 pixels: class 1 where the first two are brighter than the last two."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight.copy_(scale * torch.tensor([[-1.0, -1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0]]))
        net[1].bias.zero_()
    return Classifier(net, Preprocessing(input_scale=1.0)).eval().requires_grad_(False)


def run(classifier: Classifier, images: torch.Tensor, labels: torch.Tensor, budget: int):
    return make_attack("fgsm").run(classifier, images, labels, Means(torch.Generator(), 8, None, budget))


@pytest.mark.parametrize(("budget", "flipped"), [(4, False), (6, True), (20, True)])
def test_the_step_goes_the_whole_budget_against_the_true_class(budget, flipped):
    images = torch.tensor([[[[110.0, 110.0], [100.0, 100.0]]]])  # the margin is 20: gone after 5 levels, turned after 6
    flips = run(linear(0.01), images, torch.tensor([1]), budget)
    assert flips.found.tolist() == [flipped]
    assert flips.forwards == 2
    if flipped:
        expected = torch.tensor([110 - budget, 110 - budget, 100 + budget, 100 + budget])
        assert flips.adversarial.flatten().tolist() == expected.tolist()
        assert flips.scale.tolist() == [budget]


def test_a_step_stays_between_black_and_white():
    images = torch.tensor([[[[3.0, 3.0], [0.0, 253.0]]]])
    flips = run(linear(0.01), images, torch.tensor([0]), 255)
    assert flips.adversarial.flatten().tolist() == [255, 255, 0, 0]


def test_a_loss_that_underflows_leaves_nothing_to_follow_and_nothing_is_found():
    images = torch.tensor([[[[110.0, 110.0], [100.0, 100.0]]]])
    flips = run(linear(50.0), images, torch.tensor([1]), 50)
    assert not flips.found.any()


def test_an_audit_leaves_it_out_for_stronger_ones():
    kind = ATTACKS.load("fgsm")
    assert set(kind.strengths.values()) == {None}

"""The softmax that every number rests on: a plain loop in class order, its gradients, and the same bits everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import class_powers, cross_entropy, image_gradient, loss_vanishes, unmasked_margin
from bangbench.store.records import Preprocessing

#: From hardly sure to so sure that the loss is 0; many classes and few.
CASES = [(10, 1.0), (10, 6.0), (10, 12.0), (3, 10.0), (100, 4.0), (2, 16.0)]


def draw(classes, size, count=300):
    generator = torch.Generator().manual_seed(classes)
    logits = size * torch.randn((count, classes), generator=generator)
    labels = logits.argmax(1)
    labels[::7] = torch.randint(classes, labels[::7].shape, generator=generator)
    return logits, labels


def powers_by_hand(row):
    """Caffe's: exp(z - max) of one image, added in float32 one class after the other."""
    highest = max(row)
    powers = [np.float32(np.exp(np.float64(value) - np.float64(highest))) for value in row]
    total = np.float32(0.0)
    for power in powers:
        total = np.float32(total + power)
    return powers, total


def by_hand(logits):
    powers, totals = zip(*map(powers_by_hand, logits.numpy()), strict=True)
    return np.array(powers), np.array(totals)


def gradient_of(function, logits, labels):
    variable = logits.clone().requires_grad_(True)
    return torch.autograd.grad(function(variable, labels).sum(), variable)[0]


@pytest.mark.exact
@pytest.mark.parametrize(("classes", "size"), CASES)
def test_the_powers_and_their_sum_are_those_of_a_plain_loop_in_float32(classes, size):
    logits, _ = draw(classes, size)
    powers, total = class_powers(logits)
    expected, sums = by_hand(logits)
    assert powers.dtype == total.dtype == torch.float32
    assert np.array_equal(powers.numpy(), expected)
    assert np.array_equal(total.numpy(), sums)


@pytest.mark.exact
@pytest.mark.parametrize(("classes", "size"), CASES)
def test_the_loss_vanishes_exactly_where_the_loop_gives_the_true_class_a_probability_of_one(classes, size):
    logits, labels = draw(classes, size)
    powers, sums = by_hand(logits)
    probabilities = powers[np.arange(len(labels)), labels] / sums
    assert probabilities.dtype == np.float32
    vanishes = loss_vanishes(logits, labels)
    assert vanishes.tolist() == (probabilities == 1.0).tolist()
    assert (cross_entropy(logits, labels)[vanishes] == 0.0).all()
    if size >= 10.0:
        assert 10 < int(vanishes.sum()) < len(labels)


@pytest.mark.exact
def test_the_order_of_the_classes_decides_for_the_last_bit():
    """Small powers that are lost one by one beside a large one, and count together before it."""
    small = -17.0  # e^-17 is a little less than half the last bit of 1
    first, last = torch.full((1, 10), small), torch.full((1, 10), small)
    first[0, 0], last[0, 9] = 0.0, 0.0
    assert loss_vanishes(first, torch.tensor([0])).tolist() == [True]
    assert loss_vanishes(last, torch.tensor([9])).tolist() == [False]


@pytest.mark.exact
@pytest.mark.parametrize(("classes", "size"), CASES)
def test_the_cross_entropys_gradient_is_exactly_p_less_the_true_class(classes, size):
    logits, labels = draw(classes, size)
    powers, sums = by_hand(logits)
    expected = powers / sums[:, None]
    expected[np.arange(len(labels)), labels] -= np.float32(1.0)
    assert expected.dtype == np.float32
    assert np.array_equal(gradient_of(cross_entropy, logits, labels).numpy(), expected)
    exact = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, labels).double(), exact, rtol=1e-4, atol=3e-7)


@pytest.mark.exact
@pytest.mark.parametrize(("classes", "size"), CASES)
def test_the_margins_gradient_is_exactly_the_softmax_of_the_wrong_classes_less_the_true_one(classes, size):
    logits, labels = draw(classes, size)
    rows = np.arange(len(labels))
    wrong = logits.clone()
    wrong[torch.from_numpy(rows), labels] = -torch.inf
    powers, sums = by_hand(wrong)
    expected = powers / sums[:, None]
    expected[rows, labels] = -1.0
    assert np.array_equal(gradient_of(unmasked_margin, logits, labels).numpy(), expected)
    exact = torch.logsumexp(wrong.double(), 1) - logits.double()[rows, labels]
    torch.testing.assert_close(unmasked_margin(logits, labels).double(), exact, rtol=1e-5, atol=1e-5)


def test_in_float64_all_of_this_is_in_float64():
    logits, labels = draw(10, 12.0)
    precise = logits.double()
    powers, total = class_powers(precise)
    assert powers.dtype == total.dtype == cross_entropy(precise, labels).dtype == torch.float64
    assert not loss_vanishes(precise, labels)[loss_vanishes(logits, labels)].all()
    probabilities = precise.softmax(1)
    expected = probabilities - torch.nn.functional.one_hot(labels, 10)
    torch.testing.assert_close(gradient_of(cross_entropy, precise, labels), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("function", [cross_entropy, unmasked_margin])
def test_gradients_go_on_to_what_the_logits_were_computed_from(function):
    weight = torch.randn((4, 6), generator=torch.Generator().manual_seed(0))
    images = torch.randn((5, 6), generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 3, 0])
    given = gradient_of(lambda images, labels: function(images @ weight.T, labels), images, labels)
    torch.testing.assert_close(given, gradient_of(function, images @ weight.T, labels) @ weight)


def test_logits_that_are_no_numbers_do_not_vanish():
    logits = torch.tensor([[1.0, torch.nan], [torch.inf, 0.0], [-torch.inf, 0.0]])
    assert loss_vanishes(logits, torch.tensor([0, 0, 0])).tolist() == [False, False, False]


PROGRAM = """
import hashlib

import torch

from bangbench.nets.gradients import class_powers, cross_entropy, image_gradient, loss_vanishes, unmasked_margin


def digest(folder):
    found = hashlib.sha256()
    for file in sorted(folder.glob("*.pt")):
        logits = torch.load(file, weights_only=True).requires_grad_(True)
        labels = logits.argmax(1)
        values = [*class_powers(logits), loss_vanishes(logits, labels)]
        for function in (cross_entropy, unmasked_margin):
            value = function(logits, labels)
            values += [value, *torch.autograd.grad(value.sum(), logits)]
        for value in values:
            found.update(value.detach().numpy().tobytes())
    return found.hexdigest()
"""


def test_without_vector_instructions_every_bit_is_the_same(tmp_path):
    for classes, size in CASES:
        torch.save(draw(classes, size)[0], tmp_path / f"{classes}-{size}.pt")
    here: dict[str, Any] = {}
    exec(PROGRAM, here)
    there = f"{PROGRAM}\nfrom pathlib import Path\n\ntorch.set_num_threads(1)\nprint(digest(Path({str(tmp_path)!r})))"
    plain = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", there], env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here["digest"](tmp_path)


@pytest.mark.parametrize("cut", [lambda logits: logits.detach(), lambda logits: logits.round().long().float()])
def test_a_model_that_lets_no_gradient_through_is_told(cut):
    class Cut(nn.Module):
        def forward(self, images):
            return cut(images.flatten(1)[:, :3])

    with pytest.raises(BenchError, match="no gradient of the logits reaches the images"):
        image_gradient(Classifier(Cut(), Preprocessing()).eval(), torch.ones(2, 1, 4, 4), lambda logits: logits[:, 0])

"""Batches: file order, wrapping round, and shuffling that can be taken up anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bangbench.data.dataset import make_dataset
from bangbench.training.batches import Batches

CPU = torch.device("cpu")
COUNT = 10


def batches(size: int, shuffle_seed: int | None = None) -> Batches:
    """Return batches of ten images, number i of which is filled with the grey level 20 i and has the label i."""
    labels = np.arange(COUNT)
    images = np.broadcast_to(20 * labels[:, None, None, None], (COUNT, 1, 2, 2)).astype(np.uint8)
    return Batches(make_dataset(images, labels, tuple("abcdefghij"), "test"), size, CPU, shuffle_seed)


def indices(reader: Batches, iteration: int) -> list[int]:
    images, labels = reader.at(iteration)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.shape == (reader.size, 1, 2, 2)
    assert torch.equal(images, 20.0 * labels.view(-1, 1, 1, 1).expand_as(images))
    return labels.tolist()


@pytest.mark.parametrize("size", [1, 4, 5, 7, 10, 11, 23, 40])
def test_file_order_wraps_round_wherever_it_must(size):
    reader = batches(size)
    read = [index for iteration in range(9) for index in indices(reader, iteration)]
    assert read == [position % COUNT for position in range(9 * size)]


def test_wrapping_round_in_the_middle_of_a_batch():
    assert indices(batches(4), 2) == [8, 9, 0, 1]


def test_a_batch_larger_than_the_data():
    assert indices(batches(23), 0) == [*range(10), *range(10), 0, 1, 2]


@pytest.mark.parametrize("size", [3, 10, 25])
def test_each_shuffled_pass_is_a_permutation_of_its_own(size):
    reader = batches(size, shuffle_seed=3)
    read = [index for iteration in range(2 * COUNT) for index in indices(reader, iteration)]
    passes = [tuple(read[begin : begin + COUNT]) for begin in range(0, 2 * COUNT * size, COUNT)]
    assert all(sorted(one) == list(range(COUNT)) for one in passes)
    assert len(set(passes)) == len(passes)
    assert tuple(range(COUNT)) not in passes


def test_the_order_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = [indices(batches(7, shuffle_seed=3), iteration) for iteration in range(5)]
    torch.manual_seed(2)
    assert [indices(batches(7, shuffle_seed=3), iteration) for iteration in range(5)] == first
    assert [indices(batches(7, shuffle_seed=4), iteration) for iteration in range(5)] != first


def test_a_batch_does_not_depend_on_what_was_read_before():
    reader = batches(4, shuffle_seed=3)
    in_order = [indices(reader, iteration) for iteration in range(12)]
    visits = np.random.default_rng(0).permutation(12).tolist()
    assert {visit: indices(reader, visit) for visit in visits} == dict(enumerate(in_order))
    assert indices(batches(4, shuffle_seed=3), 11) == in_order[11]

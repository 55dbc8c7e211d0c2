"""Selection of images against a loop that reads like the protocol."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.noise.select import select_images


def brute_force(correct: np.ndarray, labels: np.ndarray, per_class: int) -> list[int]:
    taken: dict[int, int] = {}
    chosen = []
    for index, label in enumerate(labels.tolist()):
        if all(row[index] for row in correct) and taken.get(label, 0) < per_class:
            taken[label] = taken.get(label, 0) + 1
            chosen.append(index)
    return chosen


@pytest.mark.parametrize("per_class", [1, 3, 7, 1000])
@pytest.mark.parametrize("right", [0.5, 0.9, 1.0])
def test_selection_equals_the_loop(per_class, right):
    generator = np.random.default_rng(int(per_class + 100 * right))
    correct = generator.random((4, 300)) < right
    labels = generator.integers(0, 10, 300)
    chosen = select_images(correct, labels, per_class)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == brute_force(correct, labels, per_class)


def test_one_mistake_at_one_stage_excludes_an_image():
    correct = np.ones((3, 4), dtype=bool)
    correct[1, 0] = False
    assert select_images(correct, np.array([0, 0, 1, 1]), 1).tolist() == [1, 2]


def test_a_class_with_fewer_images_gives_what_it_has():
    correct = np.ones((2, 5), dtype=bool)
    assert select_images(correct, np.array([1, 0, 0, 0, 1]), 3).tolist() == [0, 1, 2, 3, 4]


def test_nothing_always_correct_selects_nothing():
    assert select_images(np.zeros((2, 5), dtype=bool), np.array([1, 0, 0, 0, 1]), 3).size == 0

"""The search along a direction: the first flip, its cost, and what it may not depend on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.attacks import search
from bangbench.attacks.base import Direction, make_attack
from bangbench.attacks.chunk import Target, attack_chunk
from bangbench.attacks.grids import Grid, grey_level_steps, growing_steps
from bangbench.attacks.search import first_flip, perturb
from bangbench.nets.models import open_model

pytestmark = pytest.mark.exact

LAST = 255


class Table(nn.Module):
    """Looks the class of an image up by its grey level (pixel 0); pixel 1 says in which of the tables."""

    def __init__(self, tables: Sequence[Sequence[int]]) -> None:
        super().__init__()
        flipped = torch.zeros(len(tables), 256, dtype=torch.int64)
        for row, levels in enumerate(tables):
            flipped[row, list(levels)] = 1
        self.register_buffer("flipped", flipped)

    def forward(self, images):
        pixels = images.flatten(1).long()
        return nn.functional.one_hot(self.flipped[pixels[:, 1], pixels[:, 0]], 2).float()


def search_tables(tools, tables, grid, batch_size=None, slope=1.0):
    """Search in each table from grey level 0, which moves by `slope` a step; return flips for labels 0."""
    images = torch.zeros(len(tables), 1, 1, 2)
    images[:, 0, 0, 1] = torch.arange(len(tables))
    steps = torch.zeros_like(images)
    steps[..., 0] = slope
    direction = Direction(steps, torch.zeros(len(tables), dtype=torch.bool), torch.ones(len(tables)))
    labels = torch.zeros(len(tables), dtype=torch.int64)
    return first_flip(tools.wrap(Table(tables)), images, labels, direction, grid, batch_size)


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_only_the_first_flip_counts_on_a_classifier_that_flips_back(tools, batch_size):
    tables = [
        [3, *range(9, 256)],  # flips, flips back, and flips again
        [40, 43],  # where several steps are tried at once
        [200, *range(202, 256)],
        [1],
        [255],
        [],
    ]
    flips = search_tables(tools, tables, grey_level_steps(), batch_size)
    assert flips.found.tolist() == [True] * 5 + [False]
    assert flips.scale[:5].tolist() == [3, 40, 200, 1, 255]
    assert flips.scale[5].isnan()
    assert flips.adversarial[:, 0, 0, 0].tolist() == [3, 40, 200, 1, 255, 0]


def test_bisection_stays_between_the_last_failure_and_the_first_success(tools):
    # with half a grey level a step, step 2 k - 1 rounds to the even of k - 1 and k, and step 2 k to k
    flips = search_tables(tools, [[3, *range(9, 256)], [100], [254, 255]], growing_steps(), slope=0.5)
    assert flips.found.all()
    assert flips.adversarial[:, 0, 0, 0].tolist() == [3, 100, 254]
    # 2.5 and 254.5 round down, to even numbers, so that a little more is needed; 99.5 rounds up
    assert flips.scale[:2].tolist() == [5 + 1 / 16, 199]
    # beyond 255 steps are 2 % apart: up to 1/16 more than the 507 + 1/16 that is needed
    assert 507 < float(flips.scale[2]) <= 507 + 1 / 8


def test_bisection_finds_the_smallest_sixteenth(tools):
    flips = search_tables(tools, [list(range(level, 256)) for level in (1, 2, 50, 255)], growing_steps())
    # halves round to even numbers: 0.5 to 0, 1.5 to 2, 49.5 to 50, 254.5 to 254
    assert flips.scale.tolist() == [0.5625, 1.5, 49.5, 254.5625]


def test_the_grids_are_those_of_the_protocol():
    assert grey_level_steps() == Grid(tuple(range(1, 256)), None)
    scales = growing_steps().scales
    assert growing_steps().bisect_to == 1 / 16
    assert scales[:255] == tuple(range(1, 256))
    assert np.diff(np.log(scales[254:-1])) == pytest.approx(np.log(1.02))
    assert scales[-1] == 65_536
    assert scales[-2] < 65_536 <= scales[-2] * 1.02


@pytest.mark.parametrize("batch_size", [16, 250, 5000])
def test_the_search_costs_at_most_15_percent_more_forwards_than_needed(tools, batch_size):
    generator = np.random.default_rng(0)
    first = generator.integers(1, 2 * LAST, 250).clip(max=LAST + 1)  # half of them fail
    tables = [list(range(step, 256)) for step in first]
    flips = search_tables(tools, tables, grey_level_steps(), batch_size)
    assert flips.found.tolist() == (first <= LAST).tolist()
    needed = int(np.minimum(first, LAST).sum())
    assert needed <= flips.forwards <= 1.15 * needed


def test_easy_images_cost_what_they_need_exactly(tools):
    flips = search_tables(tools, [list(range(step, 256)) for step in (1, 2, 5, 15)], grey_level_steps())
    assert flips.forwards == 1 + 2 + 5 + 15


@pytest.mark.parametrize("classes", ["lopsided", "unbeatable", "five_classes"])
@pytest.mark.parametrize("name", ["fgs-unmasked", "hc1"])
def test_stopping_at_saturation_changes_nothing_but_the_cost(request, tools, monkeypatch, classes, name):
    case, attack = request.getfixturevalue(classes), make_attack(name)
    classifier = tools.linear(case.weight, case.bias)
    early = tools.run_attack(attack, classifier, case.images, case.labels)

    def never(images, steps, scales):
        return torch.full((len(images),), len(scales) - 1)

    monkeypatch.setattr(search, "_last_useful", never)
    full = tools.run_attack(attack, classifier, case.images, case.labels)
    assert early.found.equal(full.found)
    assert early.scale.nan_to_num(-1).equal(full.scale.nan_to_num(-1))
    assert early.adversarial.equal(full.adversarial)
    assert early.forwards <= full.forwards
    if classes == "unbeatable" and name == "hc1":
        assert early.forwards < 0.9 * full.forwards


def test_the_search_ends_where_the_last_moving_pixel_is_saturated(tools):
    flips = search_tables(tools, [[]], growing_steps(), slope=1.0)
    assert 255 <= flips.forwards <= 1.15 * 255


def test_a_pixel_moves_by_whole_grey_levels_inside_the_range():
    images = torch.tensor([0.0, 10.0, 250.0, 255.0]).view(1, 1, 2, 2)
    steps = torch.tensor([-1.0, 0.24, 1.0, 0.5]).view(1, 1, 2, 2)
    assert perturb(images, steps, torch.tensor(2.0)).flatten().tolist() == [0, 10, 252, 255]
    assert perturb(images, steps, torch.tensor(10.0)).flatten().tolist() == [0, 12, 255, 255]
    scales = torch.tensor([2.0, 10.0]).view(2, 1, 1, 1, 1)
    assert perturb(images, steps, scales)[:, 0].flatten(1).tolist() == [[0, 10, 252, 255], [0, 12, 255, 255]]


@pytest.mark.parametrize("name", ["fgs", "fgs-unmasked", "hc1", "hc1-unmasked"])
def test_the_result_does_not_depend_on_the_batch_size(trained, digits, name):
    """To the last bit: the net is never asked about a batch so small that it rounds otherwise."""
    classifier = open_model("tiny", trained.root, torch.device("cpu")).classifier
    images, labels = digits.images[:12], digits.labels[:12]
    runs = [
        attack_chunk(Target(classifier, make_attack(name), name, size, None), images, labels, 0) for size in (3, 7, 500)
    ]
    assert runs[0]["flipped"].sum() > 5
    for columns in runs[1:]:
        for column in set(columns) - {"seconds", "forwards"}:
            assert np.array_equal(columns[column], runs[0][column], equal_nan=columns[column].dtype.kind == "f")

"""Grids as data: values, ids, and the order from coarse to fine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bangbench.recipes.grid import axes_of, points_of
from bangbench.recipes.recipe import Recipe, load_recipe

RANGES = {"beta": {"from": 1.0, "to": 1.6, "step": 0.05}, "epsilon": {"from": 0.78, "to": 0.84, "step": 0.005}}


def test_a_range_has_its_ends_and_no_rounding() -> None:
    beta, epsilon = axes_of(RANGES)
    assert beta.values == (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 1.4, 1.45, 1.5, 1.55, 1.6)
    assert epsilon.values[3:8] == (0.795, 0.8, 0.805, 0.81, 0.815)
    (steps,) = axes_of({"iterations": {"from": 100, "to": 300, "step": 100}})
    assert steps.values == (100, 200, 300)
    assert all(isinstance(value, int) for value in steps.values)


@pytest.mark.parametrize(("level", "count", "step"), [(1, 16, 4), (2, 49, 2), (3, 169, 1)])
def test_every_level_contains_the_coarser_ones_and_comes_after_them(level: int, count: int, step: int) -> None:
    points = points_of(RANGES)
    first = points[:count]
    assert {point.level for point in first} == {*range(1, level + 1)}
    assert sorted({point.settings["beta"] for point in first}) == list(axes_of(RANGES)[0].values[::step])
    assert len({point.id for point in first}) == count
    assert [point.level for point in points] == sorted(point.level for point in points)


def test_ids_have_the_digits_that_tell_the_values_apart() -> None:
    points = {point.id: point for point in points_of({"method": "bang", **RANGES})}
    assert points["b1.00-e0.815"].settings == {"method": "bang", "beta": 1.0, "epsilon": 0.815}
    assert points["b1.05-e0.780"].place == {"beta": 1.05, "epsilon": 0.78}
    assert [point.id for point in points_of({"net": ["lenet", "mlp"], "seed": [0, 1]})][1] == "nlenet-s1"
    assert points_of({"beta": [0.5], "batch_size": [8]})[0].id == "beta0.50-batch_size8"
    assert points_of({"id": "x{beta:.1f}", "beta": [0.5]})[0].id == "x0.5"


def test_the_values_of_a_list_are_all_in_the_first_level() -> None:
    assert {point.level for point in points_of({"net": ["a", "b", "c"], "seed": [0, 1, 2, 3]})} == {1}


def test_a_range_of_any_length_keeps_its_ends_in_the_first_level() -> None:
    for count in range(1, 12):
        (axis,) = axes_of({"seed": {"from": 0, "to": count - 1, "step": 1}})
        levels = [axis.level(place) for place in range(count)]
        assert levels[0] == levels[-1] == 1
        assert set(levels) <= {1, 2, 3}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"beta": {"from": 1.0, "to": 1.6}}, r"beta: expected a list, or numbers from, to and step"),
        ({"beta": {"from": 1.0, "to": 1.6, "step": 0.25}}, r"beta: expected steps above 0 that lead from 1\.0 to 1\.6"),
        ({"beta": {"from": 1.0, "to": 0.5, "step": 0.5}}, r"beta: expected steps above 0"),
        ({"beta": {"from": 1.0, "to": 1.5, "step": 0}}, r"beta: expected steps above 0"),
        ({"beta": [1.0, 1.0]}, r"beta: expected values that differ"),
        ({"beta": []}, r"beta: expected values that differ"),
        ({"method": "bang"}, r"expected a setting with several values"),
        ({"id": "b{beta:.0f}", "beta": [1.0, 1.1]}, r"id: 'b\{beta:\.0f\}' gives several models the same id"),
        ({"id": "b{ratio}", "beta": [1.0, 1.1]}, r"id: 'b\{ratio\}' cannot be filled in with beta"),
    ],
)
def test_what_is_no_grid_says_why(grid: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        points_of(grid)


@pytest.mark.parametrize(
    ("name", "corner", "sigma"),
    [("figure2", ("b1.00-e0.780", "b1.60-e0.840"), 100), ("figure4", ("b0.40-e0.800", "b1.00-e0.860"), 40)],
)
def test_the_grids_of_the_figures_are_the_published_ones(name: str, corner: tuple[str, str], sigma: float) -> None:
    recipe = load_recipe(name)
    entries = recipe.entries()
    cells = [entry for entry in entries if entry.place]
    assert [len([cell for cell in cells if cell.level <= level]) for level in (1, 2, 3)] == [16, 49, 169]
    assert {*corner} <= {cell.id for cell in cells if cell.level == 1}
    assert [entry.id for entry in entries if not entry.place] == ["R0", "R0-s1", "R0-s2"]
    assert entries[0].id == "R0"
    assert recipe.noise_at is not None
    assert recipe.noise_at.sigma == sigma


def test_further_seeds_come_after_the_first_ones_of_all(tmp_path: Path) -> None:
    models = [{"id": "A", "seeds": [0, 1, 7]}, {"id": "B", "seed": 3}, {"id": "C", "seeds": [5, 6]}]
    recipe = Recipe.model_validate({"name": "x", "title": "x", "train": {}, "model": models})
    found = [(entry.id, entry.asked, entry.settings.get("seed"), entry.first) for entry in recipe.entries()]
    assert found == [
        ("A", "A", 0, True),
        ("B", "B", 3, True),
        ("C", "C", 5, True),
        ("A-s1", "A", 1, False),
        ("C-s6", "C", 6, False),
        ("A-s7", "A", 7, False),
    ]

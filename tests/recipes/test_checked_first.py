"""Every mistake of a recipe is found while it is planned, hours before the command that it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from bangbench.core.errors import BenchError
from bangbench.recipes.planned import plan_recipe
from bangbench.recipes.recipe import load_recipe
from bangbench.recipes.spec import ReproduceSpec

RECIPE = """
title = "One regular model, one BANG model"
[train]
net = "lenet"
data = "digits"
iterations = 10
{train}
[[attack]]
attack = ["fgs", "pgd"]
{attack}
[noise]
models = ["R0", "B1"]
{noise}
[audit]
{audit}
[[model]]
id = "R0"
[[model]]
id = "B1"
method = "bang"
"""


def plan(folder: Path, table: str = "", line: str = "") -> None:
    """Plan a recipe in which one table has one more line."""
    tables = {"train": "", "attack": "", "noise": "", "audit": ""}
    (folder / "x.toml").write_text(RECIPE.format(**(tables | ({table: line} if table else {}))))
    reference = str(folder / "x.toml")
    plan_recipe(load_recipe(reference), ReproduceSpec(recipe=reference), workers=1)


def test_the_recipe_itself_is_one(tmp_path: Path) -> None:
    plan(tmp_path)
    plan(tmp_path, "audit", 'budget = ["0.1", "8/255"]')


@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        *(("audit", f'budget = ["{text}"]', "expected a budget") for text in ("-0.2", "nan", "1/0", "2", "1e-9", "")),
        *(("attack", f'budget = ["{text}"]', "expected a budget") for text in ("-0.2", "nan", "1/0")),
        ("attack", 'option = ["stepz=3"]', "stepz"),
        ("attack", 'option = ["steps=many"]', "steps"),
        ("attack", 'against = "R0"', "--attack transfer only"),
        ("train", 'rate_policy = "inv(0.1)"', "rate policy"),
        ("train", 'rate_policy = "never()"', "rate policy"),
        ("train", "momentum = 2.0", "momentum"),
        ("train", "learning_rate = nan", "learning_rate"),
        ("noise", "sigma = [-10.0]", "sigma"),
        ("noise", "sigma = [nan]", "sigma"),
        ("noise", "draws = 0", "draws"),
        ("audit", 'strength = "hard"', "strength"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_trained(tmp_path: Path, table: str, line: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        plan(tmp_path, table, line)


@pytest.mark.parametrize(
    "content", ["a = " + "[" * 5000, "a = " + "{b = " * 2000, "x" * (1 << 21), "\x00", "a = 1\na = 2"]
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.toml").write_text(content)
    with pytest.raises(BenchError, match=r"x\.toml") as caught:
        load_recipe(str(tmp_path / "x.toml"))
    assert "\n" not in str(caught.value)

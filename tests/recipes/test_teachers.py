"""A model that learns from another one of its recipe: it is trained after it, wherever both are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from bangbench.core.errors import BenchError
from bangbench.core.progress import Silent
from bangbench.recipes.run import reproduce
from bangbench.recipes.spec import ReproduceSpec

NET = """
from torch import nn


def make(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))
"""

RECIPE = """
title = "A student and its teacher"

[train]
net = "{folder}/net.py:make"
data = "digits"
train_images = 40
iterations = 3
batch_size = 8

[attack]
attack = ["fgs"]
limit = 4

[[model]]
id = "student"
method = "distillation"
option = ["teacher={{recipe}}/teacher"]

[[model]]
id = "other"
method = "regular"

[[model]]
id = "teacher"
method = "temperature"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    (tmp_path / "school.toml").write_text(RECIPE.format(folder=tmp_path), encoding="utf-8")
    return str(tmp_path / "school.toml")


def test_the_student_comes_after_its_teacher_under_any_name(recipe, tmp_path):
    played = reproduce(ReproduceSpec(recipe=recipe, root=tmp_path, name="evening", jobs=1, device="cpu"))
    assert [result.card.model.name for result in played.models] == [
        "evening/other",
        "evening/teacher",
        "evening/student",
    ]
    assert played.models[2].card.model.method_settings["teacher"] == "evening/teacher"


def test_a_student_alone_says_whose_answers_it_misses(recipe, tmp_path):
    with pytest.raises(BenchError, match="unknown model 'school/teacher'"):
        reproduce(ReproduceSpec(recipe=recipe, root=tmp_path, only=("student",), device="cpu"), Silent())

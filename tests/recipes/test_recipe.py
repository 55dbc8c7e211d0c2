"""Recipes as data: the built-in ones against the published tables, and files that are no recipe."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from bangbench.attacks.spec import STANDARD_ATTACKS
from bangbench.core.errors import BenchError, UsageError
from bangbench.nets.catalogue import net_definition
from bangbench.noise.spec import COLOUR_SIGMAS, GREY_SIGMAS
from bangbench.recipes.planned import plan_recipe
from bangbench.recipes.recipe import BUILT_IN, load_recipe
from bangbench.recipes.spec import ReproduceSpec
from bangbench.training.methods.base import make_method


def published(table: str) -> dict[str, Any]:
    text = resources.files("bangbench.paper").joinpath("published.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)[table]
    return found


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_spec_of_a_built_in_recipe_is_valid(name: str) -> None:
    planned = plan_recipe(load_recipe(name), ReproduceSpec(recipe=name), workers=1)
    for model in planned.models:
        assert {spec.model for spec in model.attacks} == {model.name}
        assert sorted(model.attack_names) == sorted(STANDARD_ATTACKS)
        defaults = net_definition(model.train.net).method_defaults.get(model.train.method, {})
        make_method(model.train.method, {**defaults, **model.train.method_settings()})
    assert {"R0", "regular"} & {own.removeprefix(f"{name}/") for own in planned.names}
    assert (planned.noise is None) == (planned.tasks == [])
    assert planned.noise is None or planned.noise.models[0] == next(
        model.name for model in planned.models if model.train.method == "regular"
    )


@pytest.mark.parametrize("table", ["table1", "table2"])
def test_the_tables_train_the_models_that_were_published(table: str) -> None:
    rows, recipe = published(table)["row"], load_recipe(table)
    assert [model.id for model in recipe.model] == [row["id"] for row in rows]
    for model, row in zip(recipe.model, rows, strict=True):
        settings = model.settings()
        assert settings["method"] == ("bang" if "beta" in row else "regular")
        assert (settings.get("beta"), settings.get("epsilon")) == (row.get("beta"), row.get("epsilon"))
        if settings["method"] == "bang":
            assert settings.get("ratio", 1.0) == published(table).get("ratio", 1.0)


@pytest.mark.parametrize("table", ["table1", "table2"])
def test_the_tables_use_the_published_net_and_data(table: str) -> None:
    train = load_recipe(table).train
    assert (train["net"], train["data"]) == (published(table)["net"], published(table)["dataset"])


@pytest.mark.parametrize(
    ("table", "figure", "sigmas", "iterations", "stages"),
    [("table1", "figure3", GREY_SIGMAS, 10_000, 500), ("table2", "figure5", COLOUR_SIGMAS, 20_000, 1000)],
)
def test_the_noise_evolutions_are_those_of_the_figures(
    table: str, figure: str, sigmas: tuple[float, ...], iterations: int, stages: int
) -> None:
    recipe, shown = load_recipe(table), published(figure)
    assert recipe.noise is not None
    assert recipe.noise["models"] == [shown["regular"], shown["bang"]]
    assert tuple(recipe.noise["sigma"]) == sigmas
    assert sigmas[-1] == shown["sigma"]
    assert (recipe.noise["draws"], recipe.noise["per_class"]) == (1000, 100)
    assert (recipe.train["iterations"], recipe.train["stages"]) == (iterations, stages)


def test_the_two_regular_models_differ_in_their_seed_alone() -> None:
    for table in ("table1", "table2"):
        first, second = (model.settings() for model in load_recipe(table).model[:2])
        assert second == {**first, "seed": 1}


def test_a_recipe_of_ones_own_is_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\n[train]\nnet = "lenet"\n[[model]]\nid = "A"\nmethod = "regular"\n')
    recipe = load_recipe(str(path))
    assert recipe.model_name("A") == "mine/A"
    assert recipe.noise is None


def test_an_unknown_recipe_brings_the_closest_one() -> None:
    with pytest.raises(UsageError, match=r"unknown recipe 'tabel1': did you mean 'table1'\?"):
        load_recipe("tabel1")


def test_a_recipe_file_that_is_not_there_is_named() -> None:
    with pytest.raises(BenchError, match=r"recipe nowhere/mine\.toml does not exist"):
        load_recipe("nowhere/mine.toml")


MODEL = '[[model]]\nid = "A"\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"title = [", r"bad\.toml is not TOML: Invalid value"),
        (b"\xff\xfe\x00", r"bad\.toml is not TOML: .*utf-8"),
        (b"", r"bad\.toml: title: is missing"),
        (b'title = "x"\n[train]\n', r"bad\.toml: expected \[\[model\]\] or \[grid\], found neither"),
        (b'title = "x"\nmodel = []\n[train]\n', r"bad\.toml: expected \[\[model\]\] or \[grid\], found neither"),
        (b'title = "x"\n[train]\n[grid]\nbeta = 1\n', r"bad\.toml: expected a setting with several values"),
        (
            f'title = "x"\n[train]\n[noise]\nmodels = ["A"]\n{MODEL}[grid]\nbeta = [1, 2]\n'.encode(),
            r"bad\.toml: \[noise\] and \[audit\] need more than the summaries that a grid keeps",
        ),
        (
            f'title = "x"\n[train]\n[noise_at]\nsigma = 1\n{MODEL}'.encode(),
            r"bad\.toml: \[noise_at\] goes with \[grid\]",
        ),
        (f'title = "x"\n[train]\n{MODEL}seeds = []\n'.encode(), r"bad\.toml: model: 0: seeds: .*at least 1"),
        (b'title = "x"\n[train]\n[grid]\nbeta = [1, 2]\nseeds = 3\n', r"\[grid\] seeds: expected a list of whole n"),
        (f'title = "x"\nsurprise = 1\n[train]\n{MODEL}'.encode(), r"surprise: is not known here"),
        (f'title = "x"\n[train]\n{MODEL}{MODEL}'.encode(), r"bad\.toml: two models have the id 'A'"),
        (f'title = "x"\n[train]\n{MODEL}[noise]\ndraws = 1\n'.encode(), r"\[noise\] models: expected a list of ids"),
        (
            f'title = "x"\n[train]\n{MODEL}[audit]\nagainst = "C"\n'.encode(),
            r"\[audit\] against: expected the id of a mo",
        ),
        (
            f'title = "x"\n[train]\n{MODEL}[noise]\nmodels = ["A", "C"]\n'.encode(),
            r"\[noise\] models: expected a list of ids of models \(A\), found \['A', 'C'\]",
        ),
    ],
)
def test_a_file_that_is_no_recipe_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=message):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("changes", "ids"),
    [
        ({"only": ("R0",)}, ["R0", "R0-s2", "R0-s3", "R0-s4"]),
        ({"only": ("R0",), "seeds": 1}, ["R0"]),
        ({"only": ("B1-s3",), "seeds": 1}, ["B1-s3"]),
        ({"seeds": 1}, ["R0", "R1", "B0", "B1", "B2", "B3", "B4", "B5"]),
        ({"only": ("R0", "B5"), "seeds": 2}, ["R0", "B5", "R0-s2", "B5-s1"]),
    ],
)
def test_seeds_can_be_left_out(changes: dict[str, Any], ids: list[str]) -> None:
    spec = ReproduceSpec.model_validate({"recipe": "table1", **changes})
    planned = plan_recipe(load_recipe("table1"), spec, workers=1)
    assert planned.names == tuple(f"table1/{name}" for name in ids)
    assert [audit.model for audit in planned.audits] == [f"table1/{name}" for name in ids if "-s" not in name]

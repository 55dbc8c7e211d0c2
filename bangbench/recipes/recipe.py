"""A recipe: which models are trained, how they are attacked, which pair meets noise. Read from TOML."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bangbench.core.errors import BenchError, unknown_name

BUILT_IN = ("demo", "table1", "table2")


class RecipeModel(BaseModel):
    """One model: its id in the table, and the settings of `bangbench train` in which it differs."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str

    def settings(self) -> dict[str, Any]:
        """Return the training settings."""
        return dict(self.model_extra or {})


class Recipe(BaseModel):
    """A whole experiment. `train`, `attack` and `noise` hold settings of the commands of these names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    train: dict[str, Any]
    attack: dict[str, Any] = {}
    noise: dict[str, Any] | None = None
    model: tuple[RecipeModel, ...]

    def model_name(self, identifier: str) -> str:
        """Return a model's name: table1/R0."""
        return f"{self.name}/{identifier}"


def load_recipe(reference: str) -> Recipe:
    """Return a built-in recipe, or the one in a `.toml` file, which is named after it.

    Raises `UsageError` for an unknown name, `BenchError` for a file that is not a recipe.
    """
    if reference.endswith(".toml"):
        path = Path(reference)
        if not path.is_file():
            raise BenchError(f"recipe {path} does not exist")
        return _parse(path.stem, path.read_text(encoding="utf-8"), reference)
    if reference not in BUILT_IN:
        raise unknown_name("recipe", reference, BUILT_IN)
    text = resources.files("bangbench.recipes").joinpath(f"{reference}.toml").read_text(encoding="utf-8")
    return _parse(reference, text, reference)


def _parse(name: str, text: str, where: str) -> Recipe:
    try:
        return Recipe(name=name, **tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        reason = str(error).splitlines()
        raise BenchError(f"recipe {where} cannot be read: {' '.join(reason[:3])}") from error

"""A recipe: which models are trained, how they are attacked, which meet noise. Read from TOML."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
    """A whole experiment. `train`, `attack`, `noise` and `audit` hold settings of the commands of these names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    train: dict[str, Any]
    attack: dict[str, Any] = {}
    noise: dict[str, Any] | None = None
    audit: dict[str, Any] | None = None
    model: tuple[RecipeModel, ...] = Field(min_length=1)

    def model_name(self, identifier: str) -> str:
        """Return a model's name: table1/R0."""
        return f"{self.name}/{identifier}"

    @model_validator(mode="after")
    def _check_ids(self) -> Recipe:
        ids = [model.id for model in self.model]
        for identifier in ids:
            if ids.count(identifier) > 1:
                raise ValueError(f"two models have the id '{identifier}'")
        if self.noise is not None:
            models = self.noise.get("models")
            if not isinstance(models, list) or not all(model in ids for model in models):
                raise ValueError(
                    f"[noise] models: expected a list of ids of models ({', '.join(ids)}), found {models!r}"
                )
        against = (self.audit or {}).get("against", ids[0])
        if against not in ids:
            raise ValueError(f"[audit] against: expected the id of a model ({', '.join(ids)}), found {against!r}")
        return self


def load_recipe(reference: str, name: str | None = None) -> Recipe:
    """Return a built-in recipe, or the one in a `.toml` file, which is named after it unless a `name` is given.

    Raises `UsageError` for an unknown name, `BenchError` for a file that is not a recipe.
    """
    if reference.endswith(".toml"):
        path = Path(reference)
        if not path.is_file():
            raise BenchError(f"recipe {path} does not exist")
        return _parse(name or path.stem, path.read_bytes(), reference)
    if reference not in BUILT_IN:
        raise unknown_name("recipe", reference, BUILT_IN)
    content = resources.files("bangbench.recipes").joinpath(f"{reference}.toml").read_bytes()
    return _parse(name or reference, content, reference)


def _parse(name: str, content: bytes, where: str) -> Recipe:
    try:
        values = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BenchError(f"recipe {where} is not TOML: {error}") from error
    try:
        return Recipe.model_validate({**values, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in first["loc"])
        raise BenchError(f"recipe {where}: {place}{first['msg'].removeprefix('Value error, ')}") from error

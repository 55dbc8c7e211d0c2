"""A recipe: which models are trained, each or as a grid, how they are attacked, which meet noise. Read from TOML."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bangbench.core.errors import BenchError, unknown_name
from bangbench.core.validation import first_problem
from bangbench.recipes.grid import Point, points_of
from bangbench.store.files import read_file

#: A recipe is read whole, as text.
_MOST_BYTES = 1 << 20

BUILT_IN = ("demo", "table1", "table2", "figure2", "figure4", "defences-digits", "defences")

Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


def _several(value: Any) -> Any:
    """Return one table of settings as the only one of several."""
    return (value,) if isinstance(value, dict) else value


class RecipeModel(BaseModel):
    """One model: its id in the table, and the settings of `bangbench train` in which it differs.

    A method that reads another model of the recipe names it {recipe}/ID in its option; that one is trained before it.
    seeds: train it once with each; the first keeps the id, the others are called ID-sSEED.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    seeds: Seeds | None = None

    def settings(self) -> dict[str, Any]:
        """Return the training settings."""
        return dict(self.model_extra or {})


class NoiseAt(BaseModel):
    """One level of noise (grey levels) that every model of a grid meets: so many copies of so many correct images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sigma: float = Field(gt=0)
    draws: int = Field(20, ge=1)
    per_class: int = Field(100, ge=1)


class Entry(NamedTuple):
    """One training of a recipe: the id it is asked for by, its own, and its settings.

    place: where it lies on the axes of the grid, empty for a model of the table; level: of the grid, 1 for others;
    first: whether it has the first seed of its model.
    """

    asked: str
    id: str
    settings: dict[str, Any]
    place: dict[str, Any]
    level: int
    first: bool


class Recipe(BaseModel):
    """A whole experiment. `train`, `attack`, `noise` and `audit` hold settings of the commands of these names.

    attack: one table of settings or several, each for the attacks that it names; grid: training settings with many
    values, see `grid`; noise_at: the noise that its models meet; keep: what is kept of a model that was measured,
    everything, or its summaries, which is usual for a grid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    train: dict[str, Any]
    attack: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_several)] = ({},)
    noise: dict[str, Any] | None = None
    audit: dict[str, Any] | None = None
    model: tuple[RecipeModel, ...] = ()
    grid: dict[str, Any] | None = None
    noise_at: NoiseAt | None = None
    keep: Literal["all", "summaries"] | None = None

    def model_name(self, identifier: str) -> str:
        """Return a model's name: table1/R0."""
        return f"{self.name}/{identifier}"

    @property
    def keeps_summaries(self) -> bool:
        """Return whether only summaries are kept of its models."""
        return self.keep == "summaries" or (self.keep is None and self.grid is not None)

    def entries(self) -> list[Entry]:
        """Return every training, in the order in which what is done is worth most at any time.

        First each model once, then the grid from coarse to fine, and further seeds in between: the second ones with
        the second level.
        """
        points = points_of(self.grid) if self.grid is not None else []
        trained = [_trained(Point(model.id, model.settings(), {}, 1), model.seeds) for model in self.model]
        trained += [_trained(point, self._grid_seeds) for point in points]
        ranked = [
            (entry.level + rank + bool(entry.place or rank), entry)
            for several in trained
            for rank, entry in enumerate(several)
        ]
        return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])]

    @property
    def _grid_seeds(self) -> tuple[int, ...] | None:
        seeds = (self.grid or {}).get("seeds")
        if seeds is None:
            return None
        if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
            raise ValueError(f"[grid] seeds: expected a list of whole numbers from 0, found {seeds!r}")
        return tuple(seeds)

    @model_validator(mode="after")
    def _check_ids(self) -> Recipe:
        if not self.model and self.grid is None:
            raise ValueError("expected [[model]] or [grid], found neither")
        if self.keeps_summaries and (self.noise is not None or self.audit is not None):
            raise ValueError("[noise] and [audit] need more than the summaries that a grid keeps; use [noise_at]")
        if self.noise_at is not None and not self.keeps_summaries:
            raise ValueError('[noise_at] goes with [grid] or keep = "summaries" only; use [noise]')
        ids = [entry.id for entry in self.entries()]
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


def _trained(point: Point, seeds: tuple[int, ...] | None) -> list[Entry]:
    """Return the trainings of one model, one a seed."""
    if seeds is None:
        return [Entry(point.id, point.id, point.settings, point.place, point.level, first=True)]
    return [
        Entry(
            point.id,
            f"{point.id}-s{seed}" if rank else point.id,
            {**point.settings, "seed": seed},
            point.place,
            point.level,
            first=rank == 0,
        )
        for rank, seed in enumerate(seeds)
    ]


def load_recipe(reference: str, name: str | None = None) -> Recipe:
    """Return a built-in recipe, or the one in a `.toml` file, which is named after it unless a `name` is given.

    Raises `UsageError` for an unknown name, `BenchError` for a file that is not a recipe.
    """
    if reference.endswith(".toml"):
        path = Path(reference)
        if not path.is_file():
            raise BenchError(f"recipe {path} does not exist")
        return _parse(name or path.stem, read_file(path, _MOST_BYTES), reference)
    if reference not in BUILT_IN:
        raise unknown_name("recipe", reference, BUILT_IN)
    content = resources.files("bangbench.recipes").joinpath(f"{reference}.toml").read_bytes()
    return _parse(name or reference, content, reference)


def _parse(name: str, content: bytes, where: str) -> Recipe:
    try:
        values = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BenchError(f"recipe {where} is not TOML: {error}") from error
    try:
        return Recipe.model_validate({**values, "name": name})
    except ValidationError as error:
        place, problem = first_problem(error)
        raise BenchError(f"recipe {where}: {': '.join((*place, problem))}") from error

"""The records of a grid: which models it has, and of each the summaries alone, without rows, pictures or weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from bangbench.core.errors import BenchError
from bangbench.core.validation import first_problem
from bangbench.store.files import write_json
from bangbench.store.layout import CELL, GRID, results_folder
from bangbench.store.records import (
    AttackSummary,
    Count,
    DataInfo,
    ModelInfo,
    Name,
    Percent,
    Record,
    find_record,
    read_json,
)


class CellNoise(BaseModel):
    """Noisy copies of correct images that are classified otherwise, in percent: `draws` of each of `images`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sigma: Annotated[float, Field(ge=0.0)]
    draws: Count
    images: Count
    flipped_percent: Percent


class CellRecord(Record):
    """results/GRID/CELL/cell.json: one model of a grid; where it lies on the axes (nowhere: one to compare with).

    accuracy: on all test images, in percent; attacks: by name, each on as many images as its summary says.
    """

    kind: Literal["cell"] = "cell"
    place: dict[str, JsonValue]
    seed: int
    model: ModelInfo | None = None
    train_data: DataInfo | None = None
    data: DataInfo | None = None
    train_accuracy: Percent | None = None
    accuracy: Percent | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    attacks: Mapping[str, AttackSummary] = {}
    noise: CellNoise | None = None


class GridCell(BaseModel):
    """A model that a grid is to have, and the first level, from 1, that it belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    place: dict[str, JsonValue]
    seed: int
    level: int


class GridRecord(BaseModel):
    """results/GRID/grid.json: the axes with all their values, and every model, whether it is there yet or not."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: int = Field(1, alias="schema")
    kind: Literal["grid"] = "grid"
    title: Name
    axes: dict[str, tuple[JsonValue, ...]]
    cells: tuple[GridCell, ...]

    @model_validator(mode="after")
    def _whole(self) -> GridRecord:
        """Refuse a model that lies off the axes, unless it has no place at all, and two of one name."""
        for cell in self.cells:
            if cell.place and not self._has(cell.place):
                raise ValueError(f"{cell.name}: expected a place on the axes, found {str(cell.place)[:80]}")
        if len({cell.name for cell in self.cells}) < len(self.cells):
            raise ValueError("expected cells of different names")
        return self

    def _has(self, place: Mapping[str, JsonValue]) -> bool:
        return place.keys() == self.axes.keys() and all(value in self.axes[axis] for axis, value in place.items())


def cell_path(root: Path, name: str) -> Path:
    """Return the record of a cell, such as ``figure2/b1.00-e0.815``."""
    return results_folder(root, name) / CELL


def write_grid(root: Path, name: str, grid: GridRecord) -> None:
    """Write which models a grid has, unless that is what is written there."""
    path = results_folder(root, name) / GRID
    if not path.exists() or read_grid(root, name) != grid:
        write_json(path, grid.model_dump(mode="json", by_alias=True))


def read_grid(root: Path, name: str) -> GridRecord:
    """Return the grid of this name; `BenchError` where there is none, or it cannot be read."""
    path = results_folder(root, name) / GRID
    if not path.exists():
        raise BenchError(f"{path}: no such file; play the recipe first: bangbench reproduce {name}")
    try:
        return GridRecord.model_validate(read_json(path))
    except ValidationError as error:
        place, problem = first_problem(error)
        raise BenchError(f"{path}: not a grid: {'.'.join(place)}: {problem}") from error


def read_cells(root: Path, name: str) -> list[CellRecord]:
    """Return the finished cells of a grid, in the order of the grid; errors as in `read_grid` and `read_record`."""
    found = (find_record(cell_path(root, cell.name), CellRecord) for cell in read_grid(root, name).cells)
    return [record for record in found if record is not None and record.status == "done"]

"""The records of a grid: which models it has, and of each the summaries alone, without rows, pictures or weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from bangbench.core.errors import BenchError
from bangbench.core.validation import first_problem
from bangbench.store.files import write_json
from bangbench.store.layout import CELL, GRID, results_folder
from bangbench.store.records import AttackSummary, DataInfo, ModelInfo, Record, find_record


class CellNoise(BaseModel):
    """Noisy copies of correct images that are classified otherwise, in percent: `draws` of each of `images`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sigma: float
    draws: int
    images: int
    flipped_percent: float


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
    train_accuracy: float | None = None
    accuracy: float | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    attacks: Mapping[str, AttackSummary] = {}
    noise: CellNoise | None = None


class GridCell(BaseModel):
    """A model that a grid is to have, and the first level, from 1, that it belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    place: dict[str, JsonValue]
    seed: int
    level: int


class GridRecord(BaseModel):
    """results/GRID/grid.json: the axes with all their values, and every model, whether it is there yet or not."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: int = Field(1, alias="schema")
    kind: Literal["grid"] = "grid"
    title: str
    axes: dict[str, tuple[JsonValue, ...]]
    cells: tuple[GridCell, ...]


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
    try:
        return GridRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}; play the recipe first: bangbench reproduce {name}") from error
    except ValidationError as error:
        place, problem = first_problem(error)
        raise BenchError(f"{path}: not a grid: {'.'.join(place)}: {problem}") from error


def read_cells(root: Path, name: str) -> list[CellRecord]:
    """Return the finished cells of a grid, in the order of the grid; errors as in `read_grid` and `read_record`."""
    found = (find_record(cell_path(root, cell.name), CellRecord) for cell in read_grid(root, name).cells)
    return [record for record in found if record is not None and record.status == "done"]

"""The numbers printed in the paper (arXiv 1612.00138): Tables 1 and 2, and the ends of figures 3 and 5."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bangbench.store.records import DataInfo, ModelInfo

TableName = Literal["table1", "table2"]

_DISPLAY = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


class _Published(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Published):
    """Where the numbers come from."""

    title: str
    arxiv: str


class PublishedAttack(_Published):
    """Rate in percent; PASS and L_inf (grey levels) as (mean, standard deviation) over flipped images."""

    rate: float
    pass_paper: tuple[float, float] = Field(alias="pass")
    linf: tuple[float, float]


class PublishedRow(_Published):
    """One row of a table; regular models have no beta and epsilon."""

    id: str
    beta: float | None = None
    epsilon: float | None = None
    accuracy: float
    fgs: PublishedAttack
    hc1: PublishedAttack


class PublishedTable(_Published):
    """One table; `dataset` is the registered name of its data source."""

    caption: str
    net: str
    dataset: str
    ratio: float | None = None
    row: tuple[PublishedRow, ...]


class PublishedFigure(_Published):
    """Percent of noisy copies misclassified at the last stage under the strongest noise.

    approximate: the paper says about how many, instead of printing a number of its own measurement.
    """

    regular: str
    bang: str
    sigma: float
    regular_percent: float
    bang_percent: float
    approximate: bool = False


class Published(_Published):
    """Everything in published.toml."""

    source: Source
    table1: PublishedTable
    table2: PublishedTable
    figure3: PublishedFigure
    figure5: PublishedFigure


class RowReference(NamedTuple):
    """A published row together with the table it stands in."""

    table: TableName
    dataset: str
    row: PublishedRow


class FigureReference(NamedTuple):
    """A published figure, its number in the paper and its data set."""

    number: int
    dataset: str
    figure: PublishedFigure


@cache
def published() -> Published:
    """Return the numbers of the paper, read from the package's published.toml."""
    text = files("bangbench.report").joinpath("published.toml").read_text(encoding="utf-8")
    return Published.model_validate(tomllib.loads(text))


def published_row(name: str, model: ModelInfo) -> RowReference | None:
    """Return the row that a model reproduces, or None.

    `model.published` decides where it is set (the authors' own weights); otherwise the name does: results called
    table1/R0 stand for row R0 of Table 1.
    """
    table_name, _, row_id = (model.published or name).partition("/")
    table = _tables().get(table_name)
    if table is None:
        return None
    key, printed = table
    found = next((row for row in printed.row if row.id == row_id), None)
    return None if found is None else RowReference(key, printed.dataset, found)


def published_figure(regular: RowReference | None, bang: RowReference | None) -> FigureReference | None:
    """Return the figure about this pair of published models, or None."""
    if regular is None or bang is None or regular.table != bang.table:
        return None
    number = 3 if regular.table == "table1" else 5
    figure = published().figure3 if number == 3 else published().figure5
    if (figure.regular, figure.bang) != (regular.row.id, bang.row.id):
        return None
    return FigureReference(number, regular.dataset, figure)


def pair_figure(regular: ModelInfo, bang: ModelInfo) -> FigureReference | None:
    """Return the figure about a pair of models as they were measured, or None."""
    return published_figure(published_row(regular.name, regular), published_row(bang.name, bang))


def is_published_data(measured_on: DataInfo, dataset: str) -> bool:
    """Tell whether numbers measured on this data were measured on the images of the published ones.

    The source of the images has to be the registered one: a copy, such as ``npz:cifar10.npz`` with the name cifar10,
    may hold other images and never passes for CIFAR-10.
    """
    return measured_on.source == dataset


def published_label(measured_on: DataInfo, dataset: str) -> str:
    """Return what a published number is called beside one measured on the data `measured_on`.

    The data set is named where it is not `is_published_data`.
    """
    if is_published_data(measured_on, dataset):
        return "published"
    return f"published ({_DISPLAY.get(dataset, dataset)})"


def _tables() -> Mapping[str, tuple[TableName, PublishedTable]]:
    return {"table1": ("table1", published().table1), "table2": ("table2", published().table2)}

"""The numbers printed in the paper (arXiv 1612.00138): Tables 1 and 2, and the ends of figures 3 and 5."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bangbench.reporting.collect import FoundNoise
from bangbench.reporting.experiments import Experiment
from bangbench.store.records import DataInfo, ModelCard, ModelInfo, Preprocessing

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


class PublishedTraining(_Published):
    """The settings that all models of a table were trained with, under the names of `bangbench train`."""

    iterations: int
    batch_size: int
    learning_rate: float
    rate_policy: str
    momentum: float
    weight_decay: float
    shuffle: bool = False
    train_images: int | None = None


class PublishedTable(_Published):
    """One table; `dataset` is the registered name of its data source.

    copies: names of data with the same images, changed by a lossy compression: numbers measured on them are shown
    beside the published ones, and never judged by them. ratio: BANG's, None where it is 1.
    """

    caption: str
    net: str
    dataset: str
    copies: tuple[str, ...] = ()
    training: PublishedTraining
    preprocessing: Preprocessing
    ratio: float | None = None
    row: tuple[PublishedRow, ...]

    def method_settings(self, row: PublishedRow) -> dict[str, float]:
        """Return the settings of the method that a row's model was trained with; none where that is regular."""
        if row.beta is None or row.epsilon is None:
            return {}
        return {"beta": row.beta, "epsilon": row.epsilon, "ratio": 1.0 if self.ratio is None else self.ratio}


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
    text = files("bangbench.paper").joinpath("published.toml").read_text(encoding="utf-8")
    return Published.model_validate(tomllib.loads(text))


def published_row(model: ModelInfo, measured_on: DataInfo, card: ModelCard | None = None) -> RowReference | None:
    """Return the row that a model measured on the data `measured_on` reproduces, or None.

    `model.published` decides where it is set (the authors' own weights); otherwise what was trained has to be what the
    paper trained: net, images, preprocessing, iterations, method and its settings, and whatever else of the training
    its `card` tells, where there is one. The name chooses among the rows that all of this fits, as two regular models
    differ in nothing but chance; the first of them is taken where it is none of theirs.
    """
    if model.published is not None:
        table, _, row_id = model.published.partition("/")
        return next((found for found in _references() if (found.table, found.row.id) == (table, row_id)), None)
    fitting = [found for found in _references() if _is_trained_alike(found, model, measured_on, card)]
    named = [found for found in fitting if found.row.id == model.name.rpartition("/")[2]]
    return next(iter(named or fitting), None)


def published_settings(
    model: ModelInfo, measured_on: DataInfo, told: Mapping[str, object] | None = None
) -> tuple[RowReference, ...]:
    """Return the rows of the table whose models were trained as this one, but for beta and epsilon.

    told: the settings of the training, as far as they are known.
    """
    tables = {
        name
        for name, table in _tables().items()
        if _has_settings(table, model, told or {})
        and _is_trained_on(table, model, measured_on, None)
        and model.method_settings.get("ratio", table.ratio)
        in (table.ratio, 1.0 if table.ratio is None else table.ratio)
    }
    return tuple(reference for reference in _references() if reference.table in tables)


def published_figure(regular: RowReference | None, bang: RowReference | None) -> FigureReference | None:
    """Return the figure about this pair of published models, or None."""
    if regular is None or bang is None or regular.table != bang.table:
        return None
    number = 3 if regular.table == "table1" else 5
    figure = published().figure3 if number == 3 else published().figure5
    if (figure.regular, figure.bang) != (regular.row.id, bang.row.id):
        return None
    return FigureReference(number, regular.dataset, figure)


def figure_of(found: FoundNoise, experiment: Experiment) -> FigureReference | None:
    """Return the figure about a noise evolution's first two models as they were measured, or None."""
    models = [experiment.find(info.name) for info in found.record.models[:2]]
    rows = [published_row(model.model, found.record.data, model.card) for model in models if model is not None]
    return published_figure(rows[0], rows[1]) if len(rows) == 2 else None


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


def _tables() -> Mapping[TableName, PublishedTable]:
    return {"table1": published().table1, "table2": published().table2}


def _references() -> list[RowReference]:
    """Return every row of both tables."""
    return [RowReference(name, table.dataset, row) for name, table in _tables().items() for row in table.row]


def _is_trained_alike(reference: RowReference, model: ModelInfo, measured_on: DataInfo, card: ModelCard | None) -> bool:
    """Tell whether a model was trained as that of a row; what neither it nor its card tells is no difference."""
    table = _tables()[reference.table]
    settings = table.method_settings(reference.row)
    return (
        model.method == ("bang" if settings else "regular")
        and model.method_settings == settings
        and _has_settings(table, model, {} if card is None else card.spec)
        and _is_trained_on(table, model, measured_on, card)
    )


def _has_settings(table: PublishedTable, model: ModelInfo, told: Mapping[str, object]) -> bool:
    """Tell whether a model has the net of a table and the settings of its training; what is not told is none."""
    return (
        model.net == table.net
        and model.preprocessing == table.preprocessing
        and model.iterations == table.training.iterations
        and all(told.get(name, value) == value for name, value in table.training.model_dump().items())
    )


def _is_trained_on(table: PublishedTable, model: ModelInfo, measured_on: DataInfo, card: ModelCard | None) -> bool:
    """Tell whether a model was trained on the table's images, or on a copy of them that it was measured on as well."""
    if model.data not in (table.dataset, *table.copies):
        return False
    if card is not None:
        return card.train_data.source in (table.dataset, measured_on.source)
    return model.data in (table.dataset, measured_on.name)

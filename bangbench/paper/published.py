"""The numbers printed in the paper (arXiv 1612.00138), and what the papers of the defences claim beside our audits."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bangbench.core.statistics import Interval, newcombe_interval
from bangbench.reporting.collect import FoundNoise
from bangbench.reporting.experiments import Experiment, ModelResults
from bangbench.reporting.frames import Frames, Values
from bangbench.reporting.table import Table, make_table, real, words
from bangbench.store.audits import WORST_CASE, AuditSummary
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


#: Points by which a method may fall behind one that it is as good as.
_AS_GOOD = 10.0


class PublishedClaim(BaseModel):
    """A row of defences.toml: one method beside another one, of whatever net or (`net`) of that one.

    budget: within which our numbers are compared, as a share of the range; clean accuracy has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    beside: str
    relation: Literal["more", "as", "more accurate"]
    published: str
    source: str
    budget: float = 0.3
    net: str | None = None


class _Ours(NamedTuple):
    """Numbers in percent of one method and of the other one, the interval of their difference, and what it says."""

    values: tuple[float, float]
    interval: Interval
    verdict: str


def defence_claims(experiment: Experiment, frames: Frames) -> Table | None:
    """Return one row per published claim about two audited models of this experiment; None where there is none."""
    rows = [
        _row(experiment, claim, model, other)
        for claim in _published()
        if (model := _model(experiment, claim.method, claim)) and (other := _model(experiment, claim.beside, claim))
    ]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(_kind(row) for row in rows).most_common())
    return make_table(
        f"{experiment.name}-defence-claims",
        f"{experiment.title}; what the papers of the defences claim, and what is left of it here",
        rows,
        (
            words("Method"),
            words("Beside"),
            words("Claimed"),
            words("Published"),
            words("Source"),
            real("Ours (%)", "ours_percent", 1),
            real("Beside it (%)", "beside_percent", 1),
            real("Difference (points)", ("difference_points", "difference_low_points", "difference_high_points"), 1),
            words("Verdict"),
        ),
        (
            f"Of {len(rows)} claims: {counts}. The papers' nets, images, budgets, training are others: no number can "
            "be compared, only which of two methods holds better when both are trained and attacked alike.",
            "Ours: robust accuracy under all attacks of the audit, or clean accuracy where that is claimed. A claim "
            "agrees where the 95 % interval of the difference (Newcombe's, as of independent images) is on its side "
            f"('as robust': above -{_AS_GOOD:.0f} points), and differs where it is on the other.",
        ),
    )


@cache
def _published() -> tuple[PublishedClaim, ...]:
    content = files("bangbench.paper").joinpath("defences.toml").read_text(encoding="utf-8")
    return tuple(map(PublishedClaim.model_validate, tomllib.loads(content)["claim"]))


def _model(experiment: Experiment, method: str, claim: PublishedClaim) -> ModelResults | None:
    """Return the audited model of a method: of several the one called after it, or of the first seed."""
    found = [
        model
        for model, audit in experiment.audits
        if model.model.method == method
        and (claim.net or experiment.models[0].model.net) == model.model.net
        and _count(claim, audit) is not None
    ]
    return min(found, key=lambda model: (model.id != method, model.model.seed or 0, len(model.id)), default=None)


def _row(experiment: Experiment, claim: PublishedClaim, model: ModelResults, other: ModelResults) -> Values:
    relation = {"more": "more robust", "as": "as robust"}.get(claim.relation, claim.relation)
    ours = _compared(claim, model, other)
    values, interval, verdict = ours if isinstance(ours, _Ours) else ((None, None), (None, None), ours)
    return {
        "method": model.id,
        "beside": other.id,
        "data": experiment.data.name,
        "claimed": relation if claim.relation == "more accurate" else f"{relation} within {claim.budget:g}",
        "published": claim.published,
        "source": claim.source,
        "ours_percent": values[0],
        "beside_percent": values[1],
        "difference_points": None if values[0] is None or values[1] is None else values[0] - values[1],
        "difference_low_points": interval[0],
        "difference_high_points": interval[1],
        "verdict": verdict,
    }


def _compared(claim: PublishedClaim, *models: ModelResults) -> _Ours | str:
    """Return the numbers of both models and what they say of the claim, or why they say nothing."""
    for each in models:
        if claim.relation != "more accurate" and each.verdict(WORST_CASE) not in ("sound", "inconclusive"):
            return f"not comparable: the worst case of {each.id} is {each.verdict(WORST_CASE)}"
    audits = [model.audited for model in models if model.audited is not None]
    (ours, trials), (others, their_trials) = ((_count(claim, audit) or 0, audit.images) for audit in audits)
    interval = newcombe_interval(ours, trials, others, their_trials) or (-100.0, 100.0)
    values = 100.0 * ours / trials, 100.0 * others / their_trials
    return _Ours(values, interval, _judged(claim.relation, interval))


def _count(claim: PublishedClaim, summary: AuditSummary) -> int | None:
    """Return how many images are right, and stay so within the claim's budget where robustness is claimed."""
    if claim.relation == "more accurate":
        return summary.correct
    level = int(claim.budget * 255)
    return next((summary.correct - each.worst_case for each in summary.budgets if each.budget == level), None)


def _judged(relation: str, interval: Interval) -> str:
    low, high = interval
    if high < 0.0:
        return "differs"
    if low > (-_AS_GOOD if relation == "as" else 0.0):
        return "agrees"
    return "no difference found" if relation != "as" else "not comparable: too few images"


def _kind(row: Values) -> str:
    return str(row["verdict"]).partition(":")[0]

"""Several seeds of one recipe: their mean with its interval in a table, and every seed as a point."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bangbench.core.spec import fingerprint_of
from bangbench.core.statistics import Interval, t_interval
from bangbench.reporting.experiments import NOT_AUDITED, Experiment, ModelResults, attacks_run
from bangbench.reporting.figure import BLACK, COLOURS, PAGE, Figure
from bangbench.reporting.frames import Frames, Values, measured
from bangbench.reporting.table import (
    Cell,
    Column,
    Table,
    audit_notes,
    budget_text,
    make_table,
    number,
    shown,
    whole,
    words,
)
from bangbench.store.audits import WORST_CASE, AuditSummary
from bangbench.store.records import ModelCard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: Settings in which trainings of one recipe may differ (the seed, and what changes no step), and those as asked for.
_FREE = {"seed", "stages", "threads", "data", "input_scale", "mean", "std"}
#: What each model of a recipe has for itself.
_OWN_FIELDS = {"name", "seed", "weights_sha256", "behaviour"}
#: Numbers over seeds with their units, and where those of an attack are found.
_UNITS = {"accuracy": "_percent", "rate": "_percent", "robust": "_percent", "linf": "_grey_levels", "pass_paper": ""}
_OF_ATTACKS = {
    "accuracy": "accuracy_percent",
    "rate": "rate_percent",
    "linf": "linf_mean_grey_levels",
    "pass_paper": "pass_paper_mean",
}


class Strip(NamedTuple):
    """One number: of each recipe the seeds' values, and an interval."""

    title: str
    values: tuple[tuple[float, ...], ...]
    intervals: tuple[Interval | None, ...]


class Strips(NamedTuple):
    """Numbers side by side; labels: of the recipes they have in common, from above; axis: what the numbers are.

    differences: they are drawn around a line at 0.
    """

    labels: tuple[str, ...]
    strips: tuple[Strip, ...]
    axis: str
    differences: bool = False


class _Audited(NamedTuple):
    """Seeds of one recipe that were audited alike, with what was found; budgets: that they have in common."""

    models: list[ModelResults]
    summaries: list[AuditSummary]
    budgets: list[int]

    def worst(self, budget: int, field: str) -> list[Any]:
        """Return a number of the worst case within a budget, one a seed."""
        return [getattr(rates, field) for each in self.summaries for rates in each.budgets if rates.budget == budget]


def seed_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return mean, standard deviation and t interval over seeds, per recipe and attack; None without two seeds."""
    rows, compared = [], []
    for alike in map(independent, recipes(experiment.models)):
        audited = _audited_alike(alike)
        for budget in audited.budgets:
            numbers = {
                "accuracy": [each.accuracy for each in audited.summaries],
                "rate": audited.worst(budget, "rate"),
                "robust": audited.worst(budget, "robust_accuracy"),
            }
            title = f"worst case, {budget_text(budget)}"
            rows.append(_seed_row(experiment, WORST_CASE, audited.models, numbers, title))
        for attack in attacks_run(alike):
            having = [model for model in alike if attack in model.attacks]
            if len(having) > 1:
                compared.append((attack, having))
                found = [measured(model, attack) for model in having]
                numbers = {stem: [values[field] for values in found] for stem, field in _OF_ATTACKS.items()}
                rows.append(_seed_row(experiment, attack, having, numbers))
    within = any(row["robust_mean_percent"] is not None for row in rows)
    return make_table(
        f"{experiment.name}-seeds",
        f"{experiment.title}; the same recipe with several seeds",
        rows,
        (
            words("Models"),
            words("Attack"),
            *([words("Audit", "audit_verdict")] if experiment.audited else []),
            whole("Seeds"),
            _over_seeds("Accuracy (%)", "accuracy", 2),
            _over_seeds("Rate (%)", "rate", 2),
            *([_over_seeds("Robust (%)", "robust", 2)] if within else []),
            _over_seeds("L∞", "linf", 2),
            _over_seeds("PASS (paper)", "pass_paper", 4),
        ),
        (
            *_notes(within, two=any(row["seeds"] == 2 for row in rows)),
            *audit_notes(
                experiment, (attack for attack, _ in compared), (model for _, models in compared for model in models)
            ),
        ),
    )


def _notes(within: bool, *, two: bool) -> Iterator[str]:
    yield (
        "Mean ± standard deviation (n - 1) over seeds, n as in the column Seeds, and the mean's 95 % t interval in "
        "brackets. Each seed gives one number: its accuracy, its rate (percent of its correct images), its mean L∞ "
        "(grey levels) and mean PASS (paper) over its flipped images; empty where some seed has none, and without "
        "an interval where all seeds give the same number."
    )
    if within:
        yield (
            "Worst case: of the audits, within a budget (grey levels; in brackets as a share of the range), where "
            "seeds were audited with the same strength on as many images; robust: images that are correct and stay so."
        )
    yield (
        "One recipe: the same net, training images, method and settings of the training, as the model.json of each "
        "says, with different seeds and different weights; models without one are left out."
    )
    yield (
        "The spread covers training with another seed on the same test images; an interval is not cut off at 0 or "
        "100 %."
    )
    if two:
        yield (
            "With two seeds the t interval reaches 12.7 standard errors, which are 9 standard deviations, to both "
            "sides: it says little more than that two seeds are too few."
        )


def _audited_alike(alike: Sequence[ModelResults]) -> _Audited:
    """Return the seeds audited with the strength and on as many images as the first that was; none if it is alone."""
    found = [(model, model.audited) for model in alike if model.audited is not None]
    found = [each for each in found if (each[1].strength, each[1].images) == (found[0][1].strength, found[0][1].images)]
    budgets = [{rates.budget for rates in summary.budgets} for _, summary in found]
    if len(found) < 2:
        return _Audited([], [], [])
    return _Audited([model for model, _ in found], [each for _, each in found], sorted(set.intersection(*budgets)))


def recipes(models: Iterable[ModelResults]) -> list[list[ModelResults]]:
    """Return the models trained alike but for their seed, recipe by recipe; those of which that is known."""
    found: dict[str, list[ModelResults]] = defaultdict(list)
    for model in models:
        if model.card is not None:
            found[_recipe(model.card)].append(model)
    return list(found.values())


def independent(alike: Iterable[ModelResults]) -> list[ModelResults]:
    """Return those of one recipe that tell something new: the first of every seed and of every set of weights."""
    found: list[ModelResults] = []
    for model in alike:
        weights = {other.model.weights_sha256 for other in found} - {None}
        seeds = {other.model.seed for other in found}
        if model.model.seed not in seeds and model.model.weights_sha256 not in weights:
            found.append(model)
    return found


def _recipe(card: ModelCard) -> str:
    """Return what models trained alike have in common: all that their cards say but what is left to them."""
    settings = {name: value for name, value in card.spec.items() if name not in _FREE}
    return fingerprint_of(
        [settings, card.model.model_dump(mode="json", exclude=_OWN_FIELDS), card.train_data.fingerprint]
    )


def _seed_row(
    experiment: Experiment,
    claim: str,
    models: Sequence[ModelResults],
    numbers: Mapping[str, Sequence[float | None]],
    title: str = "",
) -> Values:
    verdicts = {model.id: model.verdict(claim) for model in models}
    audited = [f"{name} {verdict}" for name, verdict in verdicts.items() if verdict != NOT_AUDITED]
    if audited and len(audited) < len(models):
        audited.append(f"{len(models) - len(audited)} {NOT_AUDITED}")
    alike = set(verdicts.values())
    row: dict[str, Any] = {
        "models": ", ".join(verdicts),
        "data": experiment.data.name,
        "attack": title or claim,
        "audit_verdict": alike.pop() if len(alike) == 1 else ", ".join(audited),
        "seeds": len(models),
    }
    for stem in _UNITS:
        found = numbers.get(stem, [None])
        estimate = t_interval(np.array(found, dtype=np.float64)) if None not in found else None
        row |= dict(zip(_seed_fields(stem), estimate or (None,) * 4, strict=True))
    return row


def _seed_fields(stem: str) -> tuple[str, ...]:
    unit = _UNITS[stem]
    deviation = "_points" if unit == "_percent" else unit
    return f"{stem}_mean{unit}", f"{stem}_sd{deviation}", f"{stem}_low{unit}", f"{stem}_high{unit}"


def _over_seeds(header: str, stem: str, places: int) -> Column:
    def show(cell: Cell) -> str:
        return shown(places, " ± {}")(cell[:2]) if None in cell else shown(places, " ± {} [{}, {}]")(cell)

    return Column(header, _seed_fields(stem), show, terminal=stem != "pass_paper")


def seed_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield every seed's robust accuracy within each budget, where seeds of a recipe were audited alike."""
    groups = [each for alike in recipes(experiment.models) if (each := _audited_alike(independent(alike))).budgets]
    if not groups:
        return
    strips = [_strip("clean", [[summary.accuracy for summary in each.summaries] for each in groups])]
    for budget in sorted({budget for each in groups for budget in each.budgets}):
        robust = [each.worst(budget, "robust_accuracy") if budget in each.budgets else [] for each in groups]
        strips.append(_strip(f"robust, {budget_text(budget)}", robust))
    labels = tuple(f"{each.models[0].id} (n = {len(each.models)})" for each in groups)
    images = sorted({summary.images for each in groups for summary in each.summaries})
    yield Figure(
        name=f"{experiment.name}-audited-seeds",
        section="robustness",
        title="Robust accuracy of every seed",
        caption=(
            f"Percent of the first {' or '.join(f'{count:,}' for count in images)} test images of "
            f"{experiment.data.name} that are correct, and that stay so under the worst case of the audit within each "
            "budget (grey levels; in brackets as a share of the range); each training is a point, n: seeds. Grey bars: "
            "the mean's 95 % t interval, not cut off at 0."
        ),
        alternative=f"Points, by recipe. {strips_in_words(labels, strips, [1] * len(strips))}",
        content=Strips(labels, tuple(strips), "percent of the images"),
        draw="bangbench.reporting.seeds:draw_strips",
    )


def _strip(title: str, values: Sequence[Sequence[float]]) -> Strip:
    intervals: list[Interval | None] = []
    for each in values:
        estimate = t_interval(np.array(each))
        ends = (None, None) if estimate is None else (estimate.low, estimate.high)
        intervals.append(None if ends[0] is None or ends[1] is None else (ends[0], ends[1]))
    return Strip(title, tuple(map(tuple, values)), tuple(intervals))


def strips_in_words(labels: Sequence[str], strips: Sequence[Strip], places: Sequence[int]) -> str:
    """Return every number of the strips; places: decimals of each strip."""
    told = []
    for strip, decimals in zip(strips, places, strict=True):
        each = [
            f"{label} {', '.join(number(value, decimals) for value in values)}"
            for label, values in zip(labels, strip.values, strict=True)
            if values
        ]
        told.append(f"{strip.title}: {'; '.join(each)}.")
    return " ".join(told)


def draw_strips(content: Strips) -> Drawing:
    """Draw a panel a number, with a row for each recipe."""
    from bangbench.reporting.draw import new_drawing

    drawing = new_drawing(PAGE, 1.1 + 0.3 * len(content.labels))
    panels = drawing.subplots(1, len(content.strips), sharey=True)
    for axes, strip in zip(panels, content.strips, strict=True):
        _draw_strip(axes, strip, content.differences)
    panels[0].set_yticks(range(len(content.labels)), content.labels)
    panels[0].set_ylim(len(content.labels) - 0.5, -0.5)
    drawing.supxlabel(content.axis, fontsize=10)
    return drawing


def _draw_strip(axes: Axes, strip: Strip, differences: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    if differences:
        axes.axvline(0.0, color=BLACK, linewidth=1.2)
    for row, (values, interval) in enumerate(zip(strip.values, strip.intervals, strict=True)):
        if interval is not None:
            axes.barh(row, interval[1] - interval[0], 0.5, interval[0], color="#c8c8c8", zorder=1.5)
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markersize=5, alpha=0.75, markeredgecolor="white")
    if differences:
        farthest = max((abs(value) for values in strip.values for value in values), default=0.0) or 1.0
        axes.set_xlim(-1.25 * farthest, 1.25 * farthest)
    axes.set_title(strip.title)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(axis="x", labelsize=8)

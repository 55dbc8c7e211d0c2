"""The figures of lines and points: robust accuracy, margins, similarity, and the course of training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bangbench.core.statistics import Numbers
from bangbench.reporting.audit_tables import BADGES
from bangbench.reporting.experiments import ATTACK_ORDER, LEVELS, Experiment, ModelResults
from bangbench.reporting.figure import Chart, Figure, Panel, Series, in_words
from bangbench.reporting.robustness import (
    LARGEST_LINF,
    WORST_CASE,
    Held,
    RobustModel,
    attacks_with_images,
    covered_attacks,
    robust_models,
    varied_models,
)
from bangbench.reporting.table import not_shown, verdicts_in_words
from bangbench.store.audits import WORST_CASE as WORST_CASE_CLAIM
from bangbench.store.audits import AuditSummary
from bangbench.store.headline import robust_accuracy

#: The margin m from which on float32 softmax gives the true class exactly 1 where one other class dominates: its
#: denominator 1 + exp(-m) is rounded to 1 when exp(-m) <= 2^-24, half the distance from 1 to the next float32.
SATURATED_MARGIN = 24.0 * math.log(2.0)

_MOST_PANELS, _MOST_LINES, _MOST_TICKS = 4, 8, 5
#: Attacks and models whose flipped images are drawn one by one.
_MOST_ATTACKS, _MOST_MODELS = 2, 3
#: Dots of one panel: more hide each other, and weigh.
_MOST_DOTS = 500

#: A line that falls by fewer percentage points than this from here on is flat to the eye.
_FLAT_POINTS = 0.5
_BAND_POINTS, _BINS = 100, 90
#: Values that differ by a smaller factor are as legible on a linear scale, and its labels are easier to read.
_LOG_FACTOR = 3.0


def audit_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield robust accuracy within each budget as audited: per attack, or of many models only the worst cases."""
    models = [(model, summary) for model, summary in experiment.audits if summary.budgets]
    if not models:
        return
    budgets = sorted({rates.budget for _, summary in models for rates in summary.budgets})
    ticks = tuple((float(b), f"{b}\n({b / LEVELS:.2g})" if b else "0") for b in (0, *budgets))
    if len(models) > _MOST_PANELS:
        lines = [("", [_audited_worst(each[1], each[0].id, number) for number, each in enumerate(models)])]
        shown = "One line per model: all attacks of its audit together, with 95 % Wilson intervals."
    else:
        lines = [(f"{model.id}: {BADGES[summary.verdict]}", _audited_lines(summary)) for model, summary in models]
        shown = (
            "Black: all attacks together, per image the strongest, with 95 % Wilson intervals; attacks that tried only "
            "what the others left are in it and have no line of their own."
        )
    panels = [
        _robust_panel(some, title, 1.04 * max(budgets), "budget: L∞ (grey levels, share of the range)")._replace(
            x_ticks=ticks if len(ticks) <= _MOST_TICKS else ()
        )
        for title, some in lines
    ]
    counts = " or ".join(f"{n:,}" for n in sorted({summary.images for _, summary in models}))
    names = ", ".join(f"{model.id} {summary.verdict}" for model, summary in models)
    content = _chart(panels, 3)
    yield Figure(
        name=f"{experiment.name}-audit",
        section="audit",
        title="Robust accuracy within each budget, as audited",
        caption=(
            f"Percent of all audited test images (n = {counts}) that are correct and stay so within an L∞ budget, "
            f"measured at the markers; at 0, the accuracy. Verdicts: {names}. {shown} Attacks that were not run could "
            "do more."
        ),
        alternative=in_words(content),
        content=content,
    )


def _chart(panels: Sequence[Panel], alone: int) -> Chart:
    """Return at most four panels side by side; alone: columns of the legend of a single one."""
    columns = 2 if len(panels) == _MOST_PANELS else len(panels)
    return Chart(tuple(panels), columns, legend_columns=alone if columns == 1 else 5)


def _robust_panel(series: Sequence[Series], title: str, limit: float, x_label: str) -> Panel:
    return Panel(tuple(series), title, x_label, "robust accuracy (%)", (0.0, limit), (0.0, 102.0))


def _audited_lines(summary: AuditSummary) -> list[Series]:
    rates = sorted(summary.budgets, key=lambda each: each.budget)
    lines = []
    for number, attack in enumerate(dict.fromkeys(name for each in rates for name in each.flipped)):
        points = [
            (float(each.budget), 100.0 * (summary.correct - each.flipped[attack]) / summary.images)
            for each in rates
            if attack in each.flipped and attack not in each.tried
        ]
        if points:
            x, y = zip((0.0, summary.accuracy), *points, strict=True)
            lines.append(Series(attack, x, y, number=number, marked=True, width=1.3))
    return [*lines, _audited_worst(summary, WORST_CASE, None)]


def _audited_worst(summary: AuditSummary, label: str, number: int | None) -> Series:
    rates = sorted(summary.budgets, key=lambda each: each.budget)
    points = [(float(each.budget), *robust_accuracy(summary, each)[:3]) for each in rates]
    x, y, low, high = zip((0.0, *[summary.accuracy] * 3), *points, strict=True)
    return Series(label, x, y, low, high, number=number, marked=True, width=2.6 if number is None else 1.6)


def robustness_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield robust accuracy against L_inf: per attack for up to four models, and the worst cases of all of them."""
    models = robust_models(experiment)
    if 1 <= len(models) <= _MOST_PANELS:
        yield _attacks_figure(experiment, models)
    if len(models) > 1:
        yield _worst_figure(experiment, models)


def _attacks_figure(experiment: Experiment, models: Sequence[RobustModel]) -> Figure:
    names = list(dict.fromkeys(name for item in models for name in item.attacks))
    limit = _limit([held for item in models for held in (*item.attacks.values(), item.worst)])
    panels = []
    for item in models:
        # every second attack is drawn thinner: two attacks with equal lines are both seen
        lines = [
            _steps(name, held, names.index(name), 2.6 if names.index(name) % 2 == 0 else 1.3)
            for name, held in item.attacks.items()
        ]
        worst = _with_band(_steps(WORST_CASE, item.worst, None, 4.6), item.worst)
        title = f"{item.model.id} on {experiment.data.name}"
        panels.append(_robust_panel((worst, *lines), title, limit, "budget: L∞ (grey levels)"))
    return _robustness_figure(
        experiment,
        models,
        "",
        "Robust accuracy against the size of the perturbation",
        "Black: the worst case, per image the smallest L∞ of the attacks run "
        f"({covered_attacks(models)}), with its 95 % Wilson interval; attacks that were not run could need less.",
        _chart(panels, 2),
        names,
    )


def _worst_figure(experiment: Experiment, models: Sequence[RobustModel]) -> Figure:
    limit, few = _limit([item.worst for item in models]), len(models) <= _MOST_PANELS
    lines = []
    for number, item in enumerate(models):
        label = f"{item.model.id} ({len(item.covered)} attack{'s' if len(item.covered) > 1 else ''})"
        series = _steps(label, item.worst, number, 1.6)
        lines.append(_with_band(series, item.worst) if few else series)
    same = len({item.covered for item in models}) == 1
    warning = "" if same else " The models were not attacked alike, so their lines are not bounds of one strength."
    return _robustness_figure(
        experiment,
        models,
        "-worst",
        "Robust accuracy under all attacks together",
        f"Per image the smallest L∞ of the attacks run counts ({covered_attacks(models)}); "
        f"attacks that were not run could need less.{warning}{' Bands: 95 % Wilson intervals.' if few else ''}",
        _chart([_robust_panel(lines, "", limit, "budget: L∞ (grey levels)")], 2),
        (),
    )


def _robustness_figure(
    experiment: Experiment,
    models: Sequence[RobustModel],
    suffix: str,
    title: str,
    shown: str,
    content: Chart,
    attacks: Sequence[str],
) -> Figure:
    counts = " or ".join(f"{n:,}" for n in sorted({held.total for item in models for held in item.attacks.values()}))
    _, limit = content.panels[0].x_ends or (0.0, LARGEST_LINF)
    cut = f"Cut at {limit:g} grey levels: up to 255 no line falls by more than {_FLAT_POINTS:g} points any further."
    definition = (
        f"Percent of all test images (n = {counts}) that are classified correctly and not flipped within an L∞ budget "
        "in grey levels; images an attack fails on count as robust at every budget."
    )
    verdicts = verdicts_in_words([item.model for item in models], (*attacks, WORST_CASE_CLAIM))
    return Figure(
        name=f"{experiment.name}-robustness{suffix}",
        section="robustness",
        title=title,
        caption=" ".join([definition, shown, *([cut] if limit < LARGEST_LINF else []), *verdicts]),
        alternative=in_words(content),
        content=content,
    )


def _steps(label: str, held: Held, number: int | None, width: float) -> Series:
    """Return one step function up to 255."""
    budgets, accuracy = held.steps()
    x, y = np.append(budgets, LARGEST_LINF), np.append(accuracy, accuracy[-1])
    return Series(label, tuple(x.tolist()), tuple(y.tolist()), number=number, kind="steps", width=width)


def _with_band(series: Series, held: Held) -> Series:
    """Return a step function with its Wilson interval: at all steps, or both at an even choice of many."""
    places = np.unique(np.linspace(0, len(series.x) - 1, min(len(series.x), _BAND_POINTS)).astype(np.int64))
    x, y = (tuple(values[place] for place in places) for values in (series.x, series.y))
    low, high = zip(*(held.interval(budget) for budget in x), strict=True)
    return series._replace(x=x, y=y, low=low, high=high)


def _limit(lines: Sequence[Held]) -> float:
    """Return up to which budget (grey levels) to draw: all of it where a line falls near 255, or none falls at all."""
    flat = []
    for held in lines:
        budgets, accuracy = held.steps()
        flat.append(float(budgets[np.argmax(accuracy - accuracy[-1] <= _FLAT_POINTS)]))
    return min(LARGEST_LINF, float(np.ceil(1.06 * max(flat)))) if max(flat) else LARGEST_LINF


def margin_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield the distributions of margin and true logit of the clean images, for at most four models."""
    found = {model.name: both for model in experiment.models if (both := _logits(model)) is not None}
    chosen = varied_models((model for model in experiment.models if model.name in found), _MOST_PANELS)
    if not chosen:
        return
    margins, logits = ([found[model.name][place] for model in chosen] for place in (0, 1))
    left = [f"{model.id}: {_saturated(model, values)}" for model, values in zip(chosen, margins, strict=True)]
    right = [
        f"{model.id}: {100.0 * np.mean(values < 0.0):.1f} % negative"
        for model, values in zip(chosen, logits, strict=True)
    ]
    panels = (
        _histograms(left, margins, SATURATED_MARGIN, "24 ln 2 = 16.6: float32 softmax gives 1")._replace(
            x_label="margin of the clean image (logits)", y_label="correct images per bin (%)"
        ),
        _histograms(right, logits, 0.0, "0: the sign of HC1's weight turns")._replace(
            x_label="true logit of the clean image"
        ),
    )
    counts = ", ".join(f"{model.id} {len(values):,}" for model, values in zip(chosen, margins, strict=True))
    content = Chart(panels, 2, 3.1, shared=False)
    yield Figure(
        name=f"{experiment.name}-margins",
        section="masking",
        title="Why gradients vanish: margins and logits of the clean images",
        caption=" ".join(
            (
                f"Correctly classified test images of {experiment.data.name} (n: {counts}), percent per bin; both axes "
                "without unit. Left: margin, true logit minus the largest other one. From 24 ln 2 = 16.6 on "
                "exp(-margin) is lost beside 1 in float32: where one other class dominates, softmax gives the true "
                "class exactly 1, the loss is exactly 0 and FGS has no gradient (blank). Right: logit of the true "
                "class; where it is below 0, the literal weight of HC1 pushes towards the true class.",
                *_models_left_out(experiment, chosen),
            )
        ),
        alternative=in_words(content),
        content=content,
    )


def _models_left_out(experiment: Experiment, chosen: Sequence[ModelResults], *more: str) -> tuple[str, ...]:
    omitted = [model for model in experiment.models if model not in chosen]
    having = [model.id for model in omitted if attacks_with_images(model)]
    return not_shown([*having, *more], [model.id for model in omitted if model.id not in having])


def _logits(model: ModelResults) -> tuple[Numbers, Numbers] | None:
    """Return margin and true logit of the correct images: all attacks hold the same ones, so the first will do."""
    images = next(iter(attacks_with_images(model).values()), None)
    if images is None:
        return None
    margin, logit = (images[name].to_numpy(np.float64) for name in ("margin", "true_logit"))
    shown = images["attacked"].to_numpy(bool) & np.isfinite(margin) & np.isfinite(logit)
    return (margin[shown], logit[shown]) if shown.any() else None


def _saturated(model: ModelResults, margin: Numbers) -> str:
    summary = model.summary("fgs")
    blank = "" if summary is None or summary.blank is None else f", {summary.blank:.1f} % blank under FGS"
    return f"{100.0 * np.mean(margin >= SATURATED_MARGIN):.1f} % beyond{blank}"


def _histograms(labels: Sequence[str], values: Sequence[Numbers], line: float, told: str) -> Panel:
    """Return one outline per model over common bins, in percent of its images; `line` lies between two bins."""
    whole = np.concatenate(values)
    low, high = min(float(whole.min()), line), max(float(whole.max()), line)
    width = (high - low) / _BINS or 1.0
    # one more on each side: rounding must not put the outermost value outside
    edges = line + width * np.arange(math.floor((low - line) / width) - 1, math.ceil((high - line) / width) + 2)
    series = []
    for number, (numbers, label) in enumerate(zip(values, labels, strict=True)):
        percent = 100.0 * np.histogram(numbers, edges)[0] / len(numbers)
        filled = np.flatnonzero(percent)
        first, last = filled[0], filled[-1] + 1
        x, y = tuple(edges[first : last + 1].tolist()), tuple(percent[first:last].tolist())
        series.append(Series(label, x, y, number=number, kind="outline"))
    return Panel(tuple(series), rule=(line, told), legend=True)


def similarity_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield PASS (written definition) against L_inf of the flipped images, at most 2 attacks x 3 models."""
    usable = {model.name: made for model in experiment.models if (made := _clouds_of(model))}
    models = varied_models((model for model in experiment.models if model.name in usable), _MOST_MODELS)
    found = {attack for model in models for attack in usable[model.name]}
    known = [attack for attack in dict.fromkeys(("fgs", "hc1", *ATTACK_ORDER)) if attack in found]
    attacks = [*known, *sorted(found.difference(known))][:_MOST_ATTACKS]
    panels = [usable[model.name][name] for name in attacks for model in models if name in usable[model.name]]
    if not panels:
        return
    lowest = min(0.0, *(min(panel.series[0].y) for panel in panels))
    panels = [panel._replace(y_ends=(lowest - 0.02, 1.02)) for panel in panels]
    content = _chart(panels, 2) if len(panels) <= _MOST_PANELS else Chart(tuple(panels), _MOST_MODELS)
    every = dict.fromkeys(attack for model in experiment.models for attack in attacks_with_images(model))
    yield Figure(
        name=f"{experiment.name}-similarity",
        section="robustness",
        title="Similarity against the size of the perturbation",
        caption=" ".join(
            (
                "PASS by its written definition (1: looks the same) against L∞ in grey levels: a dot for every flipped "
                f"image for which it is defined, or for every so many so that at most {_MOST_DOTS} are drawn. "
                "The panels hold different images: those that the attack flipped.",
                *_models_left_out(experiment, models, *(attack for attack in every if attack not in attacks)),
            )
        ),
        alternative=in_words(content),
        content=content,
    )


def _clouds_of(model: ModelResults) -> dict[str, Panel]:
    """Return the flipped images of each attack for which PASS is defined, and their medians."""
    found = {}
    for attack, images in attacks_with_images(model).items():
        flipped = images["flipped"].to_numpy(bool)
        points = np.stack([images[field].to_numpy(np.float64) for field in ("linf", "pass")])[:, flipped]
        shown = points[:, np.isfinite(points).all(axis=0)]
        if shown.size:
            x, y = map(tuple, shown[:, :: -(-shown.shape[1] // _MOST_DOTS)].tolist())
            linf, score = np.median(shown, axis=1).tolist()
            dots = Series("flipped images", x, y, number=0, kind="dots")
            median = Series("medians", (linf,), (score,), number=1, marked=True)
            title = f"{model.id} {attack}: {shown.shape[1]:,} flipped\nmedians: L∞ {linf:g}, PASS {score:.2f}"
            found[attack] = Panel((dots, median), title, "L∞ (grey levels)", "PASS")
    return found


def training_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield loss and test error against iteration, at most eight models a figure; nothing without training logs."""
    models = [model for model in experiment.models if model.log is not None and not model.log.empty]
    for start in range(0, len(models), _MOST_LINES):
        part = models[start : start + _MOST_LINES]
        number = start // _MOST_LINES + 1
        yield _training_figure(experiment, part, f"-{number}" if number > 1 else "", f", part {number}" * (number > 1))


def _training_figure(experiment: Experiment, models: Sequence[ModelResults], suffix: str, part: str) -> Figure:
    logs = {model.id: model.log for model in models if model.log is not None}
    losses = {name: log["loss"].tolist() for name, log in logs.items()}
    errors = {name: (100.0 - log["test_accuracy"]).tolist() for name, log in logs.items()}
    panels = []
    for values, label in ((losses, "mean training loss"), (errors, "test error (%)")):
        series = tuple(
            Series(name[:26], tuple(log["iteration"].tolist()), tuple(values[name]), number=place, width=1.3,
                   marked=len(log) <= 40)
            for place, (name, log) in enumerate(logs.items())
        )  # fmt: skip
        panels.append(Panel(series, x_label="iteration", y_label=label, y_logarithmic=is_logarithmic(values.values())))
    data = ", ".join(sorted({model.model.data or experiment.data.name for model in models}))
    scales = " and the ".join(n for n, p in zip(("loss", "error"), panels, strict=True) if p.y_logarithmic)
    content = Chart(tuple(panels), 2, legend_columns=4, shared=False)
    return Figure(
        name=f"{experiment.name}-training{suffix}",
        section="training",
        title=f"The course of training{part}",
        caption=(
            f"{f'{len(logs)} models' if len(logs) > 1 else 'One model'} trained on {data}. Left: mean training loss of "
            "the batches since the stage before; right: test error in percent of the whole test split; both per stage "
            f"against the iteration.{f' Logarithmic scale of the {scales}.' if scales else ''}"
        ),
        alternative=in_words(content),
        content=content,
    )


def is_logarithmic(lines: Iterable[Sequence[float]]) -> bool:
    """Return whether values are drawn on a logarithmic scale: all of them above 0, and far enough apart."""
    whole = np.array([value for line in lines for value in line])
    finite = whole[np.isfinite(whole)]
    return bool(len(finite) and finite.min() > 0 and finite.max() >= _LOG_FACTOR * finite.min())

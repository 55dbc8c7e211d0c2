"""The figures that are lines: robust accuracy, margins, noise and the course of training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from bangbench.core.statistics import Numbers
from bangbench.reporting.audit_tables import BADGES, audited_models
from bangbench.reporting.experiments import LEVELS, Experiment, ModelResults
from bangbench.reporting.figure import Chart, Figure, Panel, Series
from bangbench.reporting.notes import budget_text, not_shown, verdicts_in_words
from bangbench.reporting.robustness import (
    LARGEST_LINF,
    WORST_CASE,
    Held,
    RobustModel,
    attacks_with_images,
    budgets_of,
    covered_attacks,
    robust_models,
    varied_models,
)
from bangbench.store.audits import WORST_CASE as WORST_CASE_CLAIM
from bangbench.store.headline import robust_accuracy

#: The margin m from which on float32 softmax gives the true class exactly 1 where one other class dominates: its
#: denominator 1 + exp(-m) is rounded to 1 when exp(-m) <= 2^-24, half the distance from 1 to the next float32.
SATURATED_MARGIN = 24.0 * math.log(2.0)

_MOST_PANELS, _MOST_LINES, _MOST_TICKS = 4, 8, 5
#: A line that falls by fewer percentage points than this from here on is flat to the eye.
_FLAT_POINTS = 0.5
_BAND_POINTS, _BINS = 100, 90
#: Values that differ by a smaller factor are as legible on a linear scale, and its labels are easier to read.
_LOG_FACTOR = 3.0


def audit_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield robust accuracy within each budget as audited: per attack, or of many models only the worst cases."""
    models = [model for model in audited_models(experiment) if model.audit and model.audit.summary.budgets]
    if not models:
        return
    if len(models) > _MOST_PANELS:
        series = tuple(_audited_worst(model, model.id, number) for number, model in enumerate(models))
        panels: tuple[tuple[str, tuple[Series, ...]], ...] = (("", series),)
        shown = "One line per model: all attacks of its audit together, with 95 % Wilson intervals."
    else:
        panels = tuple(_audited_panel(model) for model in models)
        shown = (
            "Black: all attacks together, per image the strongest, with 95 % Wilson intervals; attacks that tried only "
            "what the others left are in it and have no line of their own."
        )
    budgets = sorted({rates.budget for model in models if model.audit for rates in model.audit.summary.budgets})
    ticks = tuple((float(b), f"{b}\n({b / LEVELS:.2g})" if b else "0") for b in (0, *budgets))
    counts = " or ".join(f"{n:,}" for n in sorted({model.audit.summary.images for model in models if model.audit}))
    names = ", ".join(f"{model.id} {model.audit.summary.verdict}" for model in models if model.audit)
    columns = 2 if len(panels) == _MOST_PANELS else len(panels)
    yield Figure(
        name=f"{experiment.name}-audit",
        section="audit",
        title="Robust accuracy within each budget, as audited",
        caption=(
            f"Percent of all audited test images (n = {counts}) that are correct and stay so within an L∞ budget, "
            f"measured at the markers; at 0, the accuracy. Verdicts: {names}. {shown} Attacks that were not run could "
            "do more."
        ),
        alternative=f"Lines that fall as the budget grows. {' '.join(map(_audit_in_words, models))}",
        content=Chart(
            tuple(
                Panel(
                    lines,
                    title,
                    "budget: L∞ (grey levels, share of the range)",
                    "robust accuracy (%)",
                    (0.0, 1.04 * max(budgets)),
                    (0.0, 102.0),
                    ticks if len(ticks) <= _MOST_TICKS else (),
                )
                for title, lines in panels
            ),
            columns,
            legend_columns=3 if columns == 1 else 5,
        ),
    )


def _audited_panel(model: ModelResults) -> tuple[str, tuple[Series, ...]]:
    summary = model.audit.summary if model.audit else None
    if summary is None:
        return model.id, ()
    rates = sorted(summary.budgets, key=lambda each: each.budget)
    lines = []
    for number, attack in enumerate(dict.fromkeys(name for each in rates for name in each.flipped)):
        points = [
            (each.budget, each.flipped[attack]) for each in rates if attack in each.flipped and attack not in each.tried
        ]
        if not points:
            continue
        accuracy = [100.0 * (summary.correct - flipped) / summary.images for _, flipped in points]
        x, y = (0.0, *(float(budget) for budget, _ in points)), (summary.accuracy, *accuracy)
        lines.append(Series(attack, x, y, number=number, marked=True, width=1.3))
    return f"{model.id}: {BADGES[summary.verdict]}", (*lines, _audited_worst(model, WORST_CASE, None))


def _audited_worst(model: ModelResults, label: str, number: int | None) -> Series:
    summary = model.audit.summary if model.audit else None
    rates = sorted(summary.budgets, key=lambda each: each.budget) if summary else []
    clean = summary.accuracy if summary else 0.0
    found = [robust_accuracy(summary, each) for each in rates if summary]
    return Series(
        label=label,
        x=(0.0, *(float(each.budget) for each in rates)),
        y=(clean, *(each.value for each in found)),
        low=(clean, *(each.low for each in found)),
        high=(clean, *(each.high for each in found)),
        number=number,
        marked=True,
        width=2.6 if number is None else 1.6,
    )


def _audit_in_words(model: ModelResults) -> str:
    summary = model.audit.summary if model.audit else None
    if summary is None:
        return ""
    told = ", ".join(f"{each.robust_accuracy:.1f} % at {budget_text(each.budget)}" for each in summary.budgets)
    return f"{model.id}, {summary.verdict}, {WORST_CASE}: {summary.accuracy:.1f} % clean, {told}."


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
    columns = 2 if len(models) == _MOST_PANELS else len(models)
    panels = []
    for item in models:
        # every second attack is drawn thinner: two attacks with equal lines are both seen
        lines = [
            _steps(name, held, names.index(name), 2.6 if names.index(name) % 2 == 0 else 1.3)
            for name, held in item.attacks.items()
        ]
        worst = _with_band(_steps(WORST_CASE, item.worst, None, 4.6), item.worst)
        panels.append(_robust_panel((worst, *lines), f"{item.model.id} on {experiment.data.name}", limit))
    return Figure(
        name=f"{experiment.name}-robustness",
        section="robustness",
        title="Robust accuracy against the size of the perturbation",
        caption=(
            f"{_definition(models)} Black: the worst case, per image the smallest L∞ of the attacks run "
            f"({covered_attacks(models)}), with its 95 % Wilson interval; attacks that were not run could need less. "
            f"{_cut(limit)} {_verdicts(models, names)}"
        ).strip(),
        alternative=f"Lines that fall as the budget grows. {_robust_in_words(experiment, models)}",
        content=Chart(tuple(panels), columns, legend_columns=2 if columns == 1 else 5),
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
    return Figure(
        name=f"{experiment.name}-robustness-worst",
        section="robustness",
        title="Robust accuracy under all attacks together",
        caption=(
            f"{_definition(models)} Per image the smallest L∞ of the attacks run counts ({covered_attacks(models)}); "
            f"attacks that were not run could need less.{warning}{' Bands: 95 % Wilson intervals.' if few else ''} "
            f"{_cut(limit)} {_verdicts(models, ())}"
        ).strip(),
        alternative=f"One falling line per model. {_robust_in_words(experiment, models)}",
        content=Chart((_robust_panel(tuple(lines), "", limit),), legend_columns=2),
    )


def _robust_panel(series: tuple[Series, ...], title: str, limit: float) -> Panel:
    return Panel(series, title, "budget: L∞ (grey levels)", "robust accuracy (%)", (0.0, limit), (0.0, 102.0))


def _steps(label: str, held: Held, number: int | None, width: float) -> Series:
    """Return one step function up to 255."""
    budgets, accuracy = held.steps()
    x, y = np.append(budgets, LARGEST_LINF), np.append(accuracy, accuracy[-1])
    return Series(label, tuple(x.tolist()), tuple(y.tolist()), number=number, kind="steps", width=width)


def _with_band(series: Series, held: Held) -> Series:
    """Return a step function with its Wilson interval: at all steps, or both at an even choice of many."""
    places = np.unique(np.linspace(0, len(series.x) - 1, min(len(series.x), _BAND_POINTS)).astype(np.int64))
    chosen = places if len(series.x) > _BAND_POINTS else range(len(series.x))
    x, y = ([values[place] for place in chosen] for values in (series.x, series.y))
    low, high = zip(*(held.interval(budget) for budget in x), strict=True)
    return series._replace(x=tuple(x), y=tuple(y), low=low, high=high)


def _verdicts(models: Sequence[RobustModel], attacks: Sequence[str]) -> str:
    return " ".join(verdicts_in_words([item.model for item in models], (*attacks, WORST_CASE_CLAIM)))


def _definition(models: Sequence[RobustModel]) -> str:
    counts = " or ".join(f"{n:,}" for n in sorted({held.total for item in models for held in item.attacks.values()}))
    return (
        f"Percent of all test images (n = {counts}) that are classified correctly and not flipped within an L∞ budget "
        "in grey levels; images an attack fails on count as robust at every budget."
    )


def _cut(limit: float) -> str:
    if limit >= LARGEST_LINF:
        return ""
    return f"Cut at {limit:g} grey levels: up to 255 no line falls by more than {_FLAT_POINTS:g} points any further."


def _robust_in_words(experiment: Experiment, models: Sequence[RobustModel]) -> str:
    """Return the worst case of each model at a few budgets."""
    budgets = budgets_of(experiment)[:5:2]
    sentences = []
    for item in models:
        clean, *values = item.worst.accuracy((0, *budgets))
        robust = ", ".join(f"{value:.1f} % at {budget}" for value, budget in zip(values, budgets, strict=True))
        sentences.append(f"{item.model.id}, {WORST_CASE}: {clean:.1f} % clean, {robust} grey levels.")
    return " ".join(sentences)


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
    right = [f"{model.id}: {_negative(values)}" for model, values in zip(chosen, logits, strict=True)]
    panels = (
        _histograms(left, margins, SATURATED_MARGIN, "24 ln 2 = 16.6: float32 softmax gives 1")._replace(
            x_label="margin of the clean image (logits)", y_label="correct images per bin (%)"
        ),
        _histograms(right, logits, 0.0, "0: the sign of HC1's weight turns")._replace(
            x_label="true logit of the clean image"
        ),
    )
    omitted = [model for model in experiment.models if model not in chosen]
    counts = ", ".join(f"{model.id} {len(values):,}" for model, values in zip(chosen, margins, strict=True))
    words = (
        f"{model.id}: median margin {np.median(margin):.1f}, {_saturated(model, margin)}; median true logit "
        f"{np.median(logit):.1f}, {_negative(logit)}."
        for model, margin, logit in zip(chosen, margins, logits, strict=True)
    )
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
                *not_shown(
                    [model.id for model in omitted if attacks_with_images(model)],
                    [model.id for model in omitted if not attacks_with_images(model)],
                ),
            )
        ),
        alternative=" ".join(words),
        content=Chart(panels, 2, 3.1, shared=False),
    )


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


def _negative(logit: Numbers) -> str:
    return f"{100.0 * np.mean(logit < 0.0):.1f} % negative"


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


def training_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield loss and test error against iteration, at most eight models a figure; nothing without training logs."""
    models = [model for model in experiment.models if model.log is not None and not model.log.empty]
    for start in range(0, len(models), _MOST_LINES):
        part = models[start : start + _MOST_LINES]
        number = start // _MOST_LINES + 1
        yield _training_figure(experiment, part, f"-{number}" if number > 1 else "", f", part {number}" * (number > 1))


def _training_figure(experiment: Experiment, models: Sequence[ModelResults], suffix: str, part: str) -> Figure:
    logs = {model.id: model.log for model in models if model.log is not None}
    losses = {name: tuple(log["loss"].tolist()) for name, log in logs.items()}
    errors = {name: tuple((100.0 - log["test_accuracy"]).tolist()) for name, log in logs.items()}
    stages = {name: tuple(log["iteration"].tolist()) for name, log in logs.items()}
    panels = tuple(
        Panel(
            tuple(Series(name[:26], stages[name], values[name], number=place, width=1.3, marked=len(values[name]) <= 40)
                  for place, name in enumerate(logs)),
            x_label="iteration", y_label=label, y_logarithmic=is_logarithmic(values),
        )
        for values, label in ((losses, "mean training loss"), (errors, "test error (%)"))
    )  # fmt: skip
    data = ", ".join(sorted({model.model.data or experiment.data.name for model in models}))
    scales = " and the ".join(n for n, p in zip(("loss", "error"), panels, strict=True) if p.y_logarithmic)
    words = "; ".join(
        f"{name}: loss {losses[name][-1]:.3g}, test error {errors[name][-1]:.2f} % at iteration {stages[name][-1]:,.0f}"
        for name in logs
    )
    return Figure(
        name=f"{experiment.name}-training{suffix}",
        section="training",
        title=f"The course of training{part}",
        caption=(
            f"{f'{len(logs)} models' if len(logs) > 1 else 'One model'} trained on {data}. Left: mean training loss of "
            "the batches since the stage before; right: test error in percent of the whole test split; both per stage "
            f"against the iteration.{f' Logarithmic scale of the {scales}.' if scales else ''}"
        ),
        alternative=f"Loss and test error against iteration, one line per model. At the last stage {words}.",
        content=Chart(panels, 2, legend_columns=4, shared=False),
    )


def is_logarithmic(values: dict[str, tuple[float, ...]]) -> bool:
    """Return whether values are drawn on a logarithmic scale: all of them above 0, and far enough apart."""
    whole = np.array([value for line in values.values() for value in line])
    finite = whole[np.isfinite(whole)]
    return bool(len(finite) and finite.min() > 0 and finite.max() >= _LOG_FACTOR * finite.min())

"""The course of training: mean loss and test error of each model, stage by stage."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from bangbench.reporting.figures.style import COLOURS, LINES, MARKERS, PAGE, colour, new_figure
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.plot import Plot

_MOST_LINES = 8
_LEGEND_COLUMNS = 4
_LABEL_LETTERS = 26
#: With more stages than this the points need no markers to be seen.
_MOST_MARKERS = 40
#: Values that differ by a smaller factor are as legible on a linear scale, and its labels are easier to read.
_LOG_FACTOR = 3.0


class Course(NamedTuple):
    """One model: iteration, mean loss since the stage before, test error in percent, one entry per stage."""

    label: str
    iteration: tuple[float, ...]
    loss: tuple[float, ...]
    error: tuple[float, ...]


def training_plots(group: Group) -> list[Plot]:
    """Return loss and test error against iteration, at most eight models a figure; nothing without training logs."""
    models = [model for model in group.models if model.log is not None and model.log.iteration]
    parts = [models[start : start + _MOST_LINES] for start in range(0, len(models), _MOST_LINES)]
    return [_plot(group, part, number) for number, part in enumerate(parts, start=1)]


def _plot(group: Group, models: Sequence[ModelResults], number: int) -> Plot:
    courses = tuple(course for model in models if (course := _course(model)) is not None)
    return Plot(
        name=f"{group.name}-training" + (f"-{number}" if number > 1 else ""),
        section="training",
        title="The course of training" + (f", part {number}" if number > 1 else ""),
        caption=_caption(group, models, courses),
        alternative=_in_words(courses),
        draw=partial(draw_training, courses),
    )


def _course(model: ModelResults) -> Course | None:
    log = model.log
    if log is None:
        return None
    return Course(short_name(model.name), log.iteration, log.loss, tuple(100.0 - value for value in log.test_accuracy))


def _caption(group: Group, models: Sequence[ModelResults], courses: Sequence[Course]) -> str:
    data = ", ".join(sorted({model.model.data or group.data.name for model in models}))
    count = f" ({group.data.images:,} images)" if _is_whole_test_split(group, models) else ""
    scales = [
        name for name, values in (("loss", _losses(courses)), ("error", _errors(courses))) if is_logarithmic(values)
    ]
    scale = f" Logarithmic scale of the {' and the '.join(scales)}." if scales else ""
    what = f"{len(courses)} models" if len(courses) > 1 else "One model"
    return (
        f"{what} trained on {data}. Left: mean training loss of the batches since the stage before; right: test error "
        f"in percent of the whole test split{count}; both per stage against the iteration.{scale}"
    )


def _is_whole_test_split(group: Group, models: Sequence[ModelResults]) -> bool:
    """Return whether the attacked images are those that the training log speaks of."""
    same = all(model.model.data == group.data.name for model in models)
    limited = any(found.record.spec.get("limit") for model in models for found in model.attacks.values())
    return same and not limited


def _in_words(courses: Sequence[Course]) -> str:
    numbers = "; ".join(
        f"{course.label}: loss {course.loss[-1]:.3g}, test error {course.error[-1]:.2f} % "
        f"at iteration {course.iteration[-1]:,.0f}"
        for course in courses
    )
    return f"Loss and test error against iteration, one line per model. At the last stage {numbers}."


def draw_training(courses: Sequence[Course]) -> Figure:
    """Draw the mean training loss (left) and the test error in percent (right) against iteration."""
    rows = -(-len(courses) // _LEGEND_COLUMNS)
    figure = new_figure(PAGE, 3.3 + 0.2 * rows)
    left, right = figure.subplots(1, 2)
    handles = []
    for number, course in enumerate(courses):
        style = _style(number, len(course.iteration))
        label = textwrap.shorten(course.label, _LABEL_LETTERS, placeholder="…")
        handles += left.plot(course.iteration, course.loss, label=label, **style)
        right.plot(course.iteration, course.error, **style)
    for axes, values, label in (
        (left, _losses(courses), "mean training loss"),
        (right, _errors(courses), "test error (%)"),
    ):
        _scale(axes, values)
        axes.set_ylabel(label)
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    columns = min(_LEGEND_COLUMNS, len(courses))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.6)
    return figure


def is_logarithmic(values: Sequence[float]) -> bool:
    """Return whether values are drawn on a logarithmic scale: all of them above 0, and far enough apart."""
    finite = np.array(values)[np.isfinite(values)]
    return bool(len(finite) and finite.min() > 0 and finite.max() >= _LOG_FACTOR * finite.min())


def _losses(courses: Sequence[Course]) -> list[float]:
    return [value for course in courses for value in course.loss]


def _errors(courses: Sequence[Course]) -> list[float]:
    return [value for course in courses for value in course.error]


def _scale(axes: Axes, values: Sequence[float]) -> None:
    if not is_logarithmic(values):
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        return
    axes.set_yscale("log")
    finite = [value for value in values if np.isfinite(value)]
    subs = (1, 2, 5) if max(finite) > 10 * min(finite) else (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _style(number: int, stages: int) -> dict[str, Any]:
    """Return how a line is drawn: no two of a figure share colour and line style or marker."""
    style: dict[str, Any] = {
        "color": colour(number),
        "linestyle": LINES[(number + number // len(COLOURS)) % len(LINES)],
        "linewidth": 1.3,
    }
    if stages <= _MOST_MARKERS:
        style |= {"marker": MARKERS[number % len(MARKERS)], "markersize": 3.0}
    return style

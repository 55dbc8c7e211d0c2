"""The figure of several seeds: each training as a point, beside the published number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bangbench.core.statistics import Interval, prediction_interval
from bangbench.paper.agreement import trainings
from bangbench.paper.published import PublishedRow, is_published_data
from bangbench.reporting.experiments import Experiment, ModelResults
from bangbench.reporting.figure import BLACK, COLOURS, PAGE, Figure
from bangbench.reporting.table import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing


class Strip(NamedTuple):
    """One number minus the published one: of each row the seeds' values, and the interval that predicts one more."""

    title: str
    values: tuple[tuple[float, ...], ...]
    intervals: tuple[Interval | None, ...]


class Strips(NamedTuple):
    """Numbers side by side; labels: of the rows they have in common, from above."""

    labels: tuple[str, ...]
    strips: tuple[Strip, ...]


def _rate(model: ModelResults, attack: str) -> float | None:
    summary = model.summary(attack)
    return None if summary is None else summary.rate


def _score(model: ModelResults) -> float | None:
    summary = model.summary("hc1")
    return None if summary is None else summary.pass_paper.mean


_Ours = Callable[[ModelResults], float | None]
_QUANTITIES: tuple[tuple[str, int, _Ours, Callable[[PublishedRow], float]], ...] = (
    ("accuracy (points)", 2, lambda model: model.accuracy, lambda row: row.accuracy),
    ("FGS rate (points)", 2, lambda model: _rate(model, "fgs"), lambda row: row.fgs.rate),
    ("HC1 rate (points)", 2, lambda model: _rate(model, "hc1"), lambda row: row.hc1.rate),
    ("HC1 PASS", 4, _score, lambda row: row.hc1.pass_paper[0]),
)


def seed_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield every seed of every published row beside the published numbers, where some row has several."""
    listed = [each for each in trainings(experiment) if is_published_data(experiment.data, each[1].dataset)]
    if max((len(models) for models, _ in listed), default=0) < 2:
        return
    strips = []
    for title, _, ours, published in _QUANTITIES:
        values = tuple(
            tuple(value - published(reference.row) for model in models if (value := ours(model)) is not None)
            for models, reference in listed
        )
        strips.append(Strip(title, values, tuple(prediction_interval(np.array(each)) for each in values)))
    labels = tuple(f"{reference.row.id} (n = {len(models)})" for models, reference in listed)
    yield Figure(
        name=f"{experiment.name}-seeds",
        section="claims",
        title="Every seed beside the published numbers",
        caption=(
            f"Measured minus published, each training on {experiment.data.name} ({experiment.data.images:,} test "
            "images) as a point; n: seeds. Grey bars: the 95 % prediction interval of one more training, where there "
            "are several; they may leave the figure, and with two seeds nearly all do. A published number (the line at "
            "0) within its bar could be one more seed. Rows that are trained alike, as the regular ones, share their "
            "seeds. PASS: pass_paper."
        ),
        alternative=f"Points around a line at 0, the published number. {_in_words(labels, strips)}",
        content=Strips(labels, tuple(strips)),
        draw="bangbench.paper.seeds:draw_seeds",
    )


def _in_words(labels: tuple[str, ...], strips: list[Strip]) -> str:
    told = []
    for strip, (_, places, *_) in zip(strips, _QUANTITIES, strict=True):
        each = [
            f"{label} {', '.join(number(value, places) for value in values)}"
            for label, values in zip(labels, strip.values, strict=True)
            if values
        ]
        told.append(f"{strip.title}: {'; '.join(each)}.")
    return " ".join(told)


def draw_seeds(content: Strips) -> Drawing:
    """Draw a panel a number, with a row for each published one."""
    from bangbench.reporting.draw import new_drawing

    drawing = new_drawing(PAGE, 1.1 + 0.3 * len(content.labels))
    panels = drawing.subplots(1, len(content.strips), sharey=True)
    for axes, strip in zip(panels, content.strips, strict=True):
        _draw_strip(axes, strip)
    panels[0].set_yticks(range(len(content.labels)), content.labels)
    panels[0].set_ylim(len(content.labels) - 0.5, -0.5)
    drawing.supxlabel("measured minus published", fontsize=10)
    return drawing


def _draw_strip(axes: Axes, strip: Strip) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.axvline(0.0, color=BLACK, linewidth=1.2)
    for row, (values, interval) in enumerate(zip(strip.values, strip.intervals, strict=True)):
        if interval is not None:
            axes.barh(row, interval[1] - interval[0], 0.5, interval[0], color="#c8c8c8", zorder=1.5)
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markersize=5, alpha=0.75, markeredgecolor="white")
    farthest = max((abs(value) for values in strip.values for value in values), default=0.0) or 1.0
    axes.set_xlim(-1.25 * farthest, 1.25 * farthest)
    axes.set_title(strip.title)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(axis="x", labelsize=8)

"""Why gradients are blank and HC1's sign fails: how far the clean logits lie apart, and where they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from bangbench.reporting.bench_rows import not_shown
from bangbench.reporting.figures.style import LINES, PAGE, colour, new_figure
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.per_image import Numbers
from bangbench.reporting.plot import Plot
from bangbench.reporting.robustness_rows import attacks_with_rows, varied_models

#: The margin m from which on float32 softmax gives the true class exactly 1 where one other class dominates: its
#: denominator 1 + exp(-m) is rounded to 1 when exp(-m) <= 2^-24, half the distance from 1 to the next float32.
SATURATED_MARGIN = 24.0 * math.log(2.0)

_MOST_MODELS = 4
_BINS = 90


class _Logits(NamedTuple):
    """A model's clean logits on its correctly classified images: margin and true logit, (n,) each.

    blank: percent of these images whose gradient is blank under FGS; None where FGS was not run.
    """

    name: str
    margin: Numbers
    true_logit: Numbers
    blank: float | None

    @property
    def saturated(self) -> float:
        """Return the percent of images at or beyond the margin at which float32 softmax gives 1."""
        return 100.0 * float(np.mean(self.margin >= SATURATED_MARGIN))

    @property
    def negative(self) -> float:
        """Return the percent of images whose true logit is below 0."""
        return 100.0 * float(np.mean(self.true_logit < 0.0))


def margin_plots(group: Group) -> list[Plot]:
    """Return the distributions of margin and true logit, for at most four models; nothing without single images."""
    found = {model.name: item for model in group.models if (item := _logits(model)) is not None}
    chosen = varied_models((model for model in group.models if model.name in found), _MOST_MODELS)
    logits = tuple(found[model.name] for model in chosen)
    if not logits:
        return []
    shown = {model.name for model in chosen}
    omitted = [model for model in group.models if model.name not in shown]
    images = ", ".join(f"{item.name} {len(item.margin):,}" for item in logits)
    return [
        Plot(
            name=f"{group.name}-margins",
            section="masking",
            title="Why gradients vanish: margins and logits of the clean images",
            caption=" ".join(
                (
                    f"Correctly classified test images of {group.data.name} (n: {images}), percent per bin; both axes "
                    "without unit. Left: margin, true logit minus the largest other one. From 24 ln 2 = 16.6 on "
                    "exp(-margin) is lost beside 1 in float32: where one other class dominates, softmax gives the true "
                    "class exactly 1, the loss is exactly 0 and FGS has no gradient (blank). Right: logit of the true "
                    "class; where it is below 0, the literal weight of HC1 pushes towards the true class.",
                    *not_shown(*split_by_images(omitted)),
                )
            ),
            alternative=" ".join(map(_in_words, logits)),
            draw=partial(_draw, logits),
        )
    ]


def split_by_images(models: Sequence[ModelResults]) -> tuple[list[str], list[str]]:
    """Return the names of the models that have single images of some attack, and of those that have none."""
    found = [(short_name(model.name), bool(attacks_with_rows(model))) for model in models]
    return [name for name, has in found if has], [name for name, has in found if not has]


def _logits(model: ModelResults) -> _Logits | None:
    """Return the clean logits of a model: all its attacks hold the same ones, so the first will do."""
    rows = next(iter(attacks_with_rows(model).values()), None)
    if rows is None:
        return None
    shown = rows.attacked & np.isfinite(rows.margin) & np.isfinite(rows.true_logit)
    if not shown.any():
        return None
    summary = model.summary("fgs")
    blank = None if summary is None else summary.blank
    return _Logits(short_name(model.name), rows.margin[shown], rows.true_logit[shown], blank)


def _in_words(item: _Logits) -> str:
    return (
        f"{item.name}: median margin {np.median(item.margin):.1f}, {_margin_share(item)}; median true logit "
        f"{np.median(item.true_logit):.1f}, {_negative_share(item)}."
    )


def _margin_share(item: _Logits) -> str:
    blank = "" if item.blank is None else f", {item.blank:.1f} % blank under FGS"
    return f"{item.saturated:.1f} % beyond{blank}"


def _negative_share(item: _Logits) -> str:
    return f"{item.negative:.1f} % negative"


def _draw(logits: tuple[_Logits, ...]) -> Figure:
    figure = new_figure(PAGE, 3.4 + 0.2 * len(logits))
    left, right = figure.subplots(1, 2)
    margins, true_logits = [item.margin for item in logits], [item.true_logit for item in logits]
    _draw_histograms(left, margins, [f"{item.name}: {_margin_share(item)}" for item in logits], SATURATED_MARGIN)
    _draw_histograms(right, true_logits, [f"{item.name}: {_negative_share(item)}" for item in logits], 0.0)
    left.axvline(SATURATED_MARGIN, color="black", linewidth=1.2, label="24 ln 2 = 16.6: float32 softmax gives 1")
    right.axvline(0.0, color="black", linewidth=1.2, label="0: the sign of HC1's weight turns")
    left.set_xlabel("margin of the clean image (logits)")
    right.set_xlabel("true logit of the clean image")
    right.xaxis.set_major_locator(MaxNLocator(nbins=5))
    right.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    left.set_ylabel("correct images per bin (%)")
    for axes in (left, right):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), handlelength=2.6)
    return figure


def _draw_histograms(axes: Axes, values: Sequence[Numbers], labels: Sequence[str], line: float) -> None:
    """Draw one outline per model over common bins, in percent of its images; `line` lies between two bins."""
    edges = _edges(np.concatenate(values), line)
    for number, (numbers, label) in enumerate(zip(values, labels, strict=True)):
        percent = 100.0 * np.histogram(numbers, edges)[0] / len(numbers)
        filled = np.flatnonzero(percent)
        first, last = filled[0], filled[-1] + 1
        outline = percent[first:last], edges[first : last + 1]
        axes.stairs(*outline, color=colour(number), alpha=0.15, fill=True)
        axes.stairs(*outline, color=colour(number), linewidth=1.6, linestyle=LINES[number % len(LINES)], label=label)


def _edges(values: Numbers, line: float) -> Numbers:
    """Return the edges of equal bins around all values, one edge exactly on the line, so that no bin straddles it."""
    low, high = min(float(values.min()), line), max(float(values.max()), line)
    width = (high - low) / _BINS or 1.0
    # one more on each side: rounding must not put the outermost value outside
    first, last = math.floor((low - line) / width) - 1, math.ceil((high - line) / width) + 1
    return np.asarray(line + width * np.arange(first, last + 1), dtype=np.float64)

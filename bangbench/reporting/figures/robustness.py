"""Robust accuracy against the L_inf budget: attack by attack, and model against model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bangbench.reporting.figures.style import COLOURS, COLUMN, LINES, PAGE, colour, new_figure
from bangbench.reporting.groups import Group
from bangbench.reporting.per_image import Numbers
from bangbench.reporting.plot import Plot
from bangbench.reporting.robustness import LARGEST_LINF, step_curve
from bangbench.reporting.robustness_rows import (
    WORST_CASE,
    Held,
    RobustModel,
    budgets_of,
    covered_attacks,
    robust_models,
)
from bangbench.reporting.verdicts import verdicts_in_words
from bangbench.store.audits import WORST_CASE as CLAIM

_MOST_PANELS = 4
#: A line that falls by fewer percentage points than this from here on is flat to the eye.
_FLAT_POINTS = 0.5
_BAND_POINTS = 256
_BLACK = "#000000"
#: Every second attack is drawn thinner: two attacks with equal lines are both seen.
_WORST_WIDTH, _ATTACK_WIDTHS = 4.6, (2.6, 1.3)


class _Line(NamedTuple):
    """One line of an axes: its name, what it shows, and the number of its colour and line style."""

    label: str
    held: Held
    number: int


class _Panel(NamedTuple):
    """One model: its attacks, and all of them together."""

    title: str
    attacks: tuple[_Line, ...]
    worst: Held


def robustness_plots(group: Group) -> list[Plot]:
    """Return robust accuracy against L_inf: per attack for up to four models, and the worst cases of all of them.

    With more models only the worst cases are drawn, with one model only its attacks; nothing without single images.
    """
    models = robust_models(group)
    plots = []
    if 1 <= len(models) <= _MOST_PANELS:
        plots.append(_attacks_plot(group, models))
    if len(models) > 1:
        plots.append(_worst_plot(group, models))
    return plots


def _attacks_plot(group: Group, models: Sequence[RobustModel]) -> Plot:
    names = list(dict.fromkeys(name for item in models for name in item.attacks))
    panels = tuple(
        _Panel(
            f"{item.name} on {group.data.name}",
            tuple(_Line(name, held, names.index(name)) for name, held in item.attacks.items()),
            item.worst,
        )
        for item in models
    )
    limit = _limit([held for item in models for held in (*item.attacks.values(), item.worst)])
    return Plot(
        name=f"{group.name}-robustness",
        section="robustness",
        title="Robust accuracy against the size of the perturbation",
        caption=(
            f"{_definition(models)} Black: the worst case, per image the smallest L∞ of the attacks run "
            f"({covered_attacks(models)}), with its 95 % Wilson interval; attacks that were not run could need less. "
            f"{_cut(limit)} {' '.join(_verdicts(models, names))}"
        ).strip(),
        alternative=f"Lines that fall as the budget grows. {_in_words(group, models)}",
        draw=partial(_draw_attacks, panels, limit),
    )


def _worst_plot(group: Group, models: Sequence[RobustModel]) -> Plot:
    lines = tuple(_Line(_worst_label(item), item.worst, number) for number, item in enumerate(models))
    limit = _limit([item.worst for item in models])
    same = len({item.covered for item in models}) == 1
    warning = "" if same else " The models were not attacked alike, so their lines are not bounds of one strength."
    band = " Bands: 95 % Wilson intervals." if len(lines) <= _MOST_PANELS else ""
    return Plot(
        name=f"{group.name}-robustness-worst",
        section="robustness",
        title="Robust accuracy under all attacks together",
        caption=(
            f"{_definition(models)} Per image the smallest L∞ of the attacks run counts ({covered_attacks(models)}); "
            f"attacks that were not run could need less.{warning}{band} {_cut(limit)} "
            f"{' '.join(_verdicts(models, ()))}"
        ).strip(),
        alternative=f"One falling line per model. {_in_words(group, models)}",
        draw=partial(_draw_worst, lines, limit),
    )


def _verdicts(models: Sequence[RobustModel], attacks: Sequence[str]) -> tuple[str, ...]:
    """Return the audits' verdicts on these attacks and on the worst case in words."""
    return verdicts_in_words([item.model for item in models], (*attacks, CLAIM))


def _worst_label(item: RobustModel) -> str:
    return f"{item.name} ({len(item.covered)} attack{'s' if len(item.covered) > 1 else ''})"


def _definition(models: Sequence[RobustModel]) -> str:
    totals = sorted({held.total for item in models for held in item.attacks.values()})
    counts = " or ".join(f"{total:,}" for total in totals)
    return (
        f"Percent of all test images (n = {counts}) that are classified correctly and not flipped within an L∞ budget "
        "in grey levels; images an attack fails on count as robust at every budget."
    )


def _cut(limit: float) -> str:
    if limit >= LARGEST_LINF:
        return ""
    return f"Cut at {limit:g} grey levels: up to 255 no line falls by more than {_FLAT_POINTS:g} points any further."


def _in_words(group: Group, models: Sequence[RobustModel]) -> str:
    """Return the worst case of each model at a few budgets."""
    budgets = budgets_of(group)[:5:2]
    sentences = []
    for item in models:
        clean, *values = item.worst.accuracy((0, *budgets))
        robust = ", ".join(f"{value:.1f} % at {budget}" for value, budget in zip(values, budgets, strict=True))
        sentences.append(f"{item.name}, {WORST_CASE}: {clean:.1f} % clean, {robust} grey levels.")
    return " ".join(sentences)


def _limit(lines: Sequence[Held]) -> float:
    """Return up to which budget (grey levels) to draw: all of it where a line falls near 255, or none falls at all."""
    last = max(_flat_from(held) for held in lines)
    return min(LARGEST_LINF, float(np.ceil(1.06 * last))) if last else LARGEST_LINF


def _flat_from(held: Held) -> float:
    curve = step_curve(held.linf, held.total)
    return float(curve.budgets[np.argmax(curve.accuracy - curve.accuracy[-1] <= _FLAT_POINTS)])


def _draw_attacks(panels: tuple[_Panel, ...], limit: float) -> Figure:
    columns = 2 if len(panels) == _MOST_PANELS else len(panels)
    rows = -(-len(panels) // columns)
    figure = new_figure(COLUMN if columns == 1 else PAGE, 0.6 + 3.1 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    handles = {}
    for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=True)):
        handles[WORST_CASE] = _draw_line(axes, _Line(WORST_CASE, panel.worst, 0), _WORST_WIDTH, _BLACK)
        _draw_band(axes, panel.worst, _BLACK)
        for line in panel.attacks:
            handles[line.label] = _draw_line(axes, line, _ATTACK_WIDTHS[line.number % len(_ATTACK_WIDTHS)])
        axes.set_title(panel.title)
        _label(axes, limit, left=place % columns == 0, bottom=place >= len(panels) - columns)
    order = sorted(handles, key=lambda name: name == WORST_CASE)
    _legend(figure, [handles[name] for name in order], order, 2 if columns == 1 else 5)
    return figure


def _draw_worst(lines: tuple[_Line, ...], limit: float) -> Figure:
    columns = 2
    figure = new_figure(COLUMN, 3.2 + 0.2 * -(-len(lines) // columns))
    axes = figure.subplots()
    handles = [_draw_line(axes, line) for line in lines]
    if len(lines) <= _MOST_PANELS:
        for line in lines:
            _draw_band(axes, line.held, colour(line.number))
    _label(axes, limit, left=True, bottom=True)
    _legend(figure, handles, [line.label for line in lines], columns)
    return figure


def _draw_line(axes: Axes, line: _Line, width: float = 1.6, shade: str | None = None) -> Line2D:
    """Draw one step function up to 255 and return its handle for a legend."""
    curve = step_curve(line.held.linf, line.held.total)
    budgets, accuracy = np.append(curve.budgets, LARGEST_LINF), np.append(curve.accuracy, curve.accuracy[-1])
    # where the colours start again, the styles must not
    style = LINES[(line.number + line.number // len(COLOURS)) % len(LINES)]
    (handle,) = axes.step(
        budgets, accuracy, where="post", color=shade or colour(line.number), linestyle=style, linewidth=width
    )
    return handle


def _draw_band(axes: Axes, held: Held, shade: str) -> None:
    budgets, low, high = _band(held)
    axes.fill_between(budgets, low, high, step="post", color=shade, alpha=0.18, linewidth=0)


def _band(held: Held) -> tuple[Numbers, Numbers, Numbers]:
    """Return budgets and both ends of the Wilson interval there: at all steps of the curve, or at an even choice."""
    steps = step_curve(held.linf, held.total).budgets
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _BAND_POINTS)).astype(np.int64))
    budgets = np.append(steps[chosen], LARGEST_LINF)
    low, high = np.array([held.interval(float(budget)) for budget in budgets]).T
    return budgets, low, high


def _label(axes: Axes, limit: float, *, left: bool, bottom: bool) -> None:
    axes.set_xlim(0, limit)
    axes.set_ylim(0, 102)
    if bottom:
        axes.set_xlabel("budget: L∞ (grey levels)")
    if left:
        axes.set_ylabel("robust accuracy (%)")


def _legend(figure: Figure, handles: Sequence[Line2D], labels: Sequence[str], columns: int) -> None:
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), handlelength=3.2)

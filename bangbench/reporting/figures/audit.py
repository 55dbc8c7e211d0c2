"""Robust accuracy against the L_inf budget as the audits measured it: attack by attack, and model against model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bangbench.reporting.audit_rows import AuditedModel, attacks_within, audited_models, robust_interval
from bangbench.reporting.figures.style import COLOURS, COLUMN, LINES, MARKERS, PAGE, colour, new_figure
from bangbench.reporting.groups import Group
from bangbench.reporting.plot import Plot
from bangbench.reporting.verdicts import LEVELS, budget_text
from bangbench.store.audits import BudgetRates

WORST = "worst case"

_MOST_PANELS = 4
_MOST_LABELS = 5
_BLACK = "#000000"


class Line(NamedTuple):
    """Robust accuracy in percent at each budget (grey levels), with both ends of its interval; `number` of its look."""

    label: str
    number: int
    budgets: tuple[int, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class Panel(NamedTuple):
    """One axes: its title, the single attacks, and all of them together (None: only single lines)."""

    title: str
    lines: tuple[Line, ...]
    worst: Line | None


def audit_plots(group: Group) -> list[Plot]:
    """Return robust accuracy within each budget: per attack for up to four models, of more only the worst cases."""
    models = [model for model in audited_models(group) if model.audit.summary.budgets]
    if not models:
        return []
    if len(models) > _MOST_PANELS:
        lines = tuple(_worst_line(model, f"{model.short}", number) for number, model in enumerate(models))
        panels: tuple[Panel, ...] = (Panel("", lines, None),)
        shown = "One line per model: all attacks of its audit together, with 95 % Wilson intervals."
    else:
        attacks = attacks_within(models)
        panels = tuple(_panel(model, attacks) for model in models)
        shown = "Black: all attacks together, per image the strongest, with 95 % Wilson intervals."
    return [
        Plot(
            name=f"{group.name}-audit",
            section="audit",
            title="Robust accuracy within each budget, as audited",
            caption=f"{_definition(models)} {shown} Attacks that were not run could do more.",
            alternative=f"Lines that fall as the budget grows. {_in_words(models)}",
            draw=partial(draw_audit, panels),
        )
    ]


def _panel(model: AuditedModel, attacks: Sequence[str]) -> Panel:
    lines = tuple(
        line for number, attack in enumerate(attacks) if (line := _attack_line(model, attack, number)) is not None
    )
    return Panel(f"{model.short}: {model.audit.summary.verdict}", lines, _worst_line(model, WORST, 0))


def _rates(model: AuditedModel) -> list[BudgetRates]:
    return sorted(model.audit.summary.budgets, key=lambda rates: rates.budget)


def _attack_line(model: AuditedModel, attack: str, number: int) -> Line | None:
    summary = model.audit.summary
    points = [(rates.budget, rates.flipped[attack]) for rates in _rates(model) if attack in rates.flipped]
    if not points:
        return None
    accuracy = [100.0 * (summary.correct - flipped) / summary.images for _, flipped in points]
    return Line(attack, number, (0, *(budget for budget, _ in points)), (summary.accuracy, *accuracy))


def _worst_line(model: AuditedModel, label: str, number: int) -> Line:
    clean, rates = model.audit.summary.accuracy, _rates(model)
    ends = [robust_interval(model.audit, each) for each in rates]
    return Line(
        label=label,
        number=number,
        budgets=(0, *(each.budget for each in rates)),
        accuracy=(clean, *(each.robust_accuracy for each in rates)),
        low=(clean, *(low for low, _ in ends)),
        high=(clean, *(high for _, high in ends)),
    )


def _definition(models: Sequence[AuditedModel]) -> str:
    counts = " or ".join(f"{count:,}" for count in sorted({model.audit.summary.images for model in models}))
    names = ", ".join(f"{model.short} {model.audit.summary.verdict}" for model in models)
    return (
        f"Percent of all audited test images (n = {counts}) that are correct and stay so within an L∞ budget, measured "
        f"at the markers; at 0, the accuracy. Verdicts: {names}."
    )


def _in_words(models: Sequence[AuditedModel]) -> str:
    sentences = []
    for model in models:
        told = ", ".join(f"{each.robust_accuracy:.1f} % at {budget_text(each.budget)}" for each in _rates(model))
        summary = model.audit.summary
        sentences.append(f"{model.short}, {summary.verdict}, {WORST}: {summary.accuracy:.1f} % clean, {told}.")
    return " ".join(sentences)


def draw_audit(panels: Sequence[Panel]) -> Figure:
    """Draw one axes per panel on common scales, with one legend for all."""
    columns = 2 if len(panels) == _MOST_PANELS else len(panels)
    rows = -(-len(panels) // columns)
    entries = len({line.label for panel in panels for line in panel.lines}) + 1
    legend_columns = 3 if columns == 1 else 5
    figure = new_figure(COLUMN if columns == 1 else PAGE, 0.3 + 3.0 * rows + 0.2 * -(-entries // legend_columns))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Line2D] = {}
    for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=True)):
        for line in panel.lines:
            handles[line.label] = _draw_line(axes, line)
        if panel.worst is not None:
            handles[WORST] = _draw_bounds(axes, panel.worst, _BLACK, 2.6)
        axes.set_title(panel.title)
        _label(axes, panels, left=place % columns == 0, bottom=place >= len(panels) - columns)
    order = sorted(handles, key=lambda name: name == WORST)
    figure.legend(
        [handles[name] for name in order],
        order,
        loc="outside lower center",
        ncols=min(legend_columns, len(order)),
        handlelength=3.2,
    )
    return figure


def _draw_line(axes: Axes, line: Line) -> Line2D:
    if line.low:
        return _draw_bounds(axes, line, colour(line.number), 1.6)
    style, marker = _look(line.number)
    (handle,) = axes.plot(
        line.budgets,
        line.accuracy,
        color=colour(line.number),
        linestyle=style,
        marker=marker,
        markersize=5,
        linewidth=1.3,
        clip_on=False,
    )
    return handle


def _draw_bounds(axes: Axes, line: Line, shade: str, width: float) -> Line2D:
    """Draw a line with its intervals as bars."""
    below = [value - low for value, low in zip(line.accuracy, line.low, strict=True)]
    above = [high - value for value, high in zip(line.accuracy, line.high, strict=True)]
    style, marker = ("-", "o") if shade == _BLACK else _look(line.number)
    drawn = axes.errorbar(
        line.budgets,
        line.accuracy,
        yerr=[[max(0.0, value) for value in below], [max(0.0, value) for value in above]],
        color=shade,
        linestyle=style,
        marker=marker,
        markersize=5,
        linewidth=width,
        elinewidth=1.2,
        capsize=3,
        clip_on=False,
    )
    handle: Line2D = drawn.lines[0]
    return handle


def _look(number: int) -> tuple[str, str]:
    """Return line style and marker of a series; where the colours start again, they must not."""
    turn = number // len(COLOURS)
    return LINES[(number + turn) % len(LINES)], MARKERS[(number + 3 * turn) % len(MARKERS)]


def _label(axes: Axes, panels: Sequence[Panel], *, left: bool, bottom: bool) -> None:
    lines = [line for panel in panels for line in (*panel.lines, *([panel.worst] if panel.worst else []))]
    budgets = sorted({budget for line in lines for budget in line.budgets})
    axes.set_xlim(0, 1.04 * max(budgets[-1], 1))
    axes.set_ylim(0, 102)
    if len(budgets) <= _MOST_LABELS:
        axes.set_xticks(budgets, [f"{budget}\n({budget / LEVELS:.2g})" if budget else "0" for budget in budgets])
    if bottom:
        axes.set_xlabel("budget: L∞ (grey levels, share of the range)")
    if left:
        axes.set_ylabel("robust accuracy (%)")

"""Small figures for a notebook, drawn without pyplot, so that no global state of it is touched."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bangbench.store.audits import AuditSummary
from bangbench.store.headline import robust_accuracy
from bangbench.store.records import NoiseSummary


class Picture(Figure):
    """A figure that a notebook shows whether or not pyplot was ever imported."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=90)
        return content.getvalue()


def accuracy_figure(name: str, summary: AuditSummary) -> Figure:
    """Draw accuracy (percent of all images) against the budget (grey levels): the worst case, and each attack alone."""
    figure, axes = _empty()
    budgets = [0, *(rates.budget for rates in summary.budgets)]
    robust = [robust_accuracy(summary, rates) for rates in summary.budgets]
    for attack in dict.fromkeys(attack for rates in summary.budgets for attack in rates.flipped):
        alone = [rates for rates in summary.budgets if attack in rates.flipped and attack not in rates.tried]
        left = [100.0 * (summary.correct - rates.flipped[attack]) / summary.images for rates in alone]
        axes.plot([0, *(rates.budget for rates in alone)], [summary.accuracy, *left], color="#999999", linewidth=0.8)
    axes.plot([], [], color="#999999", linewidth=0.8, label="each attack alone")
    axes.plot(budgets, [summary.accuracy, *(one.value for one in robust)], "o-", color="#c9252d", label="worst case")
    ends = [[one.value - one.low for one in robust], [one.high - one.value for one in robust]]
    axes.errorbar(budgets[1:], [one.value for one in robust], np.maximum(ends, 0.0), fmt="none", ecolor="#c9252d")
    axes.set(title=name, xlabel="L∞ budget (grey levels)", ylabel="accuracy (%)", ylim=(-2, 102))
    axes.legend(frameon=False)
    return figure


def noise_figure(names: tuple[str, ...], summary: NoiseSummary) -> Figure:
    """Draw flipped copies (percent) of each model against sigma (grey levels)."""
    figure, axes = _empty()
    for name, surface, marker in zip(names, summary.flipped_percent, "os^Dv<>p*h" * len(names), strict=False):
        axes.plot(summary.sigmas, surface[-1], f"{marker}-", label=name)
    axes.set(xlabel="noise σ (grey levels)", ylabel="flipped copies (%)", ylim=(0, None))  # noqa: RUF001
    axes.legend(frameon=False)
    return figure


def _empty() -> tuple[Figure, Axes]:
    figure = Picture(figsize=(5.0, 3.2), layout="constrained")
    return figure, figure.subplots()

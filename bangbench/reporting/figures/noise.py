"""Figures 3 and 5: how often noise flips the regular and the BANG model while they are trained."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from bangbench.core.statistics import t_interval_ends
from bangbench.reporting.collect import FoundNoise
from bangbench.reporting.figures.style import COLUMN, DIVERGING, LINES, MARKERS, PAGE, SEQUENTIAL, colour, new_figure
from bangbench.reporting.groups import Group, short_name
from bangbench.reporting.noise_rows import (
    arithmetic_note,
    draws_text,
    last_stage,
    pair_title,
    paper_draws,
    published_ends,
)
from bangbench.reporting.per_image import Numbers
from bangbench.reporting.plot import Plot
from bangbench.reporting.published import FigureReference, PublishedFigure, is_published_data, pair_figure
from bangbench.reporting.table import SIGMA
from bangbench.reporting.verdicts import audit_of, verdict_on
from bangbench.store.audits import PREDICTIONS

#: Percent; a noise strength that flips fewer copies than this at every stage, of either model, makes no line.
_NEGLIGIBLE = 1.0
#: Labels that fit under a surface without touching: of iterations up to five digits and of longer ones; and beside it.
_MOST_STAGES, _MOST_LONG_STAGES, _MOST_SIGMAS = 4, 3, 10
_LONG_STAGE = 100_000
#: Inches that one letter of a tick's label and the gap between two labels take.
_LETTER, _GAP = 0.08, 0.12
_TITLE_LETTERS = 30
_SIGMA_LABEL = f"noise {SIGMA} (grey levels)"
_FLIPPED_LABEL = "flipped copies (%)"


class Ends(NamedTuple):
    """Percent of noisy copies flipped at the last stage, at one sigma (grey levels)."""

    sigma: float
    regular_percent: float
    bang_percent: float


class Evolution(NamedTuple):
    """What a pair's figures show, noise strengths in ascending order.

    names: regular, BANG; percent: flipped copies, (2, stages, sigmas), first regular, then BANG; interval: low and
    high ends for `percent`, None where the single images are missing, NaN where all images have the same number;
    published: the paper's numbers for the last stage, where it measured the same data at a sigma that is there;
    final: the one stage is the models as they are, after nobody knows how many iterations.
    """

    names: tuple[str, str]
    stages: tuple[int, ...]
    sigmas: tuple[float, ...]
    percent: Numbers
    interval: tuple[Numbers, Numbers] | None
    published: Ends | None
    final: bool = False

    def stage(self, place: int) -> str:
        """Return a stage in words."""
        return "the final models" if self.final else f"iteration {self.stages[place]:,}"


def noise_plots(group: Group) -> list[Plot]:
    """Return for each pair the surfaces over iteration and sigma, and the lines at chosen sigmas.

    A pair measured at one stage has no surface, only flipped copies against sigma.
    """
    return [
        plot._replace(caption=" ".join((plot.caption, *_audited(group, found))))
        for found in group.noise
        for plot in _plots_of_pair(found)
    ]


def _plots_of_pair(found: FoundNoise) -> list[Plot]:
    evolution = evolution_of(found)
    surfaces = [_surfaces_plot(found, evolution)] if len(evolution.stages) > 1 else []
    return [*surfaces, _lines_plot(found, evolution)]


def _audited(group: Group, found: FoundNoise) -> tuple[str, ...]:
    """Return what the audits say of the predictions of both models, where one of them is audited."""
    infos = found.record.models
    if not any(audit_of(group, info) for info in infos):
        return ()
    told = ", ".join(f"{short_name(info.name)} {verdict_on(audit_of(group, info), PREDICTIONS)}" for info in infos)
    return (f"Audit of the predictions: {told}.",)


def evolution_of(found: FoundNoise) -> Evolution:
    """Return what the figures of a pair show."""
    record, summary = found.record, found.summary
    order = np.argsort(summary.sigmas, kind="stable")
    interval = None
    if found.rows is not None and summary.images > 1:
        low, high = t_interval_ends(found.rows.percent[:, :, order])
        interval = np.maximum(low, 0.0), np.minimum(high, 100.0)
    reference = _reference(found)
    return Evolution(
        names=(short_name(record.models[0].name), short_name(record.models[1].name)),
        stages=summary.stages,
        sigmas=tuple(float(summary.sigmas[place]) for place in order),
        percent=np.array(summary.flipped_percent, dtype=np.float64)[:, :, order],
        interval=interval,
        published=_ends(reference.figure)
        if reference is not None and is_published_data(record.data, reference.dataset)
        else None,
        final=last_stage(found) is None,
    )


def chosen_sigmas(evolution: Evolution) -> list[int]:
    """Return the indices of the sigmas to draw lines at: a third, two thirds and all of those that flip anything.

    The largest sigma and one for which there are published numbers are always among them.
    """
    flips = np.flatnonzero(evolution.percent.max(axis=(0, 1)) >= _NEGLIGIBLE)
    chosen = {len(evolution.sigmas) - 1}
    if len(flips):
        chosen |= {int(flips[-(-len(flips) * part // 3) - 1]) for part in (1, 2)}
    if evolution.published is not None:
        chosen.add(evolution.sigmas.index(evolution.published.sigma))
    return sorted(chosen)


def _reference(found: FoundNoise) -> FigureReference | None:
    """Return the paper's figure about this pair, where its sigma was measured."""
    reference = pair_figure(found)
    return None if reference is None or reference.figure.sigma not in found.summary.sigmas else reference


def _ends(figure: PublishedFigure) -> Ends:
    return Ends(figure.sigma, figure.regular_percent, figure.bang_percent)


def _surfaces_plot(found: FoundNoise, evolution: Evolution) -> Plot:
    return Plot(
        name=f"{found.name.replace('/', '-')}-noise",
        section="noise",
        title=f"Gaussian noise during training: {pair_title(found)}",
        caption=(
            f"{_definition(found)} over the iterations of training and {SIGMA}: {_both(evolution)}, and regular minus "
            f"BANG in percentage points, above 0 where BANG is flipped less. {_counts(found)}"
        ),
        alternative=f"Three heat maps over iteration and {SIGMA}. {_in_words(evolution)}",
        draw=partial(draw_surfaces, evolution),
    )


def _lines_plot(found: FoundNoise, evolution: Evolution) -> Plot:
    if len(evolution.stages) > 1:
        sigmas = ", ".join(f"{evolution.sigmas[place]:g}" for place in chosen_sigmas(evolution))
        over = f"against the iteration of training at {SIGMA} {sigmas}, each panel with its own scale"
        kind, draw = "Lines over iteration.", partial(draw_lines, evolution)
    else:
        over = f"against {SIGMA}, {'' if evolution.final else 'at '}{evolution.stage(0)}"
        kind, draw = f"Lines over {SIGMA}.", partial(draw_one_stage, evolution)
    return Plot(
        name=f"{found.name.replace('/', '-')}-noise-lines",
        section="noise",
        title=f"Gaussian noise at chosen strengths: {pair_title(found)}",
        caption=f"{_definition(found)} {over}: {_both(evolution)}. {_counts(found)} {_interval_note(found)}",
        alternative=f"{kind} {_in_words(evolution)}",
        draw=draw,
    )


def _definition(found: FoundNoise) -> str:
    unclipped = ", neither rounded nor clipped to 0 to 255," if found.record.spec.get("clip") is False else ""
    return f"Percent of copies with Gaussian noise ({SIGMA} in grey levels){unclipped} not classified as their class"


def _both(evolution: Evolution) -> str:
    return f"regular {evolution.names[0]}, BANG {evolution.names[1]}"


def _counts(found: FoundNoise) -> str:
    """Return which images were measured, how many draws, and what the paper says of the same place."""
    summary = found.summary
    counts = (
        f"n = {summary.images:,} images of {found.record.data.name} that both models classify correctly at all "
        f"stages, {draws_text(summary)}{paper_draws(summary)}."
    )
    if reduced := arithmetic_note(summary):
        counts = f"{counts} {reduced[0].upper()}{reduced[1:]}."
    reference = _reference(found)
    if reference is None:
        return counts
    words = published_ends(found, reference)
    return f"{counts} {words[0].upper()}{words[1:]}"


def _interval_note(found: FoundNoise) -> str:
    """Say what the bands are, or why there are none; and how far the models are apart at the strongest noise."""
    if found.rows is None:
        return "Without confidence intervals: the counts of the single images are missing."
    if found.summary.images < 2:
        return "Without confidence intervals: there is one image only."
    strongest = int(np.argmax(found.summary.sigmas))
    regular, bang = found.rows.percent[:, -1, strongest]
    low, high = (float(end) for end in t_interval_ends(regular - bang))
    several = len(found.summary.stages) > 1
    interval = "the same for every image, so without an interval" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
    return (
        f"{'Bands' if several else 'Bars'}: 95 % t intervals of the mean over images (the draws of one image are not "
        "independent); none where all images have the same number. Regular minus BANG at "
        f"{SIGMA} {found.summary.sigmas[strongest]:g}{', last stage' if several else ''}: "
        f"{np.mean(regular - bang):.2f} percentage points {interval}."
    )


def _in_words(evolution: Evolution) -> str:
    """Return the first and the last stage under the strongest noise."""
    regular, bang = evolution.percent[:, :, -1]
    sentences = [f"At {SIGMA} {evolution.sigmas[-1]:g}"]
    for place in sorted({0, len(evolution.stages) - 1}):
        sentences.append(
            f"{evolution.stage(place)}: {regular[place]:.2f} % of the copies flipped for regular "
            f"{evolution.names[0]}, {bang[place]:.2f} % for BANG {evolution.names[1]}"
        )
    return f"{sentences[0]}, {'; '.join(sentences[1:])}."


def draw_surfaces(evolution: Evolution) -> Figure:
    """Draw three heat maps: regular and BANG on one colour scale (percent), regular minus BANG around 0 (points)."""
    regular, bang = (surface.T for surface in evolution.percent)
    figure = new_figure(PAGE, 3.3)
    panels = figure.subplots(1, 3, sharey=True)
    highest = max(regular.max(), bang.max(), 1.0)
    _draw_surface(panels[0], evolution, regular, SEQUENTIAL, (0.0, highest))
    shared = _draw_surface(panels[1], evolution, bang, SEQUENTIAL, (0.0, highest))
    largest = max(float(np.abs(regular - bang).max()), 1.0)
    difference = _draw_surface(panels[2], evolution, regular - bang, DIVERGING, (-largest, largest))
    for axes, title in zip(panels, (*_titles(evolution), "regular minus BANG"), strict=True):
        axes.set_title(title)
        axes.tick_params(left=axes is panels[0])
    panels[0].set_ylabel(_SIGMA_LABEL)
    figure.colorbar(shared, ax=panels[:2], label=_FLIPPED_LABEL, aspect=25)
    figure.colorbar(difference, ax=panels[2], label="difference (percentage points)", aspect=25)
    return figure


def _titles(evolution: Evolution) -> tuple[str, str]:
    regular, bang = evolution.names
    return textwrap.fill(f"regular ({regular})", _TITLE_LETTERS), textwrap.fill(f"BANG ({bang})", _TITLE_LETTERS)


def _draw_surface(
    axes: Axes, evolution: Evolution, surface: Numbers, colours: str, scale: tuple[float, float]
) -> QuadMesh:
    """Draw one surface, (sigmas, stages); each measured point is one rectangle, whatever the distance to the next."""
    mesh = axes.pcolormesh(surface, cmap=colours, vmin=scale[0], vmax=scale[1], rasterized=True)
    axes.grid(visible=False)
    axes.set_xlabel("iteration")
    stages, sigmas = evolution.stages, evolution.sigmas
    chosen = _ticks(len(stages), _MOST_STAGES if stages[-1] < _LONG_STAGE else _MOST_LONG_STAGES)
    axes.set_xticks([place + 0.5 for place in chosen], [f"{stages[place]:,}" for place in chosen])
    chosen = _ticks(len(sigmas), _MOST_SIGMAS)
    axes.set_yticks([place + 0.5 for place in chosen], [f"{sigmas[place]:g}" for place in chosen])
    return mesh


def _ticks(count: int, most: int) -> list[int]:
    """Return at most so many indices to label: evenly spaced, the last one always among them."""
    step = -(-count // most)
    return list(range(count - 1, -1, -step))[::-1]


def draw_lines(evolution: Evolution) -> Figure:
    """Draw flipped copies (percent) against iteration, one panel per chosen sigma."""
    chosen = chosen_sigmas(evolution)
    width = COLUMN if len(chosen) == 1 else PAGE
    figure = new_figure(width, 3.3)
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    label_width = _LETTER * len(f"{evolution.stages[-1]:,}") + _GAP
    intervals = int(0.75 * width / len(chosen) / label_width) + 1
    for axes, place in zip(panels, chosen, strict=True):
        for number in range(2):
            _draw_line(axes, evolution, number, place)
        if evolution.published is not None and evolution.published.sigma == evolution.sigmas[place]:
            _draw_published(axes, evolution.published, evolution.stages[-1])
        axes.set_title(f"{SIGMA} = {evolution.sigmas[place]:g}")
        axes.set_xlabel("iteration")
        axes.set_ylim(bottom=0.0)
        axes.xaxis.set_major_locator(MaxNLocator(intervals, steps=[1, 2, 2.5, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panels[0].set_ylabel(_FLIPPED_LABEL)
    _legend(figure, evolution, "95 % interval" if evolution.interval else None, 2 if len(chosen) == 1 else 5)
    return figure


def _draw_line(axes: Axes, evolution: Evolution, number: int, place: int) -> None:
    """Draw one model (0: regular, 1: BANG) at one sigma, with its band."""
    axes.plot(evolution.stages, evolution.percent[number, :, place], **_style(number, marked=False))
    if evolution.interval is not None:
        low, high = (end[number, :, place] for end in evolution.interval)
        axes.fill_between(evolution.stages, low, high, color=colour(number), alpha=0.2, linewidth=0)


def draw_one_stage(evolution: Evolution) -> Figure:
    """Draw flipped copies (percent) of the only stage against sigma (grey levels)."""
    figure = new_figure(COLUMN, 3.4)
    axes = figure.subplots()
    for number in range(2):
        percent = evolution.percent[number, 0]
        axes.errorbar(evolution.sigmas, percent, _bars(evolution, number), capsize=3, **_style(number, marked=True))
    if evolution.published is not None:
        _draw_published(axes, evolution.published, evolution.published.sigma)
    axes.set_xlabel(_SIGMA_LABEL)
    axes.set_ylabel(_FLIPPED_LABEL)
    axes.set_ylim(bottom=0.0)
    _legend(figure, evolution, None, 2)
    return figure


def _bars(evolution: Evolution, number: int) -> Numbers | None:
    """Return how far the interval reaches below and above the percentages of the only stage, (2, sigmas)."""
    if evolution.interval is None:
        return None
    percent, (low, high) = evolution.percent[number, 0], (end[number, 0] for end in evolution.interval)
    below_and_above: Numbers = np.maximum(np.stack([percent - low, high - percent]), 0.0)
    return below_and_above


def _style(number: int, *, marked: bool) -> dict[str, Any]:
    """Return how a model is drawn, 0: regular, 1: BANG."""
    style: dict[str, Any] = {"color": colour(number), "linestyle": LINES[number]}
    return style | {"marker": MARKERS[number]} if marked else style


def _draw_published(axes: Axes, published: Ends, x: float) -> None:
    """Mark the paper's two numbers: hollow stars in each model's colour."""
    for number, percent in enumerate((published.regular_percent, published.bang_percent)):
        axes.plot([x], [percent], clip_on=False, zorder=5, **_star(colour(number)))


def _star(edge: str) -> dict[str, Any]:
    return {
        "marker": "*",
        "markersize": 11.0,
        "markerfacecolor": "none",
        "markeredgecolor": edge,
        "markeredgewidth": 1.4,
        "linestyle": "none",
    }


def _legend(figure: Figure, evolution: Evolution, band: str | None, columns: int) -> None:
    single = len(evolution.stages) == 1
    handles: list[Line2D | Patch] = []
    for number, label in enumerate(_titles(evolution)):
        handles.append(Line2D([], [], label=label, **_style(number, marked=single)))
    if band is not None:
        handles.append(Patch(facecolor="#555555", alpha=0.3, linewidth=0, label=band))
    if evolution.published is not None:
        handles.append(Line2D([], [], label="the paper, last stage", **_star("#333333")))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)), handlelength=3.2)

"""Heat maps of a grid, as in the paper's figures 2 and 4: one cell a model, whatever is not measured yet left blank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bangbench.core.statistics import Numbers
from bangbench.paper.grid import (
    GREEK,
    NOISE,
    PANELS,
    Quantity,
    Spot,
    axes_of,
    cells_of,
    counted,
    images_in_words,
    published_numbers,
    references_of,
    regular_of,
    spot_of,
    what_it_shows,
)
from bangbench.paper.published import published_label
from bangbench.reporting.collect import FoundGrid
from bangbench.reporting.experiments import Experiment
from bangbench.reporting.figure import PAGE, SEQUENTIAL, Figure
from bangbench.reporting.table import SIGMA, number
from bangbench.store.cells import CellRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: Numbers fit into the cells of a map with so many columns, and labels beside so many ticks.
_MOST_NUMBERS, _MOST_TICKS = 7, 7
_COLUMNS = 3


class HeatMap(NamedTuple):
    """One number over the grid: values, (second axis, first axis), NaN where it is not measured.

    level: the regular models' mean; published: (place on the first axis, on the second, value), in cells.
    """

    title: str
    places: int
    values: Numbers
    level: float | None
    published: tuple[tuple[float, float, float], ...]


class HeatMaps(NamedTuple):
    """Maps over the same axes, whose names and values are those of the coarsest level that holds all cells shown."""

    title: str
    names: tuple[str, str]
    first: tuple[float, ...]
    second: tuple[float, ...]
    maps: tuple[HeatMap, ...]


def grid_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield the heat maps of a grid over two settings."""
    grid = experiment.grid
    axes = None if grid is None else axes_of(grid)
    if grid is None or axes is None or not (cells := cells_of(grid, axes)):
        return
    first, second = _shown_axes(grid, axes, cells)
    maps = tuple(
        _map(grid, each, axes, cells, first, second)
        for each in PANELS
        if any(each.mean(records) is not None for records in cells.values())
    )
    names = GREEK.get(axes[0], axes[0]), GREEK.get(axes[1], axes[1])
    title = f"{names[0]} and {names[1]}: {counted(grid)}"
    yield Figure(
        name=f"{experiment.name}-grid",
        section="grid",
        title=title,
        caption=" ".join((f"{grid.record.title}.", images_in_words(grid), *_seeds_in_words(grid, cells))),
        alternative=f"Heat maps over {names[0]} and {names[1]}. {what_it_shows(grid)}",
        content=HeatMaps(f"{experiment.name}: {title}", names, first, second, maps),
        draw="bangbench.paper.grid_figures:draw_heat_maps",
    )


def _shown_axes(
    grid: FoundGrid, axes: tuple[str, str], cells: Mapping[Spot, Sequence[CellRecord]]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the values on both axes of all levels that have a measured cell."""
    spots = {spot: cell.level for cell in grid.record.cells if (spot := spot_of(cell.place, axes)) is not None}
    finest = max(spots[spot] for spot in cells)
    shown = [spot for spot, level in spots.items() if level <= finest]
    return tuple(sorted({spot[0] for spot in shown})), tuple(sorted({spot[1] for spot in shown}))


def _map(
    grid: FoundGrid,
    quantity: Quantity,
    axes: tuple[str, str],
    cells: Mapping[Spot, Sequence[CellRecord]],
    first: tuple[float, ...],
    second: tuple[float, ...],
) -> HeatMap:
    values = np.full((len(second), len(first)), np.nan)
    for (along, up), records in cells.items():
        value = quantity.mean(records)
        if value is not None:
            values[second.index(up), first.index(along)] = value
    published = []
    for reference in references_of(grid) if axes == ("beta", "epsilon") else ():
        value, row = published_numbers(reference).get(quantity.field), reference.row
        if value is not None and row.beta is not None and row.epsilon is not None:
            published.append((_between(row.beta, first), _between(row.epsilon, second), value))
    title = quantity.title
    if quantity is NOISE:
        sigma = next(record.noise.sigma for record in grid.cells.values() if record.noise is not None)
        title = f"Noise {SIGMA} {sigma:g}: flips (%)"
    return HeatMap(title, quantity.places, values, quantity.mean(regular_of(grid)), tuple(published))


def _between(value: float, ticks: Sequence[float]) -> float:
    """Return where a value lies on an axis whose cells are one wide each, their middles at the ticks."""
    return float(np.interp(value, ticks, np.arange(len(ticks)) + 0.5))


def _seeds_in_words(grid: FoundGrid, cells: Mapping[Spot, Sequence[CellRecord]]) -> Iterator[str]:
    """Say how many seeds stand behind a cell, what the line is, and what the circles are."""
    counts = sorted({len(records) for records in cells.values()})
    if counts == [1]:
        yield "One training (seed) a cell; a blank cell is not measured yet."
    else:
        yield f"Cells: the mean of {counts[0]} to {counts[-1]} seeds; a blank cell is not measured yet."
    regular = regular_of(grid)
    if regular:
        seeds = ", ".join(str(record.seed) for record in regular)
        yield (
            f"Black lines, in the maps between cells on either side of it and on the colour bars: the regular models' "
            f"mean over {len(regular)} seed{'' if len(regular) == 1 else 's'} ({seeds}), which the titles give."
        )
    references = references_of(grid)
    if references:
        label = published_label(grid.data, references[0].dataset)
        yield f"Circles: {label} in Table {references[0].table[-1]}, on the same colours."


def draw_heat_maps(content: HeatMaps) -> Drawing:
    """Draw one map a number, three beside each other, each with its colour bar."""
    from bangbench.reporting.draw import new_drawing

    rows = -(-len(content.maps) // _COLUMNS)
    drawing = new_drawing(PAGE, 0.4 + 3.1 * rows)
    panels = drawing.subplots(rows, min(_COLUMNS, len(content.maps)), sharex=True, sharey=True, squeeze=False)
    for axes, each in zip(panels.flat, content.maps, strict=False):
        _draw_map(axes, content, each)
    for axes in panels.flat[len(content.maps) :]:
        axes.set_axis_off()
    for axes in panels[-1]:
        axes.set_xlabel(content.names[0])
    for axes in panels[:, 0]:
        axes.set_ylabel(content.names[1])
    drawing.suptitle(content.title, fontsize=11)
    return drawing


def _draw_map(axes: Axes, content: HeatMaps, each: HeatMap) -> None:
    """Draw one map with its numbers, as far as they fit, the regular models' level and the published numbers."""
    known = np.array([*each.values[np.isfinite(each.values)], *(value for _, _, value in each.published)])
    low, high = float(known.min()), float(known.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    mesh = axes.pcolormesh(each.values, cmap=SEQUENTIAL, vmin=low, vmax=high, rasterized=True)
    bar = axes.figure.colorbar(mesh, ax=axes, aspect=22)
    bar.ax.tick_params(labelsize=8)
    axes.grid(visible=False)
    for setter, ticks in ((axes.set_xticks, content.first), (axes.set_yticks, content.second)):
        step = -(-(len(ticks) - 1) // (_MOST_TICKS - 1)) or 1
        chosen = range(0, len(ticks), step)
        decimals = max(len(f"{ticks[place]:g}".partition(".")[2]) for place in chosen)
        setter([place + 0.5 for place in chosen], [number(ticks[place], decimals) for place in chosen])
    axes.tick_params(axis="x", labelrotation=0, labelsize=8)
    axes.tick_params(axis="y", labelsize=8)
    if each.values.shape[1] <= _MOST_NUMBERS:
        _draw_numbers(axes, each, (low, high))
    if each.level is not None:
        where = ", above all" if each.level > high else ", below all" if each.level < low else ""
        axes.set_title(f"{each.title}\nregular {number(each.level, each.places)}{where}", fontsize=9.5)
        _draw_level(axes, each.values, each.level)
        if low <= each.level <= high:
            bar.ax.axhline(each.level, color="black", linewidth=2)
    else:
        axes.set_title(each.title, fontsize=9.5)
    if each.published:
        along, up, values = np.array(each.published).T
        axes.scatter(
            along, up, s=34, c=values, cmap=SEQUENTIAL, vmin=low, vmax=high, edgecolors="white", linewidths=1.4
        )
        axes.scatter(along, up, s=52, facecolors="none", edgecolors="black", linewidths=0.8)


def _draw_numbers(axes: Axes, each: HeatMap, ends: tuple[float, float]) -> None:
    """Write the number into every cell, on dark ground in white; in its middle, or where no circle lies."""
    size = 8.5 if each.values.shape[1] <= 4 else 5.5
    for (row, column), value in np.ndenumerate(each.values):
        if np.isfinite(value):
            dark = value - ends[0] < 0.6 * (ends[1] - ends[0])
            text = number(float(value), each.places)
            circles = [up - row for along, up, _ in each.published if abs(along - column - 0.5) < 0.6]
            height = max((0.5, 0.22, 0.78), key=lambda place: min([0.25, *(abs(place - up) for up in circles)]))
            axes.text(
                *(column + 0.5, row + height, text), ha="center", va="center", fontsize=size, color="w" if dark else "k"
            )


def _draw_level(axes: Axes, values: Numbers, level: float) -> None:
    """Draw a line between neighbouring cells, one of which lies above the level and the other does not."""
    above = np.where(np.isfinite(values), (values > level).astype(np.float64), np.nan)
    for row, column in np.argwhere(np.abs(np.diff(above, axis=1)) == 1.0):
        axes.plot([column + 1, column + 1], [row, row + 1], color="black", linewidth=1.8, solid_capstyle="butt")
    for row, column in np.argwhere(np.abs(np.diff(above, axis=0)) == 1.0):
        axes.plot([column, column + 1], [row + 1, row + 1], color="black", linewidth=1.8, solid_capstyle="butt")

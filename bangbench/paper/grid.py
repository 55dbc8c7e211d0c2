"""A grid of models over two settings, such as the paper's figures 2 and 4: what its cells say, as a table, in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bangbench.core.statistics import rank_correlation
from bangbench.paper.published import RowReference, published_label, published_settings
from bangbench.reporting.collect import FoundGrid, short_name
from bangbench.reporting.experiments import Experiment
from bangbench.reporting.frames import Frames, Values
from bangbench.reporting.table import KIND, LABEL, SIGMA, Table, interval_text, make_table, number, real, whole, words
from bangbench.store.cells import CellRecord

GREEK = {"beta": "β", "epsilon": "ε"}
#: From so many cells on the interval of a rank correlation has been tried.
_FEW_CELLS = 10

Spot = tuple[float, float]


class Quantity(NamedTuple):
    """One number that every cell has: its CSV field, its name and decimals, and the attack it is of, where it is."""

    field: str
    title: str
    places: int
    attack: str | None = None

    @property
    def name(self) -> str:
        """Return what it is called in a sentence."""
        bare = self.title.removesuffix(" (%)")
        return bare[0].lower() + bare[1:] if self.attack is None else bare

    def of(self, record: CellRecord) -> float | None:
        """Return the number in a cell, None where it was not measured or is not defined."""
        if self.field == "noise_flipped_percent":
            return None if record.noise is None or not record.noise.images else record.noise.flipped_percent
        if self.attack is None:
            return record.accuracy
        summary = record.attacks.get(self.attack)
        if summary is None:
            return None
        return summary.rate if self.field.endswith("_percent") else summary.pass_paper.mean

    def mean(self, records: Sequence[CellRecord]) -> float | None:
        """Return the mean over the models (seeds) that have it."""
        found = [value for record in records if (value := self.of(record)) is not None]
        return float(np.mean(found)) if found else None


ACCURACY = Quantity("accuracy_percent", "Accuracy (%)", 2)
FGS, FGS_UNMASKED, HC1, HC1_UNMASKED = (
    Quantity(f"{attack.replace('-', '_')}_rate_percent", f"{attack[:3].upper()}{attack[3:]} rate (%)", 2, attack)
    for attack in ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked")
)
PASS, PASS_UNMASKED = (
    Quantity(f"{attack.replace('-', '_')}_pass_paper_mean", f"{attack[:3].upper()}{attack[3:]} PASS", 4, attack)
    for attack in ("hc1", "hc1-unmasked")
)
NOISE = Quantity("noise_flipped_percent", "Noise flips (%)", 2)

#: The figure's panels: the paper's three, and under each what it is to be seen beside.
PANELS = (ACCURACY, FGS, PASS, NOISE, FGS_UNMASKED, PASS_UNMASKED)
_COLUMNS = (ACCURACY, FGS, FGS_UNMASKED, HC1, PASS, HC1_UNMASKED, PASS_UNMASKED, NOISE)
#: What is asked of the grid: whether a number goes up or down with a setting.
_TRENDS = ((FGS, "epsilon"), (FGS_UNMASKED, "epsilon"), (PASS, "beta"), (PASS_UNMASKED, "beta"), (ACCURACY, "beta"))


def axes_of(grid: FoundGrid) -> tuple[str, str] | None:
    """Return the names of a grid's two axes; None where there are not two, or not of numbers."""
    names, values = tuple(grid.record.axes), [value for axis in grid.record.axes.values() for value in axis]
    if len(names) != 2 or not all(isinstance(value, int | float) for value in values):
        return None
    return names[0], names[1]


def spot_of(place: Mapping[str, object], axes: tuple[str, str]) -> Spot | None:
    """Return where a model lies on the axes, None for one that it is compared with."""
    first, second = (place.get(axis) for axis in axes)
    return (float(first), float(second)) if isinstance(first, int | float) and isinstance(second, int | float) else None


def cells_of(grid: FoundGrid, axes: tuple[str, str]) -> dict[Spot, list[CellRecord]]:
    """Return the measured models of every cell (several of several seeds), by where it lies."""
    found: dict[Spot, list[CellRecord]] = defaultdict(list)
    for cell, record in grid.finished:
        if (spot := spot_of(cell.place, axes)) is not None:
            found[spot].append(record)
    return dict(sorted(found.items()))


def regular_of(grid: FoundGrid) -> list[CellRecord]:
    """Return the measured regular models, one a seed, that a grid is compared with."""
    return [
        record
        for cell, record in grid.finished
        if not cell.place and record.model is not None and record.model.method == "regular"
    ]


def counted(grid: FoundGrid) -> str:
    """Return how much of a grid is measured: ``16 of 169 cells (level 1)``, ``17 of 169 cells (level 1, 1 of ...)``."""
    wanted: dict[int, set[str]] = defaultdict(set)
    done: dict[int, set[str]] = defaultdict(set)
    for cell in grid.record.cells:
        if cell.place:
            wanted[cell.level].add(str(cell.place))
            if cell.name in grid.cells:
                done[cell.level].add(str(cell.place))
    whole_levels = [level for level in sorted(wanted) if len(done[level]) == len(wanted[level])]
    parts = [f"level {max(whole_levels)}"] if whole_levels else []
    parts += [
        f"{len(done[level])} of the {len(wanted[level])} of level {level}"
        for level in sorted(wanted)
        if 0 < len(done[level]) < len(wanted[level])
    ]
    counts = f"{sum(map(len, done.values()))} of {sum(map(len, wanted.values()))} cells"
    return f"{counts} ({', '.join(parts)})" if parts else counts


def references_of(grid: FoundGrid) -> tuple[RowReference, ...]:
    """Return the paper's rows that were trained as the models of a grid, but for beta and epsilon."""
    record = next(record for _, record in sorted(grid.finished, key=lambda pair: not pair[0].place))
    if record.model is None or record.data is None:
        return ()
    return published_settings(record.model, record.data, record.spec.get("train"))


def grid_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return one row per measured model of a grid, the regular ones first, the paper's under those of their settings.

    Its first note is `what_it_shows`.
    """
    grid = experiment.grid
    if grid is None:
        return None
    rows = [
        row | {KIND: "measured", LABEL: short_name(cell.name)}
        for cell, record in grid.finished
        for row in [_row(grid, cell.place, cell.seed, {each.field: each.of(record) for each in _COLUMNS})]
    ]
    rows += _published_rows(grid)
    shown = [each for each in _COLUMNS if any(row[each.field] is not None for row in rows)]
    return make_table(
        f"{experiment.name}-cells",
        f"{experiment.title}; {counted(grid)}",
        sorted(rows, key=lambda row: _order(grid, row)),
        (
            words("Cell", LABEL),
            *(whole(GREEK.get(axis, axis), axis) for axis in grid.record.axes),
            whole("Seed"),
            *(real(each.title, each.field, each.places) for each in shown),
        ),
        (what_it_shows(grid), *_notes(grid)),
    )


def _row(grid: FoundGrid, place: Mapping[str, object], seed: int | None, numbers: Values) -> Values:
    return {**{axis: place.get(axis) for axis in grid.record.axes}, "seed": seed, **numbers}


def _order(grid: FoundGrid, row: Mapping[str, Any]) -> tuple[int, ...]:
    """Order rows along the axes, those without a place first, the paper's after the first seed of each."""
    places = [-1 if row[axis] is None else values.index(row[axis]) for axis, values in grid.record.axes.items()]
    return (*places, row["seed"] or 0, row[KIND] == "published")


def _published_rows(grid: FoundGrid) -> list[Values]:
    """Return the paper's numbers of the regular models and of the settings that the grid has."""
    rows = []
    for reference in references_of(grid):
        printed = reference.row
        place = {} if printed.beta is None else {"beta": printed.beta, "epsilon": printed.epsilon}
        if all(place[axis] in values for axis, values in grid.record.axes.items() if axis in place):
            numbers: Values = dict.fromkeys(each.field for each in _COLUMNS) | published_numbers(reference)
            label = f"{printed.id} {published_label(grid.data, reference.dataset)}"
            rows.append(_row(grid, place, None, numbers) | {KIND: "published", LABEL: label})
    return rows


def published_numbers(reference: RowReference) -> dict[str, float]:
    """Return the paper's numbers of one row, by the fields of the quantities."""
    row = reference.row
    return {
        ACCURACY.field: row.accuracy,
        FGS.field: row.fgs.rate,
        HC1.field: row.hc1.rate,
        PASS.field: row.hc1.pass_paper[0],
    }


def what_it_shows(grid: FoundGrid) -> str:
    """Say in plain words what rises or falls along the axes, and where the cells lie beside the regular models."""
    axes, regular = axes_of(grid), regular_of(grid)
    cells = {} if axes is None else cells_of(grid, axes)
    trends = [_trend(each, axis, axes, cells) for each, axis in _TRENDS if cells and axes and axis in axes]
    beside = [told for each in PANELS if (told := _beside(each, list(cells.values()), regular))]
    parts = [
        f"What the grid shows, from {counted(grid)}: {'; '.join(trends) or 'no trend, without two axes of numbers'}."
    ]
    if trends:
        parts.append(
            "In parentheses: Spearman's rank correlation over the cells, each taken as one independent training, with "
            "its 95 % interval (Fisher's z, Bonett and Wright's standard error); about one of 20 such intervals misses."
        )
    if 0 < len(cells) < _FEW_CELLS:
        parts.append(f"Fewer than {_FEW_CELLS} cells: the intervals are rough.")
    if beside:
        seeds = f"{len(regular)} seed{'' if len(regular) == 1 else 's'}"
        against = f", beside the regular models' mean ({seeds})" if regular else ""
        parts.append(f"From the lowest cell to the highest{against}: {'; '.join(beside)}.")
    return " ".join(parts)


def _trend(quantity: Quantity, axis: str, axes: tuple[str, str], cells: Mapping[Spot, Sequence[CellRecord]]) -> str:
    """Say whether a number rises or falls along an axis, as far as the interval of its rank correlation tells."""
    place, name, along = axes.index(axis), quantity.name, GREEK.get(axis, axis)
    means = [(spot[place], value) for spot, each in cells.items() if (value := quantity.mean(each)) is not None]
    found = rank_correlation(*np.array(means, dtype=np.float64).reshape(-1, 2).T)
    if found is None:
        few = len(means) < 3 or len({spot for spot, _ in means}) < 2
        return f"{name} along {along}: {'too few cells' if few else 'the same number in every cell'}"
    told = f"{number(found.value, 2)} {interval_text(found.interval, 2) or 'without an interval'}, n = {len(means)}"
    if found.interval is None or found.interval[0] <= 0.0 <= found.interval[1]:
        return f"whether {name} changes with {along} cannot be told from these cells ({told})"
    return f"{name} {'rises' if found.value > 0 else 'falls'} as {along} grows ({told})"


def _beside(quantity: Quantity, cells: Sequence[Sequence[CellRecord]], regular: Sequence[CellRecord]) -> str:
    """Say between which values the cells lie, and how many lie above the regular models' mean."""
    values = [value for each in cells if (value := quantity.mean(each)) is not None]
    level, places = quantity.mean(regular), quantity.places
    if not values:
        return ""
    ends = f"{quantity.name} {number(min(values), places)} to {number(max(values), places)}"
    unit = " %" if quantity.field.endswith("_percent") else ""
    if level is None:
        return f"{ends}{unit}"
    above = sum(value > level for value in values)
    return f"{ends}{unit} (regular {number(level, places)}, exceeded in {above} of {len(values)} cells)"


def _notes(grid: FoundGrid) -> Iterator[str]:
    yield (
        f"{images_in_words(grid)} Rates in percent of the correct images among these; PASS: the mean of pass_paper, "
        "which was matched empirically to the paper's Table 1, over the flipped images. One training each, so that a "
        "cell's number holds the chance of its seed as well."
    )
    references = references_of(grid)
    if references:
        label = published_label(grid.data, references[0].dataset)
        yield (
            f"{label[:1].upper()}{label[1:]}: Table {references[0].table[-1]} of the paper, one training each; its "
            "figures of the grid print no numbers."
        )


def images_in_words(grid: FoundGrid) -> str:
    """Say on how many images each number rests, as the cells tell."""
    records = [record for _, record in grid.finished]
    images: dict[str, dict[str, None]] = defaultdict(dict)
    for record in records:
        for name, found in record.attacks.items():
            limited = record.spec.get("attacks", {}).get(name, {}).get("limit") is not None
            images[f"{'the first' if limited else 'all'} {found.images:,}"][name] = None
    parts = [f"Accuracy: all test images of {grid.data.name}."]
    parts += [f"{', '.join(names)}: {which} test images." for which, names in images.items()]
    noise = [record.noise for record in records if record.noise is not None]
    if noise:
        most, least = max(found.images for found in noise), min(found.images for found in noise)
        chosen = f"{most:,}" if most == least else f"{least:,} to {most:,}"
        parts.append(
            f"Noise: {SIGMA} {noise[0].sigma:g}, {noise[0].draws} copies of each of {chosen} correct images, in "
            "percent of the copies."
        )
    return " ".join(parts)
